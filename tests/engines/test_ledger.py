"""One entry per token, whatever the engine makes of characters and stop strings (native-api §2.8), on the real engine.

SmolLM2 writes a Chinese character or an emoji in two or three tokens. Grammars make it write a text that a test needs
to know.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llamero.engines.llamacpp import LlamaCpp
from llamero.engines.wire import NO_LOGPROBS
from llamero.messages import Done, Logprob, Text
from tests.engines.starting import real_engine

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

NUMBERS = " five six seven eight nine ten"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(smollm2_gguf: Path) -> AsyncIterator[LlamaCpp]:
    async with real_engine(smollm2_gguf, ctx_tokens=512) as started:
        yield started


@dataclass
class Said:
    chunks: list[Text]
    done: Done

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def entries(self) -> list[Logprob]:
        return [entry for chunk in self.chunks for entry in chunk.logprobs]

    @property
    def bytes(self) -> bytes:
        return b"".join(bytes(entry.bytes) for entry in self.entries)


async def go_on(engine: LlamaCpp, prompt: str, *, top: int = 0, **more: Any) -> Said:
    body = {"prompt": prompt, "stream": True, "temperature": 0, "n_predict": 40, "n_probs": max(top, 1), **more}
    *chunks, done = [event async for event in engine.wire.complete(body, top_logprobs=top)]
    assert isinstance(done, Done)
    return Said([chunk for chunk in chunks if isinstance(chunk, Text)], done)


async def say(engine: LlamaCpp, text: str, **more: Any) -> Said:
    """Let the model write a certain text."""
    return await go_on(engine, "Count: one two three four", grammar=f'root ::= "{text}"', **more)


PROMPTS = {
    "emoji": "😀😃😄😁😆 😀😃😄😁😆 😀😃😄",
    "families": "👨‍👩‍👧 👩‍👩‍👦 👨‍👩‍👧 👩‍👩‍👦 👨‍👩‍👧",
    "chinese": "一二三四五六七八九十 一二三四五六七八九十 一二三",
    "japanese": "おはようございます。こんにちは。おはようございます。こん",
    "accents": "à á â ã ä å æ ç è é ê ë à á â",
    "ascii": "Count: one two three four",
}
QUICK = ("families", "ascii")
"""The one that splits most, and the one that splits nothing."""


@pytest.mark.parametrize("temperature", [pytest.param(0, id="0"), pytest.param(1.0, id="1.0", marks=pytest.mark.heavy)])
@pytest.mark.parametrize(
    "prompt",
    [pytest.param(text, id=name, marks=() if name in QUICK else pytest.mark.heavy) for name, text in PROMPTS.items()],
)
async def test_every_token_has_an_entry_with_its_own_bytes(engine: LlamaCpp, prompt: str, temperature: float) -> None:
    """Partly N-104. The last token may end the answer, or stand in the middle of a character."""
    said = await go_on(engine, prompt, temperature=temperature, seed=1, cache_prompt=False)
    assert 0 <= said.done.usage.predicted_tokens - len(said.entries) <= 2
    assert said.bytes == said.text.encode()
    assert all(entry.logprob <= 0 and entry.bytes for entry in said.entries)
    assert said.done.warnings == ()


async def test_parts_of_characters_are_shown_as_such(engine: LlamaCpp) -> None:
    said = await go_on(engine, PROMPTS["emoji"], top=3, n_predict=12)
    halves = [entry for entry in said.entries if entry.token == "\ufffd"]
    assert len(halves) > 4
    assert all(bytes(half.bytes).decode(errors="replace") == "\ufffd" for half in halves)
    for entry in said.entries:
        values = [other.logprob for other in entry.top]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
        assert entry.top[0].bytes == entry.bytes, "greedy"


async def test_what_is_asked_afterwards_is_what_the_stream_tells(engine: LlamaCpp) -> None:
    """The figures of parts of characters come from a second look; for other tokens the engine gives them twice."""
    said = await say(engine, NUMBERS)
    before = await engine.wire.tokenize("Count: one two three four")
    for entry in said.entries:
        (token,) = await engine.wire.tokenize(entry.token)
        again = {other.id: other.logprob for other in await engine.wire.likeliest(before, 1000)}
        assert again[token] == pytest.approx(entry.logprob, abs=0.05)
        before.append(token)


async def test_entries_stay_with_their_text_until_one_must_be_asked_for(engine: LlamaCpp) -> None:
    said = await go_on(engine, PROMPTS["emoji"], grammar='root ::= "OK " [😀-🙏]+')
    (first, *between, last) = [(chunk.text, bool(chunk.logprobs)) for chunk in said.chunks]
    assert first[0].startswith("O")
    assert first[1]
    assert last == ("", True), "the rest, after the last text"
    told = [has_entries for _, has_entries in between]
    assert told == sorted(told, reverse=True), "once one waits, all do"
    assert said.text.startswith("OK ")
    assert said.bytes == said.text.encode()


@pytest.mark.parametrize("temperature", [0, 0.9])
async def test_a_token_that_is_held_back_for_a_stop_string_has_its_own_text(
    engine: LlamaCpp, temperature: float
) -> None:
    said = await say(engine, NUMBERS, stop=[" five six zzz", "nine zzz"], temperature=temperature, seed=2)
    assert said.text == NUMBERS
    assert [entry.token for entry in said.entries] == [" five", " six", " seven", " eight", " nine", " ten"]
    (waited, *_) = said.chunks
    assert (waited.text, [entry.token for entry in waited.logprobs]) == ("", [" five"])


async def test_tokens_of_a_stop_string_have_entries_and_no_text(engine: LlamaCpp) -> None:
    said = await say(engine, NUMBERS, stop=["seven eight"])
    assert (said.text, said.done.reason) == (" five six ", "stop")
    assert [entry.token for entry in said.entries] == [" five", " six", " seven", " eight"]


@pytest.mark.parametrize(("limit", "text"), [(1, " five"), (2, " five six"), (3, " five six seven")])
async def test_text_that_might_have_begun_a_stop_string_is_not_lost_at_the_limit(
    engine: LlamaCpp, limit: int, text: str
) -> None:
    """The engine would have held it back for ever."""
    said = await say(engine, NUMBERS, n_predict=limit, stop=[" five six seven zzz", "six seven zzz"])
    assert (said.text, said.done.reason) == (text, "length")


async def test_what_nobody_can_tell_is_named(engine: LlamaCpp) -> None:
    """Half characters under a stop string: no text comes that would say which tokens they are."""
    said = await say(engine, "👋👋 you", stop=["👋👋"])
    assert said.text == ""
    missing = said.done.usage.predicted_tokens - len(said.entries)
    assert missing > 0
    assert said.done.warnings == (NO_LOGPROBS.format(missing),)


@pytest.mark.heavy
async def test_what_was_said_behind_a_shift_of_the_context_cannot_be_asked_again(smollm2_gguf: Path) -> None:
    async with real_engine(smollm2_gguf, ctx_tokens=64) as engine:
        said = await go_on(engine, PROMPTS["emoji"][-3:], n_predict=150, grammar="root ::= [😀-🙏]{50,50}")
        assert said.bytes == said.text.encode(), "such characters have one entry"
        missing = said.done.usage.predicted_tokens - len(said.entries)
        assert missing > 10
        (warning,) = said.done.warnings
        named = int(warning.split()[1])
        assert warning == NO_LOGPROBS.format(named)
        assert missing - 2 <= named <= missing
