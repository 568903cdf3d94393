"""SentencePiece vocabularies, from its own file or from a tokenizer.json: the engine gives the publishers' ids."""

from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from llamero.build.convert.vocabulary.piece_model import read_piece_model
from llamero.errors import BadRequest
from tests.build.convert.tokenizing import CORPUS, TEXTS, described, differences, read, write_checkpoint

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

AS_IT_IS = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
"""How models for text generation are trained."""


@cache
def trained(algorithm: str, **options: Any) -> bytes:
    """A model trained on the corpus by the library itself."""
    out = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=out,
        model_type=algorithm,
        vocab_size=600,
        hard_vocab_limit=False,
        byte_fallback=algorithm == "bpe",
        num_threads=1,
        minloglevel=3,
        **options,
    )
    return out.getvalue()


def llama() -> bytes:
    return trained("bpe", **AS_IT_IS)


def gemma() -> bytes:
    return trained("bpe", add_dummy_prefix=False, user_defined_symbols="<think>,▁▁▁", control_symbols="<u>", **AS_IT_IS)


def xlm_roberta() -> bytes:
    """Its replacements of characters and its handling of spaces are the library's defaults."""
    return trained("unigram")


@pytest.mark.engine
@pytest.mark.parametrize("model", [llama, gemma, xlm_roberta])
async def test_the_engine_gives_the_ids_of_the_library(tmp_path: Path, model: Callable[[], bytes]) -> None:
    judge = SentencePieceProcessor(model_proto=model())
    folder = write_checkpoint(tmp_path, {"tokenizer.model": model()})
    assert read(folder)[1] == [], "no warning"
    texts = [*TEXTS, "x   y   z", *(["a <think> b"] if model is gemma else [])]
    assert await differences(folder, judge.encode, texts) == {}


@pytest.mark.parametrize("model", [llama, gemma, xlm_roberta])
def test_our_reader_sees_what_the_library_sees(model: Callable[[], bytes]) -> None:
    judge, found = SentencePieceProcessor(model_proto=model()), read_piece_model(model())
    every = range(judge.vocab_size())
    assert [piece.text for piece in found.pieces] == [judge.id_to_piece(number) for number in every]
    assert [piece.score for piece in found.pieces] == [judge.get_score(number) for number in every]
    for kind, is_of_kind in ((UNKNOWN, judge.is_unknown), (CONTROL, judge.is_control), (BYTE, judge.is_byte)):
        assert [piece.kind == kind for piece in found.pieces] == [is_of_kind(number) for number in every]
    assert found.specials == {"unk": judge.unk_id(), "bos": judge.bos_id(), "eos": judge.eos_id()}


def pairs_with_bytes(normalizer: Any, pre_tokenizer: Any) -> dict[str, Any]:
    """A tokenizer.json of pairs that fall back to bytes, as libraries make it of SentencePiece's models."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        prepend_scheme="first" if normalizer or pre_tokenizer else "never"
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=700, show_progress=False, special_tokens=[*special, *BYTES], limit_alphabet=80
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    added = [token for token in json.loads(tokenizer.to_str())["added_tokens"] if token["content"] in special]
    return described(tokenizer, added_tokens=added, normalizer=normalizer, pre_tokenizer=pre_tokenizer)


MARK_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
LLAMA_2 = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, MARK_SPACES]}
GEMMA = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
MISTRAL = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


@pytest.mark.engine
@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer", "prefix"),
    [
        pytest.param(LLAMA_2, None, True, id="Llama 2 and Phi-3"),
        pytest.param(None, MISTRAL, True, id="Mistral"),
        pytest.param(MARK_SPACES, GEMMA, False, id="Gemma"),
    ],
)
async def test_pairs_that_fall_back_to_bytes_become_scored_pieces(
    tmp_path: Path, normalizer: Any, pre_tokenizer: Any, prefix: bool
) -> None:
    description = pairs_with_bytes(normalizer, pre_tokenizer)
    judge = Tokenizer.from_str(json.dumps(description))
    folder = write_checkpoint(tmp_path, {"tokenizer.json": description})
    found, warnings = read(folder)
    assert (found["model"], found["add_space_prefix"], warnings) == ("llama", prefix, [])
    # Mistral's way puts no space before a text that begins with one; the engine always does, as SentencePiece
    texts = [text for text in TEXTS if pre_tokenizer is not MISTRAL or not text.startswith(" ")]
    assert await differences(folder, lambda text: judge.encode(text).ids, texts) == {}


def unigrams() -> Tokenizer:
    """As XLM-R's."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Precompiled(read_piece_model(xlm_roberta()).charsmap)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=400, show_progress=False, unk_token="<unk>", special_tokens=special)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


