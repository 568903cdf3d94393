"""What no small model does reliably, by a scripted engine behind the real server: thinking, tool calls, broken streams.

Partly N-93, partly N-94, partly N-96, partly N-97: models that do it by themselves come later.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.fake_llama_server import TIMINGS, install, read_record
from tests.running import Server, children

Scripted = Callable[[list[dict[str, Any]]], Server]

ASK = {"model": "able", "messages": [{"role": "user", "content": "hi"}]}
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"default": 1}}}},
}


def delta(**fields: Any) -> dict[str, Any]:
    return {"send": {"choices": [{"delta": fields, "finish_reason": None}]}}


def call(index: int, text: str, *, name: str | None = None, id: str | None = None) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "id": id, "function": {"name": name, "arguments": text}}])


def chat_bodies(folder: Path) -> list[dict[str, Any]]:
    """What the engine was asked."""
    requests = read_record(folder, "request")
    return [request["body"] for request in requests if request["path"] == "/v1/chat/completions"]


END = {"send": {"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": TIMINGS}}


@pytest.fixture
def scripted(start_server: StartServer, tmp_path: Path) -> Scripted:
    """A server whose engine answers chats with these steps, and a model `able` that thinks and calls tools."""

    def start(steps: list[dict[str, Any]]) -> Server:
        program = install(tmp_path, {"replies": {"/v1/chat/completions": steps}})
        server = start_server(LLAMERO_LLAMA_SERVER=str(program))
        info = {"capabilities": ["tools", "thinking"]}
        made = server.post("/api/create", {"model": "able", "from": "smollm2:135m", "info": info, "stream": False})
        assert made.json() == {"status": "success"}
        return server

    return start


def test_thinking_comes_first_and_apart(scripted: Scripted) -> None:
    server = scripted([delta(reasoning_content="hm "), delta(reasoning_content="hm"), delta(content="Answer"), END])
    *lines, last = server.post("/api/chat", ASK).lines()
    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "hm "},
        {"role": "assistant", "content": "", "thinking": "hm"},
        {"role": "assistant", "content": "Answer"},
    ]
    assert last["done_reason"] == "stop"
    whole = server.post("/api/chat", {**ASK, "stream": False}).json()
    assert whole["message"] == {"role": "assistant", "content": "Answer", "thinking": "hm hm"}
    generated = server.post("/api/generate", {"model": "able", "prompt": "hi", "stream": False}).json()
    assert (generated["thinking"], generated["response"]) == ("hm hm", "Answer")


def test_an_engine_that_died_unnoticed_is_replaced(scripted: Scripted) -> None:
    """R-08, in the instant between its end and the notice of it: nobody hears of a request that never arrived."""
    server = scripted([delta(content="x"), END])
    for _ in range(20):
        assert server.post("/api/chat", ASK).status == 200
        (engine,) = children(server.process.pid)
        os.kill(engine, signal.SIGKILL)
        reply = server.post("/api/chat", {**ASK, "stream": False})
        assert (reply.status, reply.json().get("message", {}).get("content")) == (200, "x"), reply.body


def test_a_thinking_model_is_told_to_think_unless_it_is_told_not_to(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted([delta(content="x"), END])
    for think in (None, False, "high"):
        server.post("/api/chat", {**ASK, "think": think})
    told = [body["chat_template_kwargs"] for body in chat_bodies(tmp_path)]
    assert told == [{"enable_thinking": True}, {"enable_thinking": False}, {"enable_thinking": True}]


def test_r72_tool_calls_of_the_engine_are_joined_and_what_is_no_json_is_shown(scripted: Scripted) -> None:
    """R-72: fragments of two calls by their index; a call is sent when the next one begins."""
    fragments = [call(0, '{"a"', name="f", id="c0"), call(0, ":1}"), call(1, "{", name="g", id="c1"), call(1, "oops")]
    server = scripted([*fragments, END])
    with server.streaming("/api/chat", {**ASK, "tools": [TOOL]}) as response:
        assert response.status == 200
        messages = [json.loads(line)["message"] for line in response]
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert [(each["function"]["name"], each["function"]["arguments"]) for each in calls] == [("f", {"a": 1})]
    assert "".join(message["content"] for message in messages) == "g{oops"
    assert "tool_calls" in messages[0]


def test_tool_calls_arrive_complete_and_once(scripted: Scripted, tmp_path: Path) -> None:
    server = scripted(
        [
            delta(content="Let me see."),
            call(0, "", name="f", id="call_1"),
            call(0, '{"a":'),
            call(0, " 1}"),
            call(1, "", name="g", id="call_2"),
            END,
        ]
    )
    *lines, last = server.post("/api/chat", {**ASK, "tools": [TOOL]}).lines()
    calls = [line["message"]["tool_calls"] for line in lines if "tool_calls" in line["message"]]
    assert calls == [
        [{"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
        [{"id": "call_2", "function": {"index": 1, "name": "g", "arguments": {}}}],
    ]
    assert "".join(line["message"]["content"] for line in lines) == "Let me see."
    assert last["done_reason"] == "stop"
    sent = chat_bodies(tmp_path)[-1]
    assert sent["tools"] == [TOOL], "the whole schema reaches the template, unknown keywords too"


def test_a_call_that_cannot_be_read_is_shown(scripted: Scripted) -> None:
    server = scripted([call(0, "{broken", name="f"), END])
    message = server.post("/api/chat", {**ASK, "tools": [TOOL], "stream": False}).json()["message"]
    assert message == {"role": "assistant", "content": "f{broken"}


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([delta(content="a"), {"cut": True}], "an error was encountered while running the model"),
        ([delta(content="a")], "model runner stopped before finishing"),
        ([delta(content="a"), {"die": 3}], "an error was encountered while running the model: exit status 3"),
        ([delta(content="a"), {"send": {"error": {"message": "no more"}}}], "no more"),
    ],
)
def test_r53_streams_that_break(scripted: Scripted, steps: list[dict[str, Any]], error: str) -> None:
    """R-53: a last line in the stream; status 500 where nothing was sent yet."""
    server = scripted(steps)
    streamed = server.post("/api/chat", ASK)
    assert (streamed.status, streamed.lines()[-1]) == (200, {"error": error})
    whole = server.post("/api/chat", {**ASK, "stream": False})
    assert (whole.status, whole.json()) == (500, {"error": error})


def test_only_our_own_fields_reach_the_engine(scripted: Scripted, tmp_path: Path) -> None:
    """Partly X-66: what a client adds never gets through."""
    server = scripted([delta(content="x"), END])
    tricks = {"n_discard": -5, "chat_parser": "x", "lora": [], "id_slot": 7, "samplers": [], "cache_prompt": True}
    reply = server.post("/api/chat", {**ASK, **tricks, "options": dict(tricks), "stream": False})
    assert all(name in " ".join(reply.json()["warnings"]) for name in tricks)
    sent = chat_bodies(tmp_path)[-1]
    assert not {"n_discard", "chat_parser", "lora", "samplers"} & set(sent)
    assert sent["id_slot"] == 0, "ours"
