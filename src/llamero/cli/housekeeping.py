"""`du`, `prune`, `doctor`, `mv` and `rm`: the models folder kept tidy (cli §3.11, §3.16, §13 G-07)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ..client import Client
from ..errors import NotFound, ServerAnswered, ServerRefused
from ..messages import Found, Progress
from ..sizes import human_bytes
from .app import App
from .findings import Findings
from .format import table
from .progress import steps

_WILD = frozenset("*?[")


def disk_usage(app: App) -> None:
    usage = app.connect().usage()
    rows = [
        (each.name, human_bytes(each.size_bytes), human_bytes(each.own_bytes), _shortened(each.shared_with))
        for each in usage.models
    ]
    for line in table(rows, ("NAME", "SIZE", "OWN", "SHARED WITH")):
        app.terminal.out(f"{line}\n")
    app.terminal.out(
        f"all models {human_bytes(usage.models_bytes)}, on disk {human_bytes(usage.disk_bytes)}, "
        f"saved by sharing {human_bytes(usage.saved_bytes)}, unused files {human_bytes(usage.unused_bytes)}\n"
    )


def _shortened(names: Sequence[str]) -> str:
    """The first of them: the others are in lines of their own, as they share the same."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "-"


def prune(app: App, *, dry_run: bool, downloads: bool) -> None:
    files, freed_bytes = app.connect().prune(dry_run=dry_run, downloads=downloads)
    if not files:
        app.terminal.out("nothing to remove: what no model uses goes when it is an hour old\n")
        return
    for name in files:
        app.terminal.out(f"{name}\n")
    verb = "would be freed" if dry_run else "freed"
    app.terminal.out(f"{_count(files, 'file')}, {human_bytes(freed_bytes)} {verb}\n")


def examine_store(app: App, *, repair: bool, as_json: bool, quiet: bool) -> None:
    """Through the server, or without one directly: a store is examined also when its server does not start."""
    findings = Findings(app.terminal)
    with steps(app.terminal, quiet=quiet, erase=True) as display:
        findings.follow(_examination(app, repair=repair), display)
    findings.show(as_json=as_json)
    findings.raise_failures()


def _examination(app: App, *, repair: bool) -> Iterable[Progress]:
    try:
        client = app.connect()
    except ServerRefused:
        if repair:
            raise
        return _examine_here(app)
    return client.doctor(repair=repair)


def _examine_here(app: App) -> Iterable[Progress]:
    from ..config import Settings
    from ..store import Store

    store = Store(Settings.from_env(app.env).models)
    yield Progress(f"no server answers, examining {store.root}")
    for found in store.check():
        yield Found(found.text, subject=found.subject, level=found.level, advice=found.advice)


def move_model(app: App, source: str, destination: str) -> None:
    name = app.connect().move(source, destination)
    app.terminal.out(f"moved '{source}' to '{name}'\n")


def remove_models(app: App, patterns: Sequence[str], *, dry_run: bool, ask: bool) -> None:
    """Each is unloaded first, so that its memory goes with it. The first failure ends it; earlier ones stay removed.

    With `ask` or `dry_run` what would be freed is shown before.
    """
    client = app.connect()
    names = _expanded(client, patterns)
    if dry_run or ask:
        _preview(app, client, names)
    if dry_run or (ask and not _confirmed(app, names)):
        return
    for name in names:
        _unload(app, client, name)
        client.delete(name)
        app.terminal.out(f"deleted '{name}'\n")


def _expanded(client: Client, patterns: Sequence[str]) -> list[str]:
    """Names as they were given, and in the place of a pattern the models that it matches in any case."""
    if not any(_WILD & set(pattern) for pattern in patterns):
        return list(patterns)
    present = [model.name for model in client.tags()]
    names: list[str] = []
    for pattern in patterns:
        if not _WILD & set(pattern):
            names.append(pattern)
            continue
        found = [name for name in present if fnmatchcase(name.lower(), pattern.lower())]
        if not found:
            raise NotFound(f"no model matches '{pattern}'")
        names += found
    return list(dict.fromkeys(names))


def _preview(app: App, client: Client, names: Sequence[str]) -> None:
    usage = client.usage(names)
    rows = [(each.name, human_bytes(each.size_bytes), human_bytes(each.own_bytes)) for each in usage.without]
    for line in table(rows, ("NAME", "SIZE", "OWN")):
        app.terminal.out(f"{line}\n")
    app.terminal.out(f"{_count(names, 'model')}, {human_bytes(usage.freed_bytes)} would be freed\n")


def _confirmed(app: App, names: Sequence[str]) -> bool:
    app.terminal.err(f"Remove {'it' if len(names) == 1 else 'them'}? [y/N] ")
    answer = app.terminal.stdin.readline()
    if not answer.endswith("\n"):
        app.terminal.err("\n")  # the input ended, the line has not
    return answer.strip().lower() in ("y", "yes")


def _unload(app: App, client: Client, name: str) -> None:
    try:
        client.show(name)
        client.unload(name)
    except ServerAnswered as error:
        if error.status != NotFound.status:
            app.warn(f"unable to stop model '{name}'")


def _count(items: Sequence[str], noun: str) -> str:
    return f"1 {noun}" if len(items) == 1 else f"{len(items)} {noun}s"
