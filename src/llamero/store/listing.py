"""The list of models: one short record each, remembered as long as its manifest file stays the same.

Source: store-registry §8, native-api §3.4. A list of models that are all known opens no file at all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ..durations import SECOND
from ..errors import LlameroError
from ..names import Digest, ModelName
from .blobs import Blobs
from .manifests import TEXT_TYPES, Entry, Manifests
from .models import Details, Model

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Summary:
    """An entry of `/api/tags`."""

    name: ModelName
    digest: str
    modified_ns: int
    size_bytes: int
    details: Details
    context_length: int
    embedding_length: int
    capabilities: tuple[str, ...]
    remote_model: str
    remote_host: str


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: tuple[int, int, int, int]
    summary: Summary | None
    """None: broken, said so once."""
    needs: tuple[Digest, ...]
    """Small blobs without which the model is broken; they may vanish while the manifest stays."""


class Listing:
    def __init__(self, manifests: Manifests, blobs: Blobs, load: Callable[[ModelName], Model]) -> None:
        self._manifests = manifests
        self._blobs = blobs
        self._load = load
        self._known: dict[ModelName, _Known] = {}
        self._lock = threading.Lock()

    def summaries(self) -> list[Summary]:
        """Newest first by whole seconds, then by name. Broken models are left out, and named once in the log."""
        with self._lock:
            present = {entry.name: self._look(entry) for entry in self._manifests.entries()}
            self._known = present
        summaries = [known.summary for known in present.values() if known.summary is not None]
        return sorted(summaries, key=lambda each: (-(each.modified_ns // SECOND), each.name.display))

    def _look(self, entry: Entry) -> _Known:
        stamp = (entry.modified_ns, entry.size_bytes, entry.inode, entry.changed_ns)
        known = self._known.get(entry.name)
        same = known is not None and known.stamp == stamp
        if known and same and known.summary and all(self._blobs.exists(digest) for digest in known.needs):
            return known
        try:
            model = self._load(entry.name)
        except LlameroError as error:
            if known is None or not same or known.summary:
                log.warning("model %s is not listed: %s", entry.name, error)
            return _Known(stamp, None, ())
        manifest = model.manifest
        texts = [layer.digest for layer in manifest.of_type(*TEXT_TYPES)]
        return _Known(stamp, _summarise(model), (*texts, manifest.config.digest) if manifest.config else tuple(texts))


def _summarise(model: Model) -> Summary:
    return Summary(
        name=model.name,
        digest=model.digest,
        modified_ns=model.modified_ns,
        size_bytes=model.size_bytes,
        details=model.details(),
        context_length=model.context_length,
        embedding_length=model.embedding_length,
        capabilities=model.capabilities,
        remote_model=model.config.remote_model,
        remote_host=model.config.remote_host,
    )
