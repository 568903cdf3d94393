"""Housekeeping at the start of a server: what no model uses goes, what somebody may still want stays.

Source: store-registry §2 (legacy names), §5, GAP-10, GAP-17. The caller holds the store's locks.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..durations import HOUR
from ..errors import InvalidDigest, StorageError
from ..names import Digest
from . import files, partials
from .blobs import Blobs
from .manifests import Manifests

log = logging.getLogger(__name__)

GRACE_NS = HOUR
"""Younger files are spared: another program may have made them and not yet written its manifest."""
PARTIAL_GRACE_NS = 7 * 24 * HOUR
"""Interrupted downloads can be resumed for a week."""

_PARTIAL = re.compile(r"(sha256-[0-9a-fA-F]{64}(?:-partial|\.tmp))(-[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Pruned:
    names: tuple[str, ...] = ()
    """Files that were removed, or with `dry_run` would be."""
    freed_bytes: int = 0
    refusal: str = ""
    """Why nothing was looked for; empty when it was."""


def rename_legacy(folder: Path) -> None:
    """Give blobs of early releases, `sha256:<rest>`, their present name. Subfolders are searched too, links not."""
    for parent, _, names in os.walk(folder, followlinks=False):
        for name in names:
            kind, colon, rest = name.partition(":")
            if colon and kind == "sha256":
                target = Path(parent) / f"sha256-{rest}"
                if not os.path.lexists(target):
                    os.rename(Path(parent) / name, target)


def prune(blobs: Blobs, manifests: Manifests, *, dry_run: bool = False, downloads: bool = False) -> Pruned:
    """Remove the blobs that no manifest lists and the leftovers in their folder.

    With `downloads` also those that could be resumed, unless they are running. A single unreadable manifest stops it,
    since nobody knows what that one needs.
    """
    used: set[Digest] = set()
    for stored in manifests.all():
        if isinstance(stored, StorageError):
            log.warning("corrupt manifests detected, skipping prune: %s", stored)
            return Pruned(refusal=f"nothing is removed while a manifest cannot be read: {stored}")
        used |= stored.manifest.digests
    names, freed_bytes = [], 0
    for path, reason in _unused(blobs, used, downloads):
        with suppress(FileNotFoundError):  # somebody else was faster
            freed_bytes += os.lstat(path).st_size if dry_run else files.unlink(path, reason)
            names.append(path.name)
    if not dry_run:
        manifests.remove_empty_folders()
    return Pruned(tuple(names), freed_bytes)


def _unused(blobs: Blobs, used: set[Digest], downloads: bool) -> Iterator[tuple[Path, str]]:
    now_ns = time.time_ns()
    files_ns = _files(blobs.folder)
    partials_ns = _newest_partials(files_ns)
    busy = {name for name in partials_ns if partials.is_busy(blobs.folder / name)} if downloads else set()
    for path, modified_ns in files_ns.items():
        if partial := _PARTIAL.fullmatch(path.name):
            # states alone resume nothing: they are left when a kill falls between the end of a download and their own
            grace_ns = PARTIAL_GRACE_NS if blobs.folder / partial[1] in files_ns else GRACE_NS
            if now_ns - partials_ns[partial[1]] >= grace_ns:
                yield path, "an abandoned download"
            elif downloads and partial[1] not in busy:
                yield path, "an interrupted download that is not wanted any more"
            continue
        if now_ns - modified_ns < GRACE_NS:
            continue
        try:
            digest = Digest.parse(path.name)
        except InvalidDigest:
            yield path, "not a blob"
            continue
        if digest not in used and not blobs.is_held(digest):
            yield path, "no model uses it"


def _files(folder: Path) -> dict[Path, int]:
    """Files and links in the folder itself, with their own times in nanoseconds."""
    found: dict[Path, int] = {}
    if not folder.exists():
        return found
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                found[path] = status.st_mtime_ns
    return found


def _newest_partials(files_ns: dict[Path, int]) -> dict[str, int]:
    """When each download last got a byte. Its parts finish at different times, and one part gone spoils the rest."""
    newest: dict[str, int] = {}
    for path, modified_ns in files_ns.items():
        if partial := _PARTIAL.fullmatch(path.name):
            newest[partial[1]] = max(modified_ns, newest.get(partial[1], 0))
    return newest
