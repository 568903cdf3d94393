"""Bodies larger than they may be, as they are sent and as they unpack: refused, and never held (security §5)."""

from __future__ import annotations

import gzip
import json
import select
import socket
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from tests.running import Server

MIB = 2**20
PIECE = b" " * MIB


class Memory:
    """The most that a process has held since `watch`, above what it held then."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._before = 0

    def watch(self) -> None:
        (self._folder / "clear_refs").write_text("5")  # the peak begins anew
        self._before = self._read("VmRSS")

    @property
    def growth_mib(self) -> float:
        return (self._read("VmHWM") - self._before) / 1024

    def _read(self, name: str) -> int:
        return int((self._folder / "status").read_text().partition(f"{name}:")[2].split()[0])


@pytest.fixture
def memory(server: Server) -> Memory:
    server.post("/api/show", {"model": "smollm2:135m"})
    memory = Memory(server.process.pid)
    memory.watch()
    return memory


def upload(server: Server, head: bytes, *, pieces: int, chunked: bool = False, deaf: bool = False) -> tuple[bytes, int]:
    """Send until the server has answered, or (`deaf`) as much as it takes: its reply, and the MiB that were sent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head)
        sent = 0
        try:
            for sent in range(pieces):  # noqa: B007 # how far it came is the result
                if not deaf and select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has hung up: what it said before is still there to read
        reply = b""
        try:
            while data := connection.recv(65536):
                reply += data
        except ConnectionResetError:
            pass
        return reply, sent


def head_of(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
def test_x67_a_prompt_of_200_megabytes(server: Server, memory: Memory, path: str) -> None:
    """X-67, announced: the answer comes before the body, which is not read. What is not announced is the next test."""
    reply, sent = upload(server, head_of(path, f"Content-Length: {200 * MIB}"), pieces=200)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"request body too large" in reply
    assert sent < 100
    assert memory.growth_mib < 8


def test_x67_a_body_that_goes_on_beyond_the_limit(server: Server, memory: Memory) -> None:
    """X-67: nobody knows its size, so as much is held as may be, and no more."""
    reply, sent = upload(server, head_of("/api/show", "Transfer-Encoding: chunked"), pieces=200, chunked=True)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert sent < 100
    assert memory.growth_mib < 8


@pytest.mark.heavy
def test_nobody_waits_for_the_body_of_a_refused_request(server: Server) -> None:
    """Partly X-45: a gigabyte for a route that does not exist."""
    reply, sent = upload(server, head_of("/api/nope", f"Content-Length: {1024 * MIB}"), pieces=1024, deaf=True)
    assert reply.startswith(b"HTTP/1.1 404 ")
    assert sent < 100


GZIPS = ("gzip", "deflate")


def bomb(encoding: str) -> bytes:
    """Few bytes that become 100 MiB."""
    if encoding == "zstd":
        packer = zstandard.ZstdCompressor().compressobj()
    else:
        packer = zlib.compressobj(wbits=31 if encoding == "gzip" else zlib.MAX_WBITS)
    return b"".join(packer.compress(PIECE) for _ in range(100)) + packer.flush()


@pytest.mark.parametrize("encoding", ["zstd", *(pytest.param(each, marks=pytest.mark.heavy) for each in GZIPS)])
def test_x31_a_body_that_swells_is_never_held(server: Server, memory: Memory, encoding: str) -> None:
    """X-31, the requests; a registry's are in tests/registry/test_session.py."""
    packed = bomb(encoding)
    assert len(packed) < 2 * MIB
    reply = server.post("/v1/chat/completions", packed, headers={"Content-Encoding": encoding})
    assert reply.status == 413
    assert memory.growth_mib < 64


@pytest.mark.heavy
def test_a_large_body_that_is_not_too_large(server: Server) -> None:
    """Its model is not there: all of it was read."""
    body = json.dumps({"model": "nope", "prompt": "x" * (20 * MIB)}).encode()
    packed = gzip.compress(body, 1)
    reply = server.post("/v1/completions", packed, headers={"Content-Encoding": "gzip"})
    assert (reply.status, reply.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.heavy
def test_many_bodies_that_swell_take_turns(server: Server, memory: Memory) -> None:
    """Each is as large as it may be, and 60 KiB long: all at once they would be three gigabytes."""
    body = gzip.compress(b'{"model":"nope","prompt":"' + b"x" * (63 * MIB) + b'"}')
    assert len(body) < 2**17

    def ask(_: int) -> int:
        return server.post("/v1/completions", body, headers={"Content-Encoding": "gzip"}).status

    with ThreadPoolExecutor(16) as clients:
        assert set(clients.map(ask, range(16))) == {404}
    assert memory.growth_mib < 2000
