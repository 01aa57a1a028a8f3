"""Accuracy of the demo model in Conclave's own engine, and through a running router.

    python3 score.py engine ENGINE_PROGRAM MODEL_DIR [PROBLEMS]   # ENGINE_PROGRAM: build/release/bin/measure_engine
    python3 score.py router CLIENT_PROGRAM ADDRESS [PROBLEMS]     # CLIENT_PROGRAM: build/release/bin/conclave; N = 8 agents a question

Held-out problems: seed 12345, which training never uses. Prints a table: greedy, mean@1, maj@8, pass@8 (router: the answer of a
contemplating request). Without a number, as many problems as the model's own measurement took.
"""
import collections
import json
import os
import random
import subprocess
import sys

import tasks

SEED, SAMPLES = 12345, 8
RESULT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "RESULT.json")
ROUTER_SUITES = ["word", "expression", "story5", "story7", "chain3", "target3", "target4", "compare", "chain10"]


def problems_of(suite, n):
    r = random.Random(SEED)
    return [tasks.SUITES[suite](r) for _ in range(n)]


def through_engine(program, folder, suite, problems):
    lines = [json.dumps({"question": q, "low": suite.endswith("-low")}) for q, _, _ in problems]
    done = subprocess.run([program, folder, str(SAMPLES)], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def score(suite, problems, completions):
    greedy = single = most = some = 0
    for (question, _, expected), out in zip(problems, completions):
        right = [tasks.is_right(suite, question, expected, strip(a)) for a in out["samples"]]
        answers = [strip(a) for a in out["samples"]]
        winner = collections.Counter(a for a in answers if a is not None).most_common(1)
        greedy += tasks.is_right(suite, question, expected, strip(out["greedy"]))
        single += sum(right) / len(right)
        most += bool(winner) and right[answers.index(winner[0][0])]
        some += any(right)
    return [x / len(problems) for x in (greedy, single, most, some)]


def strip(answer):
    return answer.strip() if answer is not None else None


def measure_engine(program, folder, n):
    published = json.load(open(RESULT))["suites"]
    print("| suite (n) | PyTorch: greedy / mean@1 / maj@8 / pass@8 | Conclave: greedy / mean@1 / maj@8 / pass@8 |\n|---|---|---|")
    for suite, old in published.items():
        problems = problems_of(suite, n or old["problems"])
        ours = score(suite, problems, through_engine(program, folder, suite, problems))
        theirs = [old[k] for k in ("greedy", "mean@1", "maj@8", "pass@8")]
        print(f"| {suite} ({len(problems)}) | {row(theirs)} | {row(ours)} |", flush=True)


def row(numbers):
    return " / ".join(f"{x:.2f}" for x in numbers)


def measure_router(client, address, n):
    print("| suite (n) | one request of 8 agents | votes of the leader, mean | tokens kept / discarded, mean |\n|---|---|---|---|")
    for suite in ROUTER_SUITES:
        problems = problems_of(suite, n or 60)
        right = votes = kept = discarded = 0
        for i, (question, _, expected) in enumerate(problems):
            command = [client, "ask", question, "--router", address, "--agents", str(SAMPLES), "--seed", str(SEED + i), "--json", "--quiet"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            completed = json.loads(done.stdout.splitlines()[-1])["completed"]
            receipt = completed["receipt"]
            right += tasks.is_right(suite, question, expected, completed.get("answer", "").strip())
            votes += receipt.get("votes", [{}])[0].get("count", 0)
            kept += sum(int(receipt.get(k, 0)) for k in ("thinking_tokens", "answer_tokens", "aggregation_tokens"))
            discarded += int(receipt.get("discarded_tokens", 0))
        m = len(problems)
        print(f"| {suite} ({m}) | {right / m:.2f} | {votes / m:.1f} | {kept / m:.0f} / {discarded / m:.0f} |", flush=True)


def main():
    way, program, where, *rest = sys.argv[1:]
    (measure_engine if way == "engine" else measure_router)(program, where, int(rest[0]) if rest else None)


if __name__ == "__main__":
    main()
