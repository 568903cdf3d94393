"""OpenAI's routes: chat completions, completions, embeddings, models. Source: compat-api §1.1, §4 to §7."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects.gojson import decode_value
from ..dialects.images import remote_urls
from ..dialects.openai import chat_reply, completion_reply, embeddings, errors, model_pages, models
from ..dialects.openai.chat import read_chat
from ..dialects.openai.completion_reply import Echo
from ..dialects.openai.completions import Completion, read_completion
from ..dialects.openai.models import KnownModel
from ..dialects.openai.reply import Head
from ..durations import SECOND
from ..errors import InvalidField, ModelNotFound
from ..names import ModelName
from ..pictures import Pictures
from ..store import Store
from .answers import BARE_JSON, warning_headers, with_headers
from .anthropic import ERRORS as ANTHROPIC_ERRORS
from .embedding import embed
from .inference import Inference
from .replies import reply, side_by_side
from .routes import ErrorShape, Handler, Route
from .shelf import Shelf
from .streams import unless_gone


def errors_about(prompt: str) -> ErrorShape:
    """How a route says what went wrong whose prompt is in the field of this name."""
    return ErrorShape(
        partial(errors.write_error, prompt=prompt),
        errors.OpenAIErrorReply,
        errors.status_of,
        errors.headers_of,
        "x-request-id",
        lambda method, path, _: errors.not_found(method, path),
    )


ERRORS = errors_about("messages")
SHARED_ERRORS = replace(ERRORS, others={b"anthropic-version": ANTHROPIC_ERRORS})
"""Of paths that both APIs have: each client reads errors in its own form only."""

Clock = Callable[[], int]
"""Nanoseconds since 1970."""


def _id(prefix: str) -> str:
    return prefix + secrets.token_hex(14)


class OpenAI:
    def __init__(
        self, inference: Inference, store: Store, settings: Settings, pictures: Pictures, clock: Clock
    ) -> None:
        self._inference = inference
        self._pictures = pictures
        self._store = store
        self._shelf = Shelf(store)
        self._effort_fallback = settings.effort_fallback
        self._completions_raw = settings.completions_raw
        self._clock = clock

    def _head(self, prefix: str, model: str) -> Head:
        return Head(_id(prefix), self._clock() // SECOND, model)

    async def chat(self, request: Request, body: bytes) -> Response:
        fetched = await unless_gone(request, self._pictures.fetch(lambda: remote_urls(decode_value(body))))
        asked = read_chat(body, effort_fallback=self._effort_fallback, fetched=fetched)
        head = self._head("chatcmpl-", asked.request.model)
        runs = [self._inference.chat(replace(asked.request, number=number)) for number in range(asked.n)]
        logprobs = asked.request.logprobs
        writer = chat_reply.ChatStream(head, logprobs, asked.include_usage, asked.is_legacy)
        return await reply(
            request,
            side_by_side(runs),
            count=asked.n,
            writer=writer if asked.request.stream else None,
            whole=lambda choices: chat_reply.write_chat(head, choices, logprobs=logprobs, is_legacy=asked.is_legacy),
        )

    async def completions(self, request: Request, body: bytes) -> Response:
        asked = read_completion(body, raw=self._completions_raw)
        head = self._head("cmpl-", asked.request.model)
        echoes = await unless_gone(request, self._echoes(asked))
        runs = [self._inference.generate(each) for each in asked.requests()]
        writer = completion_reply.CompletionStream(head, asked, echoes)
        return await reply(
            request,
            side_by_side(runs),
            count=len(runs),
            writer=writer if asked.request.stream else None,
            whole=lambda answers: completion_reply.write_completion(head, asked, answers, echoes),
        )

    async def _echoes(self, asked: Completion) -> list[Echo]:
        """The prompts as text, in front of the answers."""
        if not asked.echo:
            return []
        if asked.logprobs:
            raise InvalidField("the log-probabilities of a prompt cannot be told: echo without logprobs", "logprobs")
        # the model stays as it is: what `keep_alive` says comes true behind the answers
        model = replace(asked.request, keep_alive_ns=None)
        texts = [
            prompt if isinstance(prompt, str) else (await self._inference.detokenize(model, prompt, "prompt")).value
            for prompt in asked.prompts
        ]
        return [Echo(text) for text in texts]

    async def embeddings(self, request: Request, body: bytes) -> Response:
        asked = embeddings.read_embeddings(body)
        embedded = await unless_gone(request, embed(self._inference, asked.request, normalize=True))
        reply = await asyncio.to_thread(embeddings.write_embeddings, asked, embedded)
        response = Response(reply, media_type=BARE_JSON)
        return with_headers(response, warning_headers(embedded.warnings))

    # --- models ------------------------------------------------------------------------------------------------------

    async def models(self, request: Request, body: bytes) -> Response:
        known = [
            KnownModel(each.name, each.modified_ns, each.context_length)
            for each in await asyncio.to_thread(self._shelf.list)
        ]
        if _is_anthropic(request):
            return _json(model_pages.write_page(known, model_pages.read_page(request.query_params)))
        return _json(models.write_models(known))

    async def model(self, request: Request, body: bytes) -> Response:
        write = model_pages.write_info if _is_anthropic(request) else models.write_model
        id_, name = _named(request)
        try:
            model = await asyncio.to_thread(self._shelf.resolve, name)
        except ModelNotFound:
            raise ModelNotFound(f"model '{name.display}' not found") from None
        return _json(write(id_, KnownModel(model.name, model.modified_ns, model.context_length)))

    async def delete(self, request: Request, body: bytes) -> Response:
        id_, name = _named(request)
        try:
            await asyncio.to_thread(self._store.delete, name)
        except ModelNotFound:
            raise ModelNotFound(f"model '{name.display}' not found") from None
        return _json(models.write_deleted(id_))


def _json(body: bytes) -> Response:
    return Response(body, media_type=BARE_JSON)


def _is_anthropic(request: Request) -> bool:
    """Whether Anthropic's client asks."""
    return request.state.errors is ANTHROPIC_ERRORS


def _named(request: Request) -> tuple[str, ModelName]:
    """The name in a path: its slashes may be escaped, or be slashes."""
    parts = [request.path_params[part] for part in ("host", "namespace", "model") if part in request.path_params]
    id_ = unquote("/".join(parts))
    return id_, ModelName.parse(id_)


def routes(inference: Inference, store: Store, settings: Settings, pictures: Pictures, clock: Clock) -> list[Route]:
    own = OpenAI(inference, store, settings, pictures, clock)
    limit = settings.max_body_bytes

    def post(path: str, handler: Handler, prompt: str, summary: str) -> Route:
        shape = errors_about(prompt)
        return Route("POST", path, handler, summary, "infer", body_limit_bytes=limit, errors=shape, inflates=True)

    table = [
        post("/v1/chat/completions", own.chat, "messages", "Answer a conversation, in OpenAI's form"),
        post("/v1/completions", own.completions, "prompt", "Complete a prompt, in OpenAI's form"),
        post("/v1/embeddings", own.embeddings, "input", "Turn texts into vectors, in OpenAI's form"),
        Route(
            "GET", "/v1/models", own.models, "List the models, in the form of who asks", "infer", errors=SHARED_ERRORS
        ),
    ]
    for path in ("{model}", "{namespace}/{model}", "{host}/{namespace}/{model}"):
        table += [
            Route("GET", f"/v1/models/{path}", own.model, "One model", "infer", errors=SHARED_ERRORS),
            Route("DELETE", f"/v1/models/{path}", own.delete, "Remove a model", errors=SHARED_ERRORS),
        ]
    return table
