"""Models loaded for real: what was estimated of them, and what the engine reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamero.build.convert.conversion import convert
from llamero.engines import MemoryUse
from llamero.engines.llamacpp import LlamaCpp, LlamaCppSettings
from llamero.names import ModelName
from llamero.options import merge_options
from llamero.scheduler.estimate import Estimate, estimate
from llamero.scheduler.facts import ModelFacts, facts_of
from llamero.scheduler.plan import Defaults, Machine, want
from llamero.store import Store
from tests import model_folders
from tests.engines.starting import ENV

DATA = Path(__file__).parents[1] / "data"
GIB = 2**30
MACHINE = Machine(ram_available_bytes=8 * GIB, ram_total_bytes=16 * GIB, cores=4)
TINY = tuple(sorted(path.name for path in (DATA / "hf-tiny").iterdir()))
TOLERANCE = 0.10
ONE_SLOT = Defaults(slots=1)


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    options: Mapping[str, Any]
    defaults: Defaults = ONE_SLOT


SETTINGS = (
    Setting("ctx 2048", {"num_ctx": 2048}),
    Setting("ctx 300", {"num_ctx": 300}),
    Setting("batch 64", {"num_ctx": 2048, "num_batch": 64}),
    Setting("batch 2048", {"num_ctx": 2048, "num_batch": 2048}),
    Setting("automatic slots", {"num_ctx": 1024}, Defaults()),
    Setting("4 slots", {"num_ctx": 512}, Defaults(slots=4)),
    Setting("f32 cache", {"num_ctx": 2048}, Defaults(slots=1, kv_type="f32")),
    Setting("q8_0 cache", {"num_ctx": 2048}, Defaults(slots=1, kv_type="q8_0")),
    Setting("no flash attention", {"num_ctx": 1024}, Defaults(slots=1, flash_attention=False)),
    Setting("mapped", {"num_ctx": 512, "use_mmap": True}),
)


@dataclass(frozen=True, slots=True)
class Load:
    estimated: Estimate
    reported: MemoryUse

    @property
    def error(self) -> float:
        """Share of the report by which the estimate is off: above zero when it is too high."""
        return self.estimated.reported_bytes / self.reported.total_bytes - 1


def tiny_model(name: str, folder: Path) -> ModelFacts:
    """One of `tests/data/hf-tiny`, converted; or the tiny model that sees, with its projector."""
    more: list[tuple[str, bytes]] = []
    if name == "vision":
        weights = (DATA / "vision-tiny" / "model.gguf").read_bytes()
        more = [("projector", (DATA / "vision-tiny" / "mmproj.gguf").read_bytes())]
    else:
        convert(DATA / "hf-tiny" / name, folder / "converted.gguf")
        weights = (folder / "converted.gguf").read_bytes()
    model_folders.add(folder, name, weights, more=more)
    return stored_model(name, folder)


def stored_model(name: str, folder: Path) -> ModelFacts:
    return facts_of(Store(folder).resolve(ModelName.parse(name)))


async def load(facts: ModelFacts, setting: Setting) -> Load:
    wanted = want(facts, merge_options(setting.options), None, MACHINE, setting.defaults)
    engine = await LlamaCpp.start(wanted.plan, LlamaCppSettings(env=ENV))
    try:
        return Load(estimate(facts, wanted.plan), engine.memory)
    finally:
        await engine.stop()
