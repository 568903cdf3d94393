"""A real server over an engine that says what a test wants, event for event, and remembers what it was asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.fake_llama_server import TIMINGS, install, read_record
from tests.running import Server
from tests.server.tiny_models import EYES, TEXT, make

CHAT = "/v1/chat/completions"
COMPLETION = "/completion"

ABLE = "able"
"""Thinks and calls tools, by the Jinja of its file."""
SEER = "seer"
"""Sees."""
LEVELS = "levels"
"""A Go template that shows how hard it is to think."""

Step = dict[str, Any]


def delta(**fields: Any) -> Step:
    """One event of the engine's chat."""
    return {"send": {"choices": [{"delta": fields, "finish_reason": None}]}}


def call(index: int, arguments: str, *, name: str | None = None, id: str | None = None) -> Step:
    return delta(tool_calls=[{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}])


def end(reason: str = "stop") -> Step:
    return {"send": {"choices": [{"delta": {}, "finish_reason": reason}], "timings": TIMINGS}}


def piece(text: str) -> Step:
    """One event of the engine's completion."""
    return {"send": {"content": text}}


def last(reason: str = "eos") -> Step:
    return {"send": {"content": "", "stop": True, "stop_type": reason, "timings": TIMINGS}}


class Puppet:
    """`folder` holds the script, which an engine reads when it starts, and the record."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._replies: dict[str, Any] = {}

    def make_models(self) -> None:
        made = {"from_": "smollm2:135m", "info": {"capabilities": ["tools", "thinking"]}}
        make(self.server, ABLE, **made)
        make(self.server, LEVELS, template="{{ .Prompt }}|{{ .Think }} {{ .ThinkLevel }}|", **made)
        make(self.server, SEER, [TEXT, EYES])

    def plays(self, *steps: Step, **more: list[Step] | Step) -> None:
        """Answer chats with these steps from now on, and paths of other names (`completion`) with theirs."""
        replies: dict[str, Any] = {"/props": {"body": {"media_marker": "<__media__>"}}}
        replies |= {f"/{path}": reply for path, reply in more.items()} | ({CHAT: list(steps)} if steps else {})
        if replies != self._replies:
            self.server.unload_all()
            install(self._folder, {"replies": replies})
            self._replies = replies
        self.forget()

    def forget(self) -> None:
        (self._folder / "record").unlink(missing_ok=True)

    def heard(self, path: str = CHAT) -> list[dict[str, Any]]:
        """The bodies of the requests for a path."""
        return [each["body"] for each in read_record(self._folder, "request") if each["path"] == path]

    def record(self, kind: str) -> list[Any]:
        return read_record(self._folder, kind)


def frames(body: bytes) -> list[Any]:
    """The data of OpenAI's events, which have no names; the last one is text."""
    events = body.decode().split("\n\n")
    assert events.pop() == "", "a blank line ends each event"
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [data if data == "[DONE]" else json.loads(data) for data in (event[6:] for event in events)]
