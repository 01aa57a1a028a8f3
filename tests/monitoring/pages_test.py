"""Programs' pages hold what the document lists, and router and leader count alike. pages_test.py BIN ROOT"""
import signal
import sys

import monitoring
from pair import Programs, page, until


def total(series, name):
    return sum(value for key, value in series.items() if key.split("{")[0] == name)


def main(bin_folder, root):
    with Programs(bin_folder, root) as programs:
        worker, router = programs.serve_pair()
        address = f"127.0.0.1:{router['server']}"
        for flags in (["--agents", "5"], ["--agents", "3", "--aggregation", "synthesise"], ["--mode", "instant"]):
            programs.ask(address, *flags)
        asked, served = page(router["metrics"]), page(worker["metrics"])
        sampled = "conclave_worker_tokens_sampled_total"
        until("the leader's pulse", lambda: page(worker["metrics"])[sampled] == total(asked, "conclave_tokens_total"))
        served = page(worker["metrics"])

    wrong = []
    listed = monitoring.listed(programs.root / "deploy/prometheus/metrics.md")
    shown = {series.split("{")[0] for series in [*asked, *served]}
    wrong += [f"on no page: {name}" for name in sorted(listed - shown)]
    wrong += [f"in no list: {name}" for name in sorted(shown - listed) if not name.startswith("exposer_")]  # The library's own.
    for ours, theirs in (("conclave_prompt_tokens_total{model=\"conclave-demo\",source=\"computed\"}",
                          "conclave_worker_prompt_tokens_computed_total"),):
        if asked[ours] != served[theirs]:
            wrong.append(f"{ours} is {asked[ours]}, {theirs} is {served[theirs]}")
    alias = [value for series, value in served.items() if series.startswith("vllm:generation_tokens_total{")]
    if alias != [served[sampled]]:
        wrong.append(f"vllm:generation_tokens_total is {alias}, {sampled} is {served[sampled]}")
    print("\n".join(wrong) or f"{len(shown)} names; {served[sampled]:.0f} tokens, as the leader and the router count them")
    return bool(wrong)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # CTest's timeout: nothing is left behind.
    sys.exit(main(*sys.argv[1:]))
