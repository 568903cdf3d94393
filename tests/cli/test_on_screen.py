"""The REPL and the progress display as somebody sees them, in a real terminal (cli §5, §6)."""

from __future__ import annotations

import json
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.screens import Screen, needs_tmux
from tests.cli.scripted_server import Reply, ScriptedServer, chatted, shown

pytestmark = [pytest.mark.tmux, needs_tmux]

LOADED = Reply(json={"model": "m", "response": "", "done": True, "done_reason": "load"})
READY = r">>> Send a message \(/\? for help\)[^\n]*\Z"
ANSWER = "# Plan\n\nTake **two** steps:\n\n- `one`\n- two\n\n```python\ndef f():\n    return 1\n```\n"


@pytest.fixture
def model(server: ScriptedServer) -> ScriptedServer:
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": LOADED, "POST /api/chat": chatted("Hello")}
    return server


def run(server: ScriptedServer, home: Path, *argv: str, env: dict[str, str] | None = None, **size: int) -> Screen:
    known = {"OLLAMA_HOST": server.address, "HOME": str(home)} | (env or {})
    return Screen(argv or ("run", "m"), known, **size)


@pytest.fixture
def repl(model: ScriptedServer, tmp_path: Path) -> Iterator[Screen]:
    with run(model, tmp_path) as screen:
        screen.wait_for(READY)
        yield screen


def said(server: ScriptedServer) -> list[str]:
    """What was asked."""
    return [body["messages"][-1]["content"] for body in server.bodies("POST /api/chat")]


def thinking(*lines: Any) -> Reply:
    """A thought, and an answer after what is waited for."""
    return Reply(
        lines=[
            {"message": {"thinking": "First this. "}, "done": False},
            *lines,
            {"message": {"thinking": "Then that."}, "done": False},
            {"message": {"content": "Yes"}, "done": False},
            {"message": {"content": ""}, "done": True},
        ]
    )


# --- answers -------------------------------------------------------------------------------------------------------


def test_markdown_is_rendered(repl: Screen, model: ScriptedServer) -> None:
    model.replies["POST /api/chat"] = chatted(*ANSWER)  # letter by letter
    repl.say("plan?")
    text = repl.wait_for(rf"return 1.*{READY}")
    assert text.split("plan?\n")[1].split(">>>")[0].strip().split("\n") == [
        "Plan",
        "",
        "Take two steps:",
        "",
        "• one",
        "• two",
        "",
        "── python",
        "def f():",
        "    return 1",
        "──",
    ]
    coloured = repl.text(colours=True)
    assert "\x1b[1mtwo\x1b[0m" in coloured
    assert "\x1b[94mdef" in coloured  # the language's words have their colours


@pytest.mark.parametrize(
    "how", ["--nowordwrap", "/set nomarkdown", pytest.param("/set nowordwrap", marks=pytest.mark.heavy)]
)
def test_markdown_can_be_left_as_it_is(model: ScriptedServer, tmp_path: Path, how: str) -> None:
    model.replies["POST /api/chat"] = chatted(ANSWER)
    flags = [how] if how.startswith("--") else []
    with run(model, tmp_path, "run", "m", *flags) as screen:
        screen.wait_for(READY)
        if not flags:
            screen.say(how)
        screen.say("plan?")
        assert ANSWER in screen.wait_for(rf"return 1.*{READY}")


def test_an_answer_survives_another_width(model: ScriptedServer, tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(120)]
    half, rest = " ".join(words[:60]), " " + " ".join(words[60:])
    goes_on = threading.Event()
    lines = [{"message": {"content": half}, "done": False}, goes_on, {"message": {"content": rest}, "done": False}]
    model.replies["POST /api/chat"] = Reply(lines=[*lines, {"message": {"content": ""}, "done": True}])
    with run(model, tmp_path) as screen:
        screen.wait_for(READY)
        screen.say("talk")
        screen.wait_for("word58")
        screen.resize(50, 20)
        goes_on.set()
        screen.wait_for(rf"word119.*{READY}")
        screen.resize(100, 20)
        text = screen.wait_for(READY)
    assert text.split("talk\n")[1].split(">>>")[0].split() == words


def test_what_is_typed_during_an_answer_comes_after_it(repl: Screen, model: ScriptedServer) -> None:
    goes_on = threading.Event()
    half = [{"message": {"content": "Half "}, "done": False}, goes_on, {"message": {"content": "done."}, "done": False}]
    model.replies["POST /api/chat"] = [Reply(lines=[*half, {"done": True}]), chatted("Hello")]
    repl.say("one")
    repl.wait_for("Half")
    repl.say("two")
    goes_on.set()
    text = repl.wait_for(rf"Hello.*{READY}")
    assert ">>> one\nHalf done.\n\n>>> two\nHello\n\n>>>" in text
    assert said(model) == ["one", "two"]


