"""What is left of Ollama's cloud: replies that say that there is none (native-api §3.3, §3.17 to §3.19)."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from llamero.config import Settings
from llamero.server.cloud import MAX_SERVER_FILE_BYTES, switched_off_by
from tests import model_folders
from tests.running import Server, running

ON, OFF = '{"disable_ollama_cloud": false}', '{"disable_ollama_cloud": true}'


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that was told twice to stay away from the cloud."""
    folder = tmp_path_factory.mktemp("alone")
    place = folder / "home" / ".ollama"
    place.mkdir(parents=True)
    (place / "server.json").write_text(OFF)
    with running(folder, folder / "models", OLLAMA_NO_CLOUD="1") as started:
        yield started


# --- status --------------------------------------------------------------------------------------------------------


def test_n123_status(server: Server, alone: Server) -> None:
    """N-123: the cloud is off, also where nobody has switched it off."""
    plain, told = server.get("/api/status"), alone.get("/api/status")
    assert (plain.status, plain.content_type) == (200, "application/json; charset=utf-8")
    assert plain.json() == {"cloud": {"disabled": True, "source": "config"}}
    assert told.json() == {"cloud": {"disabled": True, "source": "both"}}


@pytest.mark.parametrize(
    ("no_cloud", "text", "by"),
    [
        (False, None, "none"),
        (False, ON, "none"),
        (False, OFF, "config"),
        (True, None, "env"),
        (True, ON, "env"),
        (True, OFF, "both"),
        (False, '{"disable_ollama_cloud": null, "other": [1]}', "none"),
        (False, '{"other": {"x": 1}, "disable_ollama_cloud": true}', "config"),
    ],
)
def test_what_switches_the_cloud_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, no_cloud: bool, text: str | None, by: str
) -> None:
    if text is not None:
        (tmp_path / "server.json").write_text(text)
    assert switched_off_by(Settings(home=tmp_path, models=tmp_path, no_cloud=no_cloud)) == by
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut"),
        pytest.param("[true]", id="no object"),
        pytest.param('{"disable_ollama_cloud": "yes"}', id="no boolean"),
        pytest.param('{"x":' + "[" * 5000, id="deep"),
        pytest.param(" " * MAX_SERVER_FILE_BYTES + OFF, id="too large"),
    ],
)
def test_a_file_that_makes_no_sense_is_ignored_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "server.json").write_text(text)
    assert switched_off_by(Settings(home=tmp_path, models=tmp_path)) == "none"
    assert "server.json is ignored: " in caplog.text


def test_a_folder_in_its_place_is_ignored_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "server.json").mkdir()
    assert switched_off_by(Settings(home=tmp_path, models=tmp_path)) == "none"
    assert "server.json is ignored: " in caplog.text


def test_l103_the_servers_file(alone: Server, tmp_path: Path) -> None:
    """L-103: what it says is in the log, and it may be broken."""
    assert "Ollama cloud disabled: true" in alone.log.read_text()
    place = tmp_path / "home" / ".ollama"
    place.mkdir(parents=True)
    (place / "server.json").write_text("{broken")
    with running(tmp_path, tmp_path / "models") as server:
        assert server.get("/api/status").json()["cloud"]["source"] == "config"
        log = server.log.read_text()
        assert "Ollama cloud disabled: true" in log
        assert "server.json is ignored: " in log


def test_the_servers_file_alone_refuses_stubs_as_the_variable_does(tmp_path: Path) -> None:
    place = tmp_path / "home" / ".ollama"
    place.mkdir(parents=True)
    (place / "server.json").write_text(OFF)
    with running(tmp_path, tmp_path / "models") as server:
        stub = {"remote_host": "https://ollama.com:443", "remote_model": "x"}
        model_folders.add(server.models, "stub", config=stub, system="s")
        shown = server.post("/api/show", {"model": "stub"})
    assert (shown.status, shown.error) == (403, "ollama cloud is disabled: remote model details are unavailable")


# --- me, signout ---------------------------------------------------------------------------------------------------


