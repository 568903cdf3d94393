"""Files of the user that become blobs without a second copy (store-registry GAP-02, S-102)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamero.errors import InvalidModelFile, StorageError
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
    assert "mine.gguf in place, and that file was changed" in store.linked.warning(digest)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_change_is_news_once(store: Store, file: Path, in_place: bool) -> None:
    digest, how = store.linked.place(file, in_place=in_place)
    if how == "reflink":
        pytest.skip("a reflink does not change with its source")
    assert not store.linked.changed(digest)
    for mtime_s in (2_000_000_000, 2_000_000_001):
        os.utime(file, (mtime_s, mtime_s))
        assert [store.linked.changed(digest) for _ in range(2)] == [True, False]
    assert store.linked.warning(digest)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_blob_that_shares_with_nobody_any_more_has_no_warning(store: Store, file: Path, in_place: bool) -> None:
    """Another program removed it and pulled a copy, or the user removed the file that it was linked to."""
    digest, _ = store.linked.place(file, in_place=in_place)
    blob = store.blobs.path(digest)
    blob.unlink()
    blob.write_bytes(WEIGHTS)
    assert (store.linked.warning(digest), store.linked.changed(digest)) == ("", False)


def test_the_engine_gets_no_changed_file_unchecked(store: Store, root: Path, file: Path) -> None:
    """Partly S-102: what its user does to the file is found before the engine reads it."""
    raw = model_folders.add(root, "m", WEIGHTS).read_bytes()
    store.blobs.path(DIGEST).unlink()
    store.linked.place(file, in_place=True)
    store.write(ModelName.parse("m"), raw)
    store.check_weights(store.resolve(ModelName.parse("m")))

    file.write_bytes(tiny_llama({"general.name": "still a model"}))
    model = store.resolve(ModelName.parse("m"))
    store.check_weights(model)
    assert model.gguf is not None
    assert model.gguf.get_str("general.name") == "still a model"
    assert len(store.source_warnings(model)) == 1

    file.write_bytes(WEIGHTS[:100])
    model = store.resolve(ModelName.parse("m"))
    with pytest.raises(
        InvalidModelFile, match=r"; the model uses mine\.gguf in place, and that file was changed"
    ) as bad:
        store.check_weights(model)
    assert bad.value.status == 500

    file.unlink()
    with pytest.raises(StorageError, match=r"^the model uses mine\.gguf in place, and that file is gone$"):
        store.check_weights(store.resolve(ModelName.parse("m")))


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
