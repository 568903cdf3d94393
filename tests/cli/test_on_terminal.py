"""The program on a pseudo-terminal: line editing, wrapping, colours, bars (cli §3.4, §5, §6)."""

from __future__ import annotations

import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.scripted_server import Reply, ScriptedServer, chatted, generated, shown
from tests.cli.terminals import TerminalProgram

LOADED = Reply(json={"model": "m", "response": "", "done": True, "done_reason": "load"})
PLACEHOLDER = r"Send a message \(/\? for help\)"


@pytest.fixture
def model(server: ScriptedServer) -> ScriptedServer:
    server.replies |= {
        "POST /api/show": shown(),
        "POST /api/generate": LOADED,
        "POST /api/chat": chatted("Hello"),
    }
    return server


@pytest.fixture
def repl(model: ScriptedServer, tmp_path: Path) -> Iterator[TerminalProgram]:
    """`ollama run m` at its first prompt."""
    with start(model, tmp_path) as program:
        yield program


def start(server: ScriptedServer, home: Path, *argv: str, **how: int) -> TerminalProgram:
    env = {"OLLAMA_HOST": server.address, "HOME": str(home)}
    return TerminalProgram(argv or ("run", "m"), env, **how)


@pytest.fixture(scope="module")
def keyboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TerminalProgram, ScriptedServer]]:
    """One REPL for all keys, at its prompt and with something in its history."""
    with ScriptedServer() as server:
        server.replies |= {"POST /api/show": shown(), "POST /api/generate": LOADED, "POST /api/chat": chatted("Hello")}
        with start(server, tmp_path_factory.mktemp("home")) as program:
            program.expect(PLACEHOLDER)
            program.type("/set quiet\r")
            program.expect(PLACEHOLDER)
            yield program, server


def last_messages(server: ScriptedServer) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = server.bodies("POST /api/chat")[-1]["messages"]
    return messages


# --- the prompt ----------------------------------------------------------------------------------------------------


def test_the_prompt_and_its_placeholder(repl: TerminalProgram) -> None:
    """L-77, L-81"""
    text = repl.expect(PLACEHOLDER)
    assert "\x1b[?2004h" in text
    assert re.search(r">>> \x1b\[[0-9;]*38;5;245m" + PLACEHOLDER, text)
    repl.type("x")
    assert "Send" not in repl.expect("x")
    repl.type("yz\x1b[D\x1b[D\x04")  # two to the left, Ctrl+D: deletes the y
    repl.type("\r")
    repl.expect("Hello")
    repl.expect(PLACEHOLDER)
    repl.type("\x04")
    assert repl.wait() == 0
    assert repl.output.rstrip().endswith("\x1b[?2004l")


def test_ctrl_d_with_text_deletes_a_character(repl: TerminalProgram, model: ScriptedServer) -> None:
    """L-81"""
    repl.expect(PLACEHOLDER)
    repl.type("abc\x1b[D\x1b[D\x04\r")
    repl.expect("Hello")
    assert last_messages(model)[-1]["content"] == "ac"
    repl.expect(PLACEHOLDER)
    repl.type("/bye\r")
    assert repl.wait() == 0


def test_messages_of_several_lines(repl: TerminalProgram, model: ScriptedServer) -> None:
    """L-78"""
    repl.expect(PLACEHOLDER)
    repl.type('"""a\r')
    repl.expect(r"\.\.\. .*Press Enter to send")
    repl.type('b"""\r')
    repl.expect("Hello")
    assert last_messages(model)[-1]["content"] == "a\nb"
    repl.expect(PLACEHOLDER)
    repl.type("one")
    repl.expect("one")
    repl.type("\n")  # Ctrl+J
    repl.expect(r"\.\.\. ")
    repl.type("two\r")
    repl.expect("Hello")
    assert last_messages(model)[-1]["content"] == "one\ntwo"


def test_a_program_may_type(repl: TerminalProgram, model: ScriptedServer) -> None:
    """Whole lines, ended with a line feed; and it waits for the next prompt, which the line that it sent is not."""
    repl.expect(">>> ")
    for line in ("one", "two"):
        repl.type(f"{line}\n")
        assert "Hello" in repl.expect(">>> ")
    assert [body["messages"][-1]["content"] for body in model.bodies("POST /api/chat")] == ["one", "two"]


