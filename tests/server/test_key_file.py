"""The key file, changed by a program: a line more or less, at once or not at all (security §6.1, §9.2)."""

from __future__ import annotations

import os
import re
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import BadRequest, NotFound, StorageError
from llamero.server import key_file
from llamero.server.keys import BadKeys, Keys, digest_of, read_instant

NOW_S = 1_800_000_000.0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "llamero" / "keys"


def test_a_new_key_is_32_random_bytes_and_only_its_digest_is_kept(file: Path) -> None:
    key, secret = key_file.make_key("laptop", "infer", ("m", "ns/n:7b"), "30d", "60/m", now_s=NOW_S)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    assert key.digest == digest_of(secret.encode())
    assert (key.name, key.role, key.models, str(key.rate)) == ("laptop", "infer", ("m", "ns/n:7b"), "60/m")
    assert key.expires_at_s == NOW_S + 30 * 86_400
    key_file.add(file, key)
    assert key_file.listed(file) == [key]
    assert secret not in file.read_text()
    found = Keys(key_file.listed(file)).find(secret.encode(), NOW_S)
    assert found == key
    assert key_file.make_key("laptop", "infer", now_s=NOW_S)[1] != secret


def test_the_file_is_for_us_alone(file: Path) -> None:
    key_file.add(file, key_file.make_key("a", "admin", now_s=NOW_S)[0])
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert sorted(path.name for path in file.parent.iterdir()) == ["keys", "keys.lock"]


def test_what_else_is_in_the_file_stays(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("# the house\nroot admin sixteen-visible-x\n\n  # guests\nguest infer sixteen-visible-y")
    file.chmod(0o640)
    key_file.add(file, key_file.make_key("new", "infer", now_s=NOW_S)[0])
    assert [key.name for key in key_file.listed(file)] == ["root", "guest", "new"]
    key_file.remove(file, "guest")
    lines = file.read_text().splitlines()
    assert lines[:4] == ["# the house", "root admin sixteen-visible-x", "", "  # guests"]
    assert [line.split()[0] for line in lines[4:]] == ["new"]
    assert mode(file) == 0o640, "its group reads it: the server may be another user"


def test_a_name_is_taken_once_and_revoked_once(file: Path) -> None:
    key = key_file.make_key("a", "admin", now_s=NOW_S)[0]
    key_file.add(file, key)
    with pytest.raises(BadRequest, match="there is a key called a already"):
        key_file.add(file, key)
    key_file.remove(file, "a")
    with pytest.raises(NotFound, match="there is no key called a"):
        key_file.remove(file, "a")
    assert key_file.listed(file) == []
    assert file.exists(), "a server whose keys are all revoked lets nobody in: it is not open to everybody"


@pytest.mark.parametrize(
    ("name", "role", "more"),
    [
        ("", "infer", {}),
        ("a b", "infer", {}),
        ("a\nroot", "admin", {}),
        ("#a", "infer", {}),
        ("x" * 33, "infer", {}),
        ("a", "owner", {}),
        ("a", "", {}),
        ("a", "infer\nroot admin x", {}),
        ("a", "admin", {"models": ("m",)}),
        ("a", "infer", {"models": ("../m",)}),
        ("a", "infer", {"models": ("m\nroot admin sixteen-visible-x",)}),
        ("a", "infer", {"models": ("",)}),
        ("a", "infer", {"rate": "60"}),
        ("a", "infer", {"rate": "60/m root"}),
        ("a", "infer", {"expires": "soon"}),
        ("a", "infer", {"expires": "0d"}),
        ("a", "infer", {"expires": "999999999w"}),
        ("a", "infer", {"expires": "2020-01-01T00:00:00Z"}),
        ("a", "infer", {"expires": "2027-01-01"}),
    ],
)
def test_what_no_line_may_say_is_refused(name: str, role: str, more: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        key_file.make_key(name, role, now_s=NOW_S, **more)


def test_when_a_key_ends() -> None:
    spans = {"90s": 90, "15m": 900, "12h": 43_200, "30d": 2_592_000, "2w": 1_209_600}
    assert {text: key_file.read_expiry(text, NOW_S) - NOW_S for text in spans} == spans
    instant = "2030-05-01T12:00:00+02:00"
    assert key_file.read_expiry(instant, NOW_S) == read_instant("2030-05-01T10:00:00Z")


def test_a_file_that_cannot_be_read_is_not_changed(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("root admin short\n")
    file.chmod(0o600)
    with pytest.raises(BadKeys, match="line 1"):
        key_file.add(file, key_file.make_key("a", "admin", now_s=NOW_S)[0])
    assert file.read_text() == "root admin short\n"


def test_a_link_is_not_written_through(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(mode=0o600)
    file.parent.mkdir()
    file.symlink_to(elsewhere)
    with pytest.raises(StorageError, match="is a link"):
        key_file.add(file, key_file.make_key("a", "admin", now_s=NOW_S)[0])
    assert elsewhere.read_text() == ""
    assert os.path.islink(file)


def test_changes_at_the_same_time_are_all_made(file: Path) -> None:
    def add(number: int) -> None:
        key_file.add(file, key_file.make_key(f"key{number}", "infer", now_s=NOW_S)[0])

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.name for key in key_file.listed(file)) == [f"key{number}" for number in range(8)]
