"""The routes of Ollama's cloud: who is signed in, web search, whether it is switched off. Here it always is.

Nothing here asks a service. Nobody is ever signed in; the sign-in link, made of this machine's own key, is there for
pushing, which ollama.com allows to keys that it knows. Source: native-api §3.3, §3.17 to §3.19.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Literal, NoReturn

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects.gojson import encode
from ..errors import BadRequest, Forbidden, LlameroError, NotSignedIn, RegistryError
from ..registry.identity import Identity
from ..store.files import open_regular
from .answers import JSON
from .routes import Handler, Route

log = logging.getLogger(__name__)

SERVER_FILE = "server.json"
MAX_SERVER_FILE_BYTES = 64 * 2**10
"""Stock Ollama keeps a handful of switches in it."""

SwitchedOffBy = Literal["none", "env", "config", "both"]
"""OLLAMA_NO_CLOUD, `disable_ollama_cloud` in the server's file, or both."""


class ServerFile(msgspec.Struct):
    """What we read of `~/.ollama/server.json`, which is stock Ollama's."""

    disable_ollama_cloud: bool | None = None


class CloudReply(msgspec.Struct):
    disabled: bool
    source: SwitchedOffBy


class StatusReply(msgspec.Struct):
    cloud: CloudReply


def switched_off_by(settings: Settings) -> SwitchedOffBy:
    """What has switched the cloud off on purpose. A file that cannot be read has not, and the log says so."""
    in_file = _switched_off_in(settings.home / SERVER_FILE)
    if settings.no_cloud:
        return "both" if in_file else "env"
    return "config" if in_file else "none"


def _switched_off_in(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            # a file beyond the limit is cut, which makes it malformed
            return bool(msgspec.json.decode(file.read(MAX_SERVER_FILE_BYTES), type=ServerFile).disable_ollama_cloud)
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("%s is ignored: %s", path, error.strerror)
    except (ValueError, RecursionError) as error:
        log.warning("%s is ignored: %s", path, error)
    return False


class Cloud:
    def __init__(self, home: Path, by: SwitchedOffBy) -> None:
        self._home = home
        self._by = by

    async def status(self, request: Request, body: bytes) -> Response:
        # there is none to switch on, whoever asks; that is our own configuration
        reply = StatusReply(CloudReply(disabled=True, source="config" if self._by == "none" else self._by))
        return Response(encode(reply), media_type=JSON)

    async def me(self, request: Request, body: bytes) -> NoReturn:
        raise NotSignedIn("unauthorized", signin_url=await asyncio.to_thread(self._signin_url))

    async def sign_out(self, request: Request, body: bytes) -> NoReturn:
        raise NotSignedIn("you are not currently signed in")

    def _signin_url(self) -> str:
        try:
            return Identity.load(self._home).signin_url(socket.gethostname())
        except RegistryError as error:
            log.warning("no sign-in link: %s", error)
            raise LlameroError("error getting authorization details") from error


def _unavailable(what: str) -> Handler:
    async def refuse(request: Request, body: bytes) -> NoReturn:
        if not body.strip():
            raise BadRequest("missing request body")
        raise Forbidden(f"ollama cloud is disabled: {what} is unavailable")

    return refuse


def routes(home: Path, by: SwitchedOffBy) -> list[Route]:
    own = Cloud(home, by)
    search, fetch = _unavailable("web search"), _unavailable("web fetch")
    return [
        Route("GET", "/api/status", own.status, "Whether the cloud is off (always)", "infer", reply=StatusReply),
        Route("POST", "/api/me", own.me, "Who is signed in (nobody), and where to register this machine's key"),
        Route("POST", "/api/signout", own.sign_out, "Sign out (nobody is signed in)"),
        Route("DELETE", "/api/user/keys/{encodedKey}", own.sign_out, "Sign out (deprecated)"),
        Route("POST", "/api/experimental/web_search", search, "Search the web (refused: there is no cloud)", "infer"),
        Route("POST", "/api/experimental/web_fetch", fetch, "Fetch a web page (refused: there is no cloud)", "infer"),
    ]
