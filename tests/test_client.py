"""The client of our own API: what it sends, what it makes of replies and failures (cli §1, §1.1, §9; native-api §3)."""

from __future__ import annotations

import base64
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from llamero import API_LEVEL
from llamero.client import MAX_LINE_BYTES, Ask, Client, Metrics, Part, Proxies, bearer
from llamero.config import HostUrl, parse_host
from llamero.durations import FOREVER, MINUTE
from llamero.errors import ClientError, ServerAnswered, ServerRefused
from llamero.messages import Progress, ToolCall
from tests.cli.scripted_server import Reply, ScriptedServer, chatted, generated, shown


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Client:
    return Client(parse_host(server.address)[0])


# --- requests ------------------------------------------------------------------------------------------------------


def test_every_request_says_who_asks(client: Client, server: ScriptedServer) -> None:
    client.heartbeat()
    headers = server.requests[0].headers
    assert headers["User-Agent"].startswith(f"ollama/{API_LEVEL} (")
    assert (headers["Content-Type"], headers["Accept"]) == ("application/json", "application/json")
    assert "Authorization" not in headers


def test_a_stream_is_asked_for_as_such(client: Client, server: ScriptedServer) -> None:
    server.replies["POST /api/generate"] = generated("a")
    list(client.generate(Ask(model="m"), "p"))
    assert server.requests[0].headers["Accept"] == "application/x-ndjson"


@pytest.mark.parametrize(
    ("setting", "secret"),
    [
        ("", ""),
        ("just-one-secret", "just-one-secret"),
        ("infer:one, admin:two ,admin:three", "two"),
        ("bob=infer:one,eve=admin:two", "two"),
        ("infer:one", "one"),
        ("has:colon", "has:colon"),
        ("infer:one,plain", "plain"),
        ("admin:two:halves", "two:halves"),
        ("no name=admin:two", "no name=admin:two"),
    ],
)
def test_the_first_admin_secret_is_sent(setting: str, secret: str) -> None:
    assert bearer(setting) == secret


def test_the_key_goes_out_as_a_bearer_token(server: ScriptedServer) -> None:
    Client(parse_host(server.address)[0], "infer:x,admin:s3cret").heartbeat()
    assert server.requests[0].headers["Authorization"] == "Bearer s3cret"


def test_name_and_password_of_the_address_are_basic_auth_beside_the_key(server: ScriptedServer) -> None:
    host = parse_host(f"http://us%40er:pass@{server.address}")[0]
    Client(host, "key").heartbeat()
    headers = server.requests[0].headers
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"us@er:pass").decode()
    assert headers["x-api-key"] == "key"
    assert "pass" not in repr(host) + host.url


def test_a_base_path_stands_before_every_route(server: ScriptedServer) -> None:
    server.replies["GET /some%20where/api/version"] = Reply(json={"version": "1"})
    assert Client(parse_host(f"http://{server.address}/some where/")[0]).version() == "1"


def test_only_what_was_set_is_sent() -> None:
    assert Ask(model="m").fields() == {"model": "m"}
    ask = Ask(model="m", options={"seed": 1}, format={"type": "object"}, think=False, keep_alive_ns=10 * MINUTE)
    assert ask.fields() == {
        "model": "m",
        "options": {"seed": 1},
        "format": {"type": "object"},
        "think": False,
        "keep_alive": "10m0s",
    }


@pytest.mark.parametrize(("ns", "sent"), [(0, "0s"), (-MINUTE, -1), (FOREVER, -1), (90 * MINUTE, "1h30m0s")])
def test_keep_alive_on_the_wire(ns: int, sent: str | int) -> None:
    assert Ask(model="m", keep_alive_ns=ns).fields()["keep_alive"] == sent


def test_routes_and_bodies(client: Client, server: ScriptedServer) -> None:
    for route in ("POST /api/copy", "DELETE /api/delete"):
        server.replies[route] = Reply()
    server.replies["POST /api/generate"] = Reply(json={"model": "a", "response": "", "done": True})
    server.replies["POST /api/show"] = shown()
    server.replies["POST /api/embed"] = Reply(json={"embeddings": [[0.5, 1]]})
    client.copy("a", "b")
    client.delete("a")
    client.unload("a")
    client.show("a", verbose=True, system="S", options={"seed": 1})
    assert client.embed("a", "text", truncate=False, dimensions=2) == [[0.5, 1]]
    assert [(request.route, request.body) for request in server.requests] == [
        ("POST /api/copy", {"source": "a", "destination": "b"}),
        ("DELETE /api/delete", {"model": "a"}),
        ("POST /api/generate", {"model": "a", "keep_alive": "0s"}),
        ("POST /api/show", {"model": "a", "verbose": True, "system": "S", "options": {"seed": 1}}),
        ("POST /api/embed", {"model": "a", "input": "text", "truncate": False, "dimensions": 2}),
    ]


