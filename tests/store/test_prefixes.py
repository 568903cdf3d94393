"""The prompt cache on disk: what is found, what never is, and what becomes of damaged files and full disks."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from llamero.errors import DiskFull, StorageError
from llamero.store.prefixes import Identity, Prefixes
from llamero.store.slot_file import BadSlotFile
from tests.slot_files import slot_bytes, words_of, write_slot
from tests.small_disk import full, small_disk

LIMIT = 1 << 20
MIB = 1 << 20

ALICE = Identity(
    owner="alice",
    weights="sha256:1",
    projectors=("sha256:2",),
    adapters=(("sha256:3", 1.0),),
    kv_types=("f16", "f16"),
    rope="10000",
    engine="xllamacpp 1",
)


def text(length: int, seed: int = 0) -> list[int]:
    """Tokens that go on alike for the same seed, however many are asked for."""
    return [(index * 7 + seed * 1000 + index * index) % 49152 for index in range(length)]


class Cache:
    """A prompt cache together with an engine's folder, which is what most tests need."""

    def __init__(self, models: Path, folder: Path, limit_bytes: int = LIMIT) -> None:
        ticks = count(1)
        self.prefixes = Prefixes(models, limit_bytes, clock=lambda: next(ticks))
        self.folder = models / ".llamero" / "prefixes"
        self.engine = folder

    def put(self, tokens: Sequence[int], identity: Identity = ALICE, model: str = "m", state_bytes: int = 1000) -> int:
        return self.prefixes.put(identity, write_slot(self.engine / "saved", tokens, state_bytes), model)

    def found(self, tokens: Sequence[int], identity: Identity = ALICE) -> int:
        match = self.prefixes.find(identity, tokens)
        return match.tokens if match else 0

    def restorable(self, tokens: Sequence[int], identity: Identity = ALICE) -> bool:
        match = self.prefixes.find(identity, tokens)
        if match is None:
            return False
        with self.prefixes.lent(identity, match, self.engine) as name:
            return name is not None and (self.engine / name).is_file()

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if len(path.name) == 64)

    @property
    def kept(self) -> list[int]:
        """Tokens of each entry, the one used last first."""
        return [entry.tokens for entry in self.prefixes.entries()]


@pytest.fixture
def cache(root: Path) -> Iterator[Cache]:
    prefixes = Prefixes(root, LIMIT)
    with prefixes.engine_folder() as folder:
        yield Cache(root, folder)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_prompt_that_goes_on_finds_what_was_saved_of_its_beginning(cache: Cache) -> None:
    assert cache.put(text(400)) == 400
    assert cache.found(text(400)) == 384  # whole blocks of 64
    assert cache.found(text(1000)) == 384
    assert cache.found(text(300)) == 256
    assert cache.found(text(63)) == 0
    assert cache.found(text(1000, seed=1)) == 0


def test_a_prompt_that_leaves_it_midway_finds_the_blocks_before(cache: Cache) -> None:
    cache.put(text(1000))
    assert cache.found([*text(700), *text(300, seed=1)]) == 640


def test_of_several_the_one_that_shares_most_is_found(cache: Cache) -> None:
    cache.put([*text(300), *text(500, seed=1)])
    cache.put([*text(600), *text(10, seed=2)])
    assert cache.found(text(1000)) == 576
    assert cache.found([*text(300), *text(1000, seed=1)]) == 768


def test_of_several_that_share_as_much_the_one_that_is_read_the_quickest_is_found(cache: Cache) -> None:
    """Conversations that began with the same words: what each went on with is of no use to another."""
    cache.put([*text(300), *text(50, seed=1)], state_bytes=1000)
    cache.put([*text(300), *text(900, seed=2)], state_bytes=9000)
    match = cache.prefixes.find(ALICE, [*text(300), *text(100, seed=3)])
    assert match is not None
    assert (match.tokens, match.entry.tokens) == (256, 350)