def test_a_tool_call_is_shown(repl: Screen, model: ScriptedServer) -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    model.replies["POST /api/chat"] = Reply(lines=[{"message": {"tool_calls": [call]}, "done": False}, {"done": True}])
    repl.say("call it")
    repl.wait_for(r"""  Model called a non-existent function 'f\(\)' with arguments: \{"a":1\}""")
    model.replies["POST /api/chat"] = chatted("Hello")
    repl.say("and?")
    repl.wait_for(rf"Hello.*{READY}")
    assert model.bodies("POST /api/chat")[1]["messages"][1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [call],
    }


def test_why_an_answer_takes_its_time(repl: Screen, model: ScriptedServer) -> None:
    """The place in the queue, then the load, then nothing of either."""
    goes_on = threading.Event()
    answer = chatted("Hello")
    answer.after = goes_on
    waits = {"models": [], "queue": [{"position": 3, "model": "m:latest", "waiting_ms": 1000}]}
    loads = [{"models": [], "loading": [{"model": "m:latest", "progress": 0.5}]}] * 50
    model.replies |= {"POST /api/chat": answer, "GET /api/ps": [Reply(json=told) for told in (waits, *loads)]}
    repl.say("hi")
    repl.wait_for("waiting in the queue, position 3 [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]$")
    repl.wait_for("loading m:latest 50% [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]$")
    goes_on.set()
    text = repl.wait_for(rf"Hello.*{READY}")
    assert ">>> hi\nHello\n\n>>> " in text


@pytest.mark.heavy
def test_a_picture_an_answer_stopped_and_another_model(model: ScriptedServer, tmp_path: Path) -> None:
    """A picture by its path, Ctrl+C in the middle of an answer, /save, /load, Ctrl+D."""
    (tmp_path / "my cat.png").write_bytes(b"\x89PNG\r\n\x1a\n rest")
    half = Reply(lines=[{"message": {"content": "A ca"}, "done": False}, threading.Event()])
    model.replies |= {
        "POST /api/show": shown(capabilities=["completion", "vision"]),
        "POST /api/chat": [half, chatted("Hello"), chatted("Hello")],
        "POST /api/create": Reply(lines=[{"status": "success"}]),
    }
    with run(model, tmp_path, columns=160) as screen:
        screen.wait_for(READY)
        screen.say(f"what is {tmp_path}/my\\ cat.png?")
        screen.wait_for(rf"Added image '{tmp_path}/my cat.png'\nA ca$")
        screen.press("C-c")
        screen.wait_for(rf"A ca\n\n{READY}")
        assert model.disconnected.wait(1)
        screen.say("and now?")
        screen.wait_for(rf"Hello.*{READY}")
        screen.say("/save mine")
        screen.wait_for(rf"Created new model 'mine'\n{READY}")
        screen.say("/load other")
        screen.wait_for(rf"Loading model 'other'\n{READY}")
        screen.say("who?")
        screen.wait_for(rf"who\?\nHello.*{READY}")
        screen.press("C-d")
        screen.wait_for("status=0")
    first, second = model.bodies("POST /api/chat")[:2]
    assert first["messages"][0]["images"]
    assert [message["role"] for message in second["messages"]] == ["user", "user"]  # no half of an answer
    assert model.body("POST /api/create")["from"] == "m"
    assert model.bodies("POST /api/chat")[2] == {"model": "other", "messages": [{"role": "user", "content": "who?"}]}


def test_a_line_for_the_shell(repl: Screen) -> None:
    """What is typed for it is shown, Ctrl+C is its own, and the editor has the terminal again after it (cli G-31)."""
    repl.say("/set shell")
    repl.say("!read -p 'name? ' name; echo hello $name")
    repl.wait_for(r"^name\?$")
    repl.say("ada")
    repl.wait_for(rf"name\? ada\nhello ada\n{READY}")
    repl.say("!sleep 60")
    repl.wait_for("!sleep 60$")
    time.sleep(0.3)  # nothing on the screen tells that it runs
    repl.press("C-c")
    repl.wait_for(rf"\(exit status 130\)\n{READY}")
    repl.type("still")
    repl.press("C-a")
    repl.type("I am ")
    repl.wait_for(">>> I am still$")


# --- thinking ------------------------------------------------------------------------------------------------------


