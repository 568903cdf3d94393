"""A new engine on trial, in a child process beside the wheel: does it run, does it compute the same, is it faster?

Both hold the same model and answer in turn, so that whatever else this machine does hits both alike. What counts is
the best round of each: a neighbour only ever takes speed away. Source: DESIGN §3, §7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...engines import LoadPlan
from ...engines.llamacpp import LlamaCpp, LlamaCppSettings
from ...errors import EngineError, LlameroError
from ...messages import Done, Text, Usage

ROUNDS = 9
LEAST_ROUNDS = 3
ROUNDS_FOR_S = 120.0
"""On a slow machine fewer rounds must do."""
PROMPT_TOKENS = 512
"""One batch."""
ANSWER_TOKENS = 64
CTX_TOKENS = 1024

LEAST_GAIN = 1.03
"""Of both speeds, as a geometric mean: less is what two runs of one engine differ by."""
MOST_LOSS = 0.9
"""Of either: nobody shall wait noticeably longer for the first word, or for the rest."""

LIKELIEST = 5
MOST_APART = 0.25
"""Difference of a log-probability. Other instructions round otherwise: 0.01 is usual, GPUs reach some hundredths."""

SCHEMA = {"type": "integer", "minimum": 100, "maximum": 999, "multipleOf": 37}
"""Held by an engine with llguidance; one without ignores the last part."""
HELD = frozenset(map(str, range(111, 1000, 37)))

TEXT = """The ferry left the harbour a little after six, when the fog had lifted from the water and the first gulls were
quarrelling over what the fishermen had thrown away. On deck stood a woman with two suitcases and a birdcage. She had
been told that the crossing took four hours, that the sea was calm at this time of year, and that nobody would ask what
was in the cage. None of it was true. By eight the waves came over the rail, by nine the captain wanted to see every
ticket, and at half past ten a boy of seven lifted the cloth and said, loudly enough for everybody to hear: it is empty.
"""


class Unfit(LlameroError):
    """The new engine does not run on this machine, or not as it should."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Speeds of the new engine, in tokens per second through the wheel's."""

    decode_ratio: float
    prefill_ratio: float
    rounds: int

    @property
    def is_faster(self) -> bool:
        mean = (self.decode_ratio * self.prefill_ratio) ** 0.5
        return mean >= LEAST_GAIN and min(self.decode_ratio, self.prefill_ratio) >= MOST_LOSS


async def judge(
    program: Path,
    model: Path,
    env: Mapping[str, str],
    report: Callable[[str, int, int], None],
    *,
    rival: str = "",
) -> Measured:
    """Prove the engine on a real generation, and measure it beside the wheel, or beside the program `rival`.

    `env` is what engines see of the environment. Unfit, or LlameroError where the rival itself does not start. Must run
    on the main thread, as `Process.spawn`.
    """
    report("proving it on a real generation", 0, 0)
    async with _running(model, LlamaCppSettings(env=env, program=rival)) as wheel:
        with _on_trial():
            async with _running(model, LlamaCppSettings(env=env, program=str(program))) as native:
                tokens = (await wheel.wire.tokenize(TEXT * 8))[:PROMPT_TOKENS]
                _insist_same(await _likeliest(wheel, tokens), await _likeliest(native, tokens))
                # of a model without pieces of text, as the made-up one is, the wheel's cannot either
                if await _holds_schema(wheel) and not await _holds_schema(native):
                    raise Unfit("the new engine does not hold its answers to schemas, as the wheel does")
                return await _measure(wheel, native, tokens, report)


@contextmanager
def _on_trial() -> Iterator[None]:
    try:
        yield
    except EngineError as exc:
        raise Unfit(f"the new engine does not run here: {exc}") from exc


@asynccontextmanager
async def _running(model: Path, settings: LlamaCppSettings) -> AsyncIterator[LlamaCpp]:
    plan = LoadPlan(key="trial", model=model, ctx_tokens=CTX_TOKENS, context_shift=False)
    engine = await LlamaCpp.start(plan, settings)
    try:
        yield engine
    finally:
        await engine.stop()


async def _likeliest(engine: LlamaCpp, tokens: Sequence[int]) -> dict[int, float]:
    """Log-probabilities of what may follow, by token."""
    entries = await engine.wire.likeliest(tokens, LIKELIEST * 4, cache_prompt=False)
    return {entry.id: entry.event(0).logprob for entry in entries}


def _insist_same(wheel: Mapping[int, float], native: Mapping[int, float]) -> None:
    """Unfit when the wheel's likeliest tokens are others, or otherwise likely. The rest may differ at its end."""
    for token in list(wheel)[:LIKELIEST]:
        apart = abs(wheel[token] - native.get(token, float("-inf")))
        if not apart <= MOST_APART:  # not a number is no agreement either
            raise Unfit(f"the new engine computes something else than the wheel: a log-probability is {apart:.2f} off")


async def _holds_schema(engine: LlamaCpp) -> bool:
    """Whether it holds an answer to a schema of which only llguidance knows every part."""
    body = {"prompt": "A number: ", "json_schema": SCHEMA, "n_predict": 16, "temperature": 0, "stream": True}
    text, _ = await _complete(engine, body)
    return text.strip() in HELD


async def _measure(
    wheel: LlamaCpp, native: LlamaCpp, tokens: Sequence[int], report: Callable[[str, int, int], None]
) -> Measured:
    loop = asyncio.get_running_loop()
    decode: dict[LlamaCpp, float] = {wheel: 0.0, native: 0.0}
    prefill = dict(decode)
    began_s = loop.time()
    for number in range(ROUNDS + 1):
        report("measuring it against the wheel", number, ROUNDS + 1)
        # in turn who is first: what a neighbour does at that moment must not always hit the same one
        order = (wheel, native) if number % 2 else (native, wheel)
        for engine in order:
            usage = await _answer(engine, [*tokens[number:], *tokens[:number]])
            if number:  # the first answer of an engine also touches its memory for the first time
                decode[engine] = max(decode[engine], _decode_speed(usage))
                prefill[engine] = max(prefill[engine], _prefill_speed(usage))
        if number >= LEAST_ROUNDS and loop.time() - began_s > ROUNDS_FOR_S:
            break
    return Measured(decode[native] / decode[wheel], prefill[native] / prefill[wheel], number)


async def _answer(engine: LlamaCpp, tokens: Sequence[int]) -> Usage:
    body = {
        "prompt": list(tokens),
        "n_predict": ANSWER_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
        "timings_per_token": True,
        "stream": True,
    }
    _, usage = await _complete(engine, body)
    return usage


async def _complete(engine: LlamaCpp, body: dict[str, Any]) -> tuple[str, Usage]:
    text = ""
    async with aclosing(engine.wire.complete(body)) as events:
        async for event in events:
            if isinstance(event, Text):
                text += event.text
            elif isinstance(event, Done):
                return text, event.usage
    raise EngineError("the answer has no end")


def _decode_speed(usage: Usage) -> float:
    """Tokens per nanosecond; the first one is the prompt's."""
    return max(1, usage.predicted_tokens) / max(1, usage.predicted_ns)


def _prefill_speed(usage: Usage) -> float:
    return max(1, usage.prompt_tokens) / max(1, usage.prompt_ns)
