"""The commands that look at models and copy them: list, ps, show, stop, cp (cli §3.3, §3.5, §3.8 to §3.10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..client import ZERO_TIME, ListedModel, Running, RunningModel
from ..durations import SECOND, format_duration
from ..errors import BadRequest, NotFound, ServerAnswered
from ..sizes import human_bytes
from .app import App
from .format import printable, relative_time, table
from .progress import waiting

ID_DIGITS = 12


_ORDER: Mapping[str, Callable[[ListedModel], Any]] = {
    "name": lambda model: model.name.lower(),
    "size": lambda model: -model.size_bytes,
    "modified": lambda model: -model.modified_at.timestamp(),
}


def list_models(app: App, prefix: str, *, as_json: bool, sort: str = "", wide: bool = False) -> None:
    """In the server's order, newest first, unless told another. `wide` adds columns at the right (cli G-04)."""
    client = app.connect()
    if as_json:
        _print_body(app, client.call("GET", "/api/tags"))
        return
    if sort and sort not in _ORDER:
        raise BadRequest(f"--sort must be one of {', '.join(_ORDER)}")
    models = client.tags()
    if sort:
        models.sort(key=_ORDER[sort])
    now = datetime.now(UTC)
    rows = [
        (
            model.name,
            model.digest[:ID_DIGITS],
            "-" if model.is_remote else human_bytes(model.size_bytes),
            relative_time(model.modified_at, now),
            *(_details(model) if wide else ()),
        )
        for model in models
        if model.name.lower().startswith(prefix.lower())
    ]
    _print_table(app, rows, ("NAME", "ID", "SIZE", "MODIFIED", *(DETAILS if wide else ())))


DETAILS = ("PARAMETERS", "QUANT", "FAMILY", "CONTEXT", "CAPABILITIES")


def _details(model: ListedModel) -> tuple[str, ...]:
    """The cells of `--wide`. A server that does not tell them leaves them empty; no cell is ever broken into lines."""
    known = ("parameter_size", "quantization_level", "family", "context_length")
    return (*(_word(model.details.get(name)) for name in known), ",".join(model.capabilities))


def _word(value: Any) -> str:
    return "-".join(str(value or "").split())


def list_running(app: App, prefix: str, *, as_json: bool, wide: bool = False) -> None:
    client = app.connect()
    if as_json:
        _print_body(app, client.call("GET", "/api/ps"))
        return
    now = datetime.now(UTC)
    running = client.ps()
    rows = [
        (
            model.name,
            model.digest[:ID_DIGITS],
            human_bytes(model.size_bytes),
            processor(model),
            str(model.context_tokens),
            until(model.expires_at, now),
            *(_running_details(model) if wide else ()),
        )
        for model in running.models
        if model.name.startswith(prefix)
    ]
    _print_table(app, rows, ("NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL", *(RUNNING_DETAILS if wide else ())))
    for line in not_yet_running(running, prefix):
        app.terminal.err(f"{printable(line)}\n")


RUNNING_DETAILS = ("USED", "ON GPU", "PARAMETERS", "QUANT")


def _running_details(model: RunningModel) -> tuple[str, ...]:
    """USED is how much of the context the last conversation took (cli G-22); unknown before the first answer."""
    has_used = model.used_tokens and model.context_tokens
    return (
        f"{100 * model.used_tokens // model.context_tokens}%" if has_used else "-",
        human_bytes(model.size_vram_bytes),
        _word(model.details.get("parameter_size")),
        _word(model.details.get("quantization_level")),
    )


def not_yet_running(running: Running, prefix: str) -> Iterator[str]:
    """What is on its way into that table. It is told beside it, because scripts cut the table into columns."""
    for loading in running.loading:
        if loading.name.startswith(prefix):
            yield f"loading {loading.name}: {loading.progress:.0%}"
    for queued in running.queue:
        if queued.model.startswith(prefix):
            waited = format_duration(queued.waiting_ms // 1000 * SECOND)
            yield f"waiting for {queued.model}: position {queued.position} for {waited}"


def processor(model: RunningModel) -> str:
    """Where the model's memory is, in whole percent of CPU and GPU."""
    size, vram = model.size_bytes, model.size_vram_bytes
    if vram == 0:
        return "100% CPU"
    if vram == size:
        return "100% GPU"
    if vram > size or size == 0:
        return "Unknown"
    cpu = int(100 * (size - vram) / size + 0.5)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"


def until(expires_at: datetime, now: datetime) -> str:
    if ZERO_TIME < expires_at < now:
        return "Stopping..."
    return relative_time(expires_at, now)


TEXTS = ("license", "modelfile", "parameters", "system", "template")


def show_model(app: App, name: str, wanted: Sequence[str], *, verbose: bool, as_json: bool) -> None:
    """`wanted` are the flags given out of TEXTS: with one of them only that text is printed."""
    client = app.connect()
    if len(wanted) > 1:
        raise BadRequest(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
        )
    if as_json:
        body = {"model": name} | ({"verbose": True} if verbose else {})
        _print_body(app, client.call("POST", "/api/show", body))
        return
    model = client.show(name, verbose=verbose)
    if wanted:
        # these two are made to be piped into a file that is compared or fed back
        end = "" if wanted[0] in ("system", "template") else "\n"
        app.terminal.out(app.terminal.safe(getattr(model, wanted[0])) + end)
        return
    from .show import refuse_image_model, sections

    refuse_image_model(model)
    app.terminal.out(sections(model, verbose=verbose))


def stop_models(app: App, names: Sequence[str]) -> None:
    """One after another; the first that is not there ends it."""
    client = app.connect()
    for name in names:
        try:
            with waiting(app.terminal):
                client.show(name)
                client.unload(name)
        except ServerAnswered as error:
            if error.status == NotFound.status:
                raise NotFound(f'couldn\'t find model "{name}" to stop') from error
            raise


def stop_all(app: App) -> None:
    """Whatever runs now (cli G-07)."""
    client = app.connect()
    with waiting(app.terminal):
        for model in client.ps().models:
            client.unload(model.name)


def copy_model(app: App, source: str, destination: str) -> None:
    app.connect().copy(source, destination)
    app.terminal.out(f"copied '{source}' to '{destination}'\n")


def _print_table(app: App, rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    app.terminal.out("".join(f"{line}\n" for line in table(rows, header)))


def _print_body(app: App, body: bytes) -> None:
    app.terminal.out(body.decode(errors="replace") + "\n")
