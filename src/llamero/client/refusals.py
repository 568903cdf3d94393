"""What a server refuses with, as errors in the words of cli §1.1."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from ..errors import ServerAnswered

if TYPE_CHECKING:
    import http.client

MAX_ERROR_BYTES = 64 * 2**10
"""An error's body; it ends on somebody's screen."""

SILENT_ERROR = "something went wrong, please see the ollama server logs for details"
KEY_NEEDED = "unauthorized: set OLLAMA_API_KEY to a key of this server"
NOBODY_BEHIND = "a proxy answers, but the server behind it does not; is it running?"
LOGIN_NEEDED = "unauthorized: a proxy wants a name and a password; put user:password@ before the host in OLLAMA_HOST"


def answered(response: http.client.HTTPResponse, *, streaming: bool = False) -> ServerAnswered:
    """The error of a status from 300 up, in the words of cli §1.1. Nobody is followed: a key is for one address."""
    if response.status < 400:
        place = response.headers.get("Location", "nowhere")
        return ServerAnswered(f"{response.status}: moved to {place}; use that address", status=response.status)
    data = response.read(MAX_ERROR_BYTES)
    text, signin_url = data.decode(errors="replace").strip(), ""
    with suppress(ValueError, KeyError, TypeError):
        reply = json.loads(data)
        if isinstance(reply["error"], str):  # an object is some other API's: it is shown as it came
            text, signin_url = reply["error"], str(reply.get("signin_url") or "")
    if response.status == 401 and not signin_url:
        challenge = response.headers.get("WWW-Authenticate", "")
        text = LOGIN_NEEDED if challenge.lower().startswith("basic") else KEY_NEEDED
    elif response.status in (502, 504) and not text:  # no server of ours says that without a word
        text = f"{response.status} {response.reason}: {NOBODY_BEHIND}"
    elif streaming:
        text = f"{response.status} {response.reason}: {text}".removesuffix(": ")
    text = text or "; ".join(header_warnings(response)) or SILENT_ERROR  # a HEAD has no body
    return ServerAnswered(text, status=response.status, signin_url=signin_url)


def header_warnings(response: http.client.HTTPResponse) -> list[str]:
    return response.headers.get_all("Llamero-Warning") or []
