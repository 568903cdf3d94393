"""Markdown as it arrives: what it becomes, that nothing is lost, that it does not matter how it is cut (cli §6.7)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.cli.format import columns
from llamero.cli.markdown import Markdown

WIDTH = 40


def rendered(text: str, *, width: int = WIDTH, pieces: int = 0) -> str:
    """What is written for the text, given whole or in pieces of that many characters."""
    markdown = Markdown(lambda: width)
    parts = [text[at : at + pieces] for at in range(0, len(text), pieces)] if pieces else [text]
    return "".join(map(markdown.feed, parts)) + markdown.close()


def screen(text: str) -> str:
    """What remains to be seen: no colours, and of a line that was begun again only the last version."""
    lines = re.sub(r"\x1b\[[0-9;]*[mK]", "", text).split("\n")
    return "\n".join(line.rpartition("\r")[2].rstrip() for line in lines)


def shown(text: str, **how: int) -> str:
    return screen(rendered(text, **how))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        pytest.param("plain", "plain", id="a word"),
        pytest.param("# One\n## Two", "One\nTwo", id="headings"),
        pytest.param("#hashtag", "#hashtag", id="no heading"),
        pytest.param("- a\n* b\n+ c\n  - d", "• a\n• b\n• c\n  • d", id="bullets"),
        pytest.param("1. a\n12) b", "1. a\n12) b", id="numbers"),
        pytest.param("- [ ] a\n- [x] b", "☐ a\n☑ b", id="tasks"),
        pytest.param("- [link](u)", "• link (u)", id="a bullet with a link"),
        pytest.param("> a\n> > b\n>", "│ a\n│ │ b\n│", id="quotes"),
        pytest.param("a\n\n\n\nb", "a\n\nb", id="blank lines"),
        pytest.param("\n\na\n\n", "a", id="blank lines around all"),
        pytest.param("---", "─" * 35, id="a rule"),
        pytest.param("* * *", "─" * 35, id="a rule with blanks"),
        pytest.param("-1 and -", "-1 and -", id="no bullet"),
        pytest.param("2024 was\n3.5 is", "2024 was\n3.5 is", id="no number of a list"),
        pytest.param("**bold** *it* `code` ~~gone~~", "bold it code gone", id="spans"),
        pytest.param("***both*** __bold__ _it_", "both bold it", id="other spans"),
        pytest.param("**bold with `code`**", "bold with code", id="nested"),
        pytest.param("2 * 3 * 4", "2 * 3 * 4", id="times"),
        pytest.param("2*3*4", "2*3*4", id="times without blanks"),
        pytest.param("snake_case_name __init__.py", "snake_case_name init.py", id="snake case"),
        pytest.param("**never closed", "**never closed", id="an emphasis without an end"),
        pytest.param("a ` b", "a ` b", id="a lone backtick"),
        pytest.param("[1] and [a](b c) x", "[1] and [a](b c) x", id="no link"),
        pytest.param("![cat](c.png) <b> &amp;", "cat (c.png) <b> &amp;", id="a picture"),
        pytest.param("[https://a](https://a)", "https://a", id="a link to itself"),
        pytest.param(r"\*literal\* \d", r"*literal* \d", id="escapes"),
        pytest.param("```\na **b**\n\n\n- c\n```\nd", "──\na **b**\n\n\n- c\n──\nd", id="code"),
        pytest.param("~~~~ sh\n~~~\n~~~~", "── sh\n~~~\n──", id="a longer fence"),
        pytest.param("```py title=a.py\nx\n```", "── py title=a.py\nx\n──", id="what stands after the language"),
        pytest.param("```py\nopen", "── py\nopen", id="code without an end"),
        pytest.param("```no fence``` here", "no fence here", id="code in a line"),
        pytest.param("| a | b |\n|---|--:|\n| 1 | 22 |", "a │  b\n──┼───\n1 │ 22", id="a table"),
        pytest.param("| a |\nb", "| a |\nb", id="no table"),
        pytest.param("| a \\| b | `c` |\n|-|-|", "a | b │ c\n──────┼──", id="a bar in a cell"),
        pytest.param("|a|b|\n|-|-|\n|1|\n|1|2|3|\n", "a │ b\n──┼──\n1 │\n1 │ 2", id="rows of other lengths"),
    ],
)
def test_what_is_seen(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_the_styles() -> None:
    assert rendered("**b** `c`") == "\x1b[1mb\x1b[0m \x1b[36mc\x1b[0m"
    assert rendered("## h *i*") == "\x1b[1mh \x1b[0m\x1b[1m\x1b[3mi\x1b[0m"


def test_words_are_wrapped_under_their_bullet() -> None:
    lines = shown("- one two three four five six seven eight nine ten").split("\n")
    assert lines == ["• one two three four five six seven", "  eight nine ten"]


def test_a_quote_keeps_its_bar() -> None:
    lines = shown("> one two three four five six seven eight nine ten").split("\n")
    assert lines == ["│ one two three four five six seven", "│ eight nine ten"]


def test_a_word_that_no_line_holds_runs_on() -> None:
    url = "https://example.com/" + "x" * 100
    assert shown(f"see {url} now").replace("\n", " ") == f"see {url} now"


def test_wide_characters_take_two_columns() -> None:
    lines = shown("天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往，秋收冬藏").split("\n")
    assert len(lines) == 2
    assert all(columns(line) <= 36 for line in lines)


def test_no_line_begins_with_a_comma() -> None:
    for count in range(10, 24):
        assert "\n，" not in shown("天" * count + "，" + "地" * 5)


def test_a_table_that_is_too_wide_breaks_its_cells() -> None:
    cell = "some words that need room"
    lines = shown(f"| a | b |\n|---|---|\n| {cell} | {cell} |").split("\n")
    assert all(columns(line) <= WIDTH - 5 for line in lines)
    assert lines[2:] == [
        "some words that  │ some words that",
        "need room        │ need room",
    ]


def test_a_table_without_room_is_left_as_it_is() -> None:
    table = "| " + " | ".join("abcdefgh" * 9) + " |\n|" + "---|" * 72
    assert shown(table, width=80) == table


def test_code_has_the_colours_of_its_language() -> None:
    text = rendered("```python\ndef f(): pass\n```")
    assert "\rdef f(): pass" not in text  # it is begun again only for the sake of colours
    assert re.search(r"\r\x1b\[\d+mdef\x1b\[0m", text)
    assert "\r" not in rendered("```nosuchlanguage\nx = 1\n```")


def test_a_long_line_of_code_is_not_begun_again() -> None:
    """It stands on two rows of the screen: only the second could be."""
    assert "\r" not in rendered("```python\nx = '" + "y" * 60 + "'\n```")


MARKS = ["*", "**", "_", "`", "```", "~~", "[", "](", ")", "|", "|-|", "#", "- ", "1. ", "> ", "\\", "!"]
TEXTS = ["word", "天，", "x" * 50, "def f():", "\t", " ", "\n", "\n\n"]
MARKDOWN = st.lists(st.sampled_from([*MARKS, *TEXTS]), max_size=40).map("".join)


@given(MARKDOWN, st.integers(1, 7))
def test_it_does_not_matter_how_an_answer_is_cut(text: str, pieces: int) -> None:
    assert rendered(text, pieces=pieces) == rendered(text)


@given(MARKDOWN)
def test_no_word_is_lost_or_said_twice(text: str) -> None:
    """Only in a table a word may be broken, and cells beyond its header are not shown."""
    if "|" not in text:
        seen = re.sub(r"\s+", " ", shown(text))
        for word in ("word", "x" * 50, "def"):
            assert seen.count(word) == text.count(word)


@given(st.text(max_size=300).filter(lambda text: "\n" not in text and not set(text) & set("*_`~[]!\\|<>#-+\t\r\x85")))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert "".join(shown(text).split()) == "".join(text.split())  # lines may break between wide characters
