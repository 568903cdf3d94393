"""A server under people: many of them, slow ones, those who vanish, and stops in the middle of it all.

    python -m bench.soak [--quick] [--json FILE] [--idle N] [--active N] [--requests N] ...

Our server in a process of its own with default settings and the real engine; all clients are in this process. While
many connections are open and silent, many conversations are asked for at once; some read their answers line by line
with pauses, some send their questions a few bytes at a time. Then come small requests on a few connections; clients
that leave in every phase of a request, behind which files and slots are what they were; and stops under load, after
each of which the server is started again on the same port. Only what was being answered at a stop may be lost, and a
stream that is cut short has to say so. A row without a goal tells what it took. Ends with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import date
from functools import partial
from pathlib import Path

import aiohttp

from tests.crowd import allow_files, answer_s, connected
from tests.running import Server, free_port, linked_copy, running

from .figures import Figure
from .machine import Machine
from .processes import cpu_s, resident_mib
from .report import Report
from .servers import MODEL, models_folder
from .visitors import FAILURES, Tally, chat, chat_slowly_asked, client, probed, question, small, vanish

READ_PAUSE_S = 0.25
"""Of a slow reader, behind each line."""

KEPT_CONNECTIONS = 16
LONG_TOKENS = 400
SETTLED_S = 30.0
"""In which everything is let go that nobody wants any more."""

PHASES: tuple[Callable[[int], Awaitable[None]], ...] = (
    partial(vanish, sent=0.0),
    partial(vanish, sent=0.1),  # in the head
    partial(vanish, sent=0.8),  # in the body
    partial(vanish, sent=1.0),
    partial(vanish, sent=1.0, wait_s=0.2),  # in the queue, in a load, or while the prompt is read
    partial(vanish, pieces=1),
    partial(vanish, pieces=20),
)
"""When a client leaves the server at that port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    idle: int = 1000
    active: int = 200
    slow: int = 20
    """Readers, and as many writers."""
    requests: int = 10_000
    vanishing: int = 20
    """Rounds, in each of which one leaves in each phase."""
    restarts: int = 3
    load: int = 16
    """Clients that go on asking while the server is stopped and started."""


QUICK = Sizes(idle=50, active=6, slow=2, requests=200, vanishing=2, restarts=1, load=4)


def measure(sizes: Sizes) -> list[Figure]:
    """Everything, on one server; the stops come last."""
    allow_files(sizes.idle + 2 * sizes.active + 500)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        models = linked_copy(models_folder(), path / "models")
        with running(path, models) as server:
            rows = asyncio.run(_while_it_runs(server, sizes))
        return rows + asyncio.run(restarts(path, models, sizes))


async def _while_it_runs(server: Server, sizes: Sizes) -> list[Figure]:
    return [
        *await crowd(server, sizes),
        *await small_requests(server, sizes),
        *await vanishing(server, sizes),
    ]


async def crowd(server: Server, sizes: Sizes) -> list[Figure]:
    """Silent connections, conversations, slow readers and slow writers, all at the same time."""
    pid, port = server.process.pid, server.port
    before_mib = resident_mib(pid)
    with connected(port, sizes.idle):
        await asyncio.to_thread(answer_s, port)
        held_kib = 1024 * (resident_mib(pid) - before_mib) / max(1, sizes.idle)
        talks, reads, writes = Tally(), Tally(), Tally()
        async with client(port) as session, probed(port) as waits:
            await asyncio.gather(
                *(talks.count(chat(session, number)) for number in range(sizes.active)),
                *(reads.count(chat(session, number, pause_s=READ_PAUSE_S)) for number in range(sizes.slow)),
                *(writes.count(chat_slowly_asked(port, number)) for number in range(sizes.slow)),
            )
    return [
        Figure(f"memory per silent connection, {sizes.idle} of them", (held_kib,), "KiB", better="less"),
        *talks.figures("conversations at once, beside those"),
        *reads.figures("slow readers"),
        *writes.figures("slow writers"),
        Figure("the longest that somebody else waited for the version", (max(waits),), "s", goal=1.0, better="less"),
    ]


