"""The engine's events read as thinking, calls and text. modelfile-templates §6.4, §7.3, §7.4; native-api §2.8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.chat.choice import ToolChoice, must_call, parse_choice
from llamero.chat.parsers import call_parser, choose_parsers
from llamero.chat.pipeline import NoAnswer, Parser, Reader, Tags, Tidy, Unthinking
from llamero.messages import Done, Event, Logprob, Text, Think, Thinking, ToolCall, Usage
from tests.chat.splitting import joined, ways_to_cut

DONE = Done("stop", Usage(predicted_tokens=3))
TAGS = Tags("<think>", "</think>", "<tool_call>")
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = '<tool_call>{"name":"add","arguments":{"a":1}}</tool_call>'
ADDED = ToolCall("add", {"a": 1}, "id")


def parsers(think: Think = True, prompt: str = "", **rest: Any) -> tuple[Parser, ...]:
    return choose_parsers(TAGS, prompt, new_id=lambda: "id", think=think, **rest)


def read(text: str, think: Think = True, prompt: str = "", **rest: Any) -> list[Event]:
    """The answer's events without Done, however the text is cut."""
    answers = []
    for chunks in ways_to_cut(text):
        reader = Reader(*parsers(think, prompt, **rest))
        *pieces, last = [event for step in [*map(Text, chunks), DONE] for event in reader.feed(step)]
        assert last is DONE
        answers.append(joined([piece for piece in pieces if not isinstance(piece, Done)]))
    assert all(answer == answers[0] for answer in answers)
    return [*answers[0]]


def test_thinking_then_text_then_a_call() -> None:
    assert read(f"<think>hm</think>\n\nHi {CALL}", tools=[ADD]) == [Thinking("hm"), Text("Hi "), ADDED]


def test_tags_within_the_thinking_are_no_calls() -> None:
    assert read(f"<think>{CALL}</think>no", tools=[ADD]) == [Thinking(CALL), Text("no")]


@pytest.mark.parametrize("think", [False, None])
def test_without_thinking_its_tags_are_text(think: Think) -> None:
    assert read("<think>a</think>b", think) == [Text("<think>a</think>b")]


def test_any_level_is_thinking() -> None:
    assert read("<think>a</think>b", "low") == [Thinking("a"), Text("b")]


@pytest.mark.parametrize("rest", [{}, {"tools": [ADD], "choice": ToolChoice("none")}])
def test_without_tools_no_call_is_looked_for(rest: dict[str, Any]) -> None:
    assert read(CALL, **rest) == [Text(CALL)]


@pytest.mark.parametrize(("prompt", "is_open"), [("..<think>", True), ("..<think>\n\n ", True), ("<think>x", False)])
def test_a_prompt_that_ends_with_the_opening_tag(prompt: str, is_open: bool) -> None:
    """Partly T-89: what `choose_parsers` makes of the rendered prompt."""
    assert read("why</think>ok", prompt=prompt) == (
        [Thinking("why"), Text("ok")] if is_open else [Text("why</think>ok")]
    )


def test_what_is_held_at_the_end_goes_through_the_parsers_behind() -> None:
    """The first parser's last words may still be a call, and so may what the second holds."""
    tags = Tags("<t>", "</t>", "<")
    made = choose_parsers(tags, "", new_id=lambda: "id", think=True, tools=[ADD])
    reader = Reader(*made)
    assert reader.feed(Text("<")) == []
    assert reader.feed(DONE) == [Text("<"), DONE]


def test_a_template_without_tags_of_thinking_does_not_split() -> None:
    assert Tags().thinking(True, "") is None
    assert choose_parsers(Tags(), "", new_id=str, think=True) == ()


def test_events_of_the_engine_pass() -> None:
    for event in (Thinking("a"), ADDED):
        assert Reader(*parsers(tools=[ADD])).feed(event) == [event]


# --- log-probabilities ---


def some(token: str) -> tuple[Logprob, ...]:
    return (Logprob(token, -0.5),)


def test_logprobs_go_with_their_text() -> None:
    reader = Reader(*parsers(tools=[ADD]))
    assert reader.feed(Text("<think>a", some("1"))) == [Thinking("a", some("1"))]
    assert reader.feed(Text("b</think>c", some("2"))) == [Thinking("b"), Text("c", some("2"))]


def test_logprobs_of_held_text_are_sent_at_once_with_none() -> None:
    """native-api §2.8: a chunk with empty text."""
    reader = Reader(*parsers(tools=[ADD]))
    assert reader.feed(Text("<thi", some("1"))) == [Text("", some("1"))]
    assert reader.feed(Text("n", some("2"))) == [Text("", some("2"))]
    assert reader.feed(Text("g", some("3"))) == [Text("<thing", some("3"))]