def test_blobs(client: Client, server: ScriptedServer) -> None:
    server.replies |= {
        "HEAD /api/blobs/sha256:aa": Reply(),
        "HEAD /api/blobs/sha256:bb": Reply(404),
        "POST /api/blobs/sha256:bb": Reply(201),
    }
    assert client.has_blob("sha256:aa")
    assert not client.has_blob("sha256:bb")
    client.upload_blob("sha256:bb", io.BytesIO(b"\x00content"), 8)
    assert server.body("POST /api/blobs/sha256:bb") == b"\x00content"


def test_an_early_answer_to_an_upload_is_heard() -> None:
    """A server that knows the blob (or refuses us) answers and hangs up without reading the content."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(1024)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 21\r\n\r\n" + b'{"error": "too late"}')
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(2**20):
            pass
        connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = Client(HostUrl("http", "127.0.0.1", listener.getsockname()[1]))
    with listener, pytest.raises(ServerAnswered, match="too late"):
        client.upload_blob("sha256:aa", io.BytesIO(bytes(2**22)), 2**22)
    thread.join()


# --- replies -------------------------------------------------------------------------------------------------------


def test_lists(client: Client, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(
        json={
            "models": [
                {
                    "name": "a:latest",
                    "digest": "d" * 64,
                    "size": 5,
                    "modified_at": "2026-08-21T10:00:00.123456789+02:00",
                },
                {"name": "b", "remote_model": "b", "size": None},
            ]
        }
    )
    first, second = client.tags()
    assert first.modified_at == datetime(2026, 8, 21, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert (first.name, first.digest, first.size_bytes, first.is_remote) == ("a:latest", "d" * 64, 5, False)
    assert (second.size_bytes, second.modified_at, second.is_remote) == (0, datetime(1, 1, 1, tzinfo=UTC), True)


def test_an_answer_of_generate(client: Client, server: ScriptedServer) -> None:
    last = {"response": "!", "done": True, "total_duration": 9, "prompt_eval_count": 3, "eval_count": 2}
    server.replies["POST /api/generate"] = Reply(lines=[{"response": "", "thinking": "hm"}, {"response": "hi"}, last])
    parts = list(client.generate(Ask(model="m"), "p", images=[b"\xff"]))
    assert server.body("POST /api/generate") == {"model": "m", "prompt": "p", "images": ["/w=="]}
    assert parts == [Part(thinking="hm"), Part("hi"), Part("!", metrics=Metrics(9, 0, 3, 0, 2, 0))]


def test_an_answer_of_chat_with_a_tool_call(client: Client, server: ScriptedServer) -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    chunk = {"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False}
    server.replies["POST /api/chat"] = Reply(lines=[chunk, {"message": {"content": "x"}, "done": True}])
    first, last = client.chat(Ask(model="m"), [{"role": "user", "content": "hi"}])
    assert first.tool_calls == (ToolCall("f", {"a": 1}),)
    assert (last.text, last.metrics) == ("x", Metrics(0, 0, 0, 0, 0, 0))


def test_progress(client: Client, server: ScriptedServer) -> None:
    bar = {"status": "pulling aa", "digest": "sha256:aa", "total": 7, "completed": 3}
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "pulling manifest"}, bar, {"status": "success"}])
    assert list(client.pull("m", insecure=True)) == [
        Progress("pulling manifest"),
        Progress("pulling aa", "sha256:aa", 7, 3),
        Progress("success"),
    ]
    assert server.body("POST /api/pull") == {"model": "m", "insecure": True}


@pytest.mark.parametrize("reply", [Reply(lines=[{"response": "half"}]), Reply(lines=[])], ids=["half", "nothing"])
def test_an_answer_without_its_end_is_an_error(client: Client, server: ScriptedServer, reply: Reply) -> None:
    server.replies["POST /api/generate"] = reply
    with pytest.raises(ClientError, match="before the answer was complete"):
        list(client.generate(Ask(model="m"), "p"))


def test_a_pull_without_success_is_an_error(client: Client, server: ScriptedServer) -> None:
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "writing manifest"}])
    with pytest.raises(ClientError, match="writing manifest"):
        list(client.pull("m"))


def test_warnings_are_told_once(server: ScriptedServer) -> None:
    told: list[str] = []
    client = Client(parse_host(server.address)[0], warn=told.append)
    server.replies["POST /api/chat"] = chatted("hi", warnings=["first", "second"])
    server.replies["POST /api/chat"].headers = {"Llamero-Warning": "first"}  # type: ignore[union-attr]
    list(client.chat(Ask(model="m"), []))
    server.replies["POST /api/show"] = Reply(json={}, headers={"Llamero-Warning": "third"})
    client.show("m")
    server.replies["POST /api/embed"] = Reply(
        json={"embeddings": [], "warnings": ["fourth"]}, headers={"Llamero-Warning": "fourth"}
    )
    client.embed("m", "x")
    assert told == ["first", "second", "third", "fourth"]


# --- failures ------------------------------------------------------------------------------------------------------

PLAIN_ERRORS = [
    pytest.param(Reply(404, json={"error": "model 'x' not found"}), "model 'x' not found", id="json"),
    pytest.param(Reply(404, text="404 page not found"), "404 page not found", id="text"),
    pytest.param(Reply(500), "something went wrong, please see the ollama server logs for details", id="empty"),
    pytest.param(
        Reply(502), "502 Bad Gateway: a proxy answers, but the server behind it does not; is it running?", id="proxy"
    ),
    pytest.param(Reply(403, text="<b>no\n"), "<b>no", id="html"),
    pytest.param(
        Reply(401, json={"error": "unauthorized"}), "unauthorized: set OLLAMA_API_KEY to a key of this server", id="key"
    ),
    pytest.param(
        Reply(401, text="<html>401 Authorization Required</html>", headers={"WWW-Authenticate": 'Basic realm="x"'}),
        "unauthorized: a proxy wants a name and a password; put user:password@ before the host in OLLAMA_HOST",
        id="login",
    ),
]


@pytest.mark.parametrize(("reply", "message"), PLAIN_ERRORS)
def test_errors_of_plain_calls(client: Client, server: ScriptedServer, reply: Reply, message: str) -> None:
    server.replies["POST /api/show"] = reply
    with pytest.raises(ServerAnswered) as error:
        client.show("x")
    assert (str(error.value), error.value.status) == (message, reply.status)


def test_a_link_to_sign_in_comes_with_its_error(client: Client, server: ScriptedServer) -> None:
    """The server's own words then, since no key of its own is missing; streaming too."""
    nobody = Reply(401, json={"error": "unauthorized", "signin_url": "https://ollama.com/connect?key=x"})
    server.replies["POST /api/me"] = server.replies["POST /api/generate"] = nobody
    for call, text in (
        (client.me, "unauthorized"),
        (lambda: list(client.generate(Ask(model="m"), "p")), "401 Unauthorized: unauthorized"),
    ):
        with pytest.raises(ServerAnswered) as error:
            call()
        assert (str(error.value), error.value.status) == (text, 401)
        assert error.value.signin_url == "https://ollama.com/connect?key=x"


