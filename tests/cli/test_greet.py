"""`hi`: every model greets; on a terminal one of them goes on (cli §13)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Ollama, command
from tests.cli.scripted_server import Reply, ScriptedServer, chatted, shown
from tests.cli.small_ollama import EMBEDDER, TALKER, stock, unloads
from tests.cli.terminals import TerminalProgram


@pytest.fixture(autouse=True)
def _folder_without_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_model_greets(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, EMBEDDER, TALKER)
    done = ollama("hi", "--auto")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(
        f"http://{server.address}: 2 models\n\n"
        "vectors:latest\n(turns texts into vectors, and does not talk)\n\n"
        "talker:1b\nHello, 10\n("
    )
    assert done.out.endswith(" s, 20 tokens, 40 tokens/s)\n\n")
    assert [body["model"] for body in server.bodies("POST /api/chat")] == [TALKER]
    assert unloads(server) == [TALKER]


def test_off_a_terminal_it_only_greets(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    assert ollama("hi").status == 0


def test_only_the_named_ones(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, EMBEDDER, TALKER)
    assert "talker" not in ollama("hi", "vectors").out
    assert ollama("hi", "other").err == (
        f"Error: http://{server.address} has no model other; it has vectors:latest, talker:1b\n"
    )


def test_what_was_loaded_before_stays_loaded(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    server.replies["GET /api/ps"] = Reply(json={"models": [{"name": TALKER}]})
    assert ollama("hi").status == 0
    assert unloads(server) == []


def test_a_refused_unloading_is_told_once_and_not_fatal(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, "a:1", "b:2")
    server.replies["POST /api/generate"] = Reply(403, json={"error": "forbidden"})
    done = ollama("hi")
    assert done.status == 0
    assert done.err == "Warning: a:1 stays loaded until the server lets go of it: 403 Forbidden: forbidden\n"
    assert done.out.count("Hello, 10") == 2


def test_a_model_that_fails_does_not_stop_the_next(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, "a:1", "b:2", "c:3")
    server.replies["POST /api/chat"] = [
        Reply(500, json={"error": "out of memory"}),
        chatted("", eval_count=0),
        chatted("Hello"),
    ]
    done = ollama("hi")
    assert done.status == 1
    assert done.err.splitlines() == [
        "Error: 500 Internal Server Error: out of memory",
        "Error: b:2 answered without a word",
        "Error: no greeting from a:1, b:2",
    ]
    assert "c:3\nHello\n" in done.out


def test_a_slow_model_is_given_up(ollama: Ollama, server: ScriptedServer) -> None:
    """The limit is one for the whole answer: a word now and then does not prolong it. The flag wins."""
    stock(server, TALKER)
    never, word = threading.Event(), {"message": {"content": "a "}, "done": False}
    server.replies["POST /api/chat"] = Reply(lines=[word, never, word])
    done = ollama("hi", "--timeout", "1", env={"GREETING_TIMEOUT_SECONDS": "50"})
    never.set()
    assert done.status == 1
    assert done.err.startswith("Error: timed out: no whole greeting within 1 s; see GREETING_TIMEOUT_SECONDS\n")


def test_a_server_that_goes_away_ends_it(server: ScriptedServer, tmp_path: Path) -> None:
    with ScriptedServer() as leaving:
        stock(leaving, TALKER)
        address = leaving.address
    done = command(address, tmp_path)("hi")
    assert done.status == 1
    assert done.err == (
        f"Error: refused: nothing listens at http://{address}; start the server ('ollama serve') or set OLLAMA_HOST\n"
    )


def test_models_that_could_think_greet_at_once(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    server.replies["POST /api/show"] = shown(capabilities=["completion", "thinking"])
    ollama("hi")
    assert server.body("POST /api/chat")["think"] is False


def test_the_file_in_the_working_directory_is_read(server: ScriptedServer, tmp_path: Path) -> None:
    stock(server, TALKER)
    (tmp_path / ".env").write_text(f"OLLAMA_BASE_URL=http://ada:s3cr3t@{server.address}\n")
    done = command("192.0.2.1:9", tmp_path)("hi")
    assert done.out.startswith(f"http://{server.address}: 1 model\n")
    assert server.requests[0].headers["Authorization"] == "Basic YWRhOnMzY3IzdA=="
    assert "s3cr3t" not in done.out + done.err


def test_nothing_but_text_off_a_terminal(ollama: Ollama, server: ScriptedServer) -> None:
    stock(server, TALKER)
    done = ollama("hi")
    assert "\x1b" not in done.out + done.err


def test_on_a_terminal_one_of_them_goes_on(server: ScriptedServer, tmp_path: Path) -> None:
    stock(server, "a:1", "b:2")
    server.replies["POST /api/show"] = shown(capabilities=["completion"])
    env = {"OLLAMA_BASE_URL": f"http://{server.address}", "HOME": str(tmp_path)}
    with TerminalProgram(["hi"], env) as program:
        program.expect(r"b:2\r\n.*Hello, 10")
        program.expect(r"Which one shall go on \[a:1\]: ")
        program.type("2\n")
        program.expect(r">>> ")
        program.type("How are you?\r")
        program.expect("Hello, 10")
        program.type("/bye\r")
        assert program.wait() == 0
    assert [body["model"] for body in server.bodies("POST /api/chat")] == ["a:1", "b:2", "b:2"]
