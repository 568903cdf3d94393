"""Other people's servers: spoken to in their words, and whatever they do wrong is told in one line."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.sides import Answer, LlamaServer, Native, user
from bench.wire import Failed, Http
from tests.fake_llama_server import install, read_record
from tests.running import free_port

CHAT = "/api/chat"
STREAM = "/v1/chat/completions"
StartFake = Callable[[dict[str, Any]], str]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[StartFake]:
    """Start a program that answers as its replies say; returns its URL. It speaks any API that it is told."""
    with ExitStack() as stack:

        def start(replies: dict[str, Any]) -> str:
            port = free_port()
            program = install(tmp_path, {"replies": replies})
            child = subprocess.Popen([program, "--host", "127.0.0.1", "--port", str(port)], stderr=subprocess.DEVNULL)
            stack.callback(child.wait)
            stack.callback(child.kill)
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 10
            while True:
                try:
                    Http.at(url).call("GET", "/health")
                    return url
                except Failed:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)

        yield start


def lines(*objects: str) -> list[dict[str, Any]]:
    return [{"raw": text + "\n"} for text in objects]


def test_an_answer_in_ollamas_words(fake: StartFake, tmp_path: Path) -> None:
    url = fake(
        {
            CHAT: [
                {"pause": 0.05},
                *lines('{"message": {"role": "assistant", "content": ""}}', '{"message": {"thinking": "Hm"}}'),
                {"pause": 0.05},
                *lines(
                    '{"message":{"role":"assistant","content":"Hello"},"done":false}',
                    '{"message":{"content":""},"done":true,"eval_count":5,"prompt_eval_count":7}',
                ),
            ]
        }
    )
    answer = Native("them", Http.at(url), "m").chat(user("Hi"), 9)
    assert (answer.text, answer.tokens, answer.prompt_tokens) == ("Hello", 5, 7)
    assert 0.05 <= answer.first_s < 0.1 <= answer.total_s, "the first text is the thought"
    (request,) = read_record(tmp_path, "request")
    assert request["body"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "options": {"num_predict": 9, "temperature": 0},
    }


def test_an_answer_in_llama_servers_words(fake: StartFake, tmp_path: Path) -> None:
    answer = LlamaServer("them", Http.at(fake({}))).chat(user("Hi"), 9)
    assert (answer.text, answer.tokens, answer.prompt_tokens) == ("Hello there", 2, 5)
    (request,) = read_record(tmp_path, "request")
    assert request["path"] == STREAM
    assert request["body"]["n_predict"] == 9
    assert request["body"]["temperature"] == 0
    assert "model" not in request["body"]


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({CHAT: {"status": 404, "body": {"error": "model 'm' not found"}}}, "404: model 'm' not found"),
    ({CHAT: {"status": 500, "body": {"error": {"message": "out\nof memory"}}}}, "500: out of memory"),
    ({CHAT: {"status": 502, "body": "<html>Bad gateway</html>"}}, "502: <html>Bad gateway</html>"),
    ({CHAT: lines('{"message":{"content":"a"}}', '{"error":"it died"}')}, 'in the middle of an answer: "it died"'),
    ({CHAT: lines('{"message":{"content":"a"},"done":false}')}, "the answer broke off"),
    ({CHAT: [*lines('{"message":{"content":"a"},"done":false}'), {"cut": True}]}, "the answer broke off"),
    ({CHAT: lines('{"message":{"content":""},"done":true}')}, "an answer without any text"),
    ({CHAT: lines('"content":"a", and no JSON')}, "this is no JSON"),
    ({CHAT: [{"die": 1}]}, "Remote end closed connection"),
]


@pytest.mark.parametrize(("replies", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_what_goes_wrong_is_told_in_one_line(fake: StartFake, replies: dict[str, Any], words: str) -> None:
    with pytest.raises(Failed) as caught:
        Native("them", Http.at(fake(replies)), "m").chat(user("Hi"), 9)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_there() -> None:
    with pytest.raises(Failed, match="refused"):
        Native("them", Http.at(f"http://127.0.0.1:{free_port()}"), "m").about()


def test_a_model_is_let_go_and_waited_for(fake: StartFake, tmp_path: Path) -> None:
    gone = {"/api/generate": {"body": {"done": True}}, "/api/ps": {"body": {"models": [{"name": "other:latest"}]}}}
    Native("them", Http.at(fake(gone)), "m").unload()
    asked = read_record(tmp_path, "request")
    assert [request["path"] for request in asked] == ["/api/generate", "/api/ps"]
    assert asked[0]["body"] == {"model": "m", "keep_alive": 0, "stream": False}


@pytest.mark.parametrize("model", ["M", "m:latest", "m"])
def test_a_model_that_stays_is_not_waited_for_without_end(
    fake: StartFake, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr("bench.sides.UNLOAD_TIMEOUT_S", 0.1)
    stays = {"/api/generate": {"body": {"done": True}}, "/api/ps": {"body": {"models": [{"name": "m:latest"}]}}}
    with pytest.raises(Failed, match="still loaded"):
        Native("them", Http.at(fake(stays)), model).unload()


def test_a_llama_server_cannot_let_go() -> None:
    with pytest.raises(Failed, match="for as long as it runs"):
        LlamaServer("them", Http.at("http://127.0.0.1:1")).unload()


@pytest.mark.parametrize("rows", [[], [[0.5]], None, "ab", [[0.5], None]], ids=str)
def test_a_wrong_number_of_vectors(fake: StartFake, rows: Any) -> None:
    url = fake({"/api/embed": {"body": {"embeddings": rows}}})
    with pytest.raises(Failed, match="2 texts were not embedded"):
        Native("them", Http.at(url), "m").embed("e", ["a", "b"])


def test_what_they_say_about_themselves(fake: StartFake) -> None:
    replies = {
        "/api/version": {"body": {"version": "0.9"}},
        "/api/show": {"body": {"details": {"parameter_size": "135M", "quantization_level": "Q4_1"}}},
        "/props": {"body": {"build_info": "b1234", "model_path": "/models/small.gguf"}},
    }
    http = Http.at(fake(replies))
    assert Native("them", http, "m").about() == "version 0.9, m with 135M parameters in Q4_1"
    assert LlamaServer("them", http).about() == "build b1234, small.gguf"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://127.0.0.1:http"])
def test_no_address(url: str) -> None:
    with pytest.raises(Failed, match="write an address like"):
        Http.at(url)


def test_a_user_in_the_address_is_sent(fake: StartFake, tmp_path: Path) -> None:
    Http.at(fake({"/api/x": {"body": {}}}).replace("//", "//ann:se%20cret@")).call("POST", "/api/x", {})
    assert read_record(tmp_path, "request")[0]["headers"]["authorization"] == "Basic YW5uOnNlIGNyZXQ="


def test_speeds_of_an_answer() -> None:
    answer = Answer(first_s=0.5, total_s=2.5, tokens=11, prompt_tokens=100, text="")
    assert answer.decode_per_s == 5
    assert answer.prefill_per_s == 200


@pytest.mark.parametrize("answer", [Answer(0.5, 2.5, 1, 0, ""), Answer(0.5, 0.5, 9, 0, "")])
def test_a_speed_that_cannot_be_told(answer: Answer) -> None:
    with pytest.raises(Failed):
        _ = answer.decode_per_s
    with pytest.raises(Failed):
        _ = answer.prefill_per_s
