"""Fetching one blob: what a registry, a line, a disk and a kill may do to it (store-registry §3.3, §3.4)."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import DiskFull, Forbidden, LlameroError, RegistryError, StorageError
from llamero.names import Digest
from llamero.registry import parts, thread, transfer
from llamero.registry.download import download
from llamero.registry.feed import Source
from llamero.registry.limit import Pace, RateLimit
from llamero.registry.transfer import Tuning
from llamero.store import Store
from tests.registry import faulty_server as faults
from tests.registry.faulty_server import FaultyServer, Request

PART = 100_000
"""Bytes of the smallest part here; real ones have a hundred megabytes."""
SIZE = 12 * PART
CONTENT = random.Random(1).randbytes(SIZE)
DIGEST = Digest.of(CONTENT)
HASTY = Tuning(backoff_s=0.001, stall_s=0.25, save_s=0.05, tend_s=0.05, report_s=0.01)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MIN_PART_BYTES", PART)
    monkeypatch.setattr(parts, "MAX_PART_BYTES", 10 * PART)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with FaultyServer() as started:
        started.add(CONTENT)
        yield started


async def fetch(
    store: Store,
    *servers: FaultyServer,
    digest: Digest = DIGEST,
    size_bytes: int = SIZE,
    tuning: Tuning = HASTY,
    pace: Pace | None = None,
) -> list[int]:
    """Download, the last server being the registry and the others mirrors. Returns what was reported."""
    reported: list[int] = []
    async with AsyncExitStack() as stack:
        kinds = ["mirror"] * (len(servers) - 1) + ["registry"]
        sources: Sequence[Source] = [
            await stack.enter_async_context(server.session(kind))  # type: ignore[arg-type]
            for server, kind in zip(servers, kinds, strict=True)
        ]
        report = reported.append
        await download(store, digest, size_bytes, sources, pace=pace or Pace(), report=report, tuning=tuning)
    return reported


def names(store: Store) -> set[str]:
    """What lies in the blobs folder, the digest's own name shortened."""
    folder = store.blobs.folder
    return {path.name.replace(DIGEST.file_name, "*") for path in folder.iterdir()} if folder.exists() else set()


def partial_path(store: Store, suffix: str = "-partial") -> Path:
    path = store.blobs.path(DIGEST)
    return path.with_name(path.name + suffix)


def leave_partial(store: Store, *states: parts.Part, content: bytes = CONTENT) -> None:
    """An interrupted download as Ollama leaves it: only what the states call completed is there."""
    store.blobs.folder.mkdir(parents=True, exist_ok=True)
    data = bytearray(SIZE)
    for part in states:
        data[part.offset : part.position] = content[part.offset : part.position]
        partial_path(store, f"-partial-{part.number}").write_bytes(part.state)
    partial_path(store).write_bytes(data)


def as_ollama_resumes(store: Store) -> dict[int, dict[str, int]]:
    """What stock Ollama would go on with: every state file it finds, and the checks that it leaves out."""
    found = {}
    for path in store.blobs.folder.glob(DIGEST.file_name + "-partial-*"):
        text = path.read_text()
        state = json.loads(text)
        assert re.fullmatch(r'\{"N":\d+,"Offset":\d+,"Size":\d+,"Completed":\d+\}\n', text)
        assert path.name.endswith(f"-{state['N']}")
        found[state["N"]] = state
    assert sorted(found) == list(range(len(found)))
    assert sum(state["Size"] for state in found.values()) == SIZE
    data = partial_path(store).read_bytes()
    assert len(data) == SIZE
    for state in found.values():
        start = state["Offset"]
        assert data[start : start + state["Completed"]] == CONTENT[start : start + state["Completed"]]
    return found


def assert_stored(store: Store, content: bytes = CONTENT) -> None:
    assert store.blobs.path(Digest.of(content)).read_bytes() == content
    assert "*-partial" not in names(store)
    assert not [name for name in names(store) if name.startswith("*-partial")]


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


