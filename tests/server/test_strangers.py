"""A server without keys, and who must not get near its models: pages, rebound names, tunnels (security §6 to §8)."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders as folder
from tests.cli.conftest import command
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, running

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
PROXY, STRANGER = "127.0.0.2", "127.0.0.3"
"""Addresses of this machine too, from which Linux lets us connect. The first one is trusted, the second one unknown."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As everybody has it after the installation, with a model."""
    place = tmp_path_factory.mktemp("plain")
    folder.add(place / "models", "m", b"weights")
    with running(place, place / "models") as server:
        yield server


def routes(server: Server) -> list[tuple[str, str]]:
    paths = server.get("/openapi.json").json()["paths"]
    return [(method.upper(), path.replace("{", "").replace("}", "")) for path in paths for method in paths[path]]


def has_its_model_and_nothing_loaded(server: Server) -> bool:
    names = [model["name"] for model in server.get("/api/tags").json()["models"]]
    downloads = server.get("/api/llamero/downloads").json()["downloads"]
    return (names, server.loaded(), downloads) == (["m:latest"], [], [])


def test_x01_a_foreign_host_reaches_no_route(plain: Server) -> None:
    """X-01."""
    table = routes(plain)
    assert len(table) > 50
    for method, path in [*table, *(("OPTIONS", path) for _, path in table), ("GET", "/nope")]:
        reply = plain.call(method, path, {"model": "m"}, headers={"Host": "evil.test"})
        assert (reply.status, reply.body) == (403, b"")
        assert reply.headers["Llamero-Warning"] == "host not allowed, see LLAMERO_ALLOWED_HOSTS"
    assert has_its_model_and_nothing_loaded(plain)


SIMPLE = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
"""What a page may send anywhere without asking first."""


