"""Links that somebody planted: whatever the store does, nothing outside of it changes (X-83, security §12).

The models folder itself, its `blobs/` and its `manifests/` may be links to another disk, and a blob may be a link to a
file; anything else that leads outside is refused or replaced, never passed through by a change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llamero.errors import LlameroError
from llamero.names import Digest, ModelName
from llamero.store import Store, partials
from llamero.store.archive import install
from tests import model_folders
from tests.gguf_files import tiny_llama

WEIGHTS = tiny_llama()
DIGEST = Digest.of(WEIGHTS)
OLD_S = 10 * 24 * 3600
M = ModelName.parse("m")
MODEL = Path("manifests/registry.ollama.ai/library/m")


def make_models(root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, system="s")
    model_folders.add(root, "other", b"other weights")
    model_folders.blob(root, b"nobody uses it", age_s=OLD_S)


def make_outside(outside: Path) -> None:
    """Files that look as if they were the store's: also an old one, and a whole tree of manifests."""
    make_models(outside)
    (outside / "folder").mkdir()
    for name in ("file", f"{DIGEST.hex}.1", f"{DIGEST.hex}.json", "0" * 32):
        (outside / "folder" / name).write_bytes(b"mine")
        model_folders.make_older(outside / "folder" / name, OLD_S)
    (outside / "empty").mkdir()


def snapshot(folder: Path) -> dict[str, object]:
    """All that a change would change: content, times and modes."""
    found: dict[str, object] = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else sorted(os.listdir(path))
        found[str(path)] = (content, status.st_mode, status.st_mtime_ns)
    return found


# --- where a link may lie, and where it leads ----------------------------------------------------------------------

BLOB = Path("blobs") / DIGEST.file_name
PARTIAL = Path("blobs") / f"{DIGEST.file_name}-partial"

POSITIONS = {
    "blob": (BLOB, "folder/file"),
    "blob to nowhere": (BLOB, "absent"),
    "blob to a folder": (BLOB, "folder"),
    "partial": (PARTIAL, "folder/file"),
    "partial to nowhere": (PARTIAL, "absent"),
    "state": (Path(f"{PARTIAL}-0"), "folder/file"),
    "state to nowhere": (Path(f"{PARTIAL}-0"), "absent"),
    "tensor download": (BLOB.with_name(f"{DIGEST.file_name}.tmp"), "folder/file"),
    "blob of an early release": (Path("blobs") / "sha256:abcd", "folder/file"),
    "manifest": (MODEL / "latest", str(MODEL / "latest")),
    "manifest to nowhere": (MODEL / "latest", "absent"),
    "folder of a model": (MODEL, str(MODEL)),
    "folder of a namespace": (MODEL.parent, str(MODEL.parent)),
    "folder of a host": (MODEL.parent.parent, str(MODEL.parent.parent)),
    "empty folder of a model": (MODEL, "empty"),
    "our folder": (Path(".llamero"), "folder"),
    "our folder to nowhere": (Path(".llamero"), "absent"),
    "temporary files": (Path(".llamero/tmp"), "folder"),
    "one temporary file": (Path(".llamero/tmp") / ("0" * 32), "folder/file"),
    "one temporary folder": (Path(".llamero/tmp") / ("0" * 32), "folder"),
    "lock of changes": (Path(".llamero/changes"), "folder/file"),
    "lock of changes to nowhere": (Path(".llamero/changes"), "absent"),
    "lock of a server to nowhere": (Path(".llamero/lock"), "absent"),
    "records of checks": (Path(".llamero/checked"), "folder"),
    "a record of a check to nowhere": (Path(".llamero/checked") / f"{DIGEST.hex}.1", "absent"),
    "records of pulls": (Path(".llamero/pulled"), "folder"),
    "records of linked files": (Path(".llamero/linked"), "folder"),
    "a record of a linked file": (Path(".llamero/linked") / f"{DIGEST.hex}.json", "folder/file"),
}