# --- the plain course ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size_bytes", [0, 1, 999_999, 1_000_000, PART * 40 + 1])
async def test_a_blob_of_any_size_arrives(store: Store, server: FaultyServer, size_bytes: int) -> None:
    content = CONTENT[:1] * size_bytes
    reported = await fetch(store, server, digest=server.add(content), size_bytes=size_bytes)
    assert_stored(store, content)
    assert names(store) == {Digest.of(content).file_name}
    assert stat.S_IMODE(store.blobs.path(Digest.of(content)).stat().st_mode) == 0o644
    assert reported[-1] == size_bytes
    assert reported == sorted(reported)


async def test_a_small_blob_takes_one_plain_request(store: Store, server: FaultyServer) -> None:
    content = CONTENT[:5000]
    await fetch(store, server, digest=server.add(content), size_bytes=5000)
    assert server.ranges == [None]


async def test_s27_a_blob_that_is_there_is_reported_once_and_asked_for_nowhere(
    store: Store, server: FaultyServer
) -> None:
    store.blobs.put(CONTENT)
    assert await fetch(store, server) == [SIZE]
    assert server.asked == []


async def test_a_blob_of_another_size_is_fetched_again(store: Store, server: FaultyServer) -> None:
    store.blobs.folder.mkdir(parents=True)
    store.blobs.path(DIGEST).write_bytes(CONTENT[:-1])
    await fetch(store, server)
    assert_stored(store)


@pytest.mark.parametrize("style", ["direct", "location", "redirect", "elsewhere"])
async def test_s31_s32_s33_wherever_the_bytes_lie(store: Store, style: faults.Style) -> None:
    """S-32: 200 with bytes and no Location; S-33: 200 with Location; S-31: the target of a redirect, and no credentials
    for it. Links are followed word for word.
    """
    async with FaultyServer(style=style, login="user:secret") as server:
        server.add(CONTENT)
        await fetch(store, server)
        assert_stored(store)
        ranges = [request for request in server.bytes_asked if request.range]
        assert len(ranges) == 12
        if style != "direct":
            assert all(request.path.startswith("/storage/") for request in ranges)
            assert not any("authorization" in request.headers for request in ranges)
            assert any("authorization" in request.headers for request in server.asked)


async def test_s29_parts_and_never_more_than_sixteen_requests_in_flight(store: Store, server: FaultyServer) -> None:
    content = random.Random(2).randbytes(420 * PART)
    server.bytes_per_s = 4_000_000
    tuning = Tuning(tend_s=0.02, pays=0.0)
    await fetch(store, server, digest=server.add(content), size_bytes=len(content), tuning=tuning)
    assert_stored(store, content)
    assert server.most_in_flight == 16
    assert sorted(each for each in server.ranges if each) == [
        (at, at + 10 * PART) for at in range(0, 420 * PART, 10 * PART)
    ]
    with pytest.MonkeyPatch.context() as real:
        real.setattr(parts, "MIN_PART_BYTES", 100_000_000)
        real.setattr(parts, "MAX_PART_BYTES", 1_000_000_000)
        assert [part.size_bytes for part in parts.plan(1_200_000_000)] == [100_000_000] * 12
        assert [part.size_bytes for part in parts.plan(42_000_000_000)] == [1_000_000_000] * 42


async def test_requests_are_added_only_while_they_bring_speed(store: Store, server: FaultyServer) -> None:
    """All connections share one slow line here, so that the second doubling brings nothing."""
    line = RateLimit(2_000_000)
    content = random.Random(3).randbytes(20 * PART)
    digest = server.add(content)
    await fetch(store, server, digest=digest, size_bytes=len(content), tuning=Tuning(tend_s=0.2), pace=Pace(line))
    assert server.most_in_flight <= 8


async def test_s45_no_encoding_is_asked_for_and_none_is_undone(store: Store, server: FaultyServer) -> None:
    server.faults.append(faults.said_to_be_gzip())
    await fetch(store, server)
    assert_stored(store)
    assert {request.headers["accept-encoding"] for request in server.bytes_asked} == {"identity"}