@pytest.mark.parametrize("content_type", SIMPLE)
def test_x08_a_page_s_simple_request_has_no_effect(plain: Server, content_type: str) -> None:
    """X-08."""
    for method, path in (("POST", "/api/generate"), ("POST", "/api/pull"), ("DELETE", "/api/delete")):
        for origin in ({"Origin": "https://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
            reply = plain.call(method, path, {"model": "m"}, headers={"Content-Type": content_type} | origin)
            assert (reply.status, reply.body) == (403, b"")
    assert has_its_model_and_nothing_loaded(plain)


ATTEMPTS = (
    ("GET", "/api/tags", None),
    ("GET", "/v1/models", None),
    ("GET", "/api/ps", None),
    ("POST", "/api/show", {"model": "m"}),
    ("POST", "/api/pull", {"model": "evil.test/x/y", "insecure": True}),
    ("POST", "/api/generate", {"model": "m", "prompt": "hi"}),
    ("POST", "/api/chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    ("POST", "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    ("POST", "/api/copy", {"source": "m", "destination": "mine"}),
    ("DELETE", "/api/delete", {"model": "m"}),
    ("DELETE", "/v1/models/m", None),
)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param({"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}, id="malicious page"),
        pytest.param({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, id="sandboxed frame"),
        pytest.param({"Origin": "http://localhost:11434.evil.test"}, id="lookalike"),
        pytest.param({"Host": "evil.test:11434", "Sec-Fetch-Site": "same-origin"}, id="rebound name, GET"),
        pytest.param({"Host": "evil.test:11434", "Origin": "http://evil.test:11434"}, id="rebound name"),
        pytest.param({"Host": "localhost.evil.test", "Origin": "http://localhost.evil.test"}, id="rebound lookalike"),
        pytest.param(
            {"Host": "evil.test", "Origin": "http://evil.test", "X-Forwarded-Host": "localhost"},
            id="rebound, forwarded",
        ),
    ],
)
def test_x100_no_page_lists_pulls_generates_or_deletes(plain: Server, page: dict[str, str]) -> None:
    """X-100, with a browser's headers: neither a page of its own origin nor one whose name was rebound to us."""
    for method, path, body in ATTEMPTS:
        reply = plain.call(method, path, body, headers=FIREFOX | page)
        assert (reply.status, reply.body) == (403, b""), (method, path)
        assert "Access-Control-Allow-Origin" not in reply.headers
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
        preflight = plain.call("OPTIONS", path, headers=FIREFOX | page | asked)
        assert preflight.status == 403
        assert "Access-Control-Allow-Origin" not in preflight.headers
    assert has_its_model_and_nothing_loaded(plain)


@pytest.mark.parametrize(
    "path",
    ["//api/tags", "/%2e%2e/api/tags", "/./api/tags", "/api/tags;x", "/api/%74ags", "/x/../api/tags", "/api/tags/"],
)
def test_x80_no_spelling_of_a_path_goes_around_the_host(plain: Server, path: str) -> None:
    """X-80, with `test_keyed_server`."""
    assert plain.get(path, headers={"Host": "evil.test"}).status == 403
    assert plain.get(path, headers={"Origin": "https://evil.test"}).status == 403
    assert plain.get(path).status in (301, 404)
    assert plain.get("/api/nope", headers={"X-Forwarded-Host": "localhost", "Host": "evil.test"}).status == 403


# --- addresses and proxies -----------------------------------------------------------------------------------------


RATE = 60
"""An hour, for each party; more than the other tests need."""


@pytest.fixture(scope="module")
def fronted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets in two addresses, and trusts one of them as a proxy."""
    place = tmp_path_factory.mktemp("fronted")
    folder.add(place / "models", "m", tiny_llama())
    with running(
        place,
        place / "models",
        LLAMERO_ALLOW_IPS=f"127.0.0.1,{PROXY}/32",
        LLAMERO_TRUSTED_PROXIES=PROXY,
        LLAMERO_RATE_LIMIT=f"{RATE}/h",
        OLLAMA_API_KEY="",
    ) as server:
        yield server


def ask(server: Server, source: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """One request from an address; underscores in the names of headers are dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10, source_address=(source, 0))
    try:
        lines = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, None if body is None else json.dumps(body), lines)
        response = connection.getresponse()
        return Reply(response.status, response.msg, response.read())
    finally:
        connection.close()


def test_an_empty_variable_is_no_key(fronted: Server) -> None:
    assert ask(fronted, "127.0.0.1", "GET", "/api/tags").status == 200
    assert "OLLAMA_API_KEY is empty and counts as not set" in fronted.log.read_text()


def refusals(server: Server) -> list[list[Any]]:
    """What the audit log has of each line."""
    path = server.home / ".ollama" / "llamero" / "audit.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [[line[name] for name in ("address", "key", "route", "status")] for line in lines]


COPY = {"source": "m", "destination": "copy"}
CLIENT = "198.18.7.7"


def test_x52_a_proxy_that_is_not_listed_may_use_models_and_not_manage_them(fronted: Server) -> None:
    """X-52, with the next one."""
    refused = ask(fronted, "127.0.0.1", "POST", "/api/copy", COPY, X_Forwarded_For=CLIENT)
    assert refused.status == 403
    assert "LLAMERO_TRUSTED_PROXIES" in refused.error
    assert "OLLAMA_API_KEY" in refused.error
    fronted.wait_until(lambda: ["127.0.0.1", "", "/api/copy", 403] in refusals(fronted))
    for path in ("/openapi.json", "/metrics", "/nope"):
        assert ask(fronted, "127.0.0.1", "GET", path, X_Forwarded_For=CLIENT).status == 403
    assert ask(fronted, "127.0.0.1", "POST", "/api/show", {"model": "m"}, X_Forwarded_For=CLIENT).status == 200
    assert ask(fronted, "127.0.0.1", "GET", "/api/tags", X_Real_IP=CLIENT).status == 200
    assert ask(fronted, "127.0.0.1", "POST", "/api/copy", COPY).status == 200
    assert CLIENT not in fronted.log.read_text()


def test_x52_a_listed_proxy_answers_for_what_it_forwards(fronted: Server) -> None:
    """X-52: the log then shows the client that it tells of; Host and Origin are still judged."""
    client = "198.18.9.9"
    spoofed = f"10.1.1.1, {client}"
    assert ask(fronted, PROXY, "POST", "/api/copy", COPY, X_Forwarded_For=spoofed).status == 200
    assert ask(fronted, PROXY, "GET", "/metrics", X_Forwarded_For=spoofed).status == 200
    assert ask(fronted, PROXY, "GET", "/", X_Forwarded_For=spoofed, Host="evil.test").status == 403
    assert ask(fronted, PROXY, "GET", "/", X_Forwarded_For=spoofed, Origin="https://evil.test").status == 403
    fronted.wait_until(lambda: fronted.log.read_text().count(client) == 4)
    assert "10.1.1.1" not in fronted.log.read_text()


def test_whoever_is_behind_a_proxy_is_not_at_this_machine(fronted: Server) -> None:
    """Where the models are is told to this machine alone, however much the proxy is trusted."""
    assert ask(fronted, "127.0.0.1", "GET", "/api/llamero/store").status == 200
    reply = ask(fronted, PROXY, "GET", "/api/llamero/store", X_Forwarded_For="127.0.0.1")
    assert (reply.status, reply.error) == (403, "only this machine is told where the models are")


@pytest.mark.parametrize(
    "claim", [{}, {"X_Forwarded_For": "127.0.0.1"}, {"X_Real_IP": PROXY}, {"Forwarded": "for=127.0.0.1"}]
)
def test_x54_an_address_that_is_not_listed_gets_nothing(fronted: Server, claim: dict[str, str]) -> None:
    """X-54, with `test_guard_with_keys`."""
    for method, path in (("GET", "/"), ("GET", "/api/version"), ("POST", "/api/show"), ("OPTIONS", "/api/tags")):
        reply = ask(fronted, STRANGER, method, path, {"model": "m"}, **claim)
        assert reply.status == 403
        assert "LLAMERO_ALLOW_IPS" in reply.error


def test_a_network_of_ipv6_is_one_party(fronted: Server) -> None:
    """Whoever has one of its addresses has as many as he likes: a rate for each would be none."""

    def come_from(address: str) -> int:
        return ask(fronted, PROXY, "GET", "/api/tags", X_Forwarded_For=address).status

    assert [come_from(f"2001:db8:1:2::{number:x}") for number in range(RATE + 1)] == [200] * RATE + [429]
    assert come_from("2001:db8:1:3::1") == 200


def test_a_list_that_leaves_this_machine_out_says_so_at_the_start_and_to_whoever_knocks(tmp_path: Path) -> None:
    with running(tmp_path, tmp_path / "models", LLAMERO_ALLOW_IPS="10.0.0.0/8") as server:
        warning = f"LLAMERO_ALLOW_IPS does not list 127.0.0.1: nothing on this machine can use {server.host}"
        assert warning in server.log.read_text()
        assert command(server.host, tmp_path)("list").err == (
            "Error: forbidden: this address may not connect: LLAMERO_ALLOW_IPS does not list 127.0.0.1; add it and "
            "start the server again\n"
        )
