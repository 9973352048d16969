# SPDX-License-Identifier: MIT
"""make install into a directory: what a C programmer, a shell user and a packager find there, and that
make uninstall takes all of it away. (Packages in a clean system: tests/install/.)"""
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from daemon import BUILD, DEMO, ROOT, Daemon

PREFIX = "/opt/sluice"


def make(*args, **kw):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    return subprocess.run(["make", "--no-print-directory", "-s", f"O={BUILD}", "SETUP=no", f"PREFIX={PREFIX}", *args],
                          cwd=ROOT, env=env, check=True, capture_output=True, text=True, timeout=600, **kw)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The directory that stands for /."""
    top = tmp_path_factory.mktemp("installed")
    make("install", f"DESTDIR={top}")
    return top


@pytest.fixture(scope="module")
def at(root):
    """The prefix inside it."""
    return root / PREFIX.lstrip("/")


def pkg_config(root, *args):
    # strips the root that stands for / from what pkg-config would say on the real system, then adds it once
    env = dict(os.environ, PKG_CONFIG_LIBDIR=str(root) + PREFIX + "/lib/pkgconfig", PKG_CONFIG_SYSROOT_DIR=str(root))
    return subprocess.run(["pkg-config", *args, "sluice"], env=env, check=True, capture_output=True,
                          text=True).stdout.split()


def functions_of(header, root):
    """The functions that the installed header declares, as the compiler sees it."""
    text = subprocess.run(["cc", "-E", "-P", *pkg_config(root, "--cflags"), header], check=True, capture_output=True,
                          text=True).stdout
    return set(re.findall(r"\b(sluice_\w+)\s*\([^()]*(?:\([^()]*\)[^()]*)*\);", text))


def exports(library):
    rows = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    return {r.split()[-1].split("@")[0] for r in rows.splitlines() if r.split()[1] != "A"}


# ---- for C programs ----

def test_a_folder_with_a_blank_is_refused_before_anything_is_written(tmp_path):
    top, near = tmp_path / "de st", tmp_path / "de"
    near.write_text("somebody's")
    for target in "install", "install-files", "uninstall":
        with pytest.raises(subprocess.CalledProcessError) as failed:
            make(target, f"DESTDIR={top}")
        assert "no white space" in failed.value.stderr
    assert not top.exists() and near.read_text() == "somebody's"


@pytest.mark.parametrize("compiler", [
    ("gcc", "-std=c99"), ("gcc", "-std=c11"), ("gcc", "-std=c17"), ("g++", "-std=c++17", "-x", "c++"),
    ("clang", "-std=c99"), ("clang", "-std=c11"), ("clang++", "-std=c++17", "-x", "c++")])
def test_each_header_alone(root, at, tmp_path, compiler):
    headers = sorted(p.name for p in (at / "include/sluice").iterdir())
    assert headers == ["sluice.h", "sluice_proto.h", "sluice_status.h", "sluice_telemetry.h"]
    for header in headers:
        source = tmp_path / "alone.c"
        source.write_text(f"#include <sluice/{header}>\nint main(void) {{ return 0; }}\n")
        subprocess.run([*compiler, "-Wall", "-Wextra", "-Wshadow", "-Wpedantic", "-Werror", "-fsyntax-only",
                        *pkg_config(root, "--cflags"), source], check=True)


def test_the_library_exports_what_the_header_says_and_nothing_else(root, at):
    declared = functions_of(at / "include/sluice/sluice.h", root)
    assert {"sluice_connect", "sluice_generate", "sluice_cancel"} <= declared
    library = at / "lib/libsluice.so"
    assert exports(library) == declared
    dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    assert "soname: [libsluice.so.0]" in dynamic
    assert re.findall(r"NEEDED.*\[(.*)\]", dynamic) == ["libc.so.6"]
    # the manual page of the library names all of them
    page = (ROOT / "man/libsluice.3.scd").read_text()
    assert [f for f in sorted(declared) if f not in page] == []


def test_pages_that_are_named_are_there(at):
    """What programs, manual pages and README say of docs/NAME.md lies beside README in docs/."""
    named = set(re.findall(r"docs/[\w-]+\.\w+", (at / "share/doc/sluice/README.md").read_text()))
    for name in ("sluice", "sluiced"):
        named |= {m.decode() for m in re.findall(rb"docs/[\w-]+\.md", (at / "bin" / name).read_bytes())}
    assert {"docs/http.md", "docs/gpu.md", "docs/from-llama-server.md"} <= named
    assert [n for n in sorted(named) if not (at / "share/doc/sluice" / n).is_file()] == []


def test_links_of_the_library(at):
    release = (ROOT / "VERSION").read_text().strip()
    assert os.readlink(at / "lib/libsluice.so") == "libsluice.so.0"
    assert os.readlink(at / "lib/libsluice.so.0") == f"libsluice.so.{release}"
    assert f"Version: {release}\n" in (at / "lib/pkgconfig/sluice.pc").read_text()


def test_the_example_built_against_it_asks_the_installed_daemon(root, at, tmp_path):
    for source in sorted((at / "share/doc/sluice/examples").glob("*.c")):
        subprocess.run(["cc", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", source, "-o",
                        tmp_path / source.stem, *pkg_config(root, "--cflags", "--libs")], check=True)
    static = tmp_path / "static"
    subprocess.run(["cc", at / "share/doc/sluice/examples/generate.c", "-o", static,
                    *pkg_config(root, "--cflags"), at / "lib/libsluice.a"], check=True)
    env = dict(os.environ, LD_LIBRARY_PATH=str(at / "lib"))
    with Daemon(DEMO, program=at / "bin/sluiced") as d:
        for program in (tmp_path / "generate", static):
            p = subprocess.run([program, d.socket, "What is the capital of France?"], env=env, check=True,
                               capture_output=True, text=True, timeout=60)
            assert "Paris" in p.stdout
        p = subprocess.run([at / "bin/sluice", "status", "--socket", d.socket], check=True, capture_output=True,
                           text=True, timeout=60)
        assert "demo" in p.stdout


# ---- manual pages, completions ----

def rows(program):
    """(verb, option, alias) of every option of a program."""
    out = subprocess.run([BUILD / program, "--list-options"], check=True, capture_output=True, text=True).stdout
    verb = ""
    for line in out.splitlines():
        kind, *rest = line.split("\t")
        if kind == "verb":
            verb = rest[0]
        elif kind == "option":
            yield verb, rest[0], rest[1]


def test_manual_pages_are_there_and_well_formed(at):
    pages = sorted(p.name for p in (at / "share/man").glob("man*/*"))
    assert pages == sorted(p.name.removesuffix(".scd") for p in (ROOT / "man").glob("*.scd"))
    for page in (at / "share/man").glob("man*/*"):
        text = page.read_text()
        assert text.startswith(".\\\"") and ".TH" in text and page.parent.name == "man" + page.suffix[1:]


@pytest.mark.parametrize("program, page", [("sluiced", "sluiced.8.scd"), ("sluice", "sluice.1.scd")])
def test_every_option_stands_in_its_manual_page(program, page):
    text = (ROOT / "man" / page).read_text().replace("\\", "")
    found = list(rows(program))
    assert len(found) > 10
    # where only the short form is written, as in bench -p, that will do
    missing = [f"{verb} {option}".strip() for verb, option, alias in found
               if f"*{option}*" not in text and not (alias and f"*{alias}*" in text)]
    assert missing == []


def bash_complete(at, *words):
    program = words[0]
    script = f'source "{at}/share/bash-completion/completions/{program}"; ' \
             f'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _{program}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    out = subprocess.run(["bash", "--norc", "-c", script, "bash", *words], check=True, capture_output=True, text=True,
                         cwd=ROOT)
    assert out.stderr == ""
    return out.stdout.split("\n")[:-1]


def test_bash_completes_verbs_options_and_values(at):
    assert bash_complete(at, "sluice", "gen") == ["generate"]
    assert "doctor" in bash_complete(at, "sluice", "")
    assert bash_complete(at, "sluice", "generate", "--max") == ["--max-tokens"]
    assert bash_complete(at, "sluice", "generate", "--max-tokens", "") == [""]
    assert bash_complete(at, "sluiced", "--kv-type", "") == ["f16", "q8_0"]
    assert bash_complete(at, "sluiced", "--kv-type", "=", "q") == ["q8_0"]
    assert bash_complete(at, "sluiced", "--kv-type", "=") == ["f16", "q8_0"]
    assert bash_complete(at, "sluiced", "--model", "models/demo") == ["models/demo-moe-q4_k_m.gguf"]
    assert bash_complete(at, "sluice", "inspect", "READ") == ["README.md"]
    for program in ("sluice", "sluiced"):
        for verb, option, _ in rows(program):
            words = [program] + ([verb] if verb else []) + [option]
            assert option in bash_complete(at, *words)


class Terminal:
    """An interactive zsh on a terminal of its own."""

    def __init__(self, functions, cwd):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.environ.update(TERM="dumb", ZDOTDIR=str(cwd), HOME=str(cwd))
            os.execvp("zsh", ["zsh", "-f", "-i"])
        self.seen = ""
        self.type(f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -D; PS1='> '; echo rea''dy\n")
        self.expect("ready")

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, text, seconds=20):
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} is not in {self.seen!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
        self.seen = self.seen.split(text, 1)[1]

    def completes(self, typed, to):
        """Types, presses Tab, checks the line, clears it."""
        self.type(typed + "\t")
        self.expect(to)
        self.type("\x15")  # Ctrl-U: the line is empty again

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def test_zsh_completes_verbs_options_and_values(at, tmp_path):
    assert shutil.which("zsh"), "zsh is needed (scripts/packages.txt, group test)"
    for program in ("sluice", "sluiced"):
        subprocess.run(["zsh", "-n", at / f"share/zsh/site-functions/_{program}"], check=True)
    (tmp_path / "only-file.gguf").touch()
    t = Terminal(at / "share/zsh/site-functions", tmp_path)
    try:
        t.completes("sluice gener", "generate ")
        t.completes("sluice generate --max-t", "--max-tokens")
        t.completes("sluiced --kv-type q", "q8_0")
        t.completes("sluiced --log-level not", "notice")
        t.completes("sluiced --model on", "only-file.gguf")
        t.completes("sluice inspect on", "only-file.gguf")
    finally:
        t.close()


# ---- packages ----

def test_packages_and_tree_say_the_same():
    groups = {}
    for line in (ROOT / "scripts/packages.txt").read_text().splitlines():
        if not line.startswith("#"):
            group, name = line.split()
            groups.setdefault(group, set()).add(name)
    control = (ROOT / "packaging/debian/control").read_text()
    wanted = re.search(r"^Build-Depends-Arch: (.*?)\n(?=\S)", control, re.S | re.M).group(1)
    libraries = {p for p in groups["build"] if re.fullmatch(r"lib.*-dev", p)} - {"libc6-dev"}  # dpkg's own set has that
    assert {p.strip() for p in wanted.split(",")} == libraries | groups["install"]
    release = (ROOT / "VERSION").read_text().strip()
    assert (ROOT / "packaging/debian/changelog").read_text().startswith(f"sluice ({release})")
    assert f'SLUICE_MODULE_VERSION "{release}"' in (ROOT / "kmod/sluice.h").read_text()
    # a version of the library's symbols that the package does not know would make it forget its dependents
    nodes = re.findall(r"^(LIBSLUICE_\S+) \{", (ROOT / "uapi/libsluice.map").read_text(), re.M)
    assert nodes == re.findall(r"\(symver\)(\S+)", (ROOT / "packaging/debian/libsluice0.symbols").read_text())


# ---- versions ----

def version_in(top):
    return subprocess.run([top / "scripts/version.sh"], check=True, capture_output=True, text=True).stdout.strip()


def test_the_version_of_a_release_is_that_of_the_file(tmp_path):
    top = tmp_path / "tree"
    (top / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "VERSION", top)
    shutil.copy(ROOT / "scripts/version.sh", top / "scripts")
    release = (ROOT / "VERSION").read_text().strip()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C"]
    assert version_in(top) == release  # as unpacked from an archive

    def commit(where):
        subprocess.run([*git, where, "init", "-q"], check=True)
        subprocess.run([*git, where, "add", "-A"], check=True)
        subprocess.run([*git, where, "commit", "-qm", "x"], check=True)

    commit(top)
    assert re.fullmatch(re.escape(release) + r"\+g[0-9a-f]{7,}", version_in(top))
    subprocess.run([*git, top, "tag", f"v{release}"], check=True)
    assert version_in(top) == release
    (top / "VERSION").write_text(release + "\n\n")
    assert re.fullmatch(re.escape(release) + r"\+g[0-9a-f]{7,}\.dirty", version_in(top))
    # unpacked inside a repository of something else
    shutil.rmtree(top / ".git")
    commit(tmp_path)
    assert version_in(top) == release


def test_a_new_commit_compiles_one_file():
    """The programs follow the version, and nothing else waits for it."""
    lines = make("-n", "--no-silent", "VERSION=9.9.9", "all").stdout.splitlines()
    compiled = [line for line in lines if " -c -o " in line]
    assert len(compiled) == 1 and "base/version.c" in compiled[0], compiled
    assert sorted(re.findall(r"LD\s+\S*/(\S+)\"", "\n".join(lines))) == ["sluice", "sluiced"]
    assert not [line for line in lines if "9.9.9" in line and "version" not in line]


# ---- and away ----

def test_what_may_not_be_written_is_said_before_anything_is(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir(mode=0o555)
    powerless = ["setpriv", "--bounding-set=-all"] if os.getuid() == 0 else []
    done = subprocess.run([*powerless, ROOT / "packaging/dirs.sh", "make", tmp_path, "/ours/list", "/ours/bin", "/theirs/conf/conf.d"],
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path}/theirs/conf/conf.d cannot be written here: as root, or with PREFIX= and CONFDIR= that can\n"
    assert not any((tmp_path / "ours").iterdir())


@pytest.mark.parametrize("top", ["new", "new/deeper"])
def test_a_destination_may_be_new(tmp_path, top):
    """DESTDIR=$PWD/root, before there is such a directory, and one that begins with no slash."""
    for root in (tmp_path / top, f"{top}-too"):
        subprocess.run([ROOT / "packaging/dirs.sh", "make", root, "/list", "/usr/bin"], check=True, cwd=tmp_path)
        assert (tmp_path / root / "usr/bin").is_dir()
        assert (tmp_path / root / "list").read_text() == "/usr\n/usr/bin\n"


def tree(top):
    return sorted(str(p.relative_to(top)) for p in pathlib.Path(top).rglob("*"))


def test_uninstall_leaves_nothing_and_takes_nothing_else(tmp_path):
    for prefix in ("/usr/local", "/opt/a/b"):
        top = tmp_path / prefix.replace("/", "_")
        (top / "usr/local/bin").mkdir(parents=True)
        (top / "usr/local/share/man").mkdir(parents=True)
        (top / "usr/local/lib").mkdir()
        (top / "usr/local/lib/libother.so").touch()
        before = tree(top)
        make("install", f"DESTDIR={top}", f"PREFIX={prefix}")
        make("install", f"DESTDIR={top}", f"PREFIX={prefix}")  # a second time over the first
        assert len(tree(top)) > len(before) + 20
        (top / prefix.lstrip("/") / "share/doc/sluice/operation.md").touch()  # where pages lay before
        make("uninstall", f"DESTDIR={top}", f"PREFIX={prefix}")
        assert tree(top) == before