STREAM_ERRORS = [
    pytest.param(Reply(404, json={"error": "no x"}), "404 Not Found: no x", 404, id="json"),
    pytest.param(Reply(502, text="bad"), "502 Bad Gateway: bad", 502, id="text"),
    pytest.param(Reply(500), "500 Internal Server Error", 500, id="empty"),
    pytest.param(Reply(lines=[{"response": "a"}, {"error": "broke"}]), "broke", 500, id="in the stream"),
]


@pytest.mark.parametrize(("reply", "message", "status"), STREAM_ERRORS)
def test_errors_of_streams(client: Client, server: ScriptedServer, reply: Reply, message: str, status: int) -> None:
    server.replies["POST /api/generate"] = reply
    with pytest.raises(ServerAnswered) as error:
        list(client.generate(Ask(model="m"), "p"))
    assert (str(error.value), error.value.status) == (message, status)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"hello\n", "not JSON: hello"),
        (b"[1]\n", "not a JSON object"),
        (b" " * (MAX_LINE_BYTES + 1), "longer than 8000000"),
    ],
    ids=["no json", "no object", "too long"],
)
def test_lines_that_mean_nothing(client: Client, server: ScriptedServer, line: bytes, message: str) -> None:
    server.replies["POST /api/generate"] = Reply(lines=[line])
    with pytest.raises(ClientError, match=message):
        list(client.generate(Ask(model="m"), "p"))


