"""One-shot `run` off a terminal: what is sent, what is written where (cli §3.4)."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from llamero.cli.run import float32_text
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer, generated, shown

PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.fixture
def model(server: ScriptedServer) -> ScriptedServer:
    """A server with a plain model `m` that answers `Hello there`."""
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("Hello", " there")}
    return server


def sent(server: ScriptedServer) -> dict[str, Any]:
    body: dict[str, Any] = server.body("POST /api/generate")
    return body


# --- prompt and answer ---------------------------------------------------------------------------------------------


def test_piped_input_comes_before_the_words(ollama: Ollama, model: ScriptedServer) -> None:
    """L-44"""
    ollama("run", "m", "there", stdin="hi\n")
    assert sent(model) == {"model": "m", "prompt": "hi\n there"}


def test_the_words_of_a_prompt_are_joined(ollama: Ollama, model: ScriptedServer) -> None:
    ollama("run", "m", "say", "", "hi")
    assert sent(model)["prompt"] == "say hi"


def test_words_after_two_dashes_are_no_flags(ollama: Ollama, model: ScriptedServer) -> None:
    """L-10"""
    ollama("run", "m", "--", "--foo")
    assert sent(model)["prompt"] == "--foo"


def test_the_answer_ends_with_an_empty_line(ollama: Ollama, model: ScriptedServer) -> None:
    """L-45, L-46"""
    outcome = ollama("run", "m", "hi")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Hello there\n\n", "")
    assert model.routes == ["POST /api/show", "POST /api/generate"]


def test_a_long_answer_is_not_wrapped_into_a_pipe(ollama: Ollama, server: ScriptedServer) -> None:
    """L-46"""
    text = "word " * 100 + "\x1b[31mred"
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated(text)}
    assert ollama("run", "m", "hi").out == f"{text}\n\n"


@pytest.mark.parametrize("argv", [["run", "m", ""], ["run", "m"]])
def test_an_empty_prompt_only_loads(ollama: Ollama, server: ScriptedServer, argv: list[str]) -> None:
    """L-47"""
    load = Reply(json={"model": "m", "response": "", "done": True, "done_reason": "load"})
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": load}
    outcome = ollama(*argv)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert sent(server) == {"model": "m", "prompt": ""}


def test_an_error_keeps_what_was_said(ollama: Ollama, server: ScriptedServer) -> None:
    lines = [{"response": "Half an"}, {"error": "model runner has unexpectedly stopped"}]
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": Reply(lines=lines)}
    outcome = ollama("run", "m", "hi")
    assert (outcome.status, outcome.out) == (1, "Half an")
    assert outcome.err == "Error: model runner has unexpectedly stopped\n"


def test_warnings_are_said_on_stderr(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("x", warnings=["num_ctx was cut"])}
    assert ollama("run", "m", "hi").err == "Warning: num_ctx was cut\n"


def test_ctrl_c_ends_the_line_and_the_request(server: ScriptedServer) -> None:
    """L-62"""
    server.replies |= {
        "POST /api/show": shown(),
        "POST /api/generate": Reply(lines=[{"response": "Once upon"}, threading.Event()]),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "llamero.cli.main", "run", "m", "tell"],
        env=os.environ | {"OLLAMA_HOST": server.address},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(9) == b"Once upon"
    process.send_signal(signal.SIGINT)
    assert server.disconnected.wait(1)
    assert process.wait(5) == 130
    assert process.stdout.read() == b"\n"
    process.stdout.close()


# --- thinking, tools, statistics -----------------------------------------------------------------------------------

THOUGHT = Reply(
    lines=[
        {"response": "", "thinking": "let me"},
        {"thinking": " see"},
        {"response": "Yes"},
        {"response": "", "done": True},
    ]
)


def test_thinking_is_shown_between_two_lines(ollama: Ollama, server: ScriptedServer) -> None:
    """L-48"""
    server.replies |= {"POST /api/show": shown(capabilities=["completion", "thinking"]), "POST /api/generate": THOUGHT}
    assert ollama("run", "m", "hi").out == "Thinking...\nlet me see\n...done thinking.\n\nYes\n\n"
    assert sent(server)["think"] is True


def test_thinking_that_ends_its_line_gets_no_other_end(ollama: Ollama, server: ScriptedServer) -> None:
    lines = [{"thinking": "hm\n"}, {"response": "Yes"}, {"done": True}]
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": Reply(lines=lines)}
    assert ollama("run", "m", "hi").out == "Thinking...\nhm\n...done thinking.\n\nYes\n\n"


def test_thinking_alone_has_no_closing_line(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies |= {
        "POST /api/show": shown(),
        "POST /api/generate": Reply(lines=[{"thinking": "hm"}, {"done": True}]),
    }
    assert ollama("run", "m", "hi").out == "Thinking...\nhm\n\n"


def test_hidden_thinking_is_still_done(ollama: Ollama, server: ScriptedServer) -> None:
    """L-49"""
    server.replies |= {"POST /api/show": shown(capabilities=["completion", "thinking"]), "POST /api/generate": THOUGHT}
    assert ollama("run", "m", "hi", "--hidethinking").out == "Yes\n\n"
    assert sent(server)["think"] is True


def test_a_model_that_cannot_think_is_not_told_about_it(ollama: Ollama, model: ScriptedServer) -> None:
    """L-50"""
    ollama("run", "m", "hi")
    assert "think" not in sent(model)


@pytest.mark.parametrize(
    ("flag", "prompt", "think"),
    [
        pytest.param("--think", "high hi", True, id="L-08 bare"),
        pytest.param("--think=high", "hi", "high", id="L-08 level"),
        pytest.param("--think=false", "hi", False, id="off"),
        pytest.param("--think=max", "hi", "max", id="max"),
        pytest.param("--think=", "hi", True, id="an empty level"),
    ],
)
def test_think(ollama: Ollama, model: ScriptedServer, flag: str, prompt: str, think: bool | str) -> None:
    ollama("run", "m", flag, *prompt.split())
    assert (sent(model)["think"], sent(model)["prompt"]) == (think, prompt)


def test_an_unknown_level_is_refused_after_the_heartbeat(ollama: Ollama, model: ScriptedServer) -> None:
    """L-09"""
    outcome = ollama("run", "m", "--think=maybe", "x")
    assert outcome.status == 1
    assert outcome.err == (
        'Error: invalid value for --think: "maybe" (must be true, false, high, medium, low, or max)\n'
    )
    assert model.routes == []


def test_a_tool_call_is_told(ollama: Ollama, server: ScriptedServer) -> None:
    """L-61"""
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g", "arguments": {}}}]
    lines = [{"response": "", "tool_calls": calls}, {"response": "", "done": True}]
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": Reply(lines=lines)}
    assert ollama("run", "m", "hi").out == (
        "  Model called a non-existent function 'f()' with arguments: {\"a\":1}\n"
        "  Model called a non-existent function 'g()' with arguments: {}\n\n"
    )


METRICS = {
    "total_duration": 1_234_567_891,
    "load_duration": 52_300_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130_100_000,
    "eval_count": 298,
    "eval_duration": 4_700_000_000,
}


def test_statistics(ollama: Ollama, server: ScriptedServer) -> None:
    """L-53"""
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("x", **METRICS)}
    outcome = ollama("run", "m", "hi", "--verbose")
    assert outcome.out == "x\n\n"
    assert outcome.err == (
        "total duration:       1.234567891s\n"
        "load duration:        52.3ms\n"
        "prompt eval count:    26 token(s)\n"
        "prompt eval duration: 130.1ms\n"
        "prompt eval rate:     199.85 tokens/s\n"
        "eval count:           298 token(s)\n"
        "eval duration:        4.7s\n"
        "eval rate:            63.40 tokens/s\n"
    )


def test_statistics_that_are_zero_are_left_out(ollama: Ollama, server: ScriptedServer) -> None:
    """L-53: but a rate stands behind its duration, as after a prompt that was all in the cache."""
    metrics = {"total_duration": 5, "load_duration": -1, "prompt_eval_duration": 7, "eval_count": 1}
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("x", **metrics)}
    assert ollama("run", "m", "hi", "--verbose").err == (
        "total duration:       5ns\n"
        "prompt eval duration: 7ns\n"
        "prompt eval rate:     0.00 tokens/s\n"
        "eval count:           1 token(s)\n"
    )


# --- format, keep-alive --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "format_"), [("json", "json"), ('{"type": "object"}', {"type": "object"})])
def test_format(ollama: Ollama, model: ScriptedServer, text: str, format_: Any) -> None:
    """L-51"""
    ollama("run", "m", "hi", "--format", text)
    assert sent(model)["format"] == format_


def test_a_format_that_is_no_json_is_refused(ollama: Ollama, model: ScriptedServer) -> None:
    assert ollama("run", "m", "hi", "--format", "xml").err.startswith("Error: invalid value for --format: ")


@pytest.mark.parametrize(
    ("text", "sent_as"), [("10m", "10m0s"), ("-1m", -1), ("-1", -1), ("0", "0s"), ("90", "1m30s"), ("1h30m", "1h30m0s")]
)
def test_keep_alive(ollama: Ollama, model: ScriptedServer, text: str, sent_as: str | int) -> None:
    """L-52"""
    ollama("run", "m", "hi", "--keepalive", text)
    assert sent(model)["keep_alive"] == sent_as


def test_a_keep_alive_that_is_no_duration(ollama: Ollama, model: ScriptedServer) -> None:
    outcome = ollama("run", "m", "hi", "--keepalive", "1d")
    assert outcome.err == 'Error: time: unknown unit "d" in duration "1d"\n'


# --- missing models ------------------------------------------------------------------------------------------------

MISSING = Reply(404, json={"error": "model 'm' not found"})


def test_a_missing_model_is_pulled_first(ollama: Ollama, server: ScriptedServer) -> None:
    """L-54"""
    server.replies |= {
        "POST /api/show": [MISSING, shown()],
        "POST /api/pull": Reply(lines=[{"status": "pulling manifest"}, {"status": "success"}]),
        "POST /api/generate": generated("Hello"),
    }
    outcome = ollama("run", "m", "hi", "--insecure")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Hello\n\n", "pulling manifest\nsuccess\n")
    assert server.body("POST /api/pull") == {"model": "m", "insecure": True}


def test_a_model_that_no_registry_has(ollama: Ollama, server: ScriptedServer) -> None:
    """L-54"""
    error = {"error": "pull model manifest: file does not exist"}
    server.replies |= {
        "POST /api/show": MISSING,
        "POST /api/pull": Reply(lines=[{"status": "pulling manifest"}, error]),
    }
    outcome = ollama("run", "m", "hi")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.endswith("Error: pull model manifest: file does not exist\n")


@pytest.mark.parametrize("name", ["m:cloud", "m:7b-cloud", "m:local"])
def test_an_explicit_source_is_not_pulled(ollama: Ollama, server: ScriptedServer, name: str) -> None:
    server.replies["POST /api/show"] = MISSING
    assert ollama("run", name, "hi").err == "Error: model 'm' not found\n"
    assert server.routes == ["POST /api/show"]


def test_models_that_make_pictures_are_refused(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/show"] = shown(capabilities=["image"])
    assert ollama("run", "m", "hi").err == "Error: image generation models are not currently supported\n"


# --- embedding models ----------------------------------------------------------------------------------------------


@pytest.fixture
def embedder(server: ScriptedServer) -> ScriptedServer:
    server.replies |= {
        "POST /api/show": shown(capabilities=["embedding"]),
        "POST /api/embed": Reply(json={"model": "e", "embeddings": [[0.1, 0.2, 0.3]]}),
    }
    return server


def test_an_embedding_is_one_line(ollama: Ollama, embedder: ScriptedServer) -> None:
    """L-55"""
    outcome = ollama("run", "e", "hello", "world", stdin="first\n")
    assert (outcome.status, outcome.out, outcome.err) == (0, "[0.1,0.2,0.3]\n", "")
    assert embedder.body("POST /api/embed") == {"model": "e", "input": "first\n hello world"}


def test_an_embedding_of_nothing(ollama: Ollama, embedder: ScriptedServer) -> None:
    """L-56"""
    outcome = ollama("run", "e")
    assert outcome.err == 'Error: embedding models require input text. Usage: ollama run e "your text here"\n'
    assert outcome.status == 1


def test_flags_of_embeddings(ollama: Ollama, embedder: ScriptedServer) -> None:
    """L-57: without the flags neither field is sent, as the test of one line shows."""
    ollama("run", "e", "x", "--dimensions", "2", "--truncate")
    ollama("run", "e", "x", "--truncate=false", "--keepalive", "5s")
    assert embedder.bodies("POST /api/embed") == [
        {"model": "e", "input": "x", "truncate": True, "dimensions": 2},
        {"model": "e", "input": "x", "truncate": False, "keep_alive": "5s"},
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.10000000149011612, "0.1"),
        (1.0, "1"),
        (0.0, "0"),
        (-0.02345678, "-0.02345678"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (-1.5e-12, "-1.5e-12"),
        (123456789.0, "123456790"),
        (1e22, "1e+22"),
    ],
)
def test_32_bit_floats_as_go_writes_them(value: float, text: str) -> None:
    assert float32_text(value) == text
    assert json.loads(text) == pytest.approx(value)


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"capabilities": ["completion", "vision"]},
        {"capabilities": ["completion", "audio"]},
        {"projector_info": {"general.architecture": "clip"}},
        {"model_info": {"gemma3.vision.block_count": 1}},
    ],
    ids=["vision", "audio", "projector", "metadata"],
)
def test_a_picture_named_in_the_prompt_is_sent(
    ollama: Ollama, server: ScriptedServer, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """L-58"""
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    server.replies |= {"POST /api/show": shown(**fields), "POST /api/generate": generated("A cat")}
    outcome = ollama("run", "m", f"look at {picture} now")
    assert outcome.err == f"Added image '{picture}'\n"
    assert sent(server) == {"model": "m", "prompt": "look at  now", "images": [base64.b64encode(PNG).decode()]}


def test_other_models_get_the_path_as_text(ollama: Ollama, model: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    ollama("run", "m", f"{tmp_path}/a.png")
    assert sent(model) == {"model": "m", "prompt": f"{tmp_path}/a.png"}


def test_a_bad_picture_ends_it(ollama: Ollama, server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("hello")
    server.replies["POST /api/show"] = shown(capabilities=["vision"])
    outcome = ollama("run", "m", f"{tmp_path}/x.png")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.endswith("Error: invalid file type: text/plain; charset=utf-8\n")
