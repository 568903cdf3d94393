"""The REPL without its line editor: messages, slash commands, turns that fail (cli §6)."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamero.cli.app import App, client_settings
from llamero.cli.history import History
from llamero.cli.manual import commands
from llamero.cli.repl import converse
from llamero.cli.run import RunFlags
from llamero.cli.session import Session
from llamero.cli.terminal import Terminal
from llamero.client import Ask
from tests.cli.conftest import Outcome
from tests.cli.scripted_server import Reply, ScriptedServer, chatted, shown

PNG = b"\x89PNG\r\n\x1a\n rest"
Typed = str | type[BaseException]
Talk = Callable[..., Outcome]


class Typing:
    """Somebody who types these lines, and then Ctrl+D."""

    def __init__(self, lines: tuple[Typed, ...]) -> None:
        self._lines: Iterator[Typed] = iter(lines)
        self.drafts: list[str] = []
        """What stood on each line before anything was typed."""

    def read(self, draft: str = "") -> str:
        self.drafts.append(draft)
        line = next(self._lines, EOFError)
        if isinstance(line, str):
            return line
        raise line


@pytest.fixture
def talk(server: ScriptedServer, tmp_path: Path) -> Talk:
    """`talk("hi", "/bye")` with a plain model `m` that answers `Hello`; what stdout and stderr got."""
    server.replies.setdefault("POST /api/chat", chatted("Hello"))
    server.replies.setdefault("POST /api/show", shown())

    def run(*lines: Typed, flags: RunFlags | None = None) -> Outcome:
        env = {"OLLAMA_HOST": server.address, "LLAMERO_HOME": str(tmp_path)}
        terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
        app = App(env, client_settings(env), terminal)
        flags = flags or RunFlags()
        session = Session(app, app.client, app.client.show("m"), Ask(model="m"), flags)
        converse(session, Typing(lines), History(tmp_path / "history", is_saved=True, warn=pytest.fail))
        return Outcome(0, terminal.stdout.getvalue(), terminal.stderr.getvalue())  # type: ignore[attr-defined]

    return run


def turns(server: ScriptedServer) -> list[Any]:
    return server.bodies("POST /api/chat")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


ANSWER = {"role": "assistant", "content": "Hello"}

# --- turns ---------------------------------------------------------------------------------------------------------


def test_a_turn_and_the_next(talk: Talk, server: ScriptedServer) -> None:
    assert talk("hi", "and?") == Outcome(0, "Hello\n\nHello\n\n", "")
    assert turns(server) == [
        {"model": "m", "messages": [user("hi")]},
        {"model": "m", "messages": [user("hi"), ANSWER, user("and?")]},
    ]


def test_the_quotes_of_a_message_are_not_sent(talk: Talk, server: ScriptedServer) -> None:
    """partly L-78: the prompt needs a terminal"""
    talk('"""a\nb"""', '""""""', "  ")
    assert [turn["messages"] for turn in turns(server)] == [[user("a\nb")]]


def test_a_failed_turn_is_reported_and_forgotten(talk: Talk, server: ScriptedServer) -> None:
    """L-96"""
    server.replies["POST /api/chat"] = [Reply(500, json={"error": "out of luck"}), chatted("Hello")]
    assert talk("first", "second") == Outcome(0, "Hello\n\n", "Error: 500 Internal Server Error: out of luck\n")
    assert turns(server)[1]["messages"] == [user("second")]


def test_a_model_that_can_think_is_asked_to(talk: Talk, server: ScriptedServer) -> None:
    server.replies["POST /api/show"] = shown(capabilities=["completion", "thinking"])
    thought = [{"message": {"thinking": "Hm."}}, {"message": {"content": "Hello"}}, {"done": True}]
    server.replies["POST /api/chat"] = [Reply(lines=thought), chatted("Hello")]
    talk("hi", "and?")
    assert turns(server)[0]["think"] is True
    assert turns(server)[1]["messages"] == [user("hi"), ANSWER | {"thinking": "Hm."}, user("and?")]


def test_a_picture_goes_with_its_message(talk: Talk, server: ScriptedServer, tmp_path: Path) -> None:
    """partly L-91"""
    server.replies["POST /api/show"] = shown(capabilities=["completion", "vision"])
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    assert talk(f"{picture} what?").err == f"Added image '{picture}'\n"
    assert turns(server)[0]["messages"] == [user("what?") | {"images": [base64.b64encode(PNG).decode()]}]


def test_a_bad_picture_ends_only_its_turn(talk: Talk, server: ScriptedServer, tmp_path: Path) -> None:
    server.replies["POST /api/show"] = shown(capabilities=["completion", "vision"])
    (tmp_path / "x.png").write_text("text")
    outcome = talk(f"see {tmp_path}/x.png", "hi")
    assert outcome.err == 'Couldn\'t process file: "invalid file type: text/plain; charset=utf-8"\n'
    assert [turn["messages"] for turn in turns(server)] == [[user("hi")]]


def test_ctrl_c_at_the_prompt_says_how_to_leave(talk: Talk) -> None:
    """partly L-80"""
    assert talk(KeyboardInterrupt).out == "Use Ctrl + d or /bye to exit.\n"


def test_what_was_typed_is_remembered(talk: Talk, tmp_path: Path) -> None:
    talk("one", "/set nohistory", "two", "/set history", "three", '"""a\nb"""', "")
    lines = (tmp_path / "history").read_text().split("\n")
    assert lines == ["one", "/set nohistory", "three", '"""a\u2028b"""', ""]
    talk("/set nohistory", "four")
    assert "four" not in (tmp_path / "history").read_text()


# --- leaving, help, unknown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["/bye", "/exit", "/bye now"])
def test_leaving(talk: Talk, server: ScriptedServer, line: str) -> None:
    assert talk(line, "never sent") == Outcome(0, "", "")
    assert turns(server) == []


@pytest.mark.parametrize("line", ["/nonsense", "/byeee", "/settings x"])
def test_unknown_commands(talk: Talk, server: ScriptedServer, line: str) -> None:
    """L-91, with the picture above"""
    word = line.split()[0]
    assert talk(line).out == f"Unknown command '{word}'. Type /? for help\n"
    assert turns(server) == []


@pytest.mark.parametrize(
    ("line", "mentions"),
    [
        ("/?", "/set /show /load /save /clear /bye /? shortcuts"),
        ("/help", '"""'),
        ("/? set", "/set parameter"),
        ("/help set", "/set system"),
        ("/? /set", "/set noformat"),
        ("/set", "/set wordwrap"),
        ("/? show", "/show modelfile"),
        ("/show", "/show template"),
        ("/? shortcuts", "Ctrl + d"),
        ("/? shortcut", "Ctrl + j"),
        (
            "/set parameter",
            "seed num_predict top_k top_p min_p num_ctx temperature repeat_penalty repeat_last_n num_gpu stop",
        ),
        ("/set parameter top_k", "top_k"),
    ],
)
def test_help_is_on_stderr(talk: Talk, line: str, mentions: str) -> None:
    outcome = talk(line)
    assert outcome.out == ""
    assert all(word in outcome.err for word in mentions.split())


