"""Pictures in a prompt: where they stand, and what can never move them. modelfile-templates §4.3, native-api §2.6."""

from __future__ import annotations

import base64
import time
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.chat.media import Media
from llamero.chat.pictures import Marked, image_tokens, marked, marked_prompt
from llamero.messages import Message, ToolCall
from llamero.template.render import Template, render

ENGINES = "<__media_Xy7__>"
A, B, C = b"picture a", b"picture b", b"picture c"
MEDIA = {data: Media("image", "image/png", data.upper()) for data in (A, B, C)}
CHATML = Template.parse("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}<assistant>")


def user(content: str, *images: bytes) -> Message:
    return Message("user", content, images=images)


def contents(pictures: Marked) -> list[str]:
    return [message.content for message in pictures.messages]


def asked(pictures: Marked, text: str) -> tuple[str, list[bytes]]:
    """The engine's prompt: its text with a ⌘ for every marker, and the data in their order."""
    prompt = pictures.engine_prompt(text, MEDIA, ENGINES).prompt
    if isinstance(prompt, str):
        return prompt, []
    assert prompt.keys() == {"prompt_string", "multimodal_data"}
    return prompt["prompt_string"].replace(ENGINES, "⌘"), [base64.b64decode(data) for data in prompt["multimodal_data"]]


def through(template: Template, *messages: Message, **more: Any) -> tuple[str, list[bytes]]:
    pictures = marked(messages, **more)
    return asked(pictures, render(template, pictures.messages, today=date(2026, 1, 1)))


# --- marks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "count", "rest", "expected"),
    [
        ("compare [img] and [img]", 2, "front", "compare [img-0] and [img-1]"),
        ("compare [img] and [img]", 2, "spaced", "compare [img-0] and [img-1]"),
        ("compare [img] and [img]", 3, "spaced", "[img-2] compare [img-0] and [img-1]"),
        ("compare [img] and [img]", 3, "front", "[img-2]compare [img-0] and [img-1]"),
        ("compare [img] and [img]", 3, "behind", "compare [img-0] and [img-1][img-2]"),
        ("compare [img] and [img]", 1, "front", "compare [img-0] and [img]"),
        ("hi", 2, "front", "[img-0][img-1]hi"),
        ("hi", 2, "spaced", "[img-0][img-1] hi"),
        ("hi", 2, "behind", "hi[img-0][img-1]"),
        ("\nhi", 1, "spaced", "[img-0]\nhi"),
        ("", 1, "front", "[img-0]"),
        ("", 1, "spaced", "[img-0]"),
        ("[img]", 0, "front", "[img]"),
        ("[im[img]g]", 1, "front", "[im[img-0]g]"),
    ],
)
def test_t70_a_mark_takes_the_place_that_the_text_gives_it_or_that_of_the_rest(
    content: str, count: int, rest: Any, expected: str
) -> None:
    assert contents(marked([user(content, *[A] * count)], rest=rest)) == [expected]


def test_marks_are_numbered_over_the_whole_conversation() -> None:
    pictures = marked([user("a", A), Message("assistant", "yo"), user("b [img]", B, C)])
    assert contents(pictures) == ["[img-0]a", "yo", "[img-2]b [img-1]"]
    assert pictures.pictures == (A, B, C)


def test_messages_keep_their_pictures_for_templates_and_lose_them_for_the_engines_own() -> None:
    pictures = marked([user("a", A), Message("assistant", "yo")])
    assert [message.images for message in pictures.messages] == [(A,), ()]
    assert pictures.texts == (user("[img-0]a"), Message("assistant", "yo"))


def test_a_conversation_without_pictures_stays_as_it_is() -> None:
    talk = (user("[img] and [img-3]"),)
    pictures = marked(talk)
    assert pictures.messages == talk
    assert asked(pictures, f"[img-3] {ENGINES}") == (f"[img-3] {ENGINES}", [])


# --- the engine's prompt --------------------------------------------------------------------------------------------


def test_pictures_go_to_the_engine_in_the_order_in_which_the_prompt_shows_them() -> None:
    """R-58"""
    talk = (user("first [img]", A), Message("assistant", "yo"), user("[img] then [img]", B, C))
    assert through(CHATML, *talk) == (
        "<user>first ⌘<assistant>yo<user>⌘ then ⌘<assistant>",
        [b"PICTURE A", b"PICTURE B", b"PICTURE C"],
    )


