"""Byte-level vocabularies: the engine gives the ids that the publishers' library gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, normalizers
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Punctuation, Sequence, Split

from llamero.build.convert.vocabulary.pre_tokenizers import TABLE
from llamero.errors import BadRequest
from tests.build.convert.tokenizing import (
    TEXTS,
    byte_level,
    described,
    differences,
    read,
    write_checkpoint,
)

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def cut(*steps: str | PreTokenizer, behavior: str = "isolated", invert: bool = False) -> PreTokenizer:
    """Steps as most publishers write them, then the bytes."""
    splits = [Split(Regex(step), behavior, invert) if isinstance(step, str) else step for step in steps]
    return Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])


# As they stand in the publishers' files, each after its model.
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")
QWEN_3_5 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MISTRAL_NEMO = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT_OSS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_LETTERS = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿ]+"
DEEPSEEK_V3 = (
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
)
HAN_AND_HANGUL = "[一-龥ࠀ-一가-퟿]+"
LING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
SEED = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}" + "\r\n" + r"]+"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
K_EXAONE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
JAIS_2 = LLAMA_3.removesuffix(r"\s+(?!\S)|\s+") + (
    r"\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)"
    r"|\s{1,2}(?!\S)|\s{1}"
)
GPT_2 = ByteLevel(add_prefix_space=False)
ONE_DIGIT = Digits(individual_digits=True)

PRE_TOKENIZERS = {
    "llama-bpe": cut(LLAMA_3),
    "qwen2": cut(QWEN_2),
    "qwen35": cut(QWEN_3_5),
    "gpt-2": GPT_2,
    "smollm": Sequence([ONE_DIGIT, GPT_2]),
    "falcon": Sequence(
        [Punctuation("contiguous"), GPT_2, Digits(individual_digits=False), Split(Regex("[0-9][0-9][0-9]"), "isolated")]
    ),
    "tekken": cut(MISTRAL_NEMO),
    "gpt-4o": cut(GPT_OSS),
    "deepseek-llm": cut(
        "[\r\n]", DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", HAN_AND_HANGUL, ONE_DIGIT
    ),
    "deepseek-coder": cut("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_AND_HANGUL, ONE_DIGIT),
    "deepseek-v3": cut(r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", DEEPSEEK_V3),
    "bloom": cut(" ?[^(\\s|[.,!?…。，、।۔،])]+"),
    "bailingmoe": cut(LING),
    "seed-coder": cut(SEED),
    "tiny_aya": cut(r"\d{1,3}(?=(?:\d{3})*\b)", GPT_OSS),
    "exaone-moe": cut(K_EXAONE),
    "jais-2": cut(JAIS_2),
    "minicpm5": cut(r"\p{N}{1,3}", QWEN_2.replace(r"\p{N}|", r"\p{N}+|")),
}


def checkpoint(folder: Path, description: Any, **config: Any) -> Path:
    """A folder with this tokenizer.json, whose token 0 ends a text."""
    return write_checkpoint(folder, {"tokenizer.json": description}, **{"eos_token_id": 0} | config)


@pytest.mark.engine
@pytest.mark.parametrize("name", PRE_TOKENIZERS)
async def test_every_way_to_cut_a_text_that_is_recognised_gives_the_same_ids(tmp_path: Path, name: str) -> None:
    tokenizer = byte_level(PRE_TOKENIZERS[name])
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    folder = checkpoint(tmp_path, tokenizer.to_str())
    found, warnings = read(folder)
    assert (found["model"], found["pre"], warnings) == ("gpt2", name, [])
    texts = [*TEXTS, "a<|end|>b <think> c", "ÀÉ École éCOLE ßA", "क्या हाल है"]
    assert await differences(folder, lambda text: tokenizer.encode(text).ids, texts) == {}


def test_no_row_of_the_table_is_without_that_proof() -> None:
    proved_as_another = {"smaug-bpe"}  # llama-bpe's, for vocabularies whose merges do not lead to every token
    assert {row.name for row in TABLE} - proved_as_another == PRE_TOKENIZERS.keys()


@pytest.mark.engine
async def test_an_unknown_way_to_cut_a_text_is_the_default_with_a_warning_and_gives_other_ids(tmp_path: Path) -> None:
    tokenizer = byte_level(cut(r"\p{L}{1,2}|\s+|."))
    folder = checkpoint(tmp_path, tokenizer.to_str())
    found, (warning,) = read(folder)
    assert found["pre"] == "default"
    assert "does not know how this tokenizer cuts a text" in warning
    assert await differences(folder, lambda text: tokenizer.encode(text).ids, TEXTS) != {}


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        pytest.param(cut(QWEN_2, behavior="removed", invert=True), "qwen2", id="keeping what matches"),
        pytest.param(cut(QWEN_2, behavior="removed"), "default", id="dropping what matches"),
        pytest.param(cut(QWEN_2, behavior="merged_with_previous"), "default", id="merging it"),
        pytest.param(Sequence([Sequence([ONE_DIGIT]), Sequence([GPT_2])]), "smollm", id="nested"),
        pytest.param(Sequence([GPT_2, ONE_DIGIT]), "default", id="another order"),
        pytest.param(ByteLevel(add_prefix_space=True), "default", id="a space before the text"),
        pytest.param(cut(), "default", id="nothing"),
    ],
)
def test_the_structure_decides_not_the_spelling(tmp_path: Path, pre_tokenizer: PreTokenizer, name: str) -> None:
    description = described(byte_level(), pre_tokenizer=json.loads(pre_tokenizer.__getstate__()))
    found, _ = read(checkpoint(tmp_path, description))
    assert found["pre"] == name


UNREACHABLE = {"abc": 0, "a": 1, "b": 2, "c": 3, "ab": 4}
"""The merges make `ab`, and nothing of it and `c`."""


@pytest.mark.parametrize(
    ("pattern", "vocab", "ignore_merges", "name", "warning"),
    [
        (LLAMA_3, UNREACHABLE, True, "llama-bpe", None),
        (LLAMA_3, UNREACHABLE, False, "smaug-bpe", None),
        (QWEN_2, UNREACHABLE, False, "qwen2", None),
        (QWEN_2, UNREACHABLE, True, "qwen2", "ignore_merges = true has no effect"),
        (MISTRAL_NEMO, UNREACHABLE, False, "tekken", "ignore_merges = false has no effect"),
        (LLAMA_3, {"a": 0, "b": 1, "ab": 2}, False, "llama-bpe", None),
        (QWEN_2, {"a": 0, "b": 1, "ab": 2}, True, "qwen2", None),
    ],
)
def test_whether_tokens_are_taken_whole_matters_only_where_merges_do_not_make_them(
    tmp_path: Path, pattern: str, vocab: dict[str, int], ignore_merges: bool, name: str, warning: str | None
) -> None:
    model = {"vocab": vocab, "merges": [["a", "b"]], "ignore_merges": ignore_merges}
    description = described(byte_level(cut(pattern)), model=model, added_tokens=[])
    found, warnings = read(checkpoint(tmp_path, description))
    assert found["pre"] == name
    assert warnings == ([f"tokenizer.json: {warning}"] if warning else [])


@pytest.mark.engine
async def test_a_token_that_no_merge_makes_is_taken_whole_where_the_model_wants_it(tmp_path: Path) -> None:
    tokenizer = byte_level(cut(LLAMA_3))
    vocab = tokenizer.get_vocab() | {"Ġxyzzy": tokenizer.get_vocab_size()}
    description = described(tokenizer, model={"vocab": vocab, "ignore_merges": True})
    whole = type(tokenizer).from_str(json.dumps(description))
    assert len(whole.encode(" xyzzy").ids) == 1
    folder = checkpoint(tmp_path, description)
    assert await differences(folder, lambda text: whole.encode(text).ids, [" xyzzy", "xyzzy", " xyzzy1"]) == {}


@pytest.mark.parametrize("spell", [lambda pair: pair, " ".join], ids=["pairs", "strings"])
def test_merges_may_be_pairs_or_strings(tmp_path: Path, spell: Any) -> None:
    description = described(byte_level())
    pairs = description["model"]["merges"]
    description["model"]["merges"] = [spell(pair) for pair in pairs]
    found, _ = read(checkpoint(tmp_path, description))
    assert found["merges"] == [f"{left} {right}" for left, right in pairs]


def test_added_tokens_are_control_tokens_or_text(tmp_path: Path) -> None:
    tokenizer = byte_level(special=["<|end|>"])
    rows = tokenizer.get_vocab_size()
    tokenizer.add_tokens(["<think>"])
    tokenizer.add_special_tokens(["<|more|>"])
    found, _ = read(checkpoint(tmp_path, tokenizer.to_str(), vocab_size=rows + 4))
    tokens, kinds = found["tokens"], found["token_type"]
    assert isinstance(tokens, list)
    assert isinstance(kinds, list)
    assert (tokens[0], kinds[0]) == ("<|end|>", CONTROL)
    assert set(kinds[1:rows]) == {NORMAL}
    assert list(zip(tokens[rows:], kinds[rows:], strict=True)) == [
        ("<think>", USER_DEFINED),
        ("<|more|>", CONTROL),
        (f"[PAD{rows + 2}]", USER_DEFINED),
        (f"[PAD{rows + 3}]", USER_DEFINED),
    ]


def test_an_early_file_that_names_no_type_is_read(tmp_path: Path) -> None:
    description = described(byte_level())
    del description["model"]["type"]
    assert read(checkpoint(tmp_path, description))[0]["model"] == "gpt2"


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"normalizer": {"type": "NFC"}}, None),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer 'Lowercase' has no effect"),
        ({"added_tokens": [{"id": 0, "content": "<|end|>", "lstrip": True}]}, "'lstrip', which 1 added tokens ask for"),
        ({"added_tokens": [{"id": 0, "content": "<|end|>", "single_word": True}]}, "'single_word', which 1 added"),
    ],
)
def test_what_the_engine_does_not_do_is_warned_of(tmp_path: Path, changes: dict[str, Any], warning: str | None) -> None:
    _, warnings = read(checkpoint(tmp_path, described(byte_level(), **changes)))
    assert [warning in text for text in warnings if warning] == [True] * bool(warning)
    assert len(warnings) == bool(warning)


def test_a_vocabulary_without_an_end_is_warned_of_as_the_engine_takes_some_token_for_it(tmp_path: Path) -> None:
    _, warnings = read(checkpoint(tmp_path, byte_level().to_str(), eos_token_id=None))
    assert warnings == ["no file names the token that ends a text: the engine takes token 11 for it"]


def test_the_normalizer_that_is_passed_over_changes_decomposed_text_only() -> None:
    nfc = normalizers.NFC()
    assert [nfc.normalize_str(text) for text in TEXTS] == TEXTS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"model": {"merges": []}}, "'merges' must list 1 to", id="no merges"),
        pytest.param({"model": {"merges": {"a": "b"}}}, "'merges' must list 1 to", id="merges are an object"),
        pytest.param({"model": {"merges": ["a b c"]}}, "'a b c' is not a pair", id="three in a merge"),
        pytest.param({"model": {"merges": ["ab"]}}, "'ab' is not a pair", id="one in a merge"),
        pytest.param({"model": {"merges": [["a", "b c"]]}}, "is not a pair", id="a space in a merge"),
        pytest.param({"model": {"merges": [["a", ""]]}}, "is not a pair", id="an empty half"),
        pytest.param({"model": {"merges": [["a", 1]]}}, "is not a pair", id="a number in a merge"),
        pytest.param({"model": {"vocab": ["a"]}}, "'vocab' must map tokens to ids", id="vocab is a list"),
        pytest.param({"model": {"vocab": {"a": 0, "b": 2}}}, "without holes", id="a hole"),
        pytest.param({"model": {"vocab": {"a": 0, "b": 0}}}, "without holes", id="one id twice"),
        pytest.param({"model": {"vocab": {"a": 0, "b": "1"}}}, "without holes", id="an id is text"),
        pytest.param({"model": {"vocab": {"a": True, "b": 0}}}, "without holes", id="an id is a truth"),
        pytest.param({"model": {"vocab": {"x" * 65_537: 0}}, "added_tokens": []}, "has 65537 bytes", id="a long token"),
        pytest.param(
            {"model": {"vocab": {"\ud800": 0}}, "added_tokens": []}, "token 0 is not valid Unicode", id="a surrogate"
        ),
        pytest.param({"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix '</w>' is not", id="CLIP's suffix"),
        pytest.param({"added_tokens": 5}, "'added_tokens' must list", id="added tokens are a number"),
        pytest.param({"added_tokens": ["x"]}, "'added_tokens' must list", id="added tokens are texts"),
        pytest.param({"added_tokens": [{"id": -1, "content": "x"}]}, "'added_tokens' must list", id="a negative id"),
        pytest.param({"added_tokens": [{"id": 1 << 40, "content": "x"}]}, "without holes", id="a far id"),
        pytest.param({"added_tokens": [{"id": 1, "content": "!!"}] * 2}, None, id="one token twice is no matter"),
        pytest.param({"added_tokens": [{"id": 1, "content": "a"}]}, "has one token twice", id="one text for two ids"),
        pytest.param({"pre_tokenizer": None, "decoder": None}, "unknown tokenizer format", id="no bytes"),
        pytest.param({"model": {"type": "WordLevel"}}, "unknown tokenizer format", id="another model"),
        pytest.param(
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}] * 100}},
            "more than 64 steps",
            id="a hundred steps",
        ),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str | None) -> None:
    folder = checkpoint(tmp_path, described(byte_level(), **changes))
    if message is None:
        read(folder)
        return
    with pytest.raises(BadRequest, match=message):
        read(folder)