@pytest.mark.parametrize("seconds", [1, pytest.param(20, marks=pytest.mark.heavy)])
async def test_s104_a_limited_download_keeps_its_rate(store: Store, server: FaultyServer, seconds: int) -> None:
    """S-104: 5 MB/s within a tenth, with all parts active; over twenty seconds when heavy tests run."""
    content = random.Random(4).randbytes(seconds * 5_000_000)
    digest = server.add(content)
    started = time.monotonic()
    tuning = Tuning(first_requests=16)
    await fetch(store, server, digest=digest, size_bytes=len(content), tuning=tuning, pace=Pace(RateLimit(5_000_000)))
    assert len(content) / (time.monotonic() - started) == pytest.approx(5_000_000, rel=0.1)


# --- interrupted and resumed -----------------------------------------------------------------------------------------


async def test_s30_what_ollama_left_is_resumed_exactly(store: Store, server: FaultyServer) -> None:
    """Partly S-30: this way round. Parts are as Ollama made them, and need not lie in order."""
    leave_partial(
        store,
        parts.Part(0, 0, 300_000, 300_000),
        parts.Part(1, 500_000, 700_000, 100_000),
        parts.Part(2, 300_000, 200_000, 0),
    )
    reported = await fetch(store, server)
    assert_stored(store)
    assert names(store) == {"*"}
    assert sorted(each for each in server.ranges if each) == [(300_000, 500_000), (600_000, 1_200_000)]
    assert min(reported) >= 400_000


async def test_s30_what_we_leave_ollama_can_resume_and_so_can_we(store: Store, server: FaultyServer) -> None:
    """S-30, with stock Ollama's reading of the files replayed. Cancellation leaves all of it consistent."""
    server.faults.append(faults.stall(30_000, when=lambda request: request.range != (0, PART)))
    task = asyncio.create_task(fetch(store, server, tuning=Tuning(tend_s=0.02, pays=0.0)))
    await until(lambda: server.in_flight == 11)
    await until(lambda: server.sent_bytes >= PART + 11 * 30_000)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    states = as_ollama_resumes(store)
    assert states[0] == {"N": 0, "Offset": 0, "Size": PART, "Completed": PART}
    assert {state["Completed"] for number, state in states.items() if number} == {30_000}
    server.faults.clear()
    server.bytes_asked.clear()
    await fetch(store, server)
    assert_stored(store)
    assert sorted(each for each in server.ranges if each) == [
        (at + 30_000, at + PART) for at in range(PART, SIZE, PART)
    ]


TAMPERED = {
    "negative": {1: b'{"N":1,"Offset":-100000,"Size":600000,"Completed":0}\n'},
    "overlapping": {1: b'{"N":1,"Offset":500000,"Size":700000,"Completed":0}\n'},
    "huge": {1: b'{"N":1,"Offset":600000,"Size":99999999999999,"Completed":99999999999998}\n'},
    "beyond any integer": {1: b'{"N":1,"Offset":1e400,"Size":600000,"Completed":0}\n'},
    "a hole": {1: b'{"N":1,"Offset":700000,"Size":500000,"Completed":0}\n'},
    "too short": {1: b'{"N":1,"Offset":600000,"Size":100000,"Completed":0}\n'},
    "more than all of it": {1: b'{"N":1,"Offset":600000,"Size":600000,"Completed":600001}\n'},
    "no JSON": {1: b"../../etc/passwd"},
    "nothing": {1: b""},
    "a part too many": {2: b'{"N":2,"Offset":1200000,"Size":5,"Completed":0}\n', 7: b"{}"},
    "finished without its bytes": {1: b'{"N":1,"Offset":600000,"Size":600000,"Completed":600000}\n'},
}


@pytest.mark.parametrize("tampered", TAMPERED.values(), ids=TAMPERED.keys())
async def test_x84_tampered_states_lead_to_a_clean_restart(
    store: Store, server: FaultyServer, tampered: dict[int, bytes]
) -> None:
    leave_partial(store, parts.Part(0, 0, 600_000, 5), parts.Part(1, 600_000, 600_000, 0))
    for number, state in tampered.items():
        partial_path(store, f"-partial-{number}").write_bytes(state)
    await fetch(store, server)
    assert_stored(store)
    assert names(store) == {"*"}


