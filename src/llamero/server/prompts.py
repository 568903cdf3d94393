"""Our own routes for the prompt cache on disk: what is in it, and away with it. No reply tells a prompt.

Source: native-api §3.22, scheduler §9.6; the command `cache` calls them.
"""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..dialects import native
from ..dialects.gojson import encode
from ..names import ModelName
from ..store.prefix_index import Entry
from ..store.prefixes import Prefixes
from .answers import JSON
from .bodies import read
from .routes import Route

PATH = "/api/llamero/cache"


class PromptReply(msgspec.Struct):
    model: str
    tokens: int
    size: int
    used_at: str
    """When it was saved or last restored."""


class CacheReply(msgspec.Struct):
    prompts: list[PromptReply]
    """The one used last first."""
    size: int
    limit: int
    """Bytes; 0: nothing is saved."""
    damaged: int
    """Files that this server removed because they could not be used."""


class ClearBody(msgspec.Struct):
    model: str = ""
    """Empty: all."""


class ClearReply(msgspec.Struct):
    freed: int


class Prompts:
    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes

    async def shown(self, request: Request, body: bytes) -> Response:
        entries = await asyncio.to_thread(self._prefixes.entries)
        size_bytes = sum(entry.size_bytes for entry in entries)
        own = self._prefixes
        reply = CacheReply([*map(_prompt, entries)], size_bytes, own.limit_bytes, own.damaged)
        return Response(encode(reply), media_type=JSON)

    async def clear(self, request: Request, body: bytes) -> Response:
        asked = read(request, body or b"{}", ClearBody, "ClearRequest")
        model = ModelName.parse(asked.model).display if asked.model else None
        freed_bytes = await asyncio.to_thread(self._prefixes.clear, model)
        return Response(encode(ClearReply(freed_bytes)), media_type=JSON)


def _prompt(entry: Entry) -> PromptReply:
    return PromptReply(entry.model, entry.tokens, entry.size_bytes, native.timestamp(entry.used_ns))


def routes(prefixes: Prefixes) -> list[Route]:
    own = Prompts(prefixes)
    return [
        Route("GET", PATH, own.shown, "Prompts that are saved on disk", reply=CacheReply),
        Route("DELETE", PATH, own.clear, "Remove saved prompts", body=ClearBody, reply=ClearReply),
    ]
