"""Arrays decoded for `/api/show` (store-registry §7.5)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from llamero.errors import InvalidModelFile
from llamero.gguf import arrays, read_header, show_metadata
from tests.gguf_files import Typed, gguf_file, llama_tensors, tiny_llama


def test_show_hides_name_and_template_and_counts_the_parameters() -> None:
    """partly S-93."""
    data = tiny_llama({"general.parameter_count": 1})
    shown = show_metadata(read_header(data), data, verbose=False)
    assert not {"general.name", "tokenizer.chat_template"} & set(shown)
    assert shown["general.parameter_count"] == sum(math.prod(spec.shape) for spec in llama_tensors())
    assert shown["llama.attention.layer_norm_rms_epsilon"] == 1e-5
    assert json.dumps(shown["llama.attention.layer_norm_rms_epsilon"]) == "1e-05"


def test_show_of_a_projector_removes_nothing() -> None:
    data = gguf_file({"general.name": "eye", "tokenizer.chat_template": "t"})
    shown = show_metadata(read_header(data), data, verbose=False, projector=True)
    assert shown == {"general.name": "eye", "tokenizer.chat_template": "t", "general.parameter_count": 0}


@pytest.mark.parametrize(
    ("value", "short", "full"),
    [
        (["a", "b"], None, ["a", "b"]),
        ([0.1, 1e-6, 3.0], None, [0.1, 1e-6, 3]),
        (10000.0, 10000, 10000),
        (Typed("f64", -(2.0**53) + 1), 1 - 2**53, 1 - 2**53),
        (Typed("f64", 2.0**53), 2.0**53, 2.0**53),
        ([True, False], None, [True, False]),
        ([], [], []),
        (Typed("[string]", []), [], []),
        ([math.nan, math.inf, 1.0], None, [None, None, 1]),
        (math.nan, None, None),
        (-math.inf, None, None),
        (Typed("f64", math.inf), None, None),
        (Typed("f64", 1 / 3), 1 / 3, 1 / 3),
    ],
)
def test_show_of_arrays_and_of_numbers(value: Any, short: Any, full: Any) -> None:
    """As the reference writes them: what has no fraction is an integer; what JSON cannot say is null."""
    data = gguf_file({"k": value})
    header = read_header(data)
    assert json.dumps(show_metadata(header, data, verbose=False)["k"]) == json.dumps(short)
    assert json.dumps(show_metadata(header, data, verbose=True)["k"]) == json.dumps(full)


def test_show_gives_the_keys_in_order() -> None:
    data = gguf_file({"z.a": 1, "general.architecture": "z", "a.b": 2, "a": 3})
    shown = show_metadata(read_header(data), data, verbose=False)
    assert list(shown) == ["a", "a.b", "general.architecture", "general.parameter_count", "z.a"]


def test_decoding_more_than_any_real_vocabulary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are cheap to carry and dear to decode: a thousand of them together would fill the memory."""
    data = gguf_file({f"k{n}": [1, 2, 3] for n in range(5)})
    header = read_header(data)
    monkeypatch.setattr(arrays, "MAX_DECODED_ELEMENTS", 14)
    with pytest.raises(InvalidModelFile, match="array size 15 exceeds maximum 14"):
        show_metadata(header, data, verbose=True)
    monkeypatch.setattr(arrays, "MAX_DECODED_ELEMENTS", 15)
    monkeypatch.setattr(arrays, "MAX_DECODED_BYTES", 59)
    with pytest.raises(InvalidModelFile, match="array size of 60 bytes exceeds maximum 59"):
        show_metadata(header, data, verbose=True)
