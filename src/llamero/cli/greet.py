"""`hi`, also the script `hi-ai`: every model of a server says hello; then, on a terminal, one of them goes on talking.

Source: cli §13 and §10.2. Off a terminal nobody can talk on, so it only greets there. A model that fails is named and
the next one has its turn; only a server that is gone ends it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..client import Ask, Client, Metrics
from ..durations import SECOND
from ..errors import BadRequest, ClientError, LlameroError, ServerAnswered, ServerRefused
from .answer import AnswerView, show_answer
from .app import App
from .choose import choose
from .progress import waiting
from .run import RunFlags
from .target import Target, explained, find_target, greeting_timeout_s, models_of, named_models
from .thinking import ThinkingView

GREETING = "Hello! Please introduce yourself in one or two short sentences."
_OPTIONS = {"num_predict": 200}
"""Enough for two sentences; a model that never ends must not keep the others waiting."""


def greet(app: App, names: Sequence[str], *, auto: bool, timeout_s: int) -> None:
    """Greet these models, or all. `timeout_s` of 0 is GREETING_TIMEOUT_SECONDS.

    Raises ClientError when one of them did not answer and nobody is there to talk to the others.
    """
    if timeout_s < 0:
        raise BadRequest("--timeout must be a number of seconds above 0")
    target = find_target(app.own_env, Path(), app.file)
    limit_s = timeout_s or greeting_timeout_s(target.env)
    client = target.client(answer_limit_s=limit_s, warn=app.warn)
    listed = models_of(target, client)
    app.terminal.out(f"{target.url}: {len(listed)} model{'s' if len(listed) > 1 else ''}\n\n")
    greeter = Greeter(app, target, client, limit_s)
    for model in named_models(names, listed, target) if names else listed:
        greeter.greet(model.name)
    if app.terminal.is_interactive and not auto and greeter.answered:
        _talk(app, target, greeter.answered)
    elif greeter.failed:
        raise ClientError(f"no greeting from {', '.join(greeter.failed)}")


class Greeter:
    """Greets one model after the other and leaves the server's memory as it was."""

    def __init__(self, app: App, target: Target, client: Client, limit_s: float) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self._app = app
        self._target = target
        self._client = client
        self._limit_s = limit_s
        self._were_loaded = _loaded(client)
        self._may_unload = True

    def greet(self, name: str) -> None:
        """Show one model's greeting. ServerRefused when the server is gone: nobody else would answer either."""
        terminal = self._app.terminal
        terminal.out(f"{terminal.safe(name)}\n")
        try:
            able = self._client.show(name).capabilities
            if able and "completion" not in able:  # older servers say nothing of capabilities: then it is tried
                terminal.out("(turns texts into vectors, and does not talk)\n\n")
                return
            self._hear(Ask(model=name, options=_OPTIONS, think=False if "thinking" in able else None))
            self.answered.append(name)
        except ServerRefused as error:
            raise explained(error, self._target) from error
        except ClientError as error:
            self.failed.append(name)
            self._app.fail(self._worded(error))
            terminal.out("\n")
        self._unload(name)

    def _hear(self, ask: Ask) -> None:
        terminal = self._app.terminal
        thinking = ThinkingView(terminal, wrap=True)  # some think although they were asked not to
        view = AnswerView(terminal, wrap=True, thinking=thinking)
        started_s = time.monotonic()
        parts = self._client.chat(ask, [{"role": "user", "content": GREETING}])
        try:
            metrics = show_answer(view, parts, waiting(terminal))
        except LlameroError:
            terminal.out("\n" if view.text else "")
            raise
        if not (view.text + thinking.text).strip():
            raise ClientError(f"{ask.model} answered without a word")
        terminal.out(f"\n({_cost(time.monotonic() - started_s, metrics)})\n\n")

    def _worded(self, error: ClientError) -> ClientError:
        if isinstance(error.__cause__, TimeoutError):
            return ClientError(f"timed out: no whole greeting within {self._limit_s} s; see GREETING_TIMEOUT_SECONDS")
        return explained(error, self._target)

    def _unload(self, name: str) -> None:
        """Make room for the next. Behind a proxy a server may refuse that, which is worth a word and no more."""
        if name in self._were_loaded or not self._may_unload:
            return
        try:
            self._client.unload(name)
        except ClientError as error:
            self._may_unload = not (isinstance(error, ServerAnswered) and error.status == 403)
            self._app.warn(f"{name} stays loaded until the server lets go of it: {error}")


def _loaded(client: Client) -> set[str]:
    """What is in memory now; a server that does not tell has nothing that must stay."""
    with suppress(ServerAnswered):
        return {model.name for model in client.ps().models}
    return set()


def _cost(seconds: float, metrics: Metrics | None) -> str:
    if not metrics or not metrics.predicted_ns:
        return f"{seconds:.1f} s"
    rate = metrics.predicted_tokens * SECOND / metrics.predicted_ns
    return f"{seconds:.1f} s, {metrics.predicted_tokens} tokens, {rate:.0f} tokens/s"


def _talk(app: App, target: Target, names: Sequence[str]) -> None:
    """The REPL of `ollama run`, with one of those that answered. Here an answer may take its time."""
    from .repl import run_repl

    with suppress(EOFError):
        name = names[0]
        if len(names) > 1:
            (name,) = choose(app.terminal, "Which one shall go on", names, default=name, most=1)
        client = target.client(warn=app.warn)
        flags = RunFlags()
        run_repl(app, client, client.show(name), flags.ask(name), flags)
