"""`doctor --store`: every manifest and every blob examined (store-registry GAP-11)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamero.errors import Cancelled
from llamero.names import Digest, ModelName
from llamero.store import Finding, Store
from llamero.store.check import Check
from tests import model_folders
from tests.gguf_files import tiny_llama

WEIGHTS = tiny_llama()
M = ModelName.parse("m")


def levels(store: Store) -> dict[str, str]:
    return {finding.subject: finding.level for finding in store.check()}


def blob(root: Path) -> Path:
    return root / "blobs" / Digest.of(WEIGHTS).file_name


def test_a_sound_store(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, system="s")
    assert levels(store) == {"m:latest": "ok"}


def test_an_empty_store(store: Store, root: Path) -> None:
    assert levels(store) == {}
    assert not root.exists()


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [zeroed, cut, Path.unlink, folder], ids=lambda damage: damage.__name__)
def test_a_damaged_blob_is_found_and_named(store: Store, root: Path, damage: Callable[[Path], None]) -> None:
    """Partly S-108"""
    model_folders.add(root, "m", WEIGHTS)
    store.headers.check(Digest.of(WEIGHTS))  # a record of an earlier check does not hide a later damage
    damage(blob(root))
    (found,) = [finding for finding in store.check() if finding.subject == "m:latest"]
    assert (found.level, found.damaged, found.name) == ("fail", (Digest.of(WEIGHTS),), M)
    assert Digest.of(WEIGHTS).short in found.text
    assert found.advice


def test_weights_that_no_engine_may_read_are_not_damaged(store: Store, root: Path) -> None:
    """To fetch the same bytes again would help nobody."""
    model_folders.add(root, "m", b"not a GGUF file")
    (found,) = store.check()
    assert (found.level, found.damaged) == ("fail", ())
    assert "is unusable: invalid model file" in found.text


def test_a_size_that_is_not_the_manifests(store: Store, root: Path) -> None:
    path = model_folders.add(root, "m", WEIGHTS)
    path.write_bytes(path.read_bytes().replace(b'"size":%d' % len(WEIGHTS), b'"size":1'))
    (found,) = store.check()
    assert (found.level, found.damaged) == ("fail", (Digest.of(WEIGHTS),))
    assert f"has {len(WEIGHTS)} bytes and not the 1 of its manifest" in found.text


def test_what_is_mended_meanwhile_is_sound_for_the_other_models(store: Store, root: Path) -> None:
    for name in "mn":
        model_folders.add(root, name, WEIGHTS)
    zeroed(blob(root))
    check = store.check()
    first, *others = check_and_mend(check, blob(root))
    assert first.level == "fail"
    assert [finding.level for finding in others] == ["ok"]


def check_and_mend(check: Check, path: Path) -> Iterator[Finding]:
    for finding in check:
        yield finding
        path.write_bytes(WEIGHTS)
        check.mended(finding.damaged)


def test_a_manifest_that_cannot_be_read(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    model_folders.manifest_path(root, "bad").parent.mkdir(parents=True)
    model_folders.manifest_path(root, "bad").write_bytes(b"{")
    findings = list(store.check())
    assert [finding.level for finding in findings if "bad" in finding.text] == ["fail"]


def test_files_that_no_model_uses(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    blobs = root / "blobs"
    sound, damaged = b"sound", b"damaged"
    (blobs / Digest.of(sound).file_name).write_bytes(sound)
    (blobs / Digest.of(damaged).file_name).write_bytes(b"half of i")
    partial = f"sha256-{'0' * 64}-partial"
    for name in (partial, f"{partial}-0", "stray"):
        (blobs / name).write_bytes(b"{}")
    assert levels(store) == {
        "m:latest": "ok",
        f"blob {Digest.of(sound).short}": "warn",
        f"blob {Digest.of(damaged).short}": "fail",
        "download 000000000000": "ok",
        "file stray": "warn",
    }


def test_progress_counts_every_byte_once(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    model_folders.add(root, "n", WEIGHTS)
    counts: list[tuple[int, int]] = []
    findings: list[Finding] = list(store.check(lambda completed, total: counts.append((completed, total))))
    assert len(findings) == 2
    assert counts[-1][0] == counts[-1][1] == sum(path.stat().st_size for path in (root / "blobs").iterdir())


def test_it_can_be_given_up(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    with pytest.raises(Cancelled):
        list(store.check(cancelled=lambda: True))


def test_damaged_blobs_make_room_and_come_back_after_a_failure(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS)
    zeroed(blob(root))

    def fail() -> None:
        with store.without([Digest.of(WEIGHTS)]):
            assert not blob(root).exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert blob(root).read_bytes() == bytes(len(WEIGHTS))
    with store.without([Digest.of(WEIGHTS)]):
        blob(root).write_bytes(WEIGHTS)
    assert levels(store) == {"m:latest": "ok"}
    assert list((root / ".llamero" / "tmp").iterdir()) == []


def test_models_that_change_while_it_looks_are_no_damage(store: Store, root: Path) -> None:
    """One is deleted and one replaced while the first blob is read: the check may take hours."""
    for name in ("m", "n", "o"):
        model_folders.add(root, name, WEIGHTS, system=f"system of {name}")
    newer = model_folders.add(root, "newer", WEIGHTS, system="newer").read_bytes()
    changes = iter([lambda: store.delete(ModelName.parse("n")), lambda: store.write(ModelName.parse("o"), newer)])
    stray = root / "blobs" / Digest.of(b"stray").file_name
    stray.write_bytes(b"stray")

    def change(completed: int, total: int) -> None:
        for each in changes:
            each()
        stray.unlink(missing_ok=True)

    assert {finding.subject: finding.level for finding in store.check(change)} == {
        "m:latest": "ok",
        "newer:latest": "ok",
        "o:latest": "ok",
    }
