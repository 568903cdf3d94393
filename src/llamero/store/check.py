"""The store examined: every manifest parsed, every blob read and hashed. It repairs nothing.

Source: cli §3.16 (`doctor --store`), store-registry GAP-11, S-108.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import Cancelled, InvalidDigest, LlameroError, StorageError
from ..names import Digest, ModelName
from . import files
from .blobs import Blobs
from .headers import Headers
from .layers import Config
from .manifests import ADAPTER, DRAFT, MAX_CONFIG_BYTES, MODEL, PROJECTOR, Layer, Manifests, Stored

Level = Literal["ok", "warn", "fail"]

_BLOCK_BYTES = 1 << 20
_PARTIAL = re.compile(r"sha256-[0-9a-fA-F]{64}-partial(-[0-9]+)?|sha256-[0-9a-fA-F]{64}\.tmp")
_WEIGHTS = frozenset({MODEL, PROJECTOR, ADAPTER, DRAFT})


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    subject: str
    """A model's name, or a file's."""
    text: str
    advice: str = ""
    """What to do."""
    name: ModelName | None = None
    damaged: tuple[Digest, ...] = ()
    """Blobs of the model that are missing or not what their name says."""


@dataclass(frozen=True, slots=True)
class _Blob:
    problem: str = ""
    """Empty: it is what its name says."""
    size_bytes: int = 0


class Check:
    """One examination. `report(completed, total)` counts bytes of blobs; `cancelled` ends it with Cancelled."""

    def __init__(
        self,
        blobs: Blobs,
        manifests: Manifests,
        headers: Headers,
        pulled_as: Callable[[Stored], ModelName | None],
        report: Callable[[int, int], None] = lambda completed, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._blobs = blobs
        self._manifests = manifests
        self._headers = headers
        self._pulled_as = pulled_as
        self._report = report
        self._cancelled = cancelled
        self._examined: dict[Digest, _Blob] = {}
        self._completed_bytes = 0
        self._total_bytes = sum(path.stat().st_size for path in self._files() if _digest(path.name))

    def findings(self) -> Iterator[Finding]:
        """One for each model, and one for each file that is not as it should be. Cancelled, StorageError."""
        with files.translated("examine the models folder"):
            for stored in list(self._manifests.all()):
                yield self._unreadable(stored) if isinstance(stored, StorageError) else self._model(stored)
            used = set(self._examined)
            for path in self._files():
                yield from self._file(path.name, used)

    def _files(self) -> list[Path]:
        folder = self._blobs.folder
        return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    def _unreadable(self, error: StorageError) -> Finding:
        return Finding("fail", "manifest", str(error), "remove the file, or pull or create the model again")

    def _model(self, stored: Stored) -> Finding:
        manifest, subject = stored.manifest, stored.name.display
        problems = {layer.digest: problem for layer in manifest.blobs if (problem := self._layer(layer))}
        if problems:
            text = "; ".join(f"blob {digest.short} {problem}" for digest, problem in problems.items())
            advice = "run with --repair, or pull it again" if self._pulled_as(stored) else "create it again"
            return Finding("fail", subject, text, advice, stored.name, tuple(problems))
        count = len(manifest.digests)
        return Finding("ok", subject, f"{count} blobs, {manifest.size_bytes} bytes", name=stored.name)

    def _layer(self, layer: Layer) -> str:
        """What is wrong with a layer's blob; empty when nothing is."""
        found = self._blob(layer.digest)
        if found.problem:
            return found.problem
        if found.size_bytes != layer.size_bytes:
            return f"has {found.size_bytes} bytes, its manifest says {layer.size_bytes}"
        try:
            if layer.media_type in _WEIGHTS:
                self._headers.check(layer.digest)
            elif layer.media_type.endswith("container.image.v1+json"):
                Config.decode(self._blobs.read(layer.digest, MAX_CONFIG_BYTES))
        except LlameroError as error:
            return f"is unusable: {error}"
        return ""

    def _blob(self, digest: Digest) -> _Blob:
        if digest not in self._examined:
            self._examined[digest] = self._hash(digest)
        return self._examined[digest]

    def _hash(self, digest: Digest) -> _Blob:
        seen, size_bytes = hashlib.sha256(), 0
        try:
            with self._blobs.open(digest) as file:
                while block := file.read(_BLOCK_BYTES):
                    if self._cancelled():
                        raise Cancelled
                    seen.update(block)
                    size_bytes += len(block)
                    self._completed_bytes += len(block)
                    self._report(self._completed_bytes, self._total_bytes)
        except Cancelled:
            raise
        except (LlameroError, OSError) as error:
            return _Blob("is missing" if getattr(error, "status", 0) == 404 else f"cannot be read: {error}")
        return _Blob("" if seen.hexdigest() == digest.hex else "is damaged: its content has another digest", size_bytes)

    def _file(self, name: str, used: set[Digest]) -> Iterator[Finding]:
        if _PARTIAL.fullmatch(name):
            if not re.search(r"-partial-[0-9]+$", name):
                yield Finding("ok", name, "a download that can be resumed")
            return
        digest = _digest(name)
        if digest is None:
            yield Finding("warn", name, "no blob", "prune removes it after an hour")
        elif digest not in used:
            problem = self._blob(digest).problem
            if problem:
                yield Finding("fail", name, problem, "prune removes it: no model uses it")
            else:
                yield Finding("warn", name, "no model uses it", "prune removes it after an hour")


def _digest(name: str) -> Digest | None:
    try:
        return Digest.parse(name)
    except InvalidDigest:
        return None
