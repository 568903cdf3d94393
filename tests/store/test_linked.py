"""Files of the user that become blobs without a second copy (store-registry GAP-02, S-102)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamero.errors import StorageError
from llamero.names import Digest, ModelName
from llamero.store import Store
from tests import model_folders
from tests.gguf_files import tiny_llama

WEIGHTS = tiny_llama()
DIGEST = Digest.of(WEIGHTS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(WEIGHTS)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    return path


def test_a_file_is_linked_and_neither_it_nor_its_times_change(store: Store, file: Path) -> None:
    """Partly S-102: no second copy."""
    digest, how = store.linked.place(file)
    blob = store.blobs.path(digest)
    assert (digest, blob.read_bytes()) == (DIGEST, WEIGHTS)
    assert how in ("reflink", "hard link")
    if how == "hard link":
        assert blob.stat().st_ino == file.stat().st_ino
    store.blobs.touch(digest)
    assert file.stat().st_mtime_ns == 1_000_000_000 * 10**9
    assert store.linked.warning(digest) == ""


def test_in_place_the_blob_is_a_link_to_the_file(store: Store, file: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias.gguf"
    alias.symlink_to(file)
    digest, how = store.linked.place(alias, in_place=True)
    assert how == "link"
    assert os.readlink(store.blobs.path(digest)) == str(file)


def test_removing_the_model_leaves_the_file(store: Store, root: Path, file: Path) -> None:
    digest, _ = store.linked.place(file, in_place=True)
    raw = model_folders.add(root, "m", WEIGHTS).read_bytes()  # writes through the link, the same bytes
    assert store.blobs.path(digest).is_symlink()
    store.write(ModelName.parse("m"), raw)
    store.delete(ModelName.parse("m"))
    assert not os.path.lexists(store.blobs.path(digest))
    assert file.read_bytes() == WEIGHTS


@pytest.mark.parametrize("in_place", [True, False])
def test_a_source_that_changes_later_is_told(store: Store, file: Path, in_place: bool) -> None:
    digest, how = store.linked.place(file, in_place=in_place)
    if how == "reflink":
        pytest.skip("a reflink does not change with its source")
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"!")
    assert "mine.gguf, which was changed since" in store.linked.warning(digest)


def test_a_source_that_is_gone_is_told(store: Store, file: Path) -> None:
    digest, _ = store.linked.place(file, in_place=True)
    file.unlink()
    assert "gone" in store.linked.warning(digest)


def test_a_source_that_changes_meanwhile_is_refused(store: Store, file: Path) -> None:
    def meddle(completed: int, total: int) -> None:
        with file.open("ab") as opened:
            opened.write(b"more")

    with pytest.raises(StorageError, match="changed while it was read"):
        store.linked.place(file, report=meddle)
    assert [path.name for path in store.blobs.folder.iterdir()] == []


def test_a_blob_that_is_there_is_kept(store: Store, file: Path) -> None:
    store.blobs.put(WEIGHTS)
    inode = store.blobs.path(DIGEST).stat().st_ino
    assert store.linked.place(file)[0] == DIGEST
    assert store.blobs.path(DIGEST).stat().st_ino == inode


def test_a_pipe_is_no_file(store: Store, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="not a regular file"):
        store.linked.place(tmp_path / "pipe")
