"""Keys and signatures as stock clients make them (store-registry §3.7, appendix A)."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from llamero.server.share.keys import MAX_FILE_BYTES, ShareKeys, is_signed, key_line, read_key
from tests.server.share.stock import EMPTY_BODY, Key

# the vector of appendix A: the seed is the bytes 00 to 1f
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
SIGNATURE = "5TZlCSsaKeJH0zfD4XP83n2JUNIPu+xTGNWZxWxhS2rVFoyYbE9A+KNqqcu1fRHg2LB1oFEftK4b+afWHpTiCg=="
URL = (
    "https://registry.example.com/v2/token?nonce=AAAAAAAAAAAAAAAAAAAAAA"
    "&scope=repository%3Alibrary%2Fm%3Apull&service=registry&ts=1700000000"
)
PAYLOAD = f"GET,{URL},{EMPTY_BODY}"


def test_the_vector_of_the_specification_is_a_signature() -> None:
    key = read_key(KEY)
    assert key is not None
    assert key_line(key) == f"ssh-ed25519 {KEY}"
    assert is_signed(PAYLOAD, key, SIGNATURE)


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (PAYLOAD + "x", SIGNATURE),
        (PAYLOAD.replace("%3A", ":"), SIGNATURE),
        (PAYLOAD, ""),
        (PAYLOAD, SIGNATURE[:-4]),
        (PAYLOAD, "not base64"),
        (PAYLOAD, base64.b64encode(bytes(64)).decode()),
        (PAYLOAD, base64.b64encode(base64.b64decode(SIGNATURE) + b"\0").decode()),
    ],
)
def test_anything_else_is_not(payload: str, signature: str) -> None:
    key = read_key(KEY)
    assert key is not None
    assert not is_signed(payload, key, signature)


def test_a_key_that_is_no_point_of_the_curve_has_signed_nothing() -> None:
    assert not is_signed(PAYLOAD, b"\2" + bytes(31), SIGNATURE)


WIRE = base64.b64decode(KEY)


@pytest.mark.parametrize(
    "wire",
    [b"", WIRE[:-1], WIRE + b"\0", WIRE.replace(b"25519", b"25518"), b"\0\0\0\x07ssh-rsa" + bytes(40), WIRE[19:]],
)
def test_what_is_no_ed25519_key(wire: bytes) -> None:
    assert read_key(base64.b64encode(wire).decode()) is None


@pytest.mark.parametrize("text", ["", "!", KEY[:-1], f" {KEY}", f"{KEY}\n", "é" * 68])
def test_what_is_no_base64(text: str) -> None:
    assert read_key(text) is None


def written(path: Path, content: bytes, mode: int = 0o600) -> ShareKeys:
    path.write_bytes(content)
    path.chmod(mode)
    return ShareKeys(path)


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("ssh-ed25519 {}", True),
        ("  ssh-ed25519\t{}  name@host and more words\r", True),
        ("# ssh-ed25519 {}", False),
        ("ssh-rsa {}", False),
        ("SSH-ED25519 {}", False),
        ("ssh-ed25519", False),
        ("no-pty ssh-ed25519 {}", False),  # options are promises that nothing here keeps
        ("{}", False),
    ],
)
def test_lines_of_the_file(tmp_path: Path, line: str, counts: bool) -> None:
    listed = written(tmp_path / "share_keys", f"\n{line.format(KEY)}\n".encode()).listed()
    assert listed == ({read_key(KEY)} if counts else set())


def test_no_file_is_not_the_same_as_a_file_that_lists_nobody(tmp_path: Path) -> None:
    assert ShareKeys(tmp_path / "share_keys").listed() is None
    assert ShareKeys(tmp_path / "no folder" / "share_keys").listed() is None
    assert written(tmp_path / "share_keys", b"").listed() == frozenset()


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_lists_nobody(tmp_path: Path, mode: int) -> None:
    assert written(tmp_path / "share_keys", f"ssh-ed25519 {KEY}".encode(), mode).listed() == frozenset()


def test_a_file_that_cannot_be_meant_lists_nobody(tmp_path: Path) -> None:
    line = f"ssh-ed25519 {KEY}\n".encode()
    assert written(tmp_path / "long", line + b"#" * MAX_FILE_BYTES).listed() == frozenset()
    assert written(tmp_path / "binary", bytes(range(256))).listed() == frozenset()
    (tmp_path / "folder").mkdir()
    assert ShareKeys(tmp_path / "folder").listed() == frozenset()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert ShareKeys(tmp_path / "loop").listed() == frozenset()


def test_the_file_is_read_again_when_it_changes_and_only_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "share_keys"
    keys = written(path, b"nonsense\n")
    assert [keys.listed(), keys.listed()] == [frozenset()] * 2
    assert len(caplog.records) == 1
    path.write_text(f"{Key().line}\n{Key().line}\n")
    assert len(keys.listed() or ()) == 2
    path.unlink()
    assert keys.listed() is None
