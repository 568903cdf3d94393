"""Compilers that compile nothing: small programs in the place of cc, cmake, cargo and ninja.

`install` puts them into a folder. What they shall do is one JSON object, every field of it optional:

    crashes     flags of cc whose programs die of an illegal instruction
    wrong       flags of cc whose programs compute something else
    unknown     flags that cc does not know
    prints      lines that `cmake --build` prints
    sleeps      true: it then sleeps for ever, with a child of its own
    fails       what `cmake --build` exits with
    silent      true: it makes no program

Each call is written to the file `calls` beside them, one JSON object per line: `argv`, `names` of the environment's
variables, and how `nice` it was.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

PROGRAM = "#!/bin/sh\necho 'a new engine'\n"

_HEAD = """#!{python} -IS
import json, os, subprocess, sys, time
here = {here!r}
script = json.load(open(here + "/script"))
argv = sys.argv[1:]
with open(here + "/calls", "a") as file:
    file.write(json.dumps({{"argv": [{name!r}, *argv], "names": sorted(os.environ), "nice": os.nice(0)}}) + "\\n")

def make(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o755)
"""

_BODIES = {
    "cc": """
flags = set(argv)
if flags & set(script.get("unknown", ())):
    sys.exit("cc: error: unrecognized option")
ends = "kill -ILL $$" if flags & set(script.get("crashes", ())) else "exit 0"
ends = "exit 1" if flags & set(script.get("wrong", ())) else ends
make(argv[argv.index("-o") + 1], "#!/bin/sh\\n" + ends + "\\n")
""",
    "c++": "print('c++ (fake) 1.0')\n",
    "ninja": "",
    "cargo": "make(os.path.join(os.getcwd(), 'target/release/libllguidance.a'), '')\n",
    "cmake": """
if argv[0] != "--build":
    sys.exit(0)
for line in script.get("prints", ["[1/2] a.cpp", "[2/2] b.cpp"]):
    print(line, flush=True)
if script.get("sleeps"):
    child = subprocess.Popen(["/bin/sleep", "600"])
    with open(here + "/child", "w") as file:
        file.write(str(child.pid))
    time.sleep(600)
if script.get("fails"):
    sys.exit(script["fails"])
if not script.get("silent"):
    make(os.path.join(argv[1], "bin/llama-server"), {program!r})
""",
}


def install(folder: Path, script: dict[str, Any] | None = None, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Write the programs. Returns an environment that finds them, and nothing else but the system's own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script").write_text(json.dumps(script or {}))
    for name, body in _BODIES.items():
        if name not in without:
            head = _HEAD.format(python=sys.executable, here=str(folder), name=name)
            (folder / name).write_text(head + body.replace("{program!r}", repr(PROGRAM)))
            (folder / name).chmod(0o755)
    return {"PATH": str(folder), "HOME": str(folder)}


def calls(folder: Path) -> list[dict[str, Any]]:
    """What was called so far, in order."""
    path = folder / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def called(folder: Path, tool: str) -> list[list[str]]:
    """The arguments of each call of one tool."""
    return [call["argv"][1:] for call in calls(folder) if call["argv"][0] == tool]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
