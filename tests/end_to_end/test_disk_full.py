"""A full disk at every stage of everything: a clear error, nothing half-written, and with room again it goes on.

Source: store-registry GAP-09; security §12. The models folder lies on a small file system of its own. Where this user
may not mount one, the limit that the system puts on the size of files stands in for it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.end_to_end.world import (
    BIG_BYTES,
    CHILDREN,
    MIB,
    WORK,
    Work,
    World,
    ollama,
    prune,
    pull,
    remove,
    succeeded,
    upload_checkpoint,
    weights,
    working,
    world_at,
)
from tests.gguf_files import tiny_llama
from tests.running import OLLAMA, Reply, Server, clean_environment, running
from tests.small_disk import full, small_disk
from tests.soundness import assert_sound, assert_tidy, doctor_of

pytestmark = pytest.mark.heavy

DISK_BYTES = 64 * MIB
NO_SPACE = "no space left on device"
TOO_LITTLE = r"not enough disk space: \d+ bytes are needed, \d+ are free"
RESERVE = r"not enough disk space: \d+ bytes are free, \d+ of them a reserve"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_disk(tmp_path_factory.mktemp("small") / "disk", DISK_BYTES) as mounted:
        yield mounted


@pytest.fixture(scope="module")
def on_disk(disk: Path, neighbour: Server) -> Iterator[tuple[World, Server]]:
    with world_at(disk.parent, disk / "models", neighbour) as made:
        yield made, made.start()


@pytest.fixture
def server(on_disk: tuple[World, Server]) -> Server:
    return on_disk[1]


@pytest.fixture
def cramped(on_disk: tuple[World, Server]) -> World:
    """Its models lie on the small disk: the two that it began with."""
    world, server = on_disk
    for model in server.get("/api/tags").json()["models"]:
        if model["name"] not in ("base:latest", "bystander:latest"):
            remove(server, model["name"])
    world.wire.forget()
    return world


def assert_unharmed(world: World, server: Server) -> None:
    """The server answers, the models that were there are as they were, and nothing is left of what failed."""
    assert_sound(world.models)
    assert_tidy(world.models)
    doctor_of(server)
    shown = server.post("/api/show", {"model": "bystander"})
    assert (shown.status, shown.json()["system"]) == (200, "untouched")
    assert {"base:latest", "bystander:latest"} <= {model["name"] for model in server.get("/api/tags").json()["models"]}


def last_error(reply: Reply) -> str:
    return str(reply.lines()[-1]["error"])


# --- not a byte is free --------------------------------------------------------------------------------------------


def test_x86_work_that_begins_on_a_full_disk(cramped: World, server: Server, disk: Path) -> None:
    """X-86: each refuses in words, leaves nothing, and does its work as soon as there is room."""
    upload_checkpoint(server)  # so that create itself meets the full disk
    for work in [each for each in WORK if each is not prune]:
        with full(disk), pytest.raises(AssertionError, match=f"{NO_SPACE}|{TOO_LITTLE}|{RESERVE}"):
            work(cramped, server)
        assert_unharmed(cramped, server)
        work(cramped, server)
    assert_unharmed(cramped, server)


def test_what_needs_no_room_works_on_a_full_disk(cramped: World, server: Server, disk: Path) -> None:
    """Above all: removing models, which makes room again."""
    pull(cramped, server)
    with full(disk):
        assert server.get("/api/tags").status == 200
        assert_unharmed(cramped, server)
        assert ollama(server, "doctor", "--store").returncode == 0
        assert server.post("/api/llamero/prune", {}).status == 200
        again = {"model": f"{cramped.wire.host}/library/big", "insecure": True, "dry_run": True}
        succeeded(server.post("/api/pull", again))
        remove(server, f"{cramped.wire.host}/library/big")
        assert server.post("/api/copy", {"source": "base", "destination": "copied"}).status == 200
    assert_unharmed(cramped, server)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_folder_of_stock_ollama_on_a_disk_that_is_full_already(tmp_path: Path, kind: str) -> None:
    """Our own folder beside the blobs cannot even be made: models can be listed, shown and, above all, removed."""
    with small_disk(tmp_path / "disk", 32 * MIB, kind) as disk:
        models = disk / "models"
        model_folders.add(models, "kept", tiny_llama(), system="kept")
        model_folders.add(models, "large", weights(8 * MIB, "large"))
        with full(disk), running(tmp_path, models) as server:
            assert len(server.get("/api/tags").json()["models"]) == 2
            assert server.post("/api/show", {"model": "kept"}).json()["system"] == "kept"
            deleted = server.call("DELETE", "/api/delete", {"model": "large"})
            assert (deleted.status, deleted.body) == (200, b"")
            assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > 7 * MIB
            assert server.post("/api/copy", {"source": "kept", "destination": "copied"}).status == 200
            assert_sound(models)


def test_a_model_runs_on_a_full_disk(cramped: World, server: Server, disk: Path, smollm2_gguf: Path) -> None:
    """Its weights are a link to another disk, as anybody may make one."""
    models = cramped.models
    digest = smollm2_gguf.name.replace("-", ":")
    layer = {"mediaType": model_folders.IMAGE + "model", "digest": digest, "size": smollm2_gguf.stat().st_size}
    config = model_folders.layer(models, model_folders.CONFIG, b'{"model_format":"gguf"}')
    (models / "blobs" / smollm2_gguf.name).symlink_to(smollm2_gguf)
    document = {"schemaVersion": 2, "config": config, "layers": [layer]}
    model_folders.write(models, "m", json.dumps(document).encode())
    with full(disk):
        body = {"model": "m", "prompt": "Hello", "stream": False, "options": {"num_predict": 2}}
        reply = server.post("/api/generate", body)
        assert (reply.status, reply.json()["done"]) == (200, True), reply.body
    server.unload_all()


# --- a pull --------------------------------------------------------------------------------------------------------


def asked(world: World, **more: Any) -> dict[str, Any]:
    return {"model": f"{world.wire.host}/library/big", "insecure": True, **more}


def read_until(reply: http.client.HTTPResponse, completed_bytes: int) -> None:
    """So many bytes are on the disk."""
    while json.loads(reply.readline()).get("completed", 0) < completed_bytes:
        pass


def test_a_pull_that_cannot_fit_is_refused_before_its_first_byte(cramped: World, server: Server, disk: Path) -> None:
    """partly S-103: naming both figures."""
    before = model_folders.blobs(cramped.models)
    with full(disk, leave_bytes=BIG_BYTES // 2):
        reply = server.post("/api/pull", asked(cramped))
    assert_matches(TOO_LITTLE, last_error(reply))
    assert model_folders.blobs(cramped.models) == before
    assert cramped.wire.received_bytes < MIB
    assert_unharmed(cramped, server)


def test_s37_a_disk_that_fills_up_during_a_pull(cramped: World, server: Server, disk: Path) -> None:
    """S-37: the system's own words, at once; what has come stays, and the next pull goes on from there."""
    before = model_folders.blobs(cramped.models)
    with server.streaming("/api/pull", asked(cramped, limit_rate="8MB")) as reply:
        read_until(reply, 4 * MIB)
        with full(disk):
            lines = reply.read().splitlines()
    assert_matches(NO_SPACE, lines[-1].decode())
    assert "error" in lines[-1].decode()
    partials = model_folders.blobs(cramped.models) - before
    assert any(name.endswith("-partial") for name in partials)
    assert before <= model_folders.blobs(cramped.models)
    assert_unharmed(cramped, server)
    cramped.wire.forget()
    succeeded(server.post("/api/pull", asked(cramped)))
    assert cramped.wire.received_bytes < BIG_BYTES - 3 * MIB
    assert_unharmed(cramped, server)


