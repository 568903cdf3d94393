"""Completions on real servers (compat-api §6): raw and templated, prompts of tokens, echoes, the best of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parrot import write_parrot
from tests.running import Reply, Server
from tests.server.go_models import OPENED, TAGGED, Models
from tests.server.puppet import ABLE, COMPLETION, LEVELS, Puppet, frames, last, piece
from tests.server.tiny_models import make

S = "smollm2:135m"
PATH = "/v1/completions"
CALM = {"temperature": 0, "seed": 1}
SKY = "The sky is"
HELLO = [28120, 905]
"""`hello world` in tokens of the small model."""


@pytest.fixture(scope="module")
def models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(server, tmp_path_factory.mktemp("models"))


def post(server: Server, model: str = S, prompt: Any = SKY, **body: Any) -> Reply:
    return server.post(PATH, {"model": model, "prompt": prompt, **body})


def complete(server: Server, model: str = S, prompt: Any = SKY, **body: Any) -> dict[str, Any]:
    reply = post(server, model, prompt, **body)
    assert reply.status == 200, reply.body
    whole = dict(reply.json())
    assert [each["index"] for each in whole["choices"]] == list(range(len(whole["choices"])))
    return whole


def texts(whole: dict[str, Any]) -> list[str]:
    return [each["text"] for each in whole["choices"]]


def chunks(server: Server, model: str = S, prompt: Any = SKY, **body: Any) -> list[dict[str, Any]]:
    reply = post(server, model, prompt, **body, stream=True)
    assert reply.status == 200, reply.body
    *read, done = frames(reply.body)
    assert done == "[DONE]"
    for name in ("id", "object", "created", "model", "system_fingerprint"):
        assert len({chunk[name] for chunk in read}) == 1
    return read


def refused(server: Server, model: str = S, prompt: Any = SKY, **body: Any) -> tuple[str, str | None]:
    reply = post(server, model, prompt, **body)
    assert reply.status == 400, reply.body
    error = reply.json()["error"]
    return error["message"], error["param"]


# --- replies ---------------------------------------------------------------------------------------------------------


def test_c59_a_whole_reply(server: Server) -> None:
    whole = complete(server, max_tokens=4)
    assert (whole["object"], whole["model"]) == ("text_completion", S)
    assert whole["id"].startswith("cmpl-")
    (only,) = whole["choices"]
    assert sorted(only) == ["finish_reason", "index", "logprobs", "text"]
    assert isinstance(only["text"], str)
    assert (only["finish_reason"], only["logprobs"]) == ("length", None)
    usage = whole["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == 4


def test_c60_a_stream(server: Server) -> None:
    whole = complete(server, max_tokens=6, **CALM)
    *told, cost = chunks(server, max_tokens=6, stream_options={"include_usage": True}, **CALM)
    found = [chunk["choices"][0] for chunk in told]
    assert ["".join(each["text"] for each in found)] == texts(whole)
    assert [each["finish_reason"] for each in found] == [None] * (len(found) - 1) + ["length"]
    assert all(chunk["usage"] is None for chunk in told)
    assert (cost["choices"], cost["usage"]["completion_tokens"]) == ([], 6)
    assert not any("usage" in chunk for chunk in chunks(server, max_tokens=2))


def test_c61_a_hole_to_fill(models: Models) -> None:
    coder = models.saying("return a + b", TAGGED)
    whole = complete(models.server, coder, "def add(a, b):\n    ", suffix="\n", temperature=0)
    assert texts(whole) == ["return a + b"]
    message, param = refused(models.server, suffix="x")
    assert message.endswith("does not support insert")
    assert param == "suffix"
    message, param = refused(models.server, stop=[1])
    assert message.startswith("invalid type for 'stop' field")
    assert param == "stop"


def test_the_hole_has_no_chat_around_it(puppet: Puppet) -> None:
    make(
        puppet.server,
        "holes",
        from_=ABLE,
        template="{{ if .Suffix }}<{{ .Prompt }}|{{ .Suffix }}>{{ end }}",
        system="S",
    )
    complete(puppet.server, "holes", "before", suffix="behind")
    assert [body["prompt"] for body in puppet.heard(COMPLETION)] == ["<before|behind>"]


@pytest.mark.parametrize(
    ("prompt", "count"), [(["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2]], 2), ("a", 1), ([[1, 2, 3]], 1)]
)
def test_c62_every_form_of_a_prompt(server: Server, prompt: Any, count: int) -> None:
    whole = complete(server, prompt=prompt, max_tokens=1)
    assert len(whole["choices"]) == count
    assert len(complete(server, prompt=prompt, max_tokens=1, n=2)["choices"]) == 2 * count
    seen = {each["index"] for chunk in chunks(server, prompt=prompt, max_tokens=1, n=2) for each in chunk["choices"]}
    assert seen == set(range(2 * count))


@pytest.mark.parametrize("prompt", [None, [], ["a", 1], [1, "a"], [[1], "a"], [[]], [True], 5, {"a": 1}, [1.5]])
def test_prompts_that_are_none(server: Server, prompt: Any) -> None:
    assert refused(server, prompt=prompt)[1] == "prompt"


def test_tokens_that_the_model_has_not(server: Server) -> None:
    for prompt in ([49152], [[1], [-1]]):
        for echo in (False, True):
            message, param = refused(server, prompt=prompt, echo=echo)
            assert "is not a token of this model" in message
            assert param == "prompt"


# --- what the engine is given ----------------------------------------------------------------------------------------


def prompts(puppet: Puppet, model: str, prompt: Any, **body: Any) -> list[Any]:
    """The prompts that the engine hears for one request."""
    puppet.forget()
    complete(puppet.server, model, prompt, **body)
    return [body["prompt"] for body in puppet.heard(COMPLETION)]


def test_prompts_go_through_the_template_unless_they_are_raw(puppet: Puppet) -> None:
    assert prompts(puppet, LEVELS, "Hi") == ["Hi|true medium|"]
    assert prompts(puppet, LEVELS, "Hi", raw=False) == ["Hi|true medium|"]
    assert prompts(puppet, LEVELS, "Hi", raw=True) == ["Hi"]
    assert prompts(puppet, LEVELS, "Hi", echo=True) == ["Hi"]
    assert sorted(prompts(puppet, LEVELS, ["a", "b"], raw=True)) == ["a", "b"]


def test_tokens_reach_the_engine_as_they_are(puppet: Puppet) -> None:
    assert prompts(puppet, LEVELS, [5, 6, 7]) == [[5, 6, 7]]
    assert sorted(prompts(puppet, LEVELS, [[5], [6, 7]])) == [[5], [6, 7]]


def test_an_empty_prompt_goes_on_from_the_beginning_of_all_text(server: Server, puppet: Puppet) -> None:
    assert prompts(puppet, LEVELS, "") == [[1]], "the token that stands before every text of this model"
    (only,) = complete(server, prompt="", max_tokens=3, **CALM)["choices"]
    assert only["text"]
    assert only["finish_reason"] == "length"


def test_a_prompt_is_raw_where_the_model_has_no_template(puppet: Puppet, tmp_path: Path) -> None:
    make(puppet.server, "base", [write_parrot(tmp_path / "base.gguf", "one two")])
    assert prompts(puppet, "base", "Hi") == ["Hi"]
    assert prompts(puppet, "base", "Hi", raw=False) != ["Hi"]


def test_raw_may_be_the_default(start_server: StartServer) -> None:
    """§6.1: `LLAMERO_COMPLETIONS_RAW=1`."""
    server = start_server(LLAMERO_COMPLETIONS_RAW="1")
    raw, templated = (complete(server, max_tokens=1, **more)["usage"]["prompt_tokens"] for more in ({}, {"raw": False}))
    assert raw == 3 < templated


def test_thinking_is_not_part_of_a_completion(models: Models) -> None:
    thinker = models.saying("Hm, well.\n</think>\n\nFour.", OPENED)
    whole = complete(models.server, thinker, "Two and two?", temperature=0)
    assert texts(whole) == ["Four."]
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_top_p_0_is_taken_at_its_word(puppet: Puppet) -> None:
    complete(puppet.server, LEVELS, top_p=0)
    complete(puppet.server, LEVELS)
    assert [(body["top_p"], body["temperature"]) for body in puppet.heard(COMPLETION)] == [(0, 1.0), (1.0, 1.0)]


def test_nobody_pays_for_a_context_that_is_not_told(puppet: Puppet) -> None:
    """The native reply ends with the tokens of prompt and answer, which costs another request to the engine."""
    puppet.plays(completion=[piece("so"), last()])
    complete(puppet.server, LEVELS)
    assert not any("so" in body["content"] for body in puppet.heard("/tokenize"))
    puppet.server.post("/api/generate", {"model": LEVELS, "prompt": "Hi"})
    assert any("so" in body["content"] for body in puppet.heard("/tokenize"))


# --- log-probabilities, echoes, the best -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 2])
def test_c63_log_probabilities(server: Server, count: int) -> None:
    """C-63; with 0 only what was sampled is told."""
    (only,) = complete(server, max_tokens=5, logprobs=count, raw=True, **CALM)["choices"]
    told = only["logprobs"]
    assert {name: len(values) for name, values in told.items()} == {
        "tokens": 5,
        "token_logprobs": 5,
        "top_logprobs": 5,
        "text_offset": 5,
    }
    assert "".join(told["tokens"]) == only["text"]
    for token, logprob, top, offset in zip(*(told[name] for name in told), strict=True):
        assert top[token] == logprob <= 0
        assert len(top) == max(count, 1)
        assert only["text"][offset:].startswith(token)
    message, param = refused(server, logprobs=21)
    assert (message, param) == ("top_logprobs must be between 0 and 20", "logprobs")


def test_log_probabilities_of_a_stream_are_those_of_the_whole(server: Server) -> None:
    asked = {"max_tokens": 5, "logprobs": 1, "raw": True, **CALM}
    (only,) = complete(server, **asked)["choices"]
    joined: dict[str, list[Any]] = {name: [] for name in only["logprobs"]}
    for chunk in chunks(server, **asked):
        for name, values in (chunk["choices"][0]["logprobs"] or {}).items():
            joined[name] += values
    assert joined == only["logprobs"]


def test_c64_the_prompt_comes_back(server: Server) -> None:
    only_echo = complete(server, echo=True, max_tokens=0)
    assert texts(only_echo) == [SKY]
    assert (only_echo["choices"][0]["finish_reason"], only_echo["usage"]["completion_tokens"]) == ("length", 0)
    assert only_echo["usage"]["prompt_tokens"] == 3
    (told,) = texts(complete(server, echo=True, max_tokens=3, **CALM))
    (plain,) = texts(complete(server, raw=True, max_tokens=3, **CALM))
    assert told == SKY + plain
    assert len(complete(server, best_of=3, n=1, max_tokens=2)["choices"]) == 1
    assert refused(server, prompt=None)[1] == "prompt"
    assert refused(server, max_tokens=0)[1] == "max_tokens"


def test_nothing_is_generated_where_only_the_prompt_is_wanted(puppet: Puppet) -> None:
    assert prompts(puppet, LEVELS, "Hi", echo=True, max_tokens=0) == []


def test_echoes_of_a_stream_and_of_tokens(server: Server) -> None:
    read = chunks(server, prompt=[HELLO, HELLO], echo=True, max_tokens=2, **CALM)
    told = ["", ""]
    for chunk in read:
        for each in chunk["choices"]:
            told[each["index"]] += each["text"]
    assert all(text.startswith("hello world") and len(text) > len("hello world") for text in told)
    assert texts(complete(server, prompt=["a b", ""], echo=True, max_tokens=0)) == ["a b", ""]


def test_what_cannot_be_told_is_refused_by_name(server: Server) -> None:
    assert refused(server, echo=True, logprobs=1)[1] == "logprobs"
    assert refused(server, prompt=[1], suffix="x")[1] == "suffix"
    assert refused(server, best_of=2, n=3)[1] == "best_of"
    assert refused(server, best_of=2, stream=True)[1] == "best_of"
    assert refused(server, logit_bias={"99999": 1})[1] == "logit_bias"


def test_the_best_is_the_likeliest(puppet: Puppet) -> None:
    """Three answers are made and paid for, the one with the best mean is given."""

    def said(text: str, logprob: float) -> list[dict[str, Any]]:
        entry = {"id": 7, "token": text, "bytes": list(text.encode()), "logprob": logprob, "top_logprobs": []}
        event = {"content": text, "tokens": [7], "tokens_predicted": 1, "completion_probabilities": [entry]}
        return [{"send": event}, last()]

    for logprob in (-1.0, -0.25):
        puppet.plays(completion=said("word", logprob))
        whole = complete(puppet.server, LEVELS, best_of=3, n=2, seed=9)
        assert len(whole["choices"]) == 2
        assert sorted(body["seed"] for body in puppet.heard(COMPLETION)) == [9, 10, 11]
        assert whole["usage"]["completion_tokens"] == 6
        assert whole["choices"][0]["logprobs"] is None, "nobody asked for them"


def test_a_prompt_of_tokens_that_is_too_long_is_cut(server: Server) -> None:
    reply = post(server, prompt=[905] * 400, max_tokens=1, options={"num_ctx": 128})
    assert reply.status == 200
    assert "tokens left out" in reply.headers["Llamero-Warning"]
    assert reply.json()["usage"]["prompt_tokens"] < 128


def test_keep_alive_counts_behind_the_answers(server: Server) -> None:
    """The echo of tokens asks the model first; it is not let go between the two."""
    whole = complete(server, prompt=HELLO, echo=True, max_tokens=1, keep_alive=0)
    assert texts(whole)[0].startswith("hello world")
    server.wait_until(lambda: S not in server.loaded())
