"""Options, keep-alive and what they do to the loaded model (native-api §2.2, §2.3; scheduler §5, §6)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.running import Reply, Server

M = "smollm2:135m"


def ask(server: Server, **body: Any) -> Reply:
    return server.post("/api/generate", {"model": M, "prompt": "hi", "stream": False, **body})


def remaining_s(server: Server) -> float:
    expires = datetime.fromisoformat(server.get("/api/ps").json()["models"][0]["expires_at"])
    return (expires - datetime.now(UTC)).total_seconds()


def context_length(server: Server) -> int:
    return int(server.get("/api/ps").json()["models"][0]["context_length"])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"temperature": "hot"}, 'option "temperature" must be of type float32', id="N-74 float"),
        pytest.param({"num_ctx": "a"}, 'option "num_ctx" must be of type integer', id="N-74 integer"),
        pytest.param({"use_mmap": 1}, 'option "use_mmap" must be of type boolean', id="N-74 boolean"),
        pytest.param({"stop": "x"}, 'option "stop" must be of type array', id="N-75"),
        pytest.param({"stop": [1]}, 'option "stop" must be of an array of strings', id="N-75 items"),
    ],
)
def test_options_of_the_wrong_type(server: Server, options: dict[str, Any], error: str) -> None:
    reply = ask(server, options=options)
    assert (reply.status, reply.error) == (400, error)


@pytest.mark.parametrize("name", ["foo", "mirostat", "penalize_newline", "Temperature"])
def test_n76_options_that_mean_nothing_are_named(server: Server, name: str) -> None:
    reply = ask(server, options={name: 1, "num_predict": 1, "num_ctx": None})
    assert reply.status == 200
    assert f"'{name}'" in reply.headers["Llamero-Warning"]
    assert [f"'{name}'" in warning for warning in reply.json()["warnings"]] == [True]


def test_n76_fractions_of_an_integer_are_cut(server: Server) -> None:
    ask(server, options={"num_ctx": 512.9, "num_predict": 1})
    assert context_length(server) == 512


def test_n77_a_bad_option_of_an_unknown_model_is_a_404(server: Server) -> None:
    assert server.post("/api/generate", {"model": "nope", "options": {"num_ctx": "a"}}).status == 404


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param("5", 'time: missing unit in duration "5"', id="N-78"),
        pytest.param("abc", 'time: invalid duration "abc"', id="N-78 word"),
        pytest.param("10d", 'time: unknown unit "d" in duration "10d"', id="N-78 days"),
        pytest.param(True, "Unsupported type: 'bool'", id="N-78 bool"),
        pytest.param([], "Unsupported type: '[]interface {}'", id="list"),
    ],
)
def test_bad_keep_alive(empty_server: Server, value: Any, error: str) -> None:
    reply = empty_server.post("/api/generate", {"model": "x", "keep_alive": value})
    assert (reply.status, reply.error) == (400, error)


@pytest.mark.parametrize("value", [42, 42.5, "42m", "1h30m", "0", -1, "-1m"])
def test_n79_keep_alive_forms(server: Server, value: Any) -> None:
    assert ask(server, keep_alive=value, options={"num_predict": 1}).status == 200


def test_n80_n81_keep_alive_sticks(server: Server) -> None:
    """N-80, R-12: a request without keep_alive keeps the value; N-81: negative is for ever."""
    ask(server, keep_alive="10m", options={"num_predict": 1})
    assert 590 < remaining_s(server) <= 600
    ask(server, options={"num_predict": 1})
    assert 590 < remaining_s(server) <= 600
    ask(server, keep_alive=-1, options={"num_predict": 1})
    assert remaining_s(server) > 100 * 365 * 86400
    ask(server, keep_alive="5m", options={"num_predict": 1})


def test_n82_r14_keep_alive_zero_answers_first(server: Server) -> None:
    """N-82, R-14."""
    server.unload_all()
    assert ask(server, keep_alive=0, options={"num_predict": 5, "temperature": 0}).json()["eval_count"] == 5
    server.wait_until(lambda: not server.loaded(), 3)


def test_n83_r10_the_clock_starts_when_the_answer_ends(server: Server) -> None:
    """N-83, R-10."""
    server.unload_all()
    ask(server, keep_alive=1, options={"num_predict": 1})
    assert server.loaded() == [M]
    started = time.monotonic()
    server.wait_until(lambda: not server.loaded(), 5)
    assert 0.8 < time.monotonic() - started < 3


@pytest.mark.parametrize("keep_alive", [300, 0.5, "10m", -1, "-1m", "0"])
def test_r13_keep_alive(server: Server, keep_alive: Any) -> None:
    assert ask(server, keep_alive=keep_alive, options={"num_predict": 1}).status == 200


@pytest.mark.parametrize(("keep_alive", "error"), [("300", "duration"), ("-1", "duration"), (True, "bool")])
def test_r13_what_is_no_keep_alive(server: Server, keep_alive: Any, error: str) -> None:
    reply = ask(server, keep_alive=keep_alive)
    assert reply.status == 400
    assert error in reply.error


def test_n84_r03_another_context_reloads(server: Server) -> None:
    """N-84, R-03; and R-02: sampling options and a format do not."""
    ask(server, options={"num_ctx": 1024, "num_predict": 1})
    assert context_length(server) == 1024
    ask(server, options={"num_predict": 1})
    assert context_length(server) == 4096
    before = server.engines()
    for options in ({"temperature": 0.1}, {"stop": ["x"]}, {"seed": 3}):
        ask(server, options={**options, "num_predict": 1})
    ask(server, format="json", options={"num_predict": 1})
    assert server.engines() == before


def test_absurd_contexts_are_raised_or_capped_and_named(server: Server) -> None:
    tiny = ask(server, raw=True, options={"num_ctx": -1, "num_predict": 1})
    assert tiny.json()["warnings"] == ["num_ctx -1 raised to 4"]
    assert context_length(server) == 4
    huge = ask(server, options={"num_ctx": 10**9, "num_predict": 1})
    assert huge.json()["warnings"] == ["num_ctx 1000000000 reduced to 8192, the context this model was trained with"]
    assert context_length(server) == 8192


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_batch", 10**9),
        ("num_batch", -5),
        pytest.param("num_thread", 10**6, marks=pytest.mark.heavy),
        ("num_thread", -3),
    ],
)
def test_absurd_runner_options_are_clamped_and_named(server: Server, option: str, value: int) -> None:
    reply = ask(server, options={option: value, "num_predict": 1})
    assert reply.status == 200
    assert [option in warning for warning in reply.json()["warnings"]] == [True]


def test_n103_top_logprobs_out_of_range(empty_server: Server) -> None:
    for path in ("/api/generate", "/api/chat"):
        for value in (-1, 21):
            reply = empty_server.post(path, {"top_logprobs": value})
            assert (reply.status, reply.error) == (400, "top_logprobs must be between 0 and 20")


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_n104_n105_logprobs(server: Server, path: str, stream: bool) -> None:
    """N-104 one entry per token, N-105 alternatives in falling order. With the one before, R-57."""
    question = {"prompt": "hi"} if path.endswith("generate") else {"messages": [{"role": "user", "content": "hi"}]}
    body = {"model": M, **question, "stream": stream, "options": {"num_predict": 6, "temperature": 0}}
    lines = server.post(path, {**body, "logprobs": True}).lines()
    entries = [entry for line in lines for entry in line.get("logprobs", [])]
    assert abs(len(entries) - lines[-1]["eval_count"]) <= 2
    for entry in entries:
        assert entry["logprob"] <= 0
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert "top_logprobs" not in entry
    lines = server.post(path, {**body, "logprobs": True, "top_logprobs": 3}).lines()
    for entry in (entry for line in lines for entry in line.get("logprobs", [])):
        values = [other["logprob"] for other in entry["top_logprobs"]]
        assert 1 <= len(values) <= 3
        assert values == sorted(values, reverse=True)
    assert all("logprobs" not in line for line in server.post(path, {**body, "top_logprobs": 3}).lines())


def test_grammar_constrains_an_answer(server: Server) -> None:
    reply = ask(server, options={"grammar": 'root ::= "yes" | "no"', "num_predict": 9})
    assert reply.json()["response"] in ("yes", "no")
    both = ask(server, format="json", options={"grammar": 'root ::= "a"'})
    assert both.status == 400
    bad = ask(server, options={"grammar": "root ::= missing"})
    assert bad.status == 400
    assert bad.error.startswith("invalid grammar: ")
