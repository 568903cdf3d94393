"""Dify's Ollama provider: the requests that it makes and what it reads in their replies, told again.

Its real code runs in `scenarios/use_dify.py`, where LLAMERO_TEST_DIFY names a folder that has it: the folder
`models/ollama` of its makers' collection of plugins, which no package index carries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.older import python_with
from tests.clients.speakers import call, make_speaker, thought
from tests.clients.test_others import ANSWER, CALL, SCENARIOS, THOUGHT, run
from tests.parrot import write_parrot
from tests.rank_models import write_ranker
from tests.running import Server
from tests.server.tiny_models import EYES, TEXT, make

MODEL = "smollm2:135m"
EMBEDDER = "all-minilm:22m"
HI = [{"role": "user", "content": "Why is the sky blue?"}]

FORM = {
    "temperature": 0,
    "top_p": 0.9,
    "top_k": 40,
    "repeat_penalty": 1.1,
    "num_predict": 8,
    "num_ctx": 2048,
    "num_gpu": 1,
    "num_thread": 1,
    "repeat_last_n": 64,
    "seed": 7,
    "mirostat": 0,
    "mirostat_eta": 0.1,
    "mirostat_tau": 5.0,
    "tfs_z": 1.0,
}
"""Every field of its form for a model's parameters."""

ANIMAL = {
    "type": "object",
    "properties": {"legs": {"type": "integer"}, "furry": {"type": "boolean"}},
    "required": ["legs", "furry"],
}

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("dify")
    make(server, "dify-eyes", [TEXT, EYES])
    make(server, "dify-ranker", [write_ranker(folder / "ranker.gguf")])
    make(server, "dify-teller", [write_parrot(folder / "teller.gguf", '{"legs": 4, "furry": true}')])
    make_speaker(server, folder, "go", "dify-clerk", call("get_weather", city="Paris"), after_1=ANSWER)
    make_speaker(server, folder, "go", "dify-thinker", thought(*THOUGHT))
    return server


def chat(server: Server, model: str, messages: list[Any], stream: bool = False, **more: Any) -> Any:
    """The reply, or the lines of a streamed one, each of which must be JSON."""
    body = {"model": model, "stream": stream, "options": {}, "messages": messages} | more
    reply = server.post("/api/chat", body, headers={"Content-Type": "application/json"})
    assert reply.status == 200, reply.body  # anything else it shows as an error
    return reply.lines() if stream else reply.json()


def test_a_model_is_tried_when_it_is_added(stage: Server) -> None:
    ping = [{"role": "user", "content": "ping"}]
    assert chat(stage, MODEL, ping, options={"num_predict": 5})["eval_count"] == 5
    body = {"model": MODEL, "stream": False, "options": {"num_predict": 5}, "prompt": "ping"}
    assert stage.post("/api/generate", body).json()["eval_count"] == 5
    body = {"input": ["ping"], "model": EMBEDDER, "truncate": True, "options": {"use_mmap": True}}
    assert len(stage.post("/api/embed", body).json()["embeddings"]) == 1
    refused = stage.post("/api/chat", {"model": "no-such", "stream": False, "options": {}, "messages": ping})
    assert (refused.status, refused.error) == (404, "model 'no-such' not found")


def test_every_field_of_its_form_is_taken(stage: Server) -> None:
    """Those of samplers that no engine has any more are named in a warning."""
    reply = chat(stage, MODEL, HI, options=FORM, keep_alive="10m")
    assert reply["eval_count"] == 8
    assert "tfs_z" in " ".join(reply["warnings"])


