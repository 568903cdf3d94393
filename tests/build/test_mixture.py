"""How large a model would be at another level of quantization, told by its header alone: beside the real quantizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero import gguf
from llamero.build.quantize import quantize_in_child
from llamero.build.quantize.mixture import LEVELS, requantized
from llamero.gguf import Gguf, read_header
from tests.build.quantizable import llama
from tests.gguf_files import TensorSpec


def header_of(path: Path) -> Gguf:
    return gguf.read_header(path.read_bytes())


@pytest.mark.parametrize(
    ("level", "tied"),
    [("Q4_K_M", False), *(pytest.param(level, True, marks=pytest.mark.heavy) for level in LEVELS)],
)
def test_it_is_what_the_quantizer_makes(tmp_path: Path, level: str, tied: bool) -> None:
    """Within a fiftieth, of a model with so many layers that a mixture shows."""
    source, made = tmp_path / "source.gguf", tmp_path / "made.gguf"
    source.write_bytes(llama("F16", n_layers=8, tied=tied))
    quantize_in_child(source, made, level, lambda completed, total: None)
    guessed, real = requantized(header_of(source), level), header_of(made)
    assert guessed.file_type == real.file_type == level
    weights = sum(tensor.size_bytes for tensor in real.tensors)
    assert sum(tensor.size_bytes for tensor in guessed.tensors) == pytest.approx(weights, rel=0.02)


def test_rows_that_fill_no_block_get_another_type() -> None:
    """SmolLM2's are 576 wide: in its published Q4_K_M there is hardly a Q4_K."""
    header = read_header(llama("F16", width=288))
    types = {tensor.name: tensor.type for tensor in requantized(header, "Q4_K_M").tensors}
    assert types["blk.0.attn_q.weight"] == "Q5_0"
    assert types["token_embd.weight"] == "Q8_0"


def test_parts_that_keep_their_type() -> None:
    more = [
        TensorSpec("v.patch_embd.weight", (256, 4), "F16"),
        TensorSpec("blk.0.ffn_gate_inp.weight", (256, 4), "F32"),
    ]
    header = read_header(llama("F16", more=more))
    types = {tensor.name: tensor.type for tensor in requantized(header, "Q8_0").tensors}
    assert (types["v.patch_embd.weight"], types["blk.0.ffn_gate_inp.weight"]) == ("F16", "F32")
    assert types["blk.0.attn_norm.weight"] == "F32"
