"""`import`: the models of one file, or of a pipe, into the server's store (store-registry GAP-13).

The file is read once and never unpacked: each blob goes to the server under its digest as it comes by, and the
manifests follow when all of it has been seen. What the server has is not sent again, so a broken import is repeated
cheaply. Members may stand in any order; other programs write the index last.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ..client import UPLOAD_BLOCK_BYTES, Client
from ..errors import BadRequest, InvalidName, LlameroError
from ..gguf import is_gguf
from ..names import Digest, ModelName
from ..store import layout, tar
from ..store.inflate import MAGIC as GZIP
from ..store.inflate import Inflated
from ..store.layout import Reference, Verified
from ..store.manifests import MAX_MANIFEST_BYTES, parse_manifest
from .app import App
from .progress import Display, steps

MAX_KEPT_BYTES = 64 << 20
"""Manifests kept in memory until the end; one is some kilobytes, and at most MAX_MANIFEST_BYTES."""
MAX_AFTER_END_BYTES = 1 << 20
"""What is read behind the archive's end: programs fill up to a record of 10 KiB, and a pipe is best read empty."""


def import_file(app: App, file: str, name: str, *, quiet: bool = False) -> None:
    """Import the models of an archive, packed or not. `name` is empty where the file's own names are to be used."""
    client = app.connect()
    with _opened(app, file) as stream:
        head = stream.head()
        if is_gguf(head):
            raise BadRequest("a GGUF file cannot be taken from a pipe: save it and import the file")
        if not tar.is_tar(head) and not head.startswith(GZIP):
            raise BadRequest(f"{file} is neither an exported model nor a GGUF file")
        archive = Inflated(stream) if head.startswith(GZIP) else stream
        with steps(app.terminal, quiet=quiet) as display:
            names = import_archive(client, archive, name, display)
    for each in names:
        app.terminal.out(f"imported '{each}'\n")


