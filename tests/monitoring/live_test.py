"""Every question of the dashboard and of the rules has an answer from a real Prometheus that watches a real pair.

live_test.py BIN ROOT   Exit 77: there is no prometheus here (package prometheus)."""
import contextlib
import json
import math
import os
import pathlib
import re
import shutil
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request

import monitoring
from pair import Programs, until

def listening_port(process):
    """Where it listens: it was told to take any port, and does not say which."""
    sockets = set()
    for link in pathlib.Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.update(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
    for line in pathlib.Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in sockets:
            return int(fields[1].split(":")[1], 16)
    return None


class Prometheus:
    """The configuration that we ship, but for where it looks and how often."""

    def __init__(self, programs, targets):
        shipped = programs.root / "deploy/prometheus"
        text = (shipped / "prometheus.yaml").read_text().replace("15s", "1s")
        for name, port in targets.items():
            # Here is no DNS that knows the services of the compose file.
            text, count = re.subn(rf"dns_sd_configs:\n +- {{names: \[{name}\],.*", f"static_configs: [{{targets: ['127.0.0.1:{port}']}}]", text)
            assert count == 1, name
        (programs.folder / "prometheus.yaml").write_text(text)
        shutil.copy(shipped / "rules.yaml", programs.folder)
        process = programs.start("prometheus", "prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
                                 "--web.listen-address=127.0.0.1:0")
        self.port = until("prometheus does not listen", lambda: listening_port(process))

    def api(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # It is not up yet.
                return None
            raise RuntimeError(f"{parameters}: {error.read().decode()}") from error

    def has(self, expr):
        """Whether there is a number (0 is one)."""
        data = self.api("query", query=expr)
        return data is not None and any(not math.isnan(float(series["value"][1])) for series in data["result"])


def main(bin_folder, root):
    with Programs(bin_folder, root) as programs:
        worker, router = programs.serve_pair()
        prometheus = Prometheus(programs, {"router": router["metrics"], "worker": worker["metrics"]})
        address = f"127.0.0.1:{router['server']}"

        groups = until("no rules", lambda: (prometheus.api("rules") or {"groups": []})["groups"])
        rules = [rule for group in groups for rule in group["rules"]]
        # An alert that does not fire has no value: what it asks for must be there.
        wanted = {name: f"alert {rule['name']}" for rule in rules if rule["type"] == "alerting"
                  for name in monitoring.names(rule["query"]) - {"up", "ALERTS"}}
        wanted.update({rule["query"]: f"rule {rule['name']}" for rule in rules if rule["type"] == "recording"})
        wanted.update({expr: f"panel {title}" for title, expr in monitoring.questions(programs.root / "deploy/grafana/conclave.json")})
        print(f"{len(rules)} rules, {len(wanted)} questions")

        def all_answered():
            for flags in (["--agents", "5"], ["--mode", "thinking"], ["--mode", "instant"]):
                programs.ask(address, *flags)
            programs.ask(address, "--agents", "8", leave=True)
            for expr in [expr for expr in wanted if prometheus.has(expr)]:
                del wanted[expr]
            return not wanted

        with contextlib.suppress(TimeoutError):
            until("questions without an answer", all_answered)
        for expr, who in wanted.items():
            print(f"no data: {who}: {expr}")
        broken = [f"{rule['name']}: {rule['lastError']}" for group in prometheus.api("rules")["groups"] for rule in group["rules"]
                  if rule["health"] != "ok"]
        known = set(prometheus.api("metadata"))
        unknown = sorted({monitoring.SUFFIX.sub("", name) for name in monitoring.listed(programs.root / "deploy/prometheus/metrics.md")}
                         - known)
        print("\n".join(broken + [f"not on the pages: {name}" for name in unknown]) or "every listed metric is known to Prometheus")
        firing = [alert["labels"]["alertname"] for alert in prometheus.api("alerts")["alerts"] if alert["state"] == "firing"]
        print(f"alerts that fire: {firing or 'none'}")
        return bool(wanted or broken or unknown or firing)


if __name__ == "__main__":
    if not shutil.which("prometheus"):
        print("skipped: there is no prometheus")
        sys.exit(77)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # CTest's timeout: nothing is left behind.
    sys.exit(main(*sys.argv[1:]))
