#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Holds the source tree to the rooms of docs/architecture.md. usage: check_layers.py [ROOT]

The tables of that page are the rules: which rooms there are, which rooms each may include, and
which system headers are kept from whom. Nothing is repeated here. Found are: includes of another
room (quoted, in angle brackets, relative, or through a macro), system headers that a room must not
use, prototypes and extern declarations in a source file (they reach into a room around its
header), headers that include each other, and source files in no room.
Prints one line for each finding; exit status 1 where there is one.
"""
import os
import re
import subprocess
import sys

SOURCE = ('.c', '.h', '.cu', '.cuh', '.cpp')
PAGE = 'docs/architecture.md'
OUTSIDE = ('tests/', 'scripts/', 'packaging/')
# Where there is no GPU compiler, this header takes its instructions from their emulation.
EXCEPTIONS = {('kernels/cuda/ptx.h', 'tests/gpu/emu/ptx_emu.h')}


def table(text, heading):
    """Rows of the first Markdown table below a heading, without its two head lines."""
    at = text.index('\n' + heading + '\n')
    lines = text[at:].splitlines()[2:]
    start = next(i for i, line in enumerate(lines) if line.startswith('|'))
    rows = []
    for line in lines[start + 2:]:
        if not line.startswith('|'):
            break
        rows.append([cell.strip() for cell in line.strip('|').split('|')])
    return rows


def names(cell):
    return re.findall(r'`([^`]+)`', cell)


class Rules:
    def __init__(self, root):
        with open(os.path.join(root, PAGE)) as f:
            text = f.read()
        self.rooms = {}  # path prefix -> set of path prefixes that it may include
        for row in table(text, '## Rooms'):
            self.rooms[names(row[0])[0]] = set(names(row[2]))
        for room, allowed in self.rooms.items():
            for other in allowed - set(self.rooms):
                sys.exit(f'{PAGE}: {room} may include {other}, which is no room')
        self.forbidden = []  # (set of prefixes, header pattern, whether the rooms are all others)
        for row in table(text, '### System headers'):
            others = row[0].startswith('all but')
            self.forbidden.append((names(row[0]), [h.replace('*', '') for h in names(row[1])],
                                   others))

    def room(self, path):
        fits = [r for r in self.rooms if path == r or (r.endswith('/') and path.startswith(r))]
        return max(fits, key=len) if fits else None


def sources(root):
    """Source files that git knows or would take; all of them where there is no repository."""
    done = subprocess.run(['git', '-C', root, 'ls-files', '-co', '--exclude-standard'],
                          capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        found = done.stdout.splitlines()
    else:
        found = [os.path.relpath(os.path.join(d, f), root)
                 for d, _, files in os.walk(root) for f in files]
    return sorted(f for f in found if f.endswith(SOURCE) and not f.startswith(OUTSIDE) and
                  os.path.exists(os.path.join(root, f)))


def without_comments(text):
    """Comments become blanks, newlines and strings stay, continued lines are joined."""
    def blank(m):
        s = m.group(0)
        return s if s[0] in '"\'' else re.sub(r'[^\n]', ' ', s)
    text = text.replace('\\\n', '  ')
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|include_next|import)\b[ \t]*(.*?)[ \t]*$', re.M)
# A declaration at the left margin that ends in ");" and defines nothing, or that begins with extern.
PROTOTYPE = re.compile(r'^(?!static\b|typedef\b|return\b|else\b|_Static_assert\b|static_assert\b)'
                       r'[A-Za-z_][\w \t*]*[ \t*]\**\w+[ \t]*\([^(){};=]*(?:\([^()]*\)[^(){};=]*)*\)'
                       r'(?:[ \t\n]*__attribute__\(\(.*?\)\))?[ \t\n]*;', re.M)
EXTERN = re.compile(r'^[ \t]*extern\b(?![ \t\n]*"C")[^;{]*', re.M)
EXTERN_C = re.compile(r'^[ \t]*extern[ \t\n]*"C"[^;{]*;', re.M)


class Check:
    def __init__(self, root, files=None, text=None):
        """@text: path -> contents that stand in for the file's (the test's planted ones)."""
        self.root = root
        self.rules = Rules(root)
        self.text = text or {}
        self.files = sorted(set(files if files is not None else sources(root)) | set(self.text))
        self.known = set(self.files)
        self.findings = []
        self.graph = {}

    def say(self, path, what):
        self.findings.append(f'{path}: {what}')

    def read(self, path):
        if path in self.text:
            return self.text[path]
        with open(os.path.join(self.root, path), errors='replace') as f:
            return f.read()

    def exists(self, path):
        return path in self.known or os.path.isfile(os.path.join(self.root, path))

    def resolve(self, path, name, quoted):
        """The file of ours that an include means, or None."""
        places = [os.path.dirname(path)] if quoted else []
        places += ['', 'daemon']
        if name.startswith('sluice/'):
            places += ['uapi']
            name = name[len('sluice/'):] if not self.exists(name) else name
        for place in places:
            candidate = os.path.normpath(os.path.join(place, name))
            if self.exists(candidate):
                return candidate
        return None

    def include(self, path, room, operand):
        m = re.match(r'(["<])([^">]+)[">]', operand)
        if not m:
            self.say(path, f'includes through a macro, {operand}: name the header')
            return
        quoted, name = m.group(1) == '"', m.group(2)
        if '..' in name.split('/'):
            self.say(path, f'includes "{name}" by a relative path')
            return
        target = self.resolve(path, name, quoted)
        if (path, target) in EXCEPTIONS:
            return
        if target is None:
            self.system(path, room, name, quoted)
            return
        if not quoted and room != 'examples/':
            self.say(path, f'includes <{name}> of ours in angle brackets')
            return
        other = self.rules.room(target)
        if other is None:
            self.say(path, f'{room} may not include "{name}", which is in no room')
        elif other != room and other not in self.rules.rooms[room]:
            self.say(path, f'{room} may not include "{name}" of {other}')
        self.graph.setdefault(path, []).append(target)

    def system(self, path, room, name, quoted):
        if quoted:
            self.say(path, f'includes "{name}", which is no file of this tree')
            return
        for rooms, headers, others in self.rules.forbidden:
            here = any(path.startswith(r) for r in rooms)
            if here != others and any(name.startswith(h) for h in headers):
                self.say(path, f'{room} may not include <{name}>')

    def declarations(self, path, code):
        """Source files declare nothing that another file defines: that is what headers are for."""
        if path.endswith(('.h', '.cuh')):
            return
        for regex in (EXTERN, EXTERN_C):
            for m in regex.finditer(code):
                if code[m.end():m.end() + 1] != '{':
                    self.say(path, f'declares outside a header: {" ".join(m.group(0).split())}')
        for m in PROTOTYPE.finditer(re.sub(r'^[ \t]*#.*$', '', code, flags=re.M)):
            words = m.group(0).split('(')[0].split()
            if len(words) > 1 and words[0] != 'extern':
                self.say(path, f'declares outside a header: {" ".join(m.group(0).split())[:80]}')

    def cycles(self):
        state = {}

        def visit(path, way):
            if state.get(path) == 2:
                return
            if state.get(path) == 1:
                ring = way[way.index(path):] + [path]
                self.say(path, 'headers include each other: ' + ' -> '.join(ring))
                return
            state[path] = 1
            for target in self.graph.get(path, []):
                visit(target, way + [path])
            state[path] = 2
        for path in sorted(self.graph):
            visit(path, [])

    def run(self):
        for path in self.files:
            room = self.rules.room(path)
            if room is None:
                self.say(path, f'is in no room of {PAGE}')
                continue
            code = without_comments(self.read(path))
            for m in INCLUDE.finditer(code):
                self.include(path, room, m.group(1))
            self.declarations(path, code)
        self.cycles()
        return self.findings


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), '..')
    check = Check(root)
    found = check.run()
    for line in found:
        print(line)
    if found:
        sys.exit(1)
    print(f'layers hold: {len(check.files)} files in {len(check.rules.rooms)} rooms')


if __name__ == '__main__':
    main()
