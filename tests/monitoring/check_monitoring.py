"""Fails when the dashboard or the rules ask for what no program has, or break Grafana's rules. check_monitoring.py DEPLOY"""
import json
import pathlib
import re
import sys

import monitoring

PROMETHEUS = {"up", "ALERTS"}  # Its own.


def rules_complaints(text, known):
    """Of the rules as text, one expression a rule (YAML's own reader is no part of Python)."""
    recorded = set(re.findall(r"- record: (\S+)", text))
    exprs = re.findall(r"^ +expr: (?:>-\n((?: {10}.*\n)+)|(.*)\n)", text, re.M)
    if len(exprs) != len(re.findall(r"^ +- (?:record|alert):", text, re.M)):
        yield f"rules: {len(exprs)} expressions were found"
    for folded, plain in exprs:
        for name in sorted(monitoring.names(folded or plain) - known - recorded - PROMETHEUS):
            yield f"rules: no program has {name}"
    for alert in re.split(r"^ +- alert: ", text, flags=re.M)[1:]:
        for part in ("severity:", "summary:", "runbook:"):
            if part not in alert:
                yield f"rules: {alert.split()[0]} has no {part[:-1]}"


def dashboard_complaints(dashboard, known):
    ids, taken = set(), {}
    for panel in dashboard["panels"]:
        if panel["id"] in ids:
            yield f"dashboard: id {panel['id']} is there twice"
        ids.add(panel["id"])
        grid = panel["gridPos"]
        for cell in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
            if cell[0] >= 24 or cell in taken:
                yield f"dashboard: {panel['title']} lies outside, or over {taken.get(cell)}"
                break
            taken[cell] = panel["title"]
    for panel in monitoring.panels(dashboard):
        title, defaults = panel["title"], panel["fieldConfig"]["defaults"]
        if not panel.get("description") or "unit" not in defaults:
            yield f"dashboard: {title} has no description or unit"
        for target in panel["targets"]:
            if target["datasource"]["uid"] != "${datasource}":
                yield f"dashboard: {title} names a data source"
            asked = monitoring.names(target["expr"])
            for name in sorted(asked - known - PROMETHEUS):
                yield f"dashboard: {title}: no program has {name}"
            if not asked:
                yield f"dashboard: {title} asks for nothing"


def complaints(deploy):
    known = monitoring.listed(deploy / "prometheus/metrics.md")
    if len(known) < 60:
        yield f"metrics.md: only {len(known)} names were found"
    rules = (deploy / "prometheus/rules.yaml").read_text()
    yield from rules_complaints(rules, known)
    tested = (deploy / "prometheus/rules_test.yaml").read_text()
    for alert in re.findall(r"- alert: (\S+)", rules):
        if not re.search(rf"\b{alert}\b", tested):
            yield f"rules_test: {alert} is never tested"
    dashboard = json.loads((deploy / "grafana/conclave.json").read_text())
    yield from dashboard_complaints(dashboard, known | set(re.findall(r"- record: (\S+)", rules)))


if __name__ == "__main__":
    found = list(complaints(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "monitoring: ok")
    sys.exit(bool(found))
