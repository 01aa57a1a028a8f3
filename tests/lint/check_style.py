"""Fails on what the house does not allow in its sources: lengths, names, leftovers. check_style.py ROOT."""
import pathlib
import re
import subprocess
import sys

LIMITS = [("CMakeLists.txt", 120), ("README.md", 250), ("_test.cc", 600), (".h", 200), (".cc", 500), (".cu", 400)]
FORBIDDEN_WORDS = re.compile(r"\b(?:class|struct|enum class|enum)\s+\w*?(Manager|Handler|Helper|Utils?|Base|Impl|Info)\b")
LEFTOVERS = re.compile(r"\b(TODO(?!\(#\d+\))|FIXME|XXX)\b")
TEST_NAME = re.compile(r"^TEST(?:_[FP])?\(\s*\w+,\s*(\w+)\s*\)", re.M)
WEAK_TEST_WORDS = re.compile(r"^(Basic|Simple|Works|Misc|Test\d*$)")
TEXT = {".h", ".cc", ".cu", ".cuh", ".py", ".txt", ".md", ".yaml", ".proto", ".sh", ".json"}
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:work|farm|root)/")


def tracked(root):
    listed = subprocess.run(["git", "-C", root, "ls-files"], capture_output=True, text=True)
    if listed.returncode != 0:  # An export without its history: look at everything but what is built.
        return [p for p in pathlib.Path(root).rglob("*") if p.is_file() and "build" not in p.parts]
    return [pathlib.Path(root) / line for line in listed.stdout.splitlines()]


def complaints(root):
    for path in tracked(root):
        if path.suffix not in TEXT or not path.is_file() or path.parts[len(pathlib.Path(root).parts)] == "models":
            continue
        name, text = path.relative_to(root).as_posix(), path.read_text(errors="replace")
        lines = text.splitlines()
        limit = next((n for end, n in LIMITS if name.endswith(end)), None)
        if limit and len(lines) > limit:
            yield f"{name}: {len(lines)} lines; the limit is {limit}"
        if path.suffix in {".h", ".cc", ".cu", ".cuh"}:
            yield from source_complaints(name, text, lines)
        if name != "tests/lint/check_style.py":
            for number, line in enumerate(lines, 1):
                if LEFTOVERS.search(line):
                    yield f"{name}:{number}: unfinished work belongs in an issue: {line.strip()[:60]}"
                if MACHINE_PATHS.search(line):
                    yield f"{name}:{number}: a path of one machine: {line.strip()[:60]}"


def source_complaints(name, text, lines):
    for number, line in enumerate(lines, 1):
        if len(line) > 100:
            yield f"{name}:{number}: {len(line)} columns; the limit is 100"
        if FORBIDDEN_WORDS.search(line):
            yield f"{name}:{number}: a word that says nothing: {line.strip()[:60]}"
    if name.endswith(".h") and "#pragma once" not in text:
        yield f"{name}: no #pragma once"
    for test in TEST_NAME.findall(text):
        if WEAK_TEST_WORDS.match(test):
            yield f"{name}: test {test} does not say what must hold"


if __name__ == "__main__":
    found = list(complaints(sys.argv[1].rstrip("/")))
    print("\n".join(found) or "style: ok")
    sys.exit(bool(found))
