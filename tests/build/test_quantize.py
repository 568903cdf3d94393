"""Quantizing GGUF files with the bundled quantizer: types, tensors, progress, and what may go wrong (§6.6)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from llamero import gguf
from llamero.build.quantize import check_source, level_of, quantize, quantize_in_child
from llamero.build.quantize.levels import NEED_IMATRIX, OFFERED, parse_level, shared_out
from llamero.errors import Cancelled, InvalidModelFile, LlameroError, NotSupported
from llamero.gguf import FILE_TYPES, Gguf
from tests.build.quantizable import FILE_TYPES as UNQUANTIZED
from tests.build.quantizable import llama, weights
from tests.gguf_files import TensorSpec, gguf_file, llama_metadata, tiny_llama
from tests.running import children

# --- types ---


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("q4_k", "Q4_K_M"),
        ("Q4_K", "Q4_K_M"),
        ("q4_K_m", "Q4_K_M"),
        ("q5_k", "Q5_K_M"),
        ("q3_k", "Q3_K_M"),
        ("q6_k", "Q6_K"),
        ("iq4_nl", "IQ4_NL"),
        ("bf16", "BF16"),
        (" f32 ", "F32"),
    ],
)
def test_s79_a_type_in_any_letter_case(text: str, level: str) -> None:
    """Partly S-79."""
    assert parse_level(text) == level


@pytest.mark.parametrize(("text", "shown"), [("q9_z", "Q9_Z"), ("", ""), ("q4_k_l", "Q4_K_L"), ("NVFP4", "NVFP4")])
def test_s79_an_unknown_type(text: str, shown: str) -> None:
    """Partly S-79."""
    with pytest.raises(LlameroError) as caught:
        parse_level(text)
    assert str(caught.value) == (
        f"unsupported quantization type {shown} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
    )
    assert caught.value.status == 500


@pytest.mark.parametrize("level", sorted(NEED_IMATRIX))
def test_a_type_that_needs_an_importance_matrix_says_so(level: str) -> None:
    with pytest.raises(NotSupported, match=f"quantization type {level} needs an importance matrix"):
        parse_level(level.lower())


def test_every_type_that_there_is_can_be_had_or_says_why_not() -> None:
    assert set(FILE_TYPES.values()) - OFFERED - NEED_IMATRIX == {"NVFP4"}


def header(content: bytes) -> Gguf:
    return gguf.read_header(content)


def typed(**types: str) -> Gguf:
    return header(gguf_file({}, [TensorSpec(name, (32, 32), type) for name, type in types.items()]))


@pytest.mark.parametrize(
    ("file", "level"),
    [
        (header(tiny_llama()), "F32"),
        (header(llama("BF16")), "BF16"),
        (typed(a="F32", b="F16", c="F16"), "F16"),
        (typed(a="F32"), "F32"),
        (typed(a="F32", b="Q8_0"), "unknown"),
        (header(tiny_llama({"general.file_type": 15})), "Q4_K_M"),
        (header(tiny_llama({"general.file_type": 99})), "unknown"),
    ],
)
def test_what_a_file_is(file: Gguf, level: str) -> None:
    assert level_of(file) == level
    if level in UNQUANTIZED:
        assert check_source(file) == level
    else:
        with pytest.raises(LlameroError) as caught:
            check_source(file)
        assert str(caught.value) == "quantization is only supported for F16, BF16 and F32 models"
        assert caught.value.status == 500


# --- which tensor becomes what ---

OVERRIDES = [
    ("qwen35", "blk.3.nextn.eh_proj.weight", "Q8_0"),
    ("qwen35moe", "blk.3.nextn.eh_proj.weight", "Q8_0"),
    ("gemma3n", "per_layer_token_embd.weight", None),
    *(("deepseek2", f"blk.0.attn_{part}.weight", "Q8_0") for part in ("k_b", "q_a", "q_b", "v_b", "kv_a_mqa")),
    *((family, f"{end}.weight", None) for family in ("glmocr", "glm4") for end in ("token_embd", "output")),
]
"""None: as F16, which the source is already."""


@pytest.mark.parametrize(("family", "tensor", "goal"), OVERRIDES)
@pytest.mark.parametrize("level", ["Q4_K_M", "Q4_K_S"])
def test_some_families_need_more_bits_in_places(family: str, tensor: str, goal: str | None, level: str) -> None:
    file = header(
        gguf_file({"general.architecture": family}, [TensorSpec(n, (32, 32), "F16") for n in (tensor, "x.weight")])
    )

    def names(level: str) -> dict[str | None, list[str]]:
        return {goal: [each.name for each in tensors] for goal, tensors in shared_out(file, level).items()}

    assert names(level) == {level: ["x.weight"], goal: [tensor]}
    assert names("Q5_K_M") == {"Q5_K_M": [tensor, "x.weight"]}


def run(folder: Path, content: bytes, level: str, **more: Any) -> tuple[Gguf, bytes]:
    """Quantize; the new header, and the new file."""
    (folder / "source").write_bytes(content)
    (folder / "scratch").mkdir(exist_ok=True)
    made = b"".join(quantize(folder / "source", level, folder / "scratch", lambda completed, total: None, **more))
    return gguf.read_header(made), made


def types(file: Gguf) -> dict[str, str]:
    return {tensor.name: tensor.type for tensor in file.tensors}


def test_s82_the_mix_of_q4_k_m(tmp_path: Path) -> None:
    """The table of store-registry §6.6 holds for the bundled quantizer as it stands, here for sixteen layers."""
    n_layers = 16
    router = weights("blk.0.ffn_gate_inp.weight", (256, 8), "F32")
    made, _ = run(tmp_path, llama(n_layers=n_layers, tied=False, more=[router]), "Q4_K_M")
    more_bits = {n for n in range(n_layers) if n < 2 or n >= 14 or (n - 2) % 3 == 2}
    for name, type in types(made).items():
        parts = name.split(".")
        rich = parts[0] == "blk" and int(parts[1]) in more_bits and parts[2] in ("attn_v", "ffn_down")
        if "norm" in name or "ffn_gate_inp" in name:
            assert type == "F32", name
        else:
            assert type == ("Q6_K" if rich or name == "output.weight" else "Q4_K"), name


def test_s82_tied_embeddings_get_the_bits_of_the_output(tmp_path: Path) -> None:
    """Partly S-82."""
    assert types(run(tmp_path, llama(), "Q4_K_M")[0])["token_embd.weight"] == "Q6_K"
    assert types(run(tmp_path, llama(), "Q8_0")[0])["token_embd.weight"] == "Q8_0"


def test_rows_that_are_no_multiple_of_a_block_get_a_simpler_type(tmp_path: Path) -> None:
    made = types(run(tmp_path, llama(width=96), "Q4_K_M")[0])
    assert made["blk.0.attn_q.weight"] == "Q5_0"
    assert made["blk.0.attn_v.weight"] == "Q8_0"


@pytest.mark.parametrize("source", ["F16", "F32"])
def test_rows_that_no_block_fits_become_half_floats(tmp_path: Path, source: str) -> None:
    made = types(run(tmp_path, llama(source, more=[weights("blk.0.odd.weight", (48, 3), source)]), "Q4_K_M")[0])
    assert (made["blk.0.odd.weight"], made["blk.0.attn_q.weight"]) == ("F16", "Q4_K")


def test_what_is_never_quantized_keeps_its_type_among_such_rows(tmp_path: Path) -> None:
    convolution = weights("blk.0.ssm_conv1d.weight", (4, 256), "F32")
    made = types(run(tmp_path, llama(more=[convolution]), "Q4_K_M")[0])
    assert (made["blk.0.ssm_conv1d.weight"], made["blk.0.attn_q.weight"]) == ("F32", "Q4_K")


def test_s81_the_tensors_of_other_senses_keep_their_type_and_bytes(tmp_path: Path) -> None:
    others = [
        weights("v.blk.0.attn_v.weight", (256, 256), "F16"),
        weights("v.blk.0.ffn_down.weight", (256, 256), "F16"),
        weights("mm.0.weight", (256, 256), "F32"),
        weights("a.conv.weight", (256, 256), "F16"),
        weights("s.blk.0.weight", (256, 256), "F16"),
        weights("mtp.0.weight", (256, 256), "F16"),
    ]
    plain, _ = run(tmp_path, llama(n_layers=8), "Q4_K_M")
    made, content = run(tmp_path, llama(n_layers=8, more=others), "Q4_K_M")
    assert [tensor.name for tensor in made.tensors[-6:]] == [other.name for other in others]
    assert [tensor.type for tensor in made.tensors[-6:]] == ["F16", "F16", "F32", "F16", "F16", "F16"]
    for tensor, other in zip(made.tensors[-6:], others, strict=True):
        start = made.data_offset + tensor.offset
        assert content[start : start + tensor.size_bytes] == other.payload
    # they must not count as layers either, or the mix of the text's tensors shifts
    assert {name: type for name, type in types(made).items() if name in types(plain)} == types(plain)


@pytest.mark.parametrize("source", ["F32", "BF16", "F16"])
def test_every_unquantized_type_can_be_quantized(tmp_path: Path, source: str) -> None:
    made, _ = run(tmp_path, llama(source), "Q8_0")
    assert (made.file_type, types(made)["blk.0.attn_q.weight"]) == ("Q8_0", "Q8_0")


@pytest.mark.parametrize("level", sorted(OFFERED))
def test_every_type_that_is_offered_works(tmp_path: Path, level: str) -> None:
    made, content = run(tmp_path, llama(), level)
    assert made.file_type == level
    gguf.check_model(made, content)


def test_the_header_stays_the_sources_own(tmp_path: Path) -> None:
    before = header(llama(metadata={"general.odd": "kept", "llama.vocab_size": 260}))
    made, content = run(tmp_path, llama(metadata={"general.odd": "kept", "llama.vocab_size": 260}), "Q8_0")
    plain = {key: value for key, value in before.metadata.items() if not isinstance(value, gguf.Array)}
    assert {**plain, "general.file_type": 7} == {key: made.metadata[key] for key in plain}
    assert list(made.metadata) == [*before.metadata, "general.quantization_version"]
    assert [tensor.name for tensor in made.tensors] == [tensor.name for tensor in before.tensors]
    with_tokens = before.metadata["tokenizer.ggml.tokens"]
    tokens = made.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, gguf.Array)
    assert isinstance(with_tokens, gguf.Array)
    assert gguf.read_array(content, made, tokens) == gguf.read_array(
        llama(metadata={"general.odd": "kept", "llama.vocab_size": 260}), before, with_tokens
    )


def test_x28_nothing_but_tensors_reaches_the_new_file(tmp_path: Path) -> None:
    canary = b"CANARY!!" * 4
    specs = llama()
    dirty = specs + canary
    made, content = run(tmp_path, dirty, "Q8_0")
    assert canary not in content
    last = made.tensors[-1]
    end = made.data_offset + last.offset + last.size_bytes
    assert len(content) == -(-end // 32) * 32
    assert set(content[end:]) <= {0}


# --- progress, cancelling, failing ---


def test_progress_counts_the_bytes_of_the_sources_tensors(tmp_path: Path) -> None:
    content = llama(n_layers=2, more=[weights("v.x.weight", (256, 4), "F16")])
    (tmp_path / "source").write_bytes(content)
    reports: list[tuple[int, int]] = []
    list(quantize(tmp_path / "source", "Q4_0", tmp_path, lambda *counted: reports.append(counted)))
    total = sum(tensor.size_bytes for tensor in header(content).tensors)
    assert {each for _, each in reports} == {total}
    assert reports == sorted(reports)
    assert len(reports) > 10
    assert reports[-1] == (total, total)


def test_s79_the_quantizers_own_words_reach_the_client(tmp_path: Path) -> None:
    """Partly S-79: the file passes our checks, but llama.cpp knows no such architecture."""
    alien = gguf_file(
        {key.replace("llama.", "alien."): value for key, value in llama_metadata().items()}
        | {"general.architecture": "alien"},
        [weights("token_embd.weight", (256, 260), "F16")],
    )
    with pytest.raises(LlameroError) as caught:
        run(tmp_path, alien, "Q8_0")
    assert str(caught.value) == "quantizing failed: unknown model architecture: 'alien'"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_x28_the_child_checks_the_file_again(tmp_path: Path) -> None:
    """Partly X-28: whatever the parent believes, a file that fails our checks never reaches C code."""
    output = tmp_path / "output"
    for content, reason in (
        (llama()[:-100_000], "exceeds file size"),
        (llama(metadata={"llama.block_count": 0}), r"llama\.block_count 0 is outside"),
        (b"GGUF", "unexpected end of file"),
    ):
        (tmp_path / "source").write_bytes(content)
        with pytest.raises(LlameroError, match=reason) as caught:
            quantize_in_child(tmp_path / "source", output, "Q8_0", lambda completed, total: None)
        assert caught.value.status == InvalidModelFile.status
        assert not output.exists()


def test_a_cancelled_quantization_ends_its_child_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(llama("F32", n_layers=8))
    begun = threading.Event()
    before = set(children(os.getpid()))
    with pytest.raises(Cancelled):
        # the slowest type: this would take five seconds
        list(quantize(tmp_path / "source", "IQ3_S", tmp_path, lambda *_: begun.set(), cancelled=begun.is_set))
    assert begun.is_set()
    assert set(children(os.getpid())) <= before
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_missing_quantizer_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyllama", None)  # what an installation without the extra looks like
    with pytest.raises(NotSupported) as caught:
        quantize_in_child(tmp_path, tmp_path / "output", "Q8_0", lambda completed, total: None)
    assert str(caught.value).startswith("quantizing needs the extra \"build\": pip install '.[build]' in the folder")


def test_only_the_child_imports_the_quantizer() -> None:
    code = "import sys, llamero.build.create; sys.exit('cyllama' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
