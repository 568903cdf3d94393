"""The store as a whole: models written, copied and deleted, also at the same time, on full disks, in locked folders."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llamero.errors import BadRequest, BlobNotFound, InvalidModelFile, ModelNotFound, StorageError
from llamero.names import Digest, ModelName
from llamero.store import Store
from llamero.store.manifests import Stored
from tests import model_folders
from tests.gguf_files import tiny_llama

M, N = ModelName.parse("m"), ModelName.parse("n")
WEIGHTS = tiny_llama()


def names(store: Store) -> set[str]:
    return {summary.name.display for summary in store.list()}


def file_name(content: bytes) -> str:
    return Digest.of(content).file_name


# --- write ---


def test_a_manifest_never_points_at_nothing(store: Store, root: Path) -> None:
    raw = model_folders.add(root, "n", WEIGHTS).read_bytes()
    store.blobs.path(Digest.of(WEIGHTS)).unlink()
    with pytest.raises(BlobNotFound):
        store.write(M, raw)
    assert not model_folders.manifest_path(root, "m").exists()


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"schemaVersion":2,"layers":[]}'])
def test_what_is_written_is_parsed_strictly(store: Store, root: Path, raw: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^invalid manifest"):
        store.write(M, raw)
    assert not root.exists()


@pytest.mark.parametrize("kind", ["model", "projector", "adapter", "draft"])
def test_the_engine_is_the_first_to_read_no_file_of_a_model(store: Store, root: Path, kind: str) -> None:
    files = {"model": WEIGHTS, kind: WEIGHTS[:100]}
    model_folders.add(root, "m", files.pop("model"), more=list(files.items()))
    with pytest.raises(InvalidModelFile) as bad:
        store.check_weights(store.resolve(M))
    assert bad.value.status == 500


def test_replacing_removes_what_only_the_old_one_used(store: Store, root: Path) -> None:
    model_folders.add(root, "m", b"old", system="shared")
    model_folders.add(root, "other", b"else", system="shared")
    new = model_folders.add(root, "n", b"new").read_bytes()
    removing: list[bool] = []
    store.write(M, new, removing=lambda: removing.append(True))
    assert removing == [True]
    kept = model_folders.blobs(root)
    assert file_name(b"old") not in kept
    assert {file_name(b"new"), file_name(b"shared"), file_name(b"else")} <= kept
    store.write(M, new, removing=lambda: removing.append(True))
    assert removing == [True], "nothing to remove, nothing said"


def test_a_name_is_written_in_the_spelling_that_is_there(store: Store, root: Path) -> None:
    """Partly S-05: pull is not here; it ends with the same `write`. Partly N-40."""
    model_folders.add(root, "Foo:TAG", b"one")
    raw = model_folders.add(root, "n", b"two").read_bytes()
    assert store.write(ModelName.parse("foo:tag"), raw).display == "Foo:TAG"
    assert store.copy(N, ModelName.parse("FOO:Tag")).display == "Foo:TAG"
    assert names(store) == {"Foo:TAG", "n:latest"}


def test_x19_with_two_spellings_only_the_exact_one_is_touched(store: Store, root: Path) -> None:
    """Push reads through `resolve`; create ends in `write`."""
    for name in ("Foo", "foo"):
        model_folders.add(root, name, name.encode())
    raw = model_folders.add(root, "n", b"new").read_bytes()
    upper = model_folders.manifest_path(root, "Foo")
    before = upper.read_bytes()
    lower = ModelName.parse("foo")
    assert store.resolve(lower).name == lower
    assert store.write(lower, raw) == lower
    assert store.copy(N, lower) == lower
    store.delete(lower)
    assert upper.read_bytes() == before
    assert names(store) == {"Foo:latest", "n:latest"}


# --- copy ---


def test_a_copy_is_a_byte_copy_of_the_manifest(store: Store, root: Path) -> None:
    """Partly S-60: the 404 is worded by the endpoint."""
    odd = b'{\n "layers": [], "config": {}, "unknown": [1,  2] }'
    source = model_folders.write(root, "m", odd)
    model_folders.make_older(source, 1000)
    blobs = model_folders.blob(root, b"left alone", age_s=5000)
    before = os.stat(root / "blobs" / blobs.replace(":", "-"))
    assert store.copy(M, ModelName.parse("host/ns/copy:1")).full == "host/ns/copy:1"
    copy = model_folders.manifest_path(root, "host/ns/copy:1")
    assert copy.read_bytes() == odd
    assert copy.stat().st_mtime > source.stat().st_mtime + 900
    assert os.stat(root / "blobs" / blobs.replace(":", "-")) == before


def test_copying_onto_itself_changes_nothing(store: Store, root: Path) -> None:
    source = model_folders.add(root, "m", WEIGHTS)
    model_folders.make_older(source, 1000)
    before = source.stat()
    assert store.copy(M, ModelName.parse("M")) == M
    after = source.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_copying_nothing_leaves_no_folder_behind(store: Store, root: Path) -> None:
    with pytest.raises(ModelNotFound):
        store.copy(M, ModelName.parse("host/ns/copy"))
    assert not (root / "manifests").exists()


# --- move ---


def test_a_move_gives_the_same_manifest_another_name(store: Store, root: Path) -> None:
    raw = model_folders.add(root, "ns/m", WEIGHTS, system="mine").read_bytes()
    blobs = model_folders.blobs(root)
    assert store.move(ModelName.parse("NS/M"), N) == N
    assert model_folders.manifest_path(root, "n").read_bytes() == raw
    assert names(store) == {"n:latest"}
    assert model_folders.blobs(root) == blobs
    assert not (root / "manifests" / "registry.ollama.ai" / "ns").exists()


def test_a_move_may_change_letters_only(store: Store, root: Path) -> None:
    raw = model_folders.add(root, "m", WEIGHTS).read_bytes()
    assert store.move(M, ModelName.parse("M")).display == "M:latest"
    assert names(store) == {"M:latest"}
    assert store.resolve(M).manifest.raw == raw


@pytest.mark.parametrize("text", ["m", "m:latest"])
def test_a_move_onto_itself_changes_nothing(store: Store, root: Path, text: str) -> None:
    source = model_folders.add(root, "m", WEIGHTS)
    model_folders.make_older(source, 1000)
    before = source.stat()
    assert store.move(M, ModelName.parse(text)) == M
    after = source.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_move_onto_another_model_replaces_it_and_its_blobs(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    model_folders.add(root, "N", tiny_llama({"general.name": "the other"}), system="of both", template="of the other")
    model_folders.add(root, "third", WEIGHTS, system="of both")
    assert store.move(M, N).display == "N:latest"
    assert names(store) == {"N:latest", "third:latest"}
    assert model_folders.blobs(root) == {file_name(content) for content in (WEIGHTS, b"{}", b"of both")}


def test_a_move_of_nothing_changes_nothing(store: Store, root: Path) -> None:
    model_folders.add(root, "n", WEIGHTS)
    before = model_folders.tree(root / "manifests")
    with pytest.raises(ModelNotFound):
        store.move(M, N)
    assert model_folders.tree(root / "manifests") == before


def test_a_move_without_pruning_leaves_the_replaced_blobs(root: Path) -> None:
    store = Store(root, no_prune=True)
    model_folders.add(root, "m", WEIGHTS)
    model_folders.add(root, "n", b"other weights")
    store.move(M, N)
    assert file_name(b"other weights") in model_folders.blobs(root)


# --- where it came from ---


def source_of(store: Store, name: ModelName) -> ModelName | None:
    return store.pulled_as(store.manifests.read(name))


def test_where_a_model_came_from(store: Store, root: Path) -> None:
    model_folders.add(root, "made", WEIGHTS, newline=True)
    model_folders.add(root, "pulled", WEIGHTS)
    made, pulled = ModelName.parse("made"), ModelName.parse("pulled")
    assert source_of(store, made) is None
    assert source_of(store, pulled) == pulled  # by another program: its name is all there is
    source = ModelName.parse("http://box.lan/ns/original:tag")
    for name in (made, pulled):  # a registry's manifest may look as if made here
        store.mark_pulled(name, store.manifests.read(name).manifest.digest, source)
        assert source_of(store, name) == source


def test_a_new_name_is_not_where_it_came_from(store: Store, root: Path) -> None:
    """Otherwise an update would bring the model that a stranger has published under that name."""
    model_folders.add(root, "m", WEIGHTS)
    store.copy(M, N)
    assert source_of(store, N) == M
    store.move(N, ModelName.parse("third"))
    assert source_of(store, ModelName.parse("third")) == M


def test_what_was_made_here_since_came_from_nowhere(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    store.mark_pulled(M, store.manifests.read(M).manifest.digest, N)
    model_folders.add(root, "m", WEIGHTS, system="mine", newline=True)
    assert source_of(store, M) is None


@pytest.mark.parametrize("written", [b"", b"\xff", b"../../x y", b"http://"])
def test_a_broken_record_counts_for_nothing(store: Store, root: Path, written: bytes) -> None:
    model_folders.add(root, "m", WEIGHTS)
    store.mark_pulled(M, store.manifests.read(M).manifest.digest, N)
    (record,) = (root / ".llamero" / "pulled").iterdir()
    record.write_bytes(written)
    assert source_of(store, M) == M


# --- delete ---


def test_s61_a_shared_blob_goes_with_its_last_model(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, system="mine")
    model_folders.add(root, "ns/n", WEIGHTS)
    assert store.delete(M) == len(b"mine")
    assert file_name(WEIGHTS) in model_folders.blobs(root)
    assert not (root / "manifests" / "registry.ollama.ai" / "library").exists()
    assert store.delete(ModelName.parse("ns/n")) == len(WEIGHTS) + len(b"{}")
    assert model_folders.blobs(root) == set()
    assert list((root / "manifests").iterdir()) == []


def test_s62_a_digest_listed_twice(store: Store, root: Path) -> None:
    digest = model_folders.blob(root, b"{}")
    model_folders.write(root, "m", f'{{"config":{{"digest":"{digest}"}},"layers":[{{"digest":"{digest}"}}]}}'.encode())
    assert store.delete(M) == 2
    assert model_folders.blobs(root) == set()


def test_deleting_what_is_not_there(store: Store) -> None:
    """Partly S-63: the endpoint says the name as typed."""
    with pytest.raises(ModelNotFound, match=r"^model 'm:latest' not found$"):
        store.delete(M)


def test_s64_a_corrupt_neighbour_does_not_matter(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    model_folders.write(root, "corrupt", b"\0")
    store.delete(M)
    assert model_folders.blobs(root) == set()


def test_a_missing_blob_does_not_matter(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    store.blobs.path(Digest.of(WEIGHTS)).unlink()
    assert store.delete(M) == len(b"{}")


@pytest.mark.parametrize("digest", ["sha256:../../../victim", "../../victim", "sha256-" + "../" * 21 + "v"])
def test_x18_a_crafted_manifest_makes_nothing_else_disappear(
    store: Store, root: Path, tmp_path: Path, digest: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    unused = model_folders.blob(root, b"unused", age_s=8000)
    for text in (f'{{"layers":[{{"digest":"{digest}"}}]}}', f'{{"config":{{"digest":"{digest}"}},"layers":[]}}'):
        model_folders.write(root, "m", text.encode())
        with pytest.raises(StorageError, match="digest is malformed"):
            store.delete(M)
        store.start()
    # a folder of the tree that leads outside, with a manifest that is fine
    outside = tmp_path / "outside"
    (outside / "m").mkdir(parents=True)
    (outside / "m" / "latest").write_bytes(f'{{"layers":[{{"digest":"{unused}"}}]}}'.encode())
    (root / "manifests" / "registry.ollama.ai" / "linked").symlink_to(outside)
    before = model_folders.tree(outside)
    with pytest.raises(StorageError, match="is a link"):
        store.delete(ModelName.parse("linked/m"))
    assert model_folders.tree(outside) == before
    assert victim.read_bytes() == b"precious"
    assert unused.replace(":", "-") in model_folders.blobs(root)


# --- at the same time ---


def test_what_a_loaded_model_holds_goes_when_it_is_released(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, system="s")
    model = store.resolve(M)
    with store.hold(model.manifest.digests):
        store.delete(M)
        assert names(store) == set()
        assert model.weights is not None
        assert model.weights.read_bytes() == WEIGHTS
    assert model_folders.blobs(root) == set()


def test_a_model_in_use_can_be_read_to_the_end_whoever_deletes_it(store: Store, root: Path) -> None:
    model_folders.add(root, "m", tiny_llama(), system="s")
    with store.using(M) as model:
        store.delete(M)
        with pytest.raises(ModelNotFound):
            store.resolve(M)
        assert model.gguf is not None
    assert model_folders.blobs(root) == set()


@pytest.mark.parametrize("look", [lambda store: store.resolve(M).system, lambda store: len(store.list())])
def test_a_model_that_is_replaced_while_it_is_read_is_read_again(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Store], object]
) -> None:
    """Between reading a manifest and reading its blobs, these may be removed: then the newer version is what counts."""
    model_folders.add(root, "m", WEIGHTS, system="older")
    newer = model_folders.add(root, "n", WEIGHTS, system="newer").read_bytes()
    read, reads = store.manifests.read, []

    def read_and_replace(name: ModelName) -> Stored:
        stored = read(name)
        reads.append(stored)
        if len(reads) == 1:
            monkeypatch.undo()
            store.move(N, M)
            monkeypatch.setattr(store.manifests, "read", read_and_replace)
        return stored

    monkeypatch.setattr(store.manifests, "read", read_and_replace)
    assert look(store) in ("newer", 1)
    assert (reads[0].manifest.raw == newer, reads[-1].manifest.raw == newer) == (False, True)


def test_a_released_blob_stays_when_a_model_uses_it_by_then(store: Store, root: Path) -> None:
    raw = model_folders.add(root, "m", WEIGHTS).read_bytes()
    with store.hold(store.resolve(M).manifest.digests):
        store.delete(M)
        store.write(N, raw)
    assert store.resolve(N).gguf is not None


def test_writes_and_deletes_race_without_a_dangling_manifest(store: Store, root: Path) -> None:
    """Models that share blobs are made and deleted by several threads; every manifest that is there is whole."""
    raws = {}
    for name in ("a", "b", "c"):
        raws[name] = model_folders.add(root, name, WEIGHTS, system=name).read_bytes()
    contents = [WEIGHTS, b"{}", *(name.encode() for name in raws)]
    problems: list[Exception] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(25):
            name = choose.choice(sorted(raws))
            try:
                if choose.random() < 0.5:
                    store.delete(ModelName.parse(name))
                    continue
                with store.hold([Digest.of(content) for content in contents]):
                    for content in contents:
                        store.blobs.put(content)
                    store.write(ModelName.parse(name), raws[name])
            except ModelNotFound:
                continue
            except Exception as error:
                problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    for summary in store.list():
        assert store.resolve(summary.name).gguf is not None
    for name in raws:
        if f"{name}:latest" in names(store):
            store.delete(ModelName.parse(name))
    store.discard([Digest.of(content) for content in contents])
    assert model_folders.blobs(root) == set()


OTHER_PROCESS = """
import sys
from pathlib import Path
from llamero.errors import BlobNotFound, ModelNotFound
from llamero.names import ModelName
from llamero.store import Store
store, raw = Store(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes()
for _ in range(40):
    try:
        store.write(ModelName.parse("n"), raw)
    except BlobNotFound:
        print("missing")
        break
    store.delete(ModelName.parse("n"))
"""


def test_two_processes_change_one_folder(store: Store, root: Path, tmp_path: Path) -> None:
    """The other one is refused cleanly when our delete was first; a manifest without its blobs never comes to be."""
    raw = model_folders.add(root, "m", WEIGHTS).read_bytes()
    (tmp_path / "raw").write_bytes(raw)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(root), str(tmp_path / "raw")], stdout=subprocess.PIPE, text=True
    ) as process:
        for _ in range(40):
            store.copy(M, ModelName.parse("copy"))
            for stored in store.manifests.all():
                assert not isinstance(stored, StorageError)
                assert all(store.blobs.exists(digest) for digest in stored.manifest.digests)
            store.delete(ModelName.parse("copy"))
        store.delete(M)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert output in ("", "missing\n")
    for summary in store.list():
        assert store.resolve(summary.name).gguf is not None


# --- disks and folders that do not oblige ---

IN_A_SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
root = Path(sys.argv[1])
root.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(root)], check=True)
from llamero.errors import LlameroError
from llamero.names import ModelName
from llamero.store import Store
from tests import model_folders
store = Store(root)
model_folders.add(root, "m", b"weights")
"""
FILL = """
before = model_folders.tree(root)
try:
    with store.blobs.stage() as writer:
        for _ in range(100):
            writer.write(os.urandom(10_000))
        writer.commit()
except LlameroError as error:
    print(type(error).__name__, error.status, error)
after = model_folders.tree(root)
print(sorted(name for name in after if after[name] != before.get(name)), before.keys() <= after.keys())
print(len(str(store.blobs.put(b"fits again"))))
with store.blobs.stage() as writer:
    try:
        while True:
            writer.write(bytes(4096))
    except LlameroError:
        pass
    try:
        store.write(ModelName.parse("m"), model_folders.manifest_path(root, "m").read_bytes())
    except LlameroError as error:
        print(type(error).__name__, error)
print(store.resolve(ModelName.parse("m")).name)
"""
LOCK = """
subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
raw = model_folders.manifest_path(root, "m").read_bytes()
for change in (
    lambda: store.blobs.put(b"x"),
    lambda: store.write(ModelName.parse("n"), raw),
    lambda: store.copy(ModelName.parse("m"), ModelName.parse("n")),
    lambda: store.delete(ModelName.parse("m")),
    lambda: store.start(),
):
    try:
        change()
    except LlameroError as error:
        print(type(error).__name__, error)
print(store.resolve(ModelName.parse("m")).name, len(store.list()))
"""


def in_own_mounts(program: str, folder: Path) -> list[str]:
    """Run a program that may mount file systems of its own, as root or where the system lets ordinary users do so."""
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a mount namespace: {error}")
    arguments = [*command, sys.executable, "-c", program, str(folder)]
    here = Path(__file__).parents[2]
    ran = subprocess.run(arguments, check=False, capture_output=True, text=True, cwd=here, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_full_disk_is_said_in_the_systems_words_and_leaves_nothing_behind(root: Path) -> None:
    """Partly X-86: uploads and manifests; pull has its own."""
    assert in_own_mounts(IN_A_SMALL_DISK + FILL, root) == [
        "DiskFull 507 write blob: no space left on device",
        "['.llamero', '.llamero/tmp'] True",
        "71",
        "DiskFull write manifest: no space left on device",
        "m:latest",
    ]


def test_a_read_only_folder_can_be_read_and_says_why_it_cannot_be_changed(root: Path) -> None:
    why = "read-only file system: ensure path elements are traversable"
    assert in_own_mounts(IN_A_SMALL_DISK + LOCK, root) == [
        f"StorageError write blob: {why}",
        f"StorageError change the models folder: {why}",
        f"StorageError change the models folder: {why}",
        f"StorageError change the models folder: {why}",
        f"StorageError lock the models folder: {why}",
        "m:latest 1",
    ]


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "models").write_bytes(b"")
    store = Store(tmp_path / "models")
    for use in (lambda: store.list(), lambda: store.blobs.put(b"x"), lambda: store.start(), lambda: store.delete(M)):
        with pytest.raises(StorageError, match=r": ensure path elements are traversable$") as caught:
            use()
        assert str(tmp_path) not in str(caught.value)
        assert caught.value.status == 500


def test_a_server_does_not_start_where_a_file_is_in_the_way(tmp_path: Path) -> None:
    """As the reference: nothing could be kept there. A folder that is not there yet will be made."""
    (tmp_path / "file").write_bytes(b"")
    for place in ("file", "file/below/it"):
        with pytest.raises(StorageError, match="/file: not a directory: ensure path elements are traversable"):
            Store(tmp_path / place).require_folder()
    for place in ("", "not/there"):
        Store(tmp_path / place).require_folder()
