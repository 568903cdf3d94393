"""`run`: one answer on stdout, an embedding, or the REPL (cli §3.4)."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..client import Ask, Client, ShownModel
from ..config import parse_keep_alive
from ..errors import BadRequest, NotFound, ServerAnswered
from .answer import AnswerView, show_answer, statistics
from .app import App
from .attachments import read_images, take_attachments
from .delay import Delay
from .progress import steps, waiting
from .show import refuse_image_model
from .thinking import ThinkingView

THINK_VALUES: dict[str, bool | str] = {
    "": True,
    "true": True,
    "false": False,
    "high": "high",
    "medium": "medium",
    "low": "low",
    "max": "max",
}

THINKING_PLACES = ("stdout", "stderr", "off")


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
    options: Mapping[str, Any] = field(default_factory=dict)
    system: str = ""
    template: str = ""
    images: Sequence[str] = ()
    interactive: bool = False
    resume: bool = False
    transcript: str = ""
    markdown: bool = False
    thinking: str = "stdout"
    jsonl: bool = False

    def __post_init__(self) -> None:
        if self.thinking not in THINKING_PLACES:
            raise BadRequest(f'invalid value for --thinking: "{self.thinking}" (must be stdout, stderr, or off)')

    def ask(self, model: str) -> Ask:
        """Raises BadRequest for a value that no server could understand."""
        return Ask(
            model=model,
            options=self.options,
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
    is_repl = app.terminal.is_interactive and (flags.interactive or not words)
    if flags.interactive and not is_repl:
        raise BadRequest("-i needs a terminal to talk at")
    if is_repl and flags.template:
        raise BadRequest("--template goes with one prompt; for a conversation, create a model with that TEMPLATE")
    prompt = " ".join(part for part in (app.terminal.read_stdin(), *words) if part)
    shown = find_model(app, client, model, insecure=flags.insecure, quiet=flags.quiet)
    if "embedding" in shown.capabilities:
        _embed(app, client, ask, prompt, flags)
        return
    refuse_image_model(shown)
    if flags.images and not takes_files(shown):
        raise BadRequest(f"{model} takes neither pictures nor sounds; 'ollama show {model}' lists what it can do")
    if is_repl:
        from .repl import run_repl

        run_repl(app, client, shown, ask, flags, prompt)
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
    images = read_images(flags.images)
    if takes_files(shown):
        prompt, named = take_attachments(prompt, app.terminal)
        images += named
    thinking = thinking_view(app, flags, wrap=flags.word_wrap)
    view = AnswerView(
        app.terminal, wrap=flags.word_wrap, markdown=flags.markdown, hide_thinking=not thinking, thinking=thinking
    )
    try:
        until_seen = waiting(app.terminal, quiet=flags.quiet, why=Delay(client, ask.model).reason)
        parts = client.generate(ask, prompt, images=images, system=flags.system, template=flags.template)
        metrics = show_answer(view, parts, until_seen)
    except KeyboardInterrupt:
        app.terminal.out("\n")
        raise
    if prompt:
        app.terminal.out("\n\n")
    if flags.transcript:
        from .transcript import add_to_transcript

        turn = ({"role": "user", "content": prompt}, {"role": "assistant", "content": view.text})
        add_to_transcript(Path(flags.transcript), turn, ask.model)
    if metrics and flags.verbose:
        app.terminal.err(statistics(metrics))


def thinking_view(app: App, flags: RunFlags, *, wrap: bool, is_folded: bool = False) -> ThinkingView | None:
    """Where the thinking of one answer is shown; None when it is not."""
    if flags.hide_thinking or flags.thinking == "off":
        return None
    return ThinkingView(app.terminal, wrap=wrap, is_folded=is_folded, on_stderr=flags.thinking == "stderr")


def _embed(app: App, client: Client, ask: Ask, text: str, flags: RunFlags) -> None:
    if not text:
        raise BadRequest(f'embedding models require input text. Usage: ollama run {ask.model} "your text here"')
    texts = [line for line in text.splitlines() if line.strip()] if flags.jsonl else text
    vectors = client.embed(
        ask.model, texts, truncate=flags.truncate, dimensions=flags.dimensions, keep_alive_ns=ask.keep_alive_ns
    )
    if not vectors:
        raise BadRequest("no embeddings returned")
    for vector in vectors if flags.jsonl else vectors[:1]:
        app.terminal.out(f"[{','.join(map(float32_text, vector))}]\n")


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
