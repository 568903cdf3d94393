"""Tokens guessed ahead, by a draft model or from repeated text: the same answers, only sooner (scheduler §2.1, §10.1).

The parrot that drafts for itself guesses everything rightly. SmolLM2 does too, and has real probabilities.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.gguf_files import tiny_llama
from tests.parrot import write_parrot
from tests.running import Server, running
from tests.server.jinja_templates import HERMES
from tests.server.tiny_models import make

SAYING = "The early bird catches the worm, and the second mouse gets the cheese in the end."
CALLING = 'I will look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>'
OBJECT = '{"name": "Ada", "city": "London", "fields": ["numbers", "machines"]}'
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "city": {"type": "string"},
        "fields": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "city", "fields"],
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
    },
}
REFUSED = "the draft model cannot be used with this model, which answers without it: the server's log says why"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("drafts")
    with running(folder, folder / "models") as started:
        for name, script in (("saying", SAYING), ("calling", CALLING), ("object", OBJECT)):
            own = write_parrot(folder / f"{name}.gguf", script, jinja=HERMES)
            make(started, f"{name}-alone", [own])
            make_drafted(started, name, own, own)
        own = folder / "saying.gguf"
        other = folder / "other.gguf"
        other.write_bytes(tiny_llama())
        make_drafted(started, "misfit", own, other)
        other.write_bytes(tiny_llama({"llama.nextn_predict_layers": 1}))
        make_drafted(started, "broken", own, other)
        yield started


def make_drafted(server: Server, name: str, weights: Path, draft: Path) -> None:
    digest = f"sha256:{hashlib.sha256(draft.read_bytes()).hexdigest()}"
    if server.call("HEAD", f"/api/blobs/{digest}").status != 200:  # what is there is not taken in again
        assert server.post(f"/api/blobs/{digest}", draft.read_bytes()).status == 201
    make(server, name, [weights], draft_files={f"{draft.stem}.gguf": digest})


def ask(server: Server, model: str, **more: Any) -> dict[str, Any]:
    """The whole answer to a greedy chat."""
    options = {"temperature": 0, "num_predict": 60, "num_ctx": 1024} | more.pop("options", {})
    messages = more.pop("messages", [{"role": "user", "content": "Say it."}])
    body = {"model": model, "messages": messages, "stream": False, "timings": True, "options": options}
    reply = server.post("/api/chat", body | more, timeout_s=120)
    assert reply.status == 200, reply.body
    return dict(reply.json())


def text_of(answer: Mapping[str, Any]) -> str:
    return str(answer["message"]["content"])


def drafts_of(answer: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens guessed, and those of them that were right."""
    return answer["timings"]["draft_tokens"], answer["timings"]["accepted_tokens"]


# --- a draft model -------------------------------------------------------------------------------------------------


def test_a_draft_model_guesses_and_changes_no_word(server: Server) -> None:
    alone, drafted = ask(server, "saying-alone"), ask(server, "saying")
    assert text_of(alone) == text_of(drafted) == SAYING
    assert drafts_of(alone) == (0, 0)
    guessed, right = drafts_of(drafted)
    assert guessed >= right > drafted["eval_count"] // 2
    assert drafted["eval_count"] == alone["eval_count"]
    assert "warnings" not in drafted


def test_draft_num_predict_says_how_much(server: Server) -> None:
    """And another number loads another engine (scheduler §5)."""
    ask(server, "saying")
    (engine,) = server.engines()
    ask(server, "saying", options={"draft_num_predict": 4})
    assert server.engines() == [engine], "that is what it does by itself"
    assert drafts_of(ask(server, "saying", options={"draft_num_predict": 0})) == (0, 0)
    assert server.engines() != [engine]
    answer = ask(server, "saying", options={"draft_num_predict": 1000})
    assert text_of(answer) == SAYING
    assert answer["warnings"] == ["draft_num_predict 1000 changed to 64"]


def test_without_a_draft_model_the_option_has_no_effect_and_says_so(server: Server) -> None:
    answer = ask(server, "saying-alone", options={"draft_num_predict": 4})
    assert answer["warnings"] == ["draft_num_predict has no effect: the model has no draft model"]


