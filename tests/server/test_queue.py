"""Several models and several requests at once, on real engines (native-api §4, scheduler §4 to §7)."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.running import ENDLESS, Server

M = "smollm2:135m"
E = "all-minilm:22m"


def body(predict: int, *, endless: bool = False, **more: Any) -> dict[str, Any]:
    options = {"num_predict": predict, "temperature": 0, "grammar": ENDLESS if endless else ""}
    return {"model": M, "prompt": "1, 2, 3, 4,", "raw": True, "options": options, **more}


def test_n121_a_full_queue_says_so_at_once(start_server: StartServer) -> None:
    """N-121: one answer runs, one request waits, the others are refused in the exact words, with `Retry-After`."""
    server = start_server(OLLAMA_NUM_PARALLEL="1", LLAMERO_MAX_WAITING="1")
    with ThreadPoolExecutor(3) as pool:
        with server.streaming("/api/generate", body(4000, endless=True)) as running:
            running.readline()
            asked = [pool.submit(server.post, "/api/generate", body(1)) for _ in range(3)]
            refused = [done.result() for done in islice(as_completed(asked), 2)]
            assert not all(each.done() for each in asked)
        statuses = sorted(each.result().status for each in asked)
    assert statuses == [200, 503, 503]
    for reply in refused:
        assert reply.error == "server busy, please try again.  maximum pending requests exceeded"
        assert int(reply.headers["Retry-After"]) >= 1


@pytest.mark.heavy
def test_one_slot_answers_one_at_a_time_two_slots_two(start_server: StartServer) -> None:
    """Partly R-24: with OLLAMA_NUM_PARALLEL=2 a short answer overtakes a long one that runs beside it."""
    server = start_server(OLLAMA_NUM_PARALLEL="2")
    with server.streaming("/api/generate", body(200, endless=True)) as long:
        long.readline()
        assert server.post("/api/generate", body(3)).lines()[-1]["done"] is True
        rest = long.read().splitlines()
    assert len(rest) > 20, "the long answer was still running"
    assert json.loads(rest[-1])["done"] is True


def test_r26_one_model_at_a_time(start_server: StartServer) -> None:
    """R-26 on real engines: the idle one goes for the new one."""
    server = start_server(OLLAMA_MAX_LOADED_MODELS="1")
    server.post("/api/generate", {"model": M})
    server.post("/api/embed", {"model": E, "input": "x"})
    assert server.loaded() == [E]
    assert len(server.engines()) == 1


def test_two_models_are_loaded_side_by_side(server: Server) -> None:
    server.unload_all()
    server.post("/api/generate", {"model": M})
    server.post("/api/embed", {"model": E, "input": "x"})
    assert sorted(server.loaded()) == [E, M]


def test_r01_many_at_once_start_one_engine(start_server: StartServer) -> None:
    """R-01 on the real engine: a cold model asked for by eight clients."""
    server = start_server()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: server.post("/api/generate", body(2)), range(8)))
    assert [reply.status for reply in replies] == [200] * 8
    assert len(server.engines()) == 1
    assert server.log.read_text().count("engine started") == 1


def test_clients_that_come_and_go_leave_nothing(server: Server) -> None:
    """Partly R-69, X-87: hang-ups in every phase; afterwards one engine answers and nothing else is there."""
    server.unload_all()

    def hang_up(i: int) -> None:
        if i % 2:
            with server.streaming_unread("/api/generate", body(50)):
                return
        with server.streaming("/api/generate", body(50)) as response:
            response.readline()

    threads = [threading.Thread(target=hang_up, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.post("/api/generate", body(2, keep_alive=0)).status == 200
    server.wait_until(lambda: not server.loaded() and not server.engines())