def test_thinking_is_dim_and_can_be_folded(model: ScriptedServer, tmp_path: Path) -> None:
    goes_on = threading.Event()
    model.replies["POST /api/chat"] = thinking(goes_on)
    with run(model, tmp_path) as screen:
        screen.wait_for(READY)
        screen.say("why?")
        screen.wait_for("First this")
        assert "\x1b[38;5;245m" in screen.text(colours=True).partition("Thinking...")[0]
        screen.press("C-t")
        goes_on.set()
        text = screen.wait_for(rf"Yes.*{READY}")
        assert "First this.\nThought for 0 s (Ctrl+T shows what)\n\nYes\n\n>>>" in text
        screen.press("C-t")
        text = screen.wait_for(rf"First this. Then that.\n\n{READY}")


def test_folded_thinking_can_be_opened(model: ScriptedServer, tmp_path: Path) -> None:
    goes_on = threading.Event()
    model.replies["POST /api/chat"] = thinking(goes_on)
    with run(model, tmp_path) as screen:
        screen.wait_for(READY)
        screen.say("/set fold")
        screen.say("why?")
        screen.wait_for(r"why\?\nThinking\.\.\. 2 words \(Ctrl\+T shows them\)")
        screen.press("C-t")
        goes_on.set()
        text = screen.wait_for(rf"Yes.*{READY}")
        assert "why?\nThinking...\nFirst this. Then that.\n...done thinking.\n\nYes" in text
        goes_on.set()
        screen.say("/set nofold")
        screen.say("/show thinking")
        screen.wait_for(rf"/show thinking\nFirst this. Then that.\n\n{READY}")


# --- the line editor -----------------------------------------------------------------------------------------------


def test_tab_completes_commands_models_and_paths(model: ScriptedServer, tmp_path: Path) -> None:
    with run(model, tmp_path, columns=160) as repl:
        repl.wait_for(READY)
        complete_everything(repl, model, tmp_path)


def complete_everything(repl: Screen, model: ScriptedServer, tmp_path: Path) -> None:
    names = ["llama3.2:1b", "llama3.2:3b", "phi:latest"]
    model.replies["GET /api/tags"] = Reply(json={"models": [{"name": name} for name in names]})
    (tmp_path / "my cat.png").touch()
    (tmp_path / "my cat.txt").touch()
    repl.type("/set fo")
    repl.press("Tab")
    repl.wait_for(r"fold .*Fold what the model thinks")
    repl.type("ld")
    repl.press("Enter")
    repl.wait_for("Set 'fold' mode")
    repl.type("/load p")
    repl.press("Tab")
    repl.wait_for("^>>> /load phi:latest$")
    repl.press("C-u")
    repl.type("/load l")
    repl.press("Tab")
    repl.wait_for(r"^>>> /load llama3\.2:\n +llama3.2:1b\n +llama3.2:3b")
    repl.press("C-u")
    repl.type(f"what is @{tmp_path}/my")
    repl.press("Tab")
    repl.wait_for(rf"what is @{tmp_path}/my\\ cat.png$")
    repl.press("C-u")
    repl.type("plain")
    repl.press("Tab")
    repl.type("x")
    repl.wait_for("^>>> plain        x$")


def editor(folder: Path, script: str) -> str:
    program = folder / "editor"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{program} --wait"


def test_an_editor_writes_the_message(model: ScriptedServer, tmp_path: Path) -> None:
    """L-94"""
    seen = tmp_path / "seen"
    chosen = editor(tmp_path, f'echo "$1 $2" > {seen}; cat "$2" >> {seen}; printf "two\\nlines\\n\\n" > "$2"')
    with run(model, tmp_path, env={"EDITOR": chosen, "TMPDIR": str(tmp_path)}) as screen:
        screen.wait_for(READY)
        screen.type("draft")
        screen.press("C-g")
        screen.wait_for(r">>> two\n\.\.\. lines$")
        assert said(model) == []
        argument, _, text = seen.read_text().partition("\n")
        assert argument.startswith(f"--wait {tmp_path}/ollama-prompt-")
        assert argument.endswith(".txt")
        assert text == "draft"
        screen.press("Enter")
        screen.wait_for("Hello")
    assert said(model) == ["two\nlines"]
    assert not list(tmp_path.glob("ollama-prompt-*"))


@pytest.mark.heavy
def test_an_editor_that_is_not_there_is_named(model: ScriptedServer, tmp_path: Path) -> None:
    with run(model, tmp_path, env={"OLLAMA_EDITOR": "no-such-editor", "EDITOR": "true"}) as screen:
        screen.wait_for(READY)
        screen.type("draft")
        screen.press("C-g")
        hint = "set OLLAMA_EDITOR to the path of your preferred editor"
        screen.wait_for(rf'error: editor "no-such-editor" not found, {hint}\n>>> draft')


