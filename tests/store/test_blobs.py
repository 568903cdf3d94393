"""Blobs: staged, verified, renamed; read without hanging; removed only when nobody holds them (store-registry §2)."""

from __future__ import annotations

import ast
import os
import socket
import stat
import tempfile
import threading
from pathlib import Path

import pytest

import llamero
from llamero.errors import BadRequest, BlobNotFound, StorageError, TooLarge
from llamero.names import Digest
from llamero.store import Store
from llamero.store.blobs import RESERVE_BYTES, keep_reserve
from tests import model_folders

CONTENT = b"some weights"
DIGEST = Digest.of(CONTENT)


def test_nothing_is_made_on_disk_before_it_is_needed(store: Store, root: Path) -> None:
    assert not store.blobs.exists(DIGEST)
    assert store.list() == []
    assert not root.exists()


def test_a_blob_is_named_by_its_content_and_readable_by_others(store: Store, root: Path) -> None:
    """Partly S-09: the HTTP side is the server's."""
    old_mask = os.umask(0o022)
    try:
        assert store.blobs.put(CONTENT) == DIGEST
    finally:
        os.umask(old_mask)
    path = root / "blobs" / f"sha256-{DIGEST.hex}"
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / ".llamero").stat().st_mode) == 0o700
    assert model_folders.blobs(root) == {path.name}
    assert list((root / ".llamero" / "tmp").iterdir()) == []


def test_a_finished_file_of_ours_becomes_a_blob_without_a_copy(store: Store, root: Path) -> None:
    with store.scratch() as folder:
        (folder / "made").write_bytes(CONTENT)
        inode = (folder / "made").stat().st_ino
        assert store.blobs.adopt(folder / "made") == DIGEST
        assert not (folder / "made").exists()
    assert store.blobs.path(DIGEST).stat().st_ino == inode
    assert store.blobs.read(DIGEST, 100) == CONTENT


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system at hand")
def test_a_file_on_another_file_system_is_copied(store: Store) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made = Path(folder) / "made"
        made.write_bytes(CONTENT)
        assert store.blobs.adopt(made) == DIGEST
    assert store.blobs.read(DIGEST, 100) == CONTENT


def test_adopting_ends_when_nobody_wants_it(store: Store, root: Path, tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(CONTENT)
    with pytest.raises(KeyError):
        store.blobs.adopt(tmp_path / "made", {}.popitem)
    assert model_folders.blobs(root) == set()
    assert (tmp_path / "made").exists()


def test_the_umask_is_heeded(store: Store) -> None:
    old_mask = os.umask(0o027)
    try:
        path = store.blobs.path(store.blobs.put(CONTENT))
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_x85_content_is_never_visible_before_it_was_verified(store: Store, root: Path) -> None:
    with store.blobs.stage(DIGEST) as first, store.blobs.stage(DIGEST) as second:
        first.write(CONTENT[:4])
        second.write(CONTENT)
        first.write(CONTENT[4:])
        assert not store.blobs.exists(DIGEST)
        assert first.commit() == DIGEST
        assert store.blobs.read(DIGEST, 100) == CONTENT
        assert second.commit() == DIGEST
    for wrong in (CONTENT[:-1], CONTENT + b"!", b"", b"other"):
        with store.blobs.stage(DIGEST) as writer:
            writer.write(wrong)
            with pytest.raises(BadRequest) as caught:
                writer.commit()
        got = Digest.of(wrong)
        assert str(caught.value) == f'digest mismatch, expected "{DIGEST}", got "{got}"'  # partly S-10
        assert not store.blobs.exists(got)
    assert model_folders.blobs(root) == {DIGEST.file_name}


def test_left_without_a_commit_nothing_remains(store: Store, root: Path) -> None:
    """A cut connection raises inside the block. Partly X-86: pull and create have their own tests."""

    def receive() -> None:
        with store.blobs.stage(DIGEST) as writer:
            writer.write(CONTENT)
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        receive()
    assert model_folders.tree(root) == {"blobs": "/", ".llamero": "/", ".llamero/tmp": "/"}
    assert store.blobs.put(CONTENT) == DIGEST


def test_a_limit_of_bytes_is_enforced(store: Store) -> None:
    with store.blobs.stage(size_limit_bytes=5) as writer:
        writer.write(b"12345")
        with pytest.raises(TooLarge) as caught:
            writer.write(b"6")
    assert caught.value.status == 413


def test_the_last_of_the_disk_is_not_given_away(tmp_path: Path) -> None:
    keep_reserve(tmp_path)
    with pytest.raises(StorageError, match="not enough disk space") as caught:
        keep_reserve(tmp_path, announced_bytes=1 << 62)
    assert caught.value.status == 507
    assert RESERVE_BYTES == 2 * 2**30


def test_s12_older_files_named_in_upper_case_are_found(store: Store, root: Path) -> None:
    model_folders.blob(root, CONTENT)
    (root / "blobs" / DIGEST.file_name).rename(root / "blobs" / f"sha256-{DIGEST.hex.upper()}")
    for text in (f"sha256:{DIGEST.hex.upper()}", f"sha256-{DIGEST.hex}"):
        assert store.blobs.read(Digest.parse(text), 100) == CONTENT


def test_missing_blobs(store: Store) -> None:
    for look in (store.blobs.open, store.blobs.size, store.blobs.touch):
        with pytest.raises(BlobNotFound, match=rf'^blob "{DIGEST}" not found$'):
            look(DIGEST)
    assert store.blobs.remove(DIGEST, "test") == 0


def test_a_small_read_is_bounded(store: Store) -> None:
    store.blobs.put(CONTENT)
    assert store.blobs.read(DIGEST, len(CONTENT)) == CONTENT
    with pytest.raises(StorageError, match="larger than 11 bytes"):
        store.blobs.read(DIGEST, len(CONTENT) - 1)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "dangling", "loop"])