def test_lines_that_are_typed_before_the_prompt(model: ScriptedServer, tmp_path: Path) -> None:
    """The terminal itself ends them: it makes a line feed of Enter."""
    is_ready = threading.Event()
    model.replies["POST /api/show"] = Reply(json=shown().json, after=is_ready)
    with start(model, tmp_path) as repl:
        assert model.asked(2)
        repl.type("one\rtwo\r/bye\r")
        repl.expect("/bye")
        is_ready.set()
        assert repl.wait() == 0
    assert [body["messages"][-1]["content"] for body in model.bodies("POST /api/chat")] == ["one", "two"]


def test_pasted_lines_are_one_message(repl: TerminalProgram, model: ScriptedServer) -> None:
    """L-79"""
    repl.expect(PLACEHOLDER)
    repl.type("\x1b[200~first\r/bye\rthird\x1b[201~")
    repl.expect("third")
    assert model.bodies("POST /api/chat") == []
    repl.type("\r")
    repl.expect("Hello")
    assert last_messages(model) == [{"role": "user", "content": "first\n/bye\nthird"}]


def test_ctrl_c_drops_the_line(repl: TerminalProgram, model: ScriptedServer) -> None:
    """L-80"""
    repl.expect(PLACEHOLDER)
    repl.type('"""unfinished\r')
    repl.expect(r"\.\.\. ")
    repl.type("\x03")
    given_up = repl.expect(r"Use Ctrl \+ d or /bye to exit\.\r\n").rpartition("unfinished")[2]
    assert "Press Enter" not in given_up
    repl.expect(PLACEHOLDER)
    repl.type("hi\r")
    repl.expect("Hello")
    assert last_messages(model) == [{"role": "user", "content": "hi"}]


def test_ctrl_c_during_an_answer_returns_to_the_prompt(repl: TerminalProgram, model: ScriptedServer) -> None:
    """L-82"""
    half = Reply(lines=[{"message": {"content": "Half an"}, "done": False}, threading.Event()])
    model.replies["POST /api/chat"] = [half, chatted("Hello")]
    repl.expect(PLACEHOLDER)
    repl.type("first\r")
    repl.expect("Half an")
    repl.type("\x03")
    assert model.disconnected.wait(1)
    assert repl.expect(">>> ").count("\n") >= 1
    repl.type("second\r")
    repl.expect("Hello")
    assert last_messages(model) == [{"role": "user", "content": "first"}, {"role": "user", "content": "second"}]


@pytest.mark.parametrize("place", ["content", "thinking"])
def test_what_breaks_an_answer_off_has_its_own_line(repl: TerminalProgram, model: ScriptedServer, place: str) -> None:
    half = {"message": {"content": "", place: "Half a"}, "done": False}
    model.replies["POST /api/chat"] = Reply(lines=[half, {"error": "gone"}])
    repl.expect(PLACEHOLDER)
    repl.type("first\r")
    repl.expect(r"Half a(\x1b\[0m)?\r\nError: gone\r\n")


def test_after_a_shell_keys_are_not_mixed_into_the_answer(repl: TerminalProgram, model: ScriptedServer) -> None:
    half = Reply(lines=[{"message": {"content": "Half an"}, "done": False}, threading.Event()])
    model.replies["POST /api/chat"] = [half, chatted("Hello")]
    repl.expect(PLACEHOLDER)
    repl.type("first\r")
    repl.expect("Half an")
    repl.go_on_after_a_shell()
    repl.type("typed meanwhile")
    repl.type("\x03")
    assert "typed" not in repl.expect(PLACEHOLDER)


