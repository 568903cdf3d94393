"""Which proxy is asked, how, and what is said of one that does not help (cli §9.3)."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from pathlib import Path

import pytest

from llamero.client import Client, Proxies
from llamero.config import parse_host
from llamero.errors import ClientError, ServerRefused
from tests.certificates import Authority, Pair
from tests.cli.scripted_server import Reply, ScriptedServer

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
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A certificate of example.com, which this process trusts."""
    authority = Authority(tmp_path, "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority.issue("example", "example.com")


def test_https_goes_through_a_tunnel(trusted: Pair) -> None:
    """L-20: what is asked of example.com:443, seen from a proxy that plays both."""
    asked: list[bytes] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted.certificate, trusted.key)

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


def test_a_refusing_proxy_is_not_a_missing_server() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClientError, match=f"through the proxy {proxy}: ") as error:
            Client(parse_host("http://far.example")[0], proxies=Proxies(http=proxy)).version()
    assert not isinstance(error.value, ServerRefused)
