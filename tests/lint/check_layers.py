"""Fails when a file includes a room that its own may not see. The table is layers.txt: check_layers.py ROOT TABLE."""
import pathlib
import re
import sys

SOURCES = {".h", ".cc", ".cu", ".cuh"}
INCLUDE = re.compile(r'\s*#\s*include\s+[<"]([^>"]+)[>"]')


def read_table(path):
    rooms, owners = {}, []
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("only "):
            pattern, names = line[5:].rsplit(":", 1)
            owners.append((re.compile(pattern.strip()), names.split()))
        elif line:
            room, may_see = line.split(":", 1)
            rooms[room.strip()] = may_see.split()
    return rooms, owners


def room_of(path, rooms):
    """The longest room that the path lies in."""
    return max((r for r in rooms if path == r or path.startswith(r + "/")), key=len, default=None)


def complaints(root, table):
    rooms, owners = read_table(table)
    for top in sorted({room.split("/")[0] for room in rooms}):
        for file in sorted((root / top).rglob("*")):
            if file.suffix not in SOURCES:
                continue
            name = file.relative_to(root).as_posix()
            mine = room_of(name, rooms)
            if mine is None:
                yield f"{name}: lies in no room of {table.name}"
                continue
            for number, text in enumerate(file.read_text(errors="replace").splitlines(), 1):
                match = INCLUDE.match(text)
                if not match:
                    continue
                target = room_of(match[1], rooms) if "/" in match[1] else None
                if target and target != mine and target not in rooms[mine]:
                    yield f"{name}:{number}: {mine} must not include {target} ({match[1]})"
                for pattern, may in owners:
                    if pattern.fullmatch(match[1]) and mine not in may and name not in may:
                        yield f"{name}:{number}: {match[1]} is visible only in {', '.join(may)}"


if __name__ == "__main__":
    found = list(complaints(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])))
    print("\n".join(found) or "layers: ok")
    sys.exit(bool(found))
