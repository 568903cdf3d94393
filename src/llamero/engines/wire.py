"""The HTTP of llama-server: requests out, events in. What to ask, and what an answer means, is decided elsewhere.

Every request opens a fresh connection: the engine closes idle ones, and a unix socket costs microseconds. Errors leave
this file as classes of `errors` only. Source: scheduler §11 to §13, modelfile-templates §3.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from ..errors import ContextTooLong, EngineDied, EngineError
from ..messages import Done, Event, Logprob, Text, Thinking, ToolCall, Usage
from . import Endpoint, Engine

MAX_EVENT_BYTES = 8 * 2**20
"""One line of a stream. A longer one is a runaway, and would be buffered whole."""

MAX_REPLY_BYTES = 256 * 2**20
"""A reply that is not a stream: 2,048 embeddings of 4,096 numbers are 170 MB of JSON."""

MAX_ERROR_BYTES = 64 * 2**10

MAX_REPEATS = 30
"""Identical chunks in a row after which a raw completion counts as stuck (scheduler §11)."""

DIED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
BROKE = "an error was encountered while running the model"
UNFINISHED = "model runner stopped before finishing"
TOO_LONG = "the request took longer than LLAMERO_REQUEST_TIMEOUT allows"

EXIT_GRACE_S = 0.5
"""A crashed process closes its socket a moment before it is reaped; its last words come with the reaping."""


def connector(endpoint: Endpoint) -> aiohttp.BaseConnector:
    if endpoint.socket:
        return aiohttp.UnixConnector(endpoint.socket, force_close=True, limit=0)
    return _LoopbackConnector(endpoint.port)


class _LoopbackConnector(aiohttp.TCPConnector):
    """Sends every request to one loopback port, whatever host its URL names."""

    def __init__(self, port: int) -> None:
        super().__init__(force_close=True, limit=0)
        self._engine_port = port

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[Any]:
        return [{"hostname": host, "host": "127.0.0.1", "port": self._engine_port, "family": 2, "proto": 0, "flags": 0}]


class _Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0
    draft_n: int = 0
    draft_n_accepted: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(
            prompt_tokens=self.cache_n + self.prompt_n,
            cached_tokens=self.cache_n,
            prompt_ns=int(self.prompt_ms * 1e6),
            predicted_tokens=self.predicted_n,
            predicted_ns=int(self.predicted_ms * 1e6),
            draft_tokens=self.draft_n,
            accepted_tokens=self.draft_n_accepted,
        )


class _Logprob(msgspec.Struct):
    token: str = ""
    logprob: float | None = None
    bytes: list[int] = []
    top_logprobs: list[_Logprob] = []

    def event(self, top: int) -> Logprob:
        alternatives = tuple(item.event(0) for item in self.top_logprobs[:top])
        # an impossible token has no logarithm; JSON has no infinity, so the engine writes null
        return Logprob(self.token, self.logprob if self.logprob is not None else -1e9, tuple(self.bytes), alternatives)


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolDelta] = []


class _Logprobs(msgspec.Struct):
    content: list[_Logprob] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Failure(msgspec.Struct):
    message: str = ""
    code: int | None = None
    type: str = ""


class _ChatChunk(msgspec.Struct):
    choices: list[_Choice] = []
    timings: _Timings | None = None
    error: _Failure | None = None


class _CompletionChunk(msgspec.Struct):
    content: str = ""
    stop: bool = False
    stop_type: str = ""
    completion_probabilities: list[_Logprob] = []
    timings: _Timings | None = None
    error: _Failure | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Embedding(msgspec.Struct):
    embedding: list[float | None]
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Prompt(msgspec.Struct):
    prompt: str


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Content(msgspec.Struct):
    content: str


_T = TypeVar("_T")
_chat_decoder = msgspec.json.Decoder(_ChatChunk)
_completion_decoder = msgspec.json.Decoder(_CompletionChunk)


class Wire:
    """The requests one engine understands. Close it with the engine."""

    def __init__(self, engine: Engine, *, request_timeout_s: float | None = None) -> None:
        self._engine = engine
        self._session = aiohttp.ClientSession(
            base_url="http://engine",
            connector=connector(engine.endpoint),
            headers={"Authorization": f"Bearer {engine.endpoint.secret}"},
            timeout=aiohttp.ClientTimeout(total=request_timeout_s),
            read_bufsize=2**20,
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._session.close()

    # --- one question, one answer ----------------------------------------------------------------------------------

    async def apply_template(self, body: dict[str, Any]) -> str:
        """The prompt text that a chat body renders to."""
        return (await self._ask("/apply-template", body, _Prompt)).prompt

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return (await self._ask("/tokenize", body, _Tokens)).tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        return (await self._ask("/detokenize", {"tokens": list(tokens)}, _Content)).content

    async def embed(self, inputs: Sequence[str], **extra: Any) -> tuple[list[list[float | None]], int]:
        """One vector per input, in their order, and the number of prompt tokens. A NaN arrives as None."""
        reply = await self._ask("/v1/embeddings", {"input": list(inputs), **extra}, _Embeddings)
        rows = sorted(reply.data, key=lambda row: row.index)
        return [row.embedding for row in rows], reply.usage.prompt_tokens

    async def _ask(self, path: str, body: dict[str, Any], reply: type[_T]) -> _T:
        async with self._post(path, body) as response:
            data = await self._read(response)
        try:
            return msgspec.json.decode(data, type=reply)
        except msgspec.MsgspecError as error:
            raise EngineError(f"{BROKE}: the answer to {path} makes no sense") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        parts = bytearray()
        try:
            async for chunk in response.content.iter_any():
                parts += chunk
                if len(parts) > MAX_REPLY_BYTES:
                    raise EngineError("llama-server reply exceeded its size limit")
        except TimeoutError as error:
            raise EngineError(TOO_LONG) from error
        except (aiohttp.ClientError, OSError) as error:
            raise await self._broken(BROKE) from error
        return bytes(parts)

    # --- streams ---------------------------------------------------------------------------------------------------

    async def chat(self, body: dict[str, Any], *, top_logprobs: int = 0) -> AsyncGenerator[Event, None]:
        """Run `/v1/chat/completions`; the engine renders the template and tells thinking and tool calls apart."""
        calls = _ToolCalls()
        reason: str | None = None
        async with aclosing(self._events("/v1/chat/completions", body)) as events:
            async for data in events:
                chunk = _decode(_chat_decoder, data)
                if chunk.error is not None:
                    raise self._reported(chunk.error)
                for choice in chunk.choices:
                    for event in _chat_events(choice, calls, top_logprobs):
                        yield event
                    reason = choice.finish_reason or reason
                if reason is not None and chunk.timings is not None:
                    for event in calls.finish():
                        yield event
                    yield Done("length" if reason == "length" else "stop", chunk.timings.usage)
                    return
        raise EngineDied(UNFINISHED)

    async def complete(self, body: dict[str, Any], *, top_logprobs: int = 0) -> AsyncGenerator[Event, None]:
        """Run `/completion` on a prompt that somebody else rendered."""
        last, repeats, predicted = "", 0, 0
        async with aclosing(self._events("/completion", body)) as events:
            async for data in events:
                chunk = _decode(_completion_decoder, data)
                if chunk.error is not None:
                    raise self._reported(chunk.error)
                logprobs = tuple(item.event(top_logprobs) for item in chunk.completion_probabilities)
                if chunk.content or logprobs:
                    yield Text(chunk.content, logprobs)
                if chunk.stop:
                    usage = chunk.timings.usage if chunk.timings else Usage()
                    yield Done("length" if chunk.stop_type == "limit" else "stop", usage)
                    return
                text = chunk.content.strip()
                repeats = repeats + 1 if text and text == last else 0
                last, predicted = text, predicted + 1
                if repeats >= MAX_REPEATS:
                    yield Done("stop", Usage(predicted_tokens=predicted))
                    return
        raise EngineDied(UNFINISHED)

    async def _events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """The data of each server-sent event. Closing the iterator closes the connection, which stops the engine."""
        async with self._post(path, body) as response:
            buffer = b""
            try:
                async for chunk in response.content.iter_any():
                    *lines, buffer = (buffer + chunk).split(b"\n")
                    if len(buffer) > MAX_EVENT_BYTES:
                        raise EngineError("llama-server response stream event exceeded 8 MB limit")
                    for line in lines:
                        if line.startswith(b"data: "):
                            if line != b"data: [DONE]":
                                yield line[6:]
                        elif line.startswith(b"error: "):
                            yield b'{"error":' + line[7:] + b"}"
            except TimeoutError as error:
                raise EngineError(TOO_LONG) from error
            except (aiohttp.ClientError, OSError) as error:
                raise await self._broken(BROKE) from error
        if not self._engine.alive:
            raise await self._broken(BROKE)

    @asynccontextmanager
    async def _post(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        data = msgspec.json.encode(body)
        try:
            response = await self._session.post(path, data=data, headers={"Content-Type": "application/json"})
        except TimeoutError as error:
            raise EngineError(TOO_LONG) from error
        except (aiohttp.ClientError, OSError) as error:
            raise await self._broken(DIED) from error
        try:
            if response.status >= 400:
                raise await self._refused(response)
            yield response
        finally:
            response.close()

    # --- errors ----------------------------------------------------------------------------------------------------

    async def _refused(self, response: aiohttp.ClientResponse) -> EngineError | ContextTooLong:
        body = (await response.content.read(MAX_ERROR_BYTES)).decode("utf-8", "replace")
        failure = _Failure(message=body)
        try:
            parsed = msgspec.json.decode(body, type=_ChatChunk)
            if parsed.error is not None and parsed.error.message:
                failure = parsed.error
        except msgspec.MsgspecError:
            pass  # not llama-server's envelope: the text itself is the best there is
        failure.code = response.status
        return self._reported(failure)

    def _reported(self, failure: _Failure) -> EngineError | ContextTooLong:
        if failure.type == "exceed_context_size_error":
            return ContextTooLong(failure.message)
        status = failure.code if failure.code is not None and 400 <= failure.code < 600 else 500
        return EngineError(failure.message.strip() or BROKE, status=status)

    async def _broken(self, what: str) -> EngineDied:
        """The connection failed: say so with the engine's last words, which arrive when it is reaped."""
        for _ in range(int(EXIT_GRACE_S / 0.01)):
            if not self._engine.alive:
                break
            await asyncio.sleep(0.01)
        detail = self._engine.last_error
        return EngineDied(f"{what}: {detail}" if detail else what)


