"""One file that holds a whole model: written from the store as a tar of an OCI image layout, installed from its parts.

An archive is never held or put together anywhere: it is computed from any byte to any other, so a download that broke
can go on. How one is read is in `tar` and `layout`; who reads it brings blob by blob and then the manifest.
Source: store-registry GAP-13.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ..errors import BadRequest, LlameroError, StorageError
from ..names import Digest, ModelName
from . import files, layout, models, tar
from .blobs import Blobs
from .layout import Reference
from .manifests import ADAPTER, DRAFT, MANIFEST_TYPE, MODEL, PROJECTOR, Layer, Manifest, Stored, parse_manifest

if TYPE_CHECKING:
    from . import Store

BLOCK_BYTES = 1 << 20
"""What is read from a blob at a time, and so what one download holds in memory."""

MEDIA_TYPE = "application/x-tar"


@dataclass(frozen=True, slots=True)
class Archive:
    """A model's archive, ready to be read while its blobs are held."""

    etag: str
    size_bytes: int
    _parts: tuple[bytes | Layer, ...]
    _blobs: Blobs

    def blocks(self, start: int, stop: int) -> Iterator[bytes]:
        """Its bytes from `start` up to `stop`. StorageError or BlobNotFound when a blob changes meanwhile."""
        at = 0
        for part in self._parts:
            begin, end = max(start - at, 0), min(stop - at, _size(part))
            at += _size(part)
            if begin >= end:
                continue
            if isinstance(part, bytes):
                yield part[begin:end]
            else:
                yield from self._slice(part.digest, begin, end)

    def _slice(self, digest: Digest, begin: int, end: int) -> Iterator[bytes]:
        with self._blobs.open(digest) as file, files.translated("read blob"):
            file.seek(begin)
            while begin < end:
                block = file.read(min(BLOCK_BYTES, end - begin))
                if not block:
                    raise StorageError(f'blob "{digest}" became shorter while it was read')
                begin += len(block)
                yield block


def pack(stored: Stored, blobs: Blobs) -> Archive:
    """The archive of a stored model. BlobNotFound or StorageError when what is stored is not the whole model.

    Order: the mark, the index, the manifest, the config, the layers: whoever reads it as a stream knows at once what it
    needs. Each blob stands in it once.
    """
    manifest = _strictly(stored)
    reference = Reference(Digest.of(manifest.raw), len(manifest.raw), stored.name.full, _media_type(manifest))
    index = layout.encode_index(reference)
    parts: list[bytes | Layer] = [
        _file(layout.MARK_FILE, layout.MARK)
        + _file(layout.INDEX_FILE, index)
        + _file(layout.blob_file(reference.digest), manifest.raw)
    ]
    first = () if manifest.config is None else (manifest.config,)
    for blob in {blob.digest: blob for blob in (*first, *manifest.layers)}.values():
        _insist_size(blobs, blob)
        parts += [tar.header(layout.blob_file(blob.digest), blob.size_bytes), blob, tar.padding(blob.size_bytes)]
    parts.append(tar.END)
    return Archive(layout.etag(index), sum(map(_size, parts)), tuple(parts), blobs)


def _strictly(stored: Stored) -> Manifest:
    try:
        return parse_manifest(stored.manifest.raw)
    except BadRequest as error:
        raise StorageError(f"model '{stored.name}': {error}") from None


def _media_type(manifest: Manifest) -> str:
    """What the manifest says it is; only OCI's own kind may say nothing."""
    given = msgspec.json.decode(manifest.raw).get("mediaType")
    return given if given in (MANIFEST_TYPE, layout.OCI_MANIFEST_TYPE) else layout.OCI_MANIFEST_TYPE


def _file(name: str, content: bytes) -> bytes:
    return tar.header(name, len(content)) + tar.padded(content)


def _size(part: bytes | Layer) -> int:
    return len(part) if isinstance(part, bytes) else part.size_bytes


def _insist_size(blobs: Blobs, blob: Layer) -> None:
    size_bytes = blobs.size(blob.digest)
    if size_bytes != blob.size_bytes:
        raise StorageError(f'blob "{blob.digest}" has {size_bytes} bytes, its manifest says {blob.size_bytes}')


# --- the other direction -------------------------------------------------------------------------------------------

_SHOWN_MISSING = 8
"""Digests in an error's text; who sent the archive has the whole list."""


def install(store: Store, name: ModelName, raw: bytes) -> ModelName:
    """Write a manifest whose blobs are there, byte for byte, once the model is known to be whole and usable.

    Returns the name as it is stored. BadRequest says what is missing or wrong; then nothing has changed. The first
    check of large weights takes seconds: run it in a thread.
    """
    manifest = parse_manifest(raw)
    with store.hold(manifest.digests):
        missing = [str(blob.digest) for blob in manifest.blobs if not store.blobs.exists(blob.digest)]
        if missing:
            more = f" and {len(missing) - _SHOWN_MISSING} more" if len(missing) > _SHOWN_MISSING else ""
            raise BadRequest(f"blobs are missing: {', '.join(missing[:_SHOWN_MISSING])}{more}")
        try:
            _check(store, Stored(name, manifest, 0))
        except LlameroError as error:
            # what is wrong with a stored model is the server's fault elsewhere; here the client brought it just now
            raise BadRequest(str(error)) from error
        for digest in manifest.digests:
            store.blobs.touch(digest)  # another program must not prune it in the moment before the manifest is there
        return store.write(name, raw)


def _check(store: Store, stored: Stored) -> None:
    for blob in stored.manifest.blobs:
        _insist_size(store.blobs, blob)
    models.load(stored, blobs=store.blobs, manifests=store.manifests, headers=store.headers)
    for layer in stored.manifest.of_type(MODEL, PROJECTOR, ADAPTER, DRAFT):
        store.headers.check(layer.digest)