def test_only_models_that_take_files_explain_how(talk: Talk, server: ScriptedServer) -> None:
    assert ".png" not in talk("/?").err
    server.replies["POST /api/show"] = shown(capabilities=["vision"])
    assert ".png" in talk("/?").err


def test_pasted_commands_are_text(talk: Talk, server: ScriptedServer) -> None:
    """partly L-79"""
    talk("one\n/bye\nthree", "/bye\nfoo")
    assert [turn["messages"][-1] for turn in turns(server)] == [user("one\n/bye\nthree"), user("/bye\nfoo")]


# --- /set ----------------------------------------------------------------------------------------------------------


def test_a_parameter_is_set(talk: Talk, server: ScriptedServer) -> None:
    """L-83, L-84"""
    outcome = talk("/set parameter temperature 0.5 1", "/set parameter stop a b", "/set parameter foo 1", "hi")
    assert outcome.out == (
        "Set parameter 'temperature' to '0.5'\n"
        "Set parameter 'stop' to 'a, b'\n"
        "Couldn't set parameter: \"unknown parameter 'foo'\"\n"
        "Hello\n\n"
    )
    assert turns(server)[0]["options"] == {"temperature": 0.5, "stop": ["a", "b"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("temperature abc", "invalid float value [abc]"),
        ("top_k 1.5", "invalid int value [1.5]"),
        ("use_mmap maybe", "invalid bool value [maybe]"),
    ],
)
def test_a_bad_value_is_said(talk: Talk, line: str, message: str) -> None:
    """L-83"""
    assert talk(f"/set parameter {line}").out == f'Couldn\'t set parameter: "{message}"\n'


def test_a_system_message_stays_when_the_conversation_is_cleared(talk: Talk, server: ScriptedServer) -> None:
    """L-85"""
    outcome = talk("/set system old", '/set system """be\nkind"""', "hi", "/clear", "again")
    assert outcome.out == "Set system message.\nSet system message.\nHello\n\nCleared session context\nHello\n\n"
    system = {"role": "system", "content": "be\nkind"}
    assert [turn["messages"] for turn in turns(server)] == [[system, user("hi")], [system, user("again")]]


def test_a_later_system_message_is_appended(talk: Talk, server: ScriptedServer) -> None:
    talk("hi", "/set system X", "and?")
    assert turns(server)[1]["messages"] == [user("hi"), ANSWER, {"role": "system", "content": "X"}, user("and?")]


