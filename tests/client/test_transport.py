"""The way to the server: sockets, limits of time, and what is said when nothing comes back (cli §1.1, §9)."""

from __future__ import annotations

import io
import socket
import threading
from pathlib import Path

import pytest

from llamero.client import Ask, Client
from llamero.config import HostUrl, parse_host
from llamero.errors import ClientError, ServerAnswered, ServerRefused
from tests.cli.scripted_server import Reply, ScriptedServer, generated


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


def test_a_name_that_no_host_has_is_refused() -> None:
    with pytest.raises(ClientError, match="OLLAMA_HOST: 'my host' cannot be the name of a host"):
        Client(parse_host("my host:1")[0]).version()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ClientError, match="ftp:// is not spoken here"):
        Client(parse_host("ftp://x")[0]).heartbeat()


def test_a_host_name_that_cannot_be_one() -> None:
    with pytest.raises(ClientError, match=r'Head "http://a\.\.b:80/": '):
        Client(parse_host("http://a..b")[0]).heartbeat()


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
