"""Fields of a request body by name and type (compat-api §1.3)."""

from __future__ import annotations

from typing import Any

import pytest

from llamero import durations
from llamero.dialects.fields import Fields, read_body, read_extensions, warnings_of
from llamero.errors import BadRequest, InvalidField

BODY = Fields(
    {"t": "a", "b": True, "i": 3, "n": 0.5, "l": [1, "x"], "o": {"t": 4}, "parts": [{"t": "p"}], "null": None}
)


def test_each_type_comes_as_it_is_and_what_is_absent_or_null_as_none() -> None:
    """partly C-03"""
    assert (BODY.text("t"), BODY.boolean("b"), BODY.integer("i"), BODY.number("n")) == ("a", True, 3, 0.5)
    assert BODY.number("i") == 3.0
    assert BODY.items("l") == [1, "x"]
    assert BODY.object("o") is not None
    for getter in (BODY.raw, BODY.text, BODY.boolean, BODY.integer, BODY.number, BODY.items, BODY.object):
        assert getter("null") is None
        assert getter("absent") is None
    assert BODY.objects("absent") == []


@pytest.mark.parametrize(
    ("getter", "name", "message"),
    [
        (BODY.text, "i", "'i' must be a string, not a number"),
        (BODY.integer, "b", "'b' must be an integer, not a boolean"),
        (BODY.integer, "n", "'n' must be an integer, not a number"),
        (BODY.number, "b", "'b' must be a number, not a boolean"),
        (BODY.boolean, "i", "'i' must be true or false, not a number"),
        (BODY.items, "o", "'o' must be an array, not an object"),
        (BODY.object, "l", "'l' must be an object, not an array"),
    ],
)
def test_another_type_is_refused_by_name(getter: Any, name: str, message: str) -> None:
    with pytest.raises(InvalidField, match="must be") as caught:
        getter(name)
    assert (str(caught.value), caught.value.param) == (message, name)


def test_a_path_leads_through_objects_and_arrays() -> None:
    body = Fields({"messages": [{}, {"content": [{"text": 1}]}]})
    part = body.objects("messages")[1].objects("content")[0]
    with pytest.raises(InvalidField) as caught:
        part.text("text")
    assert caught.value.param == "messages[1].content[0].text"
    with pytest.raises(InvalidField) as caught:
        Fields({"tools": [None]}).objects("tools")
    assert (str(caught.value), caught.value.param) == ("'tools[0]' must be an object, not null", "tools[0]")


def test_integers_have_64_bits() -> None:
    assert Fields({"seed": -(1 << 63)}).integer("seed") == -(1 << 63)
    with pytest.raises(InvalidField, match="64 bits"):
        Fields({"seed": 1 << 63}).integer("seed")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b'{"model":"a","model":"b"}'])
def test_a_body_is_one_object(body: bytes) -> None:
    """partly C-04"""
    with pytest.raises(BadRequest):
        read_body(body)


def test_extensions_are_read_as_the_native_dialect_reads_them() -> None:
    """partly C-17"""
    body = Fields({"options": {"num_ctx": 512}, "keep_alive": "5m", "think": "high"})
    assert read_extensions(body) == {
        "options": {"num_ctx": 512},
        "keep_alive_ns": 5 * durations.MINUTE,
        "think": "high",
    }
    assert read_extensions(Fields({})) == {"options": {}}


@pytest.mark.parametrize(("name", "value"), [("options", []), ("keep_alive", "soon"), ("think", "hard")])
def test_a_bad_extension_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidField) as caught:
        read_extensions(Fields({name: value}))
    assert caught.value.param == name


def test_what_has_no_effect_is_told_unless_it_is_a_label() -> None:
    """partly C-03"""
    body = Fields({"model": "m", "zzz": 1, "store": True, "user": "u", "think": True, "gone": None, "verbosity": None})
    assert warnings_of(body, {"model"}, ("store", "verbosity")) == (
        "field 'zzz' is unknown and has no effect",
        "field 'store' has no effect",
    )
