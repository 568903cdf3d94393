"""How quickly models have answered, and what that says about others (cli §3.16)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamero.durations import SECOND
from llamero.gguf import Gguf, read_header
from llamero.messages import Usage
from llamero.scheduler.speeds import MIN_TOKENS, Speed, Speeds, token_read_bytes
from tests.gguf_files import TensorSpec, gguf_file, llama_metadata, llama_tensors, tiny_llama

GIB = 2**30


def header(tensors: list[TensorSpec] | None = None, **changes: int) -> Gguf:
    metadata = llama_metadata({f"llama.{name}": value for name, value in changes.items()})
    return read_header(gguf_file(metadata, llama_tensors() if tensors is None else tensors))


def answered(tokens: int, seconds: float) -> Usage:
    return Usage(predicted_tokens=tokens, predicted_ns=int(seconds * SECOND))


def test_what_one_token_reads() -> None:
    """All weights once; of an embedding that is not the output as well, a row, which is nothing."""
    tied = header([tensor for tensor in llama_tensors() if tensor.name != "output.weight"])
    assert token_read_bytes(tied) == sum(tensor.size_bytes for tensor in tied.tensors)
    own = header([*llama_tensors(), *_output()])
    sizes = {tensor.name: tensor.size_bytes for tensor in own.tensors}
    assert token_read_bytes(own) == sum(sizes.values()) - sizes["token_embd.weight"]


def _output() -> list[TensorSpec]:
    has_one = any(tensor.name == "output.weight" for tensor in llama_tensors())
    return [] if has_one else [TensorSpec("output.weight", (64, 260), "F32")]


def test_of_experts_those_count_that_are_used() -> None:
    experts = TensorSpec("blk.0.ffn_up_exps.weight", (64, 64, 8), "F32")
    plain = token_read_bytes(header())
    some = header([*llama_tensors(), experts], expert_count=8, expert_used_count=2)
    assert token_read_bytes(some) == plain + 64 * 64 * 8 * 4 / 4


@pytest.mark.parametrize("used", [0, 9])
def test_counts_of_experts_that_make_no_sense_are_left_alone(used: int) -> None:
    experts = TensorSpec("blk.0.ffn_up_exps.weight", (64, 64, 8), "F32")
    odd = header([*llama_tensors(), experts], expert_count=8, expert_used_count=used)
    assert token_read_bytes(odd) == token_read_bytes(header()) + 64 * 64 * 8 * 4


def test_a_model_that_has_answered_is_as_fast_as_its_best_answer() -> None:
    speeds, small = Speeds(), header()
    for tokens, seconds in ((100, 2.0), (100, 1.0), (100, 4.0), (MIN_TOKENS - 1, 0.001), (MIN_TOKENS, 0.0)):
        speeds.learn("sha256:a", small, answered(tokens, seconds))
    assert speeds.of("sha256:a", small, GIB) == Speed(100.0, "measured")


def test_guessed_tokens_do_not_make_a_model_faster() -> None:
    """Half of an answer that quoted its prompt was guessed."""
    speeds, small = Speeds(), header()
    speeds.learn("sha256:a", small, replace(answered(100, 1.0), draft_tokens=60, accepted_tokens=50))
    assert speeds.of("sha256:a", small, GIB) == Speed(50.0, "measured")


def test_another_one_is_slower_by_its_size() -> None:
    speeds, small = Speeds(), header()
    large = read_header(tiny_llama(tensors=llama_tensors(n_layers=7)))
    speeds.learn("sha256:a", small, answered(100, 1.0))
    speed = speeds.of("", large, GIB)
    assert speed is not None
    assert speed.basis == "scaled"
    assert speed.tokens_per_s == pytest.approx(100 * token_read_bytes(small) / token_read_bytes(large))


def test_before_any_answer_memory_bounds_the_speed() -> None:
    speeds, small = Speeds(), header()
    assert speeds.of("", small, 1e9) == Speed(1e9 / token_read_bytes(small), "bandwidth")
    assert speeds.of("", small, 0.0) is None, "of a GPU's memory nothing is known"
