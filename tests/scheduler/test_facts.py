"""What planning is told about a stored model, from real files in a models folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamero.errors import BadRequest, BlobNotFound
from llamero.names import ModelName
from llamero.options import merge_options
from llamero.scheduler.facts import facts_of
from llamero.scheduler.plan import Defaults, Machine, ModelFacts, must_reload, want
from llamero.store import Store
from llamero.store.jinja import bundled_jinja
from tests import model_folders as folder
from tests.gguf_files import Typed, gguf_file, llama_metadata, llama_tensors, tiny_llama

MACHINE = Machine(ram_available_bytes=2**33, ram_total_bytes=2**34)
PROJECTOR = gguf_file({"general.architecture": "clip", "clip.has_vision_encoder": True})


def facts(root: Path) -> ModelFacts:
    return facts_of(Store(root).resolve(ModelName.parse("m")))


def test_the_figures_of_a_header(tmp_path: Path) -> None:
    folder.add(tmp_path, "m", tiny_llama(), config={"model_families": ["llama", "deepseek2"]})
    model = facts(tmp_path)
    assert model.path.read_bytes() == tiny_llama()
    assert model.size_bytes == len(tiny_llama())
    assert (model.family, model.families) == ("llama", ("llama", "deepseek2"))
    assert (model.train_ctx_tokens, model.layers, model.embedding_length, model.vocabulary) == (128, 1, 32, 260)
    assert (model.heads, model.kv_heads_min) == (4, 2)
    assert not model.is_embedder
    assert not model.has_vision


def test_two_names_of_the_same_weights_are_one_engine(tmp_path: Path) -> None:
    folder.add(tmp_path, "m", tiny_llama())
    first = facts(tmp_path)
    folder.add(tmp_path, "m", tiny_llama(), system="Be brief.")
    assert facts(tmp_path).key == first.key
    folder.add(tmp_path, "m", tiny_llama({"general.name": "Other"}))
    assert facts(tmp_path).key != first.key


def test_projectors_and_adapters_come_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    more = [
        ("adapter", b"GGUF2"),
        ("projector", PROJECTOR),
        ("adapter", b"GGUF1"),
    ]
    folder.add(tmp_path, "m", tiny_llama(), more=more)
    model = facts(tmp_path)
    assert [path.read_bytes() for path in model.adapters] == [b"GGUF2", b"GGUF1"]
    assert model.adapter_bytes == len(b"GGUF2") + len(b"GGUF1")
    assert [path.read_bytes() for path in model.projectors] == [PROJECTOR]
    assert model.projector_bytes == len(PROJECTOR)
    assert model.has_vision


@pytest.mark.parametrize(
    ("draft", "kind"),
    [
        pytest.param(tiny_llama({"general.name": "small"}), "draft", id="a smaller model"),
        pytest.param(tiny_llama({"llama.nextn_predict_layers": 1}), "mtp", id="layers that look ahead"),
        pytest.param(gguf_file({"general.architecture": "dflash"}), "dflash", id="a model of blocks"),
    ],
)
def test_a_draft_model_says_how_it_guesses(tmp_path: Path, draft: bytes, kind: str) -> None:
    folder.add(tmp_path, "m", tiny_llama(), more=[("draft", b"GGUF older"), ("draft", draft)])
    model = facts(tmp_path)
    assert model.drafter is not None
    assert model.drafter.path.read_bytes() == draft
    assert model.drafter.kind == kind
    assert not model.looks_ahead


def test_a_model_may_look_ahead_itself(tmp_path: Path) -> None:
    folder.add(tmp_path, "m", tiny_llama({"llama.nextn_predict_layers": 2}))
    assert facts(tmp_path).looks_ahead
    assert facts(tmp_path).drafter is None


def test_an_embedder_is_known_by_its_pooling(tmp_path: Path) -> None:
    folder.add(tmp_path, "m", tiny_llama({"llama.pooling_type": 1}))
    assert facts(tmp_path).is_embedder
    assert not facts(tmp_path).is_ranker


def test_one_that_ranks_is_no_embedder(tmp_path: Path) -> None:
    folder.add(tmp_path, "m", tiny_llama({"llama.pooling_type": 4}))
    assert facts(tmp_path).is_ranker
    assert not facts(tmp_path).is_embedder


@pytest.mark.parametrize(
    ("changes", "kv_heads_min", "kv_bytes"),
    [
        # 2 x layers x fewest kv heads x (32 / most heads) x 100 tokens x 2 bytes
        pytest.param({}, 2, 2 * 3 * 2 * 8 * 100 * 2, id="one number for all layers"),
        pytest.param({"llama.attention.head_count_kv": None}, 1, 2 * 3 * 1 * 8 * 100 * 2, id="unknown"),
        pytest.param(
            {"llama.attention.head_count_kv": Typed("[i32]", [4, 0, 2])}, 0, 0, id="a layer without attention"
        ),
        pytest.param(
            {
                "llama.attention.head_count": Typed("[i32]", [4, 8, 4]),
                "llama.attention.head_count_kv": Typed("[i32]", [4, 2, 3]),
            },
            2,
            2 * 3 * 2 * 4 * 100 * 2,
            id="numbers for each layer",
        ),
    ],
)
def test_predicted_bytes_of_a_synthetic_file(
    tmp_path: Path, changes: dict[str, Any], kv_heads_min: int, kv_bytes: int
) -> None:
    """Partly R-33."""
    header = llama_metadata({"llama.block_count": 3, **changes})
    folder.add(tmp_path, "m", gguf_file(header, llama_tensors(3)))
    model = facts(tmp_path)
    assert model.kv_heads_min == kv_heads_min
    for slots in (1, 4):
        plan = want(model, merge_options({"num_ctx": 100}), None, MACHINE, Defaults(slots=slots))
        assert plan.predicted_bytes == model.size_bytes + slots * kv_bytes


def test_a_model_without_gguf_cannot_be_run(tmp_path: Path) -> None:
    folder.add(tmp_path, "m", config={"model_format": "safetensors"})
    with pytest.raises(BadRequest, match='"m:latest" is stored as safetensors, which cannot be run'):
        facts(tmp_path)


def test_missing_weights_are_not_found(tmp_path: Path) -> None:
    folder.add(tmp_path, "m", tiny_llama())
    for blob in (tmp_path / "blobs").iterdir():
        if blob.read_bytes() == tiny_llama():
            blob.unlink()
    with pytest.raises(BlobNotFound) as caught:
        facts(tmp_path)
    assert caught.value.status == 404


def test_a_template_of_ours_goes_to_the_engine_and_another_one_needs_another_engine(tmp_path: Path) -> None:
    """Modelfile-templates §3.5, 4: only where the file has none."""
    plans = []
    bare = tiny_llama({"tokenizer.chat_template": None})
    for weights, renderer in ((bare, "qwen3-coder"), (bare, "glm-4.7"), (tiny_llama(), "glm-4.7")):
        folder.add(tmp_path, "m", weights, config={"renderer": renderer})
        plans.append(want(facts(tmp_path), merge_options({}), None, MACHINE, Defaults()))
    assert [plan.plan.chat_template for plan in plans] == [
        bundled_jinja(renderer="qwen3-coder", parser="", family=""),
        bundled_jinja(renderer="glm-4.7", parser="", family=""),
        "",
    ]
    assert must_reload(plans[0], plans[1])
    assert not must_reload(plans[0], plans[0])
