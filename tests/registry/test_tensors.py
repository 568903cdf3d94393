"""Models of many small blobs: several at once, hashed inline, resumed only when large (store-registry §3.5)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import DiskFull, RegistryError
from llamero.names import Digest
from llamero.registry.limit import Pace
from llamero.registry.tensors import Tuning, download_many
from llamero.store import Store
from llamero.store.manifests import TENSOR, Layer
from tests.registry import faulty_server as faults
from tests.registry.faulty_server import FaultyServer, Request

SIZE = 20_000
BLOBS = [random.Random(number).randbytes(SIZE) for number in range(40)]
LARGE = random.Random(99).randbytes(400_000)
HASTY = Tuning(backoff_s=0.0001, stall_s=0.2, report_s=0.01, resume_bytes=len(LARGE))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with FaultyServer() as started:
        for content in (*BLOBS, LARGE):
            started.add(content)
        yield started


def layer(content: bytes) -> Layer:
    return Layer(TENSOR, Digest.of(content), len(content))


async def fetch(
    store: Store,
    contents: Sequence[bytes],
    *servers: FaultyServer,
    streams: int = 4,
    tuning: Tuning = HASTY,
) -> list[int]:
    """Download, the last server being the registry. Returns what was reported."""
    reported: list[int] = []
    async with AsyncExitStack() as stack:
        sources = [await stack.enter_async_context(each.session()) for each in servers]
        layers = [layer(content) for content in contents]
        report = reported.append
        await download_many(store, layers, sources, streams=streams, pace=Pace(), report=report, tuning=tuning)
    return reported


def names(store: Store) -> set[str]:
    return {path.name for path in store.blobs.folder.iterdir()}


def tmp_path_of(store: Store, content: bytes) -> Path:
    path = store.blobs.path(Digest.of(content))
    return path.with_name(path.name + ".tmp")


def leave_tmp(store: Store, content: bytes, there: bytes) -> None:
    store.blobs.folder.mkdir(parents=True, exist_ok=True)
    tmp_path_of(store, content).write_bytes(there)


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


async def test_many_blobs_arrive_and_are_reported_together(store: Store, server: FaultyServer) -> None:
    server.bytes_per_s = 1_000_000
    reported = await fetch(store, BLOBS, server)
    assert names(store) == {Digest.of(content).file_name for content in BLOBS}
    assert all(store.blobs.read(Digest.of(content), SIZE) == content for content in BLOBS)
    assert reported == sorted(reported)
    assert reported[-1] == 40 * SIZE
    assert any(0 < completed < 40 * SIZE for completed in reported)


@pytest.mark.parametrize("streams", [1, 4, 0])
async def test_so_many_bodies_at_once(store: Store, server: FaultyServer, streams: int) -> None:
    server.bytes_per_s = 4_000_000
    await fetch(store, BLOBS, server, streams=streams)
    assert server.most_in_flight == max(1, streams)


async def test_blobs_that_are_there_in_their_size_are_not_asked_for(store: Store, server: FaultyServer) -> None:
    """Partly S-27: a model of tensors. A digest that stands there twice counts once."""
    for content in BLOBS[:39]:
        store.blobs.put(content)
    store.blobs.path(Digest.of(BLOBS[7])).write_bytes(b"of another size")
    reported = await fetch(store, [*BLOBS, BLOBS[3], BLOBS[39]], server)
    assert len(server.bytes_asked) == 2
    assert store.blobs.read(Digest.of(BLOBS[7]), SIZE) == BLOBS[7]
    assert reported[-1] == 40 * SIZE


@pytest.mark.parametrize("content", [b"", b"x"], ids=["empty", "one byte"])
async def test_the_smallest_blobs(store: Store, server: FaultyServer, content: bytes) -> None:
    server.add(content)
    await fetch(store, [content], server)
    assert store.blobs.read(Digest.of(content), 1) == content


# --- resume ----------------------------------------------------------------------------------------------------------


async def test_s44_a_large_blob_is_resumed_after_its_beginning_was_hashed_again(
    store: Store, server: FaultyServer
) -> None:
    """Partly S-44: the lines are the pull's."""
    assert Tuning().resume_bytes == 64 * 2**20
    leave_tmp(store, LARGE, LARGE[:150_000])
    await fetch(store, [LARGE], server)
    assert server.ranges == [(150_000, len(LARGE))]
    assert store.blobs.read(Digest.of(LARGE), len(LARGE)) == LARGE
    assert names(store) == {Digest.of(LARGE).file_name}


async def test_s44_a_small_blob_starts_anew_and_leaves_nothing(store: Store, server: FaultyServer) -> None:
    """Partly S-44."""
    leave_tmp(store, BLOBS[0], BLOBS[0][:5000])
    server.faults.append(faults.stall(5000))
    task = asyncio.create_task(fetch(store, [BLOBS[0], LARGE], server))
    await until(lambda: server.sent_bytes == 10_000)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(server.ranges) == {None}
    assert names(store) == {tmp_path_of(store, LARGE).name}
    assert tmp_path_of(store, LARGE).read_bytes() == LARGE[:5000]


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (LARGE + b"!", None),
        (LARGE, ...),
        (b"", None),
        (bytes(1000), (1000, len(LARGE))),
    ],
    ids=["larger than the blob", "all of it", "nothing", "wrong"],
)
async def test_other_beginnings(store: Store, server: FaultyServer, there: bytes, asked: Any) -> None:
    leave_tmp(store, LARGE, there)
    await fetch(store, [LARGE], server)
    assert store.blobs.read(Digest.of(LARGE), len(LARGE)) == LARGE
    assert server.ranges[:1] == ([] if asked is ... else [asked])


