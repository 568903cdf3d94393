"""`fit`: whether and how fast a model would run, in each quantization, before it is fetched (cli §3.16).

A name is the server's to look up, which knows its machine, its models and its registries. A file is looked at here.
"""

from __future__ import annotations

import asyncio
import mmap
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from ..errors import ClientError, InvalidModelFile, StorageError
from ..scheduler.fit import Report, Row
from ..sizes import human_bytes
from .app import App
from .format import table
from .progress import waiting

GUESS = "~"
"""Before every figure that is not known."""
MARKS = {"measured": "", "scaled": GUESS, "bandwidth": "<"}
"""Before a speed, by what it rests on."""


def show_fit(app: App, text: str, *, insecure: bool, as_json: bool) -> None:
    path = Path(text).expanduser()
    if path.is_file():
        report = _of_file(app, path)
    else:
        client = app.connect()
        with waiting(app.terminal, why=lambda: "looking at the model"):
            report = _read(client.fit(text, insecure=insecure))
    if as_json:
        app.terminal.out(msgspec.json.encode(report).decode() + "\n")
        return
    rows = [_cells(row) for row in report.rows]
    for line in table(rows, ("QUANT", "SIZE", "MEMORY", "FITS", "TOKENS/S")):
        app.terminal.out(f"{line}\n")
    for line in notes(report):
        app.terminal.err(f"{line}\n")


def _read(body: bytes) -> Report:
    try:
        return msgspec.json.decode(body, type=Report)
    except msgspec.MsgspecError as error:
        raise ClientError(f"the server's reply is none of ours: {error}") from error


def _cells(row: Row) -> tuple[str, ...]:
    size = human_bytes(row.size)
    return (
        row.quant,
        GUESS + size if row.is_computed else size,
        GUESS + human_bytes(row.memory),
        row.fits,
        _speed(row),
    )


def _speed(row: Row) -> str:
    if not row.basis:
        return "-"
    number = f"{row.tokens_per_s:.0f}" if row.tokens_per_s >= 10 else f"{row.tokens_per_s:.1f}"
    return MARKS[row.basis] + number


def notes(report: Report) -> list[str]:
    """What the figures rest on, and what is a guess."""
    where = "of GPU memory" if report.has_gpu else "of memory"
    lines = [f"for a context of {report.context} tokens; {human_bytes(report.free)} {where} can be had"]
    if any(row.is_computed for row in report.rows):
        lines.append(f"{GUESS}sizes are computed: nobody is known to offer these, or they have not been looked for")
    bases = {row.basis for row in report.rows}
    if "measured" in bases:
        lines.append("speeds without a mark were measured here")
    if "scaled" in bases:
        lines.append(f"{GUESS}speeds are guessed from the answers of models that have run here")
    elif "bandwidth" in bases:
        rate = human_bytes(report.bandwidth)
        lines.append(
            f"speeds behind < are the most that memory allows, which is read at {rate}/s: most answers are slower"
        )
    elif not bases - {""} and any(row.fits == "yes" for row in report.rows):
        lines.append("how fast it would be, nobody knows here before a model has answered")
    return lines


def _of_file(app: App, path: Path) -> Report:
    from .. import gguf
    from ..config import Settings
    from ..engines.bandwidth import measure_bandwidth
    from ..engines.devices import GpuRules, physical_cores, probe_gpus, read_memory
    from ..options import merge_options
    from ..scheduler import fit, placement
    from ..scheduler.facts import facts_of_header
    from ..scheduler.plan import Defaults, Machine
    from ..scheduler.shape import shape_of
    from ..scheduler.speeds import Speeds

    settings = Settings.from_env(app.env)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            header = gguf.read_header(buffer)
            gguf.check_model(header, buffer)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    except ValueError:  # an empty file cannot be mapped
        raise InvalidModelFile("the file is empty") from None
    memory = read_memory()
    rules = GpuRules.of(settings)
    gpus = asyncio.run(probe_gpus(settings.engine_env, settings.llama_server, rules))
    machine = Machine(
        ram_available_bytes=memory.available_bytes,
        ram_total_bytes=memory.total_bytes,
        cores=physical_cores(),
        gpus=placement.available(
            gpus, {}, overhead_bytes=rules.overhead_bytes, ram_available_bytes=memory.available_bytes
        ),
        system=sys.platform,
    )
    bandwidth = 0.0 if machine.has_gpu else measure_bandwidth(machine.cores, machine.ram_available_bytes)
    own = fit.Offer(level=fit.level(header), header=header, size_bytes=header.size_bytes, name=str(path))
    facts = replace(facts_of_header(header, shape_of(header)), has_vision=header.has("vision.block_count"))
    verdicts = fit.judge(fit.offers(own), facts, merge_options(), machine, Defaults.of(settings), Speeds(), bandwidth)
    return fit.report(str(path), "file", verdicts, machine, bandwidth)
