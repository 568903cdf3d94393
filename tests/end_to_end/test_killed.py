"""Kill -9 at any moment: the store is consistent, nothing partial has a final name, and the next try succeeds.

The long run: `pytest -m heavy tests/end_to_end/test_killed.py -s`, which says its seed; LLAMERO_TEST_SEED repeats one.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import model_folders
from tests.end_to_end.world import (
    BIG_BYTES,
    CHILDREN,
    MIB,
    WORK,
    Work,
    World,
    import_archive,
    remove,
    succeeded,
    upload_checkpoint,
    weights,
    working,
)
from tests.running import OLLAMA, Server, clean_environment
from tests.soundness import assert_sound, assert_tidy, doctor, doctor_of
from tests.wire import Wire

pytestmark = pytest.mark.heavy

SEED = int(os.environ.get("LLAMERO_TEST_SEED", "20251121"))


# --- the server is killed ------------------------------------------------------------------------------------------


def kill_during(world: World, server: Server, works: list[Work], delay_s: float) -> None:
    """Let clients do these things over and over, and kill the server in the midst of it."""
    killed = threading.Event()

    def keep_doing(work: Work) -> None:
        while not killed.is_set():
            try:
                work(world, server)
            except Exception:
                if not killed.is_set():
                    raise

    with ThreadPoolExecutor(len(works)) as pool:
        clients = [pool.submit(keep_doing, work) for work in works]
        time.sleep(delay_s)
        killed.set()
        server.process.kill()
        server.process.wait()
    for client in clients:
        client.result()


def assert_survived(world: World) -> Server:
    """The folder is sound without a server and with a new one, which is returned; nothing interrupted is left."""
    assert_sound(world.models)
    doctor(world.models, world.folder / "home")
    server = world.start()
    assert_tidy(world.models)
    doctor_of(server)
    shown = server.post("/api/show", {"model": "bystander"})
    assert (shown.status, shown.json()["system"]) == (200, "untouched")
    return server


def run_moments(world: World, moments: int) -> None:
    print(f"seed {SEED}, {moments} moments")
    dice = random.Random(SEED)
    order = [work for _ in range(moments) for work in dice.sample(WORK, len(WORK))]
    server = world.start()
    for moment in range(moments):
        # the end of one shuffle and the beginning of the next may be the same
        works, delay_s = list(dict.fromkeys(order[3 * moment : 3 * moment + 3])), dice.uniform(0.05, 0.9)
        print(f"moment {moment}: {', '.join(work.__name__ for work in works)} killed after {delay_s:.2f} s")
        kill_during(world, server, works, delay_s)
        server = assert_survived(world)
        with ThreadPoolExecutor(len(works)) as pool:
            for done in [pool.submit(work, world, server) for work in works]:
                done.result()  # the next try succeeds
        doctor_of(server)
    assert_sound(world.models)


def test_a_server_killed_at_six_random_moments(world: World) -> None:
    """partly S-89, partly X-86: some kinds of work at each moment, and every kind at some."""
    run_moments(world, 6)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_s89_a_server_killed_at_fifty_random_moments(world: World) -> None:
    """S-89, and for pull, copy, delete, prune and import the same."""
    run_moments(world, 50)


# --- how much of a download is lost --------------------------------------------------------------------------------


def states(models: Path) -> dict[int, dict[str, int]]:
    """What was written down about each part of the one download that was interrupted, as any program may read it."""
    found = [json.loads(path.read_bytes()) for path in (models / "blobs").glob("*-partial-*")]
    return {state["N"]: state for state in found}


def pull_and_kill(world: World, name: str, after_bytes: int, rate: str = "") -> None:
    """Kill a server when so many bytes of a model have passed the line."""
    server = world.start()
    body = {"model": f"{world.wire.host}/library/{name}", "insecure": True, "limit_rate": rate}
    with server.streaming("/api/pull", body):
        server.wait_until(lambda: world.wire.received_bytes > after_bytes)
        server.process.kill()
        server.process.wait()


def assert_nothing_is_fetched_twice(wire: Wire, before: dict[int, dict[str, int]]) -> None:
    """Every range that was asked for lies behind the finished bytes of a part, and within it."""
    unfinished = [
        range(state["Offset"] + state["Completed"], state["Offset"] + state["Size"]) for state in before.values()
    ]
    assert wire.ranges
    for asked in wire.ranges:
        assert any(asked.start in part and asked.last in part for part in unfinished), asked


def test_s109_a_killed_download_loses_at_most_two_seconds(world: World) -> None:
    """S-109: at a rate of 8 MB/s, killed after two and a half seconds; what was there is not fetched again."""
    rate_bytes, size_bytes = 8_000_000, len(weights(BIG_BYTES, "big"))
    pull_and_kill(world, "big", int(2.5 * rate_bytes), "8MB")
    passed_bytes = world.wire.received_bytes
    before = states(world.models)
    kept_bytes = sum(state["Completed"] for state in before.values())
    # a megabyte is on its way between the line and the disk
    assert kept_bytes > passed_bytes - 2 * rate_bytes - MIB
    assert 0 < kept_bytes < passed_bytes
    server = assert_survived(world)
    world.wire.forget()
    succeeded(server.post("/api/pull", {"model": f"{world.wire.host}/library/big", "insecure": True}))
    assert_nothing_is_fetched_twice(world.wire, before)
    assert world.wire.received_bytes < size_bytes - kept_bytes + MIB
    assert_sound(world.models)
    assert_tidy(world.models)


@pytest.mark.heavy
def test_finished_parts_of_a_killed_download_are_not_fetched_again(world: World, neighbour: Server) -> None:
    """Parts of a real size: a model of 330 MB comes in four, and is killed three times on its way."""
    big = weights(330_000_000, "parts")
    model_folders.add(neighbour.models, "parts", big)
    fetched_bytes, killed_at = 0, (120_000_000, 80_000_000, 60_000_000)
    for after_bytes in killed_at:
        before = states(world.models)
        pull_and_kill(world, "parts", after_bytes, "100MB")
        if before:
            assert_nothing_is_fetched_twice(world.wire, before)
        fetched_bytes += world.wire.received_bytes
        world.wire.forget()
        assert_survived(world).process.kill()
    before = states(world.models)
    assert [state for state in before.values() if state["Completed"] == state["Size"]]
    server = world.start()
    succeeded(server.post("/api/pull", {"model": f"{world.wire.host}/library/parts", "insecure": True}))
    assert_nothing_is_fetched_twice(world.wire, before)
    fetched_bytes += world.wire.received_bytes
    print(f"{fetched_bytes - len(big)} bytes fetched twice in {len(killed_at)} kills at 100 MB/s")
    assert fetched_bytes < len(big) + len(killed_at) * 2 * 100_000_000
    assert_survived(world)


# --- the command is killed -----------------------------------------------------------------------------------------


def test_a_command_killed_in_the_middle_of_an_upload(world: World) -> None:
    """It reads half an archive from a pipe, so that it is surely in the middle when it is killed."""
    server = world.start()
    content = world.archive.read_bytes()
    env = clean_environment(server.home, OLLAMA_HOST=server.host)
    with subprocess.Popen(
        [OLLAMA, "import", "-", "--as", "imported"],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as command:
        assert command.stdin is not None
        command.stdin.write(content[: len(content) // 2])
        command.stdin.flush()
        server.wait_until(lambda: largest(world.models / ".llamero" / "tmp") > 2 * MIB)
        command.kill()
        command.wait()
        command.stdin.close()
    server.wait_until(lambda: not list((world.models / ".llamero" / "tmp").iterdir()))
    assert_sound(world.models)
    import_archive(world, server)
    doctor_of(server)


def largest(folder: Path) -> int:
    return max((path.stat().st_size for path in folder.glob("*")), default=0)


def kill_creates(world: World, times: int) -> None:
    """`ollama create` links the file into the store by itself (GAP-02); kill it at random moments of that."""
    server = world.start()
    dice = random.Random(SEED)
    gguf = world.folder / "file.gguf"
    gguf.write_bytes(weights(BIG_BYTES, "file"))
    (world.folder / "Modelfile").write_text("FROM ./file.gguf\n")
    env = clean_environment(server.home, OLLAMA_HOST=server.host)
    for _ in range(times):
        remove(server, "linked")
        with subprocess.Popen(
            [OLLAMA, "create", "linked"],
            env=env,
            cwd=world.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as command:
            time.sleep(dice.uniform(0.05, 0.6))
            command.kill()
        assert_sound(world.models)
    assert gguf.read_bytes() == weights(BIG_BYTES, "file")
    done = subprocess.run([OLLAMA, "create", "linked"], env=env, cwd=world.folder, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    server.process.kill()
    server.process.wait()
    assert_survived(world)


def test_a_command_killed_while_it_links_a_file(world: World) -> None:
    kill_creates(world, 3)


@pytest.mark.heavy
def test_a_command_killed_fifty_times_while_it_links_a_file(world: World) -> None:
    kill_creates(world, 50)


# --- a child is killed ---------------------------------------------------------------------------------------------


FAILED = {
    "llamero.build.convert": "the conversion of the model failed",
    "llamero.build.quantize": "the quantization of the model failed",
}


@pytest.mark.parametrize(("work", "module"), CHILDREN)
def test_a_child_that_is_killed_takes_nothing_with_it(world: World, work: Work, module: str) -> None:
    """The server goes on, says what failed, and nothing of the work is left."""
    server = world.start()
    upload_checkpoint(server)
    before = model_folders.blobs(world.models)
    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(work, world, server)
        server.wait_until(lambda: working(server, module))
        for pid in working(server, module):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(
            AssertionError, match=re.escape(json.dumps({"error": FAILED[module]}, separators=(",", ":")))
        ):
            client.result()
    assert model_folders.blobs(world.models) == before
    assert_tidy(world.models)
    doctor_of(server)
    work(world, server)
