"""Requests that hide others in them: over a socket to a real server, and through a real nginx (security §9.4, §12)."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.nginx import needs_nginx
from tests.running import Server, running
from tests.server.plain_nginx import plain_nginx
from tests.server.raw_requests import CHUNKED, HEAD, REFUSED, SOUND

PATIENCE_S = 5.0
HIDDEN = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
HIDDEN_AT = b"GET /hidden/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PROBE = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("wire")
    with running(folder, folder / "models") as started:
        yield started


def said(port: int, data: bytes, *, ends: bool = False) -> bytes:
    """All that comes back for these bytes until the other side hangs up, or (`ends`) when we have hung up."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def statuses(replies: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", replies)]


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_x79_a_doubtful_request_is_the_last_of_its_connection(plain_server: Server, request_: bytes) -> None:
    """X-79, the server alone; behind nginx is the last test. 400, closed, and the request behind it is never seen."""
    replies = said(plain_server.port, request_ + HIDDEN)
    assert statuses(replies) == [400]
    head, _, body = replies.partition(b"\r\n\r\n")
    assert {b"connection: close", b"x-content-type-options: nosniff"} < set(head.lower().split(b"\r\n"))
    assert json.loads(body)["error"].startswith("malformed request")


@pytest.mark.parametrize("request_", SOUND.values(), ids=SOUND)
def test_a_sound_request_is_answered_and_the_next_one_too(plain_server: Server, request_: bytes) -> None:
    replies = said(plain_server.port, request_ + PROBE)
    if b"HTTP/1.0" in request_:  # closes behind its answer
        assert statuses(replies) == [200]
    else:
        assert statuses(replies)[1:] == [200]


@pytest.mark.parametrize("host", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a@b\r\n"], ids=["none", "two", "userinfo"])
def test_hosts_that_are_none(plain_server: Server, host: bytes) -> None:
    """Security §8: HTTP/1.1 without one, several, or more than a host in it."""
    request_ = b"GET /api/version HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n"
    assert statuses(said(plain_server.port, request_)) == [400]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"GET /api/version HTTP/1.1\r\nHo",
        CHUNKED,
        CHUNKED + b"5\r\nhel",
        HEAD + b"Content-Length: 9\r\n\r\nx",
    ],
    ids=["nothing", "an empty line", "half a head", "no chunk", "half a chunk", "half a body"],
)
def test_whoever_hangs_up_in_the_middle_has_no_answer(plain_server: Server, data: bytes) -> None:
    assert said(plain_server.port, data, ends=True) == b""
    assert plain_server.get("/api/version").status == 200


# --- behind a proxy --------------------------------------------------------------------------------------------------


def desyncs(hidden: bytes) -> dict[str, bytes]:
    """What has made a proxy and a server disagree elsewhere, with a request where only one of them sees one."""
    length = b"Content-Length: %d\r\n" % (len(hidden) + 5)
    size = b"%x" % len(hidden)
    post = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\n"
    return {
        "CL.TE": post + length + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        "TE.CL": post
        + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
        + size
        + b"\r\n"
        + hidden
        + b"\r\n0\r\n\r\n",
        "TE.TE": post + length + b"Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        "TE with a blank": post + length + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + hidden,
        "TE with a tab": post + length + b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + hidden,
        "TE with a vertical tab": post + length + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + hidden,
        "TE folded": post + length + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + hidden,
        "TE behind a bare LF": post + length + b"X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        "TE in HTTP/1.0": b"POST /api/show HTTP/1.0\r\n"
        + length
        + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + hidden,
        "CL twice": post + b"Content-Length: 5\r\n" + length + b"\r\n0\r\n\r\n" + hidden,
        "CL with a sign": post + b"Content-Length: +5\r\n\r\n0\r\n\r\n" + hidden,
        "CL of a GET": b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\n0\r\n\r\n" + hidden,
        "an extension with a bare LF": post
        + b"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n"
        + size
        + b"\r\n0\r\n\r\n"
        + hidden,
        "an extension": post + b"Transfer-Encoding: chunked\r\n\r\n2;ext=1\r\n{}\r\n0\r\n\r\n" + hidden,
        "a size behind zeros": post
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"0" * 30
        + b"2\r\n{}\r\n0\r\n\r\n"
        + hidden,
        "a size that overflows": post + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + hidden,
        "a trailer": post + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 99\r\n\r\n" + hidden,
        "a body too early": post + length + b"Expect: 100-continue\r\n\r\n0\r\n\r\n" + hidden,
        "HTTP/2 offered": post + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + length + b"\r\n0\r\n\r\n" + hidden,
        "a target of another host": b"GET http://evil.test/api/version HTTP/1.1\r\nHost: localhost\r\n\r\n" + hidden,
    }


def answered_by(server: Server) -> Counter[str]:
    return Counter(re.findall(r'\[GIN\].*"(/[^"]*)"', server.log.read_text()))


@pytest.mark.heavy
@needs_nginx
def test_x79_behind_nginx_nobody_gets_an_answer_of_somebody_else(tmp_path: Path) -> None:
    """X-79, the other half: after each of all these, the next client's answer is its own, and the server has answered
    nothing that nginx did not pass on."""
    rows: dict[str, bytes] = {}
    for number, (name, data) in enumerate([*REFUSED.items(), *SOUND.items()]):
        rows[name] = data + HIDDEN_AT % b"%d" % number
    for number, name in enumerate(desyncs(b"")):
        rows[f"hidden: {name}"] = desyncs(HIDDEN_AT % b"x%d" % number)[name]
    with running(tmp_path, tmp_path / "models") as server, plain_nginx(tmp_path / "nginx", server.port) as proxy:
        for name, data in rows.items():
            with suppress(ConnectionResetError, TimeoutError):  # nginx waits for the rest of some
                said(proxy.port, data)
            for _ in range(2):
                probe = said(proxy.port, PROBE)
                assert statuses(probe) == [200], f"{name}: {probe!r}"
                assert b'"version"' in probe, f"{name}: {probe!r}"
        beyond = answered_by(server) - proxy.passed_on()
        del beyond["/"]  # the tests' own look whether the server is there
        assert beyond == {}


def test_the_log_tells_what_was_answered(plain_server: Server) -> None:
    """What the test above counts on."""
    plain_server.get("/hidden/known")
    plain_server.wait_until(lambda: answered_by(plain_server)["/hidden/known"] == 1)