class _ToolCalls:
    """Puts streamed fragments of tool calls together; a call leaves as soon as the next index, or the end, is there."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, str, str]] = {}

    def feed(self, deltas: Sequence[_ToolDelta]) -> list[Event]:
        done: list[Event] = []
        for delta in deltas:
            done += [event for index in list(self._open) if index < delta.index for event in self._close(index)]
            id_, name, arguments = self._open.get(delta.index, ("", "", ""))
            function = delta.function or _Function()
            self._open[delta.index] = (
                id_ or delta.id or "",
                name + (function.name or ""),
                arguments + (function.arguments or ""),
            )
        return done

    def finish(self) -> list[Event]:
        return [event for index in sorted(self._open) for event in self._close(index)]

    def _close(self, index: int) -> list[Event]:
        id_, name, text = self._open.pop(index)
        try:
            arguments = msgspec.json.decode(text, type=dict[str, Any]) if text.strip() else {}
        except msgspec.MsgspecError:
            return [Text(f"{name}{text}")]  # unreadable calls are shown, never dropped
        return [ToolCall(name, arguments, id_, index)]


def _chat_events(choice: _Choice, calls: _ToolCalls, top_logprobs: int) -> list[Event]:
    delta = choice.delta
    logprobs: tuple[Logprob, ...] = ()
    if choice.logprobs is not None and choice.logprobs.content:
        logprobs = tuple(item.event(top_logprobs) for item in choice.logprobs.content)
    events: list[Event] = []
    if delta.reasoning_content:
        events.append(Thinking(delta.reasoning_content, () if delta.content else logprobs))
    if delta.content:
        events += [*calls.finish(), Text(delta.content, logprobs)]
    if not events and logprobs:
        events.append(Text("", logprobs))  # the token's text is held back, half a character or half a tag
    if delta.tool_calls:
        events += calls.feed(delta.tool_calls)
    return events


def _decode(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise EngineError(f"{BROKE}: an event of its stream makes no sense") from error