@pytest.mark.parametrize(
    "other",
    [
        replace(ALICE, owner="bob"),
        replace(ALICE, weights="sha256:9"),
        replace(ALICE, projectors=()),
        replace(ALICE, adapters=()),
        replace(ALICE, adapters=(("sha256:3", 0.5),)),
        replace(ALICE, kv_types=("q8_0", "f16")),
        replace(ALICE, kv_types=("f16", "q8_0")),
        replace(ALICE, rope="20000"),
        replace(ALICE, engine="xllamacpp 2"),
        replace(ALICE, owner="", weights="alicesha256:1"),
    ],
    ids=lambda identity: str(identity.owner or "nobody"),
)
def test_whoever_or_whatever_differs_finds_nothing(cache: Cache, other: Identity) -> None:
    """partly X-101, partly R-75: the key of an entry is part of every hash."""
    cache.put(text(400))
    assert not cache.prefixes.has(other)
    assert cache.found(text(400), other) == 0
    assert cache.prefixes.has(ALICE)


def test_an_entry_found_by_one_key_cannot_be_restored_by_another(cache: Cache) -> None:
    """partly X-101: not even with an index that says otherwise."""
    cache.put(text(400))
    match = cache.prefixes.find(ALICE, text(400))
    assert match is not None
    with cache.prefixes.lent(replace(ALICE, owner="bob"), match, cache.engine) as name:
        assert name is None


def test_a_beginning_makes_way_for_what_goes_on_from_it(cache: Cache) -> None:
    cache.put(text(300))
    cache.put(text(400, seed=1))
    cache.put(text(300), replace(ALICE, owner="bob"))
    cache.put(text(500))
    assert cache.kept == [500, 300, 400]
    assert len(cache.files) == 3


def test_a_beginning_that_ends_differently_within_its_last_block_stays(cache: Cache) -> None:
    cache.put([*text(320), *text(5, seed=1)])
    cache.put(text(500))
    assert cache.kept == [500, 325]


@pytest.mark.parametrize("length", [500, 450, 449])
def test_what_an_entry_has_already_is_not_kept_twice(cache: Cache, length: int) -> None:
    cache.put(text(400, seed=1))
    cache.put(text(500))
    cache.put(text(400, seed=2))
    assert cache.put(text(length)) == 0
    assert cache.kept == [500, 400, 400]  # and counts as used


def test_short_prompts_and_pictures_are_not_kept(cache: Cache) -> None:
    assert cache.put(text(255)) == 0
    saved = cache.engine / "saved"
    saved.write_bytes(slot_bytes(words_of([*text(300), 2**32 - 1], pictures_at=[300])))
    assert cache.prefixes.put(ALICE, saved, "m") == 0
    assert not saved.exists()
    assert cache.files == []
    assert cache.kept == []


def test_nothing_is_made_on_disk_by_asking(root: Path) -> None:
    prefixes = Prefixes(root, LIMIT)
    prefixes.sweep()
    assert not prefixes.has(ALICE)
    assert prefixes.find(ALICE, text(400)) is None
    assert prefixes.entries() == []
    assert prefixes.clear() == 0
    assert not root.exists()


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_are_for_us_alone(cache: Cache) -> None:
    """partly X-101: 0600 in folders of 0700, whatever the engine made of it."""
    old = os.umask(0)
    try:
        cache.put(text(400))
    finally:
        os.umask(old)
    assert [mode_of(path) for path in cache.files] == [0o600]
    assert mode_of(cache.folder / "index.sqlite") == 0o600
    assert [mode_of(path) for path in (cache.folder.parent, cache.folder, cache.engine)] == [0o700] * 3


def test_neither_index_nor_names_tell_tokens(cache: Cache) -> None:
    cache.put(text(400))
    known = (cache.folder / "index.sqlite").read_bytes()
    assert b"".join(token.to_bytes(4, "little") for token in text(400)[:4]) not in known


def test_what_was_lent_is_the_file_and_is_taken_back(cache: Cache) -> None:
    cache.put(text(400))
    match = cache.prefixes.find(ALICE, text(400))
    assert match is not None
    with cache.prefixes.lent(ALICE, match, cache.engine) as name:
        assert name is not None
        assert (cache.engine / name).read_bytes() == cache.files[0].read_bytes()
        cache.prefixes.clear()  # nothing takes it from an engine meanwhile
        assert cache.kept == []
        assert (cache.engine / name).is_file()
    assert list(cache.engine.glob("[0-9a-f]*")) == []


