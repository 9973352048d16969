#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Differential fuzz of the template interpreter: random templates, rendered by Jinja2 and by us.

usage: diff_jinja.py [--count N] [--seed N] [--seconds S]

Expressions, statements, filters, tests and methods are put together at random; our side runs them in one process
(build/tests/fuzz/render_rows, BUILD names another folder). An error there must be one here and the other way round; text must be the
same byte for byte. What docs/templates.md lists as refused may fail here where Jinja2 renders: such rows are counted
apart, by the sentence. Prints each difference with its seed; exit status 1 where there is one.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "data" / "make"))
REFUSED = ("is not supported", "are not supported", "is too large for this interpreter", "takes more than", "nested more than",
           "more than 1000", "number beyond", "has no text", "field that is not supported", "a number is too long",
           "LoopContext has no items", "cannot be sliced")

VARS = {"s": "Hello World", "e": "", "u": "Straße ÉÀ ǆ İ 🎈", "n": 5, "z": 0, "f": 2.5, "t": True, "x": None, "l": [3, 1, 2],
        "w": ["b", "A", "c", "a"], "d": {"b": 1, "a": 2, "c": {"k": [1, 2.0, None, True]}},
        "m": [{"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": None, "n": 1}],
        "ws": "  a b\n\n c\t", "big": 18446744073709551615, "neg": -7}
NAMES = list(VARS) + ["zz", "loop"]
WORDS = ["a", "b", "", " ", "o", "l", "x-y", "\\n", "é", "🎈", "<b>", "World", "1", "1.5", " 7 ", "role", "user", "n", "k", "%s", "{}", "ß"]
FILTERS = ["abs", "capitalize", "count", "default('q')", "default('q', true)", "dictsort", "e", "first", "float", "indent", "indent(2, true)",
           "int", "int(3)", "items|list", "join", "join(',')", "last", "length", "list", "lower", "map('upper')|list",
           "map(attribute='n')|list", "max", "min", "reject|list", "replace('a', 'b')", "replace('l', 'L', 1)", "reverse|list", "round",
           "round(1)", "safe", "select|list", "select('odd')|list", "selectattr('n')|list", "rejectattr('n', 'gt', 1)|list", "sort",
           "sort(reverse=true)", "sort(attribute='n')", "string", "sum", "title", "tojson", "tojson(indent=2)", "trim", "truncate(6)",
           "unique|list", "upper", "wordcount", "string|length", "batch(2)|list", "slice(2)|list", "groupby('role')", "string|reverse",
           "urlencode", "center(9)", "forceescape", "map('string')|join('+')", "tojson(sort_keys=true)", "tojson|length", "filesizeformat", "filesizeformat(true)"]
TESTS = ["defined", "undefined", "none", "string", "number", "mapping", "sequence", "iterable", "boolean", "integer", "float", "odd", "even",
         "divisibleby(2)", "eq(1)", "in([1, 'a'])", "lower", "upper", "true", "false", "sameas(none)", "callable", "gt(2)", "ne('a')", "escaped"]
