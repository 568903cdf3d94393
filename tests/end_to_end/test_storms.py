"""Storms: many clients change few models at once, and the store stays consistent (X-82).

The long run: `pytest -m heavy tests/end_to_end/test_storms.py -s`, which says its seed; LLAMERO_TEST_SEED repeats one.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import model_folders
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, children, running
from tests.soundness import assert_sound, assert_tidy, doctor_of

pytestmark = pytest.mark.heavy

SEED = int(os.environ.get("LLAMERO_TEST_SEED", "20251121"))
CLIENTS = 8
THINGS = 4
"""Done by each client in a repetition, one after the other."""
NAMES = ("a", "b", "c")
PATIENCE_S = 30.0
"""For one request among all the others; what takes longer hangs."""
LIST_PATIENCE_S = 5.0
OPEN_FILES_SLACK = 8
"""Sockets of a connection that has just ended, a thread's event loop."""


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Models that share their weights, as those of one family do, so that removing one concerns the others."""
    place = tmp_path_factory.mktemp("share")
    for number in range(3):
        texts = {"system": f"system {number}", "license": "of all of them"}
        model_folders.add(place / "models", f"m{number}", tiny_llama(), config={"model_format": "gguf"}, **texts)
    with running(place, place / "models", LLAMERO_SHARE="1") as server:
        yield server


class Storm:
    """Clients, each at its own random work. Two servers may have the same folder."""

    def __init__(self, servers: Sequence[Server], share: Server, seed: int) -> None:
        self._servers = servers
        self._share = share
        self._dice = random.Random(seed)
        self._weights = tiny_llama()
        self.outcomes: Counter[str] = Counter()
        """How often what was answered how."""
        self._count = threading.Lock()

    def blow(self) -> None:
        """One repetition: every client does some things, all at the same time."""
        plans = [(self._dice.choice(self._servers), random.Random(self._dice.random())) for _ in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(self._act, server, dice) for server, dice in plans]:
                done.result()

    def _act(self, server: Server, dice: random.Random) -> None:
        acts = [self._pull, self._delete, self._create, self._derive, self._copy, self._move, self._prune, self._show]
        for act in dice.choices([*acts, self._leave, self._doctor, self._pull, self._delete], k=THINGS):
            self._note(act.__name__, act(server, dice))

    def _note(self, act: str, reply: Reply) -> None:
        outcome = f"{reply.status}"
        if reply.status == 200 and reply.content_type == "application/x-ndjson":
            last = reply.lines()[-1]
            assert last.get("status") == "success" or "error" in last
            broken = [line["status"] for line in reply.lines() if line.get("level") == "fail"]
            outcome = last.get("error", "; ".join(["success", *broken]))
        elif reply.status != 200:
            outcome = f"{reply.status} {reply.error}"
        with self._count:
            self.outcomes[f"{act[1:]}: {_without_names(outcome)}"] += 1

    def _pull(self, server: Server, dice: random.Random) -> Reply:
        name = f"{self._share.host}/library/m{dice.randrange(3)}"
        # under few names, so that one pull replaces what another one brought
        body = {"model": name, "insecure": True, "as": dice.choice(NAMES)}
        return server.post("/api/pull", body, timeout_s=PATIENCE_S)

    def _delete(self, server: Server, dice: random.Random) -> Reply:
        return server.call("DELETE", "/api/delete", {"model": dice.choice(NAMES)}, timeout_s=PATIENCE_S)

    def _create(self, server: Server, dice: random.Random) -> Reply:
        digest = f"sha256:{hashlib.sha256(self._weights).hexdigest()}"
        server.post(f"/api/blobs/{digest}", self._weights, timeout_s=PATIENCE_S)
        body = {"model": dice.choice(NAMES), "files": {"m.gguf": digest}, "system": f"{dice.randrange(4)}"}
        return server.post("/api/create", body, timeout_s=PATIENCE_S)

    def _derive(self, server: Server, dice: random.Random) -> Reply:
        body = {"model": dice.choice(NAMES), "from": f"{dice.choice(NAMES)}:local", "system": f"{dice.randrange(4)}"}
        return server.post("/api/create", body, timeout_s=PATIENCE_S)

    def _copy(self, server: Server, dice: random.Random) -> Reply:
        body = {"source": dice.choice(NAMES), "destination": dice.choice(NAMES)}
        return server.post("/api/copy", body, timeout_s=PATIENCE_S)

    def _move(self, server: Server, dice: random.Random) -> Reply:
        body = {"source": dice.choice(NAMES), "destination": dice.choice(NAMES)}
        return server.post("/api/llamero/move", body, timeout_s=PATIENCE_S)

    def _prune(self, server: Server, dice: random.Random) -> Reply:
        return server.post("/api/llamero/prune", {}, timeout_s=PATIENCE_S)

    def _show(self, server: Server, dice: random.Random) -> Reply:
        return server.post("/api/show", {"model": dice.choice(NAMES)}, timeout_s=PATIENCE_S)

    def _doctor(self, server: Server, dice: random.Random) -> Reply:
        return server.post("/api/llamero/doctor", {}, timeout_s=PATIENCE_S)

    def _leave(self, server: Server, dice: random.Random) -> Reply:
        """Hang up in the midst of a pull."""
        body = {"model": f"{self._share.host}/library/m{dice.randrange(3)}", "insecure": True, "limit_rate": "100KB"}
        with server.streaming("/api/pull", body) as response:
            response.readline()
        return server.get("/api/tags", timeout_s=PATIENCE_S)


def _without_names(text: str) -> str:
    """The kind of an answer: names and digests left out."""
    words = [word for word in text.split() if word.strip("\"':").split(":")[0] not in (*NAMES, "sha256")]
    return " ".join(words)


ALLOWED = {
    "pull": {"success"},
    "delete": {"200", "404 model not found"},
    "create": {"success", "400 blob not found"},
    "derive": {"success", "model not found", "404 model not found"},
    "copy": {"200", "404 model not found"},
    "move": {"200", "404 model not found"},
    "prune": {"200"},
    "show": {"200", "404 model not found"},
    "leave": {"200"},
    "doctor": {"success"},
}
"""What one server may answer, however the winds blow. Between an upload and its create somebody may delete a model with
the same weights: then they are gone."""

BESIDE_ANOTHER = (
    "blob not found",
    "404 blob not found",
    "500 another server uses this models folder: nothing is removed here",
)
"""Two servers know nothing of what the other one is about to need: whoever comes too late is told so."""


def unexpected(storm: Storm, more: Sequence[str] = ()) -> dict[str, int]:
    def is_expected(outcome: str) -> bool:
        what, _, answer = outcome.partition(": ")
        return answer in ALLOWED[what] or answer in more

    return {outcome: count for outcome, count in storm.outcomes.items() if not is_expected(outcome)}


class Lister:
    """Somebody who looks at the list all the time, and always gets it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.longest_s = 0.0
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Lister:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            began_s = time.monotonic()
            try:
                status = self._server.get("/api/tags", timeout_s=LIST_PATIENCE_S).status
            except OSError as error:
                self.failures.append(repr(error))
                continue
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            self.answers += 1
            if status != 200:
                self.failures.append(str(status))


