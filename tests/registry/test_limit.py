"""Rates that hold, are shared, and change while they are in use (store-registry GAP-14)."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from llamero.registry.limit import LOOK_AGAIN_S, Pace, RateLimit

MB = 1_000_000


async def bytes_passed(pace: Pace, streams: int, block_bytes: int, seconds: float) -> int:
    passed = 0

    async def stream() -> None:
        nonlocal passed
        while True:
            await pace.take(block_bytes)
            passed += block_bytes
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(stream()) for _ in range(streams)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    return passed


async def test_s104_a_rate_holds_with_sixteen_streams() -> None:
    """Partly S-104: whole downloads are in test_download."""
    started = time.monotonic()
    passed = await bytes_passed(Pace(RateLimit(5 * MB)), 16, 64 * 1024, 1.0)
    assert passed / (time.monotonic() - started) == pytest.approx(5 * MB, rel=0.1)


async def test_no_limit_and_no_limits_never_wait() -> None:
    async with asyncio.timeout(1):
        for pace in (Pace(), Pace(RateLimit()), Pace(RateLimit(0), RateLimit(0))):
            await pace.take(1 << 50)


async def test_the_lower_of_two_limits_counts() -> None:
    everybody, own = RateLimit(8 * MB), RateLimit(MB)
    assert await bytes_passed(Pace(everybody, own), 4, 10_000, 0.4) == pytest.approx(0.4 * MB, rel=0.3)


async def test_two_transfers_share_what_is_for_everybody() -> None:
    everybody = RateLimit(4 * MB)
    passed = await asyncio.gather(*(bytes_passed(Pace(everybody, RateLimit()), 4, 10_000, 0.4) for _ in range(2)))
    assert sum(passed) == pytest.approx(1.6 * MB, rel=0.3)


async def test_a_block_larger_than_a_seconds_worth_passes_and_is_paid_for_by_the_next() -> None:
    limit = RateLimit(MB)
    assert limit.try_take(2 * MB) == 0.0
    assert limit.try_take(1) == pytest.approx(2, rel=0.1)


async def test_a_limit_that_is_raised_frees_those_who_wait() -> None:
    limit = RateLimit(1)
    limit.try_take(1000)
    waiting = asyncio.create_task(Pace(limit).take(1))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    limit.bytes_per_s = 100 * MB
    assert limit.bytes_per_s == 100 * MB
    await asyncio.wait_for(waiting, 4 * LOOK_AGAIN_S)


async def test_a_limit_that_is_lowered_holds_at_once() -> None:
    limit = RateLimit()
    await Pace(limit).take(MB)
    limit.bytes_per_s = MB
    assert await bytes_passed(Pace(limit), 4, 10_000, 0.5) == pytest.approx(0.5 * MB, rel=0.3)


def test_threads_share_a_limit() -> None:
    limit = RateLimit(2 * MB)
    passed: list[int] = []

    def transfer() -> None:
        passed.append(asyncio.run(bytes_passed(Pace(limit), 2, 10_000, 0.5)))

    threads = [threading.Thread(target=transfer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == pytest.approx(MB, rel=0.3)
