"""JSON as Go writes it (store-registry §2.4). The expected texts are what `encoding/json` gives for the same values."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import BadRequest
from llamero.store.canonical import encode

NUMBERS = [
    (0, "0"),
    (1, "1"),
    (-7, "-7"),
    (1.0, "1"),
    (-0.0, "-0"),
    (0.1, "0.1"),
    (0.6, "0.6"),
    (1e-6, "0.000001"),
    (1.5e-6, "0.0000015"),
    (9.99e-7, "9.99e-7"),
    (1e-7, "1e-7"),
    (-2.5e-10, "-2.5e-10"),
    (1e-100, "1e-100"),
    (123456.789, "123456.789"),
    (1e20, "100000000000000000000"),
    (1.5e20, "150000000000000000000"),
    (1e21, "1e+21"),
    (-1.25e22, "-1.25e+22"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (5e-324, "5e-324"),
    (2**53, "9007199254740992"),
    (2**53 + 1, "9007199254740992"),
    (2**60 + 1, "1152921504606847000"),
    (10**21, "1e+21"),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS, ids=[text for _, text in NUMBERS])
def test_numbers_are_doubles_in_their_shortest_form(value: float, text: str) -> None:
    assert encode(value) == text.encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_reads_back_the_same(value: float) -> None:
    assert float(encode(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400], ids=str)
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(BadRequest, match="out of range"):
        encode({"temperature": value})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<|a|>", r'"\u003c|a|\u003e"'),
        ("a&b", r'"a\u0026b"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ("é🦙", '"é🦙"'),
        ('"\\/', r'"\"\\/"'),
        ("\n\r\t\b\f", r'"\n\r\t\b\f"'),
        ("\x00\x1f\x7f", '"\\u0000\\u001f\x7f"'),
        ("\ud800", '"\ufffd"'),
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ([], "[]"),
        ({}, "{}"),
        (("a", 1), '["a",1]'),
        ({"b": 1, "a": [{"d": 2, "c": 3}]}, '{"b":1,"a":[{"d":2,"c":3}]}'),
    ],
)
def test_values(value: Any, text: str) -> None:
    assert encode(value) == text.encode()


def test_keys_are_sorted_bytewise_on_every_level_when_asked() -> None:
    value = {"b": 1, "a": [{"é": 2, "z": 3, "Z": 4, "🦙": 5, "\uffff": 6}]}
    assert encode(value, sort_keys=True).decode() == '{"a":[{"Z":4,"z":3,"é":2,"\uffff":6,"🦙":5}],"b":1}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_any_json_reader_gets_the_value_back(value: Any, sort_keys: bool) -> None:
    try:
        assert json.loads(encode(value, sort_keys=sort_keys)) == value
    except UnicodeEncodeError:
        pytest.fail("every text can be written")


def test_deep_nesting_is_refused_before_the_stack_ends() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(BadRequest, match="nested"):
        encode(value)
