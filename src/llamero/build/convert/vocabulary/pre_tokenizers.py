"""Which of the engine's pre-tokenizers cuts a text as a tokenizer.json does: the table of those that it knows.

A byte-level vocabulary is applied to the pieces that a list of regular expressions cuts a text into. The engine has
these lists built in and a GGUF only names one, so the list in tokenizer.json is what identifies it. Names that the
engine treats alike (`starcoder`, `refact`, `command-r` ...) have one row. Source of the names: llama.cpp,
`src/llama-vocab.cpp`; a test proves each row against the engine that is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .tokens import members

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One that the engine knows. With `ignores_merges` a piece that is a token is taken whole, without merging."""

    name: str
    steps: tuple[str, ...]
    ignores_merges: bool = False


_DIGIT = r"\p{N}"
_DIGITS = r"\p{N}+"
_PUNCTUATION = "Punctuation"
_NEWLINE = r"[\r\n]"

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SYMBOLS_AND_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_CAPITALIZED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_CAPITALS = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_LLAMA_3 = rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_BLANKS}"
_GPT_4O = rf"{_CAPITALIZED}{_CONTRACTION}?|{_CAPITALS}{_CONTRACTION}?|\p{{N}}{{1,3}}|{_SYMBOLS_AND_SLASH}|{_BLANKS}"

_CASED_LETTERS = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽ"
"""DeepSeek lists some 100 ranges of letters, in several spellings of the same; the beginning identifies the list."""

_HAN_AND_HANGUL = "[一-龥ࠀ-一가-퟿]+"
_PUNCTUATED = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
).replace('\\"', '"')

TABLE = (
    PreTokenizer("llama-bpe", (_LLAMA_3,), ignores_merges=True),
    PreTokenizer("smaug-bpe", (_LLAMA_3,)),
    PreTokenizer("qwen2", (rf"{_CONTRACTION}|{_WORD}|\p{{N}}|{_SYMBOLS}|{_BLANKS}",)),
    PreTokenizer(
        "qwen35",
        (
            rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_BLANKS}",
        ),
    ),
    PreTokenizer("gpt-2", (_GPT_2,)),
    PreTokenizer("smollm", (_DIGIT, _GPT_2)),
    PreTokenizer("falcon", (_PUNCTUATION, _GPT_2, _DIGITS, "[0-9][0-9][0-9]")),
    PreTokenizer(
        "tekken",
        (rf"{_CAPITALIZED}|{_CAPITALS}|\p{{N}}|{_SYMBOLS_AND_SLASH}|{_BLANKS}",),
        ignores_merges=True,
    ),
    PreTokenizer("gpt-4o", (_GPT_4O,)),
    PreTokenizer(
        "deepseek-llm",
        (_NEWLINE, _CASED_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", _HAN_AND_HANGUL, _DIGIT),
    ),
    PreTokenizer("deepseek-coder", (_NEWLINE, r"\s?\p{L}+", r"\s?\p{P}+", _HAN_AND_HANGUL, _DIGIT)),
    PreTokenizer("deepseek-v3", (r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", _PUNCTUATED)),
    PreTokenizer("bloom", (" ?[^(\\s|[.,!?…。，、।۔،])]+",)),
    PreTokenizer(
        "bailingmoe",
        (
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
    ),
    PreTokenizer("seed-coder", (rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_BLANKS}",)),
    PreTokenizer("tiny_aya", (r"\d{1,3}(?=(?:\d{3})*\b)", _GPT_4O)),
    PreTokenizer(
        "exaone-moe",
        (
            rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
    ),
    PreTokenizer(
        "jais-2",
        (
            rf"{_CONTRACTION}|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|\s*[\r\n]+|"
            + "".join(rf"\s{{{1 << power}}}(?!\S)|" for power in range(9, 1, -1))
            + r"\s{1,2}(?!\S)|\s{1}",
        ),
    ),
    PreTokenizer(
        "minicpm5", (r"\p{N}{1,3}", rf"{_CONTRACTION}|{_WORD}|\p{{N}}+|{_SYMBOLS}|{_BLANKS}"), ignores_merges=True
    ),
)


def known(pre_tokenizer: Any) -> list[PreTokenizer]:
    """The rows of the table that cut as `pre_tokenizer` of a tokenizer.json does; [] when none does."""
    steps = tuple(_steps(pre_tokenizer))
    return [row for row in TABLE if row.steps == steps]


def _steps(pre_tokenizer: Any) -> Iterator[str]:
    """What each member does, in one spelling for all ways to say it."""
    for part in members(pre_tokenizer, "pretokenizers"):
        match part:
            case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": str(behavior)} if (
                # to keep the matches only is the same where every character is in a match
                (behavior, part.get("invert", False)) in (("Isolated", False), ("Removed", True))
            ):
                yield _spelled(pattern)
            case {"type": "Digits"}:
                yield _DIGIT if part.get("individual_digits") else _DIGITS
            case {"type": "Punctuation", "behavior": "Contiguous"}:
                yield _PUNCTUATION
            case {"type": "ByteLevel"}:
                if part.get("add_prefix_space"):
                    yield "a space before the text"
                if part.get("use_regex", True):
                    yield _GPT_2
            case _:
                yield f"unknown: {part.get('type')}"


def _spelled(pattern: str) -> str:
    pattern = pattern.replace("\r", r"\r").replace("\n", r"\n")
    return _CASED_LETTERS if pattern.startswith(_CASED_LETTERS) else pattern
