"""Values as text: printed by an action, by `print` and `println`, and as JSON (modelfile-templates §2.6)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.template.jsontext import encode
from llamero.template.meter import Meter
from llamero.template.numerals import json_number, shortest
from llamero.template.printing import default, printed, sprint, sprintln
from llamero.template.values import NOTHING, Value, from_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"), (12, "12"), (-1, "-1"), (True, "true"), (False, "false"), (None, "<no value>"),
        (NOTHING, "<no value>"), ([], "[]"), (["a", "b"], "[a b]"), ([1, None, [2]], "[1 <nil> [2]]"), ({}, "map[]"),
        ({"b": 1, "a": None, "B": "x"}, "map[B:x a:<nil> b:1]"), (b"\x01\xff", "[1 255]"),
    ],
)  # fmt: skip
def test_printed(value: Value, text: str) -> None:
    assert printed(value, Meter()) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"), (3.0, "3"), (1e6, "1e+06"), (999999.0, "999999"), (1234567.0, "1.234567e+06"), (-2.5, "-2.5"),
        (0.0001, "0.0001"), (0.00001, "1e-05"), (1e21, "1e+21"), (1e100, "1e+100"), (123456.789, "123456.789"),
        (1234567.891, "1.234567891e+06"), (-1e6, "-1e+06"), (0.1 + 0.2, "0.30000000000000004"), (0.0, "0"),
        (-0.0, "-0"), (5e-324, "5e-324"), (1e15, "1e+15"), (1e16, "1e+16"),
    ],
)  # fmt: skip
def test_floats_have_the_fewest_digits(value: float, text: str) -> None:
    assert shortest(value) == text
    assert default(value, Meter()) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (1000000, "1000000"), (999999999999999, "999999999999999"), (10**15, "1e+15"), (-5, "-5"), (0.5, "0.5"),
     (1234567.5, "1.2345675e+06"), (1e6, "1000000"), (-0.0, "0")],
)  # fmt: skip
def test_whole_numbers_from_json_print_as_integers(value: float, text: str) -> None:
    assert default(from_json(value), Meter()) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""), (["a", "b"], "ab"), ([1, 2], "1 2"), ([1, 2, "a", "b", 3], "1 2ab3"), ([None, None], "<nil> <nil>"),
        ([True, "x", False, 1], "truexfalse 1"), ([["a"], 1.5], "[a] 1.5"),
    ],
)  # fmt: skip
def test_print_parts_what_is_no_text(values: list[Value], text: str) -> None:
    assert sprint(values, Meter()) == text


def test_println_parts_everything() -> None:
    assert sprintln(["a", "b", 1], Meter()) == "a b 1\n"
    assert sprintln([], Meter()) == "\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (NOTHING, "null"), ("<é&>", '"\\u003cé\\u0026\\u003e"'), ("\u2028\u2029", '"\\u2028\\u2029"'),
        ('"\\/\b\f\n\r\t\x00\x1f\x7f', '"\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"'), ("\udcff", '"\\ufffd"'),
        ({"b": 1, "a": [True, None], "C": {}}, '{"C":{},"a":[true,null],"b":1}'), ([], "[]"), (b"\x01\x02", '"AQI="'),
        (1.0, "1"), (1.5, "1.5"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1e-6, "0.000001"), (1e-7, "1e-7"),
        (1.5e-10, "1.5e-10"), (-0.0, "-0"), (123456789.125, "123456789.125"), ({"<": 1}, '{"\\u003c":1}'),
    ],
)  # fmt: skip
def test_json(value: Value, text: str) -> None:
    assert encode(value, Meter()) == text


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.text() | FLOATS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_means_what_it_was_made_of(value: Any) -> None:
    assert json.loads(encode(from_json(value), Meter()), parse_int=float) == value


@given(FLOATS)
def test_digits_mean_their_number(value: float) -> None:
    for text in (shortest(value), json_number(value)):
        assert float(text) == value
        assert math.copysign(1, float(text)) == math.copysign(1, value)
