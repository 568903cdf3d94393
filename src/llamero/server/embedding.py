"""Embeddings: texts in, vectors out, cut to the model's window. Source: native-api §3.9, §3.10; scheduler §16.

The texts of a request go to the engine in calls of at most one batch of tokens, a few at a time: what a request holds
in the engine is bounded, and little is computed in vain when its client leaves.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from ..engines import POOLING_CALLS
from ..errors import BadRequest, ContextTooLong, EngineError, InputTooLong, NotANumber, first_of
from ..messages import Embedded, EmbedRequest, Usage, Vector
from ..scheduler.facts import facts_of
from . import claims
from .inference import Inference
from .turn import Ready, check_tokens

CUT = "input {} is longer than the context: {} tokens left out"
CANNOT_CUT = "input after truncation exceeds maximum context length"
CANNOT_CUT_FURTHER = "input exceeds maximum context length and cannot be truncated further"

LAST = 3
"""llama.cpp's number for the pooling that takes a text's last token: with a cache, such texts can be read in pieces."""

ROUNDING = 5e-7
"""How far from 1 the length of a vector may be that has been normalised."""

_LENGTH_WORDS = ("too large", "context size", "context length", "physical batch size", "exceeds the available context")

Input = str | Sequence[int]
"""A text, or its tokens and those that stand around every text of the model."""


async def embed(inference: Inference, request: EmbedRequest, *, normalize: bool) -> Embedded:
    """One vector per input, in their order. Without inputs the model is only loaded."""
    started_ns = time.monotonic_ns()
    model = await inference.model(request.model, f'model "{request.model}" not found, try pulling it first')
    job = inference.job(model, request, started_ns)
    for tokens in request.tokens:
        check_tokens("input", tokens, model)
    if (request.inputs or request.tokens) and not job.wanted.plan.embedding:
        raise EngineError(f'"{request.model}" does not support embeddings', status=501)
    claim = claims.whole(request) if request.inputs or request.tokens else claims.visit()
    return await inference.once(job, lambda ready: _embed(request, ready, normalize=normalize), claim)


async def _embed(request: EmbedRequest, ready: Ready, *, normalize: bool) -> Embedded:
    inputs = request.tokens or request.inputs
    if not inputs:
        return Embedded(())
    asked_ns = time.monotonic_ns()
    reading = await _Reading.begin(ready, may_cut=request.truncate)
    rows, tokens = await reading.vectors(inputs)
    vectors = tuple(_finished(row, request.dimensions, normalize=normalize) for row in rows)
    ended_ns = time.monotonic_ns()
    usage = Usage(prompt_tokens=tokens, prompt_ns=ended_ns - asked_ns)
    ready.note(ready.account(usage))
    warnings = (*ready.job.warnings, *reading.warnings)
    return Embedded(vectors, usage, ended_ns - ready.job.started_ns, ready.load_ns, warnings, ready.delays)


def _finished(row: Vector, dimensions: int, *, normalize: bool) -> Vector:
    if not math.isfinite(sum(row)):  # which one value is enough for, and finite ones cannot do
        raise NotANumber
    if 0 < dimensions < len(row):
        row = row[:dimensions]
    length = math.hypot(*row)
    if not normalize or abs(length - 1) <= ROUNDING:
        return row
    divisor = max(length, 1e-12)
    return array("f", (value / divisor for value in row))


@dataclass(slots=True)
class _Call:
    """What is sent to the engine at once."""

    first: int
    """Place of its first input in the request."""
    inputs: list[Input] = field(default_factory=list)
    most: int = 0
    """Tokens that they may be."""


class _Reading:
    """The inputs of one request on their way through the engine."""

    def __init__(self, ready: Ready, specials: Sequence[int], *, may_cut: bool) -> None:
        self.warnings: list[str] = []
        self._wire = ready.wire
        self._specials = list(specials)
        self._may_cut = may_cut
        self._batch = ready.plan.batch_tokens
        self._room = ready.plan.seat_tokens
        self._limit = _limit(ready)
        self._density = 0.0
        """The largest share so far of the tokens that texts might have been; 0: not known."""
        if self._limit <= len(specials):
            raise BadRequest(CANNOT_CUT)

    @classmethod
    async def begin(cls, ready: Ready, *, may_cut: bool) -> _Reading:
        return cls(ready, await ready.wire.tokenize("", add_special=True), may_cut=may_cut)

    async def vectors(self, inputs: Sequence[Input]) -> tuple[list[Vector], int]:
        """One for each input, in their order, and how many tokens they were. Raises what the first failure was."""
        running: deque[tuple[_Call, asyncio.Task[tuple[list[Vector], int]]]] = deque()
        tasks = []
        taken = 0
        try:
            async with asyncio.TaskGroup() as group, aclosing(self._calls(inputs)) as calls:
                async for call in calls:
                    while running and (len(running) == POOLING_CALLS or taken + call.most > self._room):
                        oldest, task = running.popleft()
                        await task
                        taken -= oldest.most
                    task = group.create_task(self._send(call))
                    running.append((call, task))
                    tasks.append(task)
                    taken += call.most
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        replies = [task.result() for task in tasks]
        return [row for rows, _ in replies for row in rows], sum(tokens for _, tokens in replies)

    async def _calls(self, inputs: Sequence[Input]) -> AsyncGenerator[_Call, None]:
        """The inputs as calls of one batch: by what they may come to at first, then by what the first have come to."""
        call = _Call(0)
        for index, given in enumerate(inputs):
            fitting, most = await self._fit(index, given)
            grown = call.most + most
            if call.inputs and (grown * (self._density or 1) > self._batch or grown > self._room):
                yield call
                call = _Call(index)
            call.inputs.append(fitting)
            call.most += most
        yield call

    async def _fit(self, index: int, given: Input) -> tuple[Input, int]:
        """An input that fits the window, and how many tokens it has at most. What is cut is named."""
        if not isinstance(given, str):
            return self._cut(index, given, given, self._limit)
        # a token is at least one byte, but for a space that some put before every text: most need no counting
        most = len(given.encode()) + 1 + len(self._specials)
        if most <= self._limit:
            return given, most
        return self._cut(index, given, await self._wire.tokenize(given, add_special=True), self._limit)

    def _cut(self, index: int, given: Input, tokens: Sequence[int], limit: int) -> tuple[Input, int]:
        if len(tokens) <= limit:
            return given, len(tokens)
        if not self._may_cut:
            raise InputTooLong
        self.warnings.append(CUT.format(index, len(tokens) - limit))
        return _shortened(tokens, self._specials, limit), limit

    async def _send(self, call: _Call) -> tuple[list[Vector], int]:
        try:
            rows, tokens = await self._ask(call.inputs)
            self._density = max(self._density, min(1, tokens / call.most))
            return rows, tokens
        except InputTooLong:
            if not self._may_cut:
                raise
        try:
            return await self._ask(await self._cut_again(call))
        except InputTooLong as error:
            raise BadRequest(CANNOT_CUT_FURTHER) from error

    async def _ask(self, inputs: Sequence[Input]) -> tuple[list[Vector], int]:
        try:
            return await self._wire.embed(inputs)
        except (ContextTooLong, EngineError) as error:
            if isinstance(error, ContextTooLong) or any(words in str(error) for words in _LENGTH_WORDS):
                raise InputTooLong from error
            raise

    async def _cut_again(self, call: _Call) -> list[Input]:
        """For an engine that takes less than it should, and for texts that have more tokens than bytes."""
        limit = min(self._limit, self._batch)
        shorter = []
        for index, given in enumerate(call.inputs, call.first):
            tokens = await self._wire.tokenize(given, add_special=True) if isinstance(given, str) else given
            shorter.append(self._cut(index, given, tokens, limit)[0])
        return shorter


def _limit(ready: Ready) -> int:
    """The longest text in tokens: one batch for a model that must see all of it at once."""
    gguf = ready.job.model.gguf
    assert gguf is not None
    if gguf.get_int("pooling_type") == LAST and facts_of(ready.job.model).shape.is_causal:
        return ready.ctx_tokens - 1  # the engine refuses a text that fills its window
    return min(ready.ctx_tokens, ready.plan.batch_tokens)


def _shortened(tokens: Sequence[int], specials: Sequence[int], limit: int) -> list[int]:
    """The beginning. What the model puts at the end of every text stays there: its vectors may rest on it."""
    before = 0
    while before < len(specials) and tokens[before] == specials[before]:
        before += 1
    after = [*specials[before:]]
    if not after or [*tokens[-len(after) :]] != after:
        return [*tokens[:limit]]
    return [*tokens[: limit - len(after)], *after]
