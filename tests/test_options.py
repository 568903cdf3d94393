"""The table of options, from JSON and from text (native-api §2.3, modelfile-templates §1.7)."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.errors import BadRequest, UnsupportedOption
from llamero.options import OPTIONS, merge_options, parse_parameter, read_options


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ({"num_ctx": 10.9}, {"num_ctx": 10}),
        ({"seed": -5.9}, {"seed": -5}),
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"use_mmap": False}, {"use_mmap": False}),
        ({"stop": ["a"]}, {"stop": ["a"]}),
        ({"num_ctx": None}, {}),
    ],
)
def test_values_in_their_own_types(given: dict[str, Any], known: dict[str, Any]) -> None:
    assert read_options(given) == (known, [])


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"num_ctx": "a"}, 'option "num_ctx" must be of type integer'),
        ({"num_ctx": True}, 'option "num_ctx" must be of type integer'),
        ({"num_ctx": float("inf")}, 'option "num_ctx" must be of type integer'),
        ({"top_p": "hot"}, 'option "top_p" must be of type float32'),
        ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"grammar": 1}, 'option "grammar" must be of type string'),
    ],
)
def test_wrong_types(given: dict[str, Any], error: str) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        read_options(given)
    assert str(caught.value) == error
    assert caught.value.status == 400


def test_a_whole_number_beyond_all_floats_is_a_wrong_type() -> None:
    """Found by fuzzing: the parameters of a model that was pulled may hold one."""
    with pytest.raises(UnsupportedOption, match='option "temperature" must be of type float32'):
        read_options({"temperature": 10**400})


@pytest.mark.parametrize(("name", "words"), [("foo", "unknown"), ("Temperature", "unknown"), ("mirostat", "retired")])
def test_names_without_effect_are_reported(name: str, words: str) -> None:
    known, warnings = read_options({name: 1})
    assert known == {}
    assert [words in warning and name in warning for warning in warnings] == [True]


def test_empty_stop_texts_are_left_out_and_named() -> None:
    """The engine would find them before the first word."""
    assert read_options({"stop": ["", "a", ""]}) == ({"stop": ["a"]}, ["option 'stop': an empty text has no effect"])
    assert read_options({"stop": []}) == ({"stop": []}, [])
    assert read_options({"stop": [""]}) == ({}, ["option 'stop': an empty text has no effect"])


@pytest.mark.parametrize("stops", [["x"] * 65, ["x" * 1025]])
def test_stop_lists_are_bounded(stops: list[str]) -> None:
    with pytest.raises(UnsupportedOption):
        read_options({"stop": stops})


def test_later_layers_win_and_absent_ones_keep_the_default() -> None:
    merged = merge_options({"top_k": 1, "seed": 7}, {"top_k": 2})
    assert (merged["top_k"], merged["seed"], merged["temperature"]) == (2, 7, 0.8)
    assert set(merged) == set(OPTIONS)


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("temperature", ["0.5"], 0.5),
        ("num_ctx", ["4096"], 4096),
        ("seed", ["-1"], -1),
        ("use_mmap", ["T"], True),
        ("stop", ["a", "b"], ["a", "b"]),
        ("seed", ["1", "2"], 1),
    ],
)
def test_values_written_as_text(name: str, words: list[str], value: Any) -> None:
    assert parse_parameter(name, words) == value


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("foo", "1", "unknown parameter 'foo'"),
        ("grammar", "root", "unknown parameter 'grammar'"),
        ("temperature", "abc", "invalid float value [abc]"),
        ("temperature", "nan", "invalid float value [nan]"),
        ("top_k", "1.5", "invalid int value [1.5]"),
        ("top_k", "99999999999999999999", "invalid int value [99999999999999999999]"),
        ("use_mmap", "maybe", "invalid bool value [maybe]"),
    ],
)
def test_text_that_is_no_value(name: str, text: str, error: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_parameter(name, [text])
    assert str(caught.value) == error
