# SPDX-License-Identifier: MIT
"""Description: the Grafana dashboard asks for series that a daemon has, in ways that make sense for their kind."""
import json
import re

from daemon import BUILD, ROOT
from http_client import HttpDaemon

BOARD = json.loads((ROOT / "packaging/grafana/sluice.json").read_text())
PANELS = [p for p in BOARD["panels"] if p["type"] != "row"]
TARGETS = [(p["title"], t["expr"], t["legendFormat"]) for p in PANELS for t in p["targets"]]
# Series that only some machines have: they must be in the program all the same.
ELSEWHERE = r"sluice_(device|node)_\w+"


def served():
    """(series -> kind, series -> its labels) of a daemon that has answered."""
    with HttpDaemon("--ctx", "512") as d:
        d.post("/v1/completions", {"prompt": "Once upon", "max_tokens": 4})
        text = d.get("/metrics")[2].decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    labels = {}
    for name, inside in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.M):
        labels.setdefault(name, set()).update(re.findall(r"(\w+)=\"", inside))
    return kinds, labels


def test_every_expression():
    kinds, labels = served()
    program = (BUILD / "sluiced").read_bytes()
    assert len(TARGETS) > 30
    for title, expr, legend in TARGETS:
        names = re.findall(r"\b(sluice_\w+)", expr)
        assert names and expr.count("(") == expr.count(")") and expr.count("{") == expr.count("}"), expr
        assert all(f'{n}{{instance=~"$instance"}}' in expr for n in names), f"{title}: not of the chosen daemons: {expr}"
        for name in names:
            family = re.sub("_(bucket|sum|count)$", "", name)
            if re.fullmatch(ELSEWHERE, family) and family not in kinds:
                assert family.encode() in program, f"{title}: there is no series {name}"
                kind = "counter" if family.endswith("_total") else "gauge"
            else:
                assert family in kinds, f"{title}: there is no series {name}"
                kind = kinds[family]
            rated = f'rate({name}{{instance=~"$instance"}}[$__rate_interval])' in expr
            assert rated == (kind != "gauge"), f"{title}: {name} is a {kind}: {expr}"
            assert (kind == "histogram") == name.endswith("_bucket") == ("histogram_quantile(" in expr and "by (instance, le)" in expr), expr
        for label in set(re.findall(r"\{\{(\w+)\}\}", legend)) - {"instance"}:
            at = names[0]
            assert label in labels.get(at, ()) or re.fullmatch(ELSEWHERE, at), f"{title}: {at} has no label {label}"


def test_panels_lie_beside_each_other():
    ids = [p["id"] for p in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for p in BOARD["panels"]:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert g["x"] + g["w"] <= 24 and not cells & taken, p["title"]
        taken |= cells
    assert all(p["title"] and p["fieldConfig"]["defaults"]["unit"] for p in PANELS)
