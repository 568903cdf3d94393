"""One file with a whole model: computed from any byte to any other, and installed from its parts (GAP-13)."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import BadRequest, BlobNotFound, StorageError
from llamero.names import Digest, ModelName
from llamero.store import Store, tar
from llamero.store.archive import Archive, install, pack
from tests import model_folders
from tests.gguf_files import tiny_llama

M = ModelName.parse("m")
WEIGHTS = tiny_llama()


def packed(store: Store, name: str = "m") -> Archive:
    return pack(store.manifests.read(ModelName.parse(name)), store.blobs)


def whole(archive: Archive) -> bytes:
    return b"".join(archive.blocks(0, archive.size_bytes))


def members(data: bytes) -> dict[str, bytes]:
    return {member.name: member.whole(1 << 20) for member in tar.members(io.BytesIO(data))}


# --- packing ---


def test_the_order_of_an_archive(store: Store, root: Path) -> None:
    manifest = model_folders.add(root, "m", WEIGHTS, system="be kind", license="MIT").read_bytes()
    found = members(whole(packed(store)))
    contents = [manifest, b"{}", WEIGHTS, b"be kind", b"MIT"]
    assert list(found)[:2] == ["oci-layout", "index.json"]
    assert list(found.items())[2:] == [(f"blobs/sha256/{Digest.of(data).hex}", data) for data in contents]
    assert json.loads(found["index.json"])["manifests"] == [
        {
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "digest": str(Digest.of(manifest)),
            "size": len(manifest),
            "annotations": {"org.opencontainers.image.ref.name": "registry.ollama.ai/library/m:latest"},
        }
    ]


def test_every_slice_is_a_slice_of_the_whole(store: Store, root: Path) -> None:
    model_folders.add(root, "m", b"w" * 3000, system="s" * 512, license="")
    archive = packed(store)
    data = whole(archive)
    assert len(data) == archive.size_bytes
    choose = random.Random(5)
    for _ in range(300):
        start, stop = sorted(choose.choices(range(len(data) + 1), k=2))
        assert b"".join(archive.blocks(start, stop)) == data[start:stop]


def test_the_same_model_gives_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    archives = []
    for machine in ("a", "b"):
        path = model_folders.add(tmp_path / machine, "m", WEIGHTS, system="s")
        model_folders.make_older(path, 1000 if machine == "a" else 0)
        archives.append(packed(Store(tmp_path / machine)))
    assert whole(archives[0]) == whole(archives[1])
    assert archives[0].etag == archives[1].etag


def test_the_etag_changes_with_whatever_changes_the_bytes(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    store.copy(M, ModelName.parse("copy"))
    model_folders.add(root, "other", WEIGHTS, system="s")
    assert len({packed(store, name).etag for name in ("m", "copy", "other")}) == 3


def test_a_blob_that_two_layers_share_stands_there_once(store: Store, root: Path) -> None:
    model_folders.add(root, "m", b"{}", license="{}")
    assert len(members(whole(packed(store)))) == 4


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({}, "application/vnd.oci.image.manifest.v1+json"),
        ({"mediaType": "application/vnd.oci.image.manifest.v1+json"}, "application/vnd.oci.image.manifest.v1+json"),
    ],
)
def test_manifests_of_other_kinds_keep_their_kind(
    store: Store, root: Path, document: dict[str, Any], media_type: str
) -> None:
    """And a manifest without a config has none in the archive."""
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": model_folders.blob(root, b"w"), "size": 1}
    raw = json.dumps({"schemaVersion": 2, "config": {"digest": ""}, "layers": [layer], **document}, indent=1).encode()
    model_folders.write(root, "m", raw)
    found = members(whole(packed(store)))
    assert json.loads(found["index.json"])["manifests"][0]["mediaType"] == media_type
    assert list(found.values())[2:] == [raw, b"w"]


def test_half_a_model_is_not_packed(store: Store, root: Path) -> None:
    model_folders.add(root, "m", b"weights", system="s")
    blob = store.blobs.path(Digest.of(b"weights"))
    blob.write_bytes(b"short")
    with pytest.raises(StorageError, match=r'^blob "sha256:.*" has 5 bytes, its manifest says 7$'):
        packed(store)
    blob.unlink()
    with pytest.raises(BlobNotFound):
        packed(store)
    model_folders.write(root, "m", b'{"layers":[]}')
    with pytest.raises(StorageError, match=r"^model 'm:latest': invalid manifest"):
        packed(store)


def test_a_blob_that_shrinks_while_it_is_read_is_noticed(store: Store, root: Path) -> None:
    model_folders.add(root, "m", bytes(3 << 20))
    blocks = packed(store).blocks(0, 4 << 20)
    for _ in range(4):
        next(blocks)
    store.blobs.path(Digest.of(bytes(3 << 20))).write_bytes(b"")
    with pytest.raises(StorageError, match="became shorter"):
        list(blocks)


# --- installing ---


def brought(root: Path, model: bytes = WEIGHTS, **more: Any) -> bytes:
    """A manifest whose blobs are in the folder and which is not."""
    path = model_folders.add(root, "elsewhere", model, **more)
    raw = path.read_bytes()
    path.unlink()
    return raw


def test_a_manifest_is_installed_byte_for_byte(store: Store, root: Path) -> None:
    raw = brought(root, system="s", config={"model_format": "gguf", "unknown": [1, 2]})
    assert install(store, M, raw) == M
    assert model_folders.manifest_path(root, "m").read_bytes() == raw
    assert store.resolve(M).system == "s"


def test_what_is_missing_is_listed(store: Store, root: Path) -> None:
    raw = brought(root, system="s", license="l")
    gone = [Digest.of(data) for data in (WEIGHTS, b"l")]
    for digest in gone:
        store.blobs.path(digest).unlink()
    with pytest.raises(BadRequest, match=f"^blobs are missing: {gone[0]}, {gone[1]}$"):
        install(store, M, raw)


def test_of_many_missing_some_are_listed(store: Store, root: Path) -> None:
    raw = brought(root, more=[("license", f"l{n}".encode()) for n in range(30)])
    for path in (root / "blobs").iterdir():
        path.unlink()
    with pytest.raises(
        BadRequest, match=r"^blobs are missing: (sha256:[0-9a-f]{64}, ){7}sha256:[0-9a-f]{64} and 24 more"
    ):
        install(store, M, raw)


@pytest.mark.parametrize(
    ("model", "more", "reason"),
    [
        (b"GGUF", {}, "^invalid model file: "),
        (b"no model", {}, "^invalid model file: "),
        (tiny_llama({"llama.block_count": 0}), {}, "^invalid model file: "),
        (WEIGHTS, {"projector": b"none"}, "^invalid model file: "),
        (WEIGHTS, {"params": "[]"}, "^bad parameters layer"),
        (WEIGHTS, {"messages": "{"}, "^bad messages layer"),
    ],
)
def test_a_model_that_nobody_could_use_is_refused(
    store: Store, root: Path, model: bytes, more: dict[str, Any], reason: str
) -> None:
    raw = brought(root, model, **more)
    with pytest.raises(BadRequest, match=reason):
        install(store, M, raw)
    assert store.list() == []


def test_sizes_must_be_true(store: Store, root: Path) -> None:
    raw = brought(root, system="system").replace(b'"size":6', b'"size":7')
    with pytest.raises(BadRequest, match="has 6 bytes, its manifest says 7"):
        install(store, M, raw)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"schemaVersion":2,"layers":[]}'])
def test_what_is_no_manifest(store: Store, root: Path, raw: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^invalid manifest"):
        install(store, M, raw)
    assert not root.exists()
