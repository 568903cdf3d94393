"""Long runs against the real engine. Heavy: `pytest -m heavy`."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import StartServer
from tests.running import Server, children, is_running
from tests.server import tiny_models

M = "smollm2:135m"
E = "all-minilm:22m"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]


def body(predict: int, seed: int) -> dict[str, object]:
    return {"model": M, "prompt": f"Story {seed}", "options": {"num_predict": predict, "seed": seed}}


def resident_kib(pid: int) -> int:
    from pathlib import Path

    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def test_r69_two_hundred_clients_that_come_and_go(start_server: StartServer) -> None:
    """R-69 on real engines: hang-ups at random moments of queueing, loading and answering, with unloads in between."""
    server = start_server(OLLAMA_MAX_LOADED_MODELS="1")
    dice = random.Random(1)
    plans = [(i, dice.random(), dice.choice(["read", "leave", "unload", "embed"])) for i in range(200)]

    def visit(plan: tuple[int, float, str]) -> None:
        i, chance, kind = plan
        if kind == "unload":
            server.post("/api/generate", {"model": M, "keep_alive": 0})
        elif kind == "embed":
            assert server.post("/api/embed", {"model": E, "input": f"text {i}"}, timeout_s=120).status == 200
        elif kind == "leave":
            with server.streaming_unread("/api/generate", body(200, i)):
                time.sleep(chance / 2)
        else:
            with server.streaming("/api/generate", body(int(1 + chance * 20), i)) as response:
                assert response.status == 200
                if chance < 0.5:
                    response.readline()
                else:
                    assert response.read().endswith(b"}\n")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, plans))
    server.unload_all()
    server.wait_until(lambda: not server.engines())
    assert server.get("/api/ps").json() == {"models": []}
    assert children(server.process.pid) == []


@pytest.mark.timeout(1500)
def test_two_thousand_requests_of_sixteen_clients_with_three_models_in_room_for_two(start_server: StartServer) -> None:
    """Every request is answered or refused; afterwards nothing is left, and nothing grew.

    It takes about 1,600 requests until all that is kept once has been used; the 2,000 behind them are looked at.
    """
    server = start_server(OLLAMA_MAX_LOADED_MODELS="2")
    tiny_models.make(server, "tiny", [tiny_models.TEXT])
    dice = random.Random(2)
    outcomes: Counter[str] = Counter()
    sizes: list[int] = []

    def visit(number: int, model: str, chance: float) -> None:
        if number % 100 == 0:
            sizes.append(resident_kib(server.process.pid))
        outcomes[_outcome(server, number, model, chance)] += 1

    with ThreadPoolExecutor(16) as pool:
        visits = []
        for number in range(3600):
            model = dice.choice([M, "tiny"]) if number % 40 < 36 else E  # engines change now and then, as they do
            visits.append(pool.submit(visit, number, model, dice.random()))
        for each in visits:
            each.result()
    assert set(outcomes) <= {"answered", "left", "refused"}, outcomes
    assert outcomes["answered"] > 1000
    later = sizes[16:]
    slope_kib = statistics.linear_regression(range(len(later)), later).slope / 100
    assert slope_kib < 2, f"{slope_kib:.2f} KiB per request: {sizes}"
    assert "queue" not in server.get("/api/ps").json()
    server.unload_all()
    server.wait_until(lambda: not server.engines())
    assert server.get("/api/ps").json() == {"models": []}
    server.wait_until(lambda: children(server.process.pid) == [])  # the last engine is reaped


def _outcome(server: Server, number: int, model: str, chance: float) -> str:
    if model == E:
        reply = server.post("/api/embed", {"model": E, "input": [f"text {number}"] * 3}, timeout_s=300)
        return {200: "answered", 503: "refused"}.get(reply.status, f"{reply.status}: {reply.body!r}")
    asked = {"model": model, "prompt": f"Story {number}", "options": {"num_predict": 1 + int(chance * 24)}}
    if chance < 0.25:
        with server.streaming_unread("/api/generate", asked):
            time.sleep(chance)
        return "left"
    reply = server.post("/api/generate", asked, timeout_s=300)
    if reply.status == 200:
        return "answered" if reply.lines()[-1].get("done") else f"cut: {reply.lines()[-1]}"
    return "refused" if reply.status == 503 and reply.headers["Retry-After"] else f"{reply.status}: {reply.body!r}"


def test_an_engine_killed_at_every_stage_of_its_life(start_server: StartServer) -> None:
    """Whoever is hit gets an error in words or a last line of the stream; the next request is answered."""
    server = start_server()
    for delay_ms in (0, 20, 50, 100, 150, 200, 250, 300, 350, 400, 500, 700):
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(server.post, "/api/generate", body(40, 1))
            kill_after(server, delay_ms / 1000)
            reply = asked.result()
        assert reply.status in (200, 500)
        assert reply.body.endswith(b"}") or reply.body.endswith(b"}\n")
        again = server.post("/api/generate", body(2, 2))
        assert (again.status, again.lines()[-1].get("done")) == (200, True), again.body
        server.unload_all()
    server.wait_until(lambda: not server.engines())


def kill_after(server: Server, delay_s: float) -> None:
    deadline = time.monotonic() + 5
    while not server.engines() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay_s)
    for pid in server.engines():
        os.kill(pid, signal.SIGKILL)


def test_the_server_does_not_grow(start_server: StartServer) -> None:
    """Memory after 300 more requests is what it was after the first 100, within two megabytes."""
    server = start_server()

    def ask(count: int) -> int:
        for i in range(count):
            assert server.post("/api/generate", body(3, i)).status == 200
            server.post("/api/show", {"model": M})
        return resident_kib(server.process.pid)

    before = ask(100)
    assert ask(300) - before < 2048
    assert is_running(server.process.pid)
