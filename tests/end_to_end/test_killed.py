"""Kill -9 at any moment: the store is consistent, nothing partial has a final name, and the next try succeeds.

The long run: `pytest -m heavy tests/end_to_end/test_killed.py -s`, which says its seed; LLAMERO_TEST_SEED repeats one.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.build import quantizable
from tests.gguf_files import TensorSpec, llama_tensors, tiny_llama
from tests.running import OLLAMA, Reply, Server, children, clean_environment, command_line, running
from tests.soundness import assert_sound, assert_tidy, doctor, doctor_of
from tests.wire import Wire

SEED = int(os.environ.get("LLAMERO_TEST_SEED", "20251121"))
MIB = 1 << 20
BIG_BYTES = 24 * MIB
RATE_BYTES = 16 * MIB
CHECKPOINT = Path(__file__).parents[1] / "data" / "hf-tiny" / "llama"
HOUR_S = 3600


def weights(size_bytes: int, mark: str) -> bytes:
    """A model file of at least this size that no other mark gives."""
    ballast = TensorSpec("ballast", (size_bytes // 4,))
    return tiny_llama({"general.name": mark}, [*llama_tensors(), ballast])


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Somebody else's server, whose models are pulled."""
    place = tmp_path_factory.mktemp("share")
    model_folders.add(place / "models", "big", weights(BIG_BYTES, "big"), license="MIT", system="s")
    model_folders.add(place / "models", "archived", weights(8 * MIB, "archived"), license="MIT")
    with running(place, place / "models", LLAMERO_SHARE="1") as server:
        yield server


@pytest.fixture
def wire(share: Server) -> Iterator[Wire]:
    with Wire(share.port) as line:
        yield line


@dataclass
class World:
    """A folder that outlives its servers."""

    folder: Path
    wire: Wire
    stack: ExitStack
    archive: Path

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def start(self) -> Server:
        return self.stack.enter_context(running(self.folder, self.models))


@pytest.fixture
def world(tmp_path: Path, share: Server, wire: Wire) -> Iterator[World]:
    """It holds a model that nobody touches, and one to make others of; beside it lies an archive of a third one."""
    with ExitStack() as stack:
        made = World(tmp_path, wire, stack, tmp_path / "archive.tar")
        made.archive.write_bytes(share.get("/api/llamero/export?model=archived").body)
        model_folders.add(made.models, "bystander", tiny_llama(), system="untouched")
        model_folders.add(made.models, "base", quantizable.llama("F16", n_layers=4), config={"model_format": "gguf"})
        yield made


# --- what clients do -----------------------------------------------------------------------------------------------


def succeeded(reply: Reply) -> None:
    assert (reply.status, reply.lines()[-1]) == (200, {"status": "success"}), reply.body[-500:]


def remove(server: Server, name: str) -> None:
    assert server.call("DELETE", "/api/delete", {"model": name}).status in (200, 404)


