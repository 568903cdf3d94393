"""What a request for an answer holds: only what somebody set (native-api §2.2)."""

from __future__ import annotations

import pytest

from llamero.client import Ask
from llamero.durations import FOREVER, MINUTE


def test_only_what_was_set_is_sent() -> None:
    assert Ask(model="m").fields() == {"model": "m"}
    ask = Ask(model="m", options={"seed": 1}, format={"type": "object"}, think=False, keep_alive_ns=10 * MINUTE)
    assert ask.fields() == {
        "model": "m",
        "options": {"seed": 1},
        "format": {"type": "object"},
        "think": False,
        "keep_alive": "10m0s",
    }


@pytest.mark.parametrize(("ns", "sent"), [(0, "0s"), (-MINUTE, -1), (FOREVER, -1), (90 * MINUTE, "1h30m0s")])
def test_keep_alive_on_the_wire(ns: int, sent: str | int) -> None:
    assert Ask(model="m", keep_alive_ns=ns).fields()["keep_alive"] == sent
