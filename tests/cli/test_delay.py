"""Why an answer does not begin yet (native-api §3.5): what `run` says while it waits, and `ps` beside its table."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from llamero.cli.delay import Delay, describe
from llamero.client import Client, LoadingModel, Running, WaitingRequest
from llamero.config import parse_host
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer, generated, shown
from tests.cli.terminals import TerminalProgram

LOADING = [LoadingModel("m:latest", 0.426)]
QUEUE = [WaitingRequest(1, "m:latest", 9000), WaitingRequest(2, "m:latest", 1400), WaitingRequest(3, "x:latest", 1500)]


@pytest.mark.parametrize(
    ("running", "model", "text"),
    [
        pytest.param(Running([], LOADING, []), "m", "loading m:latest 43%", id="load"),
        pytest.param(Running([], LOADING, []), "registry.ollama.ai/library/M", "loading m:latest 43%", id="spelling"),
        pytest.param(Running([], LOADING, []), "other", "", id="another model loads"),
        pytest.param(Running([], [], QUEUE), "m", "waiting in the queue, position 2", id="queue"),
        pytest.param(Running([], LOADING, QUEUE), "m", "waiting in the queue, position 2", id="queue before load"),
        pytest.param(Running([], [], []), "m", "", id="it computes"),
        pytest.param(Running([], LOADING, QUEUE), "m:/", "", id="no name at all"),
    ],
)
def test_the_reason_in_words(running: Running, model: str, text: str) -> None:
    assert describe(running, model, waited_ms=1500) == text


@pytest.mark.parametrize(
    ("left_s", "text"),
    [(0.4, "loading m:latest 43%"), (61.7, "loading m:latest 43%, 1m2s left"), (8, "loading m:latest 43%, 8s left")],
)
def test_how_long_a_load_still_takes(left_s: float, text: str) -> None:
    assert describe(Running([], LOADING, []), "m", 1500, left_s) == text
    assert describe(Running([], LOADING, QUEUE), "m", 1500, left_s) == "waiting in the queue, position 2"


def test_the_pace_of_a_load_is_watched(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth in four seconds: what is left takes twelve."""
    shares = [(0.0, 0.2), (0.5, 0.3), (4.0, 0.4), (5.0, 0.4)]
    server.replies["GET /api/ps"] = [
        Reply(json={"models": [], "loading": [{"model": "m:latest", "progress": share}]}) for _, share in shares
    ]
    clock = iter([0.0, *(now_s for now_s, _ in shares)])
    delay_clock = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("llamero.cli.delay.time", delay_clock)
    delay = Delay(Client(parse_host(server.address)[0]), "m")
    assert [delay.reason() for _ in shares] == [
        "loading m:latest 20%",
        "loading m:latest 30%",  # too soon to tell
        "loading m:latest 40%, 12s left",
        "loading m:latest 40%, 15s left",
    ]


def test_run_says_why_it_takes_so_long_and_leaves_no_trace_of_it(server: ScriptedServer, tmp_path: Path) -> None:
    go_on = threading.Event()
    answer = generated("Hello")
    answer.after = go_on
    waits = Reply(json={"models": [], "queue": [{"position": 3, "model": "m:latest", "waiting_ms": 1000}]})
    loads = Reply(json={"models": [], "loading": [{"model": "m:latest", "progress": 0.5}]})
    server.replies |= {
        "POST /api/show": shown(),
        "POST /api/generate": answer,
        "GET /api/ps": [waits, *[loads] * 50],
    }
    env = {"OLLAMA_HOST": server.address, "HOME": str(tmp_path)}
    with TerminalProgram(("run", "m", "hi"), env) as program:
        program.expect(r"waiting in the queue, position 3 [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")
        program.expect(r"loading m:latest 50% [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")
        go_on.set()
        program.expect(r"\x1b\[2K\x1b\[1GHello\r\n")
        assert program.wait() == 0
        assert "loading" not in program.output.rpartition("\x1b[2K")[2]


def test_a_server_that_tells_nothing_is_waited_for_in_silence(server: ScriptedServer, tmp_path: Path) -> None:
    go_on = threading.Event()
    answer = generated("Hello")
    answer.after = go_on
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": answer, "GET /api/ps": Reply(500)}
    env = {"OLLAMA_HOST": server.address, "HOME": str(tmp_path)}
    with TerminalProgram(("run", "m", "hi"), env) as program:
        assert server.asked(4), "it asked why"
        go_on.set()
        program.expect("Hello")
        assert program.wait() == 0


def test_off_a_terminal_nobody_asks(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("Hello")}
    assert ollama("run", "m", "hi").out == "Hello\n\n"
    assert "GET /api/ps" not in server.routes


def test_ps_tells_what_is_not_running_yet_beside_its_table(ollama: Ollama, server: ScriptedServer) -> None:
    body = {
        "models": [],
        "loading": [{"model": "m:latest", "progress": 0.426}, {"model": "x\x1b[2J", "progress": "half"}, 7],
        "queue": [{"position": 1, "model": "m:latest", "waiting_ms": 61_900}],
    }
    server.replies["GET /api/ps"] = Reply(json=body)
    ran = ollama("ps")
    assert ran.out == "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL \n"
    assert ran.err.splitlines() == [
        "loading m:latest: 43%",
        "loading x[2J: 0%",
        "waiting for m:latest: position 1 for 1m1s",
    ]
    assert ollama("ps", "m").err.splitlines() == ["loading m:latest: 43%", "waiting for m:latest: position 1 for 1m1s"]