@pytest.mark.heavy
def test_an_empty_file_leaves_an_empty_line(model: ScriptedServer, tmp_path: Path) -> None:
    with run(model, tmp_path, env={"VISUAL": editor(tmp_path, 'echo "  " > "$2"')}) as screen:
        screen.wait_for(READY)
        screen.type("draft")
        screen.press("C-g")
        screen.wait_for(READY)
    assert said(model) == []


def test_ctrl_l_clears_the_screen_and_keeps_the_line(repl: Screen) -> None:
    repl.say("one")
    repl.wait_for(rf"Hello.*{READY}")
    repl.type("half a line")
    repl.wait_for("half a line")
    repl.press("C-l")
    repl.wait_for_top(">>> half a line")


@pytest.mark.heavy
def test_ctrl_r_searches_the_history(repl: Screen, model: ScriptedServer) -> None:
    repl.say("the first question")
    repl.wait_for(rf"Hello.*{READY}")
    repl.say("another one")
    repl.wait_for(rf"Hello.*Hello.*{READY}")
    repl.press("C-r")
    repl.type("first")
    repl.wait_for(r"^>>> the first question\n+I-search backward: first")
    repl.press("Enter")
    repl.press("Enter")
    repl.wait_for(rf"Hello.*Hello.*Hello.*{READY}")
    assert said(model)[-1] == "the first question"


@pytest.mark.heavy
def test_a_long_line_is_only_broken_by_the_screen(repl: Screen, model: ScriptedServer) -> None:
    repl.type("x" * 100)
    repl.wait_for(r"x\n?x*\Z")
    assert repl.rows()[:2] == [f">>> {'x' * 76}", "x" * 24]


def test_a_paste_is_one_message(repl: Screen, model: ScriptedServer, tmp_path: Path) -> None:
    """L-79"""
    repl.paste("first\n/bye\n\tthird\n", tmp_path)
    repl.wait_for(r">>> first\n\.\.\. /bye\n\.\.\. +third\n\.\.\. Press Enter to send")
    assert said(model) == []
    repl.press("Enter")
    repl.wait_for("Hello")
    assert said(model) == ["first\n/bye\n\tthird\n"]


@pytest.mark.heavy
def test_shift_enter_and_alt_enter_begin_a_line(repl: Screen, model: ScriptedServer) -> None:
    repl.type("a\x1b[13;2ub\x1b[27;2;13~c\x1b\rd")
    repl.wait_for(r">>> a\n\.\.\. b\n\.\.\. c\n\.\.\. d$")
    repl.press("Enter")
    repl.wait_for("Hello")
    assert said(model) == ["a\nb\nc\nd"]


@pytest.mark.heavy
def test_lines_can_be_edited_as_vi_does(repl: Screen, model: ScriptedServer) -> None:
    repl.say("/set vi")
    repl.wait_for(rf"Set 'vi' mode.\n{READY}")
    repl.type("one two")
    repl.press("Escape")
    repl.wait_for("one two$")
    repl.type("bD")
    repl.wait_for("one$")
    repl.press("Enter")
    repl.wait_for("Hello")
    assert said(model) == ["one "]


def test_a_message_that_failed_can_be_changed_and_sent_again(repl: Screen, model: ScriptedServer) -> None:
    model.replies["POST /api/chat"] = [Reply(500, json={"error": "out of luck"}), chatted("Hello")]
    repl.say("please")
    repl.wait_for(r"Error: 500 Internal Server Error: out of luck\n>>> please\Z")
    repl.type("!")
    repl.press("Enter")
    repl.wait_for(rf"Hello.*{READY}")
    assert said(model) == ["please", "please!"]


# --- the gauge -----------------------------------------------------------------------------------------------------


def test_how_full_the_context_is(model: ScriptedServer, tmp_path: Path) -> None:
    model.replies["GET /api/ps"] = Reply(json={"models": [{"name": "m:latest", "context_length": 4096}]})
    used = [(1000, 24), (3800, 200), (3900, 100)]
    model.replies["POST /api/chat"] = [
        chatted("Hello", prompt_eval_count=prompt, eval_count=answer) for prompt, answer in used
    ]
    warning = "Warning: 3.9K of 4K tokens used, soon the oldest messages are left out"
    with run(model, tmp_path) as screen:
        screen.wait_for(READY)
        screen.say("one")
        screen.wait_for(r"help\) +1K/4K\Z")
        screen.say("/usage")
        assert warning not in screen.wait_for(r"1K of 4K tokens of the context are used \(25%\)")
        screen.say("two")
        screen.wait_for(r"help\) +3.9K/4K\Z")
        screen.say("three")
        text = screen.wait_for(rf"three\nHello.*{READY}")
        assert text.count(warning) == 1
        screen.resize(60, 20)
        screen.wait_for(r"help\) +3.9K/4K\Z")
        screen.resize(40, 20)
        screen.wait_for(r"help\)\Z")
        screen.say("/clear")
        text = screen.wait_for(r"Cleared session context\n>>> Send a message \(/\? for help\)\Z")
        assert text.count("K/4K") == 0  # nothing of it stays behind where it was