def upload(server: Server, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert server.post(f"/api/blobs/{digest}", content).status in (200, 201)
    return digest


def pull(world: World, server: Server, rate: str = "16MB") -> None:
    remove(server, f"{world.wire.host}/library/big")
    body = {"model": f"{world.wire.host}/library/big", "insecure": True, "limit_rate": rate}
    succeeded(server.post("/api/pull", body))


def create_from_gguf(world: World, server: Server) -> None:
    remove(server, "made")
    digest = upload(server, weights(8 * MIB, "made"))
    succeeded(server.post("/api/create", {"model": "made", "files": {"m.gguf": digest}, "system": "made"}))


def create_from_model(world: World, server: Server) -> None:
    for number in range(10):
        changes = {"system": f"{random.random()}", "parameters": {"seed": number}}
        succeeded(server.post("/api/create", {"model": "derived", "from": "base", **changes}))
    remove(server, "derived")


def create_from_checkpoint(world: World, server: Server) -> None:
    remove(server, "converted")
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    files = {name: upload(server, (CHECKPOINT / name).read_bytes()) for name in names}
    succeeded(server.post("/api/create", {"model": "converted", "files": files}))


def quantize(world: World, server: Server) -> None:
    remove(server, "smaller")
    succeeded(server.post("/api/create", {"model": "smaller", "from": "base", "quantize": "q4_K_M"}))


def copy_and_delete(world: World, server: Server) -> None:
    for name in ("one", "two", "three"):
        assert server.post("/api/copy", {"source": "base", "destination": f"copies/{name}"}).status == 200
    assert server.post("/api/llamero/move", {"source": "copies/one", "destination": "moved"}).status == 200
    for name in ("moved", "copies/two", "copies/three"):
        remove(server, name)


def prune(world: World, server: Server) -> None:
    for number in range(20):
        model_folders.blob(world.models, f"nobody uses {number}".encode(), age_s=2 * HOUR_S)
    assert server.post("/api/llamero/prune", {}).status == 200


def import_archive(world: World, server: Server) -> None:
    remove(server, "imported")
    done = ollama(server, "import", str(world.archive), "--as", "imported")
    assert done.returncode == 0, done.stderr


def ollama(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment(server.home, OLLAMA_HOST=server.host)
    return subprocess.run([OLLAMA, *arguments], env=env, capture_output=True, text=True, timeout=60)


WORK: list[Callable[[World, Server], None]] = [
    pull,
    create_from_gguf,
    create_from_model,
    create_from_checkpoint,
    quantize,
    copy_and_delete,
    prune,
    import_archive,
]


# --- the server is killed ------------------------------------------------------------------------------------------


def kill_during(world: World, server: Server, works: list[Callable[[World, Server], None]], delay_s: float) -> None:
    """Let clients do these things over and over, and kill the server in the midst of it."""
    killed = threading.Event()

    def keep_doing(work: Callable[[World, Server], None]) -> None:
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
    """The folder is sound without a server and with a new one, which is returned; nothing of the interrupted is left."""
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
        works, delay_s = order[3 * moment : 3 * moment + 3], dice.uniform(0.05, 1.5)
        print(f"moment {moment}: {', '.join(work.__name__ for work in works)} killed after {delay_s:.2f} s")
        kill_during(world, server, works, delay_s)
        server = assert_survived(world)
        for work in works:
            work(world, server)  # the next try succeeds
        doctor_of(server)
    assert_sound(world.models)


def test_a_server_killed_at_six_random_moments(world: World) -> None:
    """partly S-89, partly X-86: three kinds of work at each moment, every kind at least twice."""
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


def assert_nothing_is_fetched_twice(wire: Wire, before: dict[int, dict[str, int]], last_byte: int) -> None:
    """Each range begins where a part's finished bytes end, and goes no further than the part."""
    open_parts = {
        state["Offset"] + state["Completed"]: state["Offset"] + state["Size"] - 1
        for state in before.values()
        if state["Completed"] < state["Size"]
    }
    asked = {each.start: each.last for each in wire.ranges if each.start or each.last == last_byte}
    assert set(asked) == set(open_parts)
    assert all(last <= open_parts[start] for start, last in asked.items())


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
    assert_nothing_is_fetched_twice(world.wire, before, size_bytes - 1)
    assert world.wire.received_bytes < size_bytes - kept_bytes + MIB
    assert_sound(world.models)
    assert_tidy(world.models)


@pytest.mark.heavy
def test_finished_parts_of_a_killed_download_are_not_fetched_again(world: World, share: Server) -> None:
    """Parts of a real size: a model of 330 MB comes in four, and is killed three times on its way."""
    big = weights(330_000_000, "parts")
    model_folders.add(share.models, "parts", big)
    fetched_bytes, killed_at = 0, (120_000_000, 80_000_000, 60_000_000)
    for after_bytes in killed_at:
        before = states(world.models)
        pull_and_kill(world, "parts", after_bytes, "100MB")
        if before:
            assert_nothing_is_fetched_twice(world.wire, before, len(big) - 1)
        fetched_bytes += world.wire.received_bytes
        world.wire.forget()
        assert_survived(world).process.kill()
    before = states(world.models)
    assert [state for state in before.values() if state["Completed"] == state["Size"]]
    server = world.start()
    succeeded(server.post("/api/pull", {"model": f"{world.wire.host}/library/parts", "insecure": True}))
    assert_nothing_is_fetched_twice(world.wire, before, len(big) - 1)
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


@pytest.mark.parametrize(
    ("work", "module", "text"),
    [
        (create_from_checkpoint, "llamero.build.convert", "the conversion of the model failed"),
        (quantize, "llamero.build.quantize", "the quantization of the model failed"),
    ],
    ids=["convert", "quantize"],
)
def test_a_child_that_is_killed_takes_nothing_with_it(
    world: World, work: Callable[[World, Server], None], module: str, text: str
) -> None:
    """The server goes on, says what failed, and nothing of the work is left."""
    server = world.start()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        upload(server, (CHECKPOINT / name).read_bytes())
    before = model_folders.blobs(world.models)
    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(work, world, server)
        server.wait_until(lambda: working(server, module))
        for pid in working(server, module):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(AssertionError, match=re.escape(json.dumps({"error": text}, separators=(",", ":")))):
            client.result()
    assert model_folders.blobs(world.models) == before
    assert_tidy(world.models)
    doctor_of(server)
    work(world, server)


def working(server: Server, module: str) -> list[int]:
    """Process ids of the children that run this module."""
    return [pid for pid in children(server.process.pid) if f"-m {module} " in command_line(pid)]