METHODS = ["upper()", "lower()", "title()", "strip()", "lstrip('H')", "rstrip()", "split()", "split(' ')", "split('l', 1)", "rsplit(none, 1)",
           "splitlines()", "startswith('H')", "endswith(('d', 'x'))", "find('o')", "rfind('o')", "replace('o', '0')", "count('l')", "items()",
           "keys()|list", "values()|list", "get('a')", "get('zz', 3)", "index(1)", "isdigit()", "isalpha()", "isupper()", "swapcase()",
           "capitalize()", "zfill(8)", "center(11, '*')", "ljust(4)", "partition('o')", "rpartition('l')", "removeprefix('He')", "casefold()",
           "istitle()", "isspace()", "isalnum()", "join(['p', 'q'])", "expandtabs(4)", "append(1)", "format(1, 2)", "nope()", "isidentifier()"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def literal(self):
        r = self.r
        return r.choice([
            lambda: str(r.choice([0, 1, 2, 3, 7, 10, 42])), lambda: repr(r.choice([0.0, 0.5, 1.0, 2.5, 1e3, 1e-5, 123456.789])),
            lambda: "'" + r.choice(WORDS) + "'", lambda: r.choice(["true", "false", "none"]),
            lambda: "[" + ", ".join(self.expression(2) for _ in range(r.randint(0, 3))) + "]",
            lambda: "(" + "".join(self.expression(2) + ", " for _ in range(r.randint(0, 2))) + ")",
            lambda: "{" + ", ".join(f"'{r.choice(WORDS)}': {self.expression(2)}" for _ in range(r.randint(0, 2))) + "}",
            lambda: f"range({r.randint(-2, 6)})"])()

    def index(self):
        r = self.r
        part = lambda: r.choice(["", "", str(r.randint(-6, 6)), "n", "z"])
        return r.choice([lambda: str(r.randint(-4, 4)), lambda: f"'{r.choice(WORDS)}'", lambda: part() + ":" + part(),
                         lambda: part() + ":" + part() + ":" + r.choice(["-1", "2", "-2", "1"]), lambda: self.expression(2)])()

    def formatted(self):
        """A number or a text in a field of %, or of format()."""
        r = self.r
        value = r.choice(["0", "7", "-42", "255", "1234567", "big", "2.5", "-0.0", "1e20", "1e16", "3e10", "12345.678", "s", "'é'", "t", "(e ~ 'nan')|float",
                          "-((e ~ 'inf')|float)", "(e ~ 'inf')|float - (e ~ 'inf')|float"])
        width, precision = r.choice(["", "", "3", "8", "12"]), r.choice(["", "", "", ".0", ".2", ".5"])
        if r.random() < 0.4:
            flags = "".join(c for c in "-+ #0" if r.random() < 0.3)
            return f"('%{flags}{width}{precision}{r.choice('diuxXoeEfFgGsrc')}' % ({value},))"
        align = r.choice(["", "", "<", ">", "^", "=", "*<", "0>", "é^", "x="])
        return (f"('{{:{align}{r.choice(['', '', '+', '-', ' '])}{r.choice(['', '', '#'])}{r.choice(['', '0'])}{width}{r.choice(['', '', ','])}"
                f"{precision}{r.choice(['', '', *'dxXobeEfFgG%s'])}}}'.format({value}))")

    def expression(self, depth=0):
        r = self.r
        if depth > 2 or r.random() < 0.3:
            return r.choice(NAMES) if r.random() < 0.6 else self.literal()
        sub = lambda: self.expression(depth + 1)
        return r.choice([
            lambda: f"{sub()} {r.choice(OPERATORS)} {sub()}", lambda: f"({sub()} {r.choice(OPERATORS)} {sub()})",
            lambda: f"({sub()})|{r.choice(FILTERS)}", lambda: f"{r.choice(NAMES)}|{r.choice(FILTERS)}",
            lambda: f"({sub()}) is {r.choice(['', '', 'not '])}{r.choice(TESTS)}", lambda: f"({sub()}).{r.choice(METHODS)}",
            lambda: f"{r.choice(NAMES)}.{r.choice(METHODS)}", lambda: f"{r.choice(NAMES)}[{self.index()}]", lambda: f"({sub()})[{self.index()}]",
            lambda: f"{r.choice(NAMES)}.{r.choice(['a', 'c.k', 'zz', 'n', 'role', 'index', '0'])}", lambda: f"({sub()} if {sub()} else {sub()})",
            lambda: f"({sub()} ** {r.choice(['0', '2', '3', '-1', '0.5', 'n'])})", lambda: f"not {sub()}", lambda: f"-{r.choice(NAMES)}", self.formatted, lambda: f"({sub()} if {sub()})"])()

    def statement(self, depth=0):
        r = self.r
        if depth > 2:
            return "{{ " + self.expression() + " }}"
        body = lambda: self.text(depth + 1, r.randint(1, 2))
        mark = lambda: r.choice(["", "", "-", "+"])
        close = lambda name: "{%" + r.choice(["", "", "-"]) + f" {name} " + r.choice(["", "", "-"]) + "%}"
        return r.choice([
            lambda: "{{" + r.choice(["", "-"]) + " " + self.expression() + " " + r.choice(["", "-"]) + "}}",
            lambda: "{{ " + self.expression() + " }}",
            lambda: "{%" + mark() + f" if {self.expression()} %}}" + body() + ("{% else %}" + body() if r.random() < 0.5 else "") + close("endif"),
            lambda: f"{{% for i in {self.expression(2)}{' if ' + self.expression(3) if r.random() < 0.2 else ''} %}}" + body() +
                    r.choice(["{{ loop.index }}", "{{ i }}", "{{ loop.last }}{{ loop.length }}", "{% if i %}{% break %}{% endif %}", "{{ loop.previtem }}",
                              "{% continue %}x"]) + ("{% else %}e" if r.random() < 0.2 else "") + close("endfor"),
            lambda: f"{{% set {r.choice(NAMES[:6])} = {self.expression()} %}}", lambda: "{% set q %}" + body() + "{% endset %}{{ q }}",
            lambda: f"{{% macro g(a, b={self.expression(3)}) %}}" + body() + "{{ a }}{{ b }}{% endmacro %}{{ g(" + self.expression(2) + ") }}",
            lambda: f"{{% set ns = namespace(v={self.expression(2)}) %}}{{% for i in l %}}{{% set ns.v = {self.expression(2)} %}}{{% endfor %}}{{{{ ns.v }}}}",
            lambda: f"{{% with a = {self.expression(2)} %}}" + body() + "{{ a }}{% endwith %}", lambda: "{# c #}",
            lambda: "{% filter upper %}" + body() + "{% endfilter %}"])()

    def text(self, depth=0, n=3):
        r = self.r
        return "".join(r.choice(["", "", " ", "\n", "  ", "x", "\n  ", "é"]) + self.statement(depth) for _ in range(n))


def ours(rows):
    p = subprocess.run([str(pathlib.Path(os.environ.get("BUILD", "build")) / "tests" / "fuzz" / "render_rows")],
                       input="\n".join(json.dumps(r) for r in rows) + "\n", capture_output=True, text=True, cwd=ROOT)
    if p.returncode:
        sys.exit(f"render_rows ended with {p.returncode}: {p.stderr[-2000:]}")
    return [json.loads(line) for line in p.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0, help="go on until so much time has gone")
    args = parser.parse_args()
    try:
        from jinja_env import render
    except ImportError:
        why = "needs jinja2 (python3-jinja2), which is not here"
        print(why)
        if os.environ.get("NEED_ROOT", "0") not in ("", "0"):
            sys.exit(1)
        if "TEST_RESULTS" in os.environ:  # as tests/run.sh writes it
            with open(os.environ["TEST_RESULTS"], "a") as f:
                f.write(f"count\t0\t0\t1\nskip\tdiff-jinja\t{why}\n")
        sys.exit(0)
    warnings.simplefilter("ignore", SyntaxWarning)  # what Python says of the code that Jinja2 makes
    began, seed, done, same_errors, refused, bad = time.monotonic(), args.seed, 0, 0, {}, 0
    while (time.monotonic() - began < args.seconds) if args.seconds else done < args.count:
        n = min(500, args.count - done) if not args.seconds else 500
        rows = [{"template": Maker(s).text(0, 1 + s % 4 // 3), "vars": VARS} for s in range(seed, seed + n)]
        for i, (row, got) in enumerate(zip(rows, ours(rows))):
            want = render(row["template"], VARS)
            if "generator object" in str(want.get("rendered")) or " at 0x" in str(want.get("rendered")) or want.get("error") == "MemoryError":
                continue  # an address is no text to compare
            why = next((w for w in REFUSED if w in got.get("error", "")), None)
            if "error" in want and "error" in got:
                same_errors += 1
            elif why and "rendered" in want:
                refused[why] = refused.get(why, 0) + 1
            elif want.get("rendered") != got.get("rendered"):
                bad += 1
                if bad <= 20:
                    print(f"seed {seed + i}: {row['template']!r}\n   Jinja2: {want}\n   ours:   {got}")
        seed += n
        done += n
    print(f"{done} templates, {same_errors} errors in both, {sum(refused.values())} refused by us alone {refused}, {bad} differ")
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
