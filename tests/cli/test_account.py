"""signin and signout, and a server that wants somebody to sign in (cli §1.1, §3.12)."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer

LINK = "https://ollama.com/connect?name=box&key=c3NoLWVkMjU1MTkgQUFB"
NOBODY = Reply(401, json={"error": "unauthorized", "signin_url": LINK})
ANN = Reply(json={"id": "1", "email": "ann@example.com", "name": "ann"})
KEY_NEEDED = Reply(401, json={"error": "unauthorized"}, headers={"WWW-Authenticate": 'Bearer realm="llamero"'})


@pytest.mark.parametrize("command", ["signin", "login"])
def test_signin_shows_the_link_that_registers_the_key(ollama: Ollama, server: ScriptedServer, command: str) -> None:
    """There is nothing to run once signed in, and the exit status says so."""
    server.replies["POST /api/me"] = NOBODY
    done = ollama(command)
    assert done.out == f"To push models to ollama.com, register the key of this server at:\n    {LINK}\n\n"
    assert (done.status, done.err) == (
        1,
        "Error: cloud models are disabled; the key is all there is to register\n",
    )
    assert server.routes == ["POST /api/me"]


def test_signin_of_somebody_who_is_signed_in(ollama: Ollama, server: ScriptedServer) -> None:
    """At a server that has accounts."""
    server.replies["POST /api/me"] = ANN
    done = ollama("signin")
    assert (done.status, done.out, done.err) == (0, "You are already signed in as user 'ann'\n\n", "")


@pytest.mark.parametrize("command", ["signout", "logout"])
def test_signout(ollama: Ollama, server: ScriptedServer, command: str) -> None:
    for reply, text in (
        (Reply(401, json={"error": "you are not currently signed in"}), "You are not signed in to ollama.com\n\n"),
        (Reply(text="null"), "You have signed out of ollama.com\n\n"),
    ):
        server.replies["POST /api/signout"] = reply
        done = ollama(command)
        assert (done.status, done.out, done.err) == (0, text, "")


@pytest.mark.parametrize("command", ["signin", "signout"])
def test_other_failures_are_told_as_they_are(ollama: Ollama, server: ScriptedServer, command: str) -> None:
    route = {"signin": "POST /api/me", "signout": "POST /api/signout"}[command]
    for reply, text in (
        (KEY_NEEDED, "unauthorized: set OLLAMA_API_KEY to a key of this server"),
        (Reply(500, json={"error": "error getting authorization details"}), "error getting authorization details"),
    ):
        server.replies[route] = reply
        done = ollama(command)
        assert (done.status, done.out, done.err) == (1, "", f"Error: {text}\n")


def test_they_take_no_words(ollama: Ollama, server: ScriptedServer) -> None:
    for command in ("signin", "signout"):
        assert ollama(command, "x").err == "Error: accepts 0 arg(s), received 1\n"
    assert server.routes == []


def test_a_server_with_cloud_models_may_want_a_sign_in_anywhere(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/show"] = NOBODY
    done = ollama("run", "big:cloud", "hi")
    assert done.out == (
        "You need to be signed in to Ollama to run Cloud models.\n\n"
        f"If your browser did not open, navigate to:\n    {LINK}\n\n"
    )
    assert (done.status, done.err) == (1, "Error: unauthorized\n")


def test_a_link_cannot_steer_the_terminal(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/me"] = Reply(401, json={"error": "x", "signin_url": "https://a/\x1b[2J\x9b31m"})
    assert not any(character in ollama("signin").out for character in "\x1b\x9b")
