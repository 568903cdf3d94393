"""HTTP conventions of the listener (native-api §1.1 to §1.4)."""

from __future__ import annotations

import hashlib
import socket

import pytest

from tests.running import Server


def test_n01_root_says_that_it_runs(server: Server) -> None:
    reply = server.get("/")
    assert (reply.status, reply.body) == (200, b"Ollama is running")
    assert reply.content_type == "text/plain; charset=utf-8"


def test_n02_head_of_root_has_the_length_and_no_body(server: Server) -> None:
    reply = server.call("HEAD", "/")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "17")


def test_n03_version_is_semver_without_a_leading_v(server: Server) -> None:
    reply = server.get("/api/version")
    assert reply.content_type == "application/json; charset=utf-8"
    assert list(reply.json()) == ["version"]
    assert [part.isdigit() for part in reply.json()["version"].split(".")] == [True] * 3
    head = server.call("HEAD", "/api/version")
    assert (head.status, head.body) == (200, b"")


def test_n04_unknown_paths_are_plain_text_404(server: Server) -> None:
    reply = server.get("/api/nope")
    assert (reply.status, reply.body, reply.content_type) == (404, b"404 page not found", "text/plain")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        pytest.param("GET", "/api/show", "POST", id="N-05"),
        pytest.param("POST", "/api/tags", "HEAD, GET", id="N-06 tags"),
        pytest.param("GET", "/api/blobs/x", "HEAD, POST", id="N-06 blobs"),
        pytest.param("POST", "/api/delete", "DELETE", id="N-06 delete"),
    ],
)
def test_wrong_methods_say_which_are_right(server: Server, method: str, path: str, allowed: str) -> None:
    reply = server.call(method, path)
    assert (reply.status, reply.headers["Allow"], reply.content_type) == (405, allowed, "text/plain")
    assert reply.body == b"405 method not allowed"


def test_n07_head_of_tags_is_served_and_of_others_not(server: Server) -> None:
    for path in ("/api/ps", "/api/status"):
        reply = server.call("HEAD", path)
        assert (reply.status, reply.headers["Allow"], reply.body) == (405, "GET", b"")
    assert server.call("HEAD", "/api/tags").status == 200


def test_n08_one_slash_too_many_is_redirected(server: Server) -> None:
    get, post = server.get("/api/tags/"), server.post("/api/show/", {})
    assert (get.status, get.headers["Location"]) == (301, "/api/tags")
    assert (post.status, post.headers["Location"], post.body) == (307, "/api/show", b"")
    assert server.get("/api/tags/?a=b").headers["Location"] == "/api/tags?a=b"


@pytest.mark.parametrize("path", ["/api//tags", "//api/tags", "/api/./tags", "/api/x/../tags"])
def test_untidy_paths_are_redirected_to_the_tidy_one(server: Server, path: str) -> None:
    reply = server.get(path)
    assert (reply.status, reply.headers["Location"]) == (301, "/api/tags")


@pytest.mark.parametrize(
    "path", ["/API/version", "/api/%76ersion", "/api/version;x", "/api/version%00", "/api/%2e%2e/"]
)
def test_n09_paths_are_matched_as_they_are_written(server: Server, path: str) -> None:
    assert server.get(path).status == 404


def test_n10_foreign_origins_are_refused_and_local_ones_echoed(server: Server) -> None:
    evil = server.get("/api/version", headers={"Origin": "http://evil.example"})
    assert (evil.status, evil.body) == (403, b"")
    near = server.get("/api/version", headers={"Origin": "http://localhost:3000"})
    assert near.status == 200
    assert near.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert near.headers["Vary"] == "Origin"


def test_cors_headers_are_on_errors_too(server: Server) -> None:
    reply = server.post("/api/chat", b"{", headers={"Origin": "http://localhost:3000"})
    assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (400, "http://localhost:3000")


def test_n12_options_without_an_origin(server: Server) -> None:
    assert server.call("OPTIONS", "/api/tags", headers={"Host": "localhost"}).status == 204
    assert server.call("OPTIONS", "/api/tags", headers={"Host": "127.0.0.1"}).status == 405
    assert server.call("OPTIONS", "/api/nope", headers={"Host": "127.0.0.1"}).status == 404


@pytest.mark.parametrize(("host", "status"), [("evil.example", 403), ("foo.local", 200), ("192.168.1.5", 200)])
def test_n13_the_host_must_be_ours_on_loopback(server: Server, host: str, status: int) -> None:
    reply = server.get("/api/version", headers={"Host": host})
    assert reply.status == status
    assert bool(reply.body) == (status == 200)


@pytest.mark.parametrize(("origin", "status"), [("chrome-extension://abc", 403), ("vscode-webview://abc", 200)])
def test_n14_browser_extensions_are_not_allowed_by_default(server: Server, origin: str, status: int) -> None:
    assert server.get("/api/version", headers={"Origin": origin}).status == status


def test_n15_the_content_type_of_a_body_decides_nothing(server: Server) -> None:
    reply = server.post("/api/show", {"model": "smollm2:135m"}, headers={"Content-Type": "text/plain"})
    assert (reply.status, reply.json()["details"]["family"]) == (200, "llama")


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/healthz"])
def test_no_reply_names_the_server_software(server: Server, path: str) -> None:
    assert "Server" not in server.get(path).headers


def test_health_is_one_word(server: Server) -> None:
    assert server.get("/healthz").json() == {"status": "ok"}


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    reply = server.post("/api/chat", headers={"Content-Length": str(100 * 2**20)})
    assert (reply.status, reply.error) == (413, f"request body too large (limit {64 * 2**20} bytes)")


def test_a_chunked_body_over_the_limit_is_refused_on_the_way(server: Server) -> None:
    def chunks() -> object:
        for _ in range(3):
            yield b" " * 2**20

    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", "/api/show", chunks(), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        reply = connection.getresponse()
        assert reply.status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server closed before we had sent it all
    finally:
        connection.close()


def test_an_answer_before_the_end_of_a_body_says_that_the_connection_ends(server: Server) -> None:
    """A client that is not told sends its next request into a connection that is being closed."""
    digest = f"sha256:{hashlib.sha256(b'known').hexdigest()}"
    assert server.post(f"/api/blobs/{digest}", b"known").status == 201
    head = f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for field, closes in [
        ("Transfer-Encoding: chunked", True),
        ("Content-Length: 999999", True),
        ("Content-Length: 9", False),
    ]:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(f"{head}{field}\r\n\r\n".encode())
            answer = connection.recv(4096).lower()
        assert answer.startswith(b"http/1.1 200"), field
        assert (b"\r\nconnection: close\r\n" in answer) == closes, field


def test_openapi_describes_every_route(server: Server) -> None:
    document = server.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]["/api/blobs/{digest}"]) == {"head", "post"}
    chat = document["paths"]["/api/chat"]["post"]
    assert chat["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatBody"}
    assert {"model", "messages", "options", "keep_alive"} <= set(
        document["components"]["schemas"]["ChatBody"]["properties"]
    )
