"""The answer and the receipt's hash of `conclave ask --json`, from standard input; fails when there is none."""
import json
import sys

events = [json.loads(line) for line in sys.stdin if line.strip()]
[completed] = [event["completed"] for event in events if "completed" in event]
print(completed["answer"], completed["receipt"]["result_hash"])
