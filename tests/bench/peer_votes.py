"""The same questions, asked the way a proxy does that has only single requests, and in one contemplating request.

    conclave eval story:7 --count 200 --write questions.jsonl
    peer_votes.py questions.jsonl --router 127.0.0.1:9100 --agents 8 --concurrency 4

majority  As optillm's majority vote is described: k independent requests, answers brought to one form, the one that is given most
          often (of equally many the first).
moa       As its mixture of agents is described: three answers, a request that criticises them, a request that makes one of them.
conclave  One contemplating request of k agents, as the router runs it by itself.
auto      One contemplating request that leaves everything to the router: waves, width, temperature (--effort).

Written from what is published of the two algorithms. Each agent is a request of its own: prompts are rendered, sent and computed
again, unless the worker finds them in its cache; what it computed is what its receipts say. All of them ask the same router about
the same question one after another, in an order that turns with each question. Reports right answers, tokens computed (prompts and
all that was generated), requests and seconds of a question.

Asks over gRPC where grpcio and grpcio-tools are installed (a throw-away venv will do), else with `conclave ask --json`.
"""
import argparse
import ast
import collections
import concurrent.futures
import fractions
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRITIQUE = """Question: {question}

{candidates}

Compare the candidates above. Say for each what is right and what is wrong with it."""
FINAL = """Question: {question}

{candidates}

What was said about them: {critique}

Give the best answer to the question, and nothing else."""


# ---- one request ----------------------------------------------------------------------------------------------------------

class Reply:
    """What came of one request."""

    def __init__(self, answer, computed):
        self.answer, self.computed = answer, computed


class Grpc:
    """Asks with stubs that are made of proto/ now."""

    def __init__(self, router):
        import grpc
        from grpc_tools import protoc

        folder = tempfile.mkdtemp(prefix="conclave-stubs-")
        files = ["conclave/v1/types.proto", "conclave/v1/conclave.proto"]
        include = str(pathlib.Path(protoc.__file__).parent / "_proto")
        if protoc.main(["", f"-I{ROOT / 'proto'}", f"-I{include}", f"--python_out={folder}", f"--grpc_python_out={folder}", *files]):
            raise RuntimeError("proto/ does not compile")
        sys.path.insert(0, folder)
        from conclave.v1 import conclave_pb2, conclave_pb2_grpc

        self.pb = conclave_pb2
        self.stub = conclave_pb2_grpc.ConclaveServiceStub(grpc.insecure_channel(router))

    def ask(self, question, options):
        request = self.pb.GenerateRequest(mode=self.pb.Mode.Value("MODE_" + options.get("mode", "thinking").upper()))
        part = request.messages.add(role=2).parts.add()  # ROLE_USER.
        part.text = question
        if "agents" in options:
            request.contemplation.max_agents = options["agents"]
        if "strategy" in options:
            request.contemplation.strategy = self.pb.Strategy.Value("STRATEGY_" + options["strategy"].upper())
        if "effort" in options:
            request.contemplation.effort = self.pb.Effort.Value("EFFORT_" + options["effort"].upper())
        if "temperature" in options:
            request.sampling.temperature = options["temperature"]
        if "seed" in options:
            request.seed = options["seed"]
        done = self.stub.GenerateOnce(self.pb.GenerateOnceRequest(request=request)).completed
        r = done.receipt
        return Reply(done.answer, r.prompt.computed + r.thinking_tokens + r.answer_tokens + r.aggregation_tokens + r.discarded_tokens)


class Program:
    """Asks with the client: slower to start, and nothing to install."""

    def __init__(self, router, binary):
        self.router, self.binary = router, binary

    def ask(self, question, options):
        command = [self.binary, "ask", question, "--router", self.router, "--json"]
        for key, value in ({"mode": "thinking"} | options).items():
            command += [f"--{key}", str(value)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr.strip())
        done = json.loads(run.stdout.splitlines()[-1])["completed"]
        r = done["receipt"]
        tokens = [r.get("prompt", {}).get("computed", 0)]
        tokens += [r.get(key, 0) for key in ("thinking_tokens", "answer_tokens", "aggregation_tokens", "discarded_tokens")]
        return Reply(done.get("answer", ""), sum(map(int, tokens)))


# ---- answers --------------------------------------------------------------------------------------------------------------

def plain(answer):
    """The form in which answers are compared."""
    text = " ".join(answer.split()).lower().rstrip(".")
    number = text.replace(",", "").lstrip("$")
    return str(fractions.Fraction(number)) if re.fullmatch(r"-?\d+(\.\d+)?", number) else text