@pytest.mark.engine
async def test_unigrams_of_a_tokenizer_json_keep_scores_replacements_and_frame(tmp_path: Path) -> None:
    judge = unigrams()
    folder = write_checkpoint(tmp_path, {"tokenizer.json": judge.to_str()})
    found, warnings = read(folder)
    assert (found["model"], found["add_space_prefix"], found["remove_extra_whitespaces"]) == ("t5", True, True)
    assert (found["unknown_token_id"], found["bos_token_id"], found["eos_token_id"], warnings) == (3, 0, 2, [])
    assert (found["add_bos_token"], found["add_eos_token"]) == (True, True)
    encode: Callable[[str], list[int]] = lambda text: judge.encode(text, add_special_tokens=False).ids  # noqa: E731
    assert await differences(folder, encode, [*TEXTS, "ﬁne ① Ｆull"]) == {}


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """Protocol Buffers, written by hand so that tests can also write wrong ones."""
    return b"".join(
        varint(number << 3) + varint(value)
        if isinstance(value, int)
        else varint(number << 3 | 2) + varint(len(value)) + value
        for number, value in fields
    )


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


def piece(text: str | bytes, score: float = 0.0, kind: int = NORMAL) -> tuple[int, bytes]:
    content = text if isinstance(text, bytes) else text.encode()
    return 1, message((1, content)) + varint(2 << 3 | 5) + struct.pack("<f", score) + message((3, kind))


BPE = (2, message((3, 2)))
SPECIAL = [piece("<unk>", kind=UNKNOWN), piece("<s>", kind=CONTROL), piece("</s>", kind=CONTROL)]
KEEPS_SPACES = (3, message((4, 0)))
SMALL = message(*SPECIAL, *(piece(byte, kind=BYTE) for byte in BYTES), piece("▁a", -1.5), BPE, KEEPS_SPACES)


def small(**files: Any) -> dict[str, Any]:
    return {"tokenizer.model": SMALL} | {name.replace("__", "."): content for name, content in files.items()}


def test_every_piece_keeps_its_text_score_and_type(tmp_path: Path) -> None:
    """partly S-83: as the type numbers of SentencePiece are those of GGUF."""
    found, _ = read(write_checkpoint(tmp_path, small(), vocab_size=262))
    tokens, kinds, scores = found["tokens"], found["token_type"], found["scores"]
    assert tokens == ["<unk>", "<s>", "</s>", *BYTES, "▁a", "[PAD260]", "[PAD261]"]
    assert kinds == [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, NORMAL, USER_DEFINED, USER_DEFINED]
    assert scores == [0.0] * 259 + [-1.5, -1.0, -1.0]
    assert (found["unknown_token_id"], found["bos_token_id"], found["eos_token_id"]) == (0, 1, 2)


def test_the_models_own_file_wins_over_tokenizer_json(tmp_path: Path) -> None:
    found, _ = read(write_checkpoint(tmp_path, small(tokenizer__json=described(unigrams()) | {"added_tokens": []})))
    assert (found["model"], len(found["tokens"])) == ("llama", 260)


def test_added_tokens_continue_the_pieces(tmp_path: Path) -> None:
    files = small(
        added_tokens__json={"<|im_end|>": 261, "plain": 260},
        special_tokens_map__json={"additional_special_tokens": ["<|im_end|>"], "eos_token": {"content": "<|im_end|>"}},
    )
    found, _ = read(write_checkpoint(tmp_path, files))
    assert (found["tokens"][260:], found["token_type"][260:]) == (["plain", "<|im_end|>"], [USER_DEFINED, CONTROL])
    assert found["eos_token_id"] == 261
    assert max(found["scores"][260:]) < -1.5, "no pair of pieces becomes one of them"


