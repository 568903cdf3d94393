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
    seen: set[str] = field(default_factory=set)

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def start(self) -> Server:
        return self.stack.enter_context(running(self.folder, self.models))


@pytest.fixture
def world(tmp_path: Path, wire: Wire) -> Iterator[World]:
    """It holds a model that nobody touches, one to make others of, and an archive of a third one."""
    with ExitStack() as stack:
        made = World(tmp_path, wire, stack, tmp_path / "archive.tar")
        model_folders.add(tmp_path / "other", "archived", weights(8 * MIB, "archived"), license="MIT")
        with running(tmp_path / "archiving", tmp_path / "other") as server:
            made.archive.write_bytes(server.get("/api/llamero/export?model=archived").body)
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
