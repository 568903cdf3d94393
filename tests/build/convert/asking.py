"""What the real engine answers, down to the logarithms of its probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from llamero.engines.llamacpp import LlamaCpp
from tests.engines.starting import real_engine

TOLERANCE = 0.02
"""Of a logarithm, between the engine with 16-bit weights and the truth in float32."""

Logprobs = dict[int, float]
"""By the token's id."""


async def ask(engine: LlamaCpp, prompt: Sequence[int], *, count: int = 10) -> Logprobs:
    """The `count` likeliest next tokens after the token ids `prompt`.

    The engine holds back what it knows of a token that ends the text or is half a character, so it is made to choose a
    letter. The probabilities are those before any choice.
    """
    letter = (await engine.wire.tokenize("a"))[-1]
    body = {
        "prompt": list(prompt),
        "n_predict": 1,
        "n_probs": count,
        "temperature": 0,
        "cache_prompt": False,
        "logit_bias": [[letter, 1000]],
    }
    connector = aiohttp.UnixConnector(engine.endpoint.socket)
    headers = {"Authorization": f"Bearer {engine.endpoint.secret}"}
    async with (
        aiohttp.ClientSession(connector=connector, headers=headers) as session,
        session.post(f"{engine.endpoint.url}/completion", json=body) as response,
    ):
        reply = await response.json()
        assert response.status == 200, reply
    return {item["id"]: item["logprob"] for item in reply["completion_probabilities"][0]["top_logprobs"]}


async def answer(model: Path, prompt: Sequence[int], *, count: int = 10, **plan: Any) -> Logprobs:
    async with real_engine(model, **({"ctx_tokens": 256} | plan)) as engine:
        return await ask(engine, prompt, count=count)


def worst(found: Mapping[int, float], truth: Mapping[int, float], *, top: int = 5) -> float:
    """The largest difference among the `top` likeliest tokens of the truth."""
    likeliest = sorted(truth, key=lambda token: -truth[token])[:top]
    missing = [token for token in likeliest if token not in found]
    assert not missing, f"tokens {missing} are not among the likeliest of the engine"
    return max(abs(found[token] - truth[token]) for token in likeliest)


def reference(description: Mapping[str, Any], key: str = "next_token_top10") -> Logprobs:
    """The truth as `reference.json` has it."""
    return {item["id"]: item["logprob"] for item in description[key]}
