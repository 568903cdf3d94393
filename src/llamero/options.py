"""The options of a model: one table of names, types, defaults and what each one needs. It loads and samples nothing.

Source: native-api §2.3, scheduler §2.1, modelfile-templates §1.7. Requests, Modelfiles and the REPL read this table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import BadRequest, UnsupportedOption

Kind = Literal["integer", "float32", "boolean", "array", "string"]
Reach = Literal["runner", "sampling"]


@dataclass(frozen=True, slots=True)
class Option:
    name: str
    kind: Kind
    reach: Reach
    """`runner` options belong to the loaded engine (another value reloads it), `sampling` ones to one request."""
    default: Any
    meaning: str
    in_modelfile: bool = True


OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        Option("num_ctx", "integer", "runner", None, "context window in tokens; unset: by memory"),
        Option("num_batch", "integer", "runner", None, "prompt batch in tokens; unset: by context"),
        Option("num_gpu", "integer", "runner", -1, "layers on the GPU; -1 automatic, 0 none"),
        Option("main_gpu", "integer", "runner", None, "index of the GPU to use"),
        Option("use_mmap", "boolean", "runner", None, "map the weights into memory; unset: automatic"),
        Option("num_thread", "integer", "runner", 0, "CPU threads; 0 automatic"),
        Option("draft_num_predict", "integer", "runner", None, "tokens drafted ahead by a draft model"),
        Option("num_keep", "integer", "sampling", 4, "prompt tokens kept when the context shifts"),
        Option("seed", "integer", "sampling", -1, "sampler seed; -1 random"),
        Option("num_predict", "integer", "sampling", -1, "most tokens to generate; negative: open-ended"),
        Option("top_k", "integer", "sampling", 40, "sample from the k likeliest tokens"),
        Option("top_p", "float32", "sampling", 0.9, "sample from the likeliest tokens that reach this probability"),
        Option("min_p", "float32", "sampling", 0.0, "drop tokens below this share of the likeliest one"),
        Option("typical_p", "float32", "sampling", 1.0, "locally typical sampling; 1 off"),
        Option("repeat_last_n", "integer", "sampling", 64, "tokens looked at for repetition; 0 off, -1 the context"),
        Option("temperature", "float32", "sampling", 0.8, "spread of the sampling; 0 always the likeliest"),
        Option("repeat_penalty", "float32", "sampling", 1.0, "penalty on repeated tokens; 1 off"),
        Option("presence_penalty", "float32", "sampling", 0.0, "penalty on tokens that occurred"),
        Option("frequency_penalty", "float32", "sampling", 0.0, "penalty on tokens by how often they occurred"),
        Option("stop", "array", "sampling", (), "texts that end the answer"),
        Option("grammar", "string", "sampling", "", "GBNF grammar that the answer must follow", in_modelfile=False),
    )
}

RUNNER_OPTIONS = tuple(option.name for option in OPTIONS.values() if option.reach == "runner")

RETIRED = frozenset(
    "numa low_vram f16_kv logits_all vocab_only use_mlock embedding_only tfs_z mirostat mirostat_tau mirostat_eta "
    "penalize_newline".split()
)
"""Names that older releases knew. They are accepted and named in a warning."""

DEPRECATED_PARAMETERS = frozenset(
    "penalize_newline low_vram f16_kv logits_all vocab_only use_mlock mirostat mirostat_tau mirostat_eta".split()
)
"""Names that a Modelfile may still carry: `warning: parameter X is deprecated`."""

FLOAT32_MAX = 3.4028234663852886e38
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

MAX_STOPS = 64
MAX_STOP_BYTES = 1024
"""Security §5: a stop list is matched against every token."""


def read_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check one set of options as it came in JSON.

    Returns the known ones in their own types, and a warning for each name that means nothing to us. `null` skips an
    option; an integer given a fraction is cut toward zero. Raises UnsupportedOption for a wrong type.
    """
    known: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in given.items():
        option = OPTIONS.get(name)
        if option is None:
            what = "is retired and has no effect" if name in RETIRED else "is unknown and has no effect"
            warnings.append(f"option {name!r} {what}")
        elif value is not None:
            known[name] = _coerce(option, value)
            if name == "stop" and "" in known[name]:
                warnings.append("option 'stop': an empty text has no effect")
                known[name] = [text for text in known[name] if text]  # the engine would stop before the first word
                if not known[name]:
                    del known[name]  # nor does it take away the model's own
    return known, warnings


def merge_options(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Every option's effective value: defaults, then each layer, the last one winning."""
    merged = {name: option.default for name, option in OPTIONS.items()}
    for layer in layers:
        merged.update({name: value for name, value in layer.items() if value is not None})
    return merged


def parse_parameter(name: str, words: list[str]) -> Any:
    """The value of an option written as text: a PARAMETER line, `/set parameter`, `--param`.

    Raises BadRequest in the words of a Modelfile error (E6, E7). A list option takes all words, others the first.
    """
    option = OPTIONS.get(name)
    if option is None or not option.in_modelfile:
        raise BadRequest(f"unknown parameter '{name}'")
    if option.kind == "array":
        return list(words)
    text = words[0]
    try:
        match option.kind:
            case "integer":
                if not text.lstrip("+-").isascii() or not text.lstrip("+-").isdigit():
                    raise ValueError
                value = int(text)
                if not -(1 << 63) <= value < 1 << 63:
                    raise ValueError
                return value
            case "float32":
                if not _DECIMAL.fullmatch(text) or abs(number := float(text)) > FLOAT32_MAX:
                    raise ValueError
                return number
            case "boolean":
                return parse_bool(text)
            case _:
                return text
    except ValueError:
        kind = {"integer": "int", "float32": "float", "boolean": "bool"}[option.kind]
        raise BadRequest(f"invalid {kind} value [{text}]") from None


def parse_bool(text: str) -> bool:
    """Go's spelling of a boolean; ValueError for anything else."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError(text)


def _coerce(option: Option, value: Any) -> Any:
    match option.kind:
        case "integer":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _wrong(option)
            if isinstance(value, float) and not math.isfinite(value):
                raise _wrong(option)
            return max(-(1 << 63), min((1 << 63) - 1, int(value)))
        case "float32":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _wrong(option)
            try:
                return float(value)
            except OverflowError:  # a whole number beyond all floats: a model's file may hold one
                raise _wrong(option) from None
        case "boolean":
            if not isinstance(value, bool):
                raise _wrong(option)
            return value
        case "string":
            if not isinstance(value, str):
                raise _wrong(option)
            return value
        case "array":
            return _stops(option, value)


def _stops(option: Option, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _wrong(option)
    if not all(isinstance(item, str) for item in value):
        raise UnsupportedOption(f'option "{option.name}" must be of an array of strings')
    if len(value) > MAX_STOPS or any(len(item.encode()) > MAX_STOP_BYTES for item in value):
        raise UnsupportedOption(f'option "{option.name}": at most {MAX_STOPS} items of {MAX_STOP_BYTES} bytes each')
    return list(value)


def _wrong(option: Option) -> UnsupportedOption:
    return UnsupportedOption(f'option "{option.name}" must be of type {option.kind}')
