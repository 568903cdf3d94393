"""What a model would be, before it is fetched: its manifest, its config, and the head of its weights by range.

Nothing is stored, and the head is all that is read of the weights. It decides nothing. Source: cli §3.16 (`fit`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from .. import gguf
from ..errors import BadRequest, InvalidModelFile, LlameroError, RegistryError, StorageError
from ..gguf import Gguf
from ..names import Digest, ModelName
from ..store.layers import Config
from ..store.manifests import MAX_CONFIG_BYTES, MODEL, Layer, Manifest
from .network import translated
from .session import Session

T = TypeVar("T")

FIRST_BYTES = 2**20
"""Of the weights, after which the head is looked at for the first time; then after twice as many, and so on."""

MAX_HEADER_BYTES = 64 * 2**20
"""The largest vocabularies take some ten megabytes."""

MAX_SIBLINGS = 16
"""Other quantizations that are asked for: each costs two small requests."""

AT_ONCE = 4
"""Requests for them at the same time."""

HUB_HOSTS = frozenset({"hf.co", "huggingface.co"})
"""Where a tag is nothing but a quantization."""

HUB_TAGS = ("Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "F16")
LIBRARY_TAGS = ("q3_K_M", "q4_K_M", "q5_K_M", "q6_K", "q8_0", "fp16")
"""As Ollama's library spells them, behind the name of a variant."""

_QUANTIZED = re.compile(r"(|.*[-_.])(q\d\w*|iq\d\w*|f16|fp16|bf16|f32|fp32)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a model without its weights."""

    name: ModelName
    manifest: Manifest
    config: Config

    @property
    def weights(self) -> Layer | None:
        """Of several, the last counts."""
        return next(reversed(self.manifest.of_type(MODEL)), None)


@dataclass(frozen=True, slots=True)
class Peek:
    """A model at its registry, and what else is there of it."""

    model: Seen
    header: Gguf
    siblings: tuple[Seen, ...]
    """Under tags that promise another quantization."""


async def config(manifest: Manifest, sessions: Sequence[Session]) -> Config:
    """RegistryError, also for one that is no config."""
    layer = manifest.config
    if layer is None:
        return Config()
    data = await _first(sessions, lambda session: _read(session, layer.digest, MAX_CONFIG_BYTES))
    if Digest.of(data) != layer.digest:
        raise RegistryError(f"config digest mismatch: want {layer.digest}, got {Digest.of(data)}")
    try:
        return Config.decode(data)
    except StorageError as error:
        raise RegistryError(str(error)) from error


async def header(layer: Layer, sessions: Sequence[Session]) -> Gguf:
    """The head of the weights. Its digest cannot be proven; it is checked like any file. RegistryError, BadRequest."""
    return await _first(sessions, lambda session: _header(session, layer))


def sibling_tags(name: ModelName, listed: Sequence[str]) -> list[str]:
    """Tags under which other quantizations may be had: those of the registry's list, else those that are usual."""
    match = _QUANTIZED.fullmatch(name.tag)
    if listed:
        alike = [tag for tag in listed if (other := _QUANTIZED.fullmatch(tag)) and (not match or other[1] == match[1])]
    elif name.host.lower() in HUB_HOSTS:
        alike = list(HUB_TAGS)
    elif match and match[1]:
        alike = [match[1] + tag for tag in LIBRARY_TAGS]
    else:
        alike = []
    return [tag for tag in alike if tag.lower() != name.tag.lower()][:MAX_SIBLINGS]


async def listed_tags(session: Session) -> list[str]:
    """What the registry lists; nothing where it has no list, as Ollama's."""
    try:
        answer = await session.request("GET", session.path("tags/list"))
        tags = json.loads(answer.body).get("tags")
    except (LlameroError, ValueError, AttributeError):
        return []
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


async def together(names: Sequence[ModelName], look: Callable[[ModelName], Awaitable[Seen]]) -> list[Seen]:
    """What is to be seen of those that are there."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(name: ModelName) -> Seen | None:
        async with free:
            try:
                return await look(name)
            except LlameroError:
                return None

    return [seen for seen in await asyncio.gather(*map(one, names)) if seen is not None]


async def _first(sessions: Sequence[Session], ask: Callable[[Session], Awaitable[T]]) -> T:
    """Mirrors first; what the registry, the last of them, says about it counts."""
    *mirrors, registry = sessions
    for mirror in mirrors:
        try:
            return await ask(mirror)
        except LlameroError:
            continue
    return await ask(registry)


async def _read(session: Session, digest: Digest, limit_bytes: int) -> bytes:
    located = await session.locate(digest)
    async with session.open(located, {}) as response:
        if response.status != HTTPStatus.OK:
            raise RegistryError(f"unexpected status code {response.status}")
        data = bytearray()
        with translated("GET", located.url):
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > limit_bytes:
                    raise RegistryError(f"a config larger than {limit_bytes} bytes")
    return bytes(data)


async def _header(session: Session, layer: Layer) -> Gguf:
    """One request; the connection is closed as soon as the head is complete."""
    located = await session.locate(layer.digest)
    most_bytes = min(layer.size_bytes, MAX_HEADER_BYTES)
    async with session.open(located, {"Range": f"bytes=0-{most_bytes - 1}"}) as response:
        if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            raise RegistryError(f"unexpected status code {response.status}")
        data, enough_bytes = bytearray(), FIRST_BYTES
        with translated("GET", located.url):
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) < min(enough_bytes, most_bytes):
                    continue
                enough_bytes *= 2
                if (found := await asyncio.to_thread(_parse, data, layer.size_bytes)) is not None:
                    return found
                if len(data) >= most_bytes:
                    break
    raise BadRequest("the head of the weights is cut short, or larger than that of any model")


def _parse(data: bytearray, size_bytes: int) -> Gguf | None:
    """None while there is too little of it."""
    try:
        found = gguf.read_header(data, size_bytes=size_bytes)
    except InvalidModelFile as error:
        if error.reason == gguf.CUT_SHORT and len(data) < size_bytes:
            return None
        raise
    gguf.check_model(found, data)
    return found
