"""A whole model as one file: the routes behind `ollama export` and `ollama import` (store-registry GAP-13).

    GET  /api/llamero/export?model=NAME    the archive, resumable by Range and If-Range
    POST /api/llamero/import?model=NAME    a manifest's own bytes, once its blobs are uploaded

Nothing is ever unpacked here: who imports an archive sends its blobs one by one (security §2).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..dialects.gojson import encode
from ..errors import BadRequest, Cancelled, LlameroError, ModelNotFound
from ..names import ModelName
from ..store import Store
from ..store.archive import MEDIA_TYPE, Archive, install, pack
from ..store.manifests import MAX_MANIFEST_BYTES
from .answers import JSON
from .audit import change, notes_of
from .ranges import asked_span
from .routes import Route
from .streams import unless_gone

log = logging.getLogger(__name__)

EXPORT_PATH = "/api/llamero/export"
IMPORT_PATH = "/api/llamero/import"


class ImportReply(msgspec.Struct):
    model: str


class Archives:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def export(self, request: Request, body: bytes) -> Response:
        text = _model(request)
        name = ModelName.parse(text)
        notes_of(request).model = name.full
        with contextlib.ExitStack() as unless_sent:
            try:
                archive = await asyncio.to_thread(self._pack, name, unless_sent)
            except ModelNotFound:
                raise ModelNotFound(f"model '{text}' not found") from None
            if request.method == "HEAD":
                span = asked_span({}, archive.size_bytes, archive.etag)
                return Response(headers=span.headers(archive.etag), media_type=MEDIA_TYPE)
            span = asked_span(request.headers, archive.size_bytes, archive.etag)
            blocks = archive.blocks(span.start, span.stop)
            headers = span.headers(archive.etag)
            return Sending(request, blocks, span.status, headers, unless_sent.pop_all())

    def _pack(self, name: ModelName, holding: contextlib.ExitStack) -> Archive:
        stored = self._store.manifests.read(self._store.manifests.adopt(name))
        holding.enter_context(self._store.hold(stored.manifest.digests))
        return pack(stored, self._store.blobs)

    async def import_(self, request: Request, body: bytes) -> Response:
        name = ModelName.parse(_model(request))
        stored = await change(request, self._store, name, lambda: install(self._store, name, body))
        log.info("imported model %s", stored)
        return Response(encode(ImportReply(stored.display)), media_type=JSON)


class Sending(Response):
    """An archive on its way, one block in memory at a time. Its blobs are held until it ends or nobody listens.

    What goes wrong after the first byte can only be said by hanging up: the reply is then shorter than announced.
    """

    def __init__(
        self,
        request: Request,
        blocks: Iterator[bytes],
        status: int,
        headers: dict[str, str],
        holding: contextlib.ExitStack,
    ) -> None:
        super().__init__(status_code=status, headers=headers, media_type=MEDIA_TYPE)
        self._request = request
        self._blocks = blocks
        self._holding = holding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await unless_gone(self._request, self._pump(send))
        except Cancelled:
            pass
        except LlameroError as error:
            log.error("an export ends early: %s", error)
        finally:
            await asyncio.to_thread(self._holding.close)  # it may remove what was deleted meanwhile

    async def _pump(self, send: Send) -> None:
        while block := await asyncio.to_thread(next, self._blocks, b""):
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _model(request: Request) -> str:
    text = request.query_params.get("model", "").strip()
    if not text:
        raise BadRequest("model is required")
    return text


def routes(store: Store) -> list[Route]:
    own = Archives(store)
    return [
        *(
            Route(method, EXPORT_PATH, own.export, "One file with a whole model", gives_away=True)
            for method in ("GET", "HEAD")
        ),
        Route(
            "POST",
            IMPORT_PATH,
            own.import_,
            "Make a model of a manifest and blobs that are there",
            reply=ImportReply,
            body_limit_bytes=MAX_MANIFEST_BYTES,
        ),
    ]
