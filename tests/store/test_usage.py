"""What the models take on the disk (cli §3.16 `du`, §13 G-07)."""

from __future__ import annotations

from pathlib import Path

from llamero.names import ModelName
from llamero.store import Store
from tests import model_folders
from tests.gguf_files import tiny_llama

WEIGHTS = tiny_llama()
A, B, C = (ModelName.parse(name) for name in "abc")


def test_own_is_what_removing_the_model_frees(store: Store, root: Path) -> None:
    model_folders.add(root, "a", WEIGHTS, system="of a alone")
    model_folders.add(root, "b", WEIGHTS)
    before = {each.name: each for each in store.usage().models}
    assert before[A].shared_with == (B,)
    assert before[A].own_bytes == store.delete(A)
    (left,) = store.usage().models
    assert (left.own_bytes, left.shared_with) == (left.size_bytes, ())
    assert left.own_bytes == store.delete(B)


def test_several_together_free_what_they_share(store: Store, root: Path) -> None:
    for name in "abc":
        model_folders.add(root, name, WEIGHTS, system=f"only {name}")
    usage = store.usage()
    together = usage.freed_by([A, B])
    assert together == sum(each.own_bytes for each in usage.models if each.name in (A, B))
    assert usage.freed_by([A, B, C]) == usage.disk_bytes > together + len(WEIGHTS)
    assert together == store.delete(A) + store.delete(B)


def test_sharing_is_what_the_models_would_take_more_without_it(store: Store, root: Path) -> None:
    model_folders.add(root, "a", WEIGHTS)
    alone = store.usage()
    assert alone.saved_bytes == 0
    model_folders.add(root, "b", WEIGHTS)
    assert store.usage().saved_bytes == store.usage().disk_bytes == alone.disk_bytes


def test_files_of_no_model_are_counted_apart_and_holes_take_nothing(store: Store, root: Path) -> None:
    model_folders.add(root, "a", WEIGHTS)
    partial = root / "blobs" / f"sha256-{'0' * 64}-partial"
    with partial.open("wb") as file:
        file.truncate(10**10)
    (root / "blobs" / f"sha256-{'1' * 64}").write_bytes(b"x" * 4096)
    assert store.usage().unused_bytes == 4096


def test_a_link_frees_nothing(store: Store, root: Path, tmp_path: Path) -> None:
    model_folders.add(root, "a", WEIGHTS)
    blob = max((root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    usage = store.usage()
    (model,) = usage.models
    assert model.size_bytes > len(WEIGHTS) > usage.freed_by([A]) == model.own_bytes == usage.disk_bytes
    assert usage.saved_bytes == len(WEIGHTS)


def test_a_folder_that_is_not_there_takes_nothing(store: Store) -> None:
    usage = store.usage()
    assert (usage.models, usage.disk_bytes, usage.unused_bytes) == ((), 0, 0)
