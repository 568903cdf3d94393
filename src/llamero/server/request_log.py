"""Bodies of inference requests on disk, each with a script that sends it again: for whoever looks for a fault.

Only with OLLAMA_DEBUG_LOG_REQUESTS, since they hold prompts: in a new folder that nobody else can enter, said aloud.
Source: cli §10.1; security §9.5.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import Protocol

from .routes import Route

log = logging.getLogger(__name__)

MAX_TOTAL_BYTES = 2**30
"""Of all bodies together: a debugging aid that was forgotten must not fill the disk."""

_NATIVE = frozenset(
    f"/api/{name}" for name in ("generate", "chat", "embed", "embeddings", "rerank", "tokenize", "detokenize")
)


class RequestLog(Protocol):
    async def keep(self, route: Route, body: bytes, content_type: str) -> None:
        """A request has been read. Raises nothing."""


class NoRequestLog:
    async def keep(self, route: Route, body: bytes, content_type: str) -> None: ...


class KeptRequests:
    """`replay_url` is where the scripts send to."""

    def __init__(self, replay_url: str, max_total_bytes: int = MAX_TOTAL_BYTES) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="llamero-requests-"))  # promises 0700
        self._url = replay_url
        self._left_bytes = max_total_bytes
        self._numbers = itertools.count(1)
        log.warning("OLLAMA_DEBUG_LOG_REQUESTS: every prompt is written to %s, unset it when you are done", self.folder)

    async def keep(self, route: Route, body: bytes, content_type: str) -> None:
        if not _is_inference(route) or self._left_bytes <= 0:
            return
        self._left_bytes -= len(body)
        if self._left_bytes <= 0:
            log.warning("OLLAMA_DEBUG_LOG_REQUESTS: %s is full, no more requests are written", self.folder)
            return
        name = f"{time.strftime('%Y%m%dT%H%M%S')}-{next(self._numbers):06d}{route.path.replace('/', '_')}"
        try:
            await asyncio.to_thread(self._write, name, body, self._script(route, name, content_type))
        except OSError as error:
            log.warning("OLLAMA_DEBUG_LOG_REQUESTS: a request could not be written: %s", error.strerror)

    def _script(self, route: Route, name: str, content_type: str) -> str:
        headers = ["-H", f"Content-Type: {content_type or 'application/json'}"]
        words = ["curl", "-sS", "-X", route.method, *headers, "--data-binary", f"@{name}.body"]
        # the key is the environment's affair: a file that is passed around must not hold it
        key = '${OLLAMA_API_KEY:+-H "Authorization: Bearer $OLLAMA_API_KEY"}'
        return f'#!/bin/sh\ncd "$(dirname "$0")" && {shlex.join(words)} {key} {shlex.quote(self._url + route.path)}\n'

    def _write(self, name: str, body: bytes, script: str) -> None:
        for suffix, data in ((".body", body), (".sh", script.encode())):
            opened = os.open(self.folder / f"{name}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(opened, "wb") as file:
                file.write(data)


def _is_inference(route: Route) -> bool:
    return route.method == "POST" and (route.path in _NATIVE or route.path.startswith("/v1/"))
