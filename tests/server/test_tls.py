"""TLS and mutual TLS (security §6.6), with a real server and clients that are not ours; then with ours."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import signal
import socket
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from llamero.cli.target import find_target
from llamero.client import Certificates, Client
from llamero.config import Settings, parse_host
from llamero.errors import ClientError
from llamero.server.tls import BadCertificate, Files, Tls
from tests.certificates import Authority, Pair
from tests.cli.conftest import command
from tests.running import Server, free_port, running


@dataclass
class Secured:
    """A server with TLS, and the files that it reads."""

    server: Server
    authority: Authority
    pair: Pair
    spare: Pair
    """A second certificate, for a renewal."""

    @property
    def trusted(self) -> Certificates:
        return Certificates(str(self.authority.file))

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.file))

    def connected(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        return (context or self.trusting()).wrap_socket(raw, server_hostname="localhost")

    def get(self, path: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            "localhost", self.server.port, timeout=10, context=context or self.trusting()
        )
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()

    def said(self, text: str) -> bool:
        return text in self.server.log.read_text()


def settings_for(pair: Pair) -> dict[str, str]:
    return {"LLAMERO_TLS_CERT": str(pair.certificate), "LLAMERO_TLS_KEY": str(pair.key)}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "authority")
    pair, spare = authority.issue("server", "localhost"), authority.issue("spare", "localhost")
    port = free_port()
    hosts = f"127.0.0.1:{port},unix:{folder / 'plain.sock'}"
    with running(folder, folder / "models", port=port, OLLAMA_HOST=hosts, **settings_for(pair)) as server:
        yield Secured(server, authority, pair, spare)


def test_requests_are_answered(secured: Secured) -> None:
    status, body = secured.get("/api/version")
    assert (status, list(json.loads(body))) == (200, ["version"])


def exactly(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.set_ciphers("ALL:@SECLEVEL=0")  # or our own library would refuse before the server can
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_that_are_spoken(secured: Secured, version: ssl.TLSVersion) -> None:
    """Partly X-56."""
    with secured.connected(exactly(secured.trusting(), version)) as connection:
        assert connection.version() == version.name.replace("_", ".")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_versions_that_are_refused(secured: Secured, version: ssl.TLSVersion) -> None:
    """Partly X-56: the server says so, by an alert."""
    with pytest.raises(ssl.SSLError) as refused:
        secured.connected(exactly(secured.trusting(), version))
    assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def said_in_plain(secured: Secured, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", secured.server.port), timeout=10) as plain:
        plain.sendall(request)
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while b'"}' not in heard and (piece := plain.recv(4096)):
                heard += piece
        return heard


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"])
def test_plain_http_on_the_tls_port_is_told_so_in_plain_http(secured: Secured, method: str) -> None:
    """Partly X-56."""
    request = f"{method} /api/version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
    head, _, body = said_in_plain(secured, request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in head
    assert json.loads(body) == {"error": "this address speaks TLS: write https:// in place of http://"}
    assert secured.get("/api/version")[0] == 200


@pytest.mark.parametrize("garbage", [b"\0" * 64, b"\x16\x03\x01\xff\xff" + b"x" * 600, b"\xff" * 600, b"\n\n\n\n\n\n"])
def test_what_is_neither_tls_nor_http_harms_nobody(secured: Secured, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", secured.server.port), timeout=10) as plain:
        plain.sendall(garbage)
        plain.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(4096):
                pass
    assert secured.get("/api/version")[0] == 200
    assert "Traceback" not in secured.server.log.read_text()


def test_a_unix_socket_stays_plain(secured: Secured) -> None:
    """Its mode guards it; and so the command line of the server's own machine needs no certificate."""
    path = secured.pair.certificate.parent / "plain.sock"
    assert Client(parse_host(f"unix:{path}")[0]).version()


def test_x56_a_new_certificate_while_work_goes_on(secured: Secured) -> None:
    """X-56, with the other tests here and the one in `test_listen`: SIGHUP, and the next handshake has it."""
    data = b"a model" * 1000
    digest = hashlib.sha256(data).hexdigest()
    with secured.connected() as running_request:
        head = f"POST /api/blobs/sha256:{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        running_request.sendall(head.encode() + data[:100])
        old, new = secured.pair.der, secured.spare.der
        assert running_request.getpeercert(binary_form=True) == old
        secured.spare.copy_to(secured.pair)
        secured.server.process.send_signal(signal.SIGHUP)
        secured.server.wait_until(lambda: secured.said("TLS certificate read again"))
        with secured.connected() as after:
            assert after.getpeercert(binary_form=True) == new
        running_request.sendall(data[100:])
        assert running_request.recv(100).startswith(b"HTTP/1.1 201 ")


