"""How often a key may have models loaded (security §5, model thrash)."""

from __future__ import annotations

from pathlib import Path

from tests.running import Reply
from tests.server.keyed import Keyed

LOADS_A_MINUTE = 6


def generate(keyed: Keyed, key: str, window: int, model: str = "m") -> Reply:
    body = {"model": model, "prompt": "Hi", "stream": False, "options": {"num_ctx": window}}
    return keyed.post(key, "/api/generate", body)


def memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_x70_windows_that_take_turns(keyed: Keyed) -> None:
    """X-70: after six loads no more, what is loaded goes on, and others are not held up by it."""
    keyed.plays()
    assert generate(keyed, "thrasher", 2**31 - 1).status == 200
    (entry,) = keyed.loaded()
    assert entry["context_length"] == 128
    before, mib = len(keyed.starts()), memory_mib(keyed.server.process.pid)
    replies = [generate(keyed, "thrasher", 64 + 32 * (number % 2)) for number in range(12)]
    assert [reply.status for reply in replies] == [200] * (LOADS_A_MINUTE - 1) + [429, 200] * 3 + [429]
    assert len(keyed.starts()) - before == LOADS_A_MINUTE - 1
    refused = [reply for reply in replies if reply.status == 429]
    assert all(1 <= int(reply.headers["Retry-After"]) <= 10 for reply in refused)
    assert refused[0].error.startswith("too many models to load")
    assert len(keyed.loaded()) == 1
    assert memory_mib(keyed.server.process.pid) - mib < 32
    for key in ("alice", "root"):
        assert generate(keyed, key, 96).status == generate(keyed, key, 64).status == 200


def test_loading_again_is_an_admins_own_business(keyed: Keyed) -> None:
    assert [generate(keyed, "root", 64 + 32 * (number % 2)).status for number in range(8)] == [200] * 8
