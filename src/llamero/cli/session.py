"""One conversation with one model, as the REPL keeps it (cli §6.1, §6.3). It reads nothing and parses no command."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..client import Ask, Client, Metrics, Part, ShownModel
from ..errors import BadRequest, ClientError, LlameroError
from .answer import AnswerView, show_answer, statistics
from .app import App
from .attachments import read_images, take_attachments
from .delay import Delay
from .gauge import Gauge, human_tokens
from .keyboard import folding
from .progress import Display, waiting
from .run import RunFlags, takes_files, thinking_view, with_default_think
from .sessions import Kept, Sessions
from .terminal import GREY, RESET
from .transcript import add_to_transcript

Message = dict[str, Any]

SHOWN_AGAIN = 4
"""Messages that are shown when a conversation is gone on with: the last two questions and their answers."""


class Session:
    """The model, what the user has set, and what was said so far."""

    def __init__(self, app: App, client: Client, shown: ShownModel, ask: Ask, flags: RunFlags) -> None:
        self.app = app
        self.client = client
        self.system = ""
        self.messages: list[Message] = []
        """Without those stored in the model: the server adds them."""
        self.word_wrap = flags.word_wrap
        self.verbose = flags.verbose
        self.markdown = True
        self.folds_thinking = False
        self.vi_keys = False
        self.runs_commands = False
        """Whether a line that begins with an exclamation mark is the shell's (cli G-31)."""
        self.is_kept = not app.settings.no_history
        self.thinking = ""
        """Of the last answer."""
        self.gauge = Gauge()
        self.kept = Sessions(app.settings.home / "llamero" / "sessions", app.warn)
        self._path = self.kept.new_path()
        self._transcript = Path(flags.transcript) if flags.transcript else None
        self._images = read_images(flags.images)
        """For the next message."""
        self._flags = flags
        self._wanted = ask
        """As the user has it: without what a model's abilities add."""
        self._take(ask.model, shown)
        if flags.system:
            self.set_system(flags.system)

    def _take(self, model: str, shown: ShownModel) -> None:
        self._wanted = replace(self._wanted, model=model)
        self.shown = shown
        self.takes_files = takes_files(shown)
        self.gauge = Gauge()

    @property
    def ask(self) -> Ask:
        return with_default_think(self._wanted, self.shown)

    @property
    def model(self) -> str:
        return self._wanted.model

    def set(self, **changes: Any) -> None:
        """Change what later requests carry: `options`, `format` or `think`."""
        self._wanted = replace(self._wanted, **changes)

    def set_system(self, text: str) -> None:
        self.system = text
        if self.messages and self.messages[-1]["role"] == "system":
            self.messages.pop()
        self.messages.append({"role": "system", "content": text})

    def clear(self) -> None:
        """Begin a new conversation; the old one stays kept."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []
        self.gauge = Gauge()
        self._path = self.kept.new_path()

    def load(self) -> None:
        """Make the server load the model, and show the conversation that is stored with it."""
        with self._waiting(self.model):
            self.client.load(self.ask)
        self._show_again(self.shown.messages)

    def switch(self, model: str) -> None:
        """Begin anew with another model. When that fails, the present one and its conversation stay."""
        with self._waiting(model):
            shown = self.client.show(model)
            self.client.load(with_default_think(replace(self._wanted, model=model), shown))
        self._take(model, shown)
        self.clear()

    def _waiting(self, model: str) -> Display:
        return waiting(self.app.terminal, quiet=self._flags.quiet, why=Delay(self.client, model).reason)

    def save(self, name: str) -> None:
        """Make a model of this one: what was set and said is laid over what it has already (cli G-17)."""
        request: dict[str, Any] = {"model": name, "from": self.model}
        if self.system:
            request["system"] = self.system
        if self._wanted.options:
            request["parameters"] = dict(self._wanted.options)
        said = [message for message in self.messages if message["role"] != "system"]
        if said:
            request["messages"] = [*self.shown.messages, *said]
        with waiting(self.app.terminal, quiet=self._flags.quiet):
            for _ in self.client.create(request):
                pass

    # --- a turn ----------------------------------------------------------------------------------------------------

    def say(self, text: str) -> bool:
        """One turn. A cancelled answer is forgotten, the question is not.

        False when it failed: the question was never asked, and whoever typed it may want to change it.
        """
        terminal = self.app.terminal
        try:
            message = self._message(text)
        except BadRequest:
            return False  # its text has been shown
        self.messages.append(message)
        thinking = thinking_view(self.app, self._flags, wrap=self.word_wrap, is_folded=self.folds_thinking)
        view = AnswerView(
            terminal, wrap=self.word_wrap, markdown=self.markdown, hide_thinking=not thinking, thinking=thinking
        )
        try:
            with folding(terminal, thinking.turn if thinking else lambda: None):
                metrics = show_answer(view, self.client.chat(self.ask, self.messages), self._waiting(self.model))
        except KeyboardInterrupt:
            terminal.out("\n\n")
            return True
        except LlameroError as error:
            self.messages.pop()
            self.app.fail(error)
            return False
        finally:
            self.thinking = thinking.text if thinking else ""
        self._images = []
        self.messages.append(_answer(view))
        terminal.out("\n\n")
        if metrics:
            self._measure(metrics)
        self._keep()
        return True

    def _message(self, text: str) -> Message:
        message: Message = {"role": "user", "content": text}
        files = list(self._images)
        if self.takes_files:
            message["content"], named = take_attachments(text, self.app.terminal)
            files += named
        if files:
            message["images"] = [base64.b64encode(file).decode() for file in files]
        return message

    def _measure(self, metrics: Metrics) -> None:
        before = self.gauge
        used_tokens = metrics.prompt_tokens + metrics.predicted_tokens
        self.gauge = Gauge(used_tokens, self._window_tokens() if used_tokens else 0)
        if self.verbose:
            self.app.terminal.err(statistics(metrics))
            if str(self.gauge):
                self.app.terminal.err(f"{'context:':<22}{self.gauge} tokens ({self.gauge.share:.0%})\n")
        if self.gauge.mood == "alarm" != before.mood:
            self.app.warn(
                f"{human_tokens(self.gauge.used_tokens)} of {human_tokens(self.gauge.limit_tokens)} tokens used, "
                "soon the oldest messages are left out (/clear)"
            )

    def _window_tokens(self) -> int:
        """The loaded model's context window, as the server has it; what was known before when it does not tell."""
        try:
            running = self.client.ps().models
        except ClientError:
            return self.gauge.limit_tokens
        names = (self.model, f"{self.model}:latest")
        return next((each.context_tokens for each in running if each.name in names), self.gauge.limit_tokens)

    def show_thinking(self) -> None:
        """What the model thought before its last answer, all of it."""
        text = self.thinking.strip()
        self._grey(f"{self.app.terminal.safe(text)}\n\n" if text else "The last answer had no thinking.\n\n")

    # --- what is kept ----------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        if self._transcript:
            add_to_transcript(self._transcript, self.messages[-2:], self.model)
        if self.is_kept:
            self.kept.keep(self._path, self._record())

    def _record(self) -> dict[str, Any]:
        return {
            "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": self.model,
            "system": self.system,
            "options": dict(self._wanted.options),
            "format": self._wanted.format,
            "used_tokens": self.gauge.used_tokens,
            "limit_tokens": self.gauge.limit_tokens,
            "messages": self.messages,
        }

    def resume(self, kept: Kept) -> None:
        """Go on with a conversation; when it was with another model, that one is loaded first."""
        record = kept.record
        if kept.model != self.model:
            self.switch(kept.model)
        self.system = str(record.get("system") or "")
        self.messages = list(record["messages"])
        self.set(options=dict(record.get("options") or {}), format=record.get("format"))
        self.gauge = Gauge(int(record.get("used_tokens") or 0), int(record.get("limit_tokens") or 0))
        self._path = kept.path
        said = [message for message in self.messages if message["role"] in ("user", "assistant")]
        if len(said) > SHOWN_AGAIN:
            self._grey(f"({len(said) - SHOWN_AGAIN} earlier messages)\n\n")
        self._show_again(said[-SHOWN_AGAIN:])

    def _show_again(self, messages: Sequence[Any]) -> None:
        terminal = self.app.terminal
        for message in messages:
            content = terminal.safe(str(message.get("content", "")))
            if message.get("role") == "user":
                terminal.out(f">>> {content}\n")
            elif message.get("role") == "assistant":
                view = AnswerView(terminal, wrap=self.word_wrap, markdown=self.markdown)
                view.show(Part(text=content))
                view.close()
                terminal.out("\n\n")

    def _grey(self, text: str) -> None:
        self.app.terminal.out(f"{GREY}{text}{RESET}" if self.app.terminal.stdout_draws else text)


def _answer(view: AnswerView) -> Message:
    message: Message = {"role": "assistant", "content": view.text}
    if view.thinking and view.thinking.text:
        message["thinking"] = view.thinking.text
    if view.tool_calls:
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": call.arguments}} for call in view.tool_calls
        ]
    return message
