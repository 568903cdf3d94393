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
"""Tokens. Coding agents begin with a hundred thousand characters, and parrots read them byte by byte."""


def make_cast(server: Server, folder: Path) -> None:
    """Make them all. The two starters are there already."""
    make(server, "smol-tools", from_=SMALL, template=TAGGED)
    make(server, "tiny-vision", [TEXT, EYES])
    clerk = write_parrot(folder / "clerk.gguf", call("get_weather", city="Paris"), behind={"1": "It rains in Paris."})
    make(server, "clerk", [clerk], template=GO)
    thoughts = thought("Thirty and three.", "It is 33.")
    thinker = write_parrot(folder / "thinker.gguf", thoughts, ctx_tokens=AGENT_CTX)
    make(server, "thinker", [thinker], template=GO, parameters={"num_ctx": AGENT_CTX})
