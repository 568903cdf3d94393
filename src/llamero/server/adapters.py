"""Which LoRA layers a request is answered with: the model's own, or those of models with the same weights.

Source: native-api §3.22 (`adapters`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engines import AdapterFile, LoadPlan
from ..errors import BadRequest, InvalidField
from ..messages import Adapter
from ..scheduler.plan import MAX_EXTRA_ADAPTERS
from ..store.manifests import ADAPTER
from ..store.models import Model

MAX_SCALE = 100.0
"""Either way. Beyond it nothing but noise is left of any model, and some way further of its numbers."""


@dataclass(frozen=True, slots=True)
class Selection:
    scales: Mapping[Path, float] = field(default_factory=dict)
    """How much each file counts; one that is not named does not."""
    extra: tuple[AdapterFile, ...] = ()
    """Those of them that are not the model's own."""

    def for_engine(self, plan: LoadPlan) -> list[dict[str, Any]]:
        """The field `lora` of a request to an engine with this plan; empty where it has no adapters.

        Each is named, always: the engine takes up a prompt that it has read with other adapters if it is left to its
        own scales.
        """
        return [{"id": place, "scale": self.scales.get(path, 0.0)} for place, path in enumerate(plan.all_adapters)]


def own(model: Model) -> Selection:
    return Selection(dict.fromkeys(model.adapters, 1.0))


def check(asked: Sequence[Adapter]) -> None:
    """Refuse what can be no selection, whatever the models are."""
    if len(asked) > MAX_EXTRA_ADAPTERS:
        raise InvalidField(f"adapters: at most {MAX_EXTRA_ADAPTERS} can be used at once", "adapters")
    for index, adapter in enumerate(asked):
        if not adapter.model:
            raise InvalidField("adapters: each needs the name of a model", f"adapters[{index}].model")
        if not -MAX_SCALE <= adapter.scale <= MAX_SCALE:
            raise InvalidField(
                f"adapters: scale must be between {-MAX_SCALE:g} and {MAX_SCALE:g}", f"adapters[{index}].scale"
            )


def select(model: Model, asked_as: str, asked: Sequence[tuple[Adapter, Model]]) -> Selection:
    """The layers of these models for `model`. A file that is named twice counts with the sum."""
    scales: dict[Path, float] = {}
    extra: dict[Path, AdapterFile] = {}
    for index, (adapter, its) in enumerate(asked):
        if its.weights_digest != model.weights_digest:
            message = f'adapter of "{adapter.model}" does not belong to "{asked_as}"'
            raise InvalidField(message, f"adapters[{index}].model")
        if not its.adapters:
            raise InvalidField(f'"{adapter.model}" has no adapter', f"adapters[{index}].model")
        for path, layer in zip(its.adapters, its.manifest.of_type(ADAPTER), strict=True):
            scales[path] = scales.get(path, 0.0) + adapter.scale
            if path not in model.adapters:
                extra[path] = AdapterFile(path, layer.size_bytes)
    if len(extra) > MAX_EXTRA_ADAPTERS:
        raise BadRequest(f"adapters: at most {MAX_EXTRA_ADAPTERS} files can be used at once")
    return Selection(scales, tuple(extra.values()))
