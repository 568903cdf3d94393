"""The audit log: what stands in it, and how much of it there can be (security §6.2 no. 5)."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from llamero.names import ModelName
from llamero.server import audit
from llamero.server.audit import Audit, Entry, Notes, changing
from llamero.store import Store
from tests import model_folders as folder

NOW_S = 1_800_000_000.0


def entry(route: str = "/api/delete", **more: Any) -> Entry:
    fields: dict[str, Any] = {"address": "10.0.0.9", "key": "al", "method": "DELETE", "status": 200, "notes": Notes()}
    return Entry(route=route, **(fields | more))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llamero" / "audit.log"


def test_a_line_says_when_who_and_what(path: Path) -> None:
    log = Audit(path, lambda: NOW_S)
    log.done(entry(notes=Notes("m:latest", "sha256:aa", "")))
    log.refused(entry("/api/pull", key="", method="POST", status=401))
    assert read(path) == [
        {
            "time": "2027-01-15T08:00:00Z",
            "address": "10.0.0.9",
            "key": "al",
            "method": "DELETE",
            "route": "/api/delete",
            "status": 200,
            "model": "m:latest",
            "old": "sha256:aa",
        },
        {
            "time": "2027-01-15T08:00:00Z",
            "address": "10.0.0.9",
            "key": "",
            "method": "POST",
            "route": "/api/pull",
            "status": 401,
        },
    ]


def test_it_is_for_us_alone(path: Path) -> None:
    Audit(path).done(entry())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "text", ["/a\r\n{}", '/a"b', "/\x1b[31m", "/\u2028", "/\u202e", "/" + "x" * 100_000, "/\udcff"]
)
def test_no_text_makes_a_line_of_its_own(path: Path, text: str) -> None:
    Audit(path).refused(entry(text, method=text, status=403))
    raw = path.read_bytes()
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    assert not set(raw[:-1]) & set(range(32))
    assert read(path)[0]["route"] == text[: audit.MAX_TEXT_CHARS]


def test_many_refusals_do_not_push_out_what_was_done(path: Path) -> None:
    clock = [NOW_S]
    log = Audit(path, lambda: clock[0])
    for _ in range(1000):
        log.refused(entry(status=401))
    log.done(entry())
    assert [line["status"] for line in read(path)] == [401] * 60 + [200]
    assert read(path)[-1]["refusals_left_out"] == 940
    clock[0] += 60
    log.refused(entry(status=401))
    assert "refusals_left_out" not in read(path)[-1]


def test_a_full_file_gives_way_to_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_FILE_BYTES", 1000)
    log = Audit(path)
    for number in range(100):
        log.done(entry(f"/{number:03}"))
    kept = read(path.with_name("audit.log.1")) + (read(path) if path.exists() else [])
    assert [line["route"] for line in kept] == [f"/{number:03}" for number in range(100 - len(kept), 100)]
    assert sorted(os.listdir(path.parent))[-1] == "audit.log.1"
    assert path.with_name("audit.log.1").stat().st_size < 1500


def test_a_log_that_cannot_be_written_is_told_once_and_stops_nothing(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent / "elsewhere")
    log = Audit(path)
    with caplog.at_level(logging.ERROR):
        log.done(entry())
        log.done(entry())
    assert [record.getMessage().startswith("the audit log cannot be written") for record in caplog.records] == [True]
    assert not (path.parent / "elsewhere").exists()


def test_a_change_is_noted_with_the_digests_before_and_after(tmp_path: Path) -> None:
    folder.add(tmp_path, "old", b"one")
    folder.add(tmp_path, "new", b"two")
    store = Store(tmp_path)
    digests = {summary.name.model: f"sha256:{summary.digest}" for summary in store.list()}
    one, two = ModelName.parse("old"), ModelName.parse("New")
    notes = Notes()
    with changing(notes, store, two):
        store.copy(one, two)
    assert notes == Notes(two.full, digests["new"], digests["old"])
    with changing(notes, store, one):
        store.delete(one)
    assert notes == Notes(one.full, digests["old"], "")
    with changing(notes, store, "not//a name"):
        pass
    assert notes == Notes("not//a name", "", "")