def value(node):
    """Of an arithmetic expression, exactly."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return fractions.Fraction(node.value)
    if isinstance(node, ast.BinOp):
        a, b = value(node.left), value(node.right)
        if isinstance(node.op, ast.Add):
            return a + b
        if isinstance(node.op, ast.Sub):
            return a - b
        if isinstance(node.op, ast.Mult):
            return a * b
        if isinstance(node.op, ast.Div):
            return a / b
    raise ValueError("no arithmetic")


def is_right(problem, answer):
    rule = problem.get("checker")
    if isinstance(rule, dict) and "arithmetic" in rule:
        rule = rule["arithmetic"]
        if not re.fullmatch(r"[\d+*/() -]{1,200}", answer):
            return False
        if "numbers" in rule and sorted(map(int, re.findall(r"\d+", answer))) != sorted(rule["numbers"]):
            return False
        try:
            return value(ast.parse(answer.strip(), mode="eval").body) == fractions.Fraction(rule["value"])
        except (SyntaxError, ValueError, ZeroDivisionError):
            return False
    return plain(answer) == plain(str(problem["answer"]))


# ---- the ways -------------------------------------------------------------------------------------------------------------

def together(pool, asker, jobs):
    return list(pool.map(lambda job: asker.ask(*job), jobs))


def majority(pool, asker, problem, o, seed):
    replies = together(pool, asker, [(problem["question"], {"temperature": o.temperature, "seed": seed + i}) for i in range(o.agents)])
    counts = collections.Counter(plain(r.answer) for r in replies if r.answer.strip())
    best = counts.most_common(1)[0][0] if counts else ""  # Of equally many: the first one.
    return next((r.answer for r in replies if plain(r.answer) == best), ""), replies


def mixture(pool, asker, problem, o, seed):
    question = problem["question"]
    replies = together(pool, asker, [(question, {"temperature": o.temperature, "seed": seed + i}) for i in range(3)])
    candidates = "\n".join(o.candidate.format(index=i + 1, answer=r.answer) for i, r in enumerate(replies))
    critique = asker.ask(o.critique.format(question=question, candidates=candidates), {"temperature": 0.1, "seed": seed + 3})
    last = asker.ask(o.final.format(question=question, candidates=candidates, critique=critique.answer), {"temperature": 0.1, "seed": seed + 4})
    return last.answer, replies + [critique, last]


def conclave(pool, asker, problem, o, seed):
    reply = asker.ask(problem["question"], {"mode": "contemplating", "agents": o.agents, "temperature": o.temperature, "seed": seed})
    return reply.answer, [reply]


def auto(pool, asker, problem, o, seed):
    options = {"mode": "contemplating", "strategy": "auto", "effort": o.effort, "seed": seed}
    reply = asker.ask(problem["question"], options)
    return reply.answer, [reply]


WAYS = {"majority": majority, "moa": mixture, "conclave": conclave, "auto": auto}


def wilson(right, n):
    z, p = 1.959964, right / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** .5
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def report(results):
    print(f"{'way':<10} {'right %':>8} {'95 %':>14} {'tokens':>9} {'requests':>9} {'mean s':>8} {'p50 s':>8} {'p99 s':>8}")
    for name, rows in results.items():
        right, n = sum(r["right"] for r in rows), len(rows)
        low, high = wilson(right, n)
        seconds = sorted(r["seconds"] for r in rows)
        print(f"{name:<10} {100 * right / n:>8.1f} {f'{100 * low:.1f}-{100 * high:.1f}':>14} {statistics.mean(r['computed'] for r in rows):>9.1f} "
              f"{statistics.mean(r['requests'] for r in rows):>9.1f} {statistics.mean(seconds):>8.3f} {seconds[n // 2]:>8.3f} "
              f"{seconds[min(n - 1, int(.99 * n))]:>8.3f}")


def compare(results):
    """Of the same questions: points of right answers with their 95 % interval, and how many times the tokens and seconds."""
    ours = [way for way in ("conclave", "auto") if way in results]
    for way in ours:
        for other in (o for o in results if o not in ours):
            pairs = list(zip(results[way], results[other]))
            gains = [a["right"] - b["right"] for a, b in pairs]
            mean, n = statistics.mean(gains), len(gains)
            half = 1.959964 * (statistics.pvariance(gains) / n) ** .5
            ratio = [sum(a[key] for a, _ in pairs) / sum(b[key] for _, b in pairs) for key in ("computed", "seconds")]
            print(f"{way} against {other}: {100 * mean:+.1f} points +-{100 * half:.1f}, {ratio[0]:.2f} of the tokens, {ratio[1]:.2f} of the seconds, "
                  f"n = {n}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", help="JSON lines, as `conclave eval --write` makes them")
    parser.add_argument("--router", default="127.0.0.1:9100")
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--concurrency", type=int, default=4, help="questions at a time")
    parser.add_argument("--effort", default="medium", choices=("low", "medium", "high"), help="of auto")
    parser.add_argument("--ways", default="majority,moa,conclave,auto")
    parser.add_argument("--critique", default=CRITIQUE, help="moa's second request; a model that knows few words needs its own")
    parser.add_argument("--final", default=FINAL, help="moa's third request")
    parser.add_argument("--candidate", default="Candidate {index}: {answer}")
    parser.add_argument("--conclave", default="conclave", help="the client, where there is no grpcio")
    parser.add_argument("--json", help="keeps every question there, one a line")
    o = parser.parse_args()
    problems = [json.loads(line) for line in open(o.suite) if line.strip()][:o.count]
    ways = o.ways.split(",")
    try:
        asker = Grpc(o.router)
    except ImportError:
        print("no grpcio: each request starts the client, which its seconds hold", file=sys.stderr)
        asker = Program(o.router, o.conclave)

    pool = concurrent.futures.ThreadPoolExecutor(o.concurrency * o.agents)
    results = {way: [] for way in ways}

    def work(job):
        index, problem = job
        rows = []
        for turn in range(len(ways)):
            way = ways[(index + turn) % len(ways)]
            began = time.perf_counter()
            answer, replies = WAYS[way](pool, asker, problem, o, 1_000_000 * index)
            rows.append({"way": way, "id": problem.get("id", index), "right": is_right(problem, answer), "answer": answer,
                         "computed": sum(r.computed for r in replies), "requests": len(replies),
                         "seconds": time.perf_counter() - began})
        return rows

    out = open(o.json, "w") if o.json else None
    with concurrent.futures.ThreadPoolExecutor(o.concurrency) as questions:
        for rows in questions.map(work, enumerate(problems)):
            for row in rows:
                results[row["way"]].append(row)
                if out:
                    print(json.dumps(row), file=out, flush=True)
    report(results)
    compare(results)


if __name__ == "__main__":
    main()
