"""`cache` and `cache clear`: the prompts that are saved on disk (cli §3.16). It shows no text: it knows none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ..client import SavedPrompt
from ..errors import BadRequest, ServerRefused
from ..names import ModelName
from ..sizes import human_bytes
from ..store.prefixes import Prefixes
from .app import App
from .format import relative_time, table


def cache(app: App, words: Sequence[str]) -> None:
    match words:
        case []:
            show(app)
        case ["clear"]:
            clear(app, "")
        case ["clear", model]:
            clear(app, model)
        case _:
            raise BadRequest("say `ollama cache`, or `ollama cache clear [MODEL]`")


def show(app: App) -> None:
    now = datetime.now(UTC)
    rows = [
        (each.model, str(each.tokens), human_bytes(each.size_bytes), relative_time(each.used_at, now))
        for each in _saved(app)
    ]
    for line in table(rows, ("MODEL", "TOKENS", "SIZE", "LAST USED")):
        app.terminal.out(f"{line}\n")


def clear(app: App, model: str) -> None:
    try:
        freed_bytes = app.connect().clear_prompts(model)
    except ServerRefused:
        freed_bytes = _here(app).clear(ModelName.parse(model).display if model else None)
    app.terminal.out(f"freed {human_bytes(freed_bytes)}\n")


def _saved(app: App) -> list[SavedPrompt]:
    try:
        return app.connect().saved_prompts()
    except ServerRefused:
        return [
            SavedPrompt(each.model, each.tokens, each.size_bytes, datetime.fromtimestamp(each.used_ns / 1e9, UTC))
            for each in _here(app).entries()
        ]


def _here(app: App) -> Prefixes:
    """Without a server, the cache of this user's models folder."""
    from ..config import Settings

    return Prefixes(Settings.from_env(app.env).models)
