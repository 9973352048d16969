# SPDX-License-Identifier: MIT
"""Jinja2 as transformers sets it up for chat templates: what the interpreter in daemon/chat is compared with.

render(template, vars) returns {"rendered": text} or {"error": type of the exception, "message": what the template raised}.
"""
import datetime
import json

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

NOW = datetime.datetime(2026, 3, 5, 14, 7, 9)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("run")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def run(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                       extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENV = environment()


def render(template, variables):
    try:
        return {"rendered": ENV.from_string(template).render(**json.loads(json.dumps(variables)))}
    except jinja2.exceptions.TemplateError as e:
        row = {"error": type(e).__name__}
        if type(e) is jinja2.exceptions.TemplateError:
            row["message"] = str(e)
        return row
    except Exception as e:  # what Python raises is an error of the template too
        return {"error": type(e).__name__}
