"""A models folder that outlives its servers, and everything that clients may do to it.

Each piece of work begins by undoing itself, so that it can be repeated after whatever happened, and asserts that it
succeeded: who knows that it cannot expects the assertion with the server's words.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import model_folders
from tests.build import quantizable
from tests.gguf_files import TensorSpec, llama_tensors, tiny_llama
from tests.running import OLLAMA, Reply, Server, children, clean_environment, command_line, running
from tests.wire import Wire

MIB = 1 << 20
BIG_BYTES = 24 * MIB
CHECKPOINT = Path(__file__).parents[1] / "data" / "hf-tiny" / "llama"
CHECKPOINT_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
HOUR_S = 3600


def weights(size_bytes: int, mark: str) -> bytes:
    """A model file of at least this size that no other mark gives."""
    ballast = TensorSpec("ballast", (size_bytes // 4,))
    return tiny_llama({"general.name": mark}, [*llama_tensors(), ballast])


@dataclass
class World:
    folder: Path
    models: Path
    wire: Wire
    """To a neighbour, whose model `big` is pulled."""
    archive: Path
    """A file with a model."""
    _stack: ExitStack

    def start(self) -> Server:
        return self._stack.enter_context(running(self.folder, self.models))


@contextmanager
def world_at(folder: Path, models: Path, neighbour: Server) -> Iterator[World]:
    """It holds a model that nobody touches, and one to make others of. Its servers end with the block."""
    model_folders.add(models, "bystander", tiny_llama(), system="untouched")
    model_folders.add(models, "base", quantizable.llama("F16", n_layers=4), config={"model_format": "gguf"})
    archive = folder / "archive.tar"
    archive.write_bytes(neighbour.get("/api/llamero/export?model=archived").body)
    with Wire(neighbour.port) as wire, ExitStack() as stack:
        yield World(folder, models, wire, archive, stack)


Work = Callable[[World, Server], None]


def succeeded(reply: Reply) -> None:
    assert (reply.status, reply.lines()[-1]) == (200, {"status": "success"}), reply.body[-500:]


def worked(reply: Reply, *statuses: int) -> None:
    assert reply.status in (statuses or (200,)), reply.body


def remove(server: Server, name: str) -> None:
    worked(server.call("DELETE", "/api/delete", {"model": name}), 200, 404)


def upload(server: Server, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    worked(server.post(f"/api/blobs/{digest}", content), 200, 201)
    return digest


def upload_checkpoint(server: Server) -> dict[str, str]:
    return {name: upload(server, (CHECKPOINT / name).read_bytes()) for name in CHECKPOINT_FILES}


def pull(world: World, server: Server) -> None:
    remove(server, f"{world.wire.host}/library/big")
    body = {"model": f"{world.wire.host}/library/big", "insecure": True, "limit_rate": "48MB"}
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
    files = upload_checkpoint(server)
    succeeded(server.post("/api/create", {"model": "converted", "files": files}))


def quantize(world: World, server: Server) -> None:
    remove(server, "smaller")
    succeeded(server.post("/api/create", {"model": "smaller", "from": "base", "quantize": "q4_K_M"}))


def copy_and_delete(world: World, server: Server) -> None:
    for name in ("one", "two", "three"):
        worked(server.post("/api/copy", {"source": "base", "destination": f"copies/{name}"}))
    worked(server.post("/api/llamero/move", {"source": "copies/one", "destination": "moved"}))
    for name in ("moved", "copies/two", "copies/three"):
        remove(server, name)


def prune(world: World, server: Server) -> None:
    for number in range(20):
        model_folders.blob(world.models, f"nobody uses {number}".encode(), age_s=2 * HOUR_S)
    worked(server.post("/api/llamero/prune", {}))


def import_archive(world: World, server: Server) -> None:
    remove(server, "imported")
    done = ollama(server, "import", str(world.archive), "--as", "imported")
    assert done.returncode == 0, done.stderr


def ollama(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment(server.home, OLLAMA_HOST=server.host)
    return subprocess.run([OLLAMA, *arguments], env=env, capture_output=True, text=True, timeout=60)


WORK: list[Work] = [
    pull,
    create_from_gguf,
    create_from_model,
    create_from_checkpoint,
    quantize,
    copy_and_delete,
    prune,
    import_archive,
]


# --- children ------------------------------------------------------------------------------------------------------

CHILDREN: list[tuple[Work, str]] = [
    (create_from_checkpoint, "llamero.build.convert"),
    (quantize, "llamero.build.quantize"),
]
"""Work that is done in a process of its own, and the module that runs there."""


def working(server: Server, module: str) -> list[int]:
    """Process ids of the children that run this module."""
    return [pid for pid in children(server.process.pid) if f"-m {module} " in command_line(pid)]
