"""The HTTP of llama-server: requests out, events in. What to ask, and what an answer means, is decided elsewhere;
what its JSON says is in `events`.

Every request opens a fresh connection: the engine closes idle ones, and a unix socket costs microseconds. Errors leave
this file as classes of `errors` only. Source: scheduler §11 to §13, modelfile-templates §3.4.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, TypeVar

import aiohttp
import msgspec

from ..errors import (
    AnswerUnreadable,
    ContextTooLong,
    EngineDied,
    EngineError,
    EngineGone,
    EngineSlow,
    RanOutOfMemory,
    TemplateStuck,
)
from ..messages import Done, Event, Logprob, Text, Thinking, Usage, Vector
from . import Engine
from .events import (
    BROKE,
    ChatChunk,
    CompletionChunk,
    Content,
    Counted,
    Embeddings,
    Erased,
    Failure,
    Probabilities,
    Prompt,
    Properties,
    Ranking,
    Restored,
    Saved,
    Tokens,
    ToolCalls,
    chat_events,
    decode,
)
from .ledger import HALF, Entry, Ledger
from .memory import says_out_of_memory

log = logging.getLogger(__name__)

MAX_EVENT_BYTES = 8 * 2**20
"""One line of a stream. A longer one is a runaway, and would be buffered whole."""

MAX_REPLY_BYTES = 256 * 2**20
"""A reply that is not a stream. The longest are embeddings in numbers, of one batch of texts."""

MAX_ERROR_BYTES = 64 * 2**10

MAX_REPEATS = 30
"""Identical chunks in a row after which a raw completion counts as stuck (scheduler §11)."""

DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
END_MISSING = "the last characters of the answer are missing: a stop string might have begun with them"
STUCK = "the model only repeated itself: its answer was ended in the middle"
NO_LOGPROBS = "logprobs: {} tokens have no entry of their own"
UNFINISHED = "model runner stopped before finishing"
IN_ONE_PIECE = "too large to process. increase the physical batch size"
"""What the engine says of a text that its model must read at once, and that is longer than it takes at once."""
UNTOLD_ENDS = 2
"""Tokens without an entry that nobody misses: what ends an answer has no text."""
TOO_LONG = "the request took longer than LLAMERO_REQUEST_TIMEOUT allows"

TEMPLATE_S = 10.0
"""In which a prompt must be rendered: templates take milliseconds, and one that takes so long may never end."""

TEARDOWN_S = 1.0
"""A killed process frees its memory first and its socket last: until then requests arrive that nobody will read."""

EXIT_GRACE_S = 0.5
"""A crashed process closes its socket a moment before it is reaped; its last words come with the reaping."""


_T = TypeVar("_T")
_chat_decoder = msgspec.json.Decoder(ChatChunk)
_completion_decoder = msgspec.json.Decoder(CompletionChunk)


def _unheard(usage: Usage) -> None:
    """A usage that nobody asked for."""


class Wire:
    """The requests one engine understands. Close it with the engine."""

    def __init__(self, engine: Engine, *, request_timeout_s: float | None = None) -> None:
        self._engine = engine
        endpoint = engine.endpoint
        self._session = aiohttp.ClientSession(
            base_url=endpoint.url,
            connector=(
                aiohttp.UnixConnector(endpoint.socket, force_close=True, limit=0)
                if endpoint.socket
                else aiohttp.TCPConnector(force_close=True, limit=0)
            ),
            headers={"Authorization": f"Bearer {endpoint.secret}", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=request_timeout_s),
            read_bufsize=2**20,
            auto_decompress=False,
        )
        self._renderings: set[asyncio.Task[str]] = set()
        self._media_marker = ""
        self._bos: tuple[int, str] | None = None
        self._texts: dict[int, str] = {}

    async def close(self) -> None:
        await self._session.close()

    async def health(self, timeout_s: float) -> Literal["ok", "loading", ""]:
        """How the engine says it is; empty when nothing sensible answers in time."""
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.get("/health", timeout=timeout, allow_redirects=False) as response:
                body = await response.content.read(MAX_ERROR_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return ""
        if response.status == 200 and b'"ok"' in body:
            return "ok"
        return "loading" if b"loading model" in body.lower() else ""

    # --- one question, one answer ----------------------------------------------------------------------------------

    async def apply_template(self, body: dict[str, Any]) -> str:
        """The prompt text that a chat body renders to. TemplateStuck when that takes too long: see `rendering`."""
        return await asyncio.shield(self.rendering(body))

    def rendering(self, body: dict[str, Any]) -> asyncio.Task[str]:
        """The same, begun at once. Nothing but the engine's end stops a template that is stuck (security §5), so it is
        ended then, though nobody may be waiting any more."""
        task = asyncio.create_task(self._render(body))
        self._renderings.add(task)
        task.add_done_callback(self._renderings.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _render(self, body: dict[str, Any]) -> str:
        try:
            async with asyncio.timeout(TEMPLATE_S):
                return (await self._ask("/apply-template", body, Prompt)).prompt
        except TimeoutError as error:
            stuck = TemplateStuck(f"the model's chat template takes longer than {TEMPLATE_S:g} s on this conversation")
            log.warning("engine ended pid=%d: %s", self._engine.pid, stuck)
            await self._engine.stop()
            raise stuck from error

    async def count_chat(self, body: dict[str, Any]) -> int:
        """Tokens of the prompt that a chat body makes, its pictures as well."""
        return (await self._ask("/v1/chat/completions/input_tokens", body, Counted)).input_tokens

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return (await self._ask("/tokenize", body, Tokens)).tokens

    async def piece(self, token: int) -> str:
        """The text of one token, kept for the next time."""
        if token not in self._texts:
            self._texts[token] = await self.detokenize([token])
        return self._texts[token]

    async def likeliest(self, prompt: Sequence[int], count: int, **extra: Any) -> list[Entry]:
        """The `count` likeliest tokens to follow these, most likely first."""
        # any text will do for an answer; with a token that is no whole character the engine tells no probabilities
        body = {"prompt": list(prompt), "n_predict": 1, "n_probs": count, "grammar": 'root ::= "a"', "stream": False}
        (entry,) = (await self._ask("/completion", body | extra, Probabilities)).completion_probabilities
        return entry.alternatives

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return (await self._ask("/detokenize", {"tokens": list(tokens)}, Content)).content

    async def media_marker(self) -> str:
        """What stands for a picture or a sound in the prompts of this engine; another one after every start."""
        if not self._media_marker:
            async with self._request("GET", "/props") as response:
                data = await self._read(response, MAX_REPLY_BYTES)
            properties = decode(msgspec.json.Decoder(Properties), data, "the answer to /props")
            self._media_marker = properties.media_marker
        return self._media_marker

    async def bos(self) -> tuple[int, str]:
        """How many tokens the engine puts before every prompt, and their text."""
        if self._bos is None:
            tokens = await self.tokenize("", add_special=True)
            self._bos = len(tokens), await self.detokenize(tokens) if tokens else ""
        return self._bos

    async def embed(self, inputs: Sequence[str | Sequence[int]], **extra: Any) -> tuple[list[Vector], int]:
        """One vector per input (a text or its tokens), in their order, and the number of prompt tokens."""
        # printing numbers takes the engine longer than computing short texts, and they come to four times the bytes
        body = {"input": list(inputs), "encoding_format": "base64", **extra}
        reply = await self._ask("/v1/embeddings", body, Embeddings)
        if len(reply.data) != len(inputs):
            raise EngineError(f"{BROKE}: {len(reply.data)} embeddings for {len(inputs)} inputs")
        rows = sorted(reply.data, key=lambda row: row.index)
        try:
            return [row.vector for row in rows], reply.usage.prompt_tokens
        except (ValueError, OverflowError) as error:
            raise EngineError(f"{BROKE}: an embedding makes no sense") from error

    async def rerank(self, query: str, documents: Sequence[str]) -> tuple[list[float], int]:
        """How well each document answers the query, in their order, and the number of tokens in all.

        What a score means depends on the model: the higher, the better.
        """
        reply = await self._ask("/v1/rerank", {"query": query, "documents": list(documents)}, Ranking)
        scores = {result.index: result.relevance_score for result in reply.results}
        if sorted(scores) != list(range(len(documents))):
            raise EngineError(f"{BROKE}: {len(reply.results)} scores for {len(documents)} documents")
        return [scores[index] for index in range(len(documents))], reply.usage.prompt_tokens

    # Each of these waits until the slot is idle, and lets nobody else's answer go on while the file is written or read.

    async def save_slot(self, slot: int, file: str) -> int:
        """Write what a slot holds into the engine's folder for saved slots. Returns its tokens, pictures included.

        EngineError when it cannot; on a full disk a part of the file may be there.
        """
        return (await self._ask(f"/slots/{slot}?action=save", {"filename": file}, Saved)).n_saved

    async def restore_slot(self, slot: int, file: str) -> int:
        """Read it back. Returns its tokens. EngineError when the file is refused: then the slot is empty.

        A file that is cut short behind its tokens ends the engine: nobody may name one that has not been checked.
        """
        return (await self._ask(f"/slots/{slot}?action=restore", {"filename": file}, Restored)).n_restored

    async def erase_slot(self, slot: int) -> int:
        """Forget what a slot holds. Returns its tokens."""
        return (await self._ask(f"/slots/{slot}?action=erase", {}, Erased)).n_erased

    async def _ask(self, path: str, body: dict[str, Any], reply: type[_T]) -> _T:
        async with self._post(path, body) as response:
            data = await self._read(response, MAX_REPLY_BYTES)
        return decode(msgspec.json.Decoder(reply), data, f"the answer to {path}")

    async def _read(self, response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
        parts = bytearray()
        try:
            async for chunk in response.content.iter_any():
                parts += chunk
                if len(parts) > limit_bytes:
                    raise EngineError("llama-server reply exceeded its size limit")
        except TimeoutError as error:
            raise EngineSlow(TOO_LONG) from error
        except (aiohttp.ClientError, OSError) as error:
            raise await self._cut_off() from error
        return bytes(parts)

    # --- streams ---------------------------------------------------------------------------------------------------

    async def chat(
        self, body: dict[str, Any], *, top_logprobs: int = 0, on_usage: Callable[[Usage], None] = _unheard
    ) -> AsyncGenerator[Event, None]:
        """Run `/v1/chat/completions`; the engine renders the template and tells thinking and tool calls apart.

        With `timings_per_token` in the body, `on_usage` hears the usage so far before each event.

        Raises AnswerUnreadable, after all that could be read, when the model did not keep to the template's form.
        """
        calls = ToolCalls()
        reason: str | None = None
        stopped_by = ""
        usage = Usage()
        told = 0
        async with aclosing(self._events("/v1/chat/completions", body)) as events:
            async for data in events:
                chunk = decode(_chat_decoder, data)
                if chunk.error is not None:
                    error = self._reported(chunk.error, AnswerUnreadable)
                    for event in calls.finish():
                        if isinstance(error, AnswerUnreadable) and isinstance(event, Text):
                            error.begun += event.text
                        else:
                            yield event
                    raise error
                if chunk.verbose is not None:
                    stopped_by = chunk.verbose.stopping_word
                if chunk.timings is not None:
                    usage = chunk.timings.usage
                    on_usage(usage)
                for choice in chunk.choices:
                    for event in chat_events(choice, calls, top_logprobs):
                        told += len(event.logprobs) if isinstance(event, Text | Thinking) else 0
                        yield event
                    reason = choice.finish_reason or reason
        if reason is None:
            raise await self._unfinished()
        for event in calls.finish():
            yield event
        missing = usage.predicted_tokens - told if body.get("n_probs") else 0
        warnings = (NO_LOGPROBS.format(missing),) if missing > UNTOLD_ENDS else ()
        yield Done("length" if reason == "length" else "stop", usage, warnings, stopped_by)

    async def complete(
        self,
        body: dict[str, Any],
        *,
        top_logprobs: int = 0,
        is_over: Callable[[], bool] = lambda: False,
        on_usage: Callable[[Usage], None] = _unheard,
    ) -> AsyncGenerator[Event, None]:
        """Run `/completion` on a prompt that somebody else rendered.

        `is_over` is asked after every event; true ends the answer there. The usage is then what the engine told last:
        ask for `timings_per_token` to have it.
        """
        done: Done | None = None
        usage = Usage()
        last, repeats = "", 0
        began_ns = first_ns = time.monotonic_ns()
        held: list[int] = []
        ledger = Ledger(self, body, top_logprobs)
        async with aclosing(self._events("/completion", body)) as events:
            async for data in events:
                chunk = decode(_completion_decoder, data)
                if chunk.error is not None:
                    raise self._reported(chunk.error)
                logprobs: tuple[Logprob, ...] = ()
                for entry in chunk.completion_probabilities:
                    logprobs += await ledger.add(entry, chunk.content, chunk.tokens_predicted)
                if chunk.timings is not None:
                    usage = chunk.timings.usage
                    on_usage(usage)
                if chunk.content or logprobs:
                    yield Text(chunk.content, logprobs)
                if chunk.stop:
                    done = Done("length" if chunk.stop_type == "limit" else "stop", usage, (), chunk.stopping_word)
                    continue
                if first_ns == began_ns:
                    first_ns = time.monotonic_ns()
                held = [] if chunk.content else [*held, *chunk.tokens]
                # an empty chunk is a token held back; white space counts: it is what a model in a grammar gets stuck in
                if chunk.content:
                    text = chunk.content.strip()
                    repeats = repeats + 1 if text == last else 1
                    last = text
                is_wanted = not is_over()
                if repeats > MAX_REPEATS or not is_wanted:
                    cost = usage if usage.predicted_tokens else _so_far(chunk, began_ns, first_ns)
                    done = Done("stop", cost, is_stuck=is_wanted)
                    break
        if done is None:
            raise await self._unfinished()
        warnings: tuple[str, ...] = (STUCK,) if done.is_stuck else ()
        if held and done.reason == "length" and (stops := body.get("stop")):
            # a stop string might have begun with this: the engine waits for more and then never sends it
            text = await self.detokenize(held)
            if HALF in text:
                warnings += (END_MISSING,)
            elif _may_begin(stops, text):
                yield Text(text)
        late, missing = await ledger.close()
        if late:
            yield Text("", late)
        if missing:
            warnings += (NO_LOGPROBS.format(missing),)
        yield replace(done, warnings=warnings) if warnings else done

    async def _events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """The data of each server-sent event. Closing the iterator closes the connection, which stops the engine."""
        async with self._post(path, body) as response:
            rest = b""
            try:
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    if max(map(len, (*lines, rest))) > MAX_EVENT_BYTES:
                        raise EngineError("llama-server response stream event exceeded 8 MB limit")
                    for line in lines:
                        if line.startswith(b"data: "):
                            if line != b"data: [DONE]":
                                yield line[6:]
                        elif line.startswith(b"error: "):
                            yield b'{"error":' + line[7:] + b"}"
            except TimeoutError as error:
                raise EngineSlow(TOO_LONG) from error
            except (aiohttp.ClientError, OSError) as error:
                raise await self._cut_off() from error

    @asynccontextmanager
    async def _post(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        data = io.BytesIO(msgspec.json.encode(body))  # as a stream, megabytes of pictures do not hold the loop up
        async with self._request("POST", path, data=data, headers={"Content-Type": "application/json"}) as response:
            yield response

    @asynccontextmanager
    async def _request(self, method: str, path: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session.closed:  # the engine was stopped between two requests of ours
            raise EngineGone(str(await self._broken(DIED)))
        sent_at = time.monotonic()
        try:
            response = await self._session.request(method, path, allow_redirects=False, **more)
        except TimeoutError as error:
            raise EngineSlow(TOO_LONG) from error
        except (aiohttp.ClientError, OSError) as error:
            was_dying = time.monotonic() - sent_at < TEARDOWN_S
            died = await self._broken(DIED)
            if was_dying and not self._engine.alive and not isinstance(died, RanOutOfMemory):
                raise EngineGone(str(died)) from error
            raise died from error
        try:
            if response.status >= 400:
                raise await self._refused(response)
            yield response
        finally:
            response.close()

    # --- errors ----------------------------------------------------------------------------------------------------

    async def _refused(self, response: aiohttp.ClientResponse) -> EngineError | ContextTooLong:
        body = (await self._read(response, MAX_ERROR_BYTES)).decode("utf-8", "replace")
        failure = Failure(message=body)
        try:
            parsed = msgspec.json.decode(body, type=ChatChunk)
            if parsed.error is not None and parsed.error.message:
                failure = parsed.error
        except (msgspec.MsgspecError, RecursionError):
            pass  # not llama-server's envelope: the text itself is the best there is
        failure.code = response.status
        return self._reported(failure)

    def _reported(self, failure: Failure, unreadable: type[EngineError] = EngineError) -> EngineError | ContextTooLong:
        """`unreadable` is for what the engine says in the middle of a stream, while it is well itself."""
        if failure.type == "exceed_context_size_error" or IN_ONE_PIECE in failure.message:
            return ContextTooLong(failure.message)
        status = failure.code if failure.code is not None and 400 <= failure.code < 600 else 500
        text = failure.message.strip() or BROKE
        if failure.type == "server_error" and not says_out_of_memory(self._engine.last_error):
            return unreadable(text, status=status)
        if status >= 500 and says_out_of_memory(captured := self._engine.last_error):
            return RanOutOfMemory(f"{text}: {captured}", status=status)
        return RanOutOfMemory(text, status=status) if says_out_of_memory(text) else EngineError(text, status=status)

    async def _unfinished(self) -> EngineDied:
        """The stream ended in good order, but too early."""
        return await self._broken(BROKE) if not self._engine.alive else EngineDied(UNFINISHED)

    async def _cut_off(self) -> EngineDied:
        """The connection broke in the middle of an answer. An engine that lives on after that is not to be trusted."""
        error = await self._broken(BROKE)
        if self._engine.alive:
            log.warning("engine ended pid=%d: it cut an answer off", self._engine.pid)
            await self._engine.stop()
        return error

    async def _broken(self, what: str) -> EngineDied:
        """The connection failed: say so with the engine's last words, which are complete when it is reaped."""
        await asyncio.wait([self._engine.exited], timeout=EXIT_GRACE_S)
        detail = self._engine.last_error
        kind = RanOutOfMemory if says_out_of_memory(detail) else EngineDied
        return kind(f"{what}: {detail}" if detail else what)


def _so_far(chunk: CompletionChunk, began_ns: int, first_ns: int) -> Usage:
    """The cost of an answer that is given up, by our own clock: the engine tells it at the end only."""
    return Usage(
        prompt_tokens=chunk.tokens_evaluated,
        prompt_ns=first_ns - began_ns,
        predicted_tokens=chunk.tokens_predicted,
        predicted_ns=time.monotonic_ns() - first_ns,
    )


def _may_begin(stops: Sequence[str], text: str) -> bool:
    """Whether one of the stop strings may have begun within a text. Tokens that are not shown have no such text."""
    return any(stop.startswith(text[at:]) for at in range(len(text)) for stop in stops)