def plant(root: Path, outside: Path, position: str) -> Path:
    place, target = POSITIONS[position]
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside / target)
    os.utime(path, (0, 0), follow_symlinks=False)  # old enough for whoever clears up
    return path


# --- what the store may be asked to do -----------------------------------------------------------------------------


def pull(store: Store) -> None:
    """What a download and the end of a pull do."""
    raw = model_folders.manifest_path(store.root.parent / "registry", "m").read_bytes()
    with store.hold([DIGEST]):
        if not store.blobs.has(DIGEST, len(WEIGHTS)):
            partial = partials.claim(store.blobs, DIGEST)
            assert partial is not None
            with partial:
                partial.allocate(len(WEIGHTS))
                partial.write(WEIGHTS, 0)
                partial.save_state(0, b"{}")
                partial.flush()
                partial.place()
        store.blobs.touch(DIGEST)
        store.write(M, raw)
    store.mark_pulled(M, "0" * 64, M)


def pull_tensors(store: Store) -> None:
    partial = partials.claim(store.blobs, DIGEST, ".tmp")
    assert partial is not None
    with partial:
        partial.clear()
        partial.write(WEIGHTS, 0)
        partial.place()


def upload(store: Store) -> None:
    store.blobs.put(WEIGHTS)


def adopt(store: Store) -> None:
    """What a conversion does."""
    with store.scratch() as folder:
        (folder / "model.gguf").write_bytes(WEIGHTS)
        store.blobs.adopt(folder / "model.gguf")


def link(store: Store) -> None:
    source = store.root.parent / "mine.gguf"
    source.write_bytes(WEIGHTS)
    store.linked.place(source)


def link_in_place(store: Store) -> None:
    source = store.root.parent / "mine.gguf"
    source.write_bytes(WEIGHTS)
    store.linked.place(source, in_place=True)


def import_(store: Store) -> None:
    upload(store)
    install(store, M, model_folders.manifest_path(store.root.parent / "registry", "m").read_bytes())


def copy_onto(store: Store) -> None:
    store.copy(ModelName.parse("other"), M)


def move_onto(store: Store) -> None:
    store.move(ModelName.parse("other"), M)


def move_away(store: Store) -> None:
    store.move(M, ModelName.parse("elsewhere/m"))


def delete(store: Store) -> None:
    store.delete(M)


def repair(store: Store) -> None:
    with store.without([DIGEST]):
        store.blobs.put(WEIGHTS)


def run(store: Store) -> None:
    store.check_weights(store.resolve(M))


OPERATIONS: list[Callable[[Store], object]] = [
    pull,
    pull_tensors,
    upload,
    adopt,
    link,
    link_in_place,
    import_,
    copy_onto,
    move_onto,
    move_away,
    delete,
    repair,
    run,
    Store.start,
    Store.prune,
    Store.list,
    Store.usage,
]


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    make_outside(tmp_path / "outside")
    return tmp_path / "outside"


@pytest.mark.parametrize("position", POSITIONS)
def test_x83_nothing_outside_changes(root: Path, outside: Path, position: str) -> None:
    """X-83: every operation, one after the other on a new folder; errors are ours, and leave nothing in the making."""
    make_models(root.parent / "registry")
    before = snapshot(outside)
    refusals = []
    for operation in OPERATIONS:
        make_models(root)
        planted = plant(root, outside, position)
        store = Store(root)
        try:
            operation(store)
        except LlameroError as error:
            refusals.append(str(error))
        finally:
            store.close()
        assert snapshot(outside) == before, operation.__name__
        assert in_the_making(root) <= {planted}, operation.__name__
        assert planted.is_symlink() or planted.is_file() or not os.path.lexists(planted)
        root.rename(root.parent / f"done-{operation.__name__}")
    assert not any(str(root.parent) in refusal for refusal in refusals)


def in_the_making(root: Path) -> set[Path]:
    folder = root / ".llamero" / "tmp"
    return set() if folder.is_symlink() or folder.parent.is_symlink() else set(folder.glob("*"))
