"""Our own routes for API keys: which there are, a new one, one less. No reply but that to a new key tells a secret.

Source: security §6.1; the command `key` calls them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..dialects.gojson import encode
from ..errors import BadRequest, Forbidden, StorageError
from . import key_file
from .answers import JSON, nothing
from .bodies import read
from .keys import ENVIRONMENT, BadKeys, Key, KeyStore, write_instant
from .routes import Route

log = logging.getLogger(__name__)

T = TypeVar("T")

PATH = "/api/llamero/keys"

FILE = "file"
"""The source of a key that can be revoked here."""

NO_ADMIN = "no admin key is left: models and keys of this server cannot be managed while it runs"
NO_KEY = (
    "no API key is left, so nobody is served: stop the server, then make one (ollama key new NAME --role admin), or "
    "remove the key file to serve without keys"
)
ONLY_HERE = "there is no API key: only this machine is served (LLAMERO_ADMIN_LOOPBACK)"
NONE_NEEDED = "there are no API keys: whoever may connect is served without one"
FIRST_IS_LOCAL = (
    "forbidden: as long as a server has no API keys, the first is made on its own machine: whoever makes it keeps all "
    "others out"
)
FIRST_IS_ADMIN = (
    "the first key has to be an admin key, or nobody could manage this server any more: add --role admin; the next may "
    "be of any role"
)


class KeyReply(msgspec.Struct, omit_defaults=True):
    name: str
    role: str
    models: tuple[str, ...] = ()
    """The only ones that it may use; absent: all."""
    expires_at: str = ""
    """Absent: never."""
    is_expired: bool = False
    rate: str = ""
    """Absent: LLAMERO_RATE_LIMIT."""
    source: str = ""
    """`file`, or `OLLAMA_API_KEY` for one that cannot be revoked here."""
    secret: str = ""
    """Of a new key, this once."""


class KeysReply(msgspec.Struct):
    keys: list[KeyReply]


class NewKeyBody(msgspec.Struct):
    name: str = ""
    role: str = "infer"
    models: tuple[str, ...] = ()
    expires: str = ""
    """A span like `30d`, or a time of RFC 3339."""
    rate: str = ""
    """Like `60/m`."""


class RevokeBody(msgspec.Struct):
    name: str = ""


class Keyring:
    """`admin_loopback` is LLAMERO_ADMIN_LOOPBACK: somebody can always manage this server."""

    def __init__(self, store: KeyStore, *, admin_loopback: bool) -> None:
        self._store = store
        self._admin_loopback = admin_loopback

    async def shown(self, request: Request, body: bytes) -> Response:
        keys, now_s = self._store.keys, time.time()
        ours = await self._in_file()
        replies = [_reply(key, now_s, FILE if key.name in ours else ENVIRONMENT) for key in keys]
        if not replies:
            request.state.warnings.append(ONLY_HERE if keys.required else NONE_NEEDED)
        return Response(encode(KeysReply(replies)), media_type=JSON)

    async def new(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, NewKeyBody, "NewKeyRequest")
        if not self._store.keys.required and not request.state.is_local:
            raise Forbidden(FIRST_IS_LOCAL)
        now_s = time.time()
        key, secret = key_file.make_key(asked.name, asked.role, asked.models, asked.expires, asked.rate, now_s=now_s)
        if key.name in self._names:
            raise BadRequest(key_file.NAME_IS_TAKEN.format(key.name))
        if key.role != "admin" and not self._can_be_managed:
            raise BadRequest(FIRST_IS_ADMIN)
        await self._change(lambda: key_file.add(self._store.file, key))
        reply = msgspec.structs.replace(_reply(key, now_s, FILE), secret=secret)
        return Response(encode(reply), media_type=JSON)

    async def revoke(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, RevokeBody, "RevokeKeyRequest")
        if asked.name in self._names and asked.name not in await self._in_file():
            raise BadRequest(f"the key {asked.name} is set by {ENVIRONMENT}: take it out there and restart the server")
        await self._change(lambda: key_file.remove(self._store.file, asked.name))
        if not len(self._store.keys):
            request.state.warnings.append(ONLY_HERE if self._admin_loopback else NO_KEY)
        elif not self._can_be_managed:
            request.state.warnings.append(NO_ADMIN)
        return nothing()

    @property
    def _names(self) -> set[str]:
        return {key.name for key in self._store.keys}

    @property
    def _can_be_managed(self) -> bool:
        return self._admin_loopback or any(key.role == "admin" for key in self._store.keys)

    async def _in_file(self) -> set[str]:
        """The names of the keys that can be revoked here."""
        return {key.name for key in await self._do(lambda: key_file.listed(self._store.file))}

    async def _change(self, work: Callable[[], None]) -> None:
        """Change the file, and at once what is in force."""
        await self._do(work)
        await self._do(self._store.reload)

    async def _do(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except BadKeys as error:
            log.error("%s", error)  # it names the file, which is nothing for a reply
            raise StorageError("the file of API keys cannot be used: the server's log says why") from error


def _reply(key: Key, now_s: float, source: str) -> KeyReply:
    return KeyReply(
        key.name,
        key.role,
        key.models,
        write_instant(key.expires_at_s) if key.expires_at_s is not None else "",
        key.is_expired(now_s),
        str(key.rate or ""),
        source,
    )


def routes(store: KeyStore, *, admin_loopback: bool) -> list[Route]:
    own = Keyring(store, admin_loopback=admin_loopback)
    return [
        Route("GET", PATH, own.shown, "The API keys, without their secrets", reply=KeysReply),
        Route("POST", PATH, own.new, "Make an API key", body=NewKeyBody, reply=KeyReply),
        Route("DELETE", PATH, own.revoke, "Revoke an API key", body=RevokeBody),
    ]
