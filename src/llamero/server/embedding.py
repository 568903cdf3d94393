"""Embeddings: texts in, vectors out, cut to the model's window. Source: native-api §3.9, §3.10; scheduler §16."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from ..errors import BadRequest, ContextTooLong, EngineError, EngineGone, InputTooLong, NotANumber
from ..messages import Embedded, EmbedRequest, Usage
from .inference import Inference
from .turn import Job, Ready, check_tokens

CUT = "input {} is longer than the context: {} tokens left out"
CANNOT_CUT = "input after truncation exceeds maximum context length"

_LENGTH_WORDS = ("too large", "context size", "context length", "physical batch size", "exceeds the available context")


async def embed(inference: Inference, request: EmbedRequest, *, normalize: bool) -> Embedded:
    """One vector per input, in their order. Without inputs the model is only loaded."""
    started_ns = time.monotonic_ns()
    model = await inference.model(request.model, f'model "{request.model}" not found, try pulling it first')
    job = inference.job(model, request, started_ns)
    for tokens in request.tokens:
        check_tokens("input", tokens, model)
    if (request.inputs or request.tokens) and not job.wanted.plan.embedding:
        raise EngineError(f'"{request.model}" does not support embeddings', status=501)
    try:
        return await _embed(inference, job, request, normalize=normalize)
    except EngineGone:  # it had died unnoticed; a fresh one is asked, once
        return await _embed(inference, job, request, normalize=normalize)


async def _embed(inference: Inference, job: Job, request: EmbedRequest, *, normalize: bool) -> Embedded:
    async with inference.lease(job, request) as ready:
        if not (request.inputs or request.tokens):
            return Embedded(())
        warnings: list[str] = []
        inputs = _cut_tokens(request, ready, warnings) if request.tokens else await _cut(request, ready, warnings)
        asked_ns = time.monotonic_ns()
        try:
            rows, tokens = await ready.wire.embed(inputs)
        except (EngineError, ContextTooLong) as error:
            if any(words in str(error) for words in _LENGTH_WORDS):
                raise InputTooLong from error
            raise
    ended_ns = time.monotonic_ns()
    vectors = tuple(_vector(row, request.dimensions, normalize=normalize) for row in rows)
    total_ns = time.monotonic_ns() - job.started_ns
    usage = Usage(prompt_tokens=tokens, prompt_ns=ended_ns - asked_ns)
    return Embedded(vectors, usage, total_ns, ready.load_ns, (*job.warnings, *warnings), ready.delays)


async def _cut(request: EmbedRequest, ready: Ready, warnings: list[str]) -> list[str]:
    """Inputs that fit the window; what is cut is named."""
    limit = ready.ctx_tokens - await _special_tokens(ready)
    if limit <= 0:
        raise BadRequest(CANNOT_CUT)
    inputs = []
    for index, text in enumerate(request.inputs):
        if len(text.encode()) > limit:  # a token is at least one byte: shorter texts need no counting
            tokens = await ready.wire.tokenize(text)
            if len(tokens) > limit:
                if not request.truncate:
                    raise InputTooLong
                text = await ready.wire.detokenize(tokens[:limit])
                warnings.append(CUT.format(index, len(tokens) - limit))
        inputs.append(text)
    return inputs


def _cut_tokens(request: EmbedRequest, ready: Ready, warnings: list[str]) -> list[Sequence[int]]:
    """The same for inputs in tokens, to which none are added."""
    limit = ready.ctx_tokens
    for index, tokens in enumerate(request.tokens):
        if len(tokens) > limit:
            if not request.truncate:
                raise InputTooLong
            warnings.append(CUT.format(index, len(tokens) - limit))
    return [tokens[:limit] for tokens in request.tokens]


async def _special_tokens(ready: Ready) -> int:
    """How many tokens the tokenizer puts around a text (BOS, EOS, or CLS and SEP)."""
    return len(await ready.wire.tokenize("", add_special=True))


def _vector(row: Sequence[float | None], dimensions: int, *, normalize: bool) -> tuple[float, ...]:
    values = [value for value in row if value is not None and math.isfinite(value)]
    if len(values) != len(row):
        raise NotANumber
    if 0 < dimensions < len(values):
        values = values[:dimensions]
    if not normalize:
        return tuple(values)
    length = max(math.sqrt(math.fsum(value * value for value in values)), 1e-12)
    return tuple(value / length for value in values)