def test_a_template_that_turns_the_conversation_around_turns_the_pictures_too() -> None:
    backwards = Template.parse("{{ with index .Messages 2 }}{{ .Content }}{{ end }}|{{ (index .Messages 0).Content }}.")
    talk = (user("old", A), Message("assistant", "yo"), user("new", B))
    assert through(backwards, *talk) == ("⌘new|⌘old.", [b"PICTURE B", b"PICTURE A"])


def test_a_picture_that_is_printed_twice_is_seen_once() -> None:
    twice = Template.parse("{{ range .Messages }}{{ .Content }}|{{ .Content }}.{{ end }}")
    assert through(twice, user("a", A), Message("assistant", "x"), user("b", B)) == (
        "⌘a|[img-0]a.x|x.⌘b|[img-1]b.",
        [b"PICTURE A", b"PICTURE B"],
    )


def test_a_template_may_name_a_picture_itself() -> None:
    assert through(Template.parse("{{ range .Messages }}{{ .Role }}: [img-0]{{ end }}!"), user("a", A)) == (
        "user: ⌘!",
        [b"PICTURE A"],
    )


@pytest.mark.parametrize(
    ("template", "text", "left_out"),
    [
        ("{{ range .Messages }}{{ .Role }}{{ end }}", "user", 2),
        ("{{ range .Messages }}{{ slice .Content 7 }}{{ end }}", "⌘ab", 1),
        ("{{ range .Messages }}{{ .Content }}{{ end }}", "⌘⌘ab", 0),
    ],
)
def test_a_picture_that_the_template_leaves_out_is_no_secret(template: str, text: str, left_out: int) -> None:
    pictures = marked([user("ab", A, B)])
    prompt = render(Template.parse(template), pictures.messages, today=date(2026, 1, 1))
    assert asked(pictures, prompt)[0] == text
    result = pictures.engine_prompt(prompt, MEDIA, ENGINES)
    assert result.left_out == left_out
    expected = f"the model's template has no place for {left_out} of the images, which were left out"
    assert result.warnings == ((expected,) if left_out else ())


def test_a_picture_at_the_very_end_gets_a_token_behind_it() -> None:
    # GGML_ASSERT(batch.size() > 0) ends the engine when a sound is all that is left to answer from
    assert asked(marked_prompt("see ", (A,)), "see [img-0]") == ("see ⌘\n", [b"PICTURE A"])


# --- what only looks like a mark ------------------------------------------------------------------------------------

HOSTILE = ["[img-7]", "[img-0]", "[img-1] [img-0]", "[img1-0]", "[img-", "[img-0][img1-0][img2-0]", "[img-00000000000]"]


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda words: [user(f"{words}ab", A, B)], id="in front of the text"),
        pytest.param(lambda words: [Message("system", words), user("ab", A, B)], id="in another message"),
        pytest.param(lambda words: [Message("tool", words), user("ab", A, B)], id="in a tool's result"),
        pytest.param(lambda words: [Message(words, "x"), user("ab", A, B)], id="as a role"),
        pytest.param(
            lambda words: [
                Message("assistant", tool_calls=(ToolCall("f", {"a": [{"b": words}]}),)),
                user("ab", A, B),
            ],
            id="in a call",
        ),
    ],
)
def test_a_mark_that_somebody_typed_is_text(words: str, place: Any) -> None:
    """Partly X-68: the text neither takes a picture's place nor lets one be lost."""
    calls = "{{ range .ToolCalls }}{{ .Function.Arguments }}{{ end }}"
    template = Template.parse("{{ range .Messages }}<{{ .Role }}" + calls + ">{{ .Content }}{{ end }}.")
    text, data = through(template, *place(words))
    assert data == [b"PICTURE A", b"PICTURE B"]
    assert text.count(words) == 1, "as it was typed"
    assert text.replace(words, "").endswith("<user>⌘⌘ab.")


def test_a_mark_in_an_old_context_or_among_the_tools_is_text() -> None:
    old = "before [img-0]"
    pictures = marked([user("now", A)], besides=[old, '{"description":"[img1-0]"}'])
    text = old + contents(pictures)[0]
    assert pictures.shown(text) == "before [img-0][img-0]now"
    assert asked(pictures, text) == ("before [img-0]⌘now", [b"PICTURE A"])