def test_clear_without_a_system_message_forgets_all(talk: Talk, server: ScriptedServer) -> None:
    talk("hi", "/clear", "again")
    assert turns(server)[1]["messages"] == [user("again")]


def test_modes_confirm_and_take_effect(talk: Talk, server: ScriptedServer) -> None:
    """L-86"""
    server.replies["POST /api/show"] = shown(capabilities=["completion", "thinking"])
    server.replies["POST /api/chat"] = [chatted("Hello", total_duration=5) for _ in range(5)]
    outcome = talk(
        "/set format json", "/set verbose", "/set nothink", "1",
        "/set noformat", "/set quiet", "/set think", "2",
        "/set think high", "3", "/set format xml", "/set format",
        "/set wordwrap", "/set nowordwrap", "/set other x",
    )  # fmt: skip
    assert outcome.out.replace("Hello\n\n", "").splitlines() == [
        "Set format to 'json' mode.",
        "Set 'verbose' mode.",
        "Set 'nothink' mode.",
        "Disabled format.",
        "Set 'quiet' mode.",
        "Set 'think' mode.",
        "Set 'think' mode to 'high'.",
        "Invalid or missing format. For 'json' mode use '/set format json'",
        "Invalid or missing format. For 'json' mode use '/set format json'",
        "Set 'wordwrap' mode.",
        "Set 'nowordwrap' mode.",
        "Unknown command '/set other'. Type /? for help",
    ]
    assert [(turn.get("format"), turn["think"]) for turn in turns(server)] == [
        ("json", False),
        (None, True),
        (None, "high"),
    ]
    assert outcome.err == "total duration:       5ns\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wordwrap please", "Usage:\n  /set wordwrap"),
        ("think very much", "Usage:\n  /set think"),
        ("think bogus", "Invalid level 'bogus': it is one of true, false, high, medium, low, max"),
    ],
)
def test_a_setting_that_is_none(talk: Talk, server: ScriptedServer, line: str, message: str) -> None:
    assert talk(f"/set {line}", "hi").out == f"{message}\nHello\n\n"
    assert "think" not in turns(server)[0]


def test_think_on_a_model_that_cannot(talk: Talk) -> None:
    outcome = talk("/set think")
    assert outcome == Outcome(0, "Set 'think' mode.\n", 'warning: model "m" does not support thinking output\n')


# --- /show ---------------------------------------------------------------------------------------------------------


def test_what_a_model_has_not_is_said(talk: Talk) -> None:
    """L-87"""
    outcome = talk("/show parameters", "/show system", "/show template", "/show license")
    assert outcome.out == (
        "Model defined parameters:\n  No additional parameters were specified for this model.\n\n"
        "No system message was specified for this model.\n"
        "No prompt template was specified for this model.\n"
        "No license was specified for this model.\n"
    )


def test_what_a_model_has_is_shown(talk: Talk, server: ScriptedServer) -> None:
    server.replies["POST /api/show"] = shown(
        parameters='stop                           "x"\ntop_k                          1',
        system="S",
        template="T",
        license="L",
    )
    values = ("stop a b", "seed 1", "temperature 0", "top_p 0.95")
    outcome = talk(*(f"/set parameter {each}" for each in values), "/show parameters", "/show system", "/show template")
    assert outcome.out.partition("to '0.95'\n")[2] == (
        "Model defined parameters:\n"
        '  stop                           "x"\n'
        "  top_k                          1\n"
        "\n"
        "User defined parameters:\n"
        "  stop                           a b\n"
        "  seed                           1\n"
        "  temperature                    0\n"
        "  top_p                          0.95\n"
        "\n"
        "S\n\n"
        "T\n"
    )
    assert talk("/show license").out == "L\n"
    assert talk("/set system mine", "/show system").out.endswith("mine\n\n")


def test_the_modelfile_has_what_was_set(talk: Talk, server: ScriptedServer) -> None:
    talk("/set system S", "/set parameter seed 1", "/show modelfile")
    assert server.bodies("POST /api/show")[-1] == {"model": "m", "system": "S", "options": {"seed": 1}}


def test_info_alone_is_on_stderr(talk: Talk) -> None:
    """L-88"""
    outcome = talk("/show info")
    assert outcome.out == ""
    assert outcome.err.startswith("  Model\n    architecture    llama    \n")
    outcome = talk("/show license", "/show modelfile", "/show parameters", "/show system", "/show template", "/show x")
    assert outcome.err == ""
    assert outcome.out.endswith("Unknown command '/show x'. Type /? for help\n")


