"""Completions, read and written (compat-api §6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.openai.completion_reply import CompletionStream, Echo, Part, write_completion
from llamero.dialects.openai.completions import Completion, read_completion
from llamero.dialects.openai.reply import Head, system_fingerprint
from llamero.errors import EngineDied, InvalidField
from llamero.messages import Finished, Logprob, Started, Text, Thinking, Usage

HEAD = Head("cmpl-abc", 1_700_000_000, "as:sent")


def read(*, raw_by_default: bool = False, **fields: Any) -> Completion:
    return read_completion(json.dumps({"model": "m", "prompt": "p", **fields}).encode(), raw=raw_by_default)


def refused(**fields: Any) -> tuple[str, str]:
    with pytest.raises(InvalidField) as caught:
        read(**fields)
    return str(caught.value), caught.value.param


# --- reading ---


def test_the_least_that_can_be_asked() -> None:
    asked = read()
    assert (asked.prompts, asked.n, asked.best_of, asked.echo, asked.logprobs) == (("p",), 1, 1, False, False)
    (request,) = asked.requests()
    assert (request.prompt, request.raw, request.stream, request.logprobs) == ("p", False, False, False)
    assert (request.options, request.fallbacks) == ({}, {"temperature": 1.0, "top_p": 1.0})
    assert request.warnings == ()


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_prompts(prompt: Any, prompts: tuple[Any, ...]) -> None:
    """partly C-62"""
    asked = read(prompt=prompt)
    assert asked.prompts == prompts
    assert [request.tokens or request.prompt for request in asked.requests()] == list(prompts)
    assert not any(request.loads_when_empty for request in asked.requests())


@pytest.mark.parametrize("prompt", [None, [], ["a", 1], [1, "a"], [[1], "a"], [[]], [1, True], [[1.5]], 3, {}])
def test_prompts_that_cannot_be(prompt: Any) -> None:
    """partly C-64"""
    assert refused(prompt=prompt)[1] == "prompt"


def test_answers_are_ordered_by_prompt() -> None:
    requests = read(prompt=["a", "b"], n=2).requests()
    assert [(request.prompt, request.number) for request in requests] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("fields", "default", "raw"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"raw": True}, False, True),
        ({"raw": False}, True, False),
        ({"echo": True}, False, True),
        ({"prompt": [1]}, False, True),
        ({"suffix": "s"}, True, False),
    ],
)
def test_when_a_prompt_goes_without_a_template(fields: dict[str, Any], default: bool, raw: bool) -> None:
    request = read(raw_by_default=default, **fields).request
    assert request.raw is raw
    assert request.think is (False if raw else None)


def test_options() -> None:
    request = read(max_tokens=5, top_p=0, stop="X", suffix="s", top_k=3, logit_bias={"5": 1}).request
    assert request.options == {"num_predict": 5, "top_p": 0.0, "stop": ["X"], "top_k": 3}
    assert (request.suffix, request.logit_bias) == ("s", {5: 1.0})


def test_logprobs_may_be_asked_for_without_alternatives() -> None:
    asked = read(logprobs=0)
    assert (asked.logprobs, asked.request.logprobs, asked.request.top_logprobs) == (True, True, 0)
    assert read(logprobs=20).request.top_logprobs == 20


def test_choosing_the_best_needs_logprobs_that_nobody_asked_for() -> None:
    asked = read(n=1, best_of=3)
    assert (asked.logprobs, asked.request.logprobs, len(asked.requests())) == (False, True, 3)


def test_only_the_prompt_may_be_wanted() -> None:
    """partly C-64"""
    asked = read(echo=True, max_tokens=0)
    assert not asked.request.generates
    assert "num_predict" not in asked.request.options
    assert read(echo=True).request.generates


def test_what_only_the_native_way_of_completing_does_is_not_done() -> None:
    """Nothing is only loaded, and nobody reads the tokens of prompt and answer."""
    request = read(prompt="").request
    assert not request.loads_when_empty
    assert not request.tells_context


def test_prompts_without_a_template_are_raw_unless_the_request_says_otherwise() -> None:
    assert read().request.raw_without_template
    assert not read(raw=False).request.raw_without_template


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"model": ""}, "model is required", "model"),
        ({"stop": [1]}, "invalid type for 'stop' field: ", "stop"),
        ({"stop": 1}, "invalid type for 'stop' field: ", "stop"),
        ({"logprobs": 21}, "top_logprobs must be between 0 and 20", "logprobs"),
        ({"logprobs": True}, "must be an integer", "logprobs"),
        ({"max_tokens": 0}, "must not be 0", "max_tokens"),
        ({"n": 9}, "between 1 and 8", "n"),
        ({"best_of": 9}, "between 1 and 8", "best_of"),
        ({"n": 3, "best_of": 2}, "less than n", "best_of"),
        ({"best_of": 2, "stream": True}, "stream", "best_of"),
        ({"prompt": [1], "suffix": "s"}, "a text", "suffix"),
        ({"prompt": ["a"] * 257, "n": 8}, "at most 2048 answers", "prompt"),
        ({"stream_options": {}}, "stream is true", "stream_options"),
        ({"suffix": 1}, "must be a string", "suffix"),
    ],
)
def test_values_that_cannot_be(fields: dict[str, Any], message: str, param: str) -> None:
    """partly C-07, C-61"""
    said, blamed = refused(**fields)
    assert message in said
    assert blamed == param


def test_fields_without_effect_are_told() -> None:
    """partly C-03"""
    assert read(zzz=1, user="u").request.warnings == ("field 'zzz' is unknown and has no effect",)


# --- writing ---


def finished(reason: Any = "stop", predicted: int = 5) -> Finished:
    return Finished(reason, Usage(prompt_tokens=10, cached_tokens=4, predicted_tokens=predicted), 0, 0)


def spoken(*words: tuple[str, float], top: tuple[Logprob, ...] = ()) -> list[Part]:
    return [Text(word, (Logprob(word, logprob, top=top),)) for word, logprob in words]


def whole(asked: Completion, *answers: list[Part], echoes: tuple[Echo, ...] = ()) -> dict[str, Any]:
    return dict(json.loads(write_completion(HEAD, asked, [(parts, finished()) for parts in answers], echoes)))


def test_a_whole_reply() -> None:
    """partly C-59"""
    assert whole(read(), [Thinking("hm"), Text("Hel"), Text("lo")]) == {
        "id": "cmpl-abc",
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "as:sent",
        "system_fingerprint": system_fingerprint(""),
        "choices": [{"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def test_logprobs_in_the_old_form() -> None:
    """partly C-63"""
    top = (Logprob("x", -3.0), Logprob("y", -0.5))
    choice = whole(read(logprobs=2), spoken(("ü", -1.0), ("bc", -2.0), top=top))["choices"][0]
    assert choice["logprobs"] == {
        "tokens": ["ü", "bc"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": [{"y": -0.5, "x": -3.0, "ü": -1.0}, {"y": -0.5, "x": -3.0, "bc": -2.0}],
        "text_offset": [0, 1],
    }
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]


def test_the_taken_token_is_told_once() -> None:
    choice = whole(read(logprobs=1), spoken(("a", -0.5), top=(Logprob("a", -0.5),)))["choices"][0]
    assert choice["logprobs"]["top_logprobs"] == [{"a": -0.5}]


def test_an_echo_stands_before_each_answer() -> None:
    asked = read(prompt=["a", "bc"], n=2, echo=True)
    choices = whole(asked, *([Text(f"-{k}")] for k in range(4)), echoes=(Echo("a"), Echo("bc")))["choices"]
    assert [choice["text"] for choice in choices] == ["a-0", "a-1", "bc-2", "bc-3"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]


def test_nothing_stands_before_the_first_token_of_an_echo() -> None:
    echo = Echo("ab", (Logprob("a", -9.0), Logprob("b", -1.0)))
    choice = whole(read(echo=True, logprobs=0), spoken(("c", -2.0)), echoes=(echo,))["choices"][0]
    assert choice["logprobs"] == {
        "tokens": ["a", "b", "c"],
        "token_logprobs": [None, -1.0, -2.0],
        "top_logprobs": [None, {"b": -1.0}, {"c": -2.0}],
        "text_offset": [0, 1, 2],
    }


def test_only_the_prompt() -> None:
    """partly C-64"""
    choice = whole(read(echo=True, max_tokens=0), [], echoes=(Echo("p"),))["choices"][0]
    assert choice["text"] == "p"


def test_the_best_by_the_mean_of_their_logprobs() -> None:
    """partly C-64"""
    answers = [spoken(("a", -1.0), ("a", -1.0)), spoken(("b", -1.5)), spoken(("c", -0.5))]
    assert [choice["text"] for choice in whole(read(n=2, best_of=3), *answers)["choices"]] == ["c", "aa"]
    assert [choice["text"] for choice in whole(read(n=3), *answers)["choices"]] == ["aa", "b", "c"]


def test_usage_counts_every_answer_and_each_prompt_once() -> None:
    usage = whole(read(prompt=["a", "b"], n=1, best_of=3), *(spoken(("x", -1.0)) for _ in range(6)))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (20, 30, 50)


# --- streams ---


def frames(stream: bytes) -> list[Any]:
    *events, rest = stream.decode().split("\n\n")
    assert (events.pop(), rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_stream() -> None:
    """partly C-60"""
    stream = CompletionStream(HEAD, read(stream=True))
    begun = stream.begin(Started(fingerprint="f"))
    sent = stream.part(Thinking("hm")) + stream.part(Text("a")) + stream.part(Text(""))
    chunks = frames(begun + sent + stream.finish(finished("length")) + stream.end([finished()]))
    shared = {
        "id": "cmpl-abc",
        "object": "text_completion",
        "created": 1_700_000_000,
        "model": "as:sent",
        "system_fingerprint": system_fingerprint("f"),
    }
    assert chunks == [
        shared | {"choices": [{"text": "a", "index": 0, "logprobs": None, "finish_reason": None}]},
        shared | {"choices": [{"text": "", "index": 0, "logprobs": None, "finish_reason": "length"}]},
    ]


def test_a_streams_usage() -> None:
    """partly C-60"""
    asked = read(prompt=["a", "b"], stream=True, stream_options={"include_usage": True})
    stream = CompletionStream(HEAD, asked)
    sent = b"".join(stream.part(Text("x"), choice) + stream.finish(finished(), choice) for choice in (0, 1))
    chunks = frames(sent + stream.end([finished(), finished()]))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
    assert chunks[-1]["choices"] == []
    assert (chunks[-1]["usage"]["prompt_tokens"], chunks[-1]["usage"]["completion_tokens"]) == (20, 10)


def test_a_streams_echo_comes_before_the_first_word_also_when_there_is_none() -> None:
    asked = read(prompt=["a", "b"], echo=True, logprobs=0, stream=True)
    stream = CompletionStream(HEAD, asked, (Echo("a", (Logprob("a", -9.0),)), Echo("b", (Logprob("b", -9.0),))))
    sent = (
        stream.part(spoken(("x", -1.0))[0], 1) + stream.part(spoken(("y", -1.0))[0], 1) + stream.finish(finished(), 1)
    )
    chunks = [chunk["choices"][0] for chunk in frames(sent + stream.finish(finished(), 0) + stream.end([]))]
    assert [(chunk["index"], chunk["text"]) for chunk in chunks] == [
        (1, "b"),
        (1, "x"),
        (1, "y"),
        (1, ""),
        (0, "a"),
        (0, ""),
    ]
    offsets = [chunk["logprobs"]["text_offset"] for chunk in chunks[:3]]
    assert offsets == [[0], [1], [2]]
    assert chunks[0]["logprobs"]["token_logprobs"] == [None]


def test_an_error_within_a_stream_ends_it() -> None:
    """partly C-12"""
    (chunk,) = frames(CompletionStream(HEAD, read()).failed(EngineDied("it died")))
    assert (chunk["error"]["message"], chunk["error"]["type"]) == ("it died", "server_error")
    assert CompletionStream(HEAD, read()).idle() == b": keep-alive\n\n"