def test_a_line_of_eight_million_bytes_is_read(client: Client, server: ScriptedServer) -> None:
    text = "x" * (MAX_LINE_BYTES - 100)
    server.replies["POST /api/generate"] = generated(text)
    assert next(iter(client.generate(Ask(model="m"), "p"))).text == text


def test_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(ServerRefused, match=f"nothing answers at http://127.0.0.1:{port}"):
            Client(HostUrl("http", "127.0.0.1", port)).heartbeat()


def test_a_connection_that_breaks_names_what_was_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        host = HostUrl("http", "127.0.0.1", listener.getsockname()[1])
        with pytest.raises(ClientError) as error:
            Client(host).call("GET", "/api/tags")
        thread.join()
    assert str(error.value).startswith(f'Get "{host.url}/api/tags": ')


def test_a_silent_server_is_given_up_when_a_limit_was_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client(HostUrl("http", "127.0.0.1", listener.getsockname()[1]), timeout_s=0.05)
        with pytest.raises(ClientError, match="timed out; check the address in OLLAMA_HOST"):
            client.heartbeat()


def test_a_whole_answer_has_its_limit(server: ScriptedServer) -> None:
    """A word now and then is an answer that goes on, and does not prolong it."""
    never = threading.Event()
    server.replies["POST /api/generate"] = Reply(lines=[{"response": "a"}, never])
    client = Client(parse_host(server.address)[0], answer_limit_s=0.1)
    parts = client.generate(Ask(model="m"), "p")
    assert next(parts).text == "a"
    with pytest.raises(ClientError, match="timed out") as caught:
        next(parts)
    assert isinstance(caught.value.__cause__, TimeoutError)
    server.replies["POST /api/generate"] = generated("a", "b")
    assert len(list(client.generate(Ask(model="m"), "p"))) == 3
    never.set()


def test_a_redirection_is_not_followed(client: Client, server: ScriptedServer) -> None:
    server.replies["GET /api/tags"] = Reply(308, headers={"Location": "https://elsewhere/"})
    with pytest.raises(ServerAnswered, match="308: moved to https://elsewhere/; use that address"):
        client.tags()


def test_a_key_that_no_request_can_carry_is_not_repeated() -> None:
    with pytest.raises(ClientError, match="OLLAMA_API_KEY") as caught:
        Client(parse_host("h")[0], "hid\nden")
    assert "hid" not in str(caught.value)


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ClientError, match="ftp:// is not spoken here"):
        Client(parse_host("ftp://x")[0]).heartbeat()


def test_leaving_a_stream_hangs_up(client: Client, server: ScriptedServer) -> None:
    """Ctrl+C ends the loop over an answer; the server must see it at once."""
    server.replies["POST /api/generate"] = Reply(lines=[{"response": "a"}, threading.Event()])
    with closing(client.generate(Ask(model="m"), "p")) as parts:
        assert next(parts).text == "a"
        assert not server.disconnected.is_set()
    assert server.disconnected.wait(1)


# --- other ways there ----------------------------------------------------------------------------------------------


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        asked: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            asked.append(connection.recv(65536))
            connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"version":"1"}')
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert Client(parse_host(f"unix://{path}")[0]).version() == "1"
        thread.join()
    assert asked[0].startswith(b"GET /api/version HTTP/1.1\r\n")
    path.unlink()
    with pytest.raises(ServerRefused):
        Client(parse_host(f"unix://{path}")[0]).version()


PROXIED = Proxies("http://p:3128", "s:1", ("internal", ".corp", "10.0.0.0/8", "one.example:8080", "::5"))


@pytest.mark.parametrize(
    ("host", "proxy"),
    [
        pytest.param("http://example.com", "http://p:3128", id="http"),
        pytest.param("https://example.com", "http://s:1", id="https"),
        pytest.param("127.0.0.1", "", id="L-22 loopback"),
        pytest.param("127.9.9.9:1", "", id="L-22 all of loopback"),
        pytest.param("[::1]:1", "", id="L-22 loopback v6"),
        pytest.param("localhost:1", "", id="L-22 localhost"),
        pytest.param("0.0.0.0:1", "", id="L-22 unspecified"),
        pytest.param("internal", "", id="a name"),
        pytest.param("host.internal", "", id="below a name"),
        pytest.param("notinternal", "http://p:3128", id="only an ending alike"),
        pytest.param("a.corp", "", id="below a domain"),
        pytest.param("corp", "http://p:3128", id="not the domain itself"),
        pytest.param("10.1.2.3", "", id="a network"),
        pytest.param("11.1.2.3", "http://p:3128", id="another network"),
        pytest.param("http://one.example:8080", "", id="with the port"),
        pytest.param("http://one.example:81", "http://p:3128", id="another port"),
        pytest.param("[::5]", "", id="an IPv6 address"),
    ],
)
def test_which_proxy_is_asked(host: str, proxy: str) -> None:
    assert PROXIED.for_host(parse_host(host)[0].for_clients) == proxy


