"""Who is measured: a server with Ollama's API, or one with llama-server's, asked the same questions in their words.

A side answers chats, embeds texts and lets its model go. Whatever it does not do raises `Failed` with its own words.
Clocks are the client's; of what a server says about itself only the numbers of tokens are believed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .wire import Failed, Http, parse

UNLOAD_TIMEOUT_S = 30.0
UNLOAD_POLL_S = 0.05
SETTLE_S = 0.5
"""After a model is gone from the list: its process may still be ending, and shall not be measured with the next."""

PIECE = re.compile(rb'"(?:content|thinking|reasoning_content)"\s*:\s*"[^"]')
"""A line of a stream that brings text: found without parsing it, whose CPU time would be the engine's."""

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer, by the client's clock."""

    first_s: float
    """From sending to the first text."""
    total_s: float
    """From sending to the end of the stream."""
    tokens: int
    prompt_tokens: int
    text: str

    @property
    def decode_per_s(self) -> float:
        """Tokens per second behind the first one."""
        if self.tokens < 2 or self.total_s <= self.first_s:
            raise Failed(f"an answer of {self.tokens} tokens says nothing about speed")
        return (self.tokens - 1) / (self.total_s - self.first_s)

    @property
    def prefill_per_s(self) -> float:
        """Tokens of the prompt per second, up to the first text."""
        if not self.prompt_tokens:
            raise Failed("it does not say how many tokens the prompt has")
        return self.prompt_tokens / self.first_s


@dataclass(frozen=True, slots=True)
class Vectors:
    seconds: float
    rows: Sequence[Sequence[float]]


class Side(Protocol):
    @property
    def name(self) -> str: ...

    def about(self) -> str:
        """What it says about itself: program, version, the model's size and quantization."""

    def chat(self, messages: Sequence[Message], predict: int) -> Answer:
        """A greedy answer of at most `predict` tokens."""

    def embed(self, model: str, texts: Sequence[str]) -> Vectors: ...

    def unload(self) -> None:
        """Let the model go, and wait until it is gone."""


def user(text: str) -> list[Message]:
    """A conversation that begins."""
    return [{"role": "user", "content": text}]


class Native:
    """Any server with Ollama's API."""

    def __init__(self, name: str, http: Http, model: str) -> None:
        self.name = name
        self._http = http
        self._model = model

    def about(self) -> str:
        version = self._http.call("GET", "/api/version").get("version", "?")
        details = self._http.call("POST", "/api/show", {"model": self._model}).get("details") or {}
        size, kind = details.get("parameter_size", "?"), details.get("quantization_level", "?")
        return f"version {version}, {self._model} with {size} parameters in {kind}"

    def chat(self, messages: Sequence[Message], predict: int) -> Answer:
        body = {"model": self._model, "messages": messages, "options": {"num_predict": predict, "temperature": 0}}
        first_s, total_s, lines = _timed(self._http, "/api/chat", body)
        steps = [parse(line) for line in lines if line.strip()]
        last = _whole(steps, "done")
        return Answer(
            first_s,
            total_s,
            last.get("eval_count") or _pieces(lines),
            last.get("prompt_eval_count") or 0,
            "".join(step.get("message", {}).get("content") or "" for step in steps),
        )

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        started = time.perf_counter()
        reply = self._http.call("POST", "/api/embed", {"model": model, "input": texts})
        return _vectors(time.perf_counter() - started, reply.get("embeddings"), texts)

    def unload(self) -> None:
        self._http.call("POST", "/api/generate", {"model": self._model, "keep_alive": 0, "stream": False})
        deadline = time.monotonic() + UNLOAD_TIMEOUT_S
        while self._is_loaded():
            if time.monotonic() > deadline:
                raise Failed(f"the model is still loaded {UNLOAD_TIMEOUT_S:.0f} s after it was let go")
            time.sleep(UNLOAD_POLL_S)
        time.sleep(SETTLE_S)

    def _is_loaded(self) -> bool:
        tagged = self._model if ":" in self._model.rpartition("/")[2] else f"{self._model}:latest"
        loaded = self._http.call("GET", "/api/ps").get("models") or ()
        return tagged.lower() in {str(model.get("name")).lower() for model in loaded}


