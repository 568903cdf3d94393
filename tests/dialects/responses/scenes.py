"""Requests, and answers that nobody had to generate."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal

from llamero.dialects.fields import Fields, read_body
from llamero.dialects.responses import reading
from llamero.dialects.responses.items import History
from llamero.dialects.responses.output import NewId, Part
from llamero.dialects.responses.reading import Asked
from llamero.dialects.responses.stream import ResponseWriter
from llamero.messages import Finished, Message, Started, Usage

NOW_S = 1_700_000_000


def body(**fields: Any) -> Fields:
    return read_body(json.dumps({"model": "m", **fields}).encode())


def asked(history: History | None = None, **fields: Any) -> Asked:
    return reading.read(body(**{"input": "hi", **fields}), history)


def messages(*items: Any, history: History | None = None) -> tuple[Message, ...]:
    return asked(history, input=list(items)).request.messages


def counting_ids() -> NewId:
    """Ids that a test can foretell: `rs_1`, `msg_2`."""
    numbers = itertools.count()
    return lambda prefix: f"{prefix}_{next(numbers)}"


def finished(reason: Literal["stop", "length"] = "stop") -> Finished:
    usage = Usage(prompt_tokens=11, cached_tokens=4, predicted_tokens=7)
    return Finished(reason, usage, total_ns=1, load_ns=1, thinking_tokens=3)


def writer(asked: Asked) -> ResponseWriter:
    return ResponseWriter(asked, counting_ids(), lambda: NOW_S * 10**9)


def streamed(asked: Asked, parts: Sequence[Part], end: Finished) -> list[dict[str, Any]]:
    """The events of a whole stream, after a look at their frames."""
    to = writer(asked)
    wire = to.begin(Started()) + b"".join(map(to.part, parts)) + to.finish(end) + to.end([end])
    return events(wire)


def events(wire: bytes) -> list[dict[str, Any]]:
    frames = wire.decode().split("\n\n")
    assert frames.pop() == ""
    read = []
    for frame in frames:
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        read.append(event)
    return read


def whole(asked: Asked, parts: Sequence[Part], end: Finished) -> Any:
    return json.loads(writer(asked).whole(parts, end))
