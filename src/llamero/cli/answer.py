"""Shows an answer while it arrives: thinking, text, tool calls, and what it cost (cli §3.4.3, §3.4.4, §3.4.6)."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from ..client import Metrics, Part
from ..durations import SECOND, format_duration
from ..errors import LlameroError
from .markdown import Markdown
from .progress import Display
from .terminal import BOLD, GREY, RESET, Terminal, size
from .thinking import ThinkingView
from .wrap import Wrapper

if TYPE_CHECKING:
    from ..messages import ToolCall


class AnswerView:
    """One answer on stdout. Colours, wrapping and Markdown only where stdout may be drawn on."""

    def __init__(
        self,
        terminal: Terminal,
        *,
        wrap: bool,
        hide_thinking: bool = False,
        thinking: ThinkingView | None = None,
        markdown: bool = False,
    ) -> None:
        self.text = ""
        """The answer so far, without its thinking."""
        self.tool_calls: list[ToolCall] = []
        self.thinking = None if hide_thinking else thinking or ThinkingView(terminal, wrap=wrap)
        self._terminal = terminal
        self._draws = terminal.stdout_draws
        self._markdown = Markdown(self._width) if markdown and wrap and self._draws else None
        self._wraps = wrap and self._draws
        self._wrapper = Wrapper()

    def shows(self, part: Part) -> bool:
        """Whether anything of the part will be seen."""
        return bool(part.text or part.tool_calls or (part.thinking and self.thinking))

    def show(self, part: Part) -> None:
        if part.thinking and self.thinking:
            self.thinking.show(part.thinking)
        if (part.text or part.tool_calls) and self.thinking and self.thinking.is_on:
            self.thinking.end()
        if part.text:
            self.text += part.text
            self._write(part.text)
        if part.tool_calls:
            self.tool_calls += part.tool_calls
            self._end_markdown()
            self._terminal.out("\n".join(self._tool_call(call) for call in part.tool_calls))

    def close(self) -> None:
        self._end_markdown()
        if self.thinking:
            self.thinking.close()

    def break_off(self) -> None:
        """After a failure: what is said of it begins a line of its own."""
        shown = self.text or (self.thinking.text if self.thinking else "")
        if shown and not shown.endswith("\n") and self._terminal.stdout.isatty():
            self._terminal.out("\n")

    def _write(self, text: str) -> None:
        text = self._terminal.safe(text)
        if self._markdown:
            text = self._markdown.feed(text)
        elif self._wraps:
            text = self._wrapper.feed(text, self._width())
        self._terminal.out(text)

    def _end_markdown(self) -> None:
        if self._markdown:
            self._terminal.out(self._markdown.close())
            self._markdown = Markdown(self._width)

    def _width(self) -> int:
        return size(self._terminal.stdout)[0]

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
    try:
        with closing(view), closing(parts), until_seen:
            for part in parts:
                if view.shows(part):
                    until_seen.close()
                view.show(part)
                metrics = part.metrics
    except LlameroError:
        view.break_off()
        raise
    return metrics


def statistics(metrics: Metrics) -> str:
    """The lines of `--verbose`; one whose value is 0 is left out. A rate stands behind its duration, even one of 0."""
    prompt_rate = _rate(metrics.prompt_tokens, metrics.prompt_ns)
    rate = _rate(metrics.predicted_tokens, metrics.predicted_ns)
    rows = (
        ("total duration:", metrics.total_ns, format_duration(metrics.total_ns)),
        ("load duration:", metrics.load_ns, format_duration(metrics.load_ns)),
        ("prompt eval count:", metrics.prompt_tokens, f"{metrics.prompt_tokens} token(s)"),
        ("prompt eval duration:", metrics.prompt_ns, format_duration(metrics.prompt_ns)),
        ("prompt eval rate:", metrics.prompt_ns, f"{prompt_rate:.2f} tokens/s"),
        ("eval count:", metrics.predicted_tokens, f"{metrics.predicted_tokens} token(s)"),
        ("eval duration:", metrics.predicted_ns, format_duration(metrics.predicted_ns)),
        ("eval rate:", metrics.predicted_ns, f"{rate:.2f} tokens/s"),
    )
    return "".join(f"{label:<22}{text}\n" for label, value, text in rows if value > 0)


def _rate(tokens: int, ns: int) -> float:
    return tokens * SECOND / ns if ns else 0.0