def test_an_answer_whole_and_in_pieces(stage: Server) -> None:
    options = {"num_predict": 8, "temperature": 0, "stop": ["\n\n\n"]}
    whole = chat(stage, MODEL, HI, options=options)
    assert whole["model"] == MODEL
    assert {"prompt_eval_count", "eval_count"} <= set(whole)  # it guesses otherwise
    *pieces, last = chat(stage, MODEL, HI, stream=True, options=options)
    assert "".join(piece["message"]["content"] for piece in pieces) == whole["message"]["content"]
    assert not [piece for piece in (*pieces, last) if "response" in piece]  # it would be taken for the text
    assert (last["done"], last["done_reason"]) == (True, "length")
    assert (last["prompt_eval_count"], last["eval_count"]) == (whole["prompt_eval_count"], whole["eval_count"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_and_what_becomes_of_it(stage: Server, stream: bool) -> None:
    """The result goes back under the id of the call, as `tool_name` too: it keeps no other name."""
    told = chat(stage, "dify-clerk-go", HI, stream, tools=[TOOL])
    messages = [line["message"] for line in told] if stream else [told["message"]]
    (made,) = [each for message in messages for each in message.get("tool_calls", [])]
    assert [made["function"]["name"], made["function"]["arguments"]] == CALL
    asked = {"type": "function", "function": made["function"], "id": made["id"]}
    result = {"role": "tool", "content": "rain", "tool_name": made["id"], "tool_call_id": made["id"]}
    after = [*HI, {"role": "assistant", "content": "", "tool_calls": [asked]}, result]
    assert chat(stage, "dify-clerk-go", after, tools=[TOOL])["message"]["content"] == ANSWER


@pytest.mark.parametrize("think", [True, "high"])
def test_thinking_comes_apart_and_goes_back(stage: Server, think: bool | str) -> None:
    message = chat(stage, "dify-thinker-go", HI, think=think)["message"]
    assert [message["thinking"].strip(), message["content"]] == THOUGHT
    before = {"role": "assistant", "content": message["content"], "thinking": message["thinking"].strip("\n")}
    again = chat(stage, "dify-thinker-go", [*HI, before, *HI], True, think=think)
    thinking = "".join(line["message"].get("thinking") or "" for line in again)
    assert thinking.strip() == THOUGHT[0]


@pytest.mark.parametrize("form", ["json", ANIMAL], ids=["json", "schema"])
def test_json(stage: Server, form: object) -> None:
    content = chat(stage, "dify-teller", HI, format=form)["message"]["content"]
    assert json.loads(content) == {"legs": 4, "furry": True}


def test_pictures_in_conversations_and_in_prompts(stage: Server, png_base64: str) -> None:
    """An empty list of pictures comes with every message that was written in parts."""

    def tokens(pictures: list[str], path: str) -> int:
        prompt = {"prompt": "What is this?", "images": pictures}
        message = {"role": "user", "content": "What is this?", "images": pictures}
        what = prompt if path == "/api/generate" else {"messages": [message]}
        body = {"model": "dify-eyes", "stream": False, "options": {"num_predict": 2}, **what}
        return int(stage.post(path, body).json()["prompt_eval_count"])

    for path in ("/api/chat", "/api/generate"):
        assert tokens([png_base64], path) > tokens([], path) + 4


def test_texts_in_one_batch(stage: Server) -> None:
    texts = ["A cat sleeps.", "A kitten is asleep.", "Taxes are due."]
    body = {"input": texts, "model": EMBEDDER, "truncate": True, "options": {"use_mmap": True}}
    cat, kitten, tax = stage.post("/api/embed", body).json()["embeddings"]
    near, far = (sum(a * b for a, b in zip(cat, other, strict=True)) for other in (kitten, tax))
    assert near > 0.5 > far


@pytest.mark.parametrize("path", ["/api/rerank", "/v1/rerank"])
def test_documents_in_order(stage: Server, path: str) -> None:
    """The first is where it goes by itself; the second when its URL ends so. A `document` it would take for a text."""
    body = {"model": "dify-ranker", "query": "who", "documents": ["bad", "good good", "plain"], "top_n": 2}
    reply = stage.post(path, json.dumps(body).encode(), headers={"Content-Type": "application/json"}).json()
    assert [result["index"] for result in reply["results"]] == [1, 2]
    assert all(isinstance(result["relevance_score"], float) for result in reply["results"])
    assert not [result for result in reply["results"] if "document" in result]


@pytest.mark.heavy
@pytest.mark.timeout(900)  # the first run installs
@pytest.mark.skipif("LLAMERO_TEST_DIFY" not in os.environ, reason="LLAMERO_TEST_DIFY names no folder with its code")
def test_its_own_code(stage: Server, tmp_path: Path) -> None:
    python = python_with("dify-plugin>=0.9,<1", "numpy>=2.4,<3", "requests>=2.34,<3", interpreter=python_312())
    told = run([python, SCENARIOS / "use_dify.py", stage.url, os.environ["LLAMERO_TEST_DIFY"]], tmp_path)
    assert told == {
        "accepted": ["chat", "completion", "embedding", "rerank"],
        "refused": True,
        "streams": True,
        "usage": [8, 8],
        "calls": [*CALL, ANSWER],
        "streamed_calls": [CALL],
        "thinking": ["<think>", *THOUGHT],
        "streamed_thinking": True,
        "animal": True,
        "sees": True,
        "completes": True,
        "embedded": True,
        "ranked": [1, 2],
    }


def python_312() -> str:
    """Python 3.12 or newer, which its code asks for."""
    if sys.version_info >= (3, 12):
        return sys.executable
    for name in ("python3.12", "python3.13", "python3.14"):
        if (found := shutil.which(name)) and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    pytest.skip("needs Python 3.12")
