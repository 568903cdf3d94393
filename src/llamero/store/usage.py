"""What the models take on the disk, and what would be free without some of them.

Models share blobs, so sizes do not add up; this says who shares what with whom. Source: cli §3.16 (`du`), §13 G-07.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import StorageError
from ..names import Digest, ModelName
from .blobs import Blobs
from .manifests import Manifests


@dataclass(frozen=True, slots=True)
class _Size:
    """Of a blob."""

    content_bytes: int
    disk_bytes: int
    """What removing it frees."""


@dataclass(frozen=True, slots=True)
class ModelUsage:
    name: ModelName
    size_bytes: int
    """Of all its blobs."""
    own_bytes: int
    """Of the blobs that no other model uses: what removing it frees."""
    shared_with: tuple[ModelName, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    models: tuple[ModelUsage, ...]
    """Largest first."""
    unused_bytes: int
    """Of files that no model uses: leftovers, interrupted downloads."""
    _digests: Mapping[ModelName, frozenset[Digest]]
    _sizes: Mapping[Digest, _Size]

    @property
    def models_bytes(self) -> int:
        """Of all models together, as if nothing were shared."""
        return sum(model.size_bytes for model in self.models)

    @property
    def disk_bytes(self) -> int:
        """Of every blob that some model uses, counted once; what is linked from elsewhere not at all."""
        return sum(size.disk_bytes for size in self._sizes.values())

    @property
    def saved_bytes(self) -> int:
        return self.models_bytes - self.disk_bytes

    def freed_by(self, names: Iterable[ModelName]) -> int:
        """Bytes that removing all of these together frees: what they share among themselves goes too."""
        gone = frozenset(names)
        needed = frozenset[Digest]().union(*(used for name, used in self._digests.items() if name not in gone))
        removed = frozenset[Digest]().union(*(self._digests.get(name, frozenset()) for name in gone))
        return sum(self._sizes[digest].disk_bytes for digest in removed - needed)


def measure(blobs: Blobs, manifests: Manifests) -> Usage:
    """Look at every manifest and every file. A link takes nothing: removing it frees nothing (store §2)."""
    digests = {
        stored.name: stored.manifest.digests for stored in manifests.all() if not isinstance(stored, StorageError)
    }
    users: dict[Digest, list[ModelName]] = {}
    for name, used in digests.items():
        for digest in used:
            users.setdefault(digest, []).append(name)
    sizes = {digest: _size(blobs.path(digest)) for digest in users}

    def usage_of(name: ModelName) -> ModelUsage:
        used = digests[name]
        others = {other for digest in used for other in users[digest]} - {name}
        return ModelUsage(
            name,
            sum(sizes[digest].content_bytes for digest in used),
            sum(sizes[digest].disk_bytes for digest in used if len(users[digest]) == 1),
            tuple(sorted(others, key=lambda other: other.display)),
        )

    models = sorted(map(usage_of, digests), key=lambda each: (-each.size_bytes, each.name.display))
    in_use = {blobs.path(digest).name for digest in users}
    return Usage(tuple(models), _unused_bytes(blobs, in_use), digests, sizes)


def _size(path: Path) -> _Size:
    try:
        content_bytes, status = path.stat().st_size, path.lstat()
    except OSError:
        return _Size(0, 0)
    is_only_name = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
    return _Size(content_bytes, _on_disk(status) if is_only_name else 0)


def _unused_bytes(blobs: Blobs, in_use: set[str]) -> int:
    total_bytes = 0
    try:
        with os.scandir(blobs.folder) as entries:
            for entry in entries:
                if entry.name not in in_use and entry.is_file(follow_symlinks=False):
                    total_bytes += _on_disk(entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return 0
    return total_bytes


def _on_disk(status: os.stat_result) -> int:
    """An interrupted download has holes, which take nothing; small files count as what they hold."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)