def test_a_piece_that_was_put_to_another_use_takes_its_new_text(tmp_path: Path) -> None:
    decoder = {"259": {"content": "<|user|>", "special": True}, "260": {"content": "<|end|>", "special": False}}
    found, _ = read(write_checkpoint(tmp_path, small(tokenizer_config__json={"added_tokens_decoder": decoder})))
    assert found["tokens"][259:] == ["<|user|>", "<|end|>"]
    assert found["token_type"][259:] == [CONTROL, USER_DEFINED]


def test_tokens_without_a_row_of_weights_are_dropped_with_a_warning(tmp_path: Path) -> None:
    files = small(added_tokens__json={"<image>": 260})
    found, warnings = read(write_checkpoint(tmp_path, files, vocab_size=260))
    assert len(found["tokens"]) == 260
    assert warnings == ["token '<image>' is dropped: config.json allows 260 tokens"]


def test_trained_pieces_without_a_row_of_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"the vocabulary has 260 tokens, config\.json allows 259"):
        read(write_checkpoint(tmp_path, small(), vocab_size=259))


def test_unigrams_that_fall_back_to_bytes_are_warned_of(tmp_path: Path) -> None:
    content = message(*SPECIAL, piece("<0x41>", kind=BYTE), piece("a", -1.0))
    _, warnings = read(write_checkpoint(tmp_path, {"tokenizer.model": content}))
    assert warnings == ["unknown characters do not fall back to bytes: the engine takes the unknown token for them"]


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ([], "no token for 256 bytes"),
        ([(3, message((2, b"xx")))], "its replacements of characters have no effect"),
        ([(3, message((4, 1)))], "remove_extra_whitespaces has no effect"),
        ([(2, message((24, 1)))], "treat_whitespace_as_suffix has no effect"),
    ],
)
def test_what_the_engine_does_not_do_is_warned_of(tmp_path: Path, fields: Any, warning: str) -> None:
    content = message(*SPECIAL, piece("a"), BPE, *fields)
    _, warnings = read(write_checkpoint(tmp_path, {"tokenizer.model": content}))
    assert any(warning in text for text in warnings)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", "is not a SentencePiece model", id="empty"),
        pytest.param(b"IQ== 0\nIg== 1\n", "tokenizer.model", id="a file of tiktoken"),
        pytest.param(b"\xff" * 20, "is cut short", id="an endless number"),
        pytest.param(b"\x0a", "is cut short", id="a field without a length"),
        pytest.param(b"\x0a\x05abc", "is cut short", id="a field longer than the file"),
        pytest.param(varint(1 << 3 | 2) + varint(-1), "is cut short", id="a negative length"),
        pytest.param(varint(1 << 3 | 3), "is not a SentencePiece model", id="a group"),
        pytest.param(message((1, 5)), "is not a SentencePiece model", id="a piece that is a number"),
        pytest.param(message((1, message((1, 5)))), "is not a SentencePiece model", id="a text that is a number"),
        pytest.param(message((1, message((2, b"123")))), "piece 0 has no score", id="a score of three bytes"),
        pytest.param(message(piece("a", kind=9)), "piece 0 has no score or no known type", id="an unknown type"),
        pytest.param(message((1, message((3, b"x")))), "no known type", id="a type that is a text"),
        pytest.param(message(piece(b"\xff\xfe")), "piece 0 is not valid Unicode", id="a text that is not UTF-8"),
        pytest.param(
            message(piece("a"), (2, message((3, 3)))), "neither BPE nor unigram", id="the algorithm for words"
        ),
        pytest.param(message(piece("a"), (3, message((2, 7)))), "is not a SentencePiece", id="charsmap is a number"),
        pytest.param(message(piece("a", float("nan"))), "token 0 has no finite score", id="NaN for a score"),
        pytest.param(message(piece("a", float("inf"))), "token 0 has no finite score", id="an endless score"),
        pytest.param(message(piece("<0x-1>", kind=BYTE)), "'<0x-1>' names none", id="a byte that is none"),
        pytest.param(message(piece("a"), piece("a")), "has one token twice", id="one piece twice"),
        pytest.param(message(piece("x" * 65_537)), "token 0 has 65537 bytes", id="a long piece"),
    ],
)
def test_a_model_that_lies_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    """partly X-29: what the engine must never read, refused while converting."""
    with pytest.raises(BadRequest, match=complaint):
        read(write_checkpoint(tmp_path, {"tokenizer.model": content}))