def test_nobody_is_signed_in_and_the_link_carries_our_key(server: Server) -> None:
    reply = server.post("/api/me", b"whatever")
    assert (reply.status, reply.content_type) == (401, "application/json; charset=utf-8")
    assert "WWW-Authenticate" not in reply.headers
    told = reply.json()
    assert list(told) == ["error", "signin_url"]
    assert told["error"] == "unauthorized"
    url = urlsplit(told["signin_url"])
    assert (url.scheme, url.netloc, url.path) == ("https", "ollama.com", "/connect")
    query = parse_qs(url.query, strict_parsing=True)
    assert list(query) == ["name", "key"]
    assert query["name"] == [socket.gethostname()]
    key = query["key"][0]
    public = (server.home / ".ollama" / "id_ed25519.pub").read_text().strip()
    assert base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)).decode() == public


def test_without_a_key_there_is_no_link(alone: Server) -> None:
    key = alone.home / ".ollama" / "id_ed25519"
    held = key.read_bytes()
    for broken in (b"", b"no key"):
        key.write_bytes(broken)
        reply = alone.post("/api/me")
        assert (reply.status, reply.json()) == (500, {"error": "error getting authorization details"})
    key.unlink()
    assert alone.post("/api/me").error == "error getting authorization details"
    assert str(key) not in alone.post("/api/me").body.decode()
    key.write_bytes(held)
    assert alone.post("/api/me").status == 401


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/signout"), ("DELETE", "/api/user/keys/c3NoLWVkMjU1MTkgQUFB")]
)
def test_there_is_nothing_to_sign_out_of(server: Server, method: str, path: str) -> None:
    reply = server.call(method, path)
    assert (reply.status, reply.json()) == (401, {"error": "you are not currently signed in"})


def test_their_methods(server: Server) -> None:
    for method, path, allowed in (
        ("GET", "/api/me", "POST"),
        ("GET", "/api/signout", "POST"),
        ("POST", "/api/user/keys/x", "DELETE"),
        ("POST", "/api/status", "GET"),
    ):
        reply = server.call(method, path)
        assert (reply.status, reply.headers["Allow"]) == (405, allowed)


# --- the web -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["search", "fetch"])
def test_n124_the_web_is_out_of_reach(server: Server, what: str) -> None:
    """N-124"""
    path = f"/api/experimental/web_{what}"
    for body in (b"", b" \r\n\t"):
        reply = server.post(path, body)
        assert (reply.status, reply.error) == (400, "missing request body")
    for asked in ({"query": "llamas", "url": "https://example.com"}, b"not JSON"):
        reply = server.post(path, asked)
        assert (reply.status, reply.error) == (403, f"ollama cloud is disabled: web {what} is unavailable")


# --- who may ask ---------------------------------------------------------------------------------------------------


def test_who_may_ask(server: Server) -> None:
    """Security §6.3: a forwarded request has the rights of `infer`, and the account is not for those."""
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert server.get("/api/status", headers=forwarded).status == 200
    for what in ("search", "fetch"):
        reply = server.post(f"/api/experimental/web_{what}", {}, headers=forwarded)
        assert reply.error.startswith("ollama cloud is disabled")
    for method, path in (("POST", "/api/me"), ("POST", "/api/signout"), ("DELETE", "/api/user/keys/x")):
        reply = server.call(method, path, headers=forwarded)
        assert (reply.status, reply.error.partition(":")[0]) == (403, "forbidden")


def test_the_description_knows_them(server: Server) -> None:
    document = server.get("/openapi.json").json()
    assert {path: set(document["paths"][path]) for path in document["paths"] if "web_" in path or "/user/" in path} == {
        "/api/experimental/web_search": {"post"},
        "/api/experimental/web_fetch": {"post"},
        "/api/user/keys/{encodedKey}": {"delete"},
    }
    me = document["paths"]["/api/me"]["post"]["responses"]["default"]["content"]["application/json"]["schema"]
    assert me == {"$ref": "#/components/schemas/ErrorReply"}
    assert document["components"]["schemas"]["ErrorReply"]["required"] == ["error"]
    assert "signin_url" in document["components"]["schemas"]["ErrorReply"]["properties"]
