# SPDX-License-Identifier: MIT
"""Commands out of documents, and a shell that runs them one by one. Standard library only.

A code block is lines indented by four spaces behind an empty line or fenced by ``` (Markdown), fenced by ``` or all lines
of the section EXAMPLES that are indented by a tab (scdoc). In a line of a command, three spaces or " # " begin what is said about it.
"""
import os
import pathlib
import re
import subprocess
import time


class Block:
    def __init__(self, document, line):
        self.document, self.line, self.lines = document, line, []

    def commands(self):
        return [c for c in (strip_remark(text) for text in self.lines) if c]

    def __str__(self):
        return f"{self.document}:{self.line}"


def strip_remark(text):
    return re.split(r"\s{3,}| +# ", text.strip(), maxsplit=1)[0].strip() if not text.strip().startswith("#") else ""


def blocks(path, name):
    """The code blocks of one document, in order."""
    scdoc, found, fenced, current, section, empty = path.suffix == ".scd", [], False, None, "", True
    for number, line in enumerate(path.read_text().splitlines(), 1):
        indented = line.startswith("\t") and section == "EXAMPLES" if scdoc else line.startswith("    ")
        if line.startswith("```"):
            fenced = not fenced
            current = Block(name, number + 1) if fenced else None
            if current:
                found.append(current)
        elif fenced:
            current.lines.append(line.replace("\\\\", "\\") if scdoc else line)
        elif line.startswith("# ") or (line.strip() and not indented and not scdoc):
            section, current = line.removeprefix("# "), None
        elif indented and (current or empty):
            if not current:
                current = Block(name, number)
                found.append(current)
            current.lines.append(line.strip())
        empty = not line.strip()
    return found


def spans(path, theirs=False):
    """What is written as code in running text: `...` of Markdown, *...* of scdoc. @theirs: without the first cells of
    tables, which are about another program."""
    text = path.read_text()
    if theirs:
        text = re.sub(r"(?m)^\|[^|]*(?:\\\|[^|]*)*\|", "|", text)
    if path.suffix == ".scd":
        return [m for m in re.findall(r"\*([^*\n]+)\*", text)]
    return re.findall(r"`([^`\n]+)`", text)


class Shell:
    """One bash in a folder of its own, fed command by command; jobs live as in a terminal."""

    def __init__(self, folder, env):
        self.folder, self.err = pathlib.Path(folder), open(pathlib.Path(folder) / "stderr", "w+")
        self.process = subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.err, cwd=folder, env=env, text=True, start_new_session=True)
        self.run("set -m", 10)

    def run(self, command, timeout):
        """(exit status, stdout, stderr) of one command."""
        mark = f"@@{time.monotonic_ns()}"
        began = os.fstat(self.err.fileno()).st_size
        self.process.stdin.write(f"{command}\necho \"{mark} $?\"\n")
        self.process.stdin.flush()
        out, end = [], time.monotonic() + timeout
        killer = subprocess.Popen(["sh", "-c", f"sleep {timeout}; kill -KILL -- -{self.process.pid}"], start_new_session=True)
        try:
            for line in self.process.stdout:
                before, found, status = line.partition(mark)
                out.append(before)
                if found:
                    self.err.seek(began)
                    return int(status), "".join(out), self.err.read()
        finally:
            os.killpg(killer.pid, 9)
            killer.wait()
        late = time.monotonic() >= end
        raise AssertionError(f"{command}: {f'not over in {timeout} s' if late else 'the shell ended'}:\n{''.join(out)}")

    def close(self):
        """Ends what the commands left behind."""
        try:
            self.run("kill %% 2>/dev/null; for j in $(jobs -p); do kill $j 2>/dev/null; done; wait", 30)
        finally:
            self.process.stdin.close()
            self.process.stdout.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, 9)
                self.process.wait()
            self.err.close()