def test_the_engine_is_gone_and_so_is_its_folder(cache: Cache) -> None:
    with cache.prefixes.engine_folder() as folder:
        (folder / "half").write_bytes(b"x")
    assert not folder.exists()


def test_a_file_that_cannot_be_used_is_removed_and_said(cache: Cache) -> None:
    saved = cache.engine / "saved"
    for data in (b"", b"no slot at all", slot_bytes(words_of(text(400)))[:200]):
        saved.write_bytes(data)
        with pytest.raises(BadSlotFile):
            cache.prefixes.put(ALICE, saved, "m")
        assert not saved.exists()
    with pytest.raises(StorageError):
        cache.prefixes.put(ALICE, saved, "m")  # the engine wrote nothing
    assert cache.kept == []


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-500] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    """A sound file, of the very same size, that holds another prompt."""
    write_slot(path, text(400, seed=5))


def make_folder_of(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "cut in its head": lambda path: os.truncate(path, 20),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "a bit flipped": flip,
    "another prompt's": swap,
    "gone": lambda path: path.unlink(),
    "a folder": make_folder_of,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_removed_and_never_restored(cache: Cache, damage: str) -> None:
    """partly R-75."""
    cache.put(text(400))
    DAMAGE[damage](cache.files[0])
    assert not cache.restorable(text(400))
    assert cache.prefixes.damaged == 1
    assert cache.kept == []
    assert not any(path.is_file() for path in cache.files)


def test_a_link_in_the_place_of_a_file_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    cache.put(text(400))
    elsewhere = tmp_path / "elsewhere"
    cache.files[0].rename(elsewhere)
    (cache.folder / cache.prefixes.entries()[0].name).symlink_to(elsewhere)
    assert not cache.restorable(text(400))
    assert elsewhere.exists()


# --- the index --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["deleted", "overwritten", "cut", "another version", "another program's"])
def test_without_its_index_the_cache_starts_anew(cache: Cache, damage: str) -> None:
    cache.put(text(400))
    index = cache.folder / "index.sqlite"
    if damage == "deleted":
        index.unlink()
    elif damage == "overwritten":
        index.write_bytes(b"no database" * 1000)
    elif damage == "cut":
        os.truncate(index, index.stat().st_size // 2)
    else:
        with sqlite3.connect(index) as database:
            database.execute("PRAGMA user_version = 99")
            if damage == "another program's":
                database.execute("DROP TABLE blocks")
        database.close()
    assert not cache.restorable(text(400))
    cache.prefixes.sweep()
    assert cache.files == []
    assert cache.put(text(400)) == 400
    assert cache.restorable(text(500))


def test_a_sweep_removes_what_nobody_knows(cache: Cache) -> None:
    cache.put(text(400))
    cache.put(text(400, seed=1))
    cache.put(text(400, seed=2))
    first, second, third = cache.files
    os.truncate(first, 100)
    second.unlink()
    (cache.folder / "stranger").write_bytes(b"x")
    (cache.folder / ("0" * 64)).write_bytes(b"x")
    (cache.folder / "link").symlink_to(third)
    cache.prefixes.sweep()
    assert cache.files == [third]
    assert cache.kept == [400]
    assert cache.prefixes.damaged == 4
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([third.name, "engines", "index.sqlite"])


def test_a_sweep_clears_up_after_dead_engines_only(cache: Cache, root: Path) -> None:
    abandoned = cache.folder / "engines" / "1234"
    abandoned.mkdir()
    (abandoned / "half").write_bytes(b"x")
    Prefixes(root, LIMIT).sweep()
    assert not abandoned.exists()
    assert cache.engine.exists()


# --- room -------------------------------------------------------------------------------------------------------------


def test_what_was_not_used_for_longest_makes_room(cache: Cache) -> None:
    for seed in range(3):
        cache.put(text(400, seed=seed), state_bytes=300_000)
    assert cache.restorable(text(400, seed=0))  # used again
    cache.put(text(400, seed=3), state_bytes=300_000)
    assert [cache.found(text(400, seed=seed)) for seed in range(4)] == [384, 0, 384, 384]
    assert sum(path.stat().st_size for path in cache.files) <= LIMIT


def test_room_is_made_before_the_engine_writes(cache: Cache) -> None:
    for seed in range(3):
        cache.put(text(400, seed=seed), state_bytes=300_000)
    assert cache.prefixes.make_room(600_000)
    assert cache.kept == [400]
    assert not cache.prefixes.make_room(LIMIT + 1)
    assert cache.kept == [400]


def test_what_is_larger_than_the_limit_is_not_kept(cache: Cache) -> None:
    cache.put(text(300, seed=1))
    assert cache.put(text(400), state_bytes=LIMIT) == 0
    assert cache.kept == [300]


def test_a_limit_of_nothing_removes_everything(cache: Cache, root: Path) -> None:
    cache.put(text(400))
    off = Prefixes(root, 0)
    off.sweep()
    assert cache.files == []
    assert not off.has(ALICE)
    assert not off.make_room(1)


def test_the_default_limit_is_a_share_of_the_free_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 40 * MIB) as disk:
        assert 0 < Prefixes(disk / "models").limit_bytes <= 2 * MIB


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 8 * MIB) as disk:
        prefixes = Prefixes(disk / "models", 4 * MIB)
        with prefixes.engine_folder() as folder:
            cache = Cache(disk / "models", folder, 4 * MIB)
            cache.put(text(400))
            saved = write_slot(folder / "saved", text(2000, seed=1))
            with full(disk):
                assert not cache.prefixes.make_room(MIB)
                with pytest.raises(DiskFull):
                    cache.prefixes.put(ALICE, saved, "m")
                assert not saved.exists()
                assert cache.found(text(400)) == 384
            assert len(cache.files) == 1
            assert cache.put(text(2000, seed=1)) == 2000


