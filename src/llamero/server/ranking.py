"""Reranking: a query and documents in, the documents in their order out. Source: native-api §3.22; scheduler §16."""

from __future__ import annotations

import math
import secrets
import time

from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects import rerank as dialect
from ..errors import ContextTooLong, Incapable, InputTooLong
from ..messages import Ranked, Reranked, RerankRequest, Usage
from . import claims
from .answers import BARE_JSON, JSON, warning_headers, with_headers
from .inference import Inference
from .openai import errors_about
from .routes import Route
from .streams import unless_gone
from .turn import Job, Ready

CUT = "document {} is longer than the context: {} tokens left out"

MAX_MARKS = 16
"""Tokens around a query and a document, generously: more can only be had by counting."""


async def rerank(inference: Inference, request: RerankRequest) -> Reranked:
    """The documents that answer best, best first. What is too long of them is cut off, and said."""
    started_ns = time.monotonic_ns()
    model = await inference.model(request.model, f"model '{request.model}' not found")
    job = inference.job(model, request, started_ns)
    if not job.wanted.plan.reranking:
        raise Incapable(f'"{request.model}" does not support rerank', request.model, "rerank")
    return await inference.once(job, lambda ready: _rerank(job, request, ready), claims.whole(request))


async def _rerank(job: Job, request: RerankRequest, ready: Ready) -> Reranked:
    warnings = [*job.warnings]
    asked_ns = time.monotonic_ns()
    try:
        documents = await _cut(request, ready, warnings)
        scores, tokens = await ready.wire.rerank(request.query, documents)
    except ContextTooLong as error:
        raise InputTooLong from error
    usage = Usage(prompt_tokens=tokens, prompt_ns=time.monotonic_ns() - asked_ns)
    ready.note(ready.account(usage))
    ranking = [Ranked(index, _relevance(score)) for index, score in enumerate(scores)]
    ranking.sort(key=lambda ranked: -ranked.relevance)  # equals stay in the order that they came in
    return Reranked(tuple(ranking[: request.top_n]), usage, tuple(warnings))


async def _cut(request: RerankRequest, ready: Ready, warnings: list[str]) -> list[str]:
    """Documents that fit the window together with the query; what is cut is named."""
    window = min(ready.ctx_tokens, ready.plan.batch_tokens)  # most of these models read a text in one piece
    query_bytes = len(request.query.encode())
    documents = [*request.documents]
    # a token is at least one byte: shorter texts need no counting
    long = [i for i, text in enumerate(documents) if query_bytes + len(text.encode()) + MAX_MARKS > window]
    if not long:
        return documents
    _, around = await ready.wire.rerank(request.query, [""])
    room = window - around
    if room < 1:
        raise InputTooLong
    for index in long:
        tokens = await ready.wire.tokenize(documents[index])
        if len(tokens) > room:
            documents[index] = await ready.wire.detokenize(tokens[:room])
            warnings.append(CUT.format(index, len(tokens) - room))
    return documents


def _relevance(score: float) -> float:
    """The logistic function, from 0 to 1."""
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    grown = math.exp(score)  # the other form would overflow
    return grown / (1 + grown)


def routes(inference: Inference, settings: Settings) -> list[Route]:
    async def native(request: Request, body: bytes) -> Response:
        asked = dialect.read_rerank(body)
        found = await unless_gone(request, rerank(inference, asked.request))
        reply = dialect.write_rerank(asked, found)
        return with_headers(Response(reply, media_type=JSON), warning_headers(found.warnings))

    async def v1(request: Request, body: bytes) -> Response:
        asked = dialect.read_v1_rerank(body)
        found = await unless_gone(request, rerank(inference, asked.request))
        reply = dialect.write_v1_rerank(asked, found, f"rerank-{secrets.token_hex(12)}")
        return with_headers(Response(reply, media_type=BARE_JSON), warning_headers(found.warnings))

    limit = settings.max_body_bytes
    summary = "Rank documents by how well they answer a query"
    return [
        Route(
            "POST",
            "/api/rerank",
            native,
            summary,
            "infer",
            body=dialect.RerankBody,
            reply=dialect.RerankReply,
            body_limit_bytes=limit,
        ),
        Route(
            "POST",
            "/v1/rerank",
            v1,
            f"{summary}, in Jina's and Cohere's form",
            "infer",
            reply=dialect.V1RerankReply,
            body_limit_bytes=limit,
            errors=errors_about("query"),
            inflates=True,
        ),
    ]
