"""The OCI image layout: what the files of an archive are called and what its two small JSON files say. It opens none.

Source: OCI image-spec 1.0 (image-layout, image-index, annotations); store-registry GAP-13.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import BadRequest, InvalidDigest
from ..names import Digest
from . import canonical
from .manifests import MANIFEST_TYPE
from .tar import SKIP_BYTES, Member, bad

MARK_FILE = "oci-layout"
MARK = b'{"imageLayoutVersion":"1.0.0"}'
INDEX_FILE = "index.json"
BLOBS = "blobs/sha256/"

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"

MAX_MARK_BYTES = 64 << 10
MAX_INDEX_BYTES = 4 << 20
MAX_REFERENCES = 1000
"""Models in one archive."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A manifest that the index names."""

    digest: Digest
    size_bytes: int
    name: str
    """What the index calls it; empty when it does not."""
    media_type: str = MANIFEST_TYPE


def blob_file(digest: Digest) -> str:
    return f"{BLOBS}{digest.hex}"


def blob_digest(file: str) -> Digest | None:
    """The digest that a file's name promises; None for what is no blob."""
    try:
        return Digest(file.removeprefix(BLOBS)) if file.startswith(BLOBS) else None
    except InvalidDigest:
        return None


class Verified:
    """The content of a blob's member, ending in an error instead of its last bytes when its name promised others."""

    def __init__(self, member: Member, digest: Digest, report: Callable[[int], None] = lambda done_bytes: None) -> None:
        """`report` is told how many bytes have been read."""
        self._member = member
        self._digest = digest
        self._report = report
        self._hash = hashlib.sha256()
        self._done_bytes = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes, and none only at the end. BadRequest for a wrong digest, or an archive cut off."""
        data = self._member.content.read(size)
        self._hash.update(data)
        self._done_bytes += len(data)
        if self._done_bytes == self._member.size_bytes and self._hash.hexdigest() != self._digest.hex:
            got = f"sha256:{self._hash.hexdigest()}"
            raise BadRequest(f'digest mismatch, expected "{self._digest}", got "{got}"')
        self._report(self._done_bytes)
        return data

    def whole(self) -> bytes:
        """All of it; for small blobs."""
        return b"".join(iter(lambda: self.read(SKIP_BYTES), b""))

    def exhaust(self) -> None:
        """Read to the end for the check alone."""
        while self.read(SKIP_BYTES):
            pass


def encode_index(reference: Reference) -> bytes:
    """The index of an archive with one model."""
    entry = {
        "mediaType": reference.media_type,
        "digest": str(reference.digest),
        "size": reference.size_bytes,
        "annotations": {REF_NAME: reference.name},
    }
    return canonical.encode({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def etag(index: bytes) -> str:
    """Names the bytes of an archive that we write: its index says the model's name, and all else follows from that."""
    return f'"{hashlib.sha256(index).hexdigest()}"'


def check_mark(raw: bytes) -> None:
    version = _object(raw, MARK_FILE).get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise bad(f"{MARK_FILE} names no version that we know")


def decode_index(raw: bytes) -> tuple[Reference, ...]:
    """The manifests of an index. BadRequest names what is wrong with it."""
    entries = _object(raw, INDEX_FILE).get("manifests")
    if not isinstance(entries, list) or not entries:
        raise bad(f"{INDEX_FILE} lists no manifest")
    if len(entries) > MAX_REFERENCES:
        raise bad(f"{INDEX_FILE} lists more than {MAX_REFERENCES} manifests")
    return tuple(_reference(entry) for entry in entries)


def _reference(entry: Any) -> Reference:
    if not isinstance(entry, dict):
        raise bad(f"an entry of {INDEX_FILE} is not an object")
    media_type, digest, size_bytes = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if media_type not in (MANIFEST_TYPE, OCI_MANIFEST_TYPE):
        raise bad(f"{INDEX_FILE} lists what is no manifest: {str(media_type)[:100]}")
    if not isinstance(digest, str) or isinstance(size_bytes, bool) or not isinstance(size_bytes, int):
        raise bad(f"an entry of {INDEX_FILE} lacks its digest or size")
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    try:
        return Reference(Digest.parse(digest), size_bytes, name if isinstance(name, str) else "", media_type)
    except InvalidDigest:
        raise bad(f"a digest of {INDEX_FILE} is malformed") from None


def _object(raw: bytes, file: str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise bad(f"{file} is not JSON") from None
    if not isinstance(document, dict):
        raise bad(f"{file} is not an object")
    return document