async def test_x84_states_whose_file_is_gone_or_shorter_are_not_believed(store: Store, server: FaultyServer) -> None:
    leave_partial(store, parts.Part(0, 0, SIZE, SIZE // 2))
    partial_path(store).write_bytes(CONTENT[:-1])
    await fetch(store, server)
    assert_stored(store)
    store.blobs.path(DIGEST).unlink()
    leave_partial(store, parts.Part(0, 0, SIZE, SIZE // 2))
    partial_path(store).unlink()
    await fetch(store, server)
    assert_stored(store)


@pytest.mark.parametrize("kind", ["pipe", "link"])
async def test_x84_a_state_that_is_no_file(store: Store, server: FaultyServer, tmp_path: Path, kind: str) -> None:
    leave_partial(store, parts.Part(0, 0, SIZE, SIZE // 2))
    state = partial_path(store, "-partial-0")
    state.unlink()
    if kind == "pipe":
        os.mkfifo(state)
    else:
        state.symlink_to(tmp_path / "nowhere")
    await fetch(store, server)
    assert_stored(store)
    assert names(store) == {"*"}
    assert not (tmp_path / "nowhere").exists()


async def test_a_damaged_beginning_is_fetched_again_as_a_whole(store: Store, server: FaultyServer) -> None:
    """After a power cut a state may say more than the disk has."""
    leave_partial(store, parts.Part(0, 0, SIZE, SIZE - 5), content=bytes(SIZE))
    await fetch(store, server)
    assert_stored(store)


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
async def test_what_is_no_file_is_never_written_to(
    store: Store, server: FaultyServer, tmp_path: Path, kind: str
) -> None:
    outside = tmp_path / "outside"
    store.blobs.folder.mkdir(parents=True)
    match kind:
        case "link":
            outside.write_bytes(b"mine")
            partial_path(store).symlink_to(outside)
        case "dangling":
            partial_path(store).symlink_to(outside)
        case "pipe":
            os.mkfifo(partial_path(store))
        case "folder":
            partial_path(store).mkdir()
    with pytest.raises(StorageError):
        await fetch(store, server)
    assert server.asked == []
    assert not outside.exists() or outside.read_bytes() == b"mine"


async def test_a_link_in_the_blobs_place_is_replaced_not_followed(
    store: Store, server: FaultyServer, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    store.blobs.folder.mkdir(parents=True)
    store.blobs.path(DIGEST).symlink_to(tmp_path / "outside")
    await fetch(store, server)
    assert not store.blobs.path(DIGEST).is_symlink()
    assert_stored(store)
    assert (tmp_path / "outside").read_bytes() == b"mine"


async def test_a_file_swapped_under_our_hands_is_not_taken_for_the_blob(store: Store, server: FaultyServer) -> None:
    server.faults.append(faults.slow(400_000, times=1))
    task = asyncio.create_task(fetch(store, server))
    await until(lambda: server.sent_bytes)
    partial_path(store).unlink()
    partial_path(store).write_bytes(b"something else")
    with pytest.raises(StorageError):
        await task
    assert not store.blobs.exists(DIGEST)


# --- killed ----------------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, sys
from pathlib import Path
from llamero.names import Digest
from llamero.registry import parts
from llamero.registry.download import download
from llamero.registry.limit import Pace, RateLimit
from llamero.store import Store
from tests.registry.faulty_server import FaultyServer

parts.MIN_PART_BYTES = 1_000_000

async def main(port, root, digest, size, bytes_per_s):
    server = FaultyServer()
    server.port = int(port)
    async with server.session() as source:
        pace = Pace(RateLimit(int(bytes_per_s)))
        await download(Store(Path(root)), Digest.parse(digest), int(size), [source], pace=pace, report=lambda n: None)

asyncio.run(main(*sys.argv[1:]))
"""


CHILD_BYTES_PER_S = 2_000_000


async def child(
    server: FaultyServer, store: Store, digest: Digest, size_bytes: int, bytes_per_s: int = 0
) -> asyncio.subprocess.Process:
    arguments = [str(server.port), str(store.root), str(digest), str(size_bytes), str(bytes_per_s)]
    here = Path(__file__).parents[2]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, *arguments, cwd=here, stderr=subprocess.PIPE
    )


async def test_s109_a_kill_loses_at_most_a_few_seconds_and_another_process_goes_on(
    store: Store, server: FaultyServer
) -> None:
    content = random.Random(5).randbytes(8_000_000)
    digest = server.add(content)
    process = await child(server, store, digest, len(content), CHILD_BYTES_PER_S)
    await until(lambda: server.sent_bytes)
    await asyncio.sleep(2.2)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    states = [json.loads(path.read_text()) for path in store.blobs.folder.glob("*-partial-*")]
    saved = sum(state["Completed"] for state in states)
    assert saved > (2.2 - 1.0 - 0.5) * CHILD_BYTES_PER_S  # half a second is for the child's start and a busy machine
    server.bytes_asked.clear()
    process = await child(server, store, digest, len(content))
    assert await process.wait() == 0
    assert sum(each[1] - each[0] for each in server.ranges if each) == len(content) - saved
    assert_stored(store, content)


# --- faults of the registry and of the line ------------------------------------------------------------------------


WRONG = {
    "the whole blob for a range": faults.whole,
    "416": lambda **options: faults.status(416, **options),
    "an HTML 403": faults.html_403,
    "an HTML 200": lambda **options: faults.status(200, faults.HTML, **options),
    "another range": lambda **options: faults.other_range("bytes 0-99999/1200000", **options),
    "a range of another blob": lambda **options: faults.other_range("bytes 100000-199999/1200001", **options),
    "206 and no range": lambda **options: faults.other_range("", **options),
    "a range that is no range": lambda **options: faults.other_range("bytes */1200000", **options),
    "204": lambda **options: faults.status(204, **options),
}


@pytest.mark.parametrize("fault", WRONG.values(), ids=WRONG.keys())
async def test_s34_an_answer_that_is_not_the_range_never_gets_into_the_blob(
    store: Store, server: FaultyServer, fault: Any
) -> None:
    """S-34: once, and it is retried; always, and the pull fails with nothing of it written."""

    def second(request: Request) -> bool:
        return request.range is not None and request.range[0] == PART

    server.faults.append(fault(when=second))
    with pytest.raises(RegistryError, match=r"^max retries exceeded: "):
        await fetch(store, server)
    states = as_ollama_resumes(store)
    assert states[1]["Completed"] == 0
    server.faults[:] = [fault(when=second, times=1)]
    await fetch(store, server)
    assert_stored(store)


async def test_a_whole_answer_goes_for_a_part_that_is_all_of_the_blob(store: Store, server: FaultyServer) -> None:
    """A server without ranges: the blob is one part, and what is there already is skipped when it comes again."""
    leave_partial(store, parts.Part(0, 0, SIZE, 50_000))
    server.faults.append(faults.whole())
    await fetch(store, server)
    assert_stored(store)


async def test_bytes_beyond_the_range_are_not_taken(store: Store, server: FaultyServer) -> None:
    server.faults.append(faults.endless())
    await fetch(store, server)
    assert_stored(store)


async def test_s35_stalls_alone_never_exhaust_the_tries(store: Store, server: FaultyServer) -> None:
    """S-35: ten of them here, after which each retry came at once and on a new connection."""
    assert Tuning().stall_s == 30
    leave_partial(store, parts.Part(0, 0, SIZE))
    server.faults += [faults.stall(1000, times=5), faults.stall(head=False, times=5)]
    started = time.monotonic()
    await fetch(store, server, tuning=Tuning(stall_s=0.1, backoff_s=60))
    assert 1.0 < time.monotonic() - started < 5
    assert_stored(store)
    stalled = server.bytes_asked[-11:]
    assert len({request.connection for request in stalled}) == 11
    assert [request.range[0] for request in stalled if request.range] == [*range(0, 6000, 1000), *[5000] * 5]


async def test_s36_six_failures_of_a_part_end_the_pull_and_the_next_one_resumes(
    store: Store, server: FaultyServer
) -> None:
    assert (Tuning().tries, Tuning().backoff_s) == (6, 1.0)
    last = (SIZE - PART, SIZE)
    asked_s: list[float] = []

    def is_last(request: Request) -> bool:
        if request.range == last:
            asked_s.append(time.monotonic())
        return request.range == last

    server.faults.append(faults.status(500, when=is_last))
    with pytest.raises(RegistryError, match=r"^max retries exceeded: unexpected status code 500$") as caught:
        await fetch(store, server, tuning=Tuning(backoff_s=0.02))
    assert caught.value.__cause__ is not None
    pauses = [later - earlier for earlier, later in itertools.pairwise(asked_s)]
    assert len(pauses) == 5
    assert all(pause > 0.02 * 2**tried for tried, pause in enumerate(pauses))
    states = as_ollama_resumes(store)
    assert [number for number, state in states.items() if state["Completed"] != PART] == [11]
    server.faults.clear()
    server.bytes_asked.clear()
    await fetch(store, server)
    assert [each for each in server.ranges if each] == [last]
    assert_stored(store)


async def test_cut_connections_lose_nothing_that_arrived(store: Store, server: FaultyServer) -> None:
    """Partly X-86: connection loss in a pull. Every part is cut once after 40,000 bytes."""
    server.faults.append(faults.cut(40_000, times=12, when=lambda request: (request.range or (1,))[0] % PART == 0))
    await fetch(store, server)
    assert_stored(store)
    assert sum(stop - start for start, stop in (each for each in server.ranges if each)) == SIZE + 12 * 60_000


async def test_links_that_expire_are_asked_for_again(store: Store, server: FaultyServer) -> None:
    server.faults.append(faults.slow(300_000, times=4))
    task = asyncio.create_task(fetch(store, server))
    await until(lambda: server.sent_bytes > 0)
    server.expire_links()
    await task
    assert_stored(store)
    probes = [request for request in server.asked if request.path.startswith("/v2/")]
    assert len(probes) == 2


async def test_a_registry_without_the_blob_is_believed_at_once(store: Store, server: FaultyServer) -> None:
    with pytest.raises(RegistryError, match="file does not exist"):
        await fetch(store, server, digest=Digest.of(b"other"), tuning=Tuning(backoff_s=60))


async def test_an_address_that_is_not_allowed_is_an_error_at_once(store: Store, server: FaultyServer) -> None:
    class Elsewhere:
        """A session whose registry sends us to the metadata service."""

        def __init__(self) -> None:
            self.origin = server.session().origin

        async def locate(self, digest: Digest) -> Any:
            raise Forbidden("169.254.169.254 is not asked")

        def open(self, located: Any, headers: Any) -> Any:
            raise AssertionError("nothing was located")

    with pytest.raises(Forbidden):
        await download(store, DIGEST, SIZE, [Elsewhere()], pace=Pace(), report=lambda completed: None)


async def test_s38_wrong_content_is_said_and_gone(store: Store, server: FaultyServer) -> None:
    """Partly S-38 (the manifest is the pull's) and S-39: asking for the same bogus digest again verifies again."""
    wrong = bytes(SIZE)
    server.blobs[DIGEST] = wrong
    text = f"digest mismatch, file must be downloaded again: want {DIGEST}, got {Digest.of(wrong)}"
    for _ in range(2):
        server.bytes_asked.clear()
        with pytest.raises(RegistryError, match=f"^{text}$"):
            await fetch(store, server)
        assert names(store) == set()
        assert len([each for each in server.ranges if each]) == 12


# --- several sources -------------------------------------------------------------------------------------------------


@pytest.fixture
async def mirror() -> AsyncIterator[FaultyServer]:
    async with FaultyServer() as started:
        started.add(CONTENT)
        yield started


async def test_the_first_source_is_asked_first(store: Store, server: FaultyServer, mirror: FaultyServer) -> None:
    await fetch(store, mirror, server)
    assert_stored(store)
    assert server.asked == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda: faults.status(500), id="500"),
        pytest.param(faults.html_403, id="403"),
        pytest.param(faults.whole, id="whole"),
        pytest.param(lambda: faults.cut(1000), id="cut"),
        pytest.param(lambda: faults.stall(1000), id="stall"),
        pytest.param(lambda: faults.stall(head=False), id="silent"),
    ],
)
async def test_a_source_that_fails_is_replaced_by_the_next_one(
    store: Store, server: FaultyServer, mirror: FaultyServer, fault: Callable[[], faults.Fault]
) -> None:
    mirror.faults.append(fault())
    await fetch(store, mirror, server, tuning=Tuning(stall_s=0.2, backoff_s=60))
    assert_stored(store)
    assert len([each for each in mirror.ranges if each]) == 12


async def test_a_source_without_the_blob_is_asked_no_more(
    store: Store, server: FaultyServer, mirror: FaultyServer
) -> None:
    mirror.blobs.clear()
    await fetch(store, mirror, server)
    assert_stored(store)
    assert len(mirror.asked) <= 2  # by the first two parts, side by side


async def test_a_source_that_is_down_is_asked_no_more(store: Store, server: FaultyServer) -> None:
    """Partly S-107: blobs. The name on disk is the pull's."""
    async with FaultyServer() as gone:
        pass
    await fetch(store, gone, server)
    assert_stored(store)


async def test_wrong_content_of_a_mirror_is_fetched_again_from_the_registry_alone(
    store: Store, server: FaultyServer, mirror: FaultyServer
) -> None:
    mirror.faults.append(faults.instead(bytes(SIZE)))
    await fetch(store, mirror, server)
    assert_stored(store)
    assert len([each for each in server.ranges if each]) == 12


async def test_wrong_content_of_one_part_among_two_sources(
    store: Store, server: FaultyServer, mirror: FaultyServer
) -> None:
    mirror.faults += [faults.instead(bytes(SIZE), times=1), faults.status(500)]
    await fetch(store, mirror, server)
    assert_stored(store)
    assert names(store) == {"*"}


# --- slow parts ------------------------------------------------------------------------------------------------------


async def test_a_slow_part_is_shared_and_its_states_stay_valid(store: Store, server: FaultyServer) -> None:
    """GAP-10. The first part comes at 20 kB/s, which alone would take five seconds."""
    server.bytes_per_s = 1_000_000
    server.faults.append(faults.slow(20_000, when=lambda request: request.range == (0, PART)))
    tuning = Tuning(tend_s=0.05, pays=0.0, save_s=0.05, steal_after_s=0.4)
    started = time.monotonic()
    task = asyncio.create_task(fetch(store, server, tuning=tuning))
    await until(lambda: partial_path(store, "-partial-12").exists())
    states = as_ollama_resumes(store)
    assert states[12]["Offset"] + states[12]["Size"] == PART
    await task
    assert time.monotonic() - started < 3.5
    assert_stored(store)
    assert names(store) == {"*"}


async def test_a_part_that_stands_still_is_taken_over(store: Store, server: FaultyServer) -> None:
    """Without waiting for the stall to be noticed: what is missing is fetched by one other request."""
    server.bytes_per_s = 1_000_000
    server.faults.append(faults.stall(10_000, when=lambda request: request.range == (0, PART)))
    tuning = Tuning(tend_s=0.05, pays=0.0, steal_after_s=0.3, stall_s=30)
    async with asyncio.timeout(5):
        await fetch(store, server, tuning=tuning)
    assert_stored(store)
    assert server.ranges.count((10_000, PART)) == 1


# --- several who want the same ---------------------------------------------------------------------------------------


async def test_x81_twenty_pulls_of_one_digest_make_one_transfer(store: Store, server: FaultyServer) -> None:
    """X-81 and partly S-40: one of them, the one that transfers, is cancelled, and 19 succeed."""
    server.bytes_per_s = 200_000
    first = asyncio.create_task(fetch(store, server))
    await until(lambda: server.sent_bytes > 100_000)
    others = [asyncio.create_task(fetch(store, server)) for _ in range(19)]
    await asyncio.sleep(0.1)
    first.cancel()
    (ended,) = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(ended, BaseException)
    before = server.sent_bytes
    server.bytes_per_s = 0  # not sooner: what is sent until the cancelling is noticed is sent twice
    reports = await asyncio.gather(*others)
    assert len(reports) == 19
    assert_stored(store)
    # what was in the sockets of the first one when it was cancelled is sent twice, and nothing else
    assert server.sent_bytes - SIZE <= before
    assert len(server.ranges) <= 12 + 16
    assert sum(report[0] > 0 for report in reports) >= 18  # those who waited saw how far it was


async def test_threads_with_stores_and_loops_of_their_own_make_one_transfer(store: Store, server: FaultyServer) -> None:
    server.bytes_per_s = 1_000_000
    failures: list[BaseException] = []

    def pull() -> None:
        try:
            thread.run(fetch(Store(store.root), server), cancelled=lambda: False)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=pull) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        await asyncio.to_thread(each.join)
    assert failures == []
    assert_stored(store)
    assert server.sent_bytes == SIZE


async def test_processes_make_one_transfer(store: Store, server: FaultyServer) -> None:
    content = random.Random(6).randbytes(1_500_000)
    digest = server.add(content)
    server.bytes_per_s = 1_000_000
    running = [await child(server, store, digest, len(content)) for _ in range(2)]
    assert [await process.wait() for process in running] == [0, 0]
    assert_stored(store, content)
    assert server.sent_bytes == len(content)


# --- the disk --------------------------------------------------------------------------------------------------------


async def test_what_does_not_fit_is_refused_with_both_figures_and_nothing_is_left(
    store: Store, server: FaultyServer
) -> None:
    with pytest.raises(DiskFull, match=r"^not enough disk space: 1125899906842624 bytes are needed, \d+ are free$"):
        await fetch(store, server, size_bytes=1 << 50)
    assert names(store) == set()
    assert server.asked == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Eight megabytes of file system, where tests may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(path: Path) -> None:
    """Take every byte that the disk has left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


async def test_s37_a_disk_that_fills_up_ends_it_at_once(
    small_disk: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-37 and partly X-86: the system's words, everything that is there stays, and with room again it goes on."""
    store = Store(small_disk / "models")
    other = store.blobs.put(b"another model")
    content = random.Random(7).randbytes(5_000_000)
    digest = server.add(content)
    server.bytes_per_s = 2_000_000
    tuning = Tuning(save_s=60, backoff_s=60)  # the reserve is looked at when states are saved
    task = asyncio.create_task(fetch(store, server, digest=digest, size_bytes=len(content), tuning=tuning))
    await until(lambda: server.sent_bytes > 500_000)
    filler = small_disk / "filler"
    fill(filler)
    with pytest.raises(DiskFull, match=r"^write blob: no space left on device$") as caught:
        await task
    assert caught.value.status == 507
    assert store.blobs.exists(other)
    assert store.blobs.path(digest).with_name(digest.file_name + "-partial").exists()
    filler.unlink()
    server.bytes_asked.clear()
    await fetch(store, server, digest=digest, size_bytes=len(content))
    assert_stored(store, content)
    assert sum(each[1] - each[0] for each in server.ranges if each) < len(content)


async def test_the_disks_reserve_is_kept_on_the_way_too(small_disk: Path, server: FaultyServer) -> None:
    store = Store(small_disk / "models")
    content = random.Random(8).randbytes(4_000_000)
    server.bytes_per_s = 200_000
    task = asyncio.create_task(fetch(store, server, digest=server.add(content), size_bytes=len(content)))
    await until(lambda: server.sent_bytes > 200_000)
    (small_disk / "filler").write_bytes(bytes(7_000_000))
    with pytest.raises(DiskFull, match="not enough disk space"):
        await task


async def test_only_our_own_errors_come_out(store: Store, server: FaultyServer) -> None:
    server.faults.append(faults.cut(0))
    with pytest.raises(LlameroError) as caught:
        await fetch(store, server)
    assert "signature" not in str(caught.value)  # partly X-36: the query of a link


def test_the_figures_of_the_specification() -> None:
    assert transfer.MAX_IN_FLIGHT == 16
    assert Tuning().save_s <= 2
