"""Housekeeping at the start of a server (store-registry §2, §5)."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llamero.build.create import CreateRequest, create
from llamero.config import Settings
from llamero.names import Digest, ModelName
from llamero.store import Store, partials
from tests import model_folders
from tests.gguf_files import gguf_file, tiny_llama

HOUR_S = 3600
DAY_S = 24 * HOUR_S
OLD_S = 2 * HOUR_S


def place(root: Path, name: str, age_s: float, content: bytes = b"x") -> Path:
    path = root / "blobs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    model_folders.make_older(path, age_s)
    return path


def test_s14_unused_blobs_go_after_an_hour(store: Store, root: Path) -> None:
    model_folders.add(root, "m", b"weights", system="used")
    for path in (root / "blobs").iterdir():
        model_folders.make_older(path, OLD_S)
    used = model_folders.blobs(root)
    unused = model_folders.blob(root, b"unused", age_s=OLD_S)
    young = model_folders.blob(root, b"young", age_s=HOUR_S - 60)
    pruned = store.start()
    assert model_folders.blobs(root) == used | {young.replace(":", "-")}
    assert pruned.names == (unused.replace(":", "-"),)
    assert pruned.freed_bytes == len(b"unused")


def test_s15_leftovers_go_and_downloads_stay_for_a_week(store: Store, root: Path) -> None:
    resumable, abandoned, lively = (f"sha256-{char * 64}-partial" for char in "abc")
    for name, age_s in {
        "sha256-123456": OLD_S,
        "GGUF1234": OLD_S,
        f"sha256-{'d' * 64}.tmp": OLD_S,
        f"sha256-{'e' * 64}.tmp": 8 * DAY_S,
        "sha256-789": 60,
        resumable: 6 * DAY_S,
        f"{resumable}-0": 6 * DAY_S,
        abandoned: 8 * DAY_S,
        f"{abandoned}-0": 9 * DAY_S,
        # a part that was finished long ago belongs to a download that goes on
        lively: 60,
        f"{lively}-0": 9 * DAY_S,
    }.items():
        place(root, name, age_s)
    (root / "blobs" / "split-gguf-1").mkdir()
    store.start()
    kept = {f"sha256-{'d' * 64}.tmp", "sha256-789", resumable, f"{resumable}-0", lively, f"{lively}-0", "split-gguf-1"}
    assert model_folders.blobs(root) == kept


HEX = "ab" * 32


@pytest.mark.parametrize(
    ("name", "age_s", "stays"),
    [
        (f"sha256-{HEX}", OLD_S, False),
        (f"sha256-{HEX.upper()}", OLD_S, False),
        (f"sha256-{HEX}", HOUR_S - 60, True),
        (f"sha256-{HEX}-partial-0", OLD_S, False),  # of a download that was finished in the moment of a kill
        (f"sha256-{HEX}-partial-0", HOUR_S - 60, True),
        (f"sha256-{HEX}-partial-0x", OLD_S, False),
        (f"sha256-{HEX[1:]}", OLD_S, False),
        (f"sha512-{HEX}", OLD_S, False),
        (".hidden", OLD_S, False),
        ("\N{SNOWMAN}", OLD_S, False),
        ("-rf", OLD_S, False),
        (f"../manifests/sha256-{HEX}", OLD_S, True),
        (f"../sha256-{HEX}", OLD_S, True),
        (f"../.llamero/sha256-{HEX}", OLD_S, True),
        (f"folder/sha256-{HEX}", OLD_S, True),
    ],
)
def test_x33_only_old_files_in_the_folder_of_blobs_go(
    store: Store, root: Path, name: str, age_s: float, stays: bool
) -> None:
    """X-33: with what a model uses, what is held and what is no file, as shown beside this."""
    model_folders.add(root, "m", b"weights")
    path = place(root, name, age_s)
    used = {path.read_bytes() for path in (root / "blobs").glob("sha256-*")}
    store.start()
    assert path.exists() == stays
    assert used - {b"x"} <= {path.read_bytes() for path in (root / "blobs").glob("sha256-*")}


def test_s16_one_unreadable_manifest_stops_it(store: Store, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    model_folders.add(root, "m", b"weights")
    model_folders.write(root, "broken", b'{"layers":[')
    model_folders.blob(root, b"unused", age_s=OLD_S)
    before = model_folders.tree(root / "blobs")
    with caplog.at_level(logging.WARNING):
        assert store.start().names == ()
    assert model_folders.tree(root / "blobs") == before
    assert "model 'broken:latest'" in store.prune().refusal
    assert "corrupt manifests detected, skipping prune" in caplog.text


@pytest.mark.parametrize("text", ["1", "true", "yes"])
def test_s17_pruning_can_be_switched_off_but_deleting_not(root: Path, text: str) -> None:
    store = Store(root, no_prune=Settings.from_env({"OLLAMA_NOPRUNE": text}).no_prune)
    unused = model_folders.blob(root, b"unused", age_s=OLD_S)
    store.start()
    assert unused.replace(":", "-") in model_folders.blobs(root)
    old = model_folders.add(root, "m", b"old weights").read_bytes()
    new = model_folders.add(root, "n", b"new weights").read_bytes()
    store.write(ModelName.parse("m"), new)  # as pull and create end
    assert Digest.of(b"old weights").file_name in model_folders.blobs(root)
    store.write(ModelName.parse("m"), old)
    store.delete(ModelName.parse("m"))
    assert Digest.of(b"old weights").file_name not in model_folders.blobs(root)


def test_what_somebody_holds_stays(store: Store, root: Path) -> None:
    digest = Digest.parse(model_folders.blob(root, b"needed soon", age_s=OLD_S))
    with store.hold([digest]):
        assert store.prune().names == ()
    assert store.prune().names == (digest.file_name,)


def test_a_dry_run_only_tells(store: Store, root: Path) -> None:
    unused = model_folders.blob(root, b"unused", age_s=OLD_S)
    (root / "manifests" / "empty").mkdir(parents=True)
    before = model_folders.tree(root / "blobs")
    pruned = store.prune(dry_run=True)
    assert (pruned.names, pruned.freed_bytes) == ((unused.replace(":", "-"),), len(b"unused"))
    assert model_folders.tree(root / "blobs") == before
    assert (root / "manifests" / "empty").exists()


def test_every_removal_is_logged_with_its_reason(store: Store, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    unused = model_folders.blob(root, b"unused", age_s=OLD_S).replace(":", "-")
    place(root, "stray", OLD_S)
    with caplog.at_level(logging.INFO):
        store.prune()
    told = [record.getMessage() for record in caplog.records]
    assert f"removed {unused} (6 bytes): no model uses it" in told
    assert "removed stray (1 bytes): not a blob" in told


def test_links_and_what_is_no_file(store: Store, root: Path, tmp_path: Path) -> None:
    """An unused link goes, its target stays; a pipe is nobody's to remove; no link in `manifests/` is followed."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    link = place(root, Digest.of(b"linked").file_name, 0)
    link.unlink()
    link.symlink_to(target)
    model_folders.make_older(link, OLD_S)
    os.mkfifo(root / "blobs" / "pipe")
    model_folders.make_older(root / "blobs" / "pipe", OLD_S)
    (tmp_path / "outside" / "empty").mkdir(parents=True)
    (root / "manifests").mkdir()
    (root / "manifests" / "link").symlink_to(tmp_path / "outside")
    store.start()
    assert model_folders.blobs(root) == {"pipe"}
    assert target.read_bytes() == b"precious"
    assert (tmp_path / "outside" / "empty").exists()
    assert (root / "manifests" / "link").is_symlink()


