"""The program as a whole: help, argument errors, exit statuses, version, reaching a server (cli §1, §2, §3.14, §7)."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading

import click
import pytest

from llamero import API_LEVEL, __version__
from llamero.cli.commands import root
from llamero.cli.grammar import Command, canonical, flags_of
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer, generated, shown

NOT_RUNNING = "Error: could not connect to ollama server, run 'ollama serve' to start it\n"
COMMANDS = "serve create show run stop pull push signin signout list ps cp rm launch help".split()
ADDITIONAL = (
    "bench cache completion config doctor du engine export fit hi import key mv prune search service update upgrade "
    "version"
).split()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


# --- help ----------------------------------------------------------------------------------------------------------


def test_help_lists_the_commands_in_their_order(ollama: Ollama) -> None:
    """L-01"""
    outcome = ollama("--help")
    assert (outcome.status, outcome.err) == (0, "")
    head, _, rest = outcome.out.partition("Available Commands:\n")
    assert head == "Large language model runner\n\nUsage:\n  ollama [flags]\n  ollama [command]\n\n"
    assert rest.startswith("  serve        Start Ollama\n")
    assert names_in(rest) == COMMANDS
    assert names_in(rest.partition("\nAdditional Commands:\n")[2]) == ADDITIONAL
    assert outcome.out.endswith('\nUse "ollama [command] --help" for more information about a command.\n')
    assert not {"login", "logout", "runner"} & {*COMMANDS, *ADDITIONAL}


def names_in(text: str) -> list[str]:
    """The commands of the block that the text begins with."""
    return [line[2:14].rstrip() for line in text.split("\n\n")[0].splitlines()]


@pytest.mark.parametrize("name", [*COMMANDS, *ADDITIONAL])
def test_every_help_ends_with_examples_that_the_program_understands(ollama: Ollama, name: str) -> None:
    text = ollama(name, "--help").out
    examples = [line.strip() for line in text.partition("\nExamples:\n")[2].splitlines()]
    assert examples
    for example in examples:
        assert f"ollama {name}" in example
        for words in commands_in(example):
            command = root.get_command(click.Context(root), words[0])
            assert isinstance(command, Command)
            own = words[1 : words.index("--")] if "--" in words else words[1:]
            _, positional = canonical(flags_of(command), own)
            command.arity.check(len(positional))


def commands_in(line: str) -> list[list[str]]:
    """The words after `ollama` of each command of ours in a line for a shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>()")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|<>()"):
            parts.append([])
        else:
            parts[-1].append(word)
    found = [part[part.index("ollama") + 1 :] for part in parts if "ollama" in part]
    assert found
    return found


@pytest.mark.parametrize("argv", [["-h"], ["help"], [], ["--verbose"], [""]])
def test_other_ways_to_the_same_help(ollama: Ollama, argv: list[str]) -> None:
    """L-12: without a terminal bare `ollama` ends too, and writes no escape codes."""
    outcome = ollama(*argv)
    assert outcome == ollama("--help")
    assert "\x1b" not in outcome.out


def test_flags_are_aligned_and_sorted(ollama: Ollama) -> None:
    flags = ollama("show", "-h").out.partition("Flags:\n")[2].partition("\n\n")[0]
    assert flags.splitlines() == [
        "  -h, --help         help for show",
        "      --json         Print the server's JSON",
        "      --license      Show the licence of a model",
        "      --modelfile    Show the Modelfile of a model",
        "      --parameters   Show the parameters of a model",
        "      --system       Show the system message of a model",
        "      --template     Show the prompt template of a model",
        "  -v, --verbose      Show metadata and tensors too",
    ]


def test_an_alias_has_the_help_of_its_command(ollama: Ollama) -> None:
    """L-02"""
    outcome = ollama("start", "-h")
    assert outcome.out == ollama("serve", "-h").out == ollama("help", "start").out
    assert "\nUsage:\n  ollama serve [flags]\n\nAliases:\n  serve, start\n\nFlags:\n" in outcome.out


def test_help_of_run_names_its_variables(ollama: Ollama) -> None:
    """L-11"""
    block = variables_in(ollama("run", "--help").out)
    assert [line.split()[0] for line in block] == ["OLLAMA_EDITOR", "OLLAMA_HOST", "OLLAMA_NOHISTORY"]
    assert block[1] == "      OLLAMA_HOST                   IP Address for the ollama server"
    assert '--think string[="true"]' in ollama("run", "--help").out


