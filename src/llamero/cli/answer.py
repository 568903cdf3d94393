"""Shows an answer while it arrives: thinking, text, tool calls, and what it cost (cli §3.4.3, §3.4.4, §3.4.6)."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from ..client import Metrics, Part
from ..durations import SECOND, format_duration
from .progress import Display
from .terminal import BOLD, GREY, RESET, Terminal, size
from .wrap import Wrapper

if TYPE_CHECKING:
    from ..messages import ToolCall


class AnswerView:
    """One answer on stdout. Colours and wrapping only where stdout may be drawn on."""

    def __init__(self, terminal: Terminal, *, wrap: bool, hide_thinking: bool) -> None:
        self.text = ""
        """The answer so far, without its thinking."""
        self._terminal = terminal
        self._draws = terminal.stdout_draws
        self._wraps = wrap and self._draws
        self._wrapper = Wrapper()
        self._hide_thinking = hide_thinking
        self._is_thinking = False
        self._thinking_ends_line = True

    def shows(self, part: Part) -> bool:
        """Whether anything of the part will be seen."""
        return bool(part.text or part.tool_calls or (part.thinking and not self._hide_thinking))

    def show(self, part: Part) -> None:
        if part.thinking and not self._hide_thinking:
            if not self._is_thinking:
                self._is_thinking = True
                self._terminal.out(self._marked("Thinking...\n") + (GREY if self._draws else ""))
            self._write(part.thinking)
            self._thinking_ends_line = part.thinking.endswith("\n")
        if self._is_thinking and (part.text or part.tool_calls):
            self._end_thinking()
        if part.text:
            self.text += part.text
            self._write(part.text)
        if part.tool_calls:
            self._terminal.out("\n".join(self._tool_call(call) for call in part.tool_calls))

    def close(self) -> None:
        """An answer may end within its thinking; what comes after it must not be grey."""
        if self._is_thinking and self._draws:
            self._terminal.out(RESET)

    def _end_thinking(self) -> None:
        line_end = "" if self._thinking_ends_line else "\n"
        self._terminal.out(line_end + self._marked("...done thinking.\n\n"))
        self._is_thinking = False
        self._wrapper = Wrapper()

    def _write(self, text: str) -> None:
        text = self._terminal.safe(text)
        if self._wraps:
            text = self._wrapper.feed(text, size(self._terminal.stdout)[0])
        self._terminal.out(text)

    def _marked(self, text: str) -> str:
        return f"{GREY}{BOLD}{text}{RESET}" if self._draws else text

    def _tool_call(self, call: ToolCall) -> str:
        """Nobody here can call anything; whoever asked should see what the model wanted."""
        name = self._terminal.safe(f"'{call.name}()'")
        arguments = self._terminal.safe(json.dumps(call.arguments, ensure_ascii=False, separators=(",", ":")))
        grey, default = (GREY + BOLD, RESET) if self._draws else ("", "")
        called = f"{grey}Model called a non-existent function {default}{name}"
        return f"  {called}{grey} with arguments: {default}{arguments}"


def show_answer(view: AnswerView, parts: Generator[Part], until_seen: Display) -> Metrics | None:
    """Show all parts; the metrics of the last one. `until_seen` is closed when the first of them is visible.

    However this ends, the request has ended too: Ctrl+C closes the connection, which stops the model.
    """
    metrics = None
    with closing(view), closing(parts), until_seen:
        for part in parts:
            if view.shows(part):
                until_seen.close()
            view.show(part)
            metrics = part.metrics
    return metrics


def statistics(metrics: Metrics) -> str:
    """The lines of `--verbose`; one whose value is 0 is left out."""
    prompt_rate = _rate(metrics.prompt_tokens, metrics.prompt_ns)
    rate = _rate(metrics.predicted_tokens, metrics.predicted_ns)
    rows = (
        ("total duration:", metrics.total_ns, format_duration(metrics.total_ns)),
        ("load duration:", metrics.load_ns, format_duration(metrics.load_ns)),
        ("prompt eval count:", metrics.prompt_tokens, f"{metrics.prompt_tokens} token(s)"),
        ("prompt eval duration:", metrics.prompt_ns, format_duration(metrics.prompt_ns)),
        ("prompt eval rate:", prompt_rate, f"{prompt_rate:.2f} tokens/s"),
        ("eval count:", metrics.predicted_tokens, f"{metrics.predicted_tokens} token(s)"),
        ("eval duration:", metrics.predicted_ns, format_duration(metrics.predicted_ns)),
        ("eval rate:", rate, f"{rate:.2f} tokens/s"),
    )
    return "".join(f"{label:<22}{text}\n" for label, value, text in rows if value)


def _rate(tokens: int, ns: int) -> float:
    return tokens * SECOND / ns if ns else 0.0