def test_a_bad_certificate_leaves_the_old_one_in_use(secured: Secured) -> None:
    before = secured.pair.certificate.read_bytes()
    secured.pair.certificate.write_text("no certificate")
    try:
        secured.server.process.send_signal(signal.SIGHUP)
        secured.server.wait_until(lambda: secured.said("not read again, what was there before stays in use"))
        assert secured.get("/api/version")[0] == 200
        assert secured.server.process.poll() is None
    finally:
        secured.pair.certificate.write_bytes(before)


# --- our own client ---

LISTED = ["NAME", "ID", "SIZE", "MODIFIED"]
"""What `list` says of no models."""


def test_our_command_with_the_certificate_of_the_authority(secured: Secured, tmp_path: Path) -> None:
    ollama = command(f"https://localhost:{secured.server.port}", tmp_path)
    outcome = ollama("list", env={"SSL_CERT_FILE": str(secured.authority.file)})
    assert (outcome.status, outcome.out.split(), outcome.err) == (0, LISTED, "")


def test_our_command_without_it_says_what_to_do(secured: Secured, tmp_path: Path) -> None:
    url = f"https://localhost:{secured.server.port}"
    outcome = command(url, tmp_path)("list")
    assert outcome.status == 1
    assert outcome.err == (
        f'Error: Head "{url}/": its certificate is not trusted: unable to get local issuer certificate; if that server '
        "is yours, set SSL_CERT_FILE to a file with its certificate, or that of its authority\n"
    )


def test_our_command_in_plain_http_is_told(secured: Secured, tmp_path: Path) -> None:
    outcome = command(f"127.0.0.1:{secured.server.port}", tmp_path)("list")
    assert outcome.err == "Error: this address speaks TLS: write https:// in place of http://\n"


def test_a_certificate_for_another_name(secured: Secured) -> None:
    client = Client(parse_host(f"https://{secured.server.host}")[0], certificates=secured.trusted)
    wanted = r"not valid for '127\.0\.0\.1'; write the name in OLLAMA_HOST that is in the server's certificate"
    with pytest.raises(ClientError, match=wanted):
        client.version()


# --- mutual TLS ---


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("mutual")
    authority = Authority(folder, "authority")
    pair = authority.issue("server")
    env = settings_for(pair) | {"LLAMERO_TLS_CLIENT_CA": str(authority.file)}
    with running(folder, folder / "models", **env) as server:
        yield Secured(server, authority, pair, authority.issue("client"))


def test_a_client_with_a_certificate_of_the_authority(mutual: Secured) -> None:
    """Partly X-56."""
    context = mutual.trusting()
    context.load_cert_chain(mutual.spare.certificate, mutual.spare.key)
    assert mutual.get("/api/version", context)[0] == 200


@pytest.mark.parametrize("whose", ["none", "another authority's"])
def test_a_client_without_one_is_refused(mutual: Secured, tmp_path: Path, whose: str) -> None:
    """Partly X-56."""
    context = mutual.trusting()
    if whose != "none":
        pair = Authority(tmp_path, "stranger").issue("client")
        context.load_cert_chain(pair.certificate, pair.key)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        mutual.get("/api/refused", context)
    assert "/api/refused" not in mutual.server.log.read_text()


def listed(mutual: Secured, home: Path, **env: str) -> str:
    """What our command says, whatever it was."""
    ollama = command(f"https://localhost:{mutual.server.port}", home)
    outcome = ollama("list", env={"SSL_CERT_FILE": str(mutual.authority.file), **env})
    return outcome.out + outcome.err


def test_our_command_shows_its_certificate(mutual: Secured, tmp_path: Path) -> None:
    own = {"LLAMERO_CLIENT_CERT": str(mutual.spare.certificate), "LLAMERO_CLIENT_KEY": str(mutual.spare.key)}
    assert listed(mutual, tmp_path, **own).split() == LISTED
    both = tmp_path / "both.pem"
    both.write_bytes(mutual.spare.certificate.read_bytes() + mutual.spare.key.read_bytes())
    assert listed(mutual, tmp_path, LLAMERO_CLIENT_CERT=str(both)).split() == LISTED


def test_our_command_finds_its_certificate_in_config_toml(mutual: Secured, tmp_path: Path) -> None:
    path = tmp_path / ".ollama" / "llamero" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'client_cert = "{mutual.spare.certificate}"\nclient_key = "{mutual.spare.key}"\n')
    assert listed(mutual, tmp_path).split() == LISTED


