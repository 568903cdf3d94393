"""The tar format, as far as an archive of models needs it: headers to write, a stream to read from. It opens no file.

Written are plain POSIX headers with nothing of this machine in them, so that equal content gives equal bytes. Read is
what any usual program writes (POSIX, pax, GNU long names), as if an enemy had written it (security §2, archives): one
pass, bounded memory, no name is ever used as a path, and whatever is neither a file nor a folder is refused. The
standard library's reader is not used because it keeps extended headers of any size in memory, accepts a damaged header
after the first as the end, and remembers every member.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from ..errors import BadRequest

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)

MAX_MEMBERS = 50_000
"""A model has at most 4,096 layers; an archive may hold a shelf of models, and its folders count too."""
MAX_TOTAL_BYTES = 8 << 40
"""All content together: as much as one layer may have (security §10.2)."""
MAX_EXTENDED_BYTES = 64 << 10
"""One extended header: a name, a size and times are some hundred bytes."""
MAX_EXTENDED = 4
"""Extended headers before one member; programs write one, or two for a long name."""
SKIP_BYTES = 1 << 20

_OCTAL_LIMIT_BYTES = 8**11
"""From here on a size has no room in the eleven digits of a header and goes into an extended one."""


class Readable(Protocol):
    """A stream: `read` gives at most `size` bytes, and none only at its end."""

    def read(self, size: int = ..., /) -> bytes: ...


# --- writing -------------------------------------------------------------------------------------------------------


def header(name: str, size_bytes: int) -> bytes:
    """What stands before a file's content. `name` is ASCII of at most 100 characters."""
    if size_bytes < _OCTAL_LIMIT_BYTES:
        return _block(name, size_bytes, b"0")
    record = _record("size", str(size_bytes))
    return _block(f"PaxHeaders/{name}"[:100], len(record), b"x") + padded(record) + _block(name, 0, b"0")


def padding(size_bytes: int) -> bytes:
    """What stands after that many bytes of content."""
    return bytes(-size_bytes % BLOCK_BYTES)


def padded(content: bytes) -> bytes:
    return content + padding(len(content))


def _block(name: str, size_bytes: int, kind: bytes) -> bytes:
    before = name.encode("ascii").ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size_bytes
    before += b"%011o\0" % 0  # modified in 1970: the same model is the same bytes whenever it is written
    after = kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
    block = (before + b" " * 8 + after).ljust(BLOCK_BYTES, b"\0")
    return before + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: str) -> bytes:
    """`<length> key=value\\n`, where the length counts its own digits."""
    rest = f" {key}={value}\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return f"{length}{rest}".encode()


# --- reading -------------------------------------------------------------------------------------------------------


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with these 512 bytes is a tar archive of this century."""
    return head[257:262] == b"ustar"


class Content:
    """The content of a member, to be read once and before the next member is asked for."""

    def __init__(self, source: _Source, size_bytes: int) -> None:
        self._source = source
        self._padding_bytes = -size_bytes % BLOCK_BYTES
        self._left_bytes = size_bytes

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, and none only at the end. BadRequest when the archive ends before the content does."""
        data = self._source.some(self._left_bytes if size < 0 else min(size, self._left_bytes))
        self._left_bytes -= len(data)
        return data

    def skip(self) -> None:
        """Pass over what nobody has read, and the padding."""
        self._left_bytes, left_bytes = 0, self._left_bytes + self._padding_bytes
        while left_bytes:
            left_bytes -= len(self._source.some(min(left_bytes, SKIP_BYTES)))


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    """Relative, with `/` between its parts, none of them empty, `.` or `..`."""
    offset_bytes: int
    """Where its headers begin in the archive."""
    size_bytes: int
    content: Content

    def whole(self, limit_bytes: int) -> bytes:
        """All of a small file. BadRequest when it is larger than that."""
        if self.size_bytes > limit_bytes:
            raise bad(f"{self.name} is larger than {limit_bytes} bytes")
        return b"".join(iter(lambda: self.content.read(SKIP_BYTES), b""))


def members(stream: Readable) -> Iterator[Member]:
    """The regular files of an archive, in its order. Raises BadRequest for all that an archive of models cannot need.

    It ends at the archive's end mark, or with the stream between two members; what follows the mark is left unread.
    """
    source = _Source(stream)
    total_bytes = 0
    for _ in range(MAX_MEMBERS):
        offset_bytes = source.offset_bytes
        head = _next(source)
        if head is None:
            return
        total_bytes += head.size_bytes
        if total_bytes > MAX_TOTAL_BYTES:
            raise bad(f"more than {MAX_TOTAL_BYTES} bytes of content")
        content = Content(source, head.size_bytes)
        if head.kind in _FILES:
            yield Member(head.name, offset_bytes, head.size_bytes, content)
        content.skip()
    raise bad(f"more than {MAX_MEMBERS} members")