@pytest.mark.parametrize("stop", ["mouse", "bird catches", "d mou", "worm, and", "."])
def test_a_stop_string_within_guessed_tokens_ends_the_answer_there(server: Server, stop: str) -> None:
    answer = ask(server, "saying", options={"stop": [stop]})
    assert text_of(answer) == SAYING[: SAYING.index(stop)]


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 6, 7])
def test_no_token_beyond_the_bound(server: Server, tokens: int) -> None:
    answer = ask(server, "saying", options={"num_predict": tokens})
    assert (answer["eval_count"], answer["done_reason"]) == (tokens, "length")
    assert SAYING.startswith(text_of(answer))


def test_a_tool_call_in_guessed_tokens(server: Server) -> None:
    answer = ask(server, "calling", tools=[WEATHER])
    (call,) = answer["message"]["tool_calls"]
    assert call["function"]["name"] == "weather"
    assert call["function"]["arguments"] == {"city": "Paris", "days": 3}
    assert text_of(answer).strip() == "I will look."
    assert drafts_of(answer)[1] > 0


def test_guessed_tokens_keep_to_a_schema(server: Server) -> None:
    answer = ask(server, "object", format=SCHEMA)
    assert json.loads(text_of(answer)) == json.loads(OBJECT)
    assert drafts_of(answer)[1] > 0


def test_several_answers_at_a_time(server: Server) -> None:
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: ask(server, "saying"), range(6)))
    assert {text_of(answer) for answer in answers} == {SAYING}
    assert all(drafts_of(answer)[1] > 0 for answer in answers)


def test_every_token_has_its_log_probability(server: Server) -> None:
    """The engine tells none of guessed tokens: one that does not guess takes its place, and stays for the others."""
    assert drafts_of(ask(server, "saying"))[1] > 0
    answer = ask(server, "saying", logprobs=True, top_logprobs=2)
    assert text_of(answer) == SAYING
    assert "".join(entry["token"] for entry in answer["logprobs"]) == SAYING
    assert all(len(entry["top_logprobs"]) == 2 for entry in answer["logprobs"])
    assert "warnings" not in answer
    engines = server.engines()
    assert drafts_of(ask(server, "saying")) == (0, 0)
    assert server.engines() == engines


def test_a_word_with_its_log_probability_needs_no_other_engine(server: Server) -> None:
    """As clients classify: nothing is guessed for the first two tokens."""
    server.unload_all()
    ask(server, "saying")
    engines = server.engines()
    answer = ask(server, "saying", logprobs=True, top_logprobs=2, options={"num_predict": 2})
    assert [len(entry["top_logprobs"]) for entry in answer["logprobs"]] == [2, 2]
    assert server.engines() == engines


def test_one_with_another_vocabulary_is_left_out_and_named(server: Server) -> None:
    answer = ask(server, "misfit")
    assert (text_of(answer), drafts_of(answer)) == (SAYING, (0, 0))
    assert answer["warnings"] == [REFUSED]
    assert "draft model vocab type must match" in server.log.read_text()


def test_one_that_the_engine_does_not_load_is_left_out_and_named(server: Server) -> None:
    """It says that it looks ahead, and has no layers for it: the engine ends."""
    answer = ask(server, "broken")
    assert (text_of(answer), drafts_of(answer)) == (SAYING, (0, 0))
    assert answer["warnings"] == [REFUSED]


# --- the real model ------------------------------------------------------------------------------------------------

M = "smollm2:135m"
LETTER = (
    "Dear neighbours, on Friday and Saturday the water will be turned off between nine and twelve, because the old "
    "pipes under the street are replaced. Please fill a bucket before. The work will be loud."
)
CODE = """def area(width, height):
    return width * height


def perimeter(width, height):
    return 2 * (width + height)


def volume(width, height, depth):
    return width * height * depth
"""
PROMPTS = (
    f"{LETTER}\n\nThe same letter again:\n\nDear neighbours, on Friday",
    f"```\n{CODE}```\n\nThe same file again:\n\n```\ndef area(width",
    "A story about a lighthouse keeper: ",
    "one two three four one two three four one two three four",
)


def complete(
    server: Server, prompt: str, model: str = M, keep_alive: str | int = "5m", **options: Any
) -> dict[str, Any]:
    options = {"temperature": 0, "num_predict": 60, "num_ctx": 2048} | options
    body = {"model": model, "prompt": prompt, "raw": True, "stream": False, "timings": True, "options": options}
    reply = server.post("/api/generate", body | {"keep_alive": keep_alive}, timeout_s=300)
    assert reply.status == 200, reply.body
    return dict(reply.json())


