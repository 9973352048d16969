#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/templates/rows.json: templates of our own and what Jinja2 renders (jinja_env.py). Needs jinja2.

usage: template_rows.py [--check]
"""
import json
import sys
from pathlib import Path

from jinja_env import render

OUT = Path(__file__).resolve().parent.parent / "templates" / "rows.json"
MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Où? <b> 'q' \"d\"\n"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"a": 1.5, "ü": [None, True]}}}]},
            {"role": "tool", "content": "there"}]
V = {"messages": MESSAGES, "n": 7, "s": "Grüße 🎈 an alle", "l": [5, 3, 9], "d": {"y": 1, "x": {"k": None}}, "none_": None,
     "bos_token": "<s>", "add_generation_prompt": True}
CHAT = """{{- bos_token }}
{%- for m in messages %}
    {%- if m.role == 'tool' %}
        {{- '<|tool|>\\n' + m.content + '<|end|>\\n' }}
        {%- continue %}
    {%- endif %}
    {{- '<|' + m.role + '|>\\n' }}
    {%- generation %}{{ m.content | trim }}{% endgeneration %}
    {%- for c in m.tool_calls or [] %}
<call name={{ c.function.name }}>
        {%- for k, v in c.function.arguments | items %}

<{{ k }}>{{ v | tojson if v is not string else v }}</{{ k }}>
        {%- endfor %}

</call>
    {%- endfor %}
    {{- '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}
"""
ROWS = [CHAT] + r"""
plain text, no tags
{{ n }}|{{ n / 2 }}|{{ n // 2 }}|{{ n % 4 }}|{{ -n ** 2 }}|{{ 0.1 + 0.2 }}|{{ 1e22 }}|{{ 1e-7 }}
{{ s | upper }}|{{ s[::-1] }}|{{ s[2:-3] }}|{{ s | length }}|{{ s.split() }}|{{ s.title() }}
{{ d }}|{{ d | tojson(indent=2) }}|{{ d.x.k }}|[{{ d.nope }}]|{{ d['y'] }}|{{ d | dictsort }}
{{ l | sort }}|{{ l | sum }}|{{ l | map('string') | join('+') }}|{{ l | select('gt', 4) | list }}|{{ l[1:] + [n] }}
{% for i in l if i > 3 %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ ', ' if not loop.last }}{% else %}none{% endfor %}
{% set ns = namespace(c=0) %}{% for i in l %}{% set ns.c = ns.c + i %}{% set n = i %}{% endfor %}{{ ns.c }} {{ n }}
{% macro f(a, b=2) %}{{ a }}-{{ b }}{% if caller %}({{ caller() }}){% endif %}{% endmacro %}{{ f(1) }} {{ f(b=1, a=3) }} {% call f(0) %}x{% endcall %}
{% for i in range(9) %}{% if i is odd %}{% continue %}{% elif i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% set block | trim | upper %}  a {{ n }} {% endset %}[{{ block }}]
{{ messages | selectattr('role', 'in', ['user', 'tool']) | map(attribute='content') | list }}
{{ 'a' if none_ else 'b' if d else 'c' }} {{ none_ is none and nope is undefined }} {{ nope | default('d') }} {{ not (n > 3 and n < 9) }}
{{ "%s=%05.1f" % ('x', 2.25) }} {{ '{:>4}|{!r}'.format(n, s) }} {{ 'a-b-c'.rsplit('-', 1) }} {{ '  x '.strip() ~ 1 ~ none_ }}
{{ '%#06x|%#5o|%#X|%-#6xx|%#.5x|%+f|%05s|%05d' % (255, 8, 255, 255, 42, -((s[:0] ~ 'nan')|float), 'a', -7) }} {{ '{:#06x}|{:+#8b}|{:=#8x}|{:<05}|{:^06.2f}|{:05}|{:x<05}|{:,.0E}|{:,G}|{:,}'.format(255, 5, 255, 3, 2.5, 'a', 'b', 2e10, 1e20, 1234567) }}
{{ range(3)[::-2] }} {{ range(9)[8:2:-4] }} {{ range(1, 20, 3)[1:5:2] }} {{ range(5)[4:1] }} {{ l[::2 ** 126] }} {{ s[1:4:2 ** 126] }} {{ l[::-2 ** 126] }} {{ s | truncate(2 ** 126, true, '', 2 ** 126) }} {{ (1500 | filesizeformat, '2048' | filesizeformat(true), (s[:0] ~ 'nan') | float | filesizeformat) }}
{{ 'some' | filesizeformat }}
{{ s.replace('l', 'L', -(2 ** 126 + (2 ** 126 - 1))) }}
{{ strftime_now('%d %b %Y') }}
{{ raise_exception('only ' ~ n ~ ' allowed') }}
{{ nope.x }}
{{ l.append(1) }}
{{ 1 / 0 }}
{{ s + 1 }}
{% for i in none_ %}{% endfor %}
{{ ''.__class__.__mro__ }}
{% if n %}{{ 'x' | nosuch }}{% endif %}
{% if not n %}{{ 'x' | nosuch }}{% endif %}ok
{% endif %}
{{ n
{% raw %}{{ n }}{% endraw %}{# gone #}  {{- ' tight ' -}}  end
""".strip("\n").split("\n") + ["a\n  {% if n %}\n  b\n  {% endif %}\nc\n", "x\n\n{%- for i in l %}\n {{ i }}\n{%- endfor %}\n", "a\r\n{% if n %}\r\nb{% endif +%}\r\n"]


def main(*args):
    rows = [{"template": t, "vars": V, **render(t, V)} for t in ROWS]
    text = "[\n" + ",\n".join(json.dumps(r, ensure_ascii=True) for r in rows) + "\n]\n"
    if args and args[0] == "--check":
        sys.exit(0 if OUT.read_text() == text else f"{OUT} is not what this script makes")
    OUT.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
