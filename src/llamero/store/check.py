"""The store examined: every manifest parsed, every blob read and hashed. It repairs nothing.

Source: cli §3.16 (`doctor --store`), store-registry GAP-11, S-108.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import Cancelled, InvalidDigest, LlameroError, ModelNotFound, StorageError
from ..names import Digest, ModelName
from ..sizes import human_bytes
from . import files
from .blobs import Blobs
from .headers import Headers
from .layers import Config
from .manifests import ADAPTER, DRAFT, MAX_CONFIG_BYTES, MODEL, PROJECTOR, Layer, Manifest, Manifests, Stored

Level = Literal["ok", "warn", "fail"]

_BLOCK_BYTES = 1 << 20
_PARTIAL = re.compile(r"sha256-([0-9a-fA-F]{64})(?:-partial|\.tmp)")
_PARTIAL_STATE = re.compile(r"sha256-[0-9a-fA-F]{64}-partial-[0-9]+")
_PRUNED = "ollama prune removes it when it is an hour old"
_MISSING = "is missing"
_WEIGHTS = frozenset({MODEL, PROJECTOR, ADAPTER, DRAFT})


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    subject: str
    """A model's name, or what file."""
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
    """One examination, made by iterating over it: a Finding for each model, and for each file that no model uses.

    `report(completed, total)` counts bytes of blobs. Raises Cancelled when `cancelled` says so, and StorageError.
    """

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
        self._total_bytes = sum(_size(path) for path in self._files() if _digest(path.name))

    def __iter__(self) -> Iterator[Finding]:
        with files.translated("examine the models folder"):
            for stored in list(self._manifests.all()):
                found = self._unreadable(stored) if isinstance(stored, StorageError) else self._model(stored)
                if found is not None:
                    yield found
            for path in self._files():
                yield from self._file(path.name)

    def mended(self, digests: Iterable[Digest]) -> None:
        """These were damaged and are so no more: other models that use them are sound."""
        for digest in digests:
            self._examined[digest] = _Blob(size_bytes=self._blobs.size(digest))

    def _files(self) -> list[Path]:
        folder = self._blobs.folder
        return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []

    def _unreadable(self, error: StorageError) -> Finding:
        return Finding("fail", "manifest", str(error), "remove the file, or pull or create the model again")

    def _model(self, stored: Stored) -> Finding | None:
        """None when it was deleted. All this may take hours, in which models come and go."""
        found = self._judgement(stored)
        if found.level == "ok":
            return found
        try:
            newer = self._manifests.read(stored.name)
        except ModelNotFound:
            return None
        except StorageError as error:
            return self._unreadable(error)
        if newer == stored:
            return found
        for digest in found.damaged:
            del self._examined[digest]
        return self._model(newer)

    def _judgement(self, stored: Stored) -> Finding:
        manifest, subject = stored.manifest, stored.name.display
        damages = {layer.digest: problem for layer in manifest.blobs if (problem := self._damage(layer))}
        if damages:
            advice = "ollama doctor --store --repair" if self._pulled_as(stored) else "create it again"
            return Finding("fail", subject, _listed(damages), advice, stored.name, tuple(damages))
        if defects := {each.digest: defect for each in manifest.blobs if (defect := self._defect(each, manifest))}:
            return Finding("fail", subject, _listed(defects), "it cannot be used as it is", stored.name)
        count = len(manifest.digests)
        return Finding("ok", subject, f"{count} blobs, {human_bytes(manifest.size_bytes)}", name=stored.name)

    def _damage(self, layer: Layer) -> str:
        """How a layer's blob is not what the manifest says; empty when it is."""
        found = self._blob(layer.digest)
        if found.problem or found.size_bytes == layer.size_bytes:
            return found.problem
        return f"has {found.size_bytes} bytes and not the {layer.size_bytes} of its manifest"

    def _defect(self, layer: Layer, manifest: Manifest) -> str:
        """Why a blob that is what it should be cannot be used all the same."""
        try:
            if layer.media_type in _WEIGHTS:
                self._headers.check(layer.digest)
            elif layer == manifest.config:
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
            return _Blob(_MISSING if getattr(error, "status", 0) == 404 else f"cannot be read: {error}")
        return _Blob("" if seen.hexdigest() == digest.hex else "is damaged: its content has another digest", size_bytes)

    def _file(self, name: str) -> Iterator[Finding]:
        """What is to be said about a file that no model led to."""
        if _PARTIAL_STATE.fullmatch(name):
            return
        if partial := _PARTIAL.fullmatch(name):
            yield Finding("ok", f"download {Digest(partial[1].lower()).short}", "can be resumed")
            return
        digest = _digest(name)
        if digest is None:
            yield Finding("warn", f"file {name}", "is no blob", _PRUNED)
        elif digest not in self._examined:
            blob = self._blob(digest)
            if blob.problem == _MISSING:
                return  # somebody has removed it just now
            if blob.problem:
                yield Finding("fail", f"blob {digest.short}", f"{blob.problem}; no model uses it", _PRUNED)
            else:
                size = human_bytes(blob.size_bytes)
                yield Finding("warn", f"blob {digest.short}", f"no model uses it, {size}", _PRUNED)


def _listed(problems: Mapping[Digest, str]) -> str:
    return "; ".join(f"blob {digest.short} {problem}" for digest, problem in problems.items())


def _digest(name: str) -> Digest | None:
    try:
        return Digest.parse(name)
    except InvalidDigest:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it has gone meanwhile
        return 0
