"""The list of models (store-registry §8, native-api §3.4)."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path

import pytest

from llamero.store import Store
from tests import model_folders
from tests.gguf_files import tiny_llama

WEIGHTS = tiny_llama()
SECOND = 1_000_000_000


def names(store: Store) -> list[str]:
    return [summary.name.display for summary in store.list()]


def set_time(path: Path, at_ns: int) -> None:
    os.utime(path, ns=(at_ns, at_ns))


def test_newest_first_by_whole_seconds_then_by_name(store: Store, root: Path) -> None:
    """Partly S-97: HEAD is the server's."""
    now = 1_700_000_000 * SECOND
    for name, at_ns in {"b": now, "a": now + 5, "ns/c": now + 9, "new": now + SECOND, "old": now - SECOND}.items():
        set_time(model_folders.add(root, name, WEIGHTS), at_ns)
    assert names(store) == ["new:latest", "a:latest", "b:latest", "ns/c:latest", "old:latest"]


def test_an_entry(store: Store, root: Path) -> None:
    """S-19: the digest in the list is the sha256 of the manifest file, bare hex; test_manifests shows its bytes."""
    path = model_folders.add(root, "m", WEIGHTS, config={"model_family": "llama"}, system="s", newline=True)
    (summary,) = store.list()
    assert summary.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert summary.size_bytes == len(WEIGHTS) + len(b'{"model_family": "llama"}') + 1
    assert summary.modified_ns == path.stat().st_mtime_ns
    assert (summary.context_length, summary.embedding_length) == (128, 32)
    assert summary.capabilities == ("completion",)
    assert summary.details.family == "llama"


def test_the_size_is_what_the_manifest_states(store: Store, root: Path) -> None:
    digest = model_folders.blob(root, WEIGHTS)
    raw = f'{{"layers":[{{"mediaType":"{model_folders.IMAGE}model","digest":"{digest}","size":77}}]}}'
    model_folders.write(root, "m", raw.encode())
    assert store.list()[0].size_bytes == 77


def test_s98_changes_of_another_program_show_at_once(store: Store, root: Path) -> None:
    model_folders.add(root, "a", WEIGHTS)
    assert names(store) == ["a:latest"]
    path = model_folders.add(root, "b", WEIGHTS, system="one")
    assert sorted(names(store)) == ["a:latest", "b:latest"]
    # replaced within the same clock tick by a file of the same size
    status = path.stat()
    path.unlink()
    model_folders.add(root, "b", WEIGHTS, system="two")
    set_time(path, status.st_mtime_ns)
    assert path.stat().st_size == status.st_size
    after = {summary.name.display: summary.digest for summary in store.list()}
    assert after["b:latest"] == hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()
    assert names(store) == ["a:latest"]


def test_a_changed_time_alone_is_noticed(store: Store, root: Path) -> None:
    for name in "ab":
        set_time(model_folders.add(root, name, WEIGHTS), 10 * SECOND)
    assert names(store) == ["a:latest", "b:latest"]
    set_time(model_folders.manifest_path(root, "b"), 20 * SECOND)
    assert names(store) == ["b:latest", "a:latest"]


def test_s99_a_broken_model_is_left_out_and_named_once(
    store: Store, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model_folders.add(root, "fine", WEIGHTS)
    model_folders.add(root, "no-config", WEIGHTS, config={"model_family": "odd"})
    model_folders.add(root, "no-template", WEIGHTS, template="{{ .Lost }}")
    model_folders.write(root, "half", b'{"layers":[')
    (root / "blobs" / model_folders.blob(root, b'{"model_family": "odd"}').replace(":", "-")).unlink()
    lost = root / "blobs" / model_folders.blob(root, b"{{ .Lost }}").replace(":", "-")
    lost.unlink()
    with caplog.at_level(logging.WARNING, "llamero.store.listing"):
        assert names(store) == ["fine:latest"]
        assert names(store) == ["fine:latest"]
    assert sorted(record.getMessage().split()[1] for record in caplog.records) == [
        "half:latest",
        "no-config:latest",
        "no-template:latest",
    ]
    lost.write_bytes(b"{{ .Lost }}")
    assert sorted(names(store)) == ["fine:latest", "no-template:latest"], "mended by another program"
    lost.unlink()
    assert names(store) == ["fine:latest"]


def test_s100_five_hundred_known_models_are_listed_without_opening_a_file(store: Store, root: Path) -> None:
    for number in range(500):
        model_folders.add(root, f"m{number}", WEIGHTS, config={"model_family": f"f{number}"})
    assert len(store.list()) == 500
    (root / "blobs" / model_folders.blob(root, WEIGHTS).replace(":", "-")).write_bytes(b"not read any more")
    store.headers.forget(store.resolve(store.list()[0].name).weights_digest)  # type: ignore[arg-type]
    begin = time.thread_time()
    listed = store.list()
    took_s = time.thread_time() - begin
    assert len(listed) == 500
    assert all(summary.context_length == 128 for summary in listed)
    assert took_s < 0.1
