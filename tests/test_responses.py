"""Responses are kept for a day, each for the key that made it (compat-api §8.9)."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llamero import responses
from llamero.dialects.responses.kept import Kept
from llamero.errors import StorageError
from llamero.responses import KeptResponses, Responses, open_responses


def kept(number: int, text: str = "a") -> Kept:
    items = [{"id": f"msg_in{number}", "type": "message", "role": "user", "content": text}]
    return Kept({"id": f"resp_{number}", "output": [{"id": f"msg_out{number}", "type": "message"}]}, items)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llamero" / "responses.sqlite"


Opened = Callable[[Path | None], KeptResponses]


@pytest.fixture
def opened(clock: Clock) -> Iterator[Opened]:
    with contextlib.ExitStack() as stack:

        def open_(path: Path | None) -> KeptResponses:
            return stack.enter_context(contextlib.closing(KeptResponses(path, clock)))

        yield open_


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, path: Path, opened: Opened) -> Responses:
    return opened(path if request.param == "disk" else None)


def test_what_is_put_can_be_had_again(store: Responses) -> None:
    assert store.put("", kept(1))
    assert store.get("", "resp_1") == kept(1)
    assert store.get("", "resp_2") is None


def test_a_response_belongs_to_the_key_that_made_it(store: Responses) -> None:
    store.put("alice", kept(1))
    assert store.get("bob", "resp_1") is None
    assert store.items("bob", ["msg_in1"]) == {}
    assert not store.delete("bob", "resp_1")
    store.put("bob", kept(1, "b"))
    assert store.get("alice", "resp_1") == kept(1)
    assert store.get("bob", "resp_1") == kept(1, "b")


def test_the_same_id_is_replaced(store: Responses) -> None:
    store.put("", kept(1, "a"))
    store.put("", kept(1, "b"))
    assert store.get("", "resp_1") == kept(1, "b")
    assert store.items("", ["msg_in1"])["msg_in1"]["content"] == "b"


def test_items_are_found_wherever_they_are(store: Responses) -> None:
    store.put("", kept(1))
    store.put("", kept(2))
    found = store.items("", ["msg_in1", "msg_out1", "msg_out2", "msg_none", "msg_in1"])
    assert sorted(found) == ["msg_in1", "msg_out1", "msg_out2"]
    assert found["msg_in1"] == kept(1).items[0]


def test_deleting(store: Responses) -> None:
    store.put("", kept(1))
    assert store.delete("", "resp_1")
    assert not store.delete("", "resp_1")
    assert store.get("", "resp_1") is None
    assert store.items("", ["msg_in1"]) == {}


def test_a_day_later_it_is_gone(store: Responses, clock: Clock) -> None:
    store.put("", kept(1))
    clock.now_s += 24 * 3600 - 1
    assert store.get("", "resp_1") is not None
    clock.now_s += 1
    assert store.get("", "resp_1") is None
    assert store.items("", ["msg_in1"]) == {}


def test_the_oldest_give_way_to_the_thousandth_and_first(store: Responses, monkeypatch: pytest.MonkeyPatch) -> None:
    assert responses.MAX_ENTRIES == 1000
    monkeypatch.setattr(responses, "MAX_ENTRIES", 3)
    store.put("other", kept(0))
    for number in range(5):
        store.put("", kept(number))
    assert [number for number in range(5) if store.get("", f"resp_{number}")] == [2, 3, 4]
    assert store.get("other", "resp_0"), "each owner has room of its own"


def test_an_owner_has_so_many_bytes(path: Path, monkeypatch: pytest.MonkeyPatch, opened: Opened) -> None:
    monkeypatch.setattr(responses, "MAX_OWNER_BYTES", 3500)
    store = opened(path)
    for number in range(5):
        store.put("", kept(number, "x" * 1000))
    assert [number for number in range(5) if store.get("", f"resp_{number}")] == [2, 3, 4]


def test_what_is_too_long_is_not_kept_and_the_log_says_so(
    store: Responses, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(responses, "MAX_ENTRY_BYTES", 1000)
    assert not store.put("", kept(1, "x" * 1000))
    assert store.get("", "resp_1") is None
    assert "is not kept: the limit is 1000" in caplog.text


def test_several_threads_at_once(store: Responses) -> None:
    def work(number: int) -> bool:
        store.put("", kept(number))
        return store.get("", f"resp_{number}") == kept(number) and store.delete("", f"resp_{number}")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))


def test_it_outlives_the_server(path: Path, opened: Opened) -> None:
    first = opened(path)
    first.put("", kept(1))
    first.close()
    assert opened(path).get("", "resp_1") == kept(1)


def test_two_servers_may_share_it(path: Path, opened: Opened) -> None:
    one, other = opened(path), opened(path)
    one.put("", kept(1))
    other.put("", kept(2))
    assert one.get("", "resp_2") == kept(2)
    assert other.get("", "resp_1") == kept(1)


def test_nobody_else_may_read_it(path: Path, opened: Opened) -> None:
    opened(path).put("", kept(1))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path: Path, opened: Opened) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    opened(path).put("", kept(1))
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_deleted_is_not_left_in_the_file(path: Path, opened: Opened) -> None:
    store = opened(path)
    store.put("", kept(1, "a very private sentence"))
    store.delete("", "resp_1")
    store.close()
    assert b"a very private sentence" not in path.read_bytes()


def _no_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:8192])


def _scrambled(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


def _of_another_version(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize("damage", [_no_database, _cut, _scrambled, _of_another_version])
def test_a_damaged_file_is_moved_aside(
    damage: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture, opened: Opened
) -> None:
    store = opened(path)
    for number in range(20):
        store.put("", kept(number, "x" * 1000))
    store.close()
    damage(path)
    damaged = path.read_bytes()

    store = opened(path)
    assert store.put("", kept(1, "new"))
    assert store.get("", "resp_1") == kept(1, "new")
    assert path.with_name("responses.sqlite.damaged").read_bytes() == damaged
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "starting anew" in record.getMessage()


def test_an_entry_that_is_no_json_is_forgotten(path: Path, opened: Opened) -> None:
    store = opened(path)
    store.put("", kept(1))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE responses SET response = x'ff'")
    assert store.get("", "resp_1") is None


def test_links_are_not_followed(path: Path, tmp_path: Path, opened: Opened) -> None:
    path.parent.mkdir()
    target = tmp_path / "precious"
    target.write_bytes(b"")
    path.symlink_to(target)
    with pytest.raises(StorageError):
        opened(path).put("", kept(1))
    assert target.read_bytes() == b""


def test_a_place_that_cannot_be_used_is_an_error_of_ours(tmp_path: Path, opened: Opened) -> None:
    (tmp_path / "llamero").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        opened(tmp_path / "llamero" / "responses.sqlite").get("", "resp_1")


def test_nothing_is_touched_before_it_is_needed(tmp_path: Path) -> None:
    store = open_responses("disk", tmp_path)
    assert store.can_keep
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_in_memory_the_disk_is_never_touched(tmp_path: Path) -> None:
    store = open_responses("memory", tmp_path)
    assert store.put("", kept(1))
    assert store.get("", "resp_1") == kept(1)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_switched_off_it_forgets_everything(tmp_path: Path) -> None:
    store = open_responses("off", tmp_path)
    assert not store.can_keep
    assert not store.put("", kept(1))
    assert store.get("", "resp_1") is None
    assert store.items("", ["msg_in1"]) == {}
    assert not store.delete("", "resp_1")
    store.close()