async def test_a_server_without_ranges_starts_over(store: Store, server: FaultyServer) -> None:
    leave_tmp(store, LARGE, LARGE[:150_000])
    server.faults.append(faults.whole())
    await fetch(store, [LARGE], server)
    assert store.blobs.read(Digest.of(LARGE), len(LARGE)) == LARGE


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_s44_content_and_size_are_checked(store: Store, server: FaultyServer) -> None:
    """Partly S-44. Six counted tries, and nothing of it stays."""
    server.blobs[Digest.of(BLOBS[0])] = bytes(SIZE)
    server.blobs[Digest.of(BLOBS[1])] = BLOBS[1] + b"!"
    with pytest.raises(
        RegistryError, match=r"^max retries exceeded: digest mismatch: want sha256:\w+, got sha256:\w+$"
    ):
        await fetch(store, BLOBS[:1], server)
    assert len(server.bytes_asked) == 6
    with pytest.raises(RegistryError, match=r"^max retries exceeded: size mismatch: "):
        await fetch(store, BLOBS[1:2], server)
    assert names(store) == set()


@pytest.mark.parametrize(
    "fault",
    [faults.status(500, times=5), faults.html_403(times=5), faults.cut(100, times=5)],
    ids=["500", "403", "cut"],
)
async def test_five_failures_are_forgiven(store: Store, server: FaultyServer, fault: faults.Fault) -> None:
    server.faults.append(fault)
    await fetch(store, BLOBS[:1], server)
    assert store.blobs.exists(Digest.of(BLOBS[0]))


async def test_stalls_do_not_count(store: Store, server: FaultyServer) -> None:
    assert Tuning().stall_s == 10
    server.faults.append(faults.stall(100, times=8))
    await fetch(store, BLOBS[:1], server, tuning=Tuning(stall_s=0.05))
    assert store.blobs.exists(Digest.of(BLOBS[0]))


def is_large(request: Request) -> bool:
    return Digest.of(LARGE).hex in request.path


SLOW = Tuning(scheduled=1, slow_after_s=0.1, sample_bytes=SIZE, backoff_s=0)


async def test_a_body_much_slower_than_the_others_is_asked_for_again(store: Store, server: FaultyServer) -> None:
    """Alone it would take four seconds."""
    figures = Tuning()
    assert (figures.slow_after_s, figures.slow_share, figures.least_samples, figures.samples) == (5, 0.1, 5, 30)
    server.faults.append(faults.slow(100_000, when=is_large, times=2))
    async with asyncio.timeout(3):
        await fetch(store, [*BLOBS[:5], LARGE], server, tuning=SLOW)
    assert len(server.bytes_asked) == 5 + 3


async def test_a_body_that_is_always_slow_is_given_up(store: Store, server: FaultyServer) -> None:
    """Six counted tries after the two that are free."""
    server.faults.append(faults.slow(100_000, when=is_large))
    with pytest.raises(RegistryError, match=r"^max retries exceeded: too slow$"):
        await fetch(store, [*BLOBS[:5], LARGE], server, tuning=SLOW)
    assert len(server.bytes_asked) == 5 + 2 + 6


async def test_a_few_samples_prove_nothing(store: Store, server: FaultyServer) -> None:
    server.faults.append(faults.slow(800_000, when=is_large))
    await fetch(store, [*BLOBS[:4], LARGE], server, tuning=SLOW)
    assert len(server.bytes_asked) == 5


async def test_a_source_that_fails_is_replaced_by_the_next_one(store: Store, server: FaultyServer) -> None:
    async with FaultyServer() as mirror:
        for content in BLOBS[:20]:
            mirror.add(content)
        mirror.blobs[Digest.of(BLOBS[3])] = bytes(SIZE)
        mirror.faults.append(faults.status(500, times=2))
        await fetch(store, BLOBS, mirror, server)
    assert all(store.blobs.read(Digest.of(content), SIZE) == content for content in BLOBS)
    assert len(server.bytes_asked) == 20 + 3


async def test_a_registry_without_a_blob_ends_it_at_once(store: Store, server: FaultyServer) -> None:
    del server.blobs[Digest.of(BLOBS[5])]
    with pytest.raises(RegistryError, match="file does not exist"):
        await fetch(store, BLOBS, server, tuning=Tuning(backoff_s=60))
    assert not [name for name in names(store) if name.endswith(".tmp")]


# --- others and the disk ---------------------------------------------------------------------------------------------


async def test_two_pulls_of_one_model_make_one_transfer(store: Store, server: FaultyServer) -> None:
    """Partly X-81: a model of tensors, with stores of their own as two processes have them."""
    server.bytes_per_s = 400_000
    stores = [store, Store(store.root)]
    await asyncio.gather(*(fetch(each, BLOBS[:20], server) for each in stores))
    assert server.sent_bytes == 20 * SIZE
    assert len(names(store)) == 20


async def test_what_does_not_fit_is_refused_before_anything_is_asked(store: Store, server: FaultyServer) -> None:
    huge = [Layer(TENSOR, Digest.of(content), 1 << 40) for content in BLOBS]
    async with server.session() as source:
        with pytest.raises(DiskFull, match=f"{40 << 40} bytes are needed"):
            await download_many(store, huge, [source], streams=4, pace=Pace(), report=lambda completed: None)
    assert server.asked == []
    assert names(store) == set()
