"""`run`: one answer on stdout, an embedding, or the REPL (cli §3.4)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..client import Ask, Client, ShownModel
from ..config import parse_keep_alive
from ..errors import BadRequest, NotFound, ServerAnswered
from .answer import AnswerView, show_answer, statistics
from .app import App
from .attachments import take_attachments
from .progress import steps, waiting
from .show import refuse_image_model

THINK_VALUES: dict[str, bool | str] = {
    "true": True,
    "false": False,
    "high": "high",
    "medium": "medium",
    "low": "low",
    "max": "max",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFlags:
    """The flags as they were written; what they mean is checked once the server has answered."""

    keep_alive: str = ""
    format: str = ""
    think: str | None = None
    verbose: bool = False
    insecure: bool = False
    word_wrap: bool = True
    hide_thinking: bool = False
    truncate: bool | None = None
    dimensions: int = 0
    quiet: bool = False

    def ask(self, model: str) -> Ask:
        """Raises BadRequest for a value that no server could understand."""
        return Ask(
            model=model,
            format=_read_format(self.format),
            think=_read_think(self.think),
            keep_alive_ns=parse_keep_alive(self.keep_alive) if self.keep_alive else None,
        )


def _read_think(text: str | None) -> bool | str | None:
    if text is None:
        return None
    if text not in THINK_VALUES:
        raise BadRequest(f'invalid value for --think: "{text}" (must be true, false, high, medium, low, or max)')
    return THINK_VALUES[text]


def _read_format(text: str) -> Any:
    """`json`, or any JSON value: a schema goes to the server as it is."""
    if text in ("", "json"):
        return text or None
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRequest(f"invalid value for --format: neither json nor a JSON schema: {error}") from None


def run(app: App, model: str, words: Sequence[str], flags: RunFlags) -> None:
    """Piped input comes before the words of the prompt; only somebody at a terminal who asks nothing gets the REPL."""
    client = app.connect(is_run=True)
    ask = flags.ask(model)
    is_repl = app.terminal.is_interactive and not words
    prompt = " ".join(part for part in (app.terminal.read_stdin(), *words) if part)
    shown = find_model(app, client, model, insecure=flags.insecure, quiet=flags.quiet)
    if "embedding" in shown.capabilities:
        _embed(app, client, ask, prompt, flags)
        return
    refuse_image_model(shown)
    if is_repl:
        from .repl import run_repl

        run_repl(app, client, shown, ask, flags)
    else:
        _answer_once(app, client, shown, with_default_think(ask, shown), prompt, flags)


def find_model(app: App, client: Client, name: str, *, insecure: bool, quiet: bool) -> ShownModel:
    """What the server knows of the model, which it pulls first when it has it not and a registry might."""
    from ..names import split_source

    try:
        return client.show(name)
    except ServerAnswered as error:
        if error.status != NotFound.status or split_source(name)[1]:
            raise
    with steps(app.terminal, quiet=quiet) as display:
        display.follow_pull(client.pull(name, insecure=insecure))
    return client.show(name)


def with_default_think(ask: Ask, shown: ShownModel) -> Ask:
    """A model that can think does, unless the user said otherwise; to others nothing is said about it."""
    from dataclasses import replace

    if ask.think is None and "thinking" in shown.capabilities:
        return replace(ask, think=True)
    return ask


def takes_files(shown: ShownModel) -> bool:
    keys = shown.model_info or {}
    return bool(
        {"vision", "audio"} & set(shown.capabilities) or shown.projector_info or any(".vision." in k for k in keys)
    )


def _answer_once(app: App, client: Client, shown: ShownModel, ask: Ask, prompt: str, flags: RunFlags) -> None:
    images: list[bytes] = []
    if takes_files(shown):
        prompt, images = take_attachments(prompt, app.terminal)
    view = AnswerView(app.terminal, wrap=flags.word_wrap, hide_thinking=flags.hide_thinking)
    try:
        parts = client.generate(ask, prompt, images=images)
        metrics = show_answer(view, parts, waiting(app.terminal, quiet=flags.quiet))
    except KeyboardInterrupt:
        app.terminal.out("\n")
        raise
    if prompt:
        app.terminal.out("\n\n")
    if metrics and flags.verbose:
        app.terminal.err(statistics(metrics))


def _embed(app: App, client: Client, ask: Ask, text: str, flags: RunFlags) -> None:
    if not text:
        raise BadRequest(f'embedding models require input text. Usage: ollama run {ask.model} "your text here"')
    vectors = client.embed(
        ask.model, text, truncate=flags.truncate, dimensions=flags.dimensions, keep_alive_ns=ask.keep_alive_ns
    )
    if not vectors:
        raise BadRequest("no embeddings returned")
    app.terminal.out(f"[{','.join(map(float32_text, vectors[0]))}]\n")


def float32_text(value: float) -> str:
    """The shortest digits that give the same 32-bit float again, as Go's JSON writes it: `0.1`, `1e-7`, `1`."""
    from decimal import Decimal

    (single,) = struct.unpack("f", struct.pack("f", value))
    texts = (f"{single:.{digits}g}" for digits in range(1, 10))
    text = next(text for text in texts if struct.unpack("f", struct.pack("f", float(text)))[0] == single)
    if single and not 1e-6 <= abs(float(text)) < 1e21:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{exponent[0]}{exponent[1:].lstrip('0')}"
    return f"{Decimal(text):f}"
