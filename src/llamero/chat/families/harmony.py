"""Harmony, the raw output of gpt-oss: messages with headers that name a channel and a recipient.

Source: modelfile-templates §8.3, §8.4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ...messages import Text, Thinking, ToolCall
from .marks import MarkCutter

MARKS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>")
ANSWER_AFTER_THINKING = "<|end|><|start|>assistant<|channel|>final<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")

_BUILT_IN = frozenset({"browser.open", "browser.search", "browser.find", "python"})
_NAMESPACE = "functions."


def harmony_names(names: Iterable[str]) -> dict[str, str]:
    """What the model may call each tool: identifiers of TypeScript, all different."""
    given: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        identifier = name if name in _BUILT_IN else _identifier(name)
        number, unique = 1, identifier
        while unique in taken:
            number += 1
            unique = f"{identifier}_{number}"
        taken.add(unique)
        given[name] = unique
    return given


def _identifier(name: str) -> str:
    kept = "".join(c for c in re.sub(r"[-. ]", "_", name) if c.isalnum() or c in "_$")
    return f"_{kept}" if kept[:1].isdigit() else kept or "unnamed"


class HarmonyParser:
    """`is_continued`: the prompt ended within an answer, so no header comes first."""

    def __init__(
        self,
        names: Iterable[str],
        *,
        new_id: Callable[[], str],
        is_continued: bool = False,
        max_calls: int | None = None,
    ) -> None:
        self._names = {short: name for name, short in harmony_names(names).items()}
        self._new_id = new_id
        self._max_calls = max_calls
        self._cutter = MarkCutter(MARKS)
        self._header: list[str] | None = None if is_continued else []
        """Of the message that begins; None within its text."""
        self._is_thinking = False
        self._recipient = ""
        self._body: list[str] = []
        """Of a call."""
        self._calls = 0

    @property
    def is_over(self) -> bool:
        return self._calls == self._max_calls

    @property
    def may_end_early(self) -> bool:
        return self._max_calls is not None

    def feed(self, text: str) -> list[Text | Thinking | ToolCall]:
        return [piece for token in self._cutter.feed(text) for piece in self._token(token)]

    def finish(self) -> list[Text | Thinking | ToolCall]:
        pieces = [piece for token in self._cutter.finish() for piece in self._token(token)]
        header = self._header or []
        self._header = []
        if self._recipient:
            return [*pieces, *self._call()]
        if header and not any(mark in header for mark in MARKS):  # the model does not speak Harmony at all
            return [*pieces, Text("".join(header))]
        return pieces

    def _token(self, token: str) -> list[Text | Thinking | ToolCall]:
        if self._header is not None:
            if token == "<|message|>":
                self._read_header("".join(self._header))
            else:
                self._header.append(token)
            return []
        if token in (*_ENDS, "<|start|>"):
            self._header = [token]
            return self._call() if self._recipient else []
        if self._recipient:
            self._body.append(token)
            return []
        return [Thinking(token) if self._is_thinking else Text(token)]

    def _read_header(self, header: str) -> None:
        channel = _CHANNEL.search(header)
        recipient = _RECIPIENT.search(header)
        self._recipient = recipient[1] if recipient and not (channel and channel[1] == "final") else ""
        self._is_thinking = channel is not None and channel[1] == "analysis"
        self._header = None

    def _call(self) -> list[Text | Thinking | ToolCall]:
        recipient, body = self._recipient, "".join(self._body)
        self._recipient = ""
        self._body.clear()
        if self.is_over:
            return []
        try:
            arguments: Any = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
        except (ValueError, RecursionError):
            return [Text(body)]
        short = recipient.removeprefix(_NAMESPACE)
        call = ToolCall(self._names.get(short, short), arguments, self._new_id(), self._calls)
        self._calls += 1
        return [call]
