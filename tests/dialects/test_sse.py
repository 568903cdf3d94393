"""Frames of server-sent events (compat-api §1.4)."""

from __future__ import annotations

from llamero.dialects import sse


def test_a_frame_is_data_and_a_blank_line() -> None:
    assert sse.frame(b'{"a":1}') == b'data: {"a":1}\n\n'


def test_a_named_frame_says_its_name_first() -> None:
    assert sse.frame(b"{}", "ping") == b"event: ping\ndata: {}\n\n"