def open_files(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def threads(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def run_storm(servers: Sequence[Server], share: Server, repetitions: int, allowed: Sequence[str] = ()) -> None:
    print(f"seed {SEED}, {repetitions} repetitions, {len(servers)} servers")
    models = servers[0].models
    storm = Storm(servers, share, SEED)
    for _ in range(3):
        storm.blow()  # threads and caches are there now
    before = {server: (open_files(server), threads(server)) for server in servers}
    began_s = time.monotonic()
    with Lister(servers[0]) as lister:
        for _ in range(repetitions):
            storm.blow()
            assert_sound(models)
    took_s = time.monotonic() - began_s
    print(f"{took_s:.1f} s, {lister.answers} lists, the longest took {lister.longest_s:.2f} s")
    for outcome, count in sorted(storm.outcomes.items()):
        print(f"{count:5} {outcome}")
    assert (lister.failures, unexpected(storm, allowed)) == ([], {})
    assert lister.answers > 0
    for server in servers:
        files, tasks = before[server]
        server.wait_until(lambda server=server, files=files: open_files(server) <= files + OPEN_FILES_SLACK)
        server.wait_until(lambda server=server, tasks=tasks: threads(server) <= tasks + OPEN_FILES_SLACK)
        assert children(server.process.pid) == []
        doctor_of(server)
    assert_tidy(models)


def alone(tmp_path: Path, share: Server, repetitions: int) -> None:
    with running(tmp_path, tmp_path / "models") as server:
        run_storm([server], share, repetitions)


def together(tmp_path: Path, share: Server, repetitions: int) -> None:
    """The second server says that it prunes nothing, and works."""
    with ExitStack() as stack:
        models = tmp_path / "models"
        servers = [stack.enter_context(running(tmp_path / name, models)) for name in ("first", "second")]
        run_storm(servers, share, repetitions, BESIDE_ANOTHER)
        assert "another server uses this models folder" in servers[1].log.read_text()


def test_a_storm_on_one_server(tmp_path: Path, share: Server) -> None:
    """partly X-82: fifteen repetitions."""
    alone(tmp_path, share, 15)


def test_a_storm_on_two_servers_with_one_folder(tmp_path: Path, share: Server) -> None:
    """partly X-82: fifteen repetitions."""
    together(tmp_path, share, 15)


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("storm", [alone, together])
def test_x82_a_hundred_repetitions(tmp_path: Path, share: Server, storm: Callable[[Path, Server, int], None]) -> None:
    """X-82."""
    storm(tmp_path, share, 100)