def test_logprobs_of_a_call_come_before_it() -> None:
    reader = Reader(*parsers(tools=[ADD]))
    assert reader.feed(Text(CALL, some("1"))) == [Text("", some("1")), ADDED]


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", " ", "a", CALL, "<tool_call>", "{"])))
def test_each_logprob_arrives_once_and_in_order(parts: list[str]) -> None:
    reader = Reader(*parsers(tools=[ADD]))
    steps: Sequence[Event] = [Text(part, some(str(number))) for number, part in enumerate(parts)]
    events = [event for step in [*steps, DONE] for event in reader.feed(step)]
    told = [logprob.token for event in events if isinstance(event, Text | Thinking) for logprob in event.logprobs]
    assert told == [str(number) for number in range(len(parts))]


# --- the two runs of a constraint with thinking (§7.4) ---


@pytest.mark.parametrize(
    ("text", "told", "is_over"),
    [
        ("<think>a b</think> \n{", [Thinking("a b")], True),
        ("<think>a b", [Thinking("a b")], False),
        ("<think>a b</think>\n", [Thinking("a b")], False),
        (f"<think>a</think>\n{CALL}", [Thinking("a"), ADDED], False),
        (f"{CALL} and", [ADDED], False),
        ("answer", [], True),
        ("", [], False),
    ],
)
def test_the_first_run_is_over_when_the_answer_begins(text: str, told: list[Event], is_over: bool) -> None:
    """Thinking and calls are told; no cut of the text lets a word of the answer through."""
    for chunks in ways_to_cut(text):
        no_answer = NoAnswer()
        reader = Reader(*parsers(tools=[ADD]), no_answer)
        assert reader.may_end_early
        events: list[Event] = []
        for step in map(Text, chunks):
            if not reader.is_over:
                events += reader.feed(step)
        assert joined(events) == told
        assert reader.is_over is is_over
        assert no_answer.answer in text


def test_a_second_run_of_a_forced_call_gives_nothing_but_calls() -> None:
    choice = parse_choice("required", None, [ADD])
    call = must_call(choice, [ADD], "[TOOL_CALLS] [")
    reader = Reader(*call_parser(call, [ADD], choice, new_id=lambda: "id"))
    assert reader.feed(Text('[{"name":"add","arguments":{"a":1}}')) == [ADDED]
    assert reader.feed(Text("]")) == []
    assert reader.feed(DONE) == [DONE]


def test_a_single_call_lets_the_engine_stop() -> None:
    reader = Reader(*parsers(tools=[ADD], choice=ToolChoice(is_parallel=False)))
    assert not reader.is_over
    assert reader.feed(Text(CALL + CALL)) == [ADDED]
    assert reader.is_over


# --- what the engine has read itself ---


@pytest.mark.parametrize(
    ("thinking", "text", "told"),
    [
        (["\nhm", " hm\n"], ["\n", "\nYes", " \n"], [Thinking("hm hm\n"), Text("Yes \n")]),
        ([], [" a", "b"], [Text(" ab")]),
        (["<th", "ink>\n", "a"], ["b"], [Thinking("a"), Text("b")]),
        (["<thanks"], [], [Thinking("<thanks")]),
        (["<thi"], [], [Thinking("<thi")]),
        (["a<think>b"], [], [Thinking("a<think>b")]),
    ],
)
def test_blanks_and_second_tags_around_what_the_engine_tells_apart_go(
    thinking: list[str], text: list[str], told: list[Event]
) -> None:
    """native-api §2.5. Blanks of an answer without thinking stay."""
    tidy = Tidy("<think>")
    steps: list[Event] = [*map(Thinking, thinking), *map(Text, text), DONE]
    *pieces, last = [event for step in steps for event in tidy.feed(step)]
    assert last is DONE
    assert joined(pieces) == told


def test_logprobs_of_blanks_that_go_are_kept() -> None:
    tidy = Tidy("<think>")
    assert tidy.feed(Thinking("\n", some("1"))) == [Thinking("", some("1"))]
    assert tidy.feed(Thinking("hm", some("2"))) == [Thinking("hm", some("2"))]
    assert tidy.feed(Text("\n\n", some("3"))) == [Text("", some("3"))]


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([Thinking("hm"), Text("yes"), DONE], [Text("yes"), DONE]),
        ([Thinking("hm"), ADDED, DONE], [ADDED, DONE]),
        ([Thinking("the "), Thinking("answer"), DONE], [Text("the answer"), DONE]),
        ([Thinking("the answer"), Text("", some("1")), DONE], [Text("", some("1")), Text("the answer"), DONE]),
        ([Thinking("still at it"), Done("length", Usage())], [Done("length", Usage())]),
        ([Text("yes"), DONE], [Text("yes"), DONE]),
    ],
)
def test_thinking_that_nobody_asked_for_goes_unless_it_is_all_there_is(events: list[Event], told: list[Event]) -> None:
    unthinking = Unthinking()
    assert [piece for event in events for piece in unthinking.feed(event)] == told


# --- which parsers ---


def test_a_named_parser_comes_first_and_an_unknown_name_changes_nothing() -> None:
    raw = "hm</think>ok"
    assert read(raw, named="qwen3-thinking") == [Thinking("hm"), Text("ok")]
    assert read(raw, named="no-such-parser") == [Text(raw)]
    assert read(f"<think>a</think>{CALL}", named="passthrough", tools=[ADD]) == [Text(f"<think>a</think>{CALL}")]


@pytest.mark.parametrize(
    ("thinks", "calls", "tokens"),
    [
        (True, True, ["<think>", "</think>", "<tool_call>"]),
        (False, True, ["<tool_call>"]),
        (True, False, ["<think>", "</think>"]),
        (False, False, []),
    ],
)
def test_special_tokens_that_the_engine_must_show(thinks: bool, calls: bool, tokens: list[str]) -> None:
    assert TAGS.visible_tokens(thinks=thinks, calls=calls) == tokens
