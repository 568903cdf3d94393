"""`/api/chat` on the real engine and SmolLM2 (native-api §3.8)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.running import ENDLESS, Reply, Server

M = "smollm2:135m"
FULL = "registry.ollama.ai/library/smollm2:135m"
HI = ({"role": "user", "content": "Why is the sky blue?"},)


def chat(server: Server, messages: Any = HI, **body: Any) -> Reply:
    options = {"temperature": 0, "num_predict": 8, **body.pop("options", {})}
    return server.post("/api/chat", {"model": M, "messages": list(messages), "options": options, **body})


def rendered(server: Server, messages: Any, model: str = M, **body: Any) -> str:
    reply = server.post("/api/chat", {"model": model, "messages": messages, "_debug_render_only": True, **body})
    return str(reply.json()["_debug_info"]["rendered_template"])


@pytest.mark.parametrize("body", [{}, {"messages": []}])
def test_n85_r17_without_messages_the_model_is_loaded_or_let_go(server: Server, body: dict[str, Any]) -> None:
    """N-85, R-17."""
    reply = server.post("/api/chat", {"model": M, **body})
    assert reply.json()["message"] == {"role": "assistant", "content": ""}
    assert reply.json()["done_reason"] == "load"
    assert M in server.loaded()
    assert server.post("/api/chat", {"model": M, **body, "keep_alive": 0}).json()["done_reason"] == "unload"


def test_n86_embedding_models_do_not_chat(server: Server) -> None:
    reply = server.post("/api/chat", {"model": "all-minilm:22m", "messages": list(HI)})
    assert (reply.status, reply.error) == (400, '"all-minilm:22m" does not support chat')


def test_n87_lines_of_a_stream(server: Server) -> None:
    *lines, last = chat(server).lines()
    assert all(line["message"]["role"] == "assistant" and isinstance(line["message"]["content"], str) for line in lines)
    assert "".join(line["message"]["content"] for line in lines).startswith("The answer to this question")
    assert last["message"] == {"role": "assistant", "content": ""}
    assert last["done"] is True
    assert "context" not in last
    assert {"done_reason", "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration"} < set(last)
    assert {"eval_count", "eval_duration"} < set(last)


def test_n88_roles_are_lower_cased(server: Server) -> None:
    assert "<|im_start|>user\nhello<|im_end|>" in rendered(server, [{"role": "USER", "content": "hello"}])


def test_n89_system_of_the_model(server: Server) -> None:
    server.post("/api/create", {"model": "kind", "from": M, "system": "Be kind."})
    own = "<|im_start|>system\nBe kind.<|im_end|>"
    user, system = {"role": "user", "content": "hi"}, {"role": "system", "content": "Other."}
    assert own in rendered(server, [user], "kind")
    assert own not in rendered(server, [system, user], "kind")
    assert own in rendered(server, [user, system, user], "kind")


def test_n90_tools_on_a_model_without_them(server: Server) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    refused = chat(server, tools=[tool])
    assert (refused.status, refused.error) == (400, f"{FULL} does not support tools")
    assert chat(server, tools=[]).status == 200


@pytest.mark.parametrize("think", [True, "low"])
def test_n91_thinking_on_a_model_without_it(server: Server, think: Any) -> None:
    refused = chat(server, think=think)
    assert (refused.status, refused.error) == (400, f'"{M}" does not support thinking')
    assert chat(server, think=False).status == 200


@pytest.mark.parametrize(
    ("think", "error"),
    [
        ("xhigh", 'invalid think value: "xhigh" (must be "high", "medium", "low", "max", true, or false)'),
        (1, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'),
    ],
)
def test_n92_think_values(server: Server, think: Any, error: str) -> None:
    refused = server.post("/api/chat", {"model": "nope", "think": think})
    assert (refused.status, refused.error) == (400, error)


def long_conversation(turns: int) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    talk = [{"role": roles[i % 2], "content": f"turn {i}: " + "word " * 60} for i in range(turns)]
    return [{"role": "system", "content": "FIRST RULE"}, *talk, {"role": "user", "content": "THE LAST QUESTION"}]


def test_n100_old_messages_make_room(server: Server) -> None:
    """N-100, and R-62 with T-67, which counts pictures."""
    options = {"num_ctx": 512}
    prompt = rendered(server, long_conversation(20), options=options)
    assert "FIRST RULE" in prompt
    assert "THE LAST QUESTION" in prompt
    assert "turn 0:" not in prompt
    assert "turn 19:" in prompt
    reply = chat(server, long_conversation(20), options=options, stream=False)
    assert reply.status == 200
    assert "left out" in reply.headers["Llamero-Warning"]
    assert "left out" in reply.json()["warnings"][0]


def test_n101_a_message_that_cannot_fit(server: Server) -> None:
    message = [{"role": "user", "content": "word " * 2000}]
    for truncate in (False, True):
        reply = chat(server, message, options={"num_ctx": 512}, truncate=truncate)
        assert reply.status == 400
        assert "context" in reply.error
        assert "exceed" in reply.error


def test_n102_r23_a_client_that_hangs_up_frees_the_model(server: Server) -> None:
    """N-102, R-23: generation stops within a second; with keep-alive 0 the model leaves memory."""
    server.unload_all()
    body = {"model": M, "messages": list(HI), "keep_alive": 0, "options": {"num_predict": 2000, "grammar": ENDLESS}}
    with server.streaming("/api/chat", body) as response:
        assert response.readline()
    started = time.monotonic()
    server.wait_until(lambda: not server.loaded(), 5)
    assert time.monotonic() - started < 2


def test_n122_errors_after_the_first_byte_are_the_last_line(server: Server) -> None:
    """N-122: an engine that is killed in the middle of an answer. Before the first event, the status says it."""
    before = chat(server, [{"role": "user", "content": "word " * 2000}], options={"num_ctx": 512}, truncate=False)
    assert (before.status, set(before.json())) == (400, {"error"})
    import os

    body = {"model": M, "messages": list(HI), "options": {"num_predict": 2000, "grammar": ENDLESS}}
    with server.streaming("/api/chat", body) as response:
        response.readline()
        for pid in server.engines():
            os.kill(pid, 9)
        *_, last = response.read().splitlines()
    assert response.status == 200
    assert last.startswith(b'{"error":"an error was encountered while running the model')
    # the next request loads afresh, as if nothing had been
    assert chat(server).status == 200


def test_a_trailing_assistant_message_is_continued(server: Server) -> None:
    messages = [*HI, {"role": "assistant", "content": "Because of Ray"}]
    prompt = rendered(server, messages)
    assert "Because of Ray" in prompt
    text = chat(server, messages, stream=False, options={"num_predict": 1}).json()["message"]["content"]
    assert text.startswith("leigh")