# --- conversations are kept ----------------------------------------------------------------------------------------


def test_a_conversation_goes_on_another_day(model: ScriptedServer, tmp_path: Path) -> None:
    with run(model, tmp_path) as first:
        first.wait_for(READY)
        first.say("/set system Be kind.")
        first.say("/set parameter seed 7")
        first.say("remember me")
        first.wait_for(rf"Hello.*{READY}")
        first.say("/bye")
        first.wait_for("status=0")
    folder = tmp_path / ".ollama" / "llamero" / "sessions"
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with run(model, tmp_path, "run", "m", "--resume") as second:
        text = second.wait_for(READY)
        assert text.startswith(">>> remember me\nHello\n\n>>>")
        second.say("who am I?")
        second.wait_for(rf"who am I\?\nHello.*{READY}")
        second.say("/sessions")
        second.wait_for(r"^NUMBER +MODEL +QUESTIONS +LAST +FIRST\n1 +m +2 +.*ago +remember me")
    body = model.bodies("POST /api/chat")[-1]
    assert [message["content"] for message in body["messages"]] == ["Be kind.", "remember me", "Hello", "who am I?"]
    assert body["options"] == {"seed": 7}


@pytest.mark.heavy
def test_nothing_is_kept_of_those_who_want_no_history(model: ScriptedServer, tmp_path: Path) -> None:
    with run(model, tmp_path, env={"OLLAMA_NOHISTORY": "1"}) as screen:
        screen.wait_for(READY)
        screen.say("secret")
        screen.wait_for(rf"Hello.*{READY}")
        screen.say("/resume")
        screen.wait_for("None is kept yet.")
    assert not (tmp_path / ".ollama" / "llamero" / "sessions").exists()


def test_a_conversation_is_written_to_a_file(model: ScriptedServer, tmp_path: Path) -> None:
    transcript = tmp_path / "log.md"
    with run(model, tmp_path, "run", "m", "--transcript", str(transcript)) as screen:
        screen.wait_for(READY)
        screen.say("hi")
        screen.wait_for(rf"Hello.*{READY}")
        screen.say(f"/export {tmp_path}/all.json")
        screen.wait_for("Wrote 2 messages to")
    assert transcript.read_text() == "## You\n\nhi\n\n## m\n\nHello\n\n"
    assert json.loads((tmp_path / "all.json").read_text())["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_a_first_prompt_may_be_gone_on_from(model: ScriptedServer, tmp_path: Path) -> None:
    with run(model, tmp_path, "run", "-i", "m", "hi", "there") as screen:
        text = screen.wait_for(READY)
        assert text.startswith(">>> hi there\nHello\n\n>>>")
    assert said(model) == ["hi there"]


# --- progress ------------------------------------------------------------------------------------------------------


def test_bars_survive_another_width(server: ScriptedServer, tmp_path: Path) -> None:
    goes_on = threading.Event()
    layers = [f"sha256:{number}f659a1e86d7ffff" for number in range(3)]
    begun = [{"status": "pulling", "digest": digest, "total": 10**9, "completed": 10**8} for digest in layers]
    ended = [entry | {"completed": 10**9} for entry in begun]
    server.replies["POST /api/pull"] = Reply(
        lines=[{"status": "pulling manifest"}, *begun, goes_on, *ended, {"status": "success"}]
    )
    with run(server, tmp_path, "pull", "m", columns=100) as screen:
        screen.wait_for(r"pulling 2f659a1e86d7:  10%")
        screen.resize(60, 24)
        screen.wait_for(r"pulling 2f659a1e86d7:  10% ▕▏")
        screen.resize(90, 24)
        goes_on.set()
        text = screen.wait_for("status=0")
    # tmux itself may have moved broken lines into its history, where nobody can mend them
    assert [line.partition(" ▕")[0] for line in text.split("\n")[-6:]] == [
        "pulling manifest",
        *(f"pulling {number}f659a1e86d7: 100%" for number in range(3)),
        "success",
        "status=0",
    ]