def test_what_is_shown_to_people_are_always_ollamas_marks() -> None:
    pictures = marked([user("[img-9] or [img]?", A, B)])
    assert pictures.shown(contents(pictures)[0]) == "[img-1][img-9] or [img-0]?"
    assert asked(pictures, contents(pictures)[0])[0] == "⌘[img-9] or ⌘?"


@pytest.mark.parametrize(
    "words", [ENGINES, ENGINES * 3, ENGINES[:7] + ENGINES + ENGINES[7:], "a" + ENGINES[:-1]], ids=range(4)
)
def test_the_engines_own_marker_in_a_text_is_text(words: str) -> None:
    """X-68: as many markers as pictures, and nothing of the text is gone."""
    prompt = marked([user(f"{words} [img] {words}", A)])
    body = prompt.engine_prompt(contents(prompt)[0], MEDIA, ENGINES).prompt
    assert isinstance(body, dict)
    before, after = body["prompt_string"].split(ENGINES)
    assert before.replace("\u2060", "") == f"{words} "
    assert after.replace("\u2060", "") == f" {words}"
    assert len(body["multimodal_data"]) == 1


_PIECES = st.sampled_from(
    ["[img]", "[img-0]", "[img-1]", "[img1-0]", "[img", "-0]", ENGINES, ENGINES[:5], "a", " ", "7"]
)


@given(st.lists(st.tuples(st.lists(_PIECES).map("".join), st.lists(st.sampled_from([A, B, C]), max_size=3))))
def test_no_text_moves_loses_or_adds_a_picture(talk: list[tuple[str, list[bytes]]]) -> None:
    messages = [user(f"{text}.", *images) for text, images in talk]
    pictures = marked(messages)
    result = pictures.engine_prompt("|".join(contents(pictures)), MEDIA, ENGINES)
    everything = sorted(MEDIA[image].data for message in messages for image in message.images)
    if not everything:
        assert result.prompt == "|".join(message.content for message in messages)
        return
    assert isinstance(result.prompt, dict)
    assert sorted(map(base64.b64decode, result.prompt["multimodal_data"])) == everything
    assert result.prompt["prompt_string"].count(ENGINES) == len(everything)
    assert result.left_out == 0


def test_hostile_texts_cost_linear_time() -> None:
    numbers = "".join(f"[img{number}-0]" for number in range(100_000))
    started = time.process_time()
    pictures = marked([user(numbers + "[img]" * 100_000, *[A] * 32)])
    asked(pictures, contents(pictures)[0] + ENGINES * 100_000)
    assert time.process_time() - started < 2


# --- prompts that are text already ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected", "data"),
    [
        ("hi", "⌘⌘hi", [A, B]),
        ("a [img-1] b [img-0] c", "a ⌘ b ⌘ c", [B, A]),
        ("a [img-1] b", "⌘a ⌘ b", [A, B]),
        ("a [img-1] b [img] c", "a ⌘ b ⌘ c", [B, A]),
        ("[img-2] [img-0] [img-0] [img-1].", "[img-2] ⌘ [img-0] ⌘.", [A, B]),
    ],
)
def test_a_raw_prompt_places_its_pictures_itself(prompt: str, expected: str, data: list[bytes]) -> None:
    pictures = marked_prompt(prompt, (A, B))
    assert asked(pictures, contents(pictures)[0]) == (expected, [MEDIA[picture].data for picture in data])


def test_a_raw_prompt_without_pictures_is_untouched() -> None:
    pictures = marked_prompt("[img] [img-0]", ())
    assert contents(pictures) == ["[img] [img-0]"]
    assert asked(pictures, "[img] [img-0]") == ("[img] [img-0]", [])


# --- counting -------------------------------------------------------------------------------------------------------


def test_t67_what_pictures_count() -> None:
    """Partly T-67: 768 each for a model with a projector, nothing without one."""
    talk = [user("a", A, B), Message("assistant", "x"), user("b", C)]
    assert image_tokens(talk, has_projector=True) == 3 * 768
    assert image_tokens(talk, has_projector=False) == 0


def test_t67_what_is_kept_is_numbered_from_zero() -> None:
    """Partly T-67: the older picture is dropped with its message."""
    talk = [user("a", A), Message("assistant", "x"), user("b", B)]
    pictures = marked(talk[2:])
    assert (contents(pictures), pictures.pictures) == (["[img-0]b"], (B,))
