"""One create at work: where it reports, whether anybody still wants it, and the blobs that it makes on the way.

What it made and no model uses when the block is left is gone: everything after a failure, intermediate steps always.
It knows no request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from ..errors import Busy, Cancelled, StorageError
from ..gguf import is_gguf
from ..messages import Progress
from ..names import Digest, ModelName
from ..store import Model, Store, files
from ..store import manifests as media
from ..store.manifests import Layer
from .rewrite import Source

log = logging.getLogger(__name__)

Report = Callable[[Progress], None]
"""What it raises (the client is gone) ends the create like any other error."""

NO_DIGEST = "0" * 19
"""Stands in progress lines for a file that has no digest yet: clients draw a bar where there is one."""

LAYER_OF_KIND = {"model": media.MODEL, "projector": media.PROJECTOR, "adapter": media.ADAPTER}


class Workshop:
    def __init__(self, store: Store, report: Report, cancelled: Callable[[], bool]) -> None:
        self.store = store
        self.report = report
        self.cancelled = cancelled
        self._made: list[Digest] = []
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()
        if self._made:
            try:
                self.store.discard(self._made)
            except (StorageError, Busy):
                log.exception("unused blobs stay until the next prune")

    def hold(self, digests: Iterable[Digest]) -> None:
        """Keep blobs from removal until the end."""
        self._held.enter_context(self.store.hold(list(digests)))

    def model(self, name: ModelName) -> Model:
        """A model whose files stay until the end. ModelNotFound."""
        return self._held.enter_context(self.store.using(name))

    def say(self, status: str) -> None:
        """Tell of a step that begins, unless nobody wants it any more."""
        self.report(Progress(status))
        self.check()

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    def check(self) -> None:
        """Cancelled when nobody wants the model any more."""
        if self.cancelled():
            raise Cancelled

    # --- looking at blobs ---

    def claims_gguf(self, digest: Digest) -> bool:
        with self.store.blobs.open(digest) as file:
            return is_gguf(file.read(4))

    def layer(self, digest: Digest) -> Layer:
        """The layer that a GGUF makes, which is checked completely: InvalidModelFile."""
        header = self.store.headers.check(digest)
        return Layer(LAYER_OF_KIND[header.kind], digest, header.size_bytes)

    @contextmanager
    def sources(self, digests: Iterable[Digest]) -> Iterator[list[Source]]:
        with ExitStack() as opened:
            yield [Source(opened.enter_context(self.store.blobs.open(digest))) for digest in digests]

    # --- making blobs ---

    def make(self, blocks: Iterable[bytes], *, about_bytes: int) -> Digest:
        """Store new content. DiskFull at once when `about_bytes` more do not fit."""
        self.store.blobs.require_space(about_bytes)
        with self.store.blobs.stage() as writer:
            for block in self._wanted(blocks):
                writer.write(block)
            return self._keep(writer.commit())

    def adopt(self, path: Path) -> Digest:
        """Make a finished file out of `store.scratch` a blob."""
        return self._keep(self.store.blobs.adopt(path, self.check))

    def put(self, content: bytes) -> str:
        """Store a small text. Returns the status that tells of it."""
        digest = Digest.of(content)
        if not self.store.blobs.exists(digest):
            self._keep(self.store.blobs.put(content))
        return self.use(digest)

    def use(self, digest: Digest) -> str:
        """Make a blob young, so that no program prunes it. Returns the status that tells of it."""
        self.store.blobs.touch(digest)
        return f"{'creating new' if digest in self._made else 'using existing'} layer {digest}"

    def _keep(self, digest: Digest) -> Digest:
        self.hold([digest])
        self._made.append(digest)
        return digest

    def _wanted(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The blocks, as long as somebody wants them. Reading them may meet the system's errors, as writing does."""
        with files.translated("make blob"):
            for block in blocks:
                self.check()
                yield block
