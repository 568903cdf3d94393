"""`search`: a catalogue that answers as the Hugging Face hub does (cli §3.16), here a server on this machine."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer

ROUTE = (
    "GET /api/models?search=llama+3.2&filter=gguf&sort=downloads&direction=-1&limit=20"
    "&expand=downloads&expand=gated&expand=lastModified&expand=likes"
)


def row(name: str, **fields: object) -> dict[str, object]:
    updated_at = (datetime.now(UTC) - timedelta(days=3)).isoformat().replace("+00:00", "Z")
    return {"_id": "x", "id": name, "downloads": 1_234_000, "likes": 56, "lastModified": updated_at} | fields


@pytest.fixture
def index(server: ScriptedServer) -> str:
    server.replies[ROUTE] = Reply(json=[row("ada/Llama-3.2-GGUF"), row("bob/tiny-GGUF", gated="manual")])
    return f"http://{server.address}"


def test_what_is_found_has_the_names_that_pull_takes(ollama: Ollama, server: ScriptedServer, index: str) -> None:
    """No server of ours is asked."""
    done = ollama("search", "llama", "3.2", "--index", index, env={"OLLAMA_HOST": "127.0.0.1:1", "HF_TOKEN": "hf_x"})
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "NAME                        DOWNLOADS    LIKES    UPDATED       ACCESS ",
        "hf.co/ada/Llama-3.2-GGUF    1.23M        56       3 days ago    open      ",
        "hf.co/bob/tiny-GGUF         1.23M        56       3 days ago    gated     ",
    ]
    (request,) = server.requests
    assert request.headers["User-Agent"].startswith("ollama/")
    assert "Authorization" not in request.headers  # the hub's token is the hub's


def test_as_json(ollama: Ollama, index: str) -> None:
    first, second = json.loads(ollama("search", "llama 3.2", "--json", "--index", index).out)
    assert (first["name"], first["downloads"], first["gated"]) == ("hf.co/ada/Llama-3.2-GGUF", 1_234_000, False)
    assert second["gated"] is True
    assert datetime.fromisoformat(first["updated_at"]).tzinfo


def test_nothing_found_is_no_error(ollama: Ollama, server: ScriptedServer, index: str) -> None:
    server.replies[ROUTE] = Reply(json=[])
    done = ollama("search", "llama 3.2", "--index", index)
    assert (done.status, done.err) == (0, "nothing found for 'llama 3.2'\n")
    assert done.out.split() == ["NAME", "DOWNLOADS", "LIKES", "UPDATED", "ACCESS"]


def test_names_that_nobody_could_pull_are_left_out(ollama: Ollama, server: ScriptedServer, index: str) -> None:
    bad = ["", "../etc", "a/b/c/d", "a\x1b[2J/b", "http://evil/a/b", "a b/c"]
    server.replies[ROUTE] = Reply(json=[row(name) for name in [*bad, "good/one", "more/than", "was/asked"]])
    done = ollama("search", "llama 3.2", "--json", "--index", index)
    assert [each["name"] for each in json.loads(done.out)] == ["hf.co/good/one", "hf.co/more/than", "hf.co/was/asked"]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(404), "there is no catalogue at {index}"),
        (Reply(500, text="out of order"), "{index} answered 500: out of order"),
        (Reply(text="<html>hello</html>"), "what answers at {index} is no catalogue of models"),
        (Reply(json={"models": []}), "what answers at {index} is no catalogue of models"),
        (Reply(json=[{"id": 1}]), "what answers at {index} is no catalogue of models"),
        (Reply(302, headers={"Location": "http://169.254.169.254/"}), "169.254.169.254:80 is a reserved address"),
    ],
)
def test_an_index_that_is_none(ollama: Ollama, server: ScriptedServer, index: str, reply: Reply, message: str) -> None:
    server.replies[ROUTE] = reply
    done = ollama("search", "llama 3.2", "--index", index)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert message.format(index=index) in done.err


@pytest.mark.parametrize("where", [{}, {"--index": "https://127.0.0.1:1"}])
def test_without_a_network_it_is_one_clear_line(ollama: Ollama, where: dict[str, str]) -> None:
    flags = [word for pair in where.items() for word in pair]
    done = ollama("search", "llama", *flags, env={"HTTPS_PROXY": "http://127.0.0.1:1"})
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith('Error: cannot search: GET "https://')
    assert done.err.endswith(": connection refused; behind a proxy set HTTPS_PROXY; --index asks another catalogue\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("", "requires at least 1 arg(s), only received 0"),
        ("x --limit 0", "--limit must be from 1 to 100"),
        ("x --limit 101", "--limit must be from 1 to 100"),
        ("x --index ftp://h", "--index takes the address of a catalogue: https://host"),
        ("x --index http://192.0.2.1", "insecure protocol http"),
    ],
)
def test_wrong_words(ollama: Ollama, flags: str, message: str) -> None:
    done = ollama("search", *flags.split())
    assert (done.status, done.out, done.err) == (1, "", f"Error: {message}\n")


def test_a_password_in_the_address_is_not_repeated(ollama: Ollama, server: ScriptedServer) -> None:
    done = ollama("search", "x", "--index", f"http://ada:s3cr3t@{server.address}")
    assert done.err == f"Error: cannot search: there is no catalogue at {server.address}\n"
