"""Headers of stored blobs: read once, checked once, and never kept open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamero import gguf
from llamero.errors import BlobNotFound, InvalidModelFile
from llamero.names import Digest
from llamero.store import Store, headers
from tests import model_folders
from tests.gguf_files import gguf_file, tiny_llama


def test_a_header_is_read_once(store: Store, root: Path) -> None:
    digest = store.blobs.put(tiny_llama())
    first = store.headers.read(digest)
    assert first.architecture == "llama"
    store.blobs.path(digest).unlink()
    assert store.headers.read(digest) is first
    store.headers.forget(digest)
    with pytest.raises(BlobNotFound):
        store.headers.read(digest)


def test_only_so_many_are_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "_REMEMBERED", 2)
    digests = [store.blobs.put(gguf_file({"general.architecture": name})) for name in "abc"]
    first = store.headers.read(digests[0])
    for digest in digests[1:]:
        store.headers.read(digest)
    assert store.headers.read(digests[0]) is not first


def test_a_full_check_is_recorded_and_not_repeated(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.blobs.put(tiny_llama())
    checked = []
    check_model = gguf.check_model
    monkeypatch.setattr(gguf, "check_model", lambda *given: (checked.append(1), check_model(*given)))
    assert store.headers.check(digest).architecture == "llama"
    assert Store(root).headers.check(digest).architecture == "llama"
    assert checked == [1]
    assert [path.name for path in (root / ".llamero" / "checked").iterdir()] == [f"{digest.hex}.1"]
    store.headers.forget(digest)
    store.headers.check(digest)
    assert checked == [1, 1]


def test_what_fails_the_check_is_not_recorded(store: Store, root: Path) -> None:
    digest = store.blobs.put(tiny_llama({"llama.block_count": 0}))
    for _ in range(2):
        with pytest.raises(InvalidModelFile, match="block_count"):
            store.headers.check(digest)
    assert not (root / ".llamero" / "checked").exists()


@pytest.mark.parametrize("content", [b"", b"GGU", b"GGUF", b"GGUF\3\0\0\0" + bytes(15)], ids=["0", "3", "4", "23"])
def test_short_files_are_invalid_not_fatal(store: Store, content: bytes) -> None:
    with pytest.raises(InvalidModelFile, match=r"^invalid model file: "):
        store.headers.read(store.blobs.put(content))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_nothing_stays_open_or_mapped(store: Store, root: Path) -> None:
    content = tiny_llama()
    digest = store.blobs.put(content)
    store.headers.check(digest)
    with store.headers.content(digest) as buffer:
        assert bytes(buffer[:4]) == b"GGUF"
    model_folders.add(root, "m", content)
    (summary,) = store.list()
    assert summary.context_length == 128
    assert Digest.of(content).hex not in Path("/proc/self/maps").read_text()
    open_files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [path for path in open_files if str(root) in path]
