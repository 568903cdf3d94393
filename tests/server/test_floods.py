"""Many clients that mean harm, or only come and go, and one that wants an answer (security §5, §12)."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.crowd import FLOODS, HEAD, allow_files, answer_s, connected, dripping, flooding, meanwhile, reset
from tests.fake_llama_server import install, read_record
from tests.running import Server, running

M = "smollm2:135m"


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_broken_off(server: Server, name: str) -> None:
    """Partly X-78: refused before its end, or answered; the next client waits for nobody."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(FLOODS[name])
        reply = connection.recv(65536)
    expected = {"requests at once": b"200", "chunks of one byte": b"400", "empty lines": b"400"}
    assert reply.startswith(b"HTTP/1.1 " + expected.get(name, b"431"))
    assert answer_s(server.port) < 1


@pytest.mark.heavy
def test_x78_a_probe_is_answered_within_a_second(tmp_path: Path) -> None:
    """X-78: slow heads, slow bodies, tiny chunks, 10,000 fields, endless trailers, and 2,000 connections in silence."""
    if not allow_files(4096):
        pytest.skip("this system lets nobody have so many connections")
    slow_body = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with (
        running(tmp_path, tmp_path / "models") as server,
        connected(server.port, 2000),
        connected(server.port, 200, HEAD) as heads,
        connected(server.port, 200, slow_body) as bodies,
        meanwhile(
            dripping(heads, b"X: a\r\n"),
            dripping(bodies, b" "),
            *(flooding(server.port, flood) for flood in FLOODS.values()),
        ),
    ):
        waits = []
        until_s = time.monotonic() + 40  # the slow ones have 15 s for a head, and 15 s by which a body may be late
        while time.monotonic() < until_s:
            waits.append(answer_s(server.port))
            time.sleep(0.05)
        assert max(waits) < 1
        for connection in (*heads, *bodies):
            assert connection.recv(20).startswith(b"HTTP/1.1 408 ")


def endless(text: str, count: int) -> list[dict[str, Any]]:
    """Steps of an engine: a long answer, of which no two pieces are alike, and then silence."""
    return [{"send": {"content": f"{number} {text}"}} for number in range(count)] + [{"hold": True}]


ONCE = {"model": M, "prompt": "Once", "raw": True}


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_x77_a_reader_that_does_not_read_gives_its_slot_back(start_server: StartServer, tmp_path: Path) -> None:
    """X-77, the reader: after two minutes in which nothing was taken. An answer without an end is the next test."""
    folder = tmp_path / "engine"
    folder.mkdir()
    replies = {"/completion": endless("x" * 2**16, 200)}
    program = install(folder, {"replies": replies})
    server = start_server(LLAMERO_LLAMA_SERVER=str(program), OLLAMA_NUM_PARALLEL="1")
    body = json.dumps(ONCE).encode()
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", server.port))
        lazy.sendall(
            b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        server.wait_until(lambda: read_record(folder, "request"))
        started_s = time.monotonic()
        server.wait_until(lambda: read_record(folder, "closed"), timeout_s=140)
        assert 100 < time.monotonic() - started_s < 140
        with server.streaming("/api/generate", ONCE) as response:
            assert json.loads(response.readline())["response"]


def test_x77_an_answer_without_an_end_gives_its_slot_back(start_server: StartServer, tmp_path: Path) -> None:
    """X-77, the generation: LLAMERO_REQUEST_TIMEOUT ends it, and who waits for the only slot has its turn."""
    folder = tmp_path / "engine"
    folder.mkdir()
    program = install(folder, {"replies": {"/completion": endless("a", 3)}})
    server = start_server(LLAMERO_LLAMA_SERVER=str(program), OLLAMA_NUM_PARALLEL="1", LLAMERO_REQUEST_TIMEOUT="700ms")
    with ThreadPoolExecutor(2) as pool:
        for reply in pool.map(lambda _: server.post("/api/generate", ONCE), range(2)):
            *answer, last = reply.lines()
            assert [line["response"] for line in answer] == ["0 a", "1 a", "2 a"]
            assert last == {"error": "the request took longer than LLAMERO_REQUEST_TIMEOUT allows"}
    server.wait_until(lambda: len(read_record(folder, "closed")) == 2)


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def gauge(server: Server, name: str) -> float:
    page = server.get("/metrics").body.decode()
    return float(page.partition(f"\nllamero_{name} ")[2].split()[0])


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_x87_a_thousand_clients_that_break_off_leave_nothing(start_server: StartServer) -> None:
    """X-87: while a model is loaded and while it answers; files, tasks and the one slot are what they were."""
    server = start_server(OLLAMA_NUM_PARALLEL="1")
    story = {"model": M, "prompt": "Once", "options": {"num_predict": 200}}
    asked = json.dumps(story).encode()
    whole = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(asked), asked)
    dice = random.Random(87)

    def visit(number: int) -> None:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        with contextlib.suppress(OSError):
            connection.sendall(whole[: dice.choice([0, 1, 60, len(whole) - 1, len(whole), len(whole)])])
            time.sleep(dice.random() / 20)
            if dice.random() < 0.1:
                connection.settimeout(1)
                connection.recv(100)
        reset(connection)

    def storm(count: int) -> None:
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(visit, range(count)))

    assert server.post("/api/generate", {**story, "options": {"num_predict": 2}}).status == 200
    time.sleep(1.5)
    before = descriptors(server)
    for _ in range(5):
        server.unload_all()
        storm(100)  # some of them load it
        with server.streaming("/api/generate", story) as response:
            assert response.readline()
            storm(100)
            assert response.read().endswith(b"}\n")
    last = server.post("/api/generate", {**story, "options": {"num_predict": 2}})
    assert last.lines()[-1]["done"]
    assert len(server.engines()) == 1
    server.wait_until(lambda: descriptors(server) <= before)
    server.wait_until(lambda: gauge(server, "requests_in_flight") == 1)  # the question itself
    assert gauge(server, "open_connections") == 1
    assert gauge(server, "queue_requests") == 0
