"""`/api/llamero/export` and `/api/llamero/import` of a real server: a whole model as one resumable file (GAP-13)."""

from __future__ import annotations

import http.client
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import model_folders
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, running

EXPORT = "/api/llamero/export?model="
IMPORT = "/api/llamero/import?model="
WEIGHTS = tiny_llama()
BIG = random.Random(1).randbytes(1 << 20) * 48


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("archives")
    model_folders.add(folder / "models", "m", WEIGHTS, system="s", config={"model_format": "gguf"})
    model_folders.add(folder / "models", "big", more=[("tensor", BIG)])
    with running(folder, folder / "models") as started:
        yield started


@pytest.fixture(scope="module")
def whole(server: Server) -> Reply:
    return server.get(EXPORT + "m")


def test_what_is_said_about_an_archive(server: Server, whole: Reply) -> None:
    assert whole.status == 200
    assert whole.content_type == "application/x-tar"
    assert whole.headers["Content-Length"] == str(len(whole.body))
    assert whole.headers["Accept-Ranges"] == "bytes"
    head = server.call("HEAD", EXPORT + "m")
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "ETag", "Accept-Ranges", "Content-Type"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(("asked", "part"), [("bytes=700-", slice(700, None)), ("bytes=1000-1999", slice(1000, 2000))])
def test_a_range(server: Server, whole: Reply, asked: str, part: slice) -> None:
    got = server.get(EXPORT + "m", headers={"Range": asked, "If-Range": whole.headers["ETag"]})
    assert (got.status, got.body) == (206, whole.body[part])
    start, stop, _ = part.indices(len(whole.body))
    assert got.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(whole.body)}"


def test_a_range_of_another_state_is_the_whole(server: Server, whole: Reply) -> None:
    got = server.get(EXPORT + "m", headers={"Range": "bytes=700-", "If-Range": '"another"'})
    assert (got.status, got.body) == (200, whole.body)


def test_a_range_behind_the_end(server: Server, whole: Reply) -> None:
    got = server.get(EXPORT + "m", headers={"Range": f"bytes={len(whole.body)}-"})
    assert (got.status, got.headers["Content-Range"]) == (416, f"bytes */{len(whole.body)}")
    assert got.error == f"range not satisfiable: there are {len(whole.body)} bytes"


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/api/llamero/export", 400, "model is required"),
        ("GET", EXPORT + "%20", 400, "model is required"),
        ("GET", EXPORT + "..%2F..%2Fetc%2Fpasswd", 400, "invalid model name"),
        ("GET", EXPORT + "nobody", 404, "model 'nobody' not found"),
        ("POST", "/api/llamero/import", 400, "model is required"),
        ("POST", IMPORT + "a/../b", 400, "invalid model name"),
        ("POST", IMPORT + "m2", 400, "invalid manifest: not JSON"),
    ],
)
def test_refusals(server: Server, method: str, path: str, status: int, text: str) -> None:
    got = server.call(method, path)
    assert (got.status, got.error) == (status, text)


def test_both_are_for_administrators(server: Server) -> None:
    """A request that came through a proxy has the rights of `infer` (security §6)."""
    for method, path in (("GET", EXPORT + "m"), ("HEAD", EXPORT + "m"), ("POST", IMPORT + "m")):
        assert server.call(method, path, headers={"X-Forwarded-For": "8.8.8.8"}).status == 403


def test_a_manifest_that_is_too_large(server: Server) -> None:
    limit_bytes = 4 << 20
    got = server.post(IMPORT + "m2", b"", headers={"Content-Length": str(limit_bytes + 1)})
    assert (got.status, got.error) == (413, f"request body too large (limit {limit_bytes} bytes)")


def test_a_manifest_whose_blobs_are_there_becomes_a_model(server: Server) -> None:
    raw = model_folders.manifest_path(server.models, "m").read_bytes()
    odd = raw.replace(b'"layers":', b'"unknown": [1],\n "layers":')
    got = server.post(IMPORT + "ns/Taken:1", odd)
    assert (got.status, got.json()) == (200, {"model": "ns/Taken:1"})
    assert model_folders.manifest_path(server.models, "ns/Taken:1").read_bytes() == odd
    assert server.post("/api/show", {"model": "ns/taken:1"}).json()["system"] == "s"
    assert server.post(IMPORT + "NS/taken:1", raw).json() == {"model": "ns/Taken:1"}


def test_missing_blobs_are_listed_and_nothing_is_written(server: Server) -> None:
    raw = model_folders.manifest_path(server.models, "m").read_bytes()
    digest = "sha256:" + "ab" * 32
    start = raw.index(b"sha256:")
    got = server.post(IMPORT + "dangling", raw[:start] + digest.encode() + raw[start + len(digest) :])
    assert (got.status, got.error) == (400, f"blobs are missing: {digest}")
    assert not model_folders.manifest_path(server.models, "dangling").exists()


def test_a_model_that_no_engine_could_load_is_refused(server: Server) -> None:
    path = model_folders.add(server.models, "broken", b"GGUF")
    raw = path.read_bytes()
    path.unlink()
    got = server.post(IMPORT + "broken", raw)
    assert got.status == 400
    assert got.error.startswith("invalid model file: ")
    assert not path.exists()


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_slow_reader_costs_little_memory_and_keeps_its_blobs(server: Server) -> None:
    """The model is deleted in the middle of its export: the export ends well, and only then the blobs go."""
    blob = next(path for path in (server.models / "blobs").iterdir() if path.stat().st_size == len(BIG))
    before_bytes = resident_bytes(server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", EXPORT + "big")
    with connection.getresponse() as response:
        data = response.read(1000)
        assert server.call("DELETE", "/api/delete", {"model": "big"}).status == 200
        assert server.get(EXPORT + "big").status == 404
        assert blob.exists()
        data += response.read()
    connection.close()
    assert BIG in data
    server.wait_until(lambda: not blob.exists())
    assert resident_bytes(server) - before_bytes < 24 << 20


def test_a_reader_that_hangs_up_lets_go_of_the_blobs(server: Server) -> None:
    model_folders.add(server.models, "left", more=[("tensor", BIG[1:])])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", EXPORT + "left")
    with connection.getresponse() as response:
        response.read(1000)
        connection.close()
    blob = next(path for path in (server.models / "blobs").iterdir() if path.stat().st_size == len(BIG) - 1)
    server.call("DELETE", "/api/delete", {"model": "left"})
    server.wait_until(lambda: not blob.exists())


def test_a_blob_that_breaks_off_cuts_the_reply_short(server: Server) -> None:
    model_folders.add(server.models, "cut", more=[("tensor", BIG[2:])])
    blob = next(path for path in (server.models / "blobs").iterdir() if path.stat().st_size == len(BIG) - 2)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", EXPORT + "cut")
    with connection.getresponse() as response:
        response.read(1000)
        blob.write_bytes(b"")
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    connection.close()
    server.wait_until(lambda: "an export ends early" in server.log.read_text())
    assert server.get("/api/version").status == 200
    assert "Traceback" not in server.log.read_text()
