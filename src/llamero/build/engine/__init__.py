"""A native engine: llama.cpp's server compiled for this very machine, proven in a child, measured beside the wheel.

    toolchain   which tools are there, and what to install for those that are not
    features    what this processor really does: each candidate compiled and run
    sources     the wheel's own sources, from the package index
    compiling   cargo and cmake at work
    proof       does it run, does it compute the same, is it faster
    trial       the model that it is tried on

What is made lies in a scratch folder until it has proven itself, and gets its name in one step. Which engine serves is
`engines.native`'s to know. Source: DESIGN §3, issue "Fast, and fair under load", 6.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ... import child
from ...engines.devices import physical_cores, read_memory
from ...engines.native import LOG, PROGRAM, RECORD, NativeEngines, Record, wheel_version
from ...errors import Busy, Cancelled, DiskFull
from ...registry import thread
from ...registry.packages import PackageIndex
from ...sizes import human_bytes
from ...store import Store, files
from ...store.locks import FileLock
from ...store.staging import Staging
from . import features, proof, sources, toolchain, trial
from .compiling import SPACE_BYTES, BuildFailed, Compilers, Report
from .features import Found
from .proof import Measured, Unfit
from .sources import Sources
from .toolchain import Gpu, Toolchain

VERSION_TIMEOUT_S = 60.0

Judge = Callable[[Path, Path, Mapping[str, str], Report], Coroutine[Any, Any, Measured]]
"""As `proof.judge`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be built, for whom, and who wants to know of it."""

    natives: NativeEngines
    store: Store
    """Where a model to try it on may be."""
    env: Mapping[str, str]
    """The environment of whoever asked."""
    engine_env: Mapping[str, str]
    """What engines see of it."""
    report: Report
    gpu: str = "auto"
    """A kind of GPU, `auto` or `none`."""
    without: tuple[str, ...] = ()
    """Features that shall not be used."""
    jobs: int = 0
    """Compilers at a time; 0: as many as this machine has room for."""
    cancelled: Callable[[], bool] = lambda: False
    judge: Judge = proof.judge


def build(order: Order) -> Record:
    """Build an engine, prove it, measure it, and let it serve if it is faster than the wheel. Takes its time.

    One that is installed already is only proven and measured again. Must run on the main thread. Raises BadRequest for
    what is missing, RegistryError, BuildFailed, Unfit, DiskFull, Busy, Cancelled: then nothing of it is left but its
    log.
    """
    folder = order.natives.folder
    with files.translated("build the engine"), _alone(folder):
        tools = toolchain.find(order.env)
        gpu = toolchain.gpu_of(order.gpu, order.env)
        staging = Staging(folder / "building")
        with staging.folder() as scratch:
            staging.sweep()
            record = _Build(order, tools, gpu, scratch).run()
    _decide(order.natives, record)
    return record


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    if not lock.try_acquire():
        raise Busy("an engine is being built already", retry_after_s=60)
    try:
        yield
    finally:
        lock.release()


def _decide(natives: NativeEngines, record: Record) -> None:
    """The faster one serves. A slower one does not, also when it was faster the last time."""
    ratios = f"it decodes {record.decode_ratio:.2f} and prefills {record.prefill_ratio:.2f} times as fast as the wheel"
    if record.is_faster:
        natives.choose(record.name, f"{ratios} ({record.measured_on})")
    else:
        _retire(natives, record.name, f"is not faster: {ratios} ({record.measured_on})")


def _retire(natives: NativeEngines, name: str, why: str) -> None:
    """Let the wheel serve in the place of an engine, if that one does."""
    if (chosen := natives.chosen().record) is not None and chosen.name == name:
        natives.choose("wheel", f"{name} {why}")


class _Build:
    def __init__(self, order: Order, tools: Toolchain, gpu: Gpu, scratch: Path) -> None:
        self.order = order
        self.tools = tools
        self.gpu = gpu
        self.scratch = scratch
        self.env = toolchain.child_env(order.env, scratch)
        self.version = wheel_version()

    def run(self) -> Record:
        found = self._look_at_processor()
        name = "-".join(filter(None, (self.version, self.gpu, found.tag)))
        installed = self.order.natives.record(name)
        if installed is not None:
            return self._measure_again(installed)
        self._insist_space()
        with self._logged():
            new, source = self._make(found)
            record = Record(
                name=name,
                version=self.version,
                source=source.archive.title,
                source_sha256=source.archive.sha256,
                features=(*filter(None, (self.gpu,)), *found.names),
                compiler=self._compiler(),
                built_at_ns=time.time_ns(),
                measured_on="",
                decode_ratio=0.0,
                prefill_ratio=0.0,
                is_faster=False,
            )
            record = _measured(record, *self._judge(new / PROGRAM))
        shutil.copyfile(self.scratch / LOG, new / LOG)
        self._write(record, new)
        target = self.order.natives.folder / name
        shutil.rmtree(target, ignore_errors=True)  # half an engine, or there would be a record
        os.rename(new, target)
        files.sync_folder(target.parent)
        return record

    def _measure_again(self, installed: Record) -> Record:
        natives, name = self.order.natives, installed.name
        self.order.report(f"{name} is installed already", 0, 0)
        try:
            record = _measured(installed, *self._judge(natives.program(name)))
        except Unfit as exc:  # this home may have come to another processor
            _retire(natives, name, f"is of no use any more: {exc}")
            raise
        self._write(record, self.scratch)
        files.place(self.scratch / RECORD, natives.folder / name / RECORD)
        return record

    def _look_at_processor(self) -> Found:
        self.order.report("trying out what this processor does", 0, 0)
        found = features.find(
            self.tools, self.scratch, env=self.env, without=self.order.without, cancelled=self.order.cancelled
        )
        refused = f"; not: {', '.join(found.refused)}" if found.refused else ""
        self.order.report(f"it does {', '.join(found.names) or 'nothing special'}{refused}", 0, 0)
        if self.gpu:
            self.order.report(f"building for {self.gpu}, too", 0, 0)
        return found

    def _insist_space(self) -> None:
        free_bytes, needed_bytes = shutil.disk_usage(self.scratch).free, SPACE_BYTES[self.gpu]
        if free_bytes < needed_bytes:
            raise DiskFull(
                f"building an engine takes {human_bytes(needed_bytes)} of disk for a while, "
                f"and {human_bytes(free_bytes)} are free"
            )

    def _make(self, found: Found) -> tuple[Path, Sources]:
        """Fetch and compile. Returns the folder of the new engine, and what it was made of."""
        report = self.order.report
        report("looking for the sources", 0, 0)
        index = PackageIndex.of_pip(self.order.env, self.scratch, self.order.cancelled)
        source = sources.of_engine(index, self.version)
        engine = self._take(index, source)
        schemas = self._take(index, sources.of_schemas(index, engine))
        with (self.scratch / LOG).open("a", encoding="utf-8", errors="replace") as log:
            compilers = Compilers(self.tools, self.env, self._jobs(), log, report, self.order.cancelled)
            program = compilers.server(
                engine,
                compilers.schemas(schemas),
                self.scratch / "objects",
                [*found.cmake_flags, *toolchain.gpu_flags(self.gpu, self.order.env)],
            )
        new = self.scratch / "new"
        new.mkdir(files.PRIVATE_MODE)
        os.rename(program, new / PROGRAM)
        shutil.copyfile(engine / "LICENSE", new / "LICENSE")
        return new, source

    def _take(self, index: PackageIndex, source: Sources) -> Path:
        """Fetch an archive and unpack what is wanted of it."""
        name = source.archive.title
        packed, unpacked = self.scratch / "packed", self.scratch / name.removesuffix(".tar.gz")
        step = f"fetching {name}"
        self.order.report(step, 0, 0)
        index.fetch(source.archive, packed, lambda completed, total: self.order.report(step, completed, total))
        self.order.report(f"unpacking {name}", 0, 0)
        sources.unpack(packed, source, unpacked, self._check)
        packed.unlink()
        return unpacked

    def _judge(self, program: Path) -> tuple[str, Measured]:
        self.order.report("looking for a model to try it on", 0, 0)
        with trial.model(self.order.store, self.scratch) as (name, weights):
            judging = self.order.judge(program, weights, self.order.engine_env, self.order.report)
            return name, thread.run(judging, self.order.cancelled)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Keep the log of a build that fails where a person finds it, and say where."""
        try:
            yield
        except (BuildFailed, Unfit, DiskFull) as exc:
            kept = self.order.natives.folder / LOG
            try:
                shutil.copyfile(self.scratch / LOG, kept)
            except OSError:
                raise exc from exc.__cause__  # it failed before there was one, or for want of room
            raise type(exc)(f"{exc} (the compilers' log: {kept})") from exc

    def _write(self, record: Record, folder: Path) -> None:
        (folder / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")

    def _compiler(self) -> str:
        lines: list[str] = []
        child.run(
            (self.tools.cxx, "--version"),
            cwd=self.scratch,
            env=self.env,
            on_line=lines.append,
            cancelled=self.order.cancelled,
            timeout_s=VERSION_TIMEOUT_S,
        )
        return lines[0] if lines else ""

    def _jobs(self) -> int:
        return self.order.jobs or toolchain.jobs(physical_cores(), read_memory().available_bytes)

    def _check(self) -> None:
        if self.order.cancelled():
            raise Cancelled


def _measured(record: Record, model: str, measured: Measured) -> Record:
    return msgspec.structs.replace(
        record,
        measured_on=model,
        decode_ratio=round(measured.decode_ratio, 3),
        prefill_ratio=round(measured.prefill_ratio, 3),
        is_faster=measured.is_faster,
    )
