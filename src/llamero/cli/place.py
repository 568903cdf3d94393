"""Files of the user linked into the store instead of sent to the server (store-registry GAP-02).

It works when the server is on this machine and its models folder is this user's own. The server is never given a path:
it finds a blob that is there already.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..client import Client
from ..errors import BadRequest, LlameroError, StorageError
from ..names import Digest
from ..store import Store
from .app import App
from .sniff import SNIFFED_BYTES

NOT_HERE = "--in-place needs a server on this machine whose models folder is yours"


class Placer:
    """Links files where that is possible. This one cannot."""

    def place(self, path: Path, report: Callable[[int, int], None]) -> Digest | None:
        """The digest of a file that is a blob now; None when it has to be sent.

        `report(completed, total)` counts the bytes read; what it raises ends the work.
        """
        return None


class Linking(Placer):
    def __init__(self, store: Store, *, in_place: bool) -> None:
        self._store = store
        self._in_place = in_place

    def place(self, path: Path, report: Callable[[int, int], None]) -> Digest | None:
        try:
            digest, _ = self._store.linked.place(path, in_place=self._in_place and _is_gguf(path), report=report)
        except StorageError:
            if self._in_place:
                raise
            return None  # what this user may not do there, the server may
        return digest


def placer(app: App, client: Client, *, in_place: bool) -> Placer:
    """The way for this server and this user. BadRequest when `in_place` is asked and impossible."""
    folder = _own_folder(app, client)
    if folder is not None:
        return Linking(Store(folder), in_place=in_place)
    if in_place:
        raise BadRequest(NOT_HERE)
    return Placer()


def _own_folder(app: App, client: Client) -> Path | None:
    """The server's models folder, when it is on this machine and belongs to who runs this command."""
    if os.name != "posix" or not app.settings.host.is_loopback:
        return None
    try:
        folder = Path(client.models_folder())
    except LlameroError:
        return None  # stock Ollama, or a tunnel to another machine: then the files are sent
    # nothing is made before it is needed, so the folder itself may still be missing
    there = next((each for each in (folder / "blobs", folder, folder.parent) if each.is_dir()), None)
    if there is None or not folder.is_absolute() or there.stat().st_uid != os.geteuid():
        return None
    return folder if os.access(there, os.W_OK) else None


def _is_gguf(path: Path) -> bool:
    from ..gguf import is_gguf

    with path.open("rb") as file:
        return is_gguf(file.read(SNIFFED_BYTES))
