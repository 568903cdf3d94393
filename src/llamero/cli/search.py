"""`search`: models of a catalogue, by the names that `pull` and `run` take (cli §3.16). No server is needed."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ..config import Settings
from ..errors import BadRequest
from ..gguf import human_count
from ..registry.catalogue import MOST_ROWS, Listed
from ..registry.catalogue import search as ask
from ..registry.network import Network
from ..registry.thread import run
from .app import App
from .format import printable, relative_time, table
from .progress import waiting


def search(app: App, text: str, *, index: str, limit: int, as_json: bool) -> None:
    if not 1 <= limit <= MOST_ROWS:
        raise BadRequest(f"--limit must be from 1 to {MOST_ROWS}")
    if index and not index.lower().startswith(("http://", "https://")):
        raise BadRequest("--index takes the address of a catalogue: https://host")
    settings = Settings.from_env(app.env)
    network = Network(settings.home, settings.registry_env, settings.allow_private_registries)
    with waiting(app.terminal, why=lambda: "searching"):
        found = run(ask(network, text, index=index, most=limit), cancelled=lambda: False)
    if as_json:
        app.terminal.out(json.dumps([_record(each) for each in found], ensure_ascii=False) + "\n")
        return
    now = datetime.now(UTC)
    rows = [
        (
            each.name,
            human_count(each.downloads),
            human_count(each.likes),
            relative_time(each.updated_at, now) if each.updated_at else "-",
            "gated" if each.is_gated else "open",
        )
        for each in found
    ]
    for line in table(rows, ("NAME", "DOWNLOADS", "LIKES", "UPDATED", "ACCESS")):
        app.terminal.out(f"{line}\n")
    if not found:
        app.terminal.err(f"nothing found for {printable(text)!r}\n")


def _record(found: Listed) -> dict[str, str | int | bool | None]:
    return {
        "name": found.name,
        "downloads": found.downloads,
        "likes": found.likes,
        "updated_at": found.updated_at.isoformat() if found.updated_at else None,
        "gated": found.is_gated,
    }
