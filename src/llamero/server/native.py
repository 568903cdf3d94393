"""The native routes: which function answers `/`, `/api/...` and our own few. Source: native-api §1.2, §3."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .. import API_LEVEL
from ..config import Settings
from ..dialects import native
from ..dialects.gojson import encode
from ..errors import BadRequest
from ..messages import EmbedRequest
from ..names import ModelName, split_source
from . import library as models
from .answers import JSON, answer, warning_headers, with_headers
from .embedding import embed
from .guard import Role
from .inference import Inference
from .library import Library
from .reports import ProgressLine
from .routes import CREATE_BODY_BYTES, Handler, Route
from .streams import unless_gone
from .transfers import Transfers


class VersionReply(msgspec.Struct):
    version: str


class Native:
    """The handlers that run models, and the two that say we are there."""

    def __init__(self, inference: Inference, clock: native.Clock) -> None:
        self._inference = inference
        self._clock = clock

    async def root(self, request: Request, body: bytes) -> Response:
        return Response("Ollama is running", media_type="text/plain")

    async def version(self, request: Request, body: bytes) -> Response:
        return Response(encode(VersionReply(API_LEVEL)), media_type=JSON)

    async def chat(self, request: Request, body: bytes) -> Response:
        asked = native.read_chat(body)
        writer = native.ChatWriter(asked.model, self._clock, timings=asked.timings)
        steps = self._inference.chat(asked)
        return await answer(request, steps, writer, native.write_error, stream=asked.stream)

    async def generate(self, request: Request, body: bytes) -> Response:
        asked = native.read_generate(body)
        writer = native.GenerateWriter(asked.model, self._clock, timings=asked.timings)
        steps = self._inference.generate(asked)
        return await answer(request, steps, writer, native.write_error, stream=asked.stream)

    async def embed(self, request: Request, body: bytes) -> Response:
        asked, given = native.read_embed(body)
        base, _ = split_source(asked.model)
        if base:
            ModelName.parse(base)  # a bad name is told before a bad input, and that before a missing model
        inputs = native.read_inputs(given) if given is not None else []
        asked = dataclasses.replace(asked, inputs=tuple(inputs))
        embedded = await unless_gone(request, embed(self._inference, asked, normalize=True))
        # thousands of vectors take long to print, and others want to be answered meanwhile
        reply = await asyncio.to_thread(native.write_embed, asked.model, embedded, timings=asked.timings)
        response = Response(reply, media_type=JSON)
        return with_headers(response, warning_headers(embedded.warnings))

    async def embeddings(self, request: Request, body: bytes) -> Response:
        asked: EmbedRequest = native.read_embeddings(body)
        if not asked.model.strip():
            raise BadRequest("model is required")
        embedded = await unless_gone(request, embed(self._inference, asked, normalize=False))
        response = Response(native.write_embeddings(embedded), media_type=JSON)
        return with_headers(response, warning_headers(embedded.warnings))


def routes(
    inference: Inference, library: Library, transfers: Transfers, settings: Settings, clock: native.Clock
) -> list[Route]:
    own = Native(inference, clock)
    return [
        *_looking(own, library),
        *_answering(own, settings.max_body_bytes),
        *_managing(library, transfers),
    ]


def _looking(own: Native, library: Library) -> list[Route]:
    def get(path: str, handler: Handler, summary: str, role: Role, reply: type | None = None) -> list[Route]:
        return [Route(method, path, handler, summary, role, reply=reply) for method in ("GET", "HEAD")]

    return [
        *get("/", own.root, "Say that the server runs", role="none"),
        *get("/api/version", own.version, "The API level of this server", role="none", reply=VersionReply),
        *get("/api/tags", library.tags, "List the models on disk", role="infer", reply=models.TagsReply),
        Route("GET", "/api/ps", library.ps, "List the models in memory", "infer", reply=models.PsReply),
        Route(
            "POST",
            "/api/show",
            library.show,
            "Everything about one model",
            "infer",
            body=native.ShowBody,
            reply=models.ShowReply,
        ),
    ]


def _answering(own: Native, limit_bytes: int) -> list[Route]:
    return [
        Route(
            "POST",
            "/api/generate",
            own.generate,
            "Complete a prompt",
            "infer",
            body=native.GenerateBody,
            reply=native.GenerateReply,
            lines=native.GenerateReply,
            body_limit_bytes=limit_bytes,
        ),
        Route(
            "POST",
            "/api/chat",
            own.chat,
            "Answer a conversation",
            "infer",
            body=native.ChatBody,
            reply=native.ChatReply,
            lines=native.ChatReply,
            body_limit_bytes=limit_bytes,
        ),
        Route(
            "POST",
            "/api/embed",
            own.embed,
            "Turn texts into vectors",
            "infer",
            body=native.EmbedBody,
            reply=native.EmbedReply,
            body_limit_bytes=limit_bytes,
        ),
        Route(
            "POST",
            "/api/embeddings",
            own.embeddings,
            "Turn a text into a vector (deprecated)",
            "infer",
            body=native.EmbeddingsBody,
            reply=native.EmbeddingsReply,
            body_limit_bytes=limit_bytes,
        ),
    ]


def _managing(library: Library, transfers: Transfers) -> list[Route]:
    return [
        Route(
            "POST",
            "/api/create",
            library.create,
            "Make a model from another or from uploaded files",
            body=native.CreateBody,
            reply=ProgressLine,
            lines=ProgressLine,
            body_limit_bytes=CREATE_BODY_BYTES,
            bare_json_errors=True,
        ),
        Route("POST", "/api/copy", library.copy, "Give a model a second name", body=native.CopyBody),
        Route("DELETE", "/api/delete", library.delete, "Remove a model", body=native.DeleteBody),
        Route(
            "POST",
            "/api/pull",
            transfers.pull,
            "Fetch a model",
            body=native.PullBody,
            reply=ProgressLine,
            lines=ProgressLine,
            bare_json_errors=True,
        ),
        Route(
            "POST",
            "/api/push",
            transfers.push,
            "Send a model to a registry",
            body=native.PushBody,
            reply=ProgressLine,
            lines=ProgressLine,
            bare_json_errors=True,
        ),
        Route("HEAD", "/api/blobs/{digest}", library.blob_head, "Whether a blob is there"),
        Route("POST", "/api/blobs/{digest}", None, "Upload a blob", upload=library.blob_upload),
    ]
