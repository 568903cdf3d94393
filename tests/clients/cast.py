"""The models that the scenarios of other people's clients meet on a server; `scenarios/scene.py` has their names."""

from __future__ import annotations

from pathlib import Path

from tests.clients.speakers import GO, call, thought
from tests.parrot import write_parrot
from tests.running import Server
from tests.server.go_models import TAGGED
from tests.server.tiny_models import EYES, TEXT, make

SMALL = "smollm2:135m"

AGENT_CTX = 262144
"""Tokens. Coding agents begin with fifty thousand characters, and parrots read them byte by byte."""

COMMAND = "echo forty-two > answer.txt"
"""What the two models that pretend to write programs have the agents do."""


def make_cast(server: Server, folder: Path) -> None:
    """Make them all. The two starters are there already."""
    make(server, "smol-tools", from_=SMALL, template=TAGGED)
    make(server, "tiny-vision", [TEXT, EYES])

    def speaker(name: str, first: str, **after: str) -> None:
        path = write_parrot(folder / f"{name}.gguf", first, behind=after, ctx_tokens=AGENT_CTX)
        make(server, name, [path], template=GO, parameters={"num_ctx": AGENT_CTX})

    speaker("thinker", thought("Thirty and three.", "It is 33."))
    speaker("teller", '{"legs": 4, "furry": true}')
    speaker("clerk", call("get_weather", city="Paris"), **{"1": "It rains in Paris."})
    for name, tool, argument in (("codex-coder", "exec_command", "cmd"), ("claude-coder", "Bash", "command")):
        speaker(name, call(tool, **{argument: COMMAND}), **{"1": "It is written."})