def test_what_is_typed_before_ctrl_z_is_not_for_the_shell(repl: TerminalProgram, model: ScriptedServer) -> None:
    goes_on = threading.Event()
    half = {"message": {"content": "Half"}, "done": False}
    model.replies["POST /api/chat"] = Reply(lines=[half, goes_on, {"done": True}])
    repl.expect(PLACEHOLDER)
    repl.type("first\r")
    repl.expect("Half")
    repl.type("typed\x1a")  # nothing stops it here, without a shell that would let it go on
    goes_on.set()
    assert "typed" not in repl.expect(PLACEHOLDER)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param("world\x01hello \x05!", "hello world!", id="Ctrl+A, Ctrl+E"),
        pytest.param("world\x1b[Hhello \x1b[F!", "hello world!", id="Home, End"),
        pytest.param("world\x1b[1~hello \x1b[4~!", "hello world!", id="Home, End of tmux"),
        pytest.param("one two\x1bb\x0b!", "one !", id="Alt+B, Ctrl+K"),
        pytest.param("one two\x1bb\x15", "two", id="Ctrl+U"),
        pytest.param("one two\x17three", "one three", id="Ctrl+W"),
        pytest.param("one two\x01\x1bfX", "oneX two", id="Alt+F"),
        pytest.param("one two\x1b[1;5DX\x1b[1;5CY", "one XtwoY", id="Ctrl+arrows"),
        pytest.param("draft\x1b[A\x1b[B!", "draft!", id="Up, Down"),
        pytest.param("a\tb", "a        b", id="Tab"),
    ],
)
def test_keys(keyboard: tuple[TerminalProgram, ScriptedServer], keys: str, message: str) -> None:
    """L-93"""
    repl, model = keyboard
    repl.type(f"{keys}\r")
    repl.expect(f"Hello.*{PLACEHOLDER}")
    assert last_messages(model)[-1]["content"] == message


def test_history_outlives_the_program(model: ScriptedServer, tmp_path: Path) -> None:
    """L-92"""
    path = tmp_path / ".ollama" / "history"
    path.parent.mkdir()
    path.write_text("".join(f"old {number}\n" for number in range(100)))
    with start(model, tmp_path) as first:
        first.expect(PLACEHOLDER)
        first.type('"""a\rb"""\r')
        first.expect("Hello")
        first.expect(PLACEHOLDER)
        first.type("/bye\r")
        first.wait()
    lines = path.read_text().split("\n")
    assert (len(lines), lines[0], lines[-3:]) == (101, "old 2", ['"""a\u2028b"""', "/bye", ""])
    with start(model, tmp_path) as second:
        second.expect(PLACEHOLDER)
        second.type("\x1b[A\x1b[A\r")
        second.expect("Hello")
    assert last_messages(model) == [{"role": "user", "content": "a\nb"}]
    before = path.read_text()
    env = {"OLLAMA_HOST": model.address, "HOME": str(tmp_path), "OLLAMA_NOHISTORY": "1"}
    with TerminalProgram(["run", "m"], env) as third:
        third.expect(PLACEHOLDER)
        third.type("unseen\r")
        third.expect("Hello")
    assert path.read_text() == before


def test_the_history_file_is_private(repl: TerminalProgram, tmp_path: Path) -> None:
    repl.expect(PLACEHOLDER)
    assert stat.S_IMODE((tmp_path / ".ollama" / "history").stat().st_mode) == 0o600


def test_a_stored_conversation_is_shown_first(model: ScriptedServer, tmp_path: Path) -> None:
    stored = [
        {"role": "system", "content": "hidden"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo"},
    ]
    model.replies["POST /api/show"] = shown(messages=stored)
    with start(model, tmp_path) as program:
        text = program.expect(PLACEHOLDER)
    assert ">>> hi\r\nyo\r\n\r\n" in text
    assert "hidden" not in text


# --- what an answer looks like -------------------------------------------------------------------------------------


def test_answers_are_wrapped_and_long_words_are_not_broken(server: ScriptedServer, tmp_path: Path) -> None:
    """L-95"""
    word = "".join(chr(ord("a") + i % 26) for i in range(200))
    prose = "The quick brown fox jumps over the lazy dog. " * 3
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated(prose, word, " end")}
    with start(server, tmp_path, "run", "m", "hi", columns=40) as program:
        assert program.wait() == 0
    assert program.output.count(word) == 1
    answer = program.output.rpartition("\x1b[1G")[2]
    shown_lines = [
        re.sub(r"^.*\x1b\[K", "", line) for line in re.sub(r"\S*\x1b\[\d+D\x1b\[K", "", answer).split("\r\n")
    ]
    assert all(len(line.rstrip()) <= 35 for line in shown_lines if word not in line)
    assert " ".join(" ".join(shown_lines).split()) == f"{prose}{word} end"


