#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints daemon/chat/jinja_unicode_table.h: what Python's str knows of characters, as ranges.

usage: scripts/make_unicode.py >daemon/chat/jinja_unicode_table.h

Everything is asked of Python's own str methods (its version stands in the output), so that the
interpreter of chat templates says what Jinja2 would.
"""
import sys
import unicodedata

LAST = 0x110000
FLAGS = ['ALPHA', 'DECIMAL', 'DIGIT', 'NUMERIC', 'SPACE', 'PRINTABLE', 'UPPER', 'LOWER', 'CASED',
         'IGNORABLE', 'WORD_START', 'WORD']


def flags(cp):
    c = chr(cp)
    if 0xd800 <= cp < 0xe000:
        return 0
    cased = (c + '\u03a3').lower().endswith('\u03c2')
    ignorable = not cased and ('A' + c + '\u03a3').lower().endswith('\u03c2')
    upper, lower = c.isupper(), c.islower()
    bits = [c.isalpha(), c.isdecimal(), c.isdigit(), c.isnumeric(), c.isspace(), c.isprintable(),
            upper, lower, cased, ignorable, c.isidentifier(), ('a' + c).isidentifier()]
    return sum(1 << i for i, b in enumerate(bits) if b)


def rows(items, per):
    for i in range(0, len(items), per):
        print('\t' + ' '.join(items[i:i + per]))


def case_runs(method):
    """Simple mappings as (first, last, step, delta), and those to several characters."""
    runs, special = [], []
    for cp in range(LAST):
        if 0xd800 <= cp < 0xe000:
            continue
        to = getattr(chr(cp), method)()
        if to == chr(cp):
            continue
        if len(to) > 1:
            special.append((cp, to))
            continue
        delta = ord(to) - cp
        if runs:
            first, last, step, d = runs[-1]
            gap = cp - last
            if d == delta and gap in (1, 2) and (first == last or gap == step):
                runs[-1] = (first, cp, gap, d)
                continue
        runs.append((cp, cp, 1, delta))
    return runs, special


def main():
    print('/* SPDX-License-Identifier: MIT */')
    print('/*')
    print(' * daemon/chat/jinja_unicode_table.h: made by scripts/make_unicode.py from Python '
          f'{sys.version.split()[0]}')
    print(f' * (Unicode {unicodedata.unidata_version}). Included by jinja_unicode.c alone.')
    print(' */')
    print('/* clang-format off */')
    print('enum {')
    for i, name in enumerate(FLAGS):
        print(f'\tUC_{name} = 1 << {i},')
    print('};')
    print('\nstatic const struct { uint32_t first, flags; } uc_runs[] = {')
    items, last = [], -1
    for cp in range(LAST):
        f = flags(cp)
        if f != last:
            items.append(f'{{{cp:#x},{f:#x}}},')
            last = f
    rows(items, 10)
    print('};')
    for method in ('upper', 'lower', 'title', 'casefold'):
        runs, special = case_runs(method)
        print(f'\nstatic const struct case_run uc_{method}[] = {{')
        rows([f'{{{a:#x},{b:#x},{s},{d}}},' for a, b, s, d in runs], 7)
        print('};')
        print(f'static const struct case_special uc_{method}_special[] = {{')
        rows([f'{{{cp:#x},{{{",".join(f"{ord(c):#x}" for c in to)}}}}},' for cp, to in special], 6)
        print('};')


if __name__ == '__main__':
    main()
