"""`engine`: which program computes, why, and how to have a faster one (cli §3.16).

It works on the engines of whoever runs it; a server of the same user takes up a change with the next model it loads.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from .. import child
from ..config import Settings
from ..durations import SECOND
from ..engines.llamacpp import LlamaCppSettings
from ..engines.native import Chosen, NativeEngines, Record, wheel_version
from ..engines.serving import Serving
from ..errors import BadRequest
from .app import App
from .format import relative_time, table
from .progress import Display, steps

USAGE = "say `ollama engine`, `engine build`, `engine use wheel|native|PATH` or `engine remove NAME`"
ASK_TIMEOUT_S = 10.0
"""For what a program says of itself."""


@dataclass(frozen=True, slots=True)
class BuildFlags:
    gpu: str
    without: tuple[str, ...]
    jobs: int
    quiet: bool


def engine(app: App, words: Sequence[str], flags: BuildFlags, *, as_json: bool) -> None:
    settings = Settings.from_env(app.env)
    natives = NativeEngines(settings.home)
    match words:
        case []:
            show(app, settings, natives, as_json=as_json)
        case ["build"]:
            build(app, settings, natives, flags)
        case ["use", which]:
            use(app, natives, which)
        case ["remove", *names] if names:
            remove(app, natives, names)
        case _:
            raise BadRequest(USAGE)


# --- which one serves ------------------------------------------------------------------------------------------------


def show(app: App, settings: Settings, natives: NativeEngines, *, as_json: bool) -> None:
    serving = Serving(LlamaCppSettings(env=settings.engine_env, program=settings.llama_server), natives)
    chosen = serving.chosen()
    installed = natives.installed()
    if as_json:
        app.terminal.out(json.dumps(_as_json(chosen, installed), indent=2) + "\n")
        return
    for name, value in _about(app, settings, chosen):
        app.terminal.out(f"{name:<11}{value}\n")
    if installed:
        app.terminal.out("\n")
        _list(app, chosen, installed)
    elif chosen.kind == "wheel":
        app.terminal.out("\n`ollama engine build` compiles one for this processor and uses it if it is faster.\n")


def _about(app: App, settings: Settings, chosen: Chosen) -> Iterator[tuple[str, str]]:
    match chosen:
        case Chosen(kind="native", record=Record() as record):
            yield "engine", f"native {record.name}"
            yield "build", f"{record.source}, {record.compiler}, {_when(record)}"
            yield "features", ", ".join(record.features)
        case Chosen(kind="program"):
            yield "engine", chosen.program
            for line in _says(app, settings, [chosen.program, "--version"])[:2]:
                yield "build", line
        case _:
            yield "engine", f"wheel xllamacpp {wheel_version()}"
            yield "features", _wheel_features(settings)
    yield "why", chosen.why


def _list(app: App, chosen: Chosen, installed: Sequence[Record]) -> None:
    rows = [
        (
            record.name,
            f"{record.decode_ratio:.2f}x",
            f"{record.prefill_ratio:.2f}x",
            record.measured_on,
            _when(record),
            _state(record, chosen),
        )
        for record in installed
    ]
    for line in table(rows, ("NATIVE ENGINE", "DECODE", "PREFILL", "MEASURED ON", "BUILT", "STATE")):
        app.terminal.out(f"{line}\n")


def _state(record: Record, chosen: Chosen) -> str:
    if record.version != wheel_version():
        return "outdated"
    if chosen.record is not None and chosen.record.name == record.name:
        return "used"
    return "unused" if record.is_faster else "slower"


def _when(record: Record) -> str:
    built = datetime.fromtimestamp(record.built_at_ns / SECOND, UTC)
    return f"built {relative_time(built, datetime.now(UTC))}"


def _as_json(chosen: Chosen, installed: Sequence[Record]) -> dict[str, Any]:
    import msgspec

    return {
        "used": {
            "kind": chosen.kind,
            "name": chosen.record.name if chosen.record else chosen.program or "xllamacpp",
            "version": wheel_version() if chosen.kind == "wheel" else chosen.record.version if chosen.record else "",
            "why": chosen.why,
        },
        "native": [msgspec.to_builtins(record) for record in installed],
    }


def _wheel_features(settings: Settings) -> str:
    import asyncio

    from ..engines.devices import probe_features

    return ", ".join(sorted(asyncio.run(probe_features(settings.engine_env))))


def _says(app: App, settings: Settings, argv: Sequence[str]) -> list[str]:
    """What a program prints about itself; a program that fails at that says nothing."""
    lines: list[str] = []
    try:
        child.run(
            argv,
            cwd=Path(os.path.abspath(os.sep)),
            env=settings.engine_env,
            on_line=lines.append,
            cancelled=lambda: False,
            timeout_s=ASK_TIMEOUT_S,
        )
    except child.ChildFailed as error:
        app.warn(f"{os.path.basename(argv[0])} does not say what it is: {error}")
        return []
    return [line.strip() for line in lines if line.strip()]


# --- changing that ---------------------------------------------------------------------------------------------------


def build(app: App, settings: Settings, natives: NativeEngines, flags: BuildFlags) -> None:
    from ..build.engine import Order
    from ..build.engine import build as build_engine
    from ..store import Store

    with steps(app.terminal, quiet=flags.quiet) as display, _stopped_politely():
        record = build_engine(
            Order(
                natives=natives,
                store=Store(settings.models, no_prune=True),
                env=app.env,
                engine_env=settings.engine_env,
                report=_Reporter(display, draws=app.terminal.stderr_draws and not flags.quiet),
                gpu=flags.gpu or "auto",
                without=flags.without,
                jobs=flags.jobs,
            )
        )
    out = app.terminal.out
    out(f"{record.name}: decodes {record.decode_ratio:.2f} times and prefills {record.prefill_ratio:.2f} times ")
    out(f"as fast as the wheel ({record.measured_on})\n")
    if record.is_faster:
        out("it is used from the next model on that is loaded\n")
    else:
        out("that is no gain, so it is not used; `ollama engine use native` uses it all the same\n")
    if settings.llama_server:
        app.warn("LLAMERO_LLAMA_SERVER is set here: a server that has it uses that program instead")


class _Reporter:
    """Steps of a build on a display; where nothing is drawn, a line for every tenth."""

    def __init__(self, display: Display, *, draws: bool) -> None:
        self._display = display
        self._draws = draws

    def __call__(self, step: str, done: int, total: int) -> None:
        if not total:
            self._display.status(step)
        elif self._draws:
            self._display.copying(step, done, total)
        elif tenth := 10 * done // total:
            self._display.status(f"{step}: {tenth * 10}%")


@contextmanager
def _stopped_politely() -> Iterator[None]:
    """A signal that ends us ends the compilers first, as Ctrl+C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def use(app: App, natives: NativeEngines, which: str) -> None:
    """`wheel`, `native` (the newest that fits the wheel), a part of a name, or the path of a llama-server."""
    if which == "wheel":
        engine, what = "wheel", "the wheel"
    elif os.sep in which:
        path = os.path.abspath(os.path.expanduser(which))
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            raise BadRequest(f"{path} is no program that can be run")
        engine = what = path
    else:
        engine = what = _native(natives, which).name
    natives.choose(engine, "chosen with `ollama engine use`")
    app.terminal.out(f"{what} is used from the next model on that is loaded\n")


def _native(natives: NativeEngines, which: str) -> Record:
    if which != "native":
        record = natives.find(which)
        if record.version != wheel_version():
            raise BadRequest(f"{record.name} is of another version than the wheel: run `ollama engine build`")
        return record
    fitting = [record for record in natives.installed() if record.version == wheel_version()]
    if not fitting:
        raise BadRequest(f"there is no native engine for xllamacpp {wheel_version()}: run `ollama engine build`")
    return fitting[0]


def remove(app: App, natives: NativeEngines, names: Sequence[str]) -> None:
    records = [natives.find(name) for name in names]
    used = natives.chosen().record
    if used is not None and used.name in {record.name for record in records}:
        natives.choose("wheel", f"{used.name} was removed")
    for record in records:
        natives.remove([record.name])
        app.terminal.out(f"removed {record.name}\n")
