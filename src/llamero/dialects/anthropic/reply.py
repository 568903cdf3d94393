"""An answer as one message. Source: compat-api §9.6.

A reply's blocks stand in the order in which the model wrote them, as they do in a stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ...messages import Finished, Text, Thinking, ToolCall
from .thinking import Display

Part = Text | Thinking | ToolCall


@dataclass(frozen=True, slots=True)
class Frame:
    """What a message says besides the answer."""

    id: str
    """`msg_` and 24 hexadecimal digits."""
    model: str
    """As the client spelled it."""
    max_tokens: int
    display: Display
    sign: Callable[[str], str]
    """A word that stands for a text of thinking, never empty: a keyed hash, which clients hand back unread."""

    def message(self, content: list[dict[str, Any]], stop: dict[str, str | None], usage: Any) -> dict[str, Any]:
        head = {"id": self.id, "type": "message", "role": "assistant", "model": self.model}
        return {**head, "content": content, **stop, "usage": usage}

    def visible(self, part: Part) -> bool:
        """Whether a part is one that the client gets to see."""
        if isinstance(part, ToolCall):
            return True
        return bool(part.text) and not (isinstance(part, Thinking) and self.display == "hidden")

    def tool_id(self, call: ToolCall) -> str:
        """In Anthropic's manner; an engine that gave none gets one from the message."""
        return "toolu_" + (call.id.removeprefix("call_") or f"{self.id.removeprefix('msg_')}{call.index}")


def write_message(frame: Frame, choices: Sequence[tuple[Sequence[Part], Finished]]) -> bytes:
    """The whole reply; there is always one choice."""
    ((parts, finished),) = choices
    blocks = list(_blocks(frame, parts))
    has_calls = any(block["type"] == "tool_use" for block in blocks)
    stop = stop_of(finished, frame.max_tokens, has_calls=has_calls)
    return msgspec.json.encode(frame.message(blocks, stop, usage_of(finished)))


def _blocks(frame: Frame, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    sent: set[str] = set()
    for kind, run in itertools.groupby(filter(frame.visible, parts), type):
        if kind is ToolCall:
            yield from _tool_uses(frame, run, sent)
            continue
        text = "".join(part.text for part in run if not isinstance(part, ToolCall))
        if kind is Text:
            yield {"type": "text", "text": text}
        else:
            shown = text if frame.display == "shown" else ""
            yield {"type": "thinking", "thinking": shown, "signature": frame.sign(text)}


def _tool_uses(frame: Frame, run: Iterator[Part], sent: set[str]) -> Iterator[dict[str, Any]]:
    """Each id once: it is by its id that a client answers a call."""
    for call in run:
        if isinstance(call, ToolCall) and (id_ := frame.tool_id(call)) not in sent:
            sent.add(id_)
            yield {"type": "tool_use", "id": id_, "name": call.name, "input": call.arguments}


def stop_of(finished: Finished, max_tokens: int, *, has_calls: bool) -> dict[str, str | None]:
    """`stop_reason` and `stop_sequence`. An answer that was cut off is that first, whatever it holds."""
    sequence = None
    if finished.reason == "length":
        is_full = finished.cost.predicted_tokens < max_tokens
        reason = "model_context_window_exceeded" if is_full else "max_tokens"
    elif has_calls:
        reason = "tool_use"
    elif finished.stopped_by:
        reason, sequence = "stop_sequence", finished.stopped_by
    else:
        reason = "end_turn"
    return {"stop_reason": reason, "stop_sequence": sequence}


def usage_of(finished: Finished) -> dict[str, Any]:
    cost = finished.cost
    return {
        **input_usage(cost.prompt_tokens, cost.cached_tokens),
        "output_tokens": cost.predicted_tokens,
        "output_tokens_details": {"thinking_tokens": finished.thinking_tokens},
    }


def input_usage(prompt_tokens: int, cached_tokens: int) -> dict[str, int]:
    """The three that add up to the prompt. We create cache entries as we go, and count that as input."""
    return {
        "input_tokens": prompt_tokens - cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached_tokens,
    }