def test_the_benchmark_shows_its_certificate_too(mutual: Secured, tmp_path: Path) -> None:
    env = {
        "OLLAMA_BASE_URL": f"https://localhost:{mutual.server.port}",
        "SSL_CERT_FILE": str(mutual.authority.file),
        "LLAMERO_CLIENT_CERT": str(mutual.spare.certificate),
        "LLAMERO_CLIENT_KEY": str(mutual.spare.key),
    }
    assert find_target(env, tmp_path).client(warn=lambda text: None).version()


def test_our_command_without_a_certificate_says_what_it_lacks(mutual: Secured, tmp_path: Path) -> None:
    assert listed(mutual, tmp_path) == (
        f'Error: Head "https://localhost:{mutual.server.port}/": the server asks for a client certificate; '
        "set LLAMERO_CLIENT_CERT and LLAMERO_CLIENT_KEY to one and its key\n"
    )


def test_our_command_with_a_certificate_of_a_stranger(mutual: Secured, tmp_path: Path) -> None:
    pair = Authority(tmp_path, "stranger").issue("client")
    said = listed(mutual, tmp_path, LLAMERO_CLIENT_CERT=str(pair.certificate), LLAMERO_CLIENT_KEY=str(pair.key))
    assert f"the server does not accept the client certificate in {pair.certificate}: " in said
    assert "it is not of the authority that the server trusts" in said


# --- files that cannot be used ---


def files(folder: Path, trouble: str) -> Files:
    authority = Authority(folder, "authority")
    pair, other = authority.issue("server"), authority.issue("other")
    match trouble:
        case "certificate missing":
            return Files(folder / "none", pair.key)
        case "key missing":
            return Files(pair.certificate, folder / "none")
        case "another key":
            return Files(pair.certificate, other.key)
        case "no PEM":
            pair.certificate.write_text("x")
        case "key in place of certificate":
            return Files(pair.key, pair.key)
        case "passphrase":
            locked = authority.issue("locked", password=b"secret")
            return Files(locked.certificate, locked.key)
        case "authority empty":
            (folder / "empty").touch()
            return Files(pair.certificate, pair.key, folder / "empty")
        case "folder":
            return Files(folder, pair.key)
    return Files(pair.certificate, pair.key)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("certificate missing", r"LLAMERO_TLS_CERT and LLAMERO_TLS_KEY: \S+/none and \S+/server.key: No such file"),
        ("key missing", "LLAMERO_TLS_KEY: .*/none: No such file"),
        ("another key", "the key is not that of the certificate"),
        ("no PEM", "not in PEM form, or damaged"),
        ("key in place of certificate", "not in PEM form, or damaged"),
        ("passphrase", "the key has a passphrase, which a server cannot type"),
        ("authority empty", "LLAMERO_TLS_CLIENT_CA: .*/empty: there is no certificate in it"),
        ("folder", "LLAMERO_TLS_CERT and LLAMERO_TLS_KEY: .*"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, trouble: str, said: str) -> None:
    with pytest.raises(BadCertificate, match=said) as error:
        Tls(files(tmp_path, trouble))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_modes_that_a_key_may_have(tmp_path: Path, mode: int) -> None:
    good = files(tmp_path, "")
    good.key.chmod(mode)
    Tls(good)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o620, 0o602, 0o777])
def test_modes_that_a_key_must_not_have(tmp_path: Path, mode: int) -> None:
    bad = files(tmp_path, "")
    bad.key.chmod(mode)
    with pytest.raises(BadCertificate, match=f"server.key has mode 0{mode:o}, so others can read or change it: chmod"):
        Tls(bad)


def test_a_certificate_that_ends_soon_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path, "authority")
    for days in (5.0, -5.0):
        pair = authority.issue("short", days=days)
        Tls(Files(pair.certificate, pair.key))
        pair.key.unlink()
    said = [record.message for record in caplog.records]
    assert said == [f"the TLS certificate {what}; renew it, then send SIGHUP" for what in ("ends soon", "has ended")]


@pytest.mark.parametrize("given", ["LLAMERO_TLS_CERT", "LLAMERO_TLS_KEY", "LLAMERO_TLS_CLIENT_CA"])
def test_a_part_of_the_settings_is_not_enough(given: str) -> None:
    with pytest.raises(BadCertificate, match="TLS needs both LLAMERO_TLS_CERT and LLAMERO_TLS_KEY"):
        Files.of(Settings.from_env({"HOME": "/h", given: "/x"}))


def test_without_settings_there_is_no_tls() -> None:
    assert Files.of(Settings.from_env({"HOME": "/h"})) is None
