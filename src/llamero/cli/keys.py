"""`key new`, `key list` and `key revoke`: the API keys of the server (security §6.1).

The server is asked, since it is the one that has to know; while none runs on this machine, the file is changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import ZERO_TIME, ApiKey
from ..errors import BadRequest, ServerRefused
from .app import App
from .format import relative_time, table

if TYPE_CHECKING:
    from ..server.keys import Key

NO_ADMIN = "the file has no admin key: with it a server can be used, but its models cannot be managed"
NO_KEY = (
    "the file lists no key: a server that finds none in OLLAMA_API_KEY either serves nobody. Make one (ollama key new "
    "NAME --role admin), or remove the file to serve without keys"
)
NO_FILE = "there is no such file: a server that finds no key in OLLAMA_API_KEY either serves whoever may connect"

USAGE = "say `ollama key new NAME`, `ollama key list` or `ollama key revoke NAME`"


@dataclass(frozen=True, slots=True)
class NewKey:
    """What the flags say of a new key."""

    role: str = ""
    models: str = ""
    expires: str = ""
    rate: str = ""

    @property
    def is_plain(self) -> bool:
        return not any(asdict(self).values())

    def fields(self, name: str) -> dict[str, Any]:
        """The body of the request for it; what nobody said is left to the server."""
        models = [model.strip() for model in self.models.split(",") if model.strip()]
        fields = {"role": self.role, "models": models, "expires": self.expires, "rate": self.rate}
        return {"name": name} | {field: value for field, value in fields.items() if value}


def key(app: App, words: Sequence[str], wanted: NewKey, *, as_json: bool) -> None:
    match words:
        case ["new", name] if not as_json:
            _new(app, name, wanted)
        case ["list"] if wanted.is_plain:
            _list(app, as_json=as_json)
        case ["revoke", name] if wanted.is_plain and not as_json:
            _revoke(app, name)
        case ["list" | "revoke" | "new", *_] if not wanted.is_plain or as_json:
            raise BadRequest("--role, --models, --expires and --rate go with `key new NAME`, --json with `key list`")
        case _:
            raise BadRequest(USAGE)


def _new(app: App, name: str, wanted: NewKey) -> None:
    """The secret is all that goes to stdout, so that a script can take it."""
    fields = wanted.fields(name)
    try:
        made = app.connect().new_api_key(fields)
    except ServerRefused as error:
        made = _add_to_file(app, error, fields)
    limits = [f"for {', '.join(made.models)} only"] if made.models else []
    if made.expires_at != ZERO_TIME:
        limits.append(f"until {made.expires_at:%Y-%m-%d %H:%M} UTC")
    limits += [f"at most {made.rate}"] if made.rate else []
    what = ", ".join((f"{made.role} key {made.name}", *limits))
    app.terminal.err(f"{what}. Keep the secret: it is not shown again. Clients send it as OLLAMA_API_KEY.\n")
    app.terminal.out(f"{made.secret}\n")


def _list(app: App, *, as_json: bool) -> None:
    try:
        keys = app.connect().api_keys()
    except ServerRefused as error:
        path = _file(app, error)
        keys = _in_file(path)
        if not keys:
            app.warn(NO_KEY if path.exists() else NO_FILE)
    if as_json:
        app.terminal.out(json.dumps({"keys": [_as_json(each) for each in keys]}, indent=2) + "\n")
        return
    now = datetime.now(UTC)
    rows = [
        (
            each.name,
            each.role,
            ", ".join(each.models) or "all",
            "expired" if each.is_expired else relative_time(each.expires_at, now, "never"),
            each.rate or "-",
            each.source,
        )
        for each in keys
    ]
    for line in table(rows, ("NAME", "ROLE", "MODELS", "EXPIRES", "RATE", "SOURCE")):
        app.terminal.out(f"{line}\n")


def _revoke(app: App, name: str) -> None:
    try:
        app.connect().revoke_api_key(name)
    except ServerRefused as error:
        from ..server import key_file

        path = _file(app, error)
        key_file.remove(path, name)
        _warn_of(app, path)
    app.terminal.out(f"revoked {name}\n")


def _as_json(key: ApiKey) -> dict[str, Any]:
    fields = key._asdict() | {"expires_at": key.expires_at.isoformat() if key.expires_at != ZERO_TIME else None}
    del fields["secret"]
    return fields


# --- without a server ----------------------------------------------------------------------------------------------


def _file(app: App, refused: ServerRefused) -> Path:
    """The key file of the server that would run here. `refused` again when it would run on another machine."""
    from ..config import Settings

    if not (app.settings.host.is_loopback or app.settings.host.scheme == "unix"):
        raise refused
    settings = Settings.from_env(app.env)
    path = settings.keys_file or settings.home / "llamero" / "keys"
    app.terminal.err(f"No server runs: it is the file {path}; one that listens elsewhere reads it again on SIGHUP.\n")
    return path


def _in_file(path: Path) -> list[ApiKey]:
    from ..server import key_file

    return [_shown(each) for each in key_file.listed(path)]


def _add_to_file(app: App, refused: ServerRefused, fields: dict[str, Any]) -> ApiKey:
    from ..server import key_file

    path, now_s = _file(app, refused), datetime.now(UTC).timestamp()
    made, secret = key_file.make_key(**{"role": "infer"} | fields, now_s=now_s)
    key_file.add(path, made)
    _warn_of(app, path)
    return _shown(made)._replace(secret=secret)


def _warn_of(app: App, path: Path) -> None:
    """Say what a change has left."""
    kept = _in_file(path)
    if not any(each.role == "admin" for each in kept):
        app.warn(NO_ADMIN if kept else NO_KEY)


def _shown(key: Key) -> ApiKey:
    now_s, ends_at_s = datetime.now(UTC).timestamp(), key.expires_at_s
    return ApiKey(
        name=key.name,
        role=key.role,
        models=key.models,
        expires_at=ZERO_TIME if ends_at_s is None else datetime.fromtimestamp(ends_at_s, UTC),
        is_expired=key.is_expired(now_s),
        rate=str(key.rate or ""),
        source="file",
    )