def test_what_is_no_file_is_an_error_at_once(store: Store, root: Path, tmp_path: Path, kind: str) -> None:
    """Partly X-22: a link to a regular file works, since the store allows those."""
    place = root / "blobs" / DIGEST.file_name
    place.parent.mkdir(parents=True)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case "device":
            place.symlink_to("/dev/zero")
        case "dangling":
            place.symlink_to(tmp_path / "nowhere")
        case "loop":
            place.symlink_to(place.name)
    assert not store.blobs.exists(DIGEST)
    with pytest.raises((StorageError, BlobNotFound)):
        store.blobs.open(DIGEST)
    if kind in ("pipe", "folder"):
        assert store.blobs.remove(DIGEST, "test") == 0
        assert os.path.lexists(place)


def test_a_socket_is_no_blob_either(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "blobs").mkdir(parents=True)
    monkeypatch.chdir(root / "blobs")  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(DIGEST.file_name)
    with pytest.raises(StorageError, match="not a regular file"):
        store.blobs.open(DIGEST)


def test_links_planted_for_us_lead_no_write_outside(store: Store, root: Path, tmp_path: Path) -> None:
    """Partly X-83: manifests have their own test, and `blobs/` itself may be a link to another disk."""
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_bytes(b"precious")
    os.utime(victim, ns=(10**18, 10**18))
    place = root / "blobs" / DIGEST.file_name
    place.parent.mkdir(parents=True)
    place.symlink_to(victim)
    store.blobs.touch(DIGEST)
    assert victim.stat().st_mtime_ns == 10**18
    assert store.blobs.put(CONTENT) == DIGEST
    assert not place.is_symlink()
    place.unlink()
    place.symlink_to(victim)
    store.blobs.remove(DIGEST, "test")
    assert not os.path.lexists(place)

    (root / ".llamero" / "tmp").rmdir()
    (root / ".llamero" / "tmp").symlink_to(outside)
    with pytest.raises(StorageError, match="is a link: ensure path elements are traversable"):
        store.blobs.put(CONTENT)
    assert model_folders.tree(outside) == {"victim": b"precious"}


def test_the_blobs_folder_may_be_a_link_to_another_place(store: Store, root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    root.mkdir()
    (root / "blobs").symlink_to(tmp_path / "disk")
    store.blobs.put(CONTENT)
    assert (tmp_path / "disk" / DIGEST.file_name).read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a second file system")
def test_on_another_file_system_the_file_is_staged_beside_its_target(store: Store, root: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(root.parent).st_dev:
            pytest.skip("/dev/shm is no other file system here")
        root.mkdir()
        (root / "blobs").symlink_to(other)
        with store.blobs.stage(DIGEST) as writer:
            writer.write(CONTENT)
            (staged,) = Path(other).iterdir()
            assert staged.name.startswith("sha256-")
            assert staged.name.removeprefix("sha256-").isdigit()
            writer.commit()
        assert [path.name for path in Path(other).iterdir()] == [DIGEST.file_name]


def test_what_is_held_is_not_removed(store: Store) -> None:
    store.blobs.put(CONTENT)
    with store.blobs.hold([DIGEST, DIGEST]):
        with store.blobs.hold([DIGEST]):
            pass
        assert store.blobs.is_held(DIGEST)
        assert store.blobs.remove(DIGEST, "test") == 0
    assert not store.blobs.is_held(DIGEST)
    assert store.blobs.remove(DIGEST, "test") == len(CONTENT)
    assert not store.blobs.exists(DIGEST)


def test_many_threads_write_the_same_blob(store: Store, root: Path) -> None:
    content = os.urandom(300_000)
    start = threading.Barrier(8)
    found: list[Digest] = []

    def write() -> None:
        start.wait()
        with store.blobs.stage(Digest.of(content)) as writer:
            for at in range(0, len(content), 7_000):
                writer.write(content[at : at + 7_000])
            found.append(writer.commit())

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Digest.of(content)] * 8
    assert model_folders.blobs(root) == {Digest.of(content).file_name}
    assert list((root / ".llamero" / "tmp").iterdir()) == []


def test_x14_only_one_function_builds_blob_paths() -> None:
    source = Path(llamero.__file__).parent
    builders = set()
    for file in source.rglob("*.py"):
        tree = ast.parse(file.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                names = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
                if "file_name" in names:
                    builders.add(f"{file.relative_to(source).as_posix()} {function.name}")
    assert builders == {"store/blobs.py path"}