def import_archive(client: Client, stream: tar.Readable, name: str, display: Display) -> list[str]:
    """The names under which the server now has the models."""
    arriving = Arriving(client, name, display)
    for member in tar.members(stream):
        arriving.take(member)
    for _ in range(MAX_AFTER_END_BYTES // tar.BLOCK_BYTES):
        if not stream.read(tar.BLOCK_BYTES):
            break
    return arriving.finish()


class Arriving:
    """What is known of an archive while its members come by."""

    def __init__(self, client: Client, name: str, display: Display) -> None:
        self._client = client
        self._name = name
        self._display = display
        self._is_marked = False
        self._models: dict[Reference, str] = {}
        """What the index lists, and the names to import it under; empty until the index has come."""
        self._kept: dict[Digest, bytes] = {}
        """Manifests, and until the index has come whatever may be one."""
        self._kept_bytes = 0
        self._needed: frozenset[Digest] | None = None
        """The blobs of all models; None until every manifest has come."""

    def take(self, member: tar.Member) -> None:
        digest = layout.blob_digest(member.name)
        if digest is not None:
            self._take_blob(member, digest)
        elif member.name == layout.MARK_FILE:
            layout.check_mark(member.whole(layout.MAX_MARK_BYTES))
            self._is_marked = True
        elif member.name == layout.INDEX_FILE:
            if self._models:
                raise tar.bad(f"{layout.INDEX_FILE} stands in it twice")
            references = layout.decode_index(member.whole(layout.MAX_INDEX_BYTES))
            self._models = dict(zip(references, _names(references, self._name), strict=True))
            self._look_for_needed()

    def finish(self) -> list[str]:
        """Make the models, now that their blobs are there. BadRequest when the archive was not all that it must be."""
        if not self._is_marked or not self._models:
            raise tar.bad(f"it is no OCI image layout: it has no {layout.INDEX_FILE} or no {layout.MARK_FILE}")
        for reference in self._models:
            if reference.digest not in self._kept:
                raise tar.bad(f"the manifest {reference.digest} is not in it")
            if len(self._kept[reference.digest]) != reference.size_bytes:
                raise tar.bad(f"the manifest {reference.digest} has another size than {layout.INDEX_FILE} says")
        for digest in self._kept.keys() & (self._needed or frozenset()):
            self._send_small(digest, self._kept[digest])  # it looked like a manifest and is a layer
        self._display.status("writing manifest")
        return [
            self._client.import_manifest(name, self._kept[reference.digest]) for reference, name in self._models.items()
        ]

    def _take_blob(self, member: tar.Member, digest: Digest) -> None:
        def report(done_bytes: int) -> None:
            self._display.bar(str(digest), f"importing {digest.short}:", done_bytes, member.size_bytes)

        content = Verified(member, digest, report)
        if member.size_bytes <= MAX_MANIFEST_BYTES:
            data = content.whole()
            if self._may_be_manifest(digest, data):
                self._keep(digest, data)
            else:
                self._send_small(digest, data)
        elif self._is_lacking(digest):
            self._client.upload_blob(str(digest), content, member.size_bytes)
        else:
            content.exhaust()

    def _send_small(self, digest: Digest, data: bytes) -> None:
        if self._is_lacking(digest):
            self._client.upload_blob(str(digest), io.BytesIO(data), len(data))

    def _is_lacking(self, digest: Digest) -> bool:
        needed = self._needed is None or digest in self._needed
        return needed and not self._client.has_blob(str(digest))

    def _may_be_manifest(self, digest: Digest, data: bytes) -> bool:
        if self._models:
            return any(reference.digest == digest for reference in self._models)
        try:
            parse_manifest(data)
        except BadRequest:
            return False
        return True

    def _keep(self, digest: Digest, data: bytes) -> None:
        self._kept_bytes += len(data)
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise tar.bad(f"more than {MAX_KEPT_BYTES} bytes of manifests")
        self._kept[digest] = data
        self._look_for_needed()

    def _look_for_needed(self) -> None:
        digests = {reference.digest for reference in self._models}
        if digests and digests <= self._kept.keys():
            manifests = [parse_manifest(self._kept[digest]) for digest in digests]
            self._needed = frozenset().union(*(manifest.digests for manifest in manifests))


def _names(references: tuple[Reference, ...], given: str) -> list[str]:
    """The name of each model: the one that the user gave to the only one, or what the index calls it."""
    if given and len(references) > 1:
        raise BadRequest(f"the file holds {len(references)} models, which --as cannot all name")
    names = [given or reference.name for reference in references]
    for name in names:
        # programs for container images often note no more than a tag, which would make a model called `latest`
        if not given and "/" not in name and ":" not in name:
            raise BadRequest(f"the file does not name its model ({name or 'no name'}): give it one with --as NAME")
        try:
            ModelName.parse(name)
        except InvalidName:
            raise BadRequest(f"invalid model name: {name}") from None
    return names


class _Input:
    """A file or a pipe that tells its first bytes before they are read. Its errors name it."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        self._head = b""

    def head(self) -> bytes:
        """Its first block, or less when it is shorter."""
        while len(self._head) < tar.BLOCK_BYTES and (more := self._read(tar.BLOCK_BYTES - len(self._head))):
            self._head += more
        return self._head

    def read(self, size: int = UPLOAD_BLOCK_BYTES, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._read(size)

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise LlameroError(f"read {self._name}: {error.strerror or error}") from error


@contextmanager
def _opened(app: App, file: str) -> Iterator[_Input]:
    if file == "-":
        if app.terminal.stdin.isatty():
            raise BadRequest("standard input is a terminal: pipe an exported model into it, or name a file")
        yield _Input("standard input", app.terminal.stdin.buffer)
        return
    try:
        opened = open(file, "rb")  # noqa: SIM115  # closed below; only opening it is translated
    except OSError as error:
        raise BadRequest(f"open {file}: {error.strerror or error}") from None
    with opened:
        yield _Input(file, opened)
