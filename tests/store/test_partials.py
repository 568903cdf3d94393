"""Unfinished blobs: one worker at a time, states that survive a kill, and a place taken in one step."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from llamero.errors import DiskFull, StorageError
from llamero.names import Digest
from llamero.store import Store, partials
from llamero.store.partials import Partial
from tests import model_folders

CONTENT = b"some weights"
DIGEST = Digest.of(CONTENT)
NAME = DIGEST.file_name


def claim(store: Store) -> Partial:
    partial = partials.claim(store.blobs, DIGEST)
    assert partial is not None
    return partial


def test_one_at_a_time(store: Store) -> None:
    with claim(store):
        assert partials.claim(store.blobs, DIGEST) is None
        assert partials.claim(Store(store.root).blobs, DIGEST) is None
        other = partials.claim(store.blobs, DIGEST, ".tmp")
        assert other is not None
        other.close()
    claim(store).close()


def test_content_is_kept_between_two_workers_and_then_takes_its_place(store: Store, root: Path) -> None:
    with claim(store) as partial:
        partial.allocate(len(CONTENT))
        partial.write(CONTENT[5:], 5)
        partial.save_state(0, b"a state\n")
    with claim(store) as partial:
        assert partial.states() == {0: b"a state\n"}
        assert partial.size_bytes == len(CONTENT)
        partial.write(memoryview(CONTENT)[:5], 0)
        buffer = bytearray(20)
        assert partial.read_into(memoryview(buffer), 2) == len(CONTENT) - 2
        assert buffer.startswith(CONTENT[2:])
        assert not store.blobs.exists(DIGEST)
        partial.place()
    assert store.blobs.read(DIGEST, 100) == CONTENT
    assert stat.S_IMODE(store.blobs.path(DIGEST).stat().st_mode) == 0o644 & ~current_umask()
    assert model_folders.blobs(root) == {NAME}


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_claim_of_what_was_placed_meanwhile_is_a_new_file(store: Store, root: Path) -> None:
    with claim(store) as first:
        first.write(CONTENT, 0)
        first.place()
        with claim(store) as second:
            assert second.size_bytes == 0
            second.discard()
    assert model_folders.blobs(root) == {NAME}


def test_a_state_is_written_over_the_older_one_whatever_their_lengths(store: Store) -> None:
    with claim(store) as partial:
        for content in (b"short\n", b"a longer one\n", b"x\n"):
            partial.save_state(12, content)
            assert partial.states() == {12: content}
            assert partials.states(store.blobs, DIGEST) == {12: content}


def test_only_numbers_are_states_and_clearing_removes_them_all(store: Store, root: Path) -> None:
    with claim(store) as partial:
        partial.write(b"old", 0)
        for number in (0, 7, 123):
            partial.save_state(number, b"{}")
        other = root / "blobs" / f"{NAME}-partial-07x"
        other.write_bytes(b"")
        assert set(partial.states()) == {0, 7, 123}
        partial.clear()
        assert partial.states() == {}
        assert partial.size_bytes == 0
    assert model_folders.blobs(root) == {f"{NAME}-partial", other.name}


def test_a_state_that_is_a_link_is_not_written_through(store: Store, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    with claim(store) as partial:
        (root / "blobs" / f"{NAME}-partial-0").symlink_to(outside)
        with pytest.raises(StorageError):
            partial.save_state(0, b"{}")
        partial.clear()
    assert outside.read_bytes() == b"mine"


def test_a_file_that_was_swapped_does_not_become_the_blob(store: Store, root: Path) -> None:
    with claim(store) as partial:
        partial.write(CONTENT, 0)
        path = root / "blobs" / f"{NAME}-partial"
        path.unlink()
        path.write_bytes(b"another")
        with pytest.raises(StorageError):
            partial.place()
    assert not store.blobs.exists(DIGEST)


def test_the_disk_is_asked_for_what_is_missing(store: Store) -> None:
    with claim(store) as partial:
        with pytest.raises(DiskFull, match=rf"^not enough disk space: {1 << 60} bytes are needed, \d+ are free$"):
            partial.allocate(1 << 60)
        partial.allocate(1 << 30)
        assert partial.size_bytes == 1 << 30  # sparse: nothing of it is used


def test_flushing_goes_on_after_the_end(store: Store) -> None:
    partial = claim(store)
    partial.flush()
    partial.close()
    partial.close()
    with pytest.raises(StorageError):
        partial.flush()