def test_nowordwrap(server: ScriptedServer, tmp_path: Path) -> None:
    text = "word " * 30
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated(text)}
    with start(server, tmp_path, "run", "m", "hi", "--nowordwrap", columns=40) as program:
        assert program.wait() == 0
    assert text in program.output


def test_thinking_is_grey(server: ScriptedServer, tmp_path: Path) -> None:
    lines = [{"thinking": "hm"}, {"response": "Yes\x1b[2J"}, {"response": "", "done": True}]
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": Reply(lines=lines)}
    with start(server, tmp_path, "run", "m", "hi") as program:
        assert program.wait() == 0
    assert program.output.rpartition("\x1b[1G")[2] == (
        "\x1b[38;5;245m\x1b[1mThinking...\r\n\x1b[0m\x1b[38;5;245mhm\r\n"
        "\x1b[38;5;245m\x1b[1m...done thinking.\r\n\r\n\x1b[0mYes[2J\r\n\r\n"
    )


def test_an_answer_that_ends_in_its_thinking_leaves_no_colour(server: ScriptedServer, tmp_path: Path) -> None:
    server.replies |= {
        "POST /api/show": shown(),
        "POST /api/generate": Reply(lines=[{"thinking": "hm"}, {"error": "x"}]),
    }
    with start(server, tmp_path, "run", "m", "hi") as program:
        assert program.wait() == 1
    assert program.output.endswith("\x1b[38;5;245mhm\x1b[0m\r\nError: x\r\n")


def test_a_tool_call_is_grey_but_for_its_words(server: ScriptedServer, tmp_path: Path) -> None:
    call = {"function": {"name": "f\x1b[2J", "arguments": {"a": 1}}}
    server.replies |= {
        "POST /api/show": shown(),
        "POST /api/generate": Reply(lines=[{"tool_calls": [call]}, {"done": True}]),
    }
    with start(server, tmp_path, "run", "m", "hi") as program:
        assert program.wait() == 0
    assert program.output.rpartition("\x1b[1G")[2] == (
        "  \x1b[38;5;245m\x1b[1mModel called a non-existent function \x1b[0m'f[2J()'"
        '\x1b[38;5;245m\x1b[1m with arguments: \x1b[0m{"a":1}\r\n\r\n'
    )


def test_a_models_text_does_not_command_the_terminal(server: ScriptedServer, tmp_path: Path) -> None:
    server.replies["POST /api/show"] = shown(license="L\x1b[2J")
    with start(server, tmp_path, "show", "m", "--license") as program:
        assert program.wait() == 0
    assert program.output == "L[2J\r\n"


def test_a_pull_draws_bars(server: ScriptedServer, tmp_path: Path) -> None:
    """L-63"""
    bar = {"status": "pulling 4f659a1e86d7", "digest": "sha256:4f659a1e86d7ab", "total": 1000, "completed": 500}
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "pulling manifest"}, bar, {"status": "success"}])
    with start(server, tmp_path, "pull", "m") as program:
        assert program.wait() == 0
    lines = re.findall(r"(pulling 4f659a1e86d7: .*?)\x1b\[K", program.output)
    assert lines
    assert all(len(line) == 79 for line in lines)


@pytest.mark.parametrize("variable", ["CI", "NO_COLOR"])
def test_a_terminal_may_be_asked_to_be_plain(server: ScriptedServer, tmp_path: Path, variable: str) -> None:
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("word " * 30)}
    env = {"OLLAMA_HOST": server.address, "HOME": str(tmp_path), variable: "1"}
    with TerminalProgram(["run", "m", "hi"], env) as program:
        assert program.wait() == 0
    assert "\x1b" not in program.output


def test_bare_ollama_on_a_terminal_prints_help(server: ScriptedServer, tmp_path: Path) -> None:
    with TerminalProgram(["--nowordwrap"], {"HOME": str(tmp_path)}) as program:
        assert program.wait() == 0
    assert "Available Commands:" in program.output
