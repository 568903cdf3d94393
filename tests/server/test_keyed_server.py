"""A real server with API keys: what each route is to whom, and how it says no (security §6)."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders as folder
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, running

ADMIN, INFER, EXPIRED, WRONG = (f"{name}-0123456789abcdef" for name in ("admin", "infer", "expired", "wrong"))
KEYS_FILE = "home/.ollama/llamero/keys"
AUDIT_LOG = "home/.ollama/llamero/audit.log"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keyed")


@pytest.fixture(scope="module")
def keyed(place: Path) -> Iterator[Server]:
    """A server that shares, with keys of both origins. It trusts us as a proxy, so that we can come from anywhere."""
    folder.add(place / "models", "m", tiny_llama())
    folder.add(place / "models", "other", tiny_llama({"general.name": "other"}))
    path = place / KEYS_FILE
    path.parent.mkdir(parents=True)
    path.write_text(f"guest infer {INFER}\nformer admin {EXPIRED} expires=2020-01-01T00:00:00Z\n")
    path.chmod(0o600)
    with running(
        place,
        place / "models",
        OLLAMA_API_KEY=f"boss=admin:{ADMIN}",
        LLAMERO_SHARE="1",
        LLAMERO_TRUSTED_PROXIES="127.0.0.1",
    ) as server:
        yield server


_strangers = itertools.count(1)


def with_key(secret: str) -> dict[str, str]:
    """Headers of a client at an address of its own: an address has ten wrong keys a minute."""
    number = next(_strangers)
    address = {"X-Forwarded-For": f"198.18.{number >> 8}.{number & 255}"}
    return address | ({"Authorization": f"Bearer {secret}"} if secret else {})


# --- the matrix ----------------------------------------------------------------------------------------------------

FOR_EVERYBODY = """
GET /  HEAD /  GET /api/version  HEAD /api/version  GET /healthz  HEAD /healthz  GET /readyz  HEAD /readyz
"""
FOR_INFER = """
GET /api/tags  HEAD /api/tags  GET /api/ps  POST /api/show  GET /api/status
POST /api/generate  POST /api/chat  POST /api/embed  POST /api/embeddings  POST /api/rerank
POST /api/tokenize  POST /api/detokenize
POST /v1/chat/completions  POST /v1/completions  POST /v1/embeddings  POST /v1/rerank  POST /v1/audio/transcriptions
POST /v1/messages  POST /v1/messages/count_tokens
POST /v1/responses  POST /v1/responses/input_tokens  POST /v1/responses/compact  GET /v1/responses/{id}
DELETE /v1/responses/{id}  GET /v1/responses/{id}/input_items  POST /v1/responses/{id}/cancel
GET /v1/models  GET /v1/models/{model}  GET /v1/models/{namespace}/{model}  GET /v1/models/{host}/{namespace}/{model}
POST /api/experimental/web_search  POST /api/experimental/web_fetch  GET /api/experimental/model-recommendations
"""
FOR_THE_SHARE = """
GET /v2/  HEAD /v2/  GET /v2/_catalog  HEAD /v2/_catalog
GET /v2/{namespace}/{model}/tags/list  HEAD /v2/{namespace}/{model}/tags/list
GET /v2/{namespace}/{model}/manifests/{reference}  HEAD /v2/{namespace}/{model}/manifests/{reference}
GET /v2/{namespace}/{model}/blobs/{digest}  HEAD /v2/{namespace}/{model}/blobs/{digest}
GET /v2/{namespace}/{model}/blobs/uploads/  HEAD /v2/{namespace}/{model}/blobs/uploads/
GET /v2/{namespace}/{model}/blobs/uploads/{session}  HEAD /v2/{namespace}/{model}/blobs/uploads/{session}
"""
FOR_SIGNATURES = "GET /v2/token"
FOR_ADMIN = """
POST /api/pull  POST /api/push  POST /api/create  POST /api/copy  DELETE /api/delete
HEAD /api/blobs/{digest}  POST /api/blobs/{digest}
DELETE /v1/models/{model}  DELETE /v1/models/{namespace}/{model}  DELETE /v1/models/{host}/{namespace}/{model}
POST /api/me  POST /api/signout  DELETE /api/user/keys/{encodedKey}
GET /openapi.json  GET /metrics
GET /api/llamero/keys  POST /api/llamero/keys  DELETE /api/llamero/keys
GET /api/llamero/cache  DELETE /api/llamero/cache
GET /api/llamero/store  POST /api/llamero/usage  POST /api/llamero/prune  POST /api/llamero/move
POST /api/llamero/doctor  POST /api/llamero/update  POST /api/llamero/fit
GET /api/llamero/downloads  POST /api/llamero/downloads/cancel  POST /api/llamero/downloads/limit
GET /api/llamero/export  HEAD /api/llamero/export  POST /api/llamero/import
"""

SERVED = 200
"""Or whatever else its handler says: it was reached."""
CALLERS = ("", WRONG, EXPIRED, INFER, ADMIN)
MATRIX = {
    route: answers
    for routes, answers in (
        (FOR_EVERYBODY, [SERVED, SERVED, SERVED, SERVED, SERVED]),
        (FOR_INFER, [401, 401, 401, SERVED, SERVED]),
        (FOR_THE_SHARE, [401, 401, 401, SERVED, SERVED]),
        (FOR_SIGNATURES, [401, 401, 401, 401, 401]),
        (FOR_ADMIN, [401, 401, 401, 403, SERVED]),
    )
    for route in re.findall(r"[A-Z]+ \S+", routes)
}


def table(server: Server) -> list[str]:
    """Every route that the server has, from its own description."""
    paths = server.get("/openapi.json", headers=with_key(ADMIN)).json()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def message(reply: Reply) -> str:
    error = reply.json()
    error = error["errors"][0] if "errors" in error else error["error"]
    return str(error if isinstance(error, str) else error["message"])


def answer(reply: Reply, method: str) -> int:
    """401 or 403 where the guard or the share has refused; a handler may use these statuses for things of its own."""
    if reply.status == 401 and "WWW-Authenticate" in reply.headers:
        return 401
    if reply.status == 403 and (method == "HEAD" or message(reply) == "forbidden"):
        return 403
    return SERVED


def test_x41_every_route_is_for_whom_the_matrix_says(keyed: Server) -> None:
    """X-41: a new route needs an entry above. X-53, with the next one: metrics and the description are for admins."""
    routes = table(keyed)
    assert set(routes) == set(MATRIX)
    found = {}
    for route in routes:
        method, _, path = route.partition(" ")
        path = re.sub(r"\{\w+\}", "x", path.replace("{digest}", f"sha256:{'0' * 64}"))
        found[route] = [answer(keyed.call(method, path, headers=with_key(secret)), method) for secret in CALLERS]
    assert found == MATRIX


def test_x42_a_path_that_is_none_needs_a_key_too(keyed: Server) -> None:
    """X-42; X-53, with the one before: there is nothing to debug with."""
    for path in "/nope /api/nope /v1/nope /v2x /api/llamero/nope /debug /docs /API/tags /.env".split():
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            answers = [keyed.call(method, path, headers=with_key(secret)).status for secret in CALLERS]
            assert answers == [401, 401, 401, 403, 404], (method, path)


# --- forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "tags", "delete"), [(ADMIN, 200, 404), (INFER, 200, 403), (WRONG, 401, 401), (EXPIRED, 401, 401)]
)
def test_x43_both_headers_are_equal(keyed: Server, secret: str, tags: int, delete: int) -> None:
    """X-43, with the next two and `test_guard_with_keys`."""
    forms = [
        {"Authorization": f"Bearer {secret}"},
        {"authorization": f"bearer {secret}"},
        {"x-api-key": secret},
        {"X-API-Key": secret, "Authorization": f"Bearer {secret}"},
    ]
    for form in forms:
        headers = with_key("") | form
        assert keyed.get("/api/tags", headers=headers).status == tags
        assert keyed.get("/v1/models", headers=headers).status == tags
        assert keyed.get("/v2/", headers=headers).status == tags
        assert keyed.call("DELETE", "/api/delete", {"model": "none"}, headers=headers).status == delete


def test_x43_two_different_keys_are_a_bad_request(keyed: Server) -> None:
    """X-43, with the one before."""
    headers = with_key(ADMIN) | {"x-api-key": INFER}
    for path in ("/", "/api/tags", "/v1/models", "/v1/messages", "/v2/", "/nope"):
        assert keyed.get(path, headers=headers).status == 400


@pytest.mark.parametrize("query", [f"api_key={ADMIN}", f"key={ADMIN}", f"token={ADMIN}", f"access_token={ADMIN}"])
def test_x43_a_key_is_in_a_header_or_nowhere(keyed: Server, query: str) -> None:
    """X-43, with the ones before: neither query, cookie nor body."""
    for path in ("/api/tags", "/v1/models", "/v2/"):
        assert keyed.get(f"{path}?{query}", headers=with_key("") | {"Cookie": query}).status == 401
    assert keyed.post("/api/show", {"model": "m", "api_key": ADMIN}, headers=with_key("")).status == 401


# --- refusals ------------------------------------------------------------------------------------------------------

OPENAI_401 = {
    "error": {
        "message": "Incorrect API key provided.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}


def test_x45_refusals_of_the_native_routes(keyed: Server) -> None:
    """X-45, with the ones after."""
    for route in ("POST /api/chat", "DELETE /api/delete", "PUT /api/delete", "GET /api/nope", "GET /metrics"):
        nobody = keyed.call(*route.split(), headers=with_key(""))
        assert (nobody.status, nobody.json()) == (401, {"error": "unauthorized"})
        assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="llamero"'
        assert nobody.content_type == "application/json; charset=utf-8"
    guest = keyed.post("/api/pull", {}, headers=with_key(INFER))
    assert (guest.status, guest.json()) == (403, {"error": "forbidden"})


def test_x45_refusals_of_openai_s_routes(keyed: Server) -> None:
    """X-45."""
    for route in ("POST /v1/chat/completions", "GET /v1/models", "POST /v1/rerank", "GET /v1/x"):
        nobody = keyed.call(*route.split(), headers=with_key(""))
        assert (nobody.status, nobody.json()) == (401, OPENAI_401)
        assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="llamero"'
        assert nobody.headers["x-request-id"]
    guest = keyed.call("DELETE", "/v1/models/m", headers=with_key(INFER))
    error = {"message": "forbidden", "type": "invalid_request_error", "param": None, "code": None}
    assert (guest.status, guest.json()) == (403, {"error": error})


def test_x45_refusals_of_anthropic_s_routes(keyed: Server) -> None:
    """X-45."""
    for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/x"):
        nobody = keyed.post(path, {}, headers=with_key(""))
        error = {"type": "authentication_error", "message": "invalid x-api-key"}
        assert nobody.status == 401
        assert nobody.json() == {"type": "error", "error": error, "request_id": nobody.headers["request-id"]}
        assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="llamero"'
    guest = keyed.post("/v1/messages/x", {}, headers=with_key(INFER))
    assert (guest.status, guest.json()["error"]) == (403, {"type": "permission_error", "message": "forbidden"})


@pytest.mark.parametrize(
    ("route", "secret", "status", "type_"),
    [
        ("GET /v1/models", "", 401, "authentication_error"),
        ("GET /v1/models", WRONG, 401, "authentication_error"),
        ("GET /v1/models/m", "", 401, "authentication_error"),
        ("GET /v1/x", "", 401, "authentication_error"),
        ("DELETE /v1/models/m", INFER, 403, "permission_error"),
        ("GET /v1/models/nope", ADMIN, 404, "not_found_error"),
        ("GET /v1/x", ADMIN, 404, "not_found_error"),
        ("POST /v1/models", ADMIN, 405, "invalid_request_error"),
    ],
)
def test_who_speaks_anthropics_api_is_refused_in_it_on_paths_that_both_have(
    keyed: Server, route: str, secret: str, status: int, type_: str
) -> None:
    reply = keyed.call(*route.split(), headers=with_key(secret) | {"anthropic-version": "2023-06-01"})
    assert (reply.status, reply.json()["error"]["type"]) == (status, type_)
    assert reply.json()["request_id"] == reply.headers["request-id"]
    assert "x-request-id" not in reply.headers


def test_openai_s_own_routes_stay_in_its_form(keyed: Server) -> None:
    headers = with_key("") | {"anthropic-version": "2023-06-01"}
    assert keyed.post("/v1/chat/completions", {}, headers=headers).json() == OPENAI_401


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("secret", ["", INFER])
def test_x45_the_body_of_a_refused_request_is_not_read(keyed: Server, framing: bytes, secret: str) -> None:
    """X-45: a gigabyte is announced; the refusal comes before a byte of it, and then the connection ends."""
    key = f"Authorization: Bearer {secret}\r\n".encode() if secret else b""
    head = b"POST /api/create HTTP/1.1\r\nHost: localhost\r\n" + key + framing + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", keyed.port), timeout=10) as connection:
        connection.sendall(head)
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        assert reply.status == (403 if secret else 401)
        assert reply.getheader("Connection") == "close"
        assert reply.read()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(bytes(100 * 2**20))


def test_a_small_body_leaves_the_connection_open(keyed: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", keyed.port, timeout=10)
    for _ in range(3):
        connection.request("POST", "/api/chat", json.dumps({"model": "m"}), with_key(""))
        reply = connection.getresponse()
        assert (reply.status, reply.getheader("Connection")) == (401, None)
        reply.read()
    connection.close()


# --- paths that are not what they seem -----------------------------------------------------------------------------

DISGUISED = (
    "//api/delete",
    "/api//delete",
    "/./api/delete",
    "/api/x/../delete",
    "/v1/../api/delete",
    "/%2e%2e/api/delete",
    "/api/%64elete",
    "/api/%2e%2e/api/delete",
    "/api/delete;x",
    "/api/delete;/api/version",
    "/api/version/../delete",
    "/api/version%2f..%2fdelete",
    "/api/delete%00",
    "/api/delete/",
    "/API/DELETE",
    "/api/delete%3f",
)


@pytest.mark.parametrize("path", DISGUISED)
def test_x80_no_spelling_of_a_path_goes_around_the_key(keyed: Server, path: str) -> None:
    """X-80, with the next ones: nobody without a key reaches anything, and an admin at most a redirect."""
    body = {"model": "m"}
    for method in ("DELETE", "POST", "GET"):
        answers = [keyed.call(method, path, body, headers=with_key(secret)).status for secret in ("", WRONG, INFER)]
        assert answers == [401, 401, 403]
        assert keyed.call(method, path, body, headers=with_key(ADMIN)).status in (301, 307, 400, 404)
    assert keyed.post("/api/show", body, headers=with_key(INFER)).status == 200


@pytest.mark.parametrize("path", ["//api/tags", "/api/tags/", "/api/./tags"])
def test_a_user_is_led_to_the_tidy_path(keyed: Server, path: str) -> None:
    """As without keys: some clients put their paths behind a base URL that ends with a slash."""
    led = keyed.get(path, headers=with_key(INFER))
    assert (led.status, led.headers["Location"]) == (301, "/api/tags")
    assert keyed.post("//api/show", {"model": "m"}, headers=with_key(INFER)).status == 307
    assert keyed.get(path).status == keyed.get("//api/version").status == 401


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "X-Original-URL"])
def test_x80_no_header_stands_for_a_method_or_a_path(keyed: Server, name: str) -> None:
    """X-80."""
    for value in ("DELETE", "/api/version"):
        headers = with_key(INFER) | {name: value}
        assert keyed.post("/v1/models/m", {}, headers=headers).status == 405
        assert keyed.call("DELETE", "/api/delete", {"model": "m"}, headers=headers).status == 403
        assert keyed.get("/api/tags", headers=with_key("") | {name: value}).status == 401
    assert keyed.get("/v1/models/m", headers=with_key(INFER)).status == 200


# --- the audit log -------------------------------------------------------------------------------------------------


def audited(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / AUDIT_LOG).read_text().splitlines()]


def test_what_was_managed_stands_in_the_audit_log(keyed: Server, place: Path) -> None:
    """Security §12: a model that is replaced by another under its name, with the digests of both."""
    digests = {
        model["model"]: f"sha256:{model['digest']}"
        for model in keyed.get("/api/tags", headers=with_key(ADMIN)).json()["models"]
    }
    before = len(audited(place))
    headers = with_key(ADMIN)
    assert keyed.post("/api/copy", {"source": "m", "destination": "copy"}, headers=headers).status == 200
    assert keyed.post("/api/copy", {"source": "other", "destination": "copy"}, headers=headers).status == 200
    made = keyed.post("/api/create", {"model": "copy", "from": "m", "system": "New."}, headers=headers)
    assert made.lines()[-1] == {"status": "success"}
    assert keyed.call("DELETE", "/api/delete", {"model": "copy"}, headers=headers).status == 200
    keyed.wait_until(lambda: len(audited(place)) == before + 4)  # a line follows its reply
    lines = audited(place)[before:]
    name = "registry.ollama.ai/library/copy:latest"
    changes = [(line["route"], line["model"], line.get("old"), line.get("new")) for line in lines]
    made_digest = lines[2]["new"]
    assert changes == [
        ("/api/copy", name, None, digests["m:latest"]),
        ("/api/copy", name, digests["m:latest"], digests["other:latest"]),
        ("/api/create", "copy", digests["other:latest"], made_digest),
        ("/api/delete", name, made_digest, None),
    ]
    assert made_digest not in (None, *digests.values())
    assert {(line["key"], line["address"], line["status"]) for line in lines} == {
        ("boss", headers["X-Forwarded-For"], 200)
    }


def test_no_secret_is_written_anywhere(keyed: Server, place: Path) -> None:
    """Partly X-89."""
    keyed.get(f"/{WRONG}x?key={WRONG}", headers=with_key(WRONG))
    texts = (keyed.log.read_text(), (place / AUDIT_LOG).read_text())
    for secret in (ADMIN, INFER, EXPIRED):
        assert not any(secret in text for text in texts)
    assert "API keys are required: they come from OLLAMA_API_KEY and" in texts[0]


def test_the_log_shows_the_client_that_a_trusted_proxy_tells_of(keyed: Server) -> None:
    """Partly X-52."""
    headers = with_key(ADMIN)
    keyed.get("/api/tags", headers=headers)
    keyed.wait_until(lambda: headers["X-Forwarded-For"] in keyed.log.read_text())


# --- while it runs -------------------------------------------------------------------------------------------------


def test_x47_keys_come_and_go_with_sighup(tmp_path: Path) -> None:
    """X-47, with `test_start` and `test_keys`."""
    path = tmp_path / KEYS_FILE
    path.parent.mkdir(parents=True)

    def write(text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)

    def may(server: Server, secret: str) -> bool:
        return server.get("/api/tags", headers={"Authorization": f"Bearer {secret}"}).status == 200

    write(f"al admin {ADMIN}\n")
    with running(tmp_path, tmp_path / "models") as server:
        assert (may(server, ADMIN), may(server, INFER)) == (True, False)
        write(f"bo infer {INFER}\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: may(server, INFER))
        assert not may(server, ADMIN)
        write("nonsense\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: "key file, line 1" in server.log.read_text())
        assert may(server, INFER)
