"""Which server the greeting and benchmark tools talk to, and what they say when it does not answer (cli §10.2, §13)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llamero.cli.target import Target, environment, explained, find_target, greeting_timeout_s, models_of, read_url
from llamero.client import Client
from llamero.errors import BadRequest, ClientError, LlameroError
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import free_port

SECRET = "s3cr3t-w0rd"


def client_of(target: Target, limit_s: float = 5) -> Client:
    return target.client(warn=lambda text: None, answer_limit_s=limit_s)


# --- which one -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "file", "url", "named_by"),
    [
        ({}, "", "http://localhost:11434", "OLLAMA_BASE_URL"),
        ({"OLLAMA_HOST": "0.0.0.0:8080"}, "", "http://127.0.0.1:8080", "OLLAMA_HOST"),
        ({"OLLAMA_HOST": "box:1, [::1]:2"}, "", "http://box:1", "OLLAMA_HOST"),
        ({"OLLAMA_HOST": "a", "OLLAMA_BASE_URL": "https://b/llm/"}, "", "https://b:443/llm", "OLLAMA_BASE_URL"),
        ({}, "OLLAMA_BASE_URL=http://c:5", "http://c:5", "OLLAMA_BASE_URL"),
        ({}, "export OLLAMA_HOST='d:6' # mine", "http://d:6", "OLLAMA_HOST"),
        ({"OLLAMA_BASE_URL": "http://e:7"}, "OLLAMA_BASE_URL=http://f:8", "http://e:7", "OLLAMA_BASE_URL"),
        ({"OLLAMA_HOST": "g:9"}, "OLLAMA_BASE_URL=http://h:10", "http://h:10", "OLLAMA_BASE_URL"),
        ({}, f"OLLAMA_BASE_URL=https://u:{SECRET}@i", "https://i:443", "OLLAMA_BASE_URL"),
        ({}, "OLLAMA_BASE_URL", "http://localhost:11434", "OLLAMA_BASE_URL"),
    ],
)
def test_the_environment_wins_over_the_file(
    tmp_path: Path, env: dict[str, str], file: str, url: str, named_by: str
) -> None:
    (tmp_path / ".env").write_text(file)
    target = find_target(env, tmp_path)
    assert (target.url, target.named_by) == (url, named_by)
    assert SECRET not in repr(target)


def test_a_password_may_look_like_a_variable(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OLLAMA_API_KEY=pa${HOME}ss\n")
    assert environment({"HOME": "/h"}, tmp_path)["OLLAMA_API_KEY"] == "pa${HOME}ss"


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"OLLAMA_HOST=\xff")
    with pytest.raises(BadRequest, match=r"\.env: it is not UTF-8"):
        find_target({}, tmp_path)


def test_a_line_that_cannot_be_read_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text(f"={SECRET}\nOLLAMA_HOST=box\n")
    assert find_target({}, tmp_path).url == "http://box:11434"
    assert SECRET not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        f"http://u:{SECRET}/x@host",
        f"http://u:a/{SECRET}@host",
        f"https://u:{SECRET}@host:99999",
        f"https://u:{SECRET} @host",
        f"ftp://u:{SECRET}@host",
        "http://ho st",
    ],
)
def test_an_address_that_cannot_be_one_is_not_repeated(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^OLLAMA_BASE_URL") as caught:
        read_url(text, "OLLAMA_BASE_URL")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("text", "seconds"), [("", 120), ("7", 7), (" 300 ", 300)])
def test_how_long_a_greeting_may_take(text: str, seconds: int) -> None:
    assert greeting_timeout_s({"GREETING_TIMEOUT_SECONDS": text}) == seconds


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "²"])
def test_how_long_it_cannot_take(text: str) -> None:
    with pytest.raises(BadRequest, match="GREETING_TIMEOUT_SECONDS"):
        greeting_timeout_s({"GREETING_TIMEOUT_SECONDS": text})


# --- what is wrong with it -----------------------------------------------------------------------------------------


def complaint(url: str, env: dict[str, str] | None = None, limit_s: float = 5) -> str:
    """What a person reads when the models of that server are asked for."""
    target = Target(read_url(url, "OLLAMA_BASE_URL"), "OLLAMA_BASE_URL", env or {})
    with pytest.raises(LlameroError) as caught:
        models_of(target, client_of(target, limit_s))
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    return text


def test_refused() -> None:
    port = free_port()
    assert complaint(f"http://u:{SECRET}@127.0.0.1:{port}") == (
        f"refused: nothing listens at http://127.0.0.1:{port}; start the server ('ollama serve') or set OLLAMA_BASE_URL"
    )


def test_timed_out() -> None:
    with silent_server() as port:
        text = complaint(f"http://u:{SECRET}@127.0.0.1:{port}", limit_s=0.05)
    assert text.startswith(f"timed out: http://127.0.0.1:{port} did not answer in time")


def test_name_not_found() -> None:
    text = complaint(f"http://u:{SECRET}@no-such-host.invalid")
    assert text == "name not found: there is no address for no-such-host.invalid; check OLLAMA_BASE_URL"


def test_https_towards_a_server_that_speaks_http() -> None:
    with ScriptedServer() as server:
        text = complaint(f"https://u:{SECRET}@{server.address}")
    assert text.startswith(f"TLS: https://{server.address} cannot be spoken to by https")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(json={"models": []}), "no models: the server at URL has none yet; fetch one with"),
        (Reply(502, text="<html><h1>502 Bad Gateway</h1></html>"), "502 Bad Gateway: a proxy answers at URL, but"),
        (Reply(504, text="<HTML>late</HTML>"), "504 Gateway Timeout: a proxy answers at URL, but"),
        (Reply(503, json={"error": "server busy"}), "server busy"),
        (Reply(403, text="<html>no\r\n</html>"), "403 Forbidden: what answers at URL is not the server itself"),
        (Reply(404, text="404 page not found"), "404 Not Found: URL is no Ollama server; OLLAMA_BASE_URL is its"),
        (Reply(301, headers={"Location": "https://there/"}), "301: moved to https://there/; use that address"),
        (Reply(401), "401 Unauthorized: URL wants to know who asks; put user:password@ before the host in"),
    ],
)
def test_what_a_server_answers(reply: Reply, said: str) -> None:
    with ScriptedServer() as server:
        server.replies["GET /api/tags"] = reply
        url = f"http://{server.address}"
        assert complaint(url).startswith(said.replace("URL", url, 1))


def test_credentials_that_are_not_accepted_are_named_and_not_shown() -> None:
    with ScriptedServer() as server:
        server.replies["GET /api/tags"] = Reply(401)
        url = server.address
        assert "does not accept the name and password in OLLAMA_BASE_URL" in complaint(f"http://u:{SECRET}@{url}")
        assert "does not accept the key in OLLAMA_API_KEY" in complaint(f"http://{url}", {"OLLAMA_API_KEY": SECRET})


def test_a_key_that_cannot_be_sent() -> None:
    target = Target(read_url("http://h", "x"), "x", {"OLLAMA_API_KEY": f"{SECRET}\r\nX: y"})
    with pytest.raises(ClientError, match="OLLAMA_API_KEY holds characters") as caught:
        client_of(target)
    assert SECRET not in str(caught.value)


def test_a_file_of_certificates_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    text = complaint("https://127.0.0.1:1", {"SSL_CERT_FILE": str(file)})
    assert text == f"SSL_CERT_FILE: no certificates can be read from {file}"


def test_an_error_of_the_server_stays_as_it_is() -> None:
    target = Target(read_url("http://h", "x"), "x", {})
    error = ClientError("the server closed the connection before the answer was complete")
    assert explained(error, target) is error


def test_the_example_is_complete() -> None:
    """Whoever copies it sees each variable, and a secret in none."""
    root = Path(__file__).parents[2]
    example = root / ".env.example"
    assert set(_assigned(example)) == {"OLLAMA_BASE_URL", "OLLAMA_API_KEY", "GREETING_TIMEOUT_SECONDS", "SSL_CERT_FILE"}
    assert ".env" in (root / ".gitignore").read_text().split()


def _assigned(file: Path) -> Iterator[str]:
    for line in file.read_text().splitlines():
        name, equals, _ = line.removeprefix("# ").partition("=")
        if equals and name.isupper():
            yield name


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
