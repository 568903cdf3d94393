"""Where a request's time went: `timings` in every final object, and who waits or loads in `/api/ps` and `ollama ps`.

What the figures are beside one another is shown in `test_figures.py`. Source: native-api §2.10, §3.5.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from llamero import API_LEVEL
from tests.cli.conftest import command
from tests.conftest import StartServer
from tests.fake_llama_server import TIMINGS
from tests.running import ENDLESS, Server
from tests.server.puppet import ABLE, Puppet

M = "smollm2:135m"
NOTHING = {
    "queued_ms": 0,
    "load_ms": 0,
    "restore_ms": 0,
    "prompt_tokens": 0,
    "cached_tokens": 0,
    "prefill_ms": 0,
    "predicted_tokens": 0,
    "decode_ms": 0,
    "draft_tokens": 0,
    "accepted_tokens": 0,
}


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_load_has_its_timeline(server: Server, path: str) -> None:
    """Where nothing but a load was asked for, that is where the time went."""
    server.unload_all()
    cold, warm = (server.post(path, {"model": M, "timings": True}).json() for _ in range(2))
    assert cold["done_reason"] == warm["done_reason"] == "load"
    assert cold["timings"]["load_ms"] > 20
    assert warm["timings"]["queued_ms"] < 20
    for each in (cold, warm):
        assert each["timings"] | {"load_ms": 0, "queued_ms": 0} == NOTHING
    assert warm["timings"]["load_ms"] == 0
    assert "timings" not in server.post(path, {"model": M}).json()
    assert server.post(path, {"model": M, "keep_alive": 0, "timings": True}).json()["timings"] == NOTHING


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "object"])
def test_what_the_engine_tells_stands_in_it(puppet: Puppet, stream: bool) -> None:
    """Cached and new tokens, and how much of what was drafted ahead was right."""
    told = TIMINGS | {"draft_n": 9, "draft_n_accepted": 4}
    puppet.plays(
        {"send": {"choices": [{"delta": {"content": "Hello"}, "finish_reason": None}]}},
        {"send": {"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": told}},
    )
    body = {"model": ABLE, "messages": [{"role": "user", "content": "Hi"}], "stream": stream, "timings": True}
    *parts, last = puppet.server.post("/api/chat", body).lines()
    assert all("timings" not in part for part in parts)
    timings = last["timings"]
    assert {name: timings[name] for name in list(NOTHING)[3:]} == {
        "prompt_tokens": 5,
        "cached_tokens": 2,
        "prefill_ms": 1.5,
        "predicted_tokens": 2,
        "decode_ms": 2.25,
        "draft_tokens": 9,
        "accepted_tokens": 4,
    }


def test_who_waits_for_a_slot_is_shown_with_his_place(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(OLLAMA_NUM_PARALLEL="1")
    ollama = command(server.host, tmp_path)
    options: dict[str, Any] = {"num_predict": 4000, "grammar": ENDLESS}
    body = {"model": M, "prompt": "Hi", "raw": True, "options": options}

    def queue() -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = server.get("/api/ps").json().get("queue", [])
        return shown

    def ask() -> None:
        server.post("/api/generate", body | {"options": {"num_predict": 1}})

    waiting = [threading.Thread(target=ask) for _ in range(2)]
    with server.streaming("/api/generate", body) as running:
        assert running.readline()
        assert queue() == []
        for thread in waiting:
            thread.start()
        server.wait_until(lambda: len(queue()) == 2)
        assert [(each["model"], each["position"]) for each in queue()] == [(M, 1), (M, 2)]
        ran = ollama("ps")
        assert ran.out.splitlines()[1].startswith(M)
        assert [line.rpartition(" for ")[0] for line in ran.err.splitlines()] == [
            f"waiting for {M}: position 1",
            f"waiting for {M}: position 2",
        ]
    for thread in waiting:
        thread.join()
    assert queue() == []


def test_doctor_and_a_real_server(server: Server, tmp_path: Path) -> None:
    server.unload_all()
    server.post("/api/generate", {"model": M})
    ran = command(server.host, tmp_path)("doctor", env={"OLLAMA_MODELS": str(server.models)})
    assert ran.status == 0, ran.out
    assert f"pid {server.process.pid}) answers, version {API_LEVEL}" in ran.out
    assert "1 loaded, 0 loading, 0 waiting" in ran.out
    assert "weights are read at " in ran.out