def test_proxies_come_from_either_case_of_the_variables() -> None:
    env = {"http_proxy": "a", "HTTPS_PROXY": "b", "https_proxy": "c", "no_proxy": " X , ,y "}
    assert Proxies.from_env(env) == Proxies("a", "b", ("x", "y"))
    assert Proxies("a", "b", ("*",)).for_host(parse_host("http://x")[0]) == ""


def test_a_proxy_gets_the_whole_address_and_its_own_password(server: ScriptedServer) -> None:
    server.replies["GET http://far.example:80/x/api/version"] = Reply(json={"version": "2"})
    proxies = Proxies(http=f"http://me:secret@{server.address}")
    assert Client(parse_host("http://far.example/x")[0], proxies=proxies).version() == "2"
    assert server.requests[0].headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Certificate and key of example.com, which this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    monkeypatch.setenv("SSL_CERT_FILE", str(paths[0]))
    return paths


def test_https_goes_through_a_tunnel(certificate: tuple[Path, Path]) -> None:
    """L-20: what is asked of example.com:443, seen from a proxy that plays both."""
    asked: list[bytes] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def serve() -> None:
        connection, _ = listener.accept()
        asked.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as secure:
            asked.append(secure.recv(65536))
            secure.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"models":[]}')

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        proxies = Proxies(https=f"http://me:secret@127.0.0.1:{listener.getsockname()[1]}")
        assert Client(parse_host("https://example.com/ollama")[0], proxies=proxies).tags() == []
        thread.join()
    assert asked[0].startswith(b"CONNECT example.com:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic " in asked[0]
    assert asked[1].startswith(b"GET /ollama/api/tags HTTP/1.1\r\n")
    assert b"Proxy-Authorization" not in asked[1]


def test_a_proxy_without_tunnels_is_named(server: ScriptedServer) -> None:
    client = Client(parse_host("https://far.example")[0], proxies=Proxies(https=server.address))
    with pytest.raises(ClientError) as error:
        client.version()
    text = str(error.value)
    assert text.startswith(f'Get "https://far.example:443/api/version" through the proxy {server.address}: ')
    assert "501" in text


@pytest.mark.parametrize("proxy", ["socks5://p:1", "http://p:abc", "https://me:secret@p"])
def test_an_unusable_proxy_is_said_without_its_password(proxy: str) -> None:
    with pytest.raises(ClientError, match="unusable proxy") as error:
        Client(parse_host("http://far.example")[0], proxies=Proxies(http=proxy))
    assert "secret" not in str(error.value)


def test_a_host_name_that_cannot_be_one() -> None:
    with pytest.raises(ClientError, match=r'Head "http://a\.\.b:80/": '):
        Client(parse_host("http://a..b")[0]).heartbeat()


def test_replies_of_odd_shapes_do_no_harm(client: Client, server: ScriptedServer) -> None:
    odd = {"details": 5, "capabilities": "x", "tensors": {"a": 1}, "projector_info": [1], "model_info": 7, "license": 3}
    server.replies |= {
        "POST /api/show": Reply(json=odd),
        "GET /api/tags": Reply(json={"models": "none"}),
        "GET /api/ps": Reply(json={"models": [1, {"name": None, "size": "big"}]}),
        "POST /api/chat": Reply(lines=[{"message": "x", "done": True}]),
    }
    shown_model = client.show("m")
    assert (shown_model.details, shown_model.capabilities, shown_model.model_info) == ({}, [], None)
    assert client.tags() == []
    assert client.ps().models[0].size_bytes == 0
    assert [part.text for part in client.chat(Ask(model="m"), [])] == [""]


def test_a_refusing_proxy_is_not_a_missing_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClientError, match=f"through the proxy {proxy}: ") as error:
            Client(parse_host("http://far.example")[0], proxies=Proxies(http=proxy)).version()
    assert not isinstance(error.value, ServerRefused)