def test_serve_names_21_variables(ollama: Ollama) -> None:
    assert len(variables_in(ollama("serve", "--help").out)) == 21


def variables_in(text: str) -> list[str]:
    return text.partition("\nEnvironment Variables:\n")[2].partition("\n\n")[0].splitlines()


def test_help_on_something_unknown(ollama: Ollama) -> None:
    outcome = ollama("help", "bogus")
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err.startswith("Unknown help topic [`bogus`]\nUsage:\n  ollama [flags]\n")


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        pytest.param("run", "requires at least 1 arg(s), only received 0", id="L-03"),
        pytest.param("show", "accepts 1 arg(s), received 0", id="L-04 show"),
        pytest.param("cp a", "accepts 2 arg(s), received 1", id="L-04 cp"),
        pytest.param("serve x", "accepts 0 arg(s), received 1", id="L-04 serve"),
        pytest.param("bogus", 'unknown command "bogus" for "ollama"', id="L-05"),
        pytest.param("rnu", 'unknown command "rnu" for "ollama"\n\nDid you mean this?\n\trun\n\trm\n', id="L-06"),
        pytest.param("CREA", 'unknown command "CREA" for "ollama"\n\nDid you mean this?\n\tcreate\n', id="a beginning"),
        pytest.param("run --foo m", "unknown flag: --foo", id="L-07 unknown"),
        pytest.param("run m --keepalive", "flag needs an argument: --keepalive", id="L-07 value"),
        pytest.param("--foo", "unknown flag: --foo", id="unknown flag of the root"),
        pytest.param(
            "run m --dimensions abc",
            'invalid argument "abc" for "--dimensions" flag: strconv.ParseInt: parsing "abc": invalid syntax',
            id="no integer",
        ),
        pytest.param(
            "show m --verbose=maybe",
            'invalid argument "maybe" for "-v, --verbose" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
            id="no boolean",
        ),
    ],
)
def test_wrong_words(ollama: Ollama, server: ScriptedServer, argv: str, message: str) -> None:
    outcome = ollama(*argv.split())
    assert (outcome.status, outcome.out, outcome.err) == (1, "", f"Error: {message}\n")
    assert server.requests == []


