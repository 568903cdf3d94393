"""What is shared: the models of the store that have bytes of their own, and the blobs that their manifests list.

It sends nothing. Manifests are read again only when their files change. Source: store-registry GAP-12.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ...errors import BlobNotFound, LlameroError, ModelNotFound
from ...names import Digest, ModelName
from ...store import Store
from ...store.layers import Config
from ...store.manifests import MAX_CONFIG_BYTES, Entry, Manifest
from ..shelf import Shelf
from .errors import RepositoryNotFound


@dataclass(frozen=True, slots=True)
class _Record:
    stamp: tuple[int, int, int]
    digest: str
    """Of the manifest: 64 hex digits."""
    blobs: frozenset[Digest]
    is_stub: bool
    """A model that runs elsewhere: there is nothing to share."""


class Catalog:
    """Any thread may ask, in the context of the caller: to a key that is for some models only no others are shared."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shelf = Shelf(store)
        self._records: dict[ModelName, _Record] = {}
        self._lock = threading.Lock()

    def repositories(self, host: str) -> list[str]:
        """`<namespace>/<model>` of every model of a registry host, in byte order."""
        shared = self._shared()
        return sorted({_repository(name) for name in shared if name.host.lower() == host.lower()})

    def tags(self, of: ModelName) -> list[str]:
        """Every tag of a model, in byte order. RepositoryNotFound when there is none."""
        tags = sorted(name.tag for name in self._shared() if _same_repository(name, of))
        if not tags:
            raise RepositoryNotFound(_repository(of))
        return tags

    def manifest(self, name: ModelName) -> Manifest:
        """The manifest of a name in any letter case. ModelNotFound."""
        name = self._store.manifests.adopt(name)
        if name not in self._shared():
            raise ModelNotFound(f"model '{name}' not found")
        return self._store.manifests.read(name).manifest

    def holds(self, name: ModelName) -> bool:
        """Whether a model is here, shared or not."""
        try:
            self._store.manifests.read(self._store.manifests.adopt(name))
        except ModelNotFound:
            return False
        return True

    def manifest_by_digest(self, of: ModelName, digest: Digest) -> Manifest:
        """The manifest of some bytes among all tags of a model. ModelNotFound."""
        for name, record in self._shared().items():
            if record.digest == digest.hex and _same_repository(name, of):
                manifest = self._store.manifests.read(name).manifest
                if manifest.digest == digest.hex:  # it may have been replaced since
                    return manifest
        raise ModelNotFound(f"manifest '{digest}' not found")

    def require_blob(self, digest: Digest) -> None:
        """BlobNotFound unless the manifest of some shared model lists it, whichever model that is.

        A neighbour asks for digests under the name that it knows, and the same weights may have another one here.
        """
        if not any(digest in record.blobs for record in self._shared().values()):
            raise BlobNotFound(str(digest))

    def _shared(self) -> dict[ModelName, _Record]:
        with self._lock:
            found = {entry.name: self._look(entry) for entry in self._store.manifests.entries()}
            self._records = {name: record for name, record in found.items() if record is not None}
            shared = {name: record for name, record in self._records.items() if not record.is_stub}
        return {name: record for name, record in shared.items() if self._shelf.allows(name)}

    def _look(self, entry: Entry) -> _Record | None:
        """None: it cannot be read, which may change while its manifest stays."""
        stamp = (entry.modified_ns, entry.size_bytes, entry.inode)
        known = self._records.get(entry.name)
        if known is not None and known.stamp == stamp:
            return known
        try:
            manifest = self._store.manifests.read(entry.name).manifest
            return _Record(stamp, manifest.digest, manifest.digests, self._is_stub(manifest))
        except LlameroError:
            return None  # the store's own listing says so in the log

    def _is_stub(self, manifest: Manifest) -> bool:
        if manifest.config is None:
            return False
        return bool(Config.decode(self._store.blobs.read(manifest.config.digest, MAX_CONFIG_BYTES)).remote_host)


def _repository(name: ModelName) -> str:
    return f"{name.namespace}/{name.model}"


def _same_repository(name: ModelName, other: ModelName) -> bool:
    return [part.lower() for part in name.parts[:3]] == [part.lower() for part in other.parts[:3]]