def test_list_is_the_list_of_models(talk: Talk, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    assert talk("/list").out == "NAME    ID    SIZE    MODIFIED \n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/usage", "Nothing is known of the context yet: ask something first."),
        ("/resume", "None is kept yet."),
        ("/resume x", "Usage:\n  /resume [number]"),
        ("/export", "Usage:\n  /export <file>"),
        ("/sessions", "NUMBER    MODEL    QUESTIONS    LAST    FIRST "),
        ("/show thinking", "The last answer had no thinking.\n"),
        ("/set nomarkdown", "Set 'nomarkdown' mode."),
    ],
)
def test_what_the_reference_has_not(talk: Talk, line: str, said: str) -> None:
    assert talk(line) == Outcome(0, f"{said}\n", "")


def test_the_shell_is_only_for_those_who_allow_it(talk: Talk, server: ScriptedServer, tmp_path: Path) -> None:
    """Without `/set shell` such a line is a message like any other, and what a model says never gets there."""
    server.replies["POST /api/chat"] = chatted(f"!touch {tmp_path}/by-the-model")
    talk(f"!touch {tmp_path}/too-early")
    outcome = talk("/set shell", f"!touch {tmp_path}/made", "!exit 3", "hi", "/set noshell", "!x")
    assert outcome.err == "(exit status 3)\n"
    assert outcome.out.startswith("Set 'shell' mode.\n")
    assert [turn["messages"][-1]["content"] for turn in turns(server)] == [f"!touch {tmp_path}/too-early", "hi", "!x"]
    assert (tmp_path / "made").exists()
    assert not (tmp_path / "too-early").exists()
    assert not (tmp_path / "by-the-model").exists()


def test_an_export_that_fails_is_one_line(talk: Talk, tmp_path: Path) -> None:
    outcome = talk(f"/export {tmp_path}/no/such.md", "hi")
    assert outcome.err == f"Error: could not write {tmp_path}/no/such.md: No such file or directory\n"
    assert outcome.out == "Hello\n\n"


def test_every_command_of_the_help_is_known(talk: Talk) -> None:
    """What the Tab key offers is obeyed."""
    for command in commands():
        if command not in ("/bye", "/exit", "/list", "/load", "/save"):
            assert "Unknown command" not in talk(command).out


# --- other models --------------------------------------------------------------------------------------------------

LOADED = Reply(json={"model": "x", "response": "", "done": True, "done_reason": "load"})


def test_loading_another_model_begins_anew(talk: Talk, server: ScriptedServer) -> None:
    server.replies["POST /api/show"] = [shown(), shown(capabilities=["completion", "thinking"])]
    server.replies["POST /api/generate"] = LOADED
    outcome = talk("/set system S", "/set parameter seed 1", "hi", "/load other", "hello")
    assert outcome.out.endswith("Loading model 'other'\nHello\n\n")
    assert server.body("POST /api/generate") == {"model": "other", "options": {"seed": 1}, "think": True}
    assert turns(server)[1] == {
        "model": "other",
        "options": {"seed": 1},
        "think": True,
        "messages": [{"role": "system", "content": "S"}, user("hello")],
    }


def test_a_model_that_is_not_there_changes_nothing(talk: Talk, server: ScriptedServer) -> None:
    """L-89"""
    server.replies["POST /api/show"] = [shown(), Reply(404, json={"error": "model 'missing' not found"})]
    outcome = talk("hi", "/load missing", "and?", "/load a b", "/load")
    usage = "Usage:\n  /load <modelname>\n"
    assert outcome.out == (f"Hello\n\nLoading model 'missing'\nCouldn't find model 'missing'\nHello\n\n{usage}{usage}")
    assert turns(server)[1] == {"model": "m", "messages": [user("hi"), ANSWER, user("and?")]}


def test_saving_a_session(talk: Talk, server: ScriptedServer) -> None:
    """partly L-90: restoring needs a real server"""
    stored = [user("stored"), {"role": "assistant", "content": "yes"}]
    server.replies["POST /api/show"] = shown(messages=stored)
    server.replies["POST /api/create"] = Reply(lines=[{"status": "success"}])
    outcome = talk("/set system S", "/set parameter seed 1", "hi", "/save mine", "/save", "/save a/b/c/d/e")
    assert outcome.out.partition("Hello\n\n")[2] == (
        "Created new model 'mine'\nUsage:\n  /save <modelname>\nerror: The model name 'a/b/c/d/e' is invalid\n"
    )
    assert server.body("POST /api/create") == {
        "model": "mine",
        "from": "m",
        "system": "S",
        "parameters": {"seed": 1},
        "messages": [*stored, user("hi"), ANSWER],
    }


def test_a_failed_command_does_not_end_it(talk: Talk, server: ScriptedServer) -> None:
    server.replies["POST /api/create"] = Reply(500, json={"error": "disk full"})
    outcome = talk("/save mine", "hi")
    assert outcome == Outcome(0, "Hello\n\n", "Error: 500 Internal Server Error: disk full\n")