def test_the_command_is_the_first_word_wherever_the_flags_stand(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    assert ollama("--json", "list").out == '{"models": []}\n'


def test_an_unexpected_error_is_one_line(ollama: Ollama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamero.cli.models.list_models", lambda *args, **kwargs: [][0])
    outcome = ollama("list")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1)
    assert outcome.err.startswith("Error: IndexError: list index out of range")
    with pytest.raises(IndexError):
        ollama("list", "--debug")


# --- version -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-v", "--version"])
def test_version_of_a_matching_server(ollama: Ollama, server: ScriptedServer, flag: str) -> None:
    """L-13: one line, and no heartbeat."""
    server.replies["GET /api/version"] = Reply(json={"version": API_LEVEL})
    outcome = ollama(flag)
    assert (outcome.status, outcome.out, outcome.err) == (0, f"ollama version is {API_LEVEL}\n", "")
    assert [request.route for request in server.requests] == ["GET /api/version"]


def test_version_of_another_server(ollama: Ollama, server: ScriptedServer) -> None:
    """L-14"""
    server.replies["GET /api/version"] = Reply(json={"version": "0.1.2"})
    outcome = ollama("-v")
    assert outcome.out == f"ollama version is 0.1.2\nWarning: client version is {API_LEVEL}\n"
    assert outcome.status == 0


def test_version_without_a_server(ollama: Ollama) -> None:
    """L-15"""
    outcome = ollama("-v", env={"OLLAMA_HOST": free_address()})
    assert outcome.out == (
        f"Warning: could not connect to a running Ollama instance\nWarning: client version is {API_LEVEL}\n"
    )
    assert (outcome.status, outcome.err) == (0, "")


def test_the_version_command_names_every_part(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["GET /api/version"] = Reply(json={"version": API_LEVEL})
    first, second, third = ollama("version").out.splitlines()
    assert (first, second) == (f"ollama version is {API_LEVEL}", f"llamero version is {__version__}")
    assert third.startswith("engine version is xllamacpp 20")
    assert ollama("version", "--json").out == ollama("--version", "--json").out


def test_version_as_json_asks_nobody(ollama: Ollama, server: ScriptedServer) -> None:
    versions = json.loads(ollama("--version", "--json").out)
    assert versions.keys() == {"version", "llamero", "engine"}
    assert (versions["version"], versions["llamero"]) == (API_LEVEL, __version__)
    assert server.requests == []


# --- reaching a server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["list"], ["run", "m", "hi"]])
def test_no_server(ollama: Ollama, argv: list[str]) -> None:
    """partly L-16: that `run` starts one is shown with a real server."""
    outcome = ollama(*argv, env={"OLLAMA_HOST": free_address(), "LLAMERO_AUTOSTART": "0"})
    assert (outcome.status, outcome.out, outcome.err) == (1, "", NOT_RUNNING)


def test_no_server_elsewhere_names_the_address(ollama: Ollama) -> None:
    port = free_address().rpartition(":")[2]
    # every address of 127/8 is loopback; a name that resolves to it is not known to be
    host = f"http://{socket.gethostname()}:{port}"
    try:
        socket.create_connection((socket.gethostname(), int(port)), timeout=1).close()
    except ConnectionRefusedError:
        pass
    except OSError:
        pytest.skip("this machine's own name leads nowhere")
    outcome = ollama("run", "m", "hi", env={"OLLAMA_HOST": host})
    assert outcome.err == f"Error: could not connect to ollama server at {host}, run 'ollama serve' to start it\n"


def test_a_server_that_fails_silently(ollama: Ollama, server: ScriptedServer) -> None:
    """L-17"""
    server.replies["HEAD /"] = Reply(500)
    outcome = ollama("list")
    assert outcome.err == "Error: something went wrong, please see the ollama server logs for details\n"
    assert outcome.status == 1


def test_an_unspecified_address_is_loopback(ollama: Ollama, server: ScriptedServer) -> None:
    """L-21"""
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    assert ollama("list", env={"OLLAMA_HOST": f"0.0.0.0:{server.port}"}).status == 0
    assert server.routes == ["GET /api/tags"]


def test_a_bad_port_is_said_and_replaced(ollama: Ollama) -> None:
    """L-19: whether a server listens on the default port or not, that is the one asked."""
    outcome = ollama("list", env={"OLLAMA_HOST": ":66000"})
    assert outcome.err.startswith("Warning: invalid port, using default port=66000 default=11434\n")


def test_variables_of_the_server_are_no_concern_of_a_client(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    assert ollama("list", env={"OLLAMA_NUM_PARALLEL": "abc", "OLLAMA_NONSENSE": "1"}).err == ""


def test_ctrl_c_during_a_plain_command_is_130(server: ScriptedServer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "llamero.cli.main", "pull", "m", "--quiet"],
        env=os.environ | {"OLLAMA_HOST": server.address},
        stderr=subprocess.PIPE,
    )
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "pulling manifest"}, threading.Event()])
    assert process.stderr is not None
    assert process.stderr.readline() == b"pulling manifest\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert process.stderr.read() == b""
    process.stderr.close()
    assert server.disconnected.wait(1)


def test_closed_streams_are_no_error(server: ScriptedServer) -> None:
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("Hello")}
    command = f"exec {sys.executable} -m llamero.cli.main run m hi <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], env=os.environ | {"OLLAMA_HOST": server.address}).returncode == 0
    assert server.body("POST /api/generate")["prompt"] == "hi"


def test_words_from_elsewhere_do_not_command_the_terminal(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(500, json={"error": "bad\x1b[2J thing"}, headers={"Llamero-Warning": "x"})
    assert ollama("list").err == "Error: bad[2J thing\n"


def test_a_reader_that_has_gone_is_no_error(server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    process = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m llamero.cli.main list; echo status $? >&2"],
        env=os.environ | {"OLLAMA_HOST": server.address},
        stdout=_closed_pipe(),
        stderr=subprocess.PIPE,
        check=True,
    )
    assert process.stderr == b"status 141\n"


def test_a_reader_of_the_progress_that_has_gone_is_no_error(server: ScriptedServer) -> None:
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "pulling manifest"}, {"status": "success"}])
    process = subprocess.run(
        [sys.executable, "-m", "llamero.cli.main", "pull", "m"],
        env=os.environ | {"OLLAMA_HOST": server.address},
        stderr=_closed_pipe(),
    )
    assert process.returncode == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")
def test_a_disk_that_takes_no_more_output(server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "llamero.cli.main", "list"],
            env=os.environ | {"OLLAMA_HOST": server.address},
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert process.stderr == b"Error: the output cannot be written: no space left on device\n"
    assert process.returncode == 1


def _closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing
