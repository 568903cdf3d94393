"""Which tokens begin, end and pad a text, and whether the tokenizer puts them there itself (store-registry §6.8)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ....errors import BadRequest
from ..checkpoint import Checkpoint
from ..family import Metadata
from .tokens import Tokens, members

KEYS = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",  # the format's own spelling
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
}
"""The kinds by their names in a checkpoint, and the words for them in a GGUF's keys."""

_MORE_ENDS = ("eot", "eom")
"""Where the engine looks for ends of a text besides `eos`: it reads no list of ids."""

_KNOWN_ENDS = frozenset(
    "<|eot_id|> <|eom_id|> <|im_end|> <|end|> <|return|> <|call|> <end_of_turn> <|endoftext|> <|end_of_text|> </s>"
    " <EOT> <｜end▁of▁sentence｜>".split()
)
"""Ends that the engine recognises by their text."""

_GENERATION = "generation_config.json"


def special_tokens(
    checkpoint: Checkpoint,
    tokens: Tokens,
    description: dict[str, Any],
    trained: Mapping[str, int] = MappingProxyType({}),
) -> Metadata:
    """The keys of all special tokens of a finished vocabulary. `description` is tokenizer.json, {} without one.

    `trained` are the ids by kind that a SentencePiece model holds itself: they count where nothing else is said.

    A token's text (tokenizer_config.json, special_tokens_map.json) says more than its id (generation_config.json,
    config.json): the ids are often left over from another vocabulary.
    """
    ids = tokens.ids()
    found = named(checkpoint, ids, warn=True)
    listed = checkpoint.object(_GENERATION)
    generation = _numbered(_GENERATION, listed, tokens, checkpoint)
    config = _numbered("config.json", checkpoint.config.values, tokens, checkpoint)
    for source in (generation, config):
        for kind, numbers in source.items():
            found.setdefault(kind, numbers[0])
    found = {**trained, **found}
    frame = _frame(checkpoint, description, ids, found)
    _add_ends(checkpoint, tokens, found, [*generation.get("eos", []), *config.get("eos", [])])
    lists = {kind: numbers for kind, numbers in generation.items() if isinstance(listed[f"{kind}_token_id"], list)}
    return {
        **{f"tokenizer.ggml.{KEYS.get(kind, kind)}_token_id": number for kind, number in found.items()},
        **{f"tokenizer.ggml.{KEYS[kind]}_token_ids": numbers for kind, numbers in lists.items()},
        **frame,
    }


def named(checkpoint: Checkpoint, ids: dict[str, int], *, warn: bool = False) -> dict[str, int]:
    """The kinds of token that a file names by its text, with their ids."""
    found: dict[str, int] = {}
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        source = checkpoint.object(file)
        for kind in KEYS:
            token = source.get(f"{kind}_token")
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str) and text in ids:
                found.setdefault(kind, ids[text])
            elif isinstance(text, str) and warn:
                checkpoint.warn(f"{file}: {kind}_token {text[:40]!r} is not in the vocabulary")
    return found


def _numbered(file: str, values: Any, tokens: Tokens, checkpoint: Checkpoint) -> dict[str, list[int]]:
    """The ids that a file states by kind. A negative one means none, as does null."""
    found = {}
    for kind in KEYS:
        key = f"{kind}_token_id"
        value = values.get(key)
        numbers = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(number) is int for number in numbers):
            raise BadRequest(f"{file}: {key!r} must be an id or a list of ids")
        if numbers and max(numbers) >= len(tokens):
            checkpoint.warn(f"{file}: {key} {max(numbers)} is beyond the vocabulary")
        if usable := [number for number in numbers if 0 <= number < len(tokens)]:
            found[kind] = usable
    return found


def _add_ends(checkpoint: Checkpoint, tokens: Tokens, found: dict[str, int], numbers: list[int]) -> None:
    """Tell the engine of every end that it would not recognise by itself."""
    for number in dict.fromkeys(numbers):
        free = [kind for kind in _MORE_ENDS if kind not in found]
        if tokens.texts[number] in _KNOWN_ENDS or number in (found.get(kind) for kind in ("eos", *_MORE_ENDS)):
            continue
        if free:
            found[free[0]] = number
        else:
            checkpoint.warn(f"token {tokens.texts[number][:40]!r} does not end a text: the engine takes three ends")


def _frame(checkpoint: Checkpoint, description: dict[str, Any], ids: dict[str, int], found: dict[str, int]) -> Metadata:
    """Whether a text gets a first and a last token: as tokenizer_config.json says, else as tokenizer.json does it."""
    stated = checkpoint.object("tokenizer_config.json")
    around = _around(description)
    frame: Metadata = {}
    for kind, texts in zip(("bos", "eos"), around or ([], []), strict=True):
        wanted = stated.get(f"add_{kind}_token")
        if not isinstance(wanted, bool):
            wanted = bool(texts) if around else None
        if wanted and len(texts) > 1:
            checkpoint.warn(f"tokenizer.json puts {len(texts)} tokens around a text, the engine none")
            wanted = False
        elif wanted and texts:
            _adopt(kind, texts[0], ids, found)
        if wanted and kind not in found:
            checkpoint.warn(f"tokenizer_config.json: add_{kind}_token has no effect without such a token")
            wanted = False
        if wanted is not None:
            frame[f"tokenizer.ggml.add_{kind}_token"] = wanted
    if "bos" not in found:
        frame["tokenizer.ggml.add_bos_token"] = False  # else the engine may take some token for it
    return frame


def _adopt(kind: str, text: str, ids: dict[str, int], found: dict[str, int]) -> None:
    """The engine adds what it calls `bos` and `eos`, whatever else ends a text by the other files' word."""
    if text not in ids:
        raise BadRequest(f"tokenizer.json: 'post_processor' adds {text[:40]!r}, which is not in the vocabulary")
    before = found.get(kind)
    found[kind] = ids[text]
    if kind == "eos" and before is not None and before != ids[text]:
        found["eot"] = before


def _around(description: dict[str, Any]) -> tuple[list[str], list[str]] | None:
    """The texts of the tokens that tokenizer.json puts before and behind a text; None when it does not say."""
    for step in members(description.get("post_processor"), "processors"):
        match step:
            case {"type": "TemplateProcessing", "single": list(parts)}:
                names = [_special(part) for part in parts]
                middle = names.index(None) if None in names else 0
                return [name for name in names[:middle] if name], [name for name in names[middle + 1 :] if name]
            case {"type": "RobertaProcessing" | "BertProcessing", "cls": [str(first), _], "sep": [str(last), _]}:
                return [first], [last]
    return None


def _special(part: Any) -> str | None:
    match part:
        case {"SpecialToken": {"id": str(text)}}:
            return text
    return None