SAMPLING = {
    "cache_prompt": True,
    "temperature": 0,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repeat_last_n": 64,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "seed": -1,
    "typical_p": 1.0,
    "n_keep": 4,
}
"""The fields that our server sends to its engine for a greedy answer."""


class LlamaServer:
    """llama.cpp's server, spoken to as our server speaks to it."""

    def __init__(self, name: str, http: Http, model: str = "") -> None:
        """`model` chooses one where several are served; a server with one model does not look at it."""
        self.name = name
        self._http = http
        self._model = {"model": model} if model else {}

    def about(self) -> str:
        props = self._http.call("GET", "/props")
        path = str(props.get("model_path", "?")).replace("\\", "/")
        return f"build {props.get('build_info', '?')}, {path.rpartition('/')[2]}"

    def chat(self, messages: Sequence[Message], predict: int) -> Answer:
        body = {**self._model, **SAMPLING, "messages": messages, "stream": True, "n_predict": predict}
        first_s, total_s, lines = _timed(self._http, "/v1/chat/completions", body)
        events = [parse(line[6:]) for line in lines if line.startswith(b"data: {")]
        timings = _whole(events, "timings")["timings"]
        deltas = [choice.get("delta") or {} for event in events for choice in event.get("choices") or ()]
        return Answer(
            first_s,
            total_s,
            timings.get("predicted_n") or _pieces(lines),
            timings.get("prompt_n", 0) + timings.get("cache_n", 0),
            "".join(delta.get("content") or "" for delta in deltas),
        )

    def complete(self, prompt: str, predict: int) -> dict[str, Any]:
        """A greedy answer to a prompt that is read anew, as the engine tells it."""
        body = {**SAMPLING, "cache_prompt": False, "prompt": prompt, "n_predict": predict}
        return self._http.call("POST", "/completion", body)

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        started = time.perf_counter()
        reply = self._http.call("POST", "/v1/embeddings", {"model": model, "input": texts})
        return _vectors(time.perf_counter() - started, [row.get("embedding") for row in reply.get("data") or ()], texts)

    def unload(self) -> None:
        raise Failed("it keeps its model for as long as it runs")


def _timed(http: Http, path: str, body: Mapping[str, Any]) -> tuple[float, float, list[bytes]]:
    """Seconds to the first text and to the end, and the stream's lines."""
    first_s, lines = 0.0, []
    started = time.perf_counter()
    with http.streaming("POST", path, body) as stream:
        for line in stream:
            if not first_s and PIECE.search(line):
                first_s = time.perf_counter() - started
            lines.append(line)
    total_s = time.perf_counter() - started
    if not first_s and not any(b'"error"' in line for line in lines):
        raise Failed("an answer without any text")
    return first_s, total_s, lines


def _whole(steps: Sequence[Any], mark: str) -> Mapping[str, Any]:
    """The step that ends an answer. An error within the stream, or a stream without that step, is a failure."""
    for step in steps:
        if isinstance(step, Mapping) and step.get("error"):
            raise Failed(f"in the middle of an answer: {json.dumps(step['error'])}")
        if isinstance(step, Mapping) and step.get(mark):
            return step
    raise Failed("the answer broke off")


def _pieces(lines: Sequence[bytes]) -> int:
    return sum(PIECE.search(line) is not None for line in lines)


def _vectors(seconds: float, rows: Any, texts: Sequence[str]) -> Vectors:
    if not isinstance(rows, list) or len(rows) != len(texts) or not all(isinstance(row, list) for row in rows):
        raise Failed(f"{len(texts)} texts were not embedded")
    return Vectors(seconds, rows)
