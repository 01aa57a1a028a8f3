"""What the tests of this folder share: the dashboard's and the rules' questions, and the names that they use."""
import json
import re

# Grafana's variables, as the tests fill them in.
VARIABLES = {"$__rate_interval": "1m", "$model": ".*"}
NAME = re.compile(r"\b(?:conclave|process|vllm)[_:][a-zA-Z_:0-9]*|\bup\b|\bALERTS\b")
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def filled_in(expr):
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr


def panels(dashboard):
    """Every panel that shows something, in order."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def questions(path):
    """(title of the panel, expression) of everything that the dashboard asks."""
    dashboard = json.loads(path.read_text())
    return [(panel["title"], filled_in(target["expr"])) for panel in panels(dashboard) for target in panel["targets"]]


def names(expr):
    """Names of the metrics and of the recorded series in an expression. A quoted value holds none."""
    return set(NAME.findall(re.sub(r'"[^"]*"', '""', expr)))


def listed(path):
    """The names of the document's table, with those that a histogram's series have, and the aliases."""
    found = set()
    for line in path.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        if len(cells) != 5 or cells[1] not in ("counter", "gauge", "histogram"):
            continue
        ends = ["_bucket", "_sum", "_count"] if cells[1] == "histogram" else [""]
        found.update(name + end for name in (cells[0], cells[4]) if name for end in ends)
    return found
