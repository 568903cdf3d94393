"""One conversation with one model, as the REPL keeps it (cli §6.1, §6.3). It reads nothing and parses no command."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from ..client import Ask, Client, ShownModel
from ..errors import BadRequest, LlameroError
from .answer import AnswerView, show_answer, statistics
from .app import App
from .attachments import take_attachments
from .progress import waiting
from .run import RunFlags, takes_files, with_default_think

Message = dict[str, Any]


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
        self._flags = flags
        self._wanted = ask
        """As the user has it: without what a model's abilities add."""
        self._take(ask.model, shown)

    def _take(self, model: str, shown: ShownModel) -> None:
        self._wanted = replace(self._wanted, model=model)
        self.shown = shown
        self.takes_files = takes_files(shown)

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
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def load(self) -> None:
        """Make the server load the model, and show the conversation that is stored with it."""
        with waiting(self.app.terminal, quiet=self._flags.quiet):
            self.client.load(self.ask)
        for message in self.shown.messages:
            content = self.app.terminal.safe(str(message.get("content", "")))
            if message.get("role") == "user":
                self.app.terminal.out(f">>> {content}\n")
            elif message.get("role") == "assistant":
                self.app.terminal.out(f"{content}\n\n")

    def switch(self, model: str) -> None:
        """Begin anew with another model. When that fails, the present one and its conversation stay."""
        with waiting(self.app.terminal, quiet=self._flags.quiet):
            shown = self.client.show(model)
            self.client.load(with_default_think(replace(self._wanted, model=model), shown))
        self._take(model, shown)
        self.clear()

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

    def say(self, text: str) -> None:
        """One turn. A cancelled answer is forgotten, the question is not; a question that failed was never asked."""
        terminal = self.app.terminal
        message: Message = {"role": "user", "content": text}
        try:
            if self.takes_files:
                message["content"], files = take_attachments(text, terminal)
                if files:
                    message["images"] = [base64.b64encode(file).decode() for file in files]
        except BadRequest:
            return  # its text has been shown
        self.messages.append(message)
        view = AnswerView(terminal, wrap=self.word_wrap, hide_thinking=self._flags.hide_thinking)
        try:
            metrics = show_answer(
                view, self.client.chat(self.ask, self.messages), waiting(terminal, quiet=self._flags.quiet)
            )
        except KeyboardInterrupt:
            terminal.out("\n\n")
            return
        except LlameroError as error:
            self.messages.pop()
            self.app.fail(error)
            return
        self.messages.append({"role": "assistant", "content": view.text})
        terminal.out("\n\n")
        if metrics and self.verbose:
            terminal.err(statistics(metrics))
