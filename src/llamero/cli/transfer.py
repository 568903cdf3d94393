"""`pull`, `push` and `update`: models between this machine and registries (cli §3.6, §3.7, §3.16)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..client import Client
from ..errors import BadRequest, LlameroError, ServerAnswered
from ..messages import Progress
from ..names import DEFAULT_HOST, DEFAULT_TAG, ModelName
from ..sizes import human_bytes
from .account import PUSH_NEEDS_SIGN_IN, show_sign_in
from .app import App
from .findings import Findings
from .format import table
from .progress import short_digest, steps

NOT_YOURS = "you are not authorized to push to this namespace, create the model under a namespace you own"
_REFUSALS = ("access denied", "unauthorized")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullFlags:
    insecure: bool = False
    as_: str = ""
    dry_run: bool = False
    limit_rate: str = ""
    from_peer: str = ""
    starter: bool = False
    quiet: bool = False
    json: bool = False


def pull_models(app: App, names: Sequence[str], flags: PullFlags) -> None:
    """One after another; the first failure ends it, what has arrived stays."""
    if flags.as_ and len(names) > 1:
        raise BadRequest("--as names one model, and several are to be pulled")
    client = app.connect()
    for name in names:
        lines = client.pull(
            name,
            insecure=flags.insecure,
            as_=flags.as_,
            dry_run=flags.dry_run,
            limit_rate=flags.limit_rate,
            from_peer=flags.from_peer,
            starter=flags.starter,
        )
        if flags.json:
            _print(app, lines)
        elif flags.dry_run:
            _preview(app, lines)
        else:
            with steps(app.terminal, quiet=flags.quiet) as display:
                display.follow_pull(lines)


def _print(app: App, lines: Iterable[Progress]) -> None:
    for line in lines:
        fields = {"digest": line.digest, "total": line.total_bytes, "completed": line.completed_bytes}
        app.terminal.out(json.dumps({"status": line.status} | {key: value for key, value in fields.items() if value}))
        app.terminal.out("\n")


def _preview(app: App, lines: Iterable[Progress]) -> None:
    """The layers of a model, and what a pull would fetch (cli G-32)."""
    layers = {line.digest: line for line in lines if line.digest}
    missing = {digest for digest, line in layers.items() if line.completed_bytes < line.total_bytes}
    rows = [
        (short_digest(digest), human_bytes(line.total_bytes), "to fetch" if digest in missing else "here")
        for digest, line in layers.items()
    ]
    for row in table(rows, ("LAYER", "SIZE", "STATE")):
        app.terminal.out(f"{row}\n")
    total_bytes = sum(line.total_bytes for line in layers.values())
    missing_bytes = sum(layers[digest].total_bytes for digest in missing)
    app.terminal.out(f"{human_bytes(missing_bytes)} of {human_bytes(total_bytes)} would be fetched\n")


def push_models(app: App, names: Sequence[str], *, insecure: bool, limit_rate: str, quiet: bool) -> None:
    """One after another; the first failure ends it, what has been sent stays."""
    client = app.connect()
    for name in names:
        _push(app, client, name, insecure=insecure, limit_rate=limit_rate, quiet=quiet)


def _push(app: App, client: Client, name: str, *, insecure: bool, limit_rate: str, quiet: bool) -> None:
    try:
        with steps(app.terminal, quiet=quiet) as display:
            display.follow_create(client.push(name, insecure=insecure, limit_rate=limit_rate))
    except ServerAnswered as error:
        # a 401 is our own server's, which wants a key of its own
        if error.status != 401 and any(word in str(error).lower() for word in _REFUSALS):
            if _is_at_ollama(name):
                show_sign_in(app, client, PUSH_NEEDS_SIGN_IN)
            raise LlameroError(NOT_YOURS) from error
        raise
    app.terminal.out(f"\nYou can find your model at:\n\n\t{_address(name)}\n")


def _is_at_ollama(text: str) -> bool:
    """Whether the name's registry takes pushes from keys that an account of ollama.com knows."""
    host = ModelName.parse(text).host.lower()
    return any(host == domain or host.endswith(f".{domain}") for domain in ("ollama.ai", "ollama.com"))


def _address(text: str) -> str:
    """Where a pushed model is: its page, or at another registry its name."""
    name = ModelName.parse(text)
    if name.host.lower() != DEFAULT_HOST:
        return name.full
    tag = "" if name.tag == DEFAULT_TAG else f":{name.tag}"
    return f"https://ollama.com/{name.namespace}/{name.model}{tag}"


def update_models(app: App, names: Sequence[str], *, only_check: bool, quiet: bool) -> None:
    """All models without names. What cannot be updated is said, and makes the whole a failure at its end."""
    client = app.connect()
    findings = Findings(app.terminal)
    with steps(app.terminal, quiet=quiet, erase=True) as display:
        findings.follow(client.update(names, only_check=only_check), display)
    findings.show()
    if findings.failed:
        raise LlameroError(f"{findings.failed} of {len(findings)} models could not be updated")