def test_a_model_cut_anywhere_is_refused_or_a_smaller_one() -> None:
    whole = message(*SPECIAL, piece("▁a", -1.5), BPE, KEEPS_SPACES)
    refused = 0
    for end in range(len(whole)):
        try:
            assert len(read_piece_model(whole[:end]).pieces) <= 4
        except BadRequest:
            refused += 1
    assert refused > len(whole) / 2


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({"added_tokens__json": {"x": 261}}, "without holes", id="a hole"),
        pytest.param({"added_tokens__json": {"x": "260"}}, "must list tokens with an id", id="an id that is a text"),
        pytest.param({"added_tokens__json": {"x": -1}}, "must list tokens with an id", id="a negative id"),
        pytest.param({"added_tokens__json": ["x"]}, "added_tokens.json is not a JSON object", id="a list"),
        pytest.param({"added_tokens__json": {"<0x00>": 260}}, "one token twice", id="a piece once more"),
        pytest.param(
            {"tokenizer_config__json": {"added_tokens_decoder": ["x"]}},
            "must map ids to tokens",
            id="decoder is a list",
        ),
        pytest.param(
            {"tokenizer_config__json": {"added_tokens_decoder": {"x": {"content": "y"}}}},
            "must list tokens with an id",
            id="decoder's id is no number",
        ),
        pytest.param(
            {"tokenizer_config__json": {"added_tokens_decoder": {"1": "y"}}},
            "must list tokens with an id and a content",
            id="decoder's token is a text",
        ),
    ],
)
def test_added_tokens_that_cannot_be_are_refused(tmp_path: Path, files: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        read(write_checkpoint(tmp_path, small(**files)))


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ({"vocab": [["a"]]}, "unigram 0 must be a text and a score"),
        ({"vocab": [["a", "b"]]}, "unigram 0 must be a text and a score"),
        ({"vocab": [["a", True]]}, "unigram 0 must be a text and a score"),
        ({"vocab": []}, "unknown tokenizer format"),
        ({"vocab": {"a": 0}}, "unknown tokenizer format"),
        ({"type": "BPE", "byte_fallback": True, "vocab": {"a": 0}, "merges": 5}, "'merges' must list pairs"),
        ({"type": "BPE", "byte_fallback": True, "vocab": {"a": 0}, "merges": ["a"]}, "'a' is not a pair"),
        ({"type": "BPE", "byte_fallback": True, "vocab": {"a": 1}, "merges": []}, "without holes"),
    ],
)
def test_a_description_that_cannot_be_is_refused(tmp_path: Path, model: dict[str, Any], complaint: str) -> None:
    description = {"model": {"type": "Unigram"} | model, "added_tokens": []}
    with pytest.raises(BadRequest, match=complaint):
        read(write_checkpoint(tmp_path, {"tokenizer.json": description}))


def test_replacements_that_are_not_base64_are_refused(tmp_path: Path) -> None:
    broken = {"type": "Precompiled", "precompiled_charsmap": "not base64!"}
    with pytest.raises(BadRequest, match="'precompiled_charsmap' is not base64"):
        read(write_checkpoint(tmp_path, {"tokenizer.json": described(unigrams(), normalizer=broken)}))


def test_replacements_are_taken_over_byte_by_byte(tmp_path: Path) -> None:
    rule = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(bytes(range(256))).decode()}
    found, _ = read(write_checkpoint(tmp_path, {"tokenizer.json": described(unigrams(), normalizer=rule)}))
    assert found["precompiled_charsmap"] == bytes(range(256))
