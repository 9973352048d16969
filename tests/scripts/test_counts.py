# SPDX-License-Identifier: MIT
"""Description: tests/run.sh and tests/all.sh count what passed, failed and was skipped, and fail where anything failed."""
import os
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')

PASSES = "echo '[ RUN      ] one'; echo '[       OK ] one'; echo '[ RUN      ] two'; echo '[       OK ] two'"
SKIPS = "echo '[ RUN      ] one'; echo 'needs a thing'; echo '[  SKIPPED ] one'; echo '[ RUN      ] two'; echo '[       OK ] two'"
SILENT = "echo '[ RUN      ] one'; echo '[  SKIPPED ] one'"
FAILS = "echo '[ RUN      ] one'; echo '[  FAILED  ] one'; echo '[ RUN      ] two'; echo '[       OK ] two'; exit 1"
DIES = "echo '[ RUN      ] one'; echo '[       OK ] one'; echo '[ RUN      ] two'; kill -SEGV $$"
LEAKS = PASSES + "; exit 23"  # every test passed, and then the sanitizer spoke
PLAIN = "echo fine"
PLAIN_FAILS = "echo bad; exit 1"
PLAIN_SKIPS = "echo no such thing here; exit 77"


def script(tmp_path, name, text):
    path = tmp_path / name
    path.write_text("#!/bin/sh\n" + text + "\n")
    path.chmod(0o755)
    return str(path)


def run(tmp_path, *texts, **env):
    results = tmp_path / "results"
    programs = [script(tmp_path, f"p{i}", t) for i, t in enumerate(texts)]
    p = subprocess.run([os.path.join(ROOT, "tests/run.sh"), *programs], capture_output=True, text=True,
                       env={**os.environ, "TEST_RESULTS": str(results), **env})
    return p.returncode, p.stdout.splitlines()[-1], results.read_text()


def test_programs(tmp_path):
    assert run(tmp_path, PASSES, PLAIN)[:2] == (0, "3 passed, 0 failed, 0 skipped")
    code, last, results = run(tmp_path, SKIPS)
    assert (code, last) == (0, "1 passed, 0 failed, 1 skipped") and "skip\t" in results and "p0 one\tneeds a thing\n" in results
    assert run(tmp_path, SILENT)[:2] == (1, "0 passed, 1 failed, 0 skipped")
    code, last, results = run(tmp_path, FAILS, PASSES)
    assert (code, last) == (1, "3 passed, 1 failed, 0 skipped") and "p0 one\n" in results
    assert run(tmp_path, DIES)[:2] == (1, "1 passed, 1 failed, 0 skipped")
    assert run(tmp_path, LEAKS)[:2] == (1, "2 passed, 1 failed, 0 skipped")
    assert run(tmp_path, PLAIN_FAILS)[:2] == (1, "0 passed, 1 failed, 0 skipped")
    assert run(tmp_path, PLAIN_SKIPS)[:2] == (1, "0 passed, 1 failed, 0 skipped")
    assert run(tmp_path, PLAIN_SKIPS, ALLOW_SKIP="p0")[:2] == (0, "0 passed, 0 failed, 1 skipped")


def test_side_by_side(tmp_path):
    """Each of two waits for the other; one that is to be alone comes after both, and is told of no other."""
    meets = "cd {}; touch $$.here; until [ $(ls *.here | wc -l) = 2 ]; do sleep 0.02; done; sleep 0.1; touch $$.gone".format(tmp_path)
    alone = "test $(ls {}/*.gone | wc -l) = 2".format(tmp_path)
    code, last, results = run(tmp_path, alone, meets, meets, TEST_JOBS="2", TEST_ALONE="x p0", TEST_TIMEOUT="60")
    assert (code, last, results) == (0, "3 passed, 0 failed, 0 skipped", "count\t3\t0\t0\n")
    texts = [PASSES, SKIPS, FAILS, PLAIN, DIES, SILENT, PLAIN_FAILS, LEAKS]
    one, three = (run(tmp_path, *texts, TEST_JOBS=n) for n in "13")
    assert one[:2] == three[:2] == (1, "8 passed, 5 failed, 1 skipped")
    named = [sorted(r[2].splitlines()[-6:]) for r in (one, three)]
    assert named[0] == named[1] and len(set(named[0])) == 6


def test_a_program_without_a_result_failed(tmp_path):
    """Whatever takes the script away that waits for it."""
    kills = "kill -9 $(awk '{ print $4 }' /proc/$PPID/stat)"
    code, last, results = run(tmp_path, PASSES, kills)
    assert (code, last) == (1, "2 passed, 1 failed, 0 skipped") and "fail\t1 of 2 programs have no result\n" in results


def test_python_side_by_side(tmp_path):
    """Tests that processes share are counted once."""
    pytest.importorskip("xdist", reason="python3-pytest-xdist is missing, which make test installs (E2E_JOBS=1 does without)")
    for name in "ab":
        (tmp_path / f"test_{name}.py").write_text(
            "import pytest\ndef test_passes(): pass\ndef test_fails(): assert 0\ndef test_skips(): pytest.skip('why')\n")
    shutil.copy(os.path.join(ROOT, "tests/conftest.py"), tmp_path)
    for n in ([], ["-n", "2", "--dist", "loadfile"]):
        results = tmp_path / f"results{len(n)}"
        p = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *n, "."], cwd=tmp_path, stdout=subprocess.DEVNULL,
                           env={**os.environ, "TEST_RESULTS": str(results)})
        lines = results.read_text().splitlines()
        assert p.returncode == 1 and lines[0] == "count\t2\t2\t2" and sorted(lines[1:]) == [
            "fail\ttest_a.py::test_fails", "fail\ttest_b.py::test_fails", "skip\ttest_a.py::test_skips\twhy", "skip\ttest_b.py::test_skips\twhy"]


def stages(tmp_path, text):
    """all.sh with a make that does what @text says; its arguments are $*."""
    make = script(tmp_path, "make", text)
    p = subprocess.run([os.path.join(ROOT, "tests/all.sh"), str(tmp_path / "out" / "results"), make], capture_output=True,
                       text=True, cwd=ROOT)
    return p.returncode, p.stdout.splitlines()


def test_stages(tmp_path):
    code, lines = stages(tmp_path, "true")
    assert code == 0 and lines[-1].endswith(" passed, 0 failed, 0 skipped") and int(lines[-1].split()[0]) >= 8
    whole = int(lines[-1].split()[0])
    code, lines = stages(tmp_path, 'case " $* " in *" e2e "*) printf "count\\t7\\t0\\t2\\nskip\\tx y\\twhy\\n" >>"$TEST_RESULTS";; esac')
    assert code == 0 and lines[-1] == f"{whole + 6} passed, 0 failed, 2 skipped" and "skipped x y: why" in lines
    # a stage of tests that fails does not end the run; it counts once, or as often as it says
    code, lines = stages(tmp_path, 'case " $* " in *" e2e "*) exit 2;; esac')
    assert code == 1 and lines[-1] == f"{whole - 1} passed, 1 failed, 0 skipped" and "FAILED  e2e" in lines
    code, lines = stages(tmp_path, 'case " $* " in *" e2e "*) printf "count\\t7\\t3\\t0\\n" >>"$TEST_RESULTS"; exit 2;; esac')
    assert code == 1 and lines[-1] == f"{whole + 6} passed, 3 failed, 0 skipped"
    # what cannot be built ends it
    code, lines = stages(tmp_path, 'case " $* " in *" unit-programs "*) exit 2;; esac')
    assert code == 1 and ", 1 failed, " in lines[-1] and "== unit" not in lines
