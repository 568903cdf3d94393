"""What makes one model's saved prompts another's, or nobody's (scheduler §9.6)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamero.engines import LoadPlan
from llamero.names import ModelName
from llamero.server.recall import identity_of
from llamero.store import Store
from llamero.store.models import Model
from llamero.store.prefixes import Identity
from tests import model_folders
from tests.gguf_files import tiny_llama

ENGINE = SimpleNamespace(build="engine 1")
PLAN = LoadPlan(
    key="m", model=Path("m"), ctx_tokens=4096, slots=4, adapters=(Path("sha256-a"), Path("sha256-b")), pool_tokens=8192
)
LORA = [{"id": 0, "scale": 1.0}, {"id": 1, "scale": 0.0}]


def model_of(folder: Path, metadata: dict[str, Any]) -> Model:
    model_folders.add(folder, "m", tiny_llama(metadata))
    return Store(folder).resolve(ModelName.parse("m"))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return model_of(tmp_path / "models", {})


def identity(model: Model, plan: LoadPlan = PLAN, engine: Any = ENGINE, lora: Any = LORA, owner: str = "") -> Identity:
    return identity_of(model, plan, engine, lora, owner)


def test_the_same_is_the_same(model: Model) -> None:
    assert identity(model).root == identity(model).root
    assert identity(model, replace(PLAN, kv_type="f16")) == identity(model)


def test_an_adapter_that_does_not_count_makes_no_difference(model: Model) -> None:
    without = replace(PLAN, adapters=PLAN.adapters[:1])
    assert identity(model, without, lora=LORA[:1]) == identity(model)


def test_how_many_share_an_engine_makes_no_difference(model: Model) -> None:
    assert identity(model, replace(PLAN, slots=1, pool_tokens=4096)) == identity(model)


@pytest.mark.parametrize(
    "other",
    [
        {"owner": "key"},
        {"plan": replace(PLAN, kv_type="q8_0")},
        {"plan": replace(PLAN, flash_attention=True)},
        {"plan": replace(PLAN, adapters=PLAN.adapters[::-1])},
        {"engine": SimpleNamespace(build="engine 2")},
        {"lora": [{"id": 0, "scale": 0.5}, LORA[1]]},
        {"lora": [{"id": 0, "scale": 1.0}, {"id": 1, "scale": 1.0}]},
        {"lora": []},
    ],
    ids=str,
)
def test_what_makes_other_keys_and_values(model: Model, other: dict[str, Any]) -> None:
    """partly R-75, partly X-101."""
    assert identity(model, **other).root != identity(model).root


def test_other_weights(model: Model, tmp_path: Path) -> None:
    assert identity(model_of(tmp_path / "others", {"general.name": "another"})).root != identity(model).root


def test_a_model_with_two_sets_of_rope_factors_chooses_by_the_length_of_the_cache(tmp_path: Path) -> None:
    long = model_of(tmp_path / "models", {"llama.rope.scaling.original_context_length": 4096})
    assert identity(long).root != identity(long, replace(PLAN, pool_tokens=4096)).root
