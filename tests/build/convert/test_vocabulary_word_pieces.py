"""WordPiece vocabularies in the engine's spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamero.build.convert.checkpoint import Checkpoint
from llamero.build.convert.vocabulary import word_pieces
from llamero.errors import BadRequest
from tests.build.convert.tiny_bert import PIECES, TinyBert

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁play", "ing", "▁!", "▁[", "[unused0]"]
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


@pytest.fixture
def read(bert: TinyBert, tmp_path: Path):
    def vocabulary(**files: Any) -> dict[str, Any]:
        bert.files = {name.replace("__", "."): content for name, content in files.items()}
        found = word_pieces(Checkpoint(bert.write(tmp_path)))
        return {key.removeprefix("tokenizer.ggml."): value for key, value in found.items()}

    return vocabulary


def lines(*pieces: str) -> str:
    return "".join(f"{piece}\n" for piece in pieces)


def description(pieces: list[str] = PIECES, **changes: Any) -> dict[str, Any]:
    model = {"type": "WordPiece", "vocab": {piece: number for number, piece in enumerate(pieces)}}
    return {"model": model, "added_tokens": [], "normalizer": None} | changes


def test_words_get_a_marked_beginning_and_continuations_lose_their_mark(read) -> None:
    found = read(vocab__txt=lines(*PIECES))
    assert found["model"] == "bert"
    assert found["tokens"] == TOKENS


def test_both_files_describe_the_same_vocabulary(read) -> None:
    assert read(tokenizer__json=description()) == read(vocab__txt=lines(*PIECES))


def test_special_tokens_are_control_tokens_with_an_id_each(read) -> None:
    found = read(vocab__txt=lines(*PIECES))
    assert {key: found[key] for key in found if key.endswith("_id")} == {
        "padding_token_id": 0,
        "unknown_token_id": 1,
        "cls_token_id": 2,
        "bos_token_id": 2,  # the engine begins a text with `bos`
        "seperator_token_id": 3,
        "mask_token_id": 4,
    }
    assert found["token_type"] == [CONTROL] * 5 + [NORMAL] * 5


@pytest.mark.parametrize("cls", ["<s>", {"content": "<s>", "lstrip": False}])
@pytest.mark.parametrize("file", ["special_tokens_map__json", "tokenizer_config__json"])
def test_the_files_own_special_tokens_win_over_the_usual_ones(read, bert: TinyBert, file: str, cls: Any) -> None:
    bert.config["vocab_size"] = 11
    found = read(vocab__txt=lines(*PIECES, "<s>"), **{file: {"cls_token": cls}})
    assert (found["cls_token_id"], found["bos_token_id"], found["token_type"][10]) == (10, 10, CONTROL)


def test_added_tokens_continue_the_vocabulary(read, bert: TinyBert) -> None:
    bert.config["vocab_size"] = 12
    added = [{"id": 10, "content": "[NEW]", "special": True}, {"id": 11, "content": "plain", "special": False}]
    found = read(tokenizer__json=description(added_tokens=added))
    assert found["tokens"] == [*TOKENS, "[NEW]", "▁plain"]
    assert found["token_type"][10:] == [CONTROL, NORMAL]


def test_rows_without_a_token_are_filled_up(read, bert: TinyBert) -> None:
    bert.config["vocab_size"] = 12
    found = read(vocab__txt=lines(*PIECES))
    assert found["tokens"][10:] == ["[PAD10]", "[PAD11]"]
    assert found["token_type"][10:] == [USER_DEFINED] * 2


@pytest.mark.parametrize(
    ("files", "lowercase", "strip_accents"),
    [
        ({}, None, None),
        ({"tokenizer_config__json": {"do_lower_case": False}}, False, None),
        ({"tokenizer_config__json": {"do_lower_case": True, "strip_accents": False}}, True, False),
        ({"tokenizer__json": {"type": "BertNormalizer", "lowercase": False, "strip_accents": None}}, False, None),
        ({"tokenizer__json": {"type": "BertNormalizer", "lowercase": True, "strip_accents": True}}, True, True),
        ({"tokenizer__json": {"type": "NFC"}, "tokenizer_config__json": {"do_lower_case": False}}, False, None),
    ],
)
def test_the_engine_learns_whether_case_and_accents_count(
    read, files: dict[str, Any], lowercase: bool | None, strip_accents: bool | None
) -> None:
    normalizer = files.get("tokenizer__json")
    found = read(**files | {"tokenizer__json": description(normalizer=normalizer)})
    assert found.get("normalizer.lowercase") is lowercase
    assert found.get("normalizer.strip_accents") is strip_accents


def test_a_piece_may_be_a_character_that_unicode_calls_a_line_end(read) -> None:
    assert read(vocab__txt=lines(*PIECES[:-1], "\u2028"))["tokens"][-1] == "▁\u2028"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param({}, "unknown tokenizer format", id="no file"),
        pytest.param({"vocab__txt": ""}, "unknown tokenizer format", id="empty file"),
        pytest.param({"tokenizer__json": {"model": {"type": "BPE"}}}, "unknown tokenizer format", id="another kind"),
        pytest.param({"tokenizer__json": {"model": []}}, "unknown tokenizer format", id="model is a list"),
        pytest.param({"tokenizer__json": "[1]"}, "tokenizer.json is not a JSON object", id="a list"),
        pytest.param({"tokenizer__json": "[" * 100_000}, "tokenizer.json is not valid JSON", id="nesting bomb"),
        pytest.param({"vocab__txt": b"\xff\xfe\x00"}, "vocab.txt is not UTF-8", id="not UTF-8"),
        pytest.param({"vocab__txt": lines(*PIECES, "more")}, "has 11 tokens, config.json allows 10", id="too long"),
        pytest.param({"vocab__txt": lines(*PIECES[3:])}, "no 'cls' token", id="no CLS"),
        pytest.param({"vocab__txt": lines(*PIECES[:-1], "play")}, "one token twice", id="one piece twice"),
        pytest.param({"vocab__txt": lines(*PIECES[:-1], "##[CLS]")}, "one token twice", id="collision by spelling"),
        pytest.param({"vocab__txt": lines(*PIECES[:-1], "x" * 65_536)}, "token 9 has 65539 bytes", id="long token"),
        pytest.param(
            {"tokenizer__json": description([*PIECES[:-1], "\ud800"])}, "token 9 is not valid Unicode", id="surrogate"
        ),
        pytest.param(
            {"tokenizer__json": description(model={"type": "WordPiece", "vocab": {"[CLS]": 0, "a": 2}})},
            "without holes",
            id="hole in the ids",
        ),
        pytest.param(
            {"tokenizer__json": description(model={"type": "WordPiece", "vocab": {"[CLS]": 0, "a": 0}})},
            "without holes",
            id="one id twice",
        ),
        pytest.param(
            {"tokenizer__json": description(model={"type": "WordPiece", "vocab": {"[CLS]": -1}})},
            "without holes",
            id="negative id",
        ),
        pytest.param(
            {"tokenizer__json": description(added_tokens=[{"id": 1 << 40, "content": "x"}])},
            "without holes",
            id="far id",
        ),
        pytest.param({"tokenizer__json": description(added_tokens=[{"id": "5"}])}, "added_tokens", id="id is text"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(read, files: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read(**files)
