"""Streams of server-sent events that have names: those of `/v1/messages` and `/v1/responses`."""

from __future__ import annotations

import json
from typing import Any

Event = dict[str, Any]


def named_events(body: bytes) -> list[Event]:
    """The data of each event, which says its own name once more."""
    events = []
    *blocks, rest = body.decode().split("\n\n")
    assert rest == "", "a blank line ends each event"
    for block in blocks:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events
