"""Push: a model from the store into the repository of its name, blob by blob and the manifest last.

It says what is sent in which order; how a blob travels is `upload`'s. Source: store-registry §4, GAP-07.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from ..errors import ModelNotFound, StorageError
from ..messages import Progress
from ..names import ModelName
from ..store import Store
from ..store.manifests import MANIFEST_TYPE, TENSOR, Layer, Manifest
from .limit import Pace
from .lines import WHOLE_MODEL, Lines, Report
from .session import Session
from .upload import ANY_STATUS, LAYERS, TENSORS, Manner, is_there, one_failure, refusal, upload

log = logging.getLogger(__name__)

OCI_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"

QUESTIONS_AT_ONCE = 128
"""Blobs of a model of many that are asked for at once (§4.3)."""


async def push(
    store: Store,
    name: ModelName,
    session: Session,
    *,
    pace: Pace,
    report: Report,
    streams: int = 4,
    layers: Manner = LAYERS,
    tensors: Manner = TENSORS,
) -> None:
    """Send a model to the session's repository under the name's tag; what is there already is not sent again.

    Of a model made of many blobs, `streams` travel at once. Raises ModelNotFound, BlobNotFound and StorageError for
    what is wrong with the model here, RegistryError and Forbidden for the rest. The caller reports `success`.
    """
    report(Progress("retrieving manifest"))
    try:
        manifest = store.manifests.read(store.manifests.adopt(name)).manifest
    except (ModelNotFound, StorageError) as error:
        report(Progress("couldn't retrieve manifest"))
        # the request was in order: 500, as clients know it (native-api §3.15)
        raise ModelNotFound(str(error), status=500) from error
    with store.hold(manifest.digests):
        if manifest.of_type(TENSOR):
            await _Many(store, manifest, session, pace, report, tensors).send(streams)
        else:
            await _send_in_turn(store, manifest, session, pace, report, layers)
    report(Progress("pushing manifest"))
    await _put_manifest(manifest, name.tag, session)
    log.info("pushed %s, manifest %s", name, manifest.digest)


async def _send_in_turn(
    store: Store, manifest: Manifest, session: Session, pace: Pace, report: Report, manner: Manner
) -> None:
    for layer in manifest.blobs:
        lines = Lines(f"pushing {layer.digest.short}", str(layer.digest), layer.size_bytes, report)
        if not await is_there(session, layer.digest):
            lines.tell(0)
            await upload(store.blobs, layer, session, pace=pace, report=lines.tell, manner=manner)
        lines.finish()


class _Many:
    """A model of many small blobs: asked for and sent side by side, and told as one (§4.3)."""

    def __init__(
        self, store: Store, manifest: Manifest, session: Session, pace: Pace, report: Report, manner: Manner
    ) -> None:
        self._store = store
        self._layers = list({layer.digest: layer for layer in manifest.blobs}.values())
        self._session = session
        self._pace = pace
        self._manner = manner
        self._lines = Lines("pushing model", WHOLE_MODEL, sum(layer.size_bytes for layer in self._layers), report)
        self._sent_bytes = 0

    async def send(self, streams: int) -> None:
        missing = await self._missing()
        self._sent_bytes = sum(layer.size_bytes for layer in self._layers if layer not in missing)
        self._lines.tell(self._sent_bytes)
        free = asyncio.Semaphore(streams)
        with one_failure():
            async with asyncio.TaskGroup() as group:
                for layer in missing:
                    group.create_task(self._upload(layer, free))
        self._lines.finish()

    async def _missing(self) -> set[Layer]:
        missing: set[Layer] = set()
        free = asyncio.Semaphore(QUESTIONS_AT_ONCE)

        async def ask(layer: Layer) -> None:
            async with free:
                if not await is_there(self._session, layer.digest):
                    missing.add(layer)

        with one_failure():
            async with asyncio.TaskGroup() as group:
                for layer in self._layers:
                    group.create_task(ask(layer))
        return missing

    async def _upload(self, layer: Layer, free: asyncio.Semaphore) -> None:
        seen_bytes = 0

        def report(sent_bytes: int) -> None:
            nonlocal seen_bytes
            self._sent_bytes += sent_bytes - seen_bytes
            seen_bytes = sent_bytes
            self._lines.tell(self._sent_bytes)

        async with free:
            await upload(self._store.blobs, layer, self._session, pace=self._pace, report=report, manner=self._manner)


async def _put_manifest(manifest: Manifest, tag: str, session: Session) -> None:
    """The stored bytes, unchanged: what we do not know in them is kept, and so is the digest (GAP-07)."""
    answer = await session.request(
        "PUT",
        session.path(f"manifests/{tag}"),
        headers={"Content-Type": _media_type(manifest)},
        data=manifest.raw,
        expect=ANY_STATUS,
        follow=False,
    )
    if answer.status >= 300:
        raise refusal(answer, session)


def _media_type(manifest: Manifest) -> str:
    """What the manifest calls itself: registries compare. Only an OCI manifest may leave it out."""
    stated = msgspec.json.decode(manifest.raw).get("mediaType", OCI_MANIFEST_TYPE)
    return OCI_MANIFEST_TYPE if stated == OCI_MANIFEST_TYPE else MANIFEST_TYPE