def test_empty_folders_go(store: Store, root: Path) -> None:
    (root / "manifests" / "h" / "n" / "m").mkdir(parents=True)
    model_folders.add(root, "kept")
    store.start()
    assert [path.name for path in (root / "manifests").iterdir()] == ["registry.ollama.ai"]


def test_s13_blobs_of_early_releases_get_their_present_name(store: Store, root: Path) -> None:
    blobs = root / "blobs"
    (blobs / "x:y").mkdir(parents=True)
    (blobs / "sub").mkdir()
    (blobs / "sha256:abcd").write_bytes(b"1")
    (blobs / "sub" / "sha256:abcd").write_bytes(b"2")
    (blobs / "x:y" / "sha259:abcd").write_bytes(b"3")
    (blobs / "sha256:taken").write_bytes(b"4")
    (blobs / "sha256-taken").write_bytes(b"5")
    store.start()
    assert model_folders.tree(blobs) == {
        "sha256-abcd": b"1",
        "sha256-taken": b"5",
        "sha256:taken": b"4",
        "sub": "/",
        "sub/sha256-abcd": b"2",
        "x:y": "/",
        "x:y/sha259:abcd": b"3",
    }


CRASH = """
import os, sys
from pathlib import Path
from llamero.store import Store, partials
store = Store(Path(sys.argv[1]))
writer = store.blobs.stage()
writer.write(b"half of it")
os._exit(1)
"""