def bad(reason: str) -> BadRequest:
    return BadRequest(f"invalid archive: {reason}")


class _Source:
    """The stream, and how far it has been read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.offset_bytes = 0

    def some(self, size: int) -> bytes:
        """Between one byte and `size` of them."""
        if not size:
            return b""
        data = self._stream.read(size)
        if not data:
            raise bad("it is cut off")
        self.offset_bytes += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        parts = []
        while size:
            parts.append(self.some(size))
            size -= len(parts[-1])
        return b"".join(parts)

    def block(self) -> bytes:
        """The next block; nothing when the stream ends just before it."""
        first = self._stream.read(BLOCK_BYTES)
        self.offset_bytes += len(first)
        return first + self.exactly(BLOCK_BYTES - len(first)) if first else b""


@dataclass(frozen=True, slots=True)
class _Header:
    kind: bytes
    raw_name: bytes
    size_bytes: int
    name: str = ""
    """The checked name, once all headers of the member are read."""


_FILES = (b"0", b"\0")
_FOLDER = b"5"
_PAX, _PAX_FOR_ALL, _GNU_NAME = b"x", b"g", b"L"
_REFUSED = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "sparse"}


def _next(source: _Source) -> _Header | None:
    """The next member's header, with what the extended headers before it say; None at the end of the archive."""
    raw_name: bytes | None = None
    size_bytes: int | None = None
    for seen in range(MAX_EXTENDED + 1):
        block = source.block()
        if not block.strip(b"\0"):
            if seen:
                raise bad("it is cut off")
            return None
        head = _parse(block)
        if head.kind == _PAX:
            records = _records(_extended(source, head))
            raw_name = records.get(b"path", raw_name)
            size_bytes = _decimal(records[b"size"]) if b"size" in records else size_bytes
        elif head.kind == _PAX_FOR_ALL:
            if _records(_extended(source, head)).keys() & {b"path", b"size"}:
                raise bad("one name or size for all members")
        elif head.kind == _GNU_NAME:
            raw_name = _extended(source, head).rstrip(b"\0")
        else:
            return _checked(
                replace(
                    head,
                    raw_name=head.raw_name if raw_name is None else raw_name,
                    size_bytes=head.size_bytes if size_bytes is None else size_bytes,
                )
            )
    raise bad(f"more than {MAX_EXTENDED} extended headers before one member")


def _checked(head: _Header) -> _Header:
    name = _clean(head.raw_name)
    if head.kind in _FILES and name and not head.raw_name.endswith(b"/"):
        return replace(head, name=name)
    if head.kind == _FOLDER and not head.size_bytes:
        return replace(head, name=name)
    what = _REFUSED.get(head.kind, "neither a file nor a folder")
    raise bad(f"{name[:100]!r} is {what}")


def _parse(block: bytes) -> _Header:
    if not is_tar(block):
        raise bad("no tar header where one must be")
    if _octal(block[148:156]) != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        raise bad("a header is damaged")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":  # GNU's own headers have times where the prefix would be
        prefix = block[345:500].partition(b"\0")[0]
        name = prefix + b"/" + name if prefix else name
    return _Header(block[156:157], name, _size(block[124:136]))


def _size(field: bytes) -> int:
    """Octal digits, or GNU's binary number behind a byte of 0x80."""
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise bad("a number in a header is none")
    return int(digits or b"0", 8)


def _decimal(value: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,20}", value):
        raise bad("a size in an extended header is none")
    return int(value)


def _extended(source: _Source, head: _Header) -> bytes:
    if head.size_bytes > MAX_EXTENDED_BYTES:
        raise bad(f"an extended header of more than {MAX_EXTENDED_BYTES} bytes")
    data = source.exactly(head.size_bytes)
    source.exactly(-head.size_bytes % BLOCK_BYTES)
    return data


_RECORD_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")


def _records(data: bytes) -> dict[bytes, bytes]:
    """The records of a pax header by their keys."""
    records = {}
    at = 0
    while at < len(data):
        length = _RECORD_LENGTH.match(data, at)
        end = at + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise bad("an extended header is damaged")
        key, _, value = data[length.end() : end - 1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise bad("a sparse file")
        records[key] = value
        at = end
    return records


_DRIVE = re.compile(r"[A-Za-z]:")


def _clean(raw: bytes) -> str:
    """A member's name as a relative path; BadRequest for one that could lead anywhere else, on any system."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise bad("a name that is not UTF-8") from None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts or "\\" in name or "\0" in name:
        raise bad(f"the name {name[:100]!r} leads elsewhere")
    return "/".join(parts)
