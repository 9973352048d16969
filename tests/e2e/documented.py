# SPDX-License-Identifier: MIT
"""What test_documents.py must know about the commands in README, docs and manual pages. Extend it here.

A command in a document that no table names is run as it stands. So a new command needs an entry only if it names a file
that is not there, does not end by itself, or cannot run here.
"""
import os
import socket


def free_port():
    """Below those that the kernel gives away, and another for each process: two trees may be tested at once."""
    for port in range(10000 + os.getpid() % 20000, 32768):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no port is free")


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/*.md", "man/*.scd", "tests/gpu/README.md", "tests/data/README.md"]

# Code blocks that are no commands: (document, words in the first line, what it is)
NO_COMMANDS = [
    ("README.md", "prompt  What is the capital", "how make run ends"),
    ("docs/http.md", '{"error"', "an answer"),
    ("docs/from-llama-server.md", "llama-server --model", "the command line of another program"),
    ("docs/http.md", "# nginx", "a configuration"),
    ("docs/kmod.md", "modprobe sluice [period_ms", "the module's interface, modprobe beside C calls"),
    ("docs/models.md", "x = token_embd", "a formula"),
    ("docs/models.md", "S <- exp(g)", "a formula"),
    ("docs/batch.md", '{"custom_id"', "a line of a file"),
    ("docs/batch.md", '{"id"', "a line of a file"),
    ("docs/service.md", "# prometheus.yml", "a file"),
    ("docs/terminal.md", "Sluice fixture MoE", "a screen"),
    ("docs/terminal.md", "layer          uses", "a screen"),
    ("docs/protocol.md", "offset  0  u32 size", "the layout of a message"),
    ("docs/telemetry.md", "{sources:", "the shape of an answer"),
    ("docs/trace.md", "route_trace v1", "a file"),
]

# Commands that are not run here: (regular expression, why). Each is skipped by name; the program or target must exist.
NETWORK, MACHINE, MODULE, WHOLE = ("needs the network", "changes the settings of this machine",
                                   "needs the kernel module or changes what the machine boots",
                                   "is a stage of make test, or the whole of it")
EXCEPTIONS = [
    (r"^hf download ", NETWORK),
    (r"^make bench-compare\b", NETWORK + " (it builds llama.cpp)"),
    (r"^tests/bench/clients/clients.py\b", "minutes on a large model beside llama.cpp's server, which is built from the network"),
    (r"^tests/bench/(compare|turns)\.py ", NETWORK + " (it runs llama.cpp)"),
    (r"^make bench-(ahead|all|busy|spec|warm)\b", "makes a model of 4 GB and measures for minutes"),
    (r"^make (test|unit|e2e|check-layers check-format)$", WHOLE),
    (r"^make test-kmod", "boots guests for minutes; make test runs one of them"),
    (r"^make deb-kmod$", MODULE),
    (r"^make deb$", "builds the tree again for minutes; make test-deb does it and tests the packages"),
    (r"^sluiced --model m\.gguf --alias m", "does not end by itself; test_http.py starts daemons with these options"),
    (r"^cc program\.c \$\(pkg-config", "needs an installed library; test_install.py builds the examples against one"),
    (r"^make kmod ", "needs the headers of the running kernel"),
    (r"^(modprobe|insmod|mokutil|reboot|adduser|usermod) ?", MODULE),
    (r"^apt install ", MODULE),
    (r"^(systemctl|editor|sluiced --config /etc/)", MACHINE),
    (r"^echo \d+ > /(proc|sys)/", MACHINE),
    (r"^sysctl ", MACHINE),
]

# Changes to a command before it is run: (regular expression, replacement, why)
SUBSTITUTIONS = [
    (r" +\[[A-Z_]+=[^]]*\]", "", "what may be left out is left out"),
    (r"^make (un)?install\b", r"make \1install DESTDIR=$PWD/root", "this machine stays as it is"),
    (r"^make\b", 'make -C "$ROOT" O="$BUILD"', "the folder of the project"),
    (r"127\.0\.0\.1:8080\b", f"127.0.0.1:{free_port()}", "8080 may be in use here"),
    (r"--host-budget 12G\b", "--host-budget 12M", "the bundled model is a thousandth"),
    (r"-p 512 -n 128 -d 0,4096\b", "-p 64 -n 8 -d 0,256 -r 1", "the time that a benchmark takes"),
    (r"\bsluice chat$", "sluice chat </dev/null", "nobody types there"),
    (r"\bdoctor --model (\S+)", r"doctor --seconds 0.2 --model \1", "the time that a measurement takes"),
]

# Commands that go on until a signal: they must answer SIGINT with success. (regular expression)
ENDLESS = [r"^(build/)?sluice (telemetry --watch|top)$"]

# Files that commands read: name -> which of the files that test_documents.py can make
FILES = {
    r".+\.gguf": "model",
    r"hot\.list": "list",
    r"theirs\.route\.csv": "csv",
    r"question\.txt": "question",
    r"conversation\.json": "conversation",
    r"chat\.jinja": "jinja",
    r"questions\.jsonl": "batch",
}

# Documents whose tables have another program's options in their first column
THEIRS = ["docs/from-llama-server.md"]

# Options that running text names and that belong to neither sluice nor sluiced: option -> the file that has it
OTHER_OPTIONS = {
    "--against": "tests/bench/kernels.c",
    "--all": "tests/gpu/values.h",
    "--allow-downgrades": "tests/service/guest/lib.sh",
    "--anyway": "tests/bench/kernels.c",
    "--check": "tests/data/make/cut.py",
    "--clock": "tests/bench/cycles.c",
    "--cols": "tests/bench/kernels.c",
    "--level": "tests/bench/kernels.c",
    "--markdown": "tests/bench/kernels.c",
    "--mib": "tests/bench/kernels.c",
    "--only": "tests/bench/compare.py",
}
