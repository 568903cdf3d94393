"""Embeddings, read and written (compat-api §7)."""

from __future__ import annotations

import base64
import json
import struct
from array import array
from typing import Any

import pytest

from llamero.dialects.openai.embeddings import Embeddings, read_embeddings, write_embeddings
from llamero.errors import InvalidField
from llamero.messages import Embedded, Usage, Vector


def read(**fields: Any) -> Embeddings:
    return read_embeddings(json.dumps({"model": "m", "input": "x", **fields}).encode())


def refused(**fields: Any) -> tuple[str, str]:
    with pytest.raises(InvalidField) as caught:
        read(**fields)
    return str(caught.value), caught.value.param


@pytest.mark.parametrize(
    ("given", "texts", "tokens"),
    [
        ("x", ("x",), ()),
        ("", ("",), ()),
        (["a", "", "c"], ("a", "", "c"), ()),
        ([1, 2, 3], (), ((1, 2, 3),)),
        ([[1], [2, 3]], (), ((1,), (2, 3))),
    ],
)
def test_inputs(given: Any, texts: tuple[str, ...], tokens: tuple[Any, ...]) -> None:
    """partly C-66, C-68, C-69"""
    request = read(input=given).request
    assert (request.inputs, request.tokens) == (texts, tokens)


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"input": None}, "invalid input", "input"),
        ({"input": []}, "invalid input", "input"),
        ({"input": 3}, "invalid input type", "input"),
        ({"input": {}}, "invalid input type", "input"),
        ({"input": ["a", 1]}, "invalid input type", "input"),
        ({"input": [[]]}, "invalid input type", "input"),
        ({"input": ["a"] * 2049}, "input: at most 2048 items are accepted", "input"),
        (
            {"encoding_format": "hex"},
            "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].",
            "encoding_format",
        ),
        ({"dimensions": 0}, "dimensions must be at least 1", "dimensions"),
        ({"dimensions": 1.5}, "'dimensions' must be an integer, not a number", "dimensions"),
        ({"model": ""}, "model is required", "model"),
    ],
)
def test_values_that_cannot_be(fields: dict[str, Any], message: str, param: str) -> None:
    """partly C-07, C-68"""
    assert refused(**fields) == (message, param)


def test_settings() -> None:
    asked = read(dimensions=64, truncate=False, options={"num_ctx": 512}, keep_alive=0, user="u", zzz=1)
    request = asked.request
    assert (request.dimensions, request.truncate, request.options) == (64, False, {"num_ctx": 512})
    assert (request.keep_alive_ns, request.warnings) == (0, ("field 'zzz' is unknown and has no effect",))
    assert (read().request.dimensions, read().request.truncate) == (0, True)


def vector(*values: float) -> Vector:
    return array("f", values)


def test_numbers() -> None:
    """partly C-66"""
    reply = write_embeddings(
        read(input=["a", "b"]), Embedded((vector(0.5, 0.75), vector(1, 0)), Usage(prompt_tokens=7))
    )
    assert json.loads(reply) == {
        "object": "list",
        "data": [
            {"object": "embedding", "embedding": [0.5, 0.75], "index": 0},
            {"object": "embedding", "embedding": [1.0, 0.0], "index": 1},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


@pytest.mark.parametrize("encoding", ["base64", "BASE64"])
def test_base64(encoding: str) -> None:
    """partly C-65, C-68"""
    reply = json.loads(write_embeddings(read(encoding_format=encoding), Embedded((vector(0.5, -0.25, 1),))))
    assert struct.unpack("<3f", base64.b64decode(reply["data"][0]["embedding"])) == (0.5, -0.25, 1.0)


def test_a_model_has_only_so_many_dimensions() -> None:
    """partly C-67"""
    write_embeddings(read(dimensions=2), Embedded((vector(0.5, 0.75),)))
    with pytest.raises(InvalidField) as caught:
        write_embeddings(read(dimensions=3), Embedded((vector(0.5, 0.75),)))
    assert (str(caught.value), caught.value.param) == (
        "dimensions must not be more than the 2 of this model",
        "dimensions",
    )


def test_both_forms_are_the_same_to_the_last_bit() -> None:
    """partly C-65"""
    given = vector(1 / 3, -2 / 3, 1e-40, -0.0, 3e38, 1.17e-38)
    plain, packed = (
        json.loads(write_embeddings(read(encoding_format=form), Embedded((given,))))["data"][0]["embedding"]
        for form in ("float", "base64")
    )
    assert struct.pack("<6f", *plain) == base64.b64decode(packed) == struct.pack("<6f", *given)
