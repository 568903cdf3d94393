"""Thinking told apart from the answer while both stream in. modelfile-templates §7.3."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.chat.thinking import ThinkingSplitter
from llamero.messages import Text, Thinking
from tests.chat.splitting import Piece, read, read_whole

OPEN, CLOSE = "<think>", "</think>"


def splitter(*, is_open: bool = False) -> ThinkingSplitter:
    return ThinkingSplitter(OPEN, CLOSE, is_open=is_open)


def steps(*chunks: str, is_open: bool = False) -> list[list[Piece]]:
    """What each chunk gives, and at last what the end gives."""
    parser = splitter(is_open=is_open)
    return [[*parser.feed(chunk)] for chunk in chunks] + [[*parser.finish()]]


def test_t85_space_behind_the_tags_is_eaten() -> None:
    """T-85: across chunks too; the space within, and before the closing tag, stays."""
    assert steps("<think> a ", "b</think>\n\n c ", " d") == [
        [Thinking("a ")],
        [Thinking("b"), Text("c ")],
        [Text(" d")],
        [],
    ]


def test_t86_half_a_closing_tag_is_held_until_it_is_none() -> None:
    """T-86"""
    assert steps("<think>abc</th", "ing>x") == [[Thinking("abc")], [Thinking("</thing>x")], []]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        # T-87: an opening tag that is not at the start is text, and nothing in front of the text is lost
        ("x<think>a</think>y", [Text("x<think>a</think>y")]),
        ("  abc", [Text("  abc")]),
        ("<text", [Text("<text")]),
        (" \n <text", [Text(" \n <text")]),
        # T-88: only the first pair of tags counts
        ("<think>a</think><think>b</think>c", [Thinking("a"), Text("<think>b</think>c")]),
        (" \n<think>\n a</think>\nb", [Thinking("a"), Text("b")]),
        ("<think></think>b", [Text("b")]),
        ("<think> \n </think> \n ", []),
        ("<think>a", [Thinking("a")]),
        ("<think>a <b> </thi", [Thinking("a <b> </thi")]),
        ("<think>a<think>b</think>c", [Thinking("a<think>b"), Text("c")]),
        ("<think>a</</think>c", [Thinking("a</"), Text("c")]),
        ("<thi", [Text("<thi")]),
        (" \n ", [Text(" \n ")]),
        ("", []),
        ("<THINK>a</THINK>", [Text("<THINK>a</THINK>")]),
        ("<think>日本</think>語\u2028", [Thinking("日本"), Text("語\u2028")]),
    ],
)
def test_an_answer_however_it_is_cut(text: str, events: list[Piece]) -> None:
    assert read(splitter, text) == events


@pytest.mark.parametrize(
    ("text", "events"),
    [
        # T-89: the prompt ended with the opening tag
        ("why</think>ok", [Thinking("why"), Text("ok")]),
        (" \nwhy </think>\n ok", [Thinking("why "), Text("ok")]),
        ("why", [Thinking("why")]),
        ("</think>ok", [Text("ok")]),
        ("<think>why</think>ok", [Thinking("<think>why"), Text("ok")]),
    ],
)
def test_a_prompt_that_opened_the_thinking(text: str, events: list[Piece]) -> None:
    assert read(lambda: splitter(is_open=True), text) == events


@pytest.mark.parametrize(("opening", "closing"), [("[THINK]", "[/THINK]"), ("||", "||"), ("aab", "aaab"), ("a", "b")])
def test_any_tags(opening: str, closing: str) -> None:
    text = f"{opening}aa aab aa{closing}rest"
    before, _, after = text.removeprefix(opening).partition(closing)
    events = [Thinking(before), Text(after.lstrip())]
    assert read(lambda: ThinkingSplitter(opening, closing), text) == [event for event in events if event.text]


def test_a_tag_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match="both tags"):
        ThinkingSplitter("<think>", "")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "</", "think>", "a", " ", "\n", "é"])), st.booleans())
def test_nothing_is_lost_but_tags_and_the_space_around_them(parts: list[str], is_open: bool) -> None:
    text = "".join(parts)
    events = read_whole(splitter(is_open=is_open), parts)
    assert events == read_whole(splitter(is_open=is_open), [text])
    told = "".join(event.text for event in events if not isinstance(event, Thinking))
    thought = "".join(event.text for event in events if isinstance(event, Thinking))
    if is_open or text.lstrip().startswith(OPEN):
        inside = text.lstrip().removeprefix("" if is_open else OPEN)
        before, closed, after = inside.partition(CLOSE)
        assert (thought, told) == (before.lstrip(), after.lstrip() if closed else "")
    else:
        assert (thought, told) == ("", text)


@pytest.mark.parametrize("text", [" " * 1_000_000, "<" * 1_000_000, "<think>" + "</think" * 140_000, "<thin" * 200_000])
@pytest.mark.parametrize("size", [16, 1_000_000])
def test_a_megabyte_takes_less_than_a_second(text: str, size: int) -> None:
    started = time.process_time()
    read_whole(splitter(), [text[at : at + size] for at in range(0, len(text), size)])
    assert time.process_time() - started < 1