def test_a_pull_whose_reserve_is_taken_meanwhile(cramped: World, server: Server, disk: Path) -> None:
    """The reserve (GAP-09) is looked after during the transfer too."""
    with server.streaming("/api/pull", asked(cramped, limit_rate="1MB")) as reply:
        read_until(reply, MIB // 4)
        with full(disk, leave_bytes=2 * MIB):
            lines = reply.read().splitlines()
    assert_matches(RESERVE, lines[-1].decode())
    assert_unharmed(cramped, server)
    pull(cramped, server)


def test_a_disk_that_is_full_when_only_the_manifest_is_missing(cramped: World, server: Server, disk: Path) -> None:
    pull(cramped, server)
    with full(disk):
        reply = server.post("/api/pull", asked(cramped, **{"as": "second"}))
    assert last_error(reply) == f"write manifest: {NO_SPACE}"
    assert server.post("/api/show", {"model": "second"}).status == 404
    assert_unharmed(cramped, server)
    succeeded(server.post("/api/pull", asked(cramped, **{"as": "second"})))


# --- an upload -----------------------------------------------------------------------------------------------------


def test_an_upload_that_announces_more_than_fits(cramped: World, server: Server, disk: Path) -> None:
    """Refused before its body is read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with full(disk, leave_bytes=8 * MIB), contextlib.closing(connection):
        connection.putrequest("POST", f"/api/blobs/sha256:{'0' * 64}")
        connection.putheader("Content-Length", str(10 * MIB))
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 507
        assert_matches(RESERVE, response.read().decode())
    assert_unharmed(cramped, server)


def test_a_disk_that_fills_up_during_an_upload(cramped: World, server: Server, disk: Path) -> None:
    """One that does not say how long it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest("POST", f"/api/blobs/sha256:{'0' * 64}")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        _send_chunk(connection, 4 * MIB)
        scratch = cramped.models / ".llamero" / "tmp"
        server.wait_until(lambda: sum(path.stat().st_size for path in scratch.glob("*")) == 4 * MIB)
        with full(disk):
            _send_chunk(connection, 1024)
            response = connection.getresponse()
            assert response.status == 507
            assert_matches(NO_SPACE, response.read().decode())
    server.wait_until(lambda: not list(scratch.iterdir()))
    assert_unharmed(cramped, server)


def _send_chunk(connection: http.client.HTTPConnection, size_bytes: int) -> None:
    connection.send(b"%x\r\n%b\r\n" % (size_bytes, bytes(size_bytes)))


# --- create --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("work", "module"), CHILDREN)
def test_a_disk_that_fills_up_under_a_child(
    cramped: World, server: Server, disk: Path, work: Work, module: str
) -> None:
    """The converter and the quantizer write their results by themselves."""
    upload_checkpoint(server)
    before = model_folders.blobs(cramped.models)
    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(work, cramped, server)
        server.wait_until(lambda: working(server, module))
        with full(disk), pytest.raises(AssertionError, match=NO_SPACE):
            client.result()
    assert model_folders.blobs(cramped.models) == before
    assert_unharmed(cramped, server)
    work(cramped, server)


def test_every_step_of_a_create_may_find_the_disk_full(cramped: World, server: Server, disk: Path) -> None:
    """partly X-86: with a little more room each time, it gets one step further, until it is done."""
    before = model_folders.blobs(cramped.models)
    body = {"model": "made", "from": "base", "system": "s" * 20_000, "template": "t" * 20_000, "license": "l" * 20_000}
    errors = []
    for pages in range(0, 40, 2):
        with full(disk, leave_bytes=pages * 4096):
            reply = server.post("/api/create", body)
        if reply.lines()[-1] == {"status": "success"}:
            break
        errors.append(last_error(reply))
        assert server.post("/api/show", {"model": "made"}).status == 404
        assert model_folders.blobs(cramped.models) == before
    assert len(errors) > 5
    assert all(NO_SPACE in error for error in errors)
    assert f"write manifest: {NO_SPACE}" in errors
    assert_unharmed(cramped, server)


# --- export --------------------------------------------------------------------------------------------------------


def test_an_export_to_a_full_disk(cramped: World, server: Server, disk: Path) -> None:
    """To a file that is known to be too large beforehand, and down a pipe whose end is not."""
    target = disk / "base.tar"
    with full(disk, leave_bytes=MIB):
        done = ollama(server, "export", "base", str(target))
        assert (done.returncode, "not enough space for" in done.stderr) == (1, True), done.stderr
        assert not target.exists()
        with target.open("wb") as output:
            piped = subprocess.run(
                [OLLAMA, "export", "base", "-"],
                env=clean_environment(server.home, OLLAMA_HOST=server.host),
                stdout=output,
                stderr=subprocess.PIPE,
                timeout=60,
            )
        assert piped.returncode == 1
        assert_matches(NO_SPACE, piped.stderr.decode().lower())
        assert b"Traceback" not in piped.stderr
        target.unlink()
    assert_unharmed(cramped, server)
    assert ollama(server, "export", "base", str(target)).returncode == 0
    assert ollama(server, "import", str(target), "--as", "back").returncode == 0


# --- without a disk of one's own -----------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process can be set on Linux only")
def test_files_that_may_not_grow(world: World) -> None:
    """A limit on the size of every file that the server and its children write, which any user can set."""
    server = world.start()
    upload_checkpoint(server)
    for work in [each for each in WORK if each is not prune]:
        with no_file_above(server, 128), pytest.raises(AssertionError, match=r"file too large|quantizing failed"):
            work(world, server)
        assert_unharmed(world, server)
        work(world, server)
    assert_unharmed(world, server)


@contextlib.contextmanager
def no_file_above(server: Server, limit_bytes: int) -> Iterator[None]:
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text
