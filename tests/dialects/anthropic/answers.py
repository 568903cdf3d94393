"""Answers of a model, for the tests of what is written of them."""

from __future__ import annotations

from llamero.dialects.anthropic.reply import Frame, Part
from llamero.dialects.anthropic.thinking import Display
from llamero.messages import Finished, Text, Thinking, ToolCall, Usage

ID = "msg_0123456789abcdef01234567"
ADD = ToolCall("add", {"b": 2, "a": "ä"}, "call_abcdefgh")
NOW = ToolCall("now", {}, "call_ijklmnop", 1)

ANSWERS: dict[str, list[Part]] = {
    "nothing": [],
    "empty pieces": [Text(""), Thinking(""), Text("")],
    "text": [Text("Hel"), Text("lo\n"), Text("  you")],
    "thinking, text": [Thinking("hm"), Thinking("m"), Text("yes")],
    "thinking, call": [Thinking("hm"), ADD],
    "text, calls": [Text("well"), ADD, NOW],
    "calls, text": [ADD, NOW, Text("done")],
    "text, thinking, text, thinking": [Text("a"), Thinking("b"), Text("c"), Thinking("d")],
    "everything": [Thinking("t"), Text("x"), ADD, Thinking("u"), NOW, Text("y")],
    "the same call twice": [ADD, ADD, NOW],
    "calls without ids": [ToolCall("a", {}, "", 0), ToolCall("b", {}, "", 1)],
}


def frame(display: Display = "shown", max_tokens: int = 100) -> Frame:
    return Frame(ID, "some/model:1b", max_tokens, display, lambda text: f"signed {text}")


def finished(reason: str = "stop", stopped_by: str = "", predicted: int = 7) -> Finished:
    usage = Usage(prompt_tokens=30, cached_tokens=20, predicted_tokens=predicted)
    assert reason in ("stop", "length")
    return Finished("length" if reason == "length" else "stop", usage, 0, 0, thinking_tokens=3, stopped_by=stopped_by)