def accepted(answer: Mapping[str, Any]) -> int:
    return int(answer["timings"]["accepted_tokens"])


def test_repeated_text_is_guessed_by_itself(start_server: StartServer) -> None:
    server = start_server()
    answer = complete(server, PROMPTS[0], num_predict=40)
    assert "the water will be turned off between nine and twelve" in answer["response"]
    assert answer["timings"]["draft_tokens"] >= accepted(answer) > 8


@pytest.mark.heavy
def test_greedy_answers_are_the_same_with_and_without(start_server: StartServer, smollm2_gguf: Path) -> None:
    server = start_server()
    without = start_server(LLAMERO_SPECULATION="off")
    make_drafted(server, "drafted", smollm2_gguf, smollm2_gguf)
    for prompt in PROMPTS:
        # each on an engine of its own: what other slots hold changes the order of sums, and with it the last bits
        plain, guessed = complete(without, prompt, keep_alive=0), complete(server, prompt, keep_alive=0)
        drafted = complete(server, prompt, "drafted", keep_alive=0)
        assert accepted(plain) == plain["timings"]["draft_tokens"] == 0
        assert guessed["response"] == drafted["response"] == plain["response"]
        assert accepted(drafted) > drafted["eval_count"] // 2


@pytest.mark.heavy
def test_answers_beside_one_another_are_guessed_each_for_itself(start_server: StartServer) -> None:
    server = start_server()
    alone = [complete(server, prompt, num_predict=30) for prompt in PROMPTS[:2]]
    with ThreadPoolExecutor(4) as threads:
        beside = list(threads.map(lambda prompt: complete(server, prompt, num_predict=30), PROMPTS))
    for one, other in zip(alone, beside, strict=False):
        assert one["response"][:40] == other["response"][:40]
        assert accepted(one) > 0 < accepted(other)


@pytest.mark.heavy
@pytest.mark.parametrize("model", [M, "drafted"])
def test_a_seed_gives_the_same_text_again(start_server: StartServer, smollm2_gguf: Path, model: str) -> None:
    """Whatever was asked in between: what is guessed, and so what is computed together, depends on the text alone."""
    server = start_server(OLLAMA_NUM_PARALLEL="2")  # in a cache of all slots, what others hold changes the last bits
    make_drafted(server, "drafted", smollm2_gguf, smollm2_gguf)
    first = complete(server, PROMPTS[0], model, seed=7, temperature=0.7)
    complete(server, PROMPTS[0], model)
    complete(server, PROMPTS[1], model)
    again = complete(server, PROMPTS[0], model, seed=7, temperature=0.7)
    assert again["response"] == first["response"]
    assert again["timings"]["draft_tokens"] == first["timings"]["draft_tokens"] > 0


@pytest.mark.heavy
def test_log_probabilities_are_those_of_an_engine_that_never_guessed(start_server: StartServer) -> None:
    asked = {"model": M, "raw": True, "stream": False, "logprobs": True, "top_logprobs": 3, "prompt": PROMPTS[0]}
    asked["options"] = {"temperature": 0, "num_predict": 40, "num_ctx": 2048}
    server = start_server()
    complete(server, PROMPTS[0])
    told = server.post("/api/generate", asked, timeout_s=120).json()["logprobs"]
    server.stop()
    other = start_server(LLAMERO_SPECULATION="off").post("/api/generate", asked, timeout_s=120).json()["logprobs"]
    assert [entry["token"] for entry in told] == [entry["token"] for entry in other]
    assert [entry["logprob"] for entry in told] == pytest.approx([entry["logprob"] for entry in other], abs=1e-3)


@pytest.mark.heavy
@pytest.mark.parametrize("model", [M, "drafted"])
def test_an_answer_that_outgrows_its_window_goes_on(start_server: StartServer, smollm2_gguf: Path, model: str) -> None:
    server = start_server()
    make_drafted(server, "drafted", smollm2_gguf, smollm2_gguf)
    answer = complete(server, PROMPTS[3], model, num_ctx=256, num_predict=400, grammar=COUNTING)
    assert answer["eval_count"] == 400
    assert accepted(answer) > 0


COUNTING = 'root ::= (" one two three four five six seven eight nine ten eleven twelve")+'