def test_an_index_that_may_not_grow_keeps_what_it_has(cache: Cache) -> None:
    cache.put(text(400))
    saved = write_slot(cache.engine / "saved", text(4000, seed=1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((cache.folder / "index.sqlite").stat().st_size, before[1]))
    try:
        with pytest.raises(StorageError):
            cache.prefixes.put(ALICE, saved, "m")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not saved.exists()
    assert len(cache.files) == 1
    assert cache.kept == [400]
    assert cache.restorable(text(400))


# --- looking after it -------------------------------------------------------------------------------------------------


def test_it_is_listed_and_cleared_by_model(cache: Cache) -> None:
    cache.put(text(300), model="one")
    cache.put(text(400, seed=1), model="two")
    assert [(entry.model, entry.tokens) for entry in cache.prefixes.entries()] == [("two", 400), ("one", 300)]
    size_bytes = cache.prefixes.entries()[1].size_bytes
    assert cache.prefixes.clear("one") == size_bytes
    assert cache.prefixes.clear("unheard of") == 0
    assert cache.kept == [400]
    assert cache.prefixes.clear() > 0
    assert cache.files == []
    assert cache.kept == []


def _save_many(models: Path, seed: int) -> None:
    prefixes = Prefixes(models, LIMIT)
    with prefixes.engine_folder() as folder:
        cache = Cache(models, folder)
        for index in range(15):
            cache.put(text(300 + 10 * index, seed=seed), state_bytes=60_000)
            cache.put(text(300, seed=100 * seed + index), state_bytes=60_000)
            cache.prefixes.sweep()
            cache.restorable(text(1000, seed=seed))


def test_several_processes_share_one_folder(root: Path) -> None:
    fork = multiprocessing.get_context("spawn")
    processes = [fork.Process(target=_save_many, args=(root, seed)) for seed in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    prefixes = Prefixes(root, LIMIT)
    entries = prefixes.entries()
    assert entries
    assert sum(entry.size_bytes for entry in entries) <= LIMIT
    folder = root / ".llamero" / "prefixes"
    assert {path.name for path in folder.iterdir() if len(path.name) == 64} == {entry.name for entry in entries}
    prefixes.sweep()
    assert prefixes.damaged == 0
    assert prefixes.entries() == entries
