# SPDX-License-Identifier: MIT
"""Answers over HTTP held to the schemas of the fixtures, many at once, each checked with jsonschema: what test_form_answers.py does a few
hundred times and tests/long/test_forms.py ten thousand times."""
import collections
import http.client
import json
import random
import subprocess
import sys
import threading

from daemon import BUILD, ROOT, need

CHAT = "/v1/chat/completions"
SLOTS = 8
# A prompt that ends within a thought or without one, as enable_thinking has it; calls in Hermes' form.
TEMPLATE = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if tools %}<tool_call>{{ tools | tojson }}</tool_call>{% endif %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{# </think> #}"""


def load_jsonschema():
    """From the environment of the oracles; skips the test where the registry of packages cannot be reached."""
    made = subprocess.run([ROOT / "scripts" / "venv.sh", BUILD / "venv-oracles", ROOT / "tests/e2e/oracles/requirements.txt"], capture_output=True, text=True)
    need(made.returncode == 0, made.stdout.strip() or made.stderr.strip())
    sys.path.append(str(next((BUILD / "venv-oracles" / "lib").glob("python3*/site-packages"))))
    import jsonschema
    return jsonschema


def cases(rows):
    """(name, schema) of the rows that a strict request may ask for."""
    return [(r["name"], r["schema"]) for r in rows if not r.get("error")]


def closing_tokens(d):
    """Ids of the tokens that end something, as random weights would take ages to come by one."""
    ids = {}
    for text in ('"', '"}', '",', "}", "]", "</", "think", ">"):
        tokens = d.post("/tokenize", {"content": text})["tokens"]
        if len(tokens) == 1:
            ids[text] = tokens[0]
    return ids


class Run:
    """Answers of a daemon whose slots are kept full. Failures hold the whole request and answer."""

    def __init__(self, daemon, rows, count, seed=1, max_tokens=300):
        self.d, self.rows, self.count, self.max_tokens = daemon, cases(rows), count, max_tokens
        self.closing = closing_tokens(daemon)
        self.rng, self.lock, self.asked = random.Random(seed), threading.Lock(), 0
        self.by_schema, self.failures = collections.defaultdict(collections.Counter), []
        self.refused, self.kinds, self.jsonschema = set(), collections.Counter(), load_jsonschema()

    def next(self):
        """(number, name, schema, request, kind), or None."""
        with self.lock:
            if self.asked >= self.count:
                return None
            self.asked += 1
            names = [r for r in self.rows if r[0] not in self.refused]
            name, schema = names[self.asked % len(names)]
            kind = self.rng.choices(["plain", "stream", "thought", "tool", "drafts"], [6, 2, 1, 2, 1])[0]
            if kind == "tool" and not (isinstance(schema, dict) and schema.get("type") == "object" and "$ref" not in json.dumps(schema)):
                kind = "plain"
            bias = self.rng.choice([5, 7, 9])
            body = {"messages": [{"role": "user", "content": self.rng.choice(["Paris?", "Tell me all.", "x"])}], "max_tokens": self.max_tokens,
                    "temperature": self.rng.choice([0.7, 1, 1.5]), "seed": self.rng.randrange(2**31), "enable_thinking": kind == "thought",
                    "logit_bias": {str(t): bias for t in self.closing.values()}, "spec": "ngram" if kind == "drafts" else "off"}
            return self.asked, name, schema, body, kind

    def form(self, schema, kind):
        if kind == "tool":
            return {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": schema}}], "tool_choice": "required",
                    "parallel_tool_calls": False}
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}}}

    def post(self, c, body):
        c.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        data = r.read().decode()
        if r.status != 200 or not body.get("stream"):
            return r.status, json.loads(data)
        text, finish = "", None
        for line in data.splitlines():
            if line.startswith("data: {"):
                choice = (json.loads(line[6:]).get("choices") or [{}])[0]
                text += (choice.get("delta") or {}).get("content") or ""
                finish = choice.get("finish_reason") or finish
        return 200, {"choices": [{"message": {"content": text}, "finish_reason": finish}]}

    def check(self, schema, answer, kind):
        """What is wrong with it; None: nothing; "length": it was cut."""
        choice = answer["choices"][0]
        if choice["finish_reason"] == "length":
            return "length"
        if kind == "tool":
            calls = choice["message"].get("tool_calls") or []
            if len(calls) != 1 or calls[0]["function"]["name"] != "f" or choice["finish_reason"] != "tool_calls":
                return f"{len(calls)} calls, {choice['finish_reason']}"
            text = calls[0]["function"]["arguments"]
        elif choice["finish_reason"] != "stop":
            return f"finish_reason {choice['finish_reason']}"
        else:
            text = choice["message"]["content"]
        try:
            value = json.loads(text)
        except (ValueError, TypeError) as e:
            return f"no JSON: {e}: {text!r}"
        draft = self.jsonschema.Draft202012Validator
        bad = self.jsonschema.exceptions.best_match(draft(schema, format_checker=draft.FORMAT_CHECKER).iter_errors(value))
        return bad and f"invalid: {bad.message}: {text}"

    def one(self, c, n, name, schema, body, kind):
        body = {**body, **self.form(schema, kind), "stream": kind == "stream"}
        status, answer = self.post(c, body)
        with self.lock:
            if status == 400 and "cannot be held" in json.dumps(answer):
                self.refused.add(name)  # named; asked for no more, and not counted
                self.count += 1
                return
        wrong = f"status {status}" if status != 200 else self.check(schema, answer, kind)
        if kind == "drafts" and status == 200:
            _, plain = self.post(c, {**body, "spec": "off"})
            if plain["choices"][0]["message"] != answer["choices"][0]["message"]:
                wrong = f"without drafts it is {plain['choices'][0]['message']}"
        with self.lock:
            self.kinds[kind] += 1
            self.by_schema[name]["cut" if wrong == "length" else "wrong" if wrong else "valid"] += 1
            if wrong and wrong != "length":
                self.failures.append({"number": n, "schema": name, "wrong": wrong, "request": body, "answer": answer})

    def work(self):
        c = http.client.HTTPConnection("127.0.0.1", self.d.port, timeout=600)
        while (job := self.next()) and len(self.failures) < 20:
            self.one(c, *job)
        c.close()

    def go(self):
        threads = [threading.Thread(target=self.work) for _ in range(SLOTS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return self

    def total(self, what):
        return sum(c[what] for c in self.by_schema.values())

    def report(self):
        lines = [f"{name}: {c['valid']} valid, {c['cut']} cut, {c['wrong']} wrong" for name, c in sorted(self.by_schema.items())]
        lines.append(f"refused by name: {', '.join(sorted(self.refused)) or 'none'}")
        lines.append(f"kinds: {dict(self.kinds)}")
        lines.append(f"all: {self.total('valid')} valid, {self.total('cut')} cut (finish_reason length), {self.total('wrong')} wrong")
        return "\n".join(lines)
