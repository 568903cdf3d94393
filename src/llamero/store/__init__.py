"""The model store: one folder, shared with stock Ollama, in which names lead to manifests and manifests to blobs.

`Store` is what the rest of the program holds; the modules below it each know one kind of file. Nothing here talks to a
network or runs a model. Source: store-registry §2, §5, §8.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BlobNotFound, Busy, InvalidModelFile, InvalidName, ModelNotFound, NotFound, StorageError
from ..names import Digest, ModelName
from . import files, models, prune, usage
from .blobs import Blobs
from .check import Check, Finding
from .headers import Headers
from .linked import Linked
from .listing import Listing, Summary
from .locks import FileLock
from .manifests import ADAPTER, DRAFT, MODEL, PROJECTOR, Manifest, Manifests, Stored, parse_manifest
from .models import Model
from .prune import Pruned
from .staging import Staging
from .usage import Usage

__all__ = ["Finding", "Model", "Store", "Summary", "Usage"]

log = logging.getLogger(__name__)


class Store:
    """The facade of a models folder. Any thread may call it; nothing is made on disk before it is needed.

    Changes are made one at a time, also among several processes of ours: each locks `.llamero/changes`. `.llamero/lock`
    is held for the life of the server that prunes; another one runs without pruning.
    """

    def __init__(self, root: Path, *, no_prune: bool = False, go_template: bool | None = None) -> None:
        """`go_template` is the setting OLLAMA_GO_TEMPLATE, which decides what the models can do."""
        private = root / ".llamero"
        self.root = root
        self._no_prune = no_prune
        self._go_template = go_template
        self._staging = Staging(private / "tmp")
        self._changes = FileLock(private / "changes", stand_in=root)
        self._owner = FileLock(private / "lock")
        self.blobs = Blobs(root / "blobs", self._staging)
        self.manifests = Manifests(root / "manifests", self._staging)
        self.headers = Headers(self.blobs, private / "checked")
        self._pulled = private / "pulled"
        self.linked = Linked(self.blobs, self._staging, private / "linked")
        self._listing = Listing(self.manifests, self.blobs, self._load)
        self._condemned: set[Digest] = set()

    # --- reading ---

    def resolve(self, name: ModelName) -> Model:
        """Everything known about a model, by its name in any letter case. ModelNotFound, StorageError."""
        return self._load(self.manifests.adopt(name))

    @contextmanager
    def using(self, name: ModelName) -> Iterator[Model]:
        """`resolve`, and for the length of the block the model's files stay, whoever deletes or replaces it."""
        with self._held(self.manifests.adopt(name)) as stored:
            yield self._model(stored)

    def list(self) -> list[Summary]:
        """Every model that can be read, newest first; another program's changes included."""
        return self._listing.summaries()

    def check_weights(self, model: Model) -> None:
        """Make sure that the engine is never the first to read a model's files.

        The full check is made once for each file, and again when the file that it was linked from has changed.
        InvalidModelFile with status 500: the client did nothing wrong. NotFound when a file is missing, StorageError
        when that was linked from one which has changed.
        """
        for digest in _engine_files(model.manifest):
            try:
                self.headers.check(digest)
            except InvalidModelFile as error:
                why = self.linked.warning(digest)
                raise InvalidModelFile(f"{error.reason}; {why}" if why else error.reason, status=500) from error
            except BlobNotFound as error:
                if why := self.linked.warning(digest):
                    raise StorageError(why) from error
                raise NotFound(f"{error}: pull or create the model again") from error

    def source_warnings(self, model: Model) -> tuple[str, ...]:
        """What became of the files that the model shares its bytes with, where it was changed."""
        return tuple(filter(None, map(self.linked.warning, _engine_files(model.manifest))))

    def _load(self, name: ModelName) -> Model:
        with self._held(name) as stored:
            return self._model(stored)

    @contextmanager
    def _held(self, name: ModelName) -> Iterator[Stored]:
        """A manifest whose blobs are held. It is looked at again then: before, they may have gone with it."""
        while True:
            stored = self.manifests.read(name)
            with self.hold(stored.manifest.digests):
                if self.manifests.read(name) == stored:
                    yield stored
                    return

    def _model(self, stored: Stored) -> Model:
        for digest in filter(self.linked.changed, _engine_files(stored.manifest)):
            self.headers.forget(digest)
        return models.load(
            stored,
            blobs=self.blobs,
            manifests=self.manifests,
            headers=self.headers,
            go_template=self._go_template,
        )

    # --- changing ---

    def write(
        self, name: ModelName, raw: bytes, *, is_stub: bool = False, removing: Callable[[], None] | None = None
    ) -> ModelName:
        """Store a manifest under a name, in the spelling that is already there, and clean up after the one it replaces.

        BlobNotFound when a blob of it is missing: a manifest never points at nothing. Only the stub of a remote model,
        which is made here, may have no layers. `removing` is called before layers that no model uses any more are
        removed, if there are any.
        """
        manifest = parse_manifest(raw, strict=not is_stub)
        with self._changing():
            name = self.manifests.adopt(name)
            for digest in manifest.digests:
                if not self.blobs.exists(digest):
                    raise BlobNotFound(str(digest))
            replaced = self._digests_of(name)
            self.manifests.write(name, raw)
            unused = self._unused(replaced)
            if unused and not self._no_prune:
                if removing is not None:
                    removing()
                self._remove(unused)
        return name

    def mark_pulled(self, name: ModelName, digest: str, source: ModelName) -> None:
        """Remember where a manifest came from: its bytes may look as if made here, a name on disk has no scheme, and
        the model may have got another name than at its registry."""
        with files.translated("remember a pull"):
            files.make_inner_folder(self._pulled)
            with self._staging.file(self._pulled) as staged:
                staged.write(f"{source.scheme}://{source.full} {digest}".encode())
                staged.place(self._pull_record(name))

    def pulled_as(self, stored: Stored) -> ModelName | None:
        """The name, scheme included, under which a registry may have a newer one; None for what was made here."""
        try:
            source, _, digest = self._pull_record(stored.name).read_text().partition(" ")
            if digest == stored.manifest.digest:
                return ModelName.parse(source)
        except (OSError, UnicodeDecodeError, InvalidName):
            pass  # nothing of use is written down
        return None if stored.manifest.made_here else stored.name

    def _mark_same_source(self, name: ModelName, stored: Stored) -> None:
        """A new name must not lead to a stranger's model of that name."""
        if source := self.pulled_as(stored):
            self.mark_pulled(name, stored.manifest.digest, source)

    def _pull_record(self, name: ModelName) -> Path:
        return self._pulled / hashlib.sha256(name.full.lower().encode()).hexdigest()

    def copy(self, source: ModelName, destination: ModelName) -> ModelName:
        """Give a model a second name, by a byte copy of its manifest. Returns that name as spelled. ModelNotFound."""
        with self._changing():
            stored = self.manifests.read(self.manifests.adopt(source))
            destination = self.manifests.adopt(destination)
            if destination.parts != stored.name.parts:
                self.manifests.write(destination, stored.manifest.raw)
                self._mark_same_source(destination, stored)
        return destination

    def move(self, source: ModelName, destination: ModelName) -> ModelName:
        """Give a model another name instead of its own. Returns it as spelled. ModelNotFound.

        A destination that is the same name in other letters only changes the spelling.
        """
        with self._changing():
            stored = self.manifests.read(self.manifests.adopt(source))
            there = self.manifests.adopt(destination)
            target = destination if there.parts == stored.name.parts else there
            if target.parts == stored.name.parts:
                return target
            replaced = self._digests_of(there) if there.parts != stored.name.parts else frozenset()
            self.manifests.write(target, stored.manifest.raw)
            self._mark_same_source(target, stored)
            if not self.manifests.same(target, stored.name):
                self.manifests.remove(stored.name)
            if not self._no_prune:
                self._remove(self._unused(replaced))
        return target

    def delete(self, name: ModelName) -> int:
        """Remove a model and the blobs that no other uses, at once and whatever `no_prune`. Returns bytes freed."""
        with self._changing():
            name = self.manifests.adopt(name)
            digests = self.manifests.read(name).manifest.digests
            self.manifests.remove(name)
            return self._remove(self._unused(digests))

    def discard(self, digests: Iterable[Digest]) -> None:
        """Remove blobs that were made for a manifest which then was not written, unless a model uses them by now."""
        with self._changing():
            self._remove(self._unused(digests))

    def usage(self) -> Usage:
        """What every model takes, and what it shares."""
        with files.translated("measure the models folder"):
            return usage.measure(self.blobs, self.manifests)

    def check(
        self,
        report: Callable[[int, int], None] = lambda completed, total: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Check:
        """Examine everything, reading every byte, by iterating over what this returns."""
        return Check(self.blobs, self.manifests, self.headers, self.pulled_as, report, cancelled)

    @contextmanager
    def without(self, damaged: Iterable[Digest]) -> Iterator[None]:
        """Put damaged blobs aside while a sound one is fetched; an error inside the block brings them back."""
        with self.scratch() as folder:
            aside = {digest: folder / digest.hex for digest in damaged if self.blobs.exists(digest)}
            for digest, path in aside.items():
                with files.translated("put a damaged blob aside"):
                    self.blobs.path(digest).rename(path)
                self.headers.forget(digest)
            try:
                yield
            except BaseException:
                for digest, path in aside.items():
                    if not self.blobs.exists(digest):
                        path.rename(self.blobs.path(digest))
                raise

    @contextmanager
    def hold(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Keep blobs from removal for the length of the block: a pull, a create or a loaded engine relies on them.

        What was to be removed meanwhile goes when the block is left, which then reads all manifests.
        """
        try:
            with self.blobs.hold(digests):
                yield
        finally:
            self._sweep_condemned()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A private folder on the store's file system for the length of the block. After a crash `start` removes it."""
        with files.translated("use a temporary folder"), self._staging.folder() as folder:
            yield folder

    # --- housekeeping ---

    def require_folder(self) -> None:
        """Raises StorageError where nothing can ever be kept: the folder's place, or one above it, is a file's."""
        above = self.root.absolute()
        nearest = next(path for path in (above, *above.parents) if os.path.exists(path))  # False if it may not be seen
        if not nearest.is_dir():
            raise StorageError(f"mkdir {nearest}: not a directory: ensure path elements are traversable")

    def start(self) -> Pruned:
        """What a server does first: claim the folder, clear up after a crash, and prune unless told not to.

        When another server has claimed it, this one leaves all that alone.
        """
        if not self._claim():
            return Pruned()
        with self._changing():
            self._staging.sweep()
            prune.rename_legacy(self.blobs.folder)
        return Pruned() if self._no_prune else self.prune()

    def prune(self, *, dry_run: bool = False, downloads: bool = False) -> Pruned:
        """Remove what no model uses and nobody made within the hour; with `dry_run` only say what.

        `downloads`: also those that could be resumed.
        """
        if not self._claim():
            return Pruned(refusal="another server uses this models folder: nothing is removed here")
        with self._changing():
            return prune.prune(self.blobs, self.manifests, dry_run=dry_run, downloads=downloads)

    def close(self) -> None:
        """Give up the claim. A process that ends does so by itself."""
        self._owner.release()

    def _claim(self) -> bool:
        with files.translated("lock the models folder"):
            claimed = self._owner.is_ours or self._owner.try_acquire()
        if not claimed:
            log.warning("another server uses this models folder: nothing is pruned here")
        return claimed

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with files.translated("change the models folder"), self._changes.held():
            yield

    def _digests_of(self, name: ModelName) -> frozenset[Digest]:
        try:
            return self.manifests.read(name).manifest.digests
        except (ModelNotFound, StorageError):
            return frozenset()

    def _unused(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Those of them that no readable manifest lists."""
        unused = frozenset(digests)
        for stored in self.manifests.all():
            if not unused:
                break
            if not isinstance(stored, StorageError):
                unused -= stored.manifest.digests
        return unused

    def _remove(self, unused: Iterable[Digest]) -> int:
        freed_bytes = 0
        for digest in unused:
            freed_bytes += self.blobs.remove(digest, "no model uses it")
            if self.blobs.is_held(digest):
                self._condemned.add(digest)
            else:
                self.headers.forget(digest)
                self.linked.forget(digest)
        return freed_bytes

    def _sweep_condemned(self) -> None:
        free = [digest for digest in list(self._condemned) if not self.blobs.is_held(digest)]
        if not free:
            return
        try:
            with self._changing():
                self._condemned.difference_update(free)
                self._remove(self._unused(free))
        except (StorageError, Busy):
            log.exception("unused blobs stay until the next prune")


def _engine_files(manifest: Manifest) -> list[Digest]:
    """The blobs that an engine opens; of weights and drafts the last wins."""
    layers = (*manifest.of_type(MODEL)[-1:], *manifest.of_type(PROJECTOR, ADAPTER), *manifest.of_type(DRAFT)[-1:])
    return [layer.digest for layer in layers]