def test_what_a_crash_left_in_the_making_goes_at_the_next_start(store: Store, root: Path) -> None:
    """Partly S-89, partly X-86: test_create crashes a create."""
    subprocess.run([sys.executable, "-c", CRASH, str(root)], check=False)
    scratch = root / ".llamero" / "tmp"
    assert [path.read_bytes() for path in scratch.iterdir()] == [b"half of it"]
    with store.blobs.stage() as writer:
        writer.write(b"ours goes on")
        store.start()
        assert [path.read_bytes() for path in scratch.iterdir()] == [b"ours goes on"]


def test_a_second_server_leaves_the_folder_alone(store: Store, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Partly X-59: that it serves is shown where a server runs."""
    store.start()
    unused = model_folders.blob(root, b"unused", age_s=OLD_S).replace(":", "-")
    second = Store(root)
    with caplog.at_level(logging.WARNING):
        assert second.start().names == second.prune().names == ()
    assert "another server uses this models folder" in second.prune().refusal
    assert "another server uses this models folder" in caplog.text
    assert model_folders.blobs(root) == {unused}
    second.blobs.put(b"it may write")
    store.close()
    assert second.prune().names == (unused,)
    store.close()
    second.close()


# --- S-18: the two programs on one folder ---


def reference_start(root: Path, now_s: float) -> None:
    """What a stock Ollama does at its start, from the text of store-registry §5 alone."""
    used = set()
    for path in (root / "manifests").rglob("*"):
        if len(path.relative_to(root / "manifests").parts) == 4:
            manifest = json.loads(path.read_bytes())
            used |= {layer["digest"].replace(":", "-") for layer in [*manifest["layers"], manifest["config"]]}
    for path in (root / "blobs").iterdir():
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or now_s - status.st_mtime < HOUR_S:
            continue
        if not re.fullmatch(r"sha256[:-][0-9a-fA-F]{64}", path.name) or path.name not in used:
            path.unlink()
    for path in sorted((root / "manifests").rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def without_ours(root: Path) -> dict[str, bytes | str]:
    return {name: content for name, content in model_folders.tree(root).items() if not name.startswith(".llamero")}


def test_s18_our_folder_survives_the_other_programs_start(store: Store, root: Path) -> None:
    """By its rules, since no stock Ollama is at hand; the specification allows that."""
    digest = store.blobs.put(tiny_llama())
    request = CreateRequest(
        model="m", files={"m.gguf": str(digest)}, template="{{ .Prompt }}", system="Say hi!", licenses=("MIT", "Other")
    )
    create(store, request, lambda progress: None)
    create(store, CreateRequest(model="ns/child", from_="m", parameters={"top_k": 1}), lambda progress: None)
    store.copy(ModelName.parse("m"), ModelName.parse("copy"))
    for path in (root / "blobs").iterdir():
        model_folders.make_older(path, 2 * DAY_S)
    before = without_ours(root)
    reference_start(root, os.stat(root).st_mtime)
    assert without_ours(root) == before


def test_s18_the_other_programs_folder_survives_our_start(store: Store, root: Path) -> None:
    """A folder made of the vectors in Appendix A."""
    model_folders.add(
        root,
        "m",
        gguf_file({"general.architecture": "test"}),
        config={"model_format": "gguf", "model_family": "test"},
        more=[("license", b"MIT"), ("license", b"Apache-2.0")],
        template="{{ .System }} {{ .Prompt }}",
        system="Say hi!",
        params='{"stop":["USER:","ASSISTANT:"],"temperature":1,"top_k":10}\n',
    )
    for path in (root / "blobs").iterdir():
        model_folders.make_older(path, 2 * DAY_S)
    before = without_ours(root)
    store.start()
    assert without_ours(root) == before
    assert store.list()[0].name.display == "m:latest"
    assert store.resolve(ModelName.parse("m")).licenses == ("MIT", "Apache-2.0")


def test_interrupted_downloads_go_when_asked_and_running_ones_stay(store: Store, root: Path) -> None:
    """GAP-10: explicit removal."""
    model_folders.add(root, "m", b"weights")
    used = model_folders.blobs(root)
    given_up, running = (Digest.of(name.encode()) for name in ("given up", "running"))
    for digest in (given_up, running):
        place(root, f"{digest.file_name}-partial", 60)
        place(root, f"{digest.file_name}-partial-0", 60)
    claimed = partials.claim(store.blobs, running)
    assert claimed is not None
    with claimed:
        assert store.prune().names == ()
        assert len(store.prune(dry_run=True, downloads=True).names) == 2
        store.prune(downloads=True)
        left = model_folders.blobs(root) - used
    assert left == {f"{running.file_name}-partial", f"{running.file_name}-partial-0"}