async def small_requests(server: Server, sizes: Sizes) -> list[Figure]:
    """One after the other on each of a few connections."""
    tally = Tally()
    numbers = iter(range(sizes.requests))

    async def ask(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            await tally.count(small(session, number))

    started_s, spent_s = time.monotonic(), cpu_s(server.process.pid)
    async with client(server.port, KEPT_CONNECTIONS) as session:
        await asyncio.gather(*(ask(session) for _ in range(KEPT_CONNECTIONS)))
    took_s, spent_s = time.monotonic() - started_s, cpu_s(server.process.pid) - spent_s
    return [
        *tally.figures("small requests"),
        Figure("small requests per second", (sizes.requests / took_s,), "1/s"),
        Figure("CPU time of the server per small request", (1e6 * spent_s / sizes.requests,), "µs", better="less"),
    ]


async def vanishing(server: Server, sizes: Sizes) -> list[Figure]:
    """Clients that leave in every phase, one of which is answered each time; twice, with the model not loaded."""
    stayed = Tally()
    async with client(server.port, keeps=False) as session:
        await stayed.count(chat(session, 0))
        await asyncio.sleep(1)  # what the parts before have left to be closed
        files_before, mib_before = files(server), resident_mib(server.process.pid)
        for number in range(sizes.vanishing):
            if number in (0, sizes.vanishing // 2):
                await asyncio.to_thread(server.unload_all)
            leaving = (_tried(leave(server.port)) for leave in PHASES)
            await asyncio.gather(*leaving, stayed.count(chat(session, number)))
        await _until(lambda: files(server) <= files_before)
        await stayed.count(chat(session, 1))
    left = max(0, files(server) - files_before)
    return [
        *stayed.figures(f"who stayed among {len(PHASES) * sizes.vanishing} who left"),
        Figure("files left open behind those who left", (float(left),), goal=0, better="less"),
        Figure(
            "memory grown behind those who left", (resident_mib(server.process.pid) - mib_before,), "MiB", better="less"
        ),
    ]


# --- stops -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Try:
    """One request of somebody who goes on asking."""

    started_s: float
    ended_s: float
    error: str
    """Empty: it was answered."""


@dataclass
class Stops:
    """What the stops of one server did to those who asked."""

    lost: int = 0
    """Requests that failed although the server was there from their beginning to their end."""
    in_flight: int = 0
    """Requests that were being answered at a stop and did not come to their end."""
    unsaid: int = 0
    """Streams that were cut short without a word."""
    gone: int = 0
    """Models and stored responses that were not there any more."""
    tries: int = 0


async def restarts(folder: Path, models: Path, sizes: Sizes) -> list[Figure]:
    """Stop and start a server that people are asking."""
    port, seen, away_s = free_port(), Stops(), []
    for _ in range(sizes.restarts):
        tries: list[Try] = []
        is_over = asyncio.Event()
        with running(folder, models, port=port) as server:
            kept = await asyncio.to_thread(_keep, server)
            await _loaded(port)
            askers = [asyncio.create_task(_go_on_asking(port, n, tries, is_over)) for n in range(sizes.load)]
            streams = [asyncio.create_task(_long_stream(port, n)) for n in range(4)]
            await asyncio.sleep(2)
            stopped_s = time.monotonic()
            await asyncio.to_thread(server.stop)
        with running(folder, models, port=port) as server:
            ready_s = time.monotonic()
            await asyncio.sleep(2)
            is_over.set()
            await asyncio.gather(*askers)
            ends = await asyncio.gather(*streams)
            seen.gone += await asyncio.to_thread(_missing, server, kept)
        away_s.append(ready_s - stopped_s)
        failed = [each for each in tries if each.error]
        seen.lost += sum(each.ended_s < stopped_s or each.started_s > ready_s for each in failed)
        seen.in_flight += sum(each.started_s < stopped_s <= each.ended_s for each in failed) + len(streams)
        seen.unsaid += sum(not end for end in ends)
        seen.tries += len(tries)
    return [
        Figure(
            f"lost of {seen.tries} requests around {sizes.restarts} stops", (float(seen.lost),), goal=0, better="less"
        ),
        Figure("in flight at a stop, and not answered", (float(seen.in_flight),), better="less"),
        Figure("streams cut short without a word", (float(seen.unsaid),), goal=0, better="less"),
        Figure("models and stored responses gone after a stop", (float(seen.gone),), goal=0, better="less"),
        Figure("from the stop to the next first answer", tuple(away_s), "s", better="less"),
    ]


async def _go_on_asking(port: int, number: int, tries: list[Try], is_over: asyncio.Event) -> None:
    """Small requests, each on a connection of its own, until somebody says that it is enough."""
    async with client(port, keeps=False) as session:
        while not is_over.is_set():
            started_s, error = time.monotonic(), ""
            try:
                await small(session, number)
            except FAILURES as failure:
                error = f"{type(failure).__name__}: {failure}"
            tries.append(Try(started_s, time.monotonic(), error))
            number += 1
            await asyncio.sleep(0.01)


async def _long_stream(port: int, number: int) -> bool:
    """Whether a stream that the server's stop ends says so, or came to its own end before."""
    last = b""
    with suppress(*FAILURES):
        async with client(port, keeps=False) as session:
            asked = question(number, LONG_TOKENS)
            async with session.post("/api/chat", json=asked) as response:
                async for line in response.content:
                    last = line
    return b'"error"' in last or b'"done":true' in last


async def _loaded(port: int) -> None:
    async with client(port) as session:
        await chat(session, 0)


def _keep(server: Server) -> str:
    """Something that has to be there after a stop: a model, and a stored response, whose id this is."""
    server.post("/api/copy", {"source": MODEL, "destination": "soaked"})
    stored = server.post("/v1/responses", {"model": MODEL, "input": "Hi", "max_output_tokens": 1})
    return str(stored.json()["id"])


def _missing(server: Server, stored: str) -> int:
    names = [model["name"] for model in server.get("/api/tags").json()["models"]]
    return ("soaked:latest" not in names) + (server.get(f"/v1/responses/{stored}").status != 200)


# --- small things ----------------------------------------------------------------------------------------------------


def files(server: Server) -> int:
    """That the server has open."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


async def _tried(request: Awaitable[None]) -> None:
    with suppress(*FAILURES):
        await request


async def _until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + SETTLED_S
    while not holds() and time.monotonic() < deadline_s:  # noqa: ASYNC110 # the other process tells nobody
        await asyncio.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes: only shows that it runs")
    parser.add_argument("--json", type=Path, help="write every value there")
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name}", type=int, help=f"instead of {size.default}")
    arguments = parser.parse_args()
    given = {size.name: getattr(arguments, size.name) for size in fields(Sizes)}
    sizes = replace(QUICK if arguments.quick else Sizes(), **{name: n for name, n in given.items() if n is not None})
    machine = Machine.this()
    rows = measure(sizes)
    report = Report(date=date.today().isoformat(), machine=machine, is_quick=arguments.quick, figures=rows)
    print(report.markdown())
    if arguments.json is not None:
        arguments.json.write_text(report.json())
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
