"""The tar format both ways: what we write every program reads, and what we read may be anybody's (security §2)."""

from __future__ import annotations

import io
import itertools
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llamero.errors import BadRequest
from llamero.store import tar

Edit = Callable[[tarfile.TarInfo], None]


def archive(*files: tuple[str, bytes], format: int = tarfile.PAX_FORMAT, edit: Edit = lambda info: None) -> bytes:
    """A tar as the standard library writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as writer:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            edit(info)
            writer.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def read(data: bytes) -> list[tuple[str, bytes]]:
    return [(member.name, member.whole(1 << 20)) for member in tar.members(io.BytesIO(data))]


def ours(*files: tuple[str, bytes]) -> bytes:
    return b"".join(tar.header(name, len(content)) + tar.padded(content) for name, content in files) + tar.END


FILES = [("oci-layout", b"{}"), ("blobs/sha256/" + "a" * 64, b"x" * 1000), ("empty", b""), ("even", b"y" * 512)]


# --- writing ---


def test_what_we_write_others_read(tmp_path: Path) -> None:
    data = ours(*FILES)
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        members = opened.getmembers()
        assert [(member.name, opened.extractfile(member).read()) for member in members] == FILES  # type: ignore[union-attr]
    assert {(m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime, m.type) for m in members} == {
        (0o644, 0, 0, "", "", 0, tarfile.REGTYPE)
    }
    if program := shutil.which("tar"):
        ran = subprocess.run([program, "-tf", "-"], input=data, check=True, capture_output=True)
        assert (ran.stdout.decode().split(), ran.stderr) == ([name for name, _ in FILES], b"")


def test_what_we_write_we_read() -> None:
    assert read(ours(*FILES)) == FILES


@pytest.mark.parametrize("size_bytes", [0, 1, 8**11 - 1, 8**11, 40 * 10**9, 8 << 40])
def test_sizes_that_do_not_fit_a_header_are_read_alike(tmp_path: Path, size_bytes: int) -> None:
    """A sparse file stands for the terabytes."""
    head = tar.header("weights", size_bytes)
    path = tmp_path / "big.tar"
    with path.open("wb") as file:
        file.write(head)
        try:
            file.truncate(len(head) + size_bytes + len(tar.padding(size_bytes)) + len(tar.END))
        except OSError as error:
            pytest.skip(f"this file system has no file of {size_bytes} bytes: {error}")
    with tarfile.open(path) as opened:
        assert [(member.name, member.size) for member in opened] == [("weights", size_bytes)]
    with path.open("rb") as file:
        member = next(tar.members(file))
        assert (member.name, member.size_bytes) == ("weights", size_bytes)


# --- reading what other programs write ---

LONG = "blobs/" + "d" * 120 + "/" + "e" * 90


NAMES = ["index.json", "./index.json", "blobs//sha256/a", "p" * 90 + "/" + "q" * 90, "ü"]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *itertools.product(NAMES, (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
        *itertools.product([LONG], (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
    ],
)
def test_names_in_every_format(name: str, format: int) -> None:
    expected = "/".join(part for part in name.split("/") if part not in ("", "."))
    assert read(archive((name, b"content"), ("after", b"more"), format=format)) == [
        (expected, b"content"),
        ("after", b"more"),
    ]


def test_folders_are_passed_over() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as writer:
        for name in ("./", "blobs/", "blobs/sha256"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            writer.addfile(info)
        info = tarfile.TarInfo("blobs/sha256/a")
        info.size = 1
        writer.addfile(info, io.BytesIO(b"x"))
    assert read(buffer.getvalue()) == [("blobs/sha256/a", b"x")]


def test_a_binary_size_of_gnu(tmp_path: Path) -> None:
    info = tarfile.TarInfo("weights")
    info.size = 9 << 30
    head = info.tobuf(tarfile.GNU_FORMAT)
    assert head[124] == 0x80
    assert next(tar.members(io.BytesIO(head))).size_bytes == 9 << 30


def test_what_is_not_read_is_skipped() -> None:
    names = []
    for member in tar.members(io.BytesIO(ours(*FILES))):
        names.append(member.name)
        member.content.read(7)
    assert names == [name for name, _ in FILES]


def test_a_stream_that_gives_little_at_a_time() -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 3))

    found = [(member.name, member.whole(1 << 20)) for member in tar.members(Dripping(ours(*FILES)))]
    assert found == FILES


def test_offsets_are_where_headers_begin() -> None:
    data = archive(*[(f"{n}" * 120, b"x" * n) for n in range(3)])
    for member in tar.members(io.BytesIO(data)):
        name = next(tar.members(io.BytesIO(data[member.offset_bytes :]))).name
        assert name == member.name


def test_what_follows_the_end_is_left_alone() -> None:
    stream = io.BytesIO(ours(*FILES) + b"trailer")
    assert [member.name for member in tar.members(stream)] == [name for name, _ in FILES]
    assert stream.read().endswith(b"trailer")


# --- hostile ones ---


def typed(kind: bytes, *, size: int = 0, link: str = "") -> Edit:
    def edit(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, link or info.linkname
        info.size = size or info.size

    return edit


def with_records(**records: str) -> Edit:
    def edit(info: tarfile.TarInfo) -> None:
        info.pax_headers = {key.replace("__", "."): value for key, value in records.items()}

    return edit


def extended(kind: bytes, payload: bytes, *, claimed_bytes: int | None = None) -> bytes:
    """An extended header as it stands in a file, before a member that is fine."""
    info = tarfile.TarInfo("extended")
    info.type, info.size = kind, len(payload) if claimed_bytes is None else claimed_bytes
    return info.tobuf(tarfile.USTAR_FORMAT) + tar.padded(payload) + ours(("fine", b""))


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """A header with other bytes and a checksum that is right again."""
    block = bytearray(data[:512])
    block[at : at + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


ONE = ours(("name", b"x"))

HOSTILE = {
    "absolute": (archive(("/etc/passwd", b"x")), "leads elsewhere"),
    "dot dot": (archive(("blobs/../../etc/passwd", b"x")), "leads elsewhere"),
    "dot dot alone": (archive(("..", b"x")), "leads elsewhere"),
    "dot dot in an extended header": (archive(("x" * 200 + "/../../e", b"x")), "leads elsewhere"),
    "dot dot in GNU's long name": (archive(("x" * 200 + "/../e", b"x"), format=tarfile.GNU_FORMAT), "leads elsewhere"),
    "dot dot across prefix and name": (patched(ONE, 345, b"../.."), "leads elsewhere"),
    "drive": (archive(("C:/x", b"x")), "leads elsewhere"),
    "drive without a slash": (archive(("c:x", b"x")), "leads elsewhere"),
    "backslash": (archive(("..\\x", b"x")), "leads elsewhere"),
    "NUL": (extended(b"x", b"12 path=a\0b\n"), "leads elsewhere"),
    "not UTF-8": (patched(ONE, 0, b"\xff\xfe"), "not UTF-8"),
    "a folder that leads out": (archive(("../x", b""), edit=typed(tarfile.DIRTYPE)), "leads elsewhere"),
    "a folder with content": (patched(ONE, 156, b"5"), "neither a file nor a folder"),
    "a file named like a folder": (patched(ONE, 0, b"name/"), "neither a file nor a folder"),
    "a file without a name": (patched(ONE, 0, b"./\0\0"), "neither a file nor a folder"),
    "link": (archive(("n", b""), edit=typed(tarfile.SYMTYPE, link="/etc/passwd")), "is a link"),
    "hard link": (archive(("n", b""), edit=typed(tarfile.LNKTYPE, link="m")), "is a hard link"),
    "character device": (archive(("n", b""), edit=typed(tarfile.CHRTYPE)), "is a device"),
    "block device": (archive(("n", b""), edit=typed(tarfile.BLKTYPE)), "is a device"),
    "pipe": (archive(("n", b""), edit=typed(tarfile.FIFOTYPE)), "is a pipe"),
    "sparse, GNU": (patched(ONE, 156, b"S"), "is sparse"),
    "sparse, pax": (archive(("n", b"x"), edit=with_records(GNU__sparse__major="1")), "a sparse file"),
    "unknown type": (patched(ONE, 156, b"Z"), "neither a file nor a folder"),
    "one name for all": (extended(b"g", b"10 path=a\n"), "one name or size"),
    "one size for all": (extended(b"g", b"10 size=9\n"), "one name or size"),
    "damaged header": (ONE[:5] + b"!" + ONE[6:], "damaged"),
    "no tar at all": (b"GGUF" * 1000, "no tar header"),
    "zip": (b"PK\x03\x04" + bytes(1020), "no tar header"),
    "garbage after a member": (ONE[:1024] + b"garbage" * 200, "no tar header"),
    "letters for a size": (patched(ONE, 124, b"0000000abc\0"), "a number in a header"),
    "a negative size": (patched(ONE, 124, b"\xff" * 12), "a number in a header"),
    "a binary size beyond all": (patched(ONE, 124, b"\x80" + b"\xff" * 11), "bytes of content"),
    "a huge extended header": (extended(b"x", b"", claimed_bytes=1 << 30), "an extended header of more"),
    "a huge long name": (extended(b"L", b"", claimed_bytes=1 << 30), "an extended header of more"),
    "extended headers without end": (extended(b"x", b"10 path=a\n")[:1024] * 9, "extended headers before one"),
    "a record longer than its header": (extended(b"x", b"99 path=a\n"), "damaged"),
    "a record of no length": (extended(b"x", b"path=a\n"), "damaged"),
    "a record of length zero": (extended(b"x", b"0 path=a\n"), "damaged"),
    "a record shorter than itself": (extended(b"x", b"2 path=a\n"), "damaged"),
    "a record without its end": (extended(b"x", b"8 path=a\n"), "damaged"),
    "a size that is no number": (extended(b"x", b"11 size=-1\n"), "a size in an extended header"),
    "an extended header and then nothing": (extended(b"x", b"10 path=a\n")[:1024], "cut off"),
    "an extended header and then the end": (extended(b"x", b"10 path=a\n")[:1024] + tar.END, "cut off"),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=f"^invalid archive: .*({reason})"):
        read(data)


def test_content_beyond_all_limits_is_refused_before_it_is_read() -> None:
    head = tar.header("a", tar.MAX_TOTAL_BYTES + 1)
    with pytest.raises(BadRequest, match="bytes of content"):
        next(tar.members(io.BytesIO(head)))


def test_members_without_end_are_refused() -> None:
    class Endless:
        """The same empty member again and again."""

        def read(self, size: int = -1, /) -> bytes:
            return tar.header("n", 0)

    with pytest.raises(BadRequest, match=f"more than {tar.MAX_MEMBERS} members"):
        for _ in tar.members(Endless()):
            pass


def test_an_archive_cut_anywhere_inside_is_noticed() -> None:
    data = archive(("x" * 120, b"long"), ("b", b"y" * 600))
    boundaries = {member.offset_bytes for member in tar.members(io.BytesIO(data))}
    end = max(boundaries) + 512 + 1024
    for length in range(1, end):
        if length in boundaries:
            continue  # between two members it may end; whoever misses one says so
        with pytest.raises(BadRequest, match=r"cut off|damaged|no tar header"):
            read(data[:length])


def test_a_small_file_that_is_large() -> None:
    with pytest.raises(BadRequest, match=r"^invalid archive: index.json is larger than 10 bytes$"):
        next(tar.members(io.BytesIO(ours(("index.json", b"x" * 11))))).whole(10)
