"""What those who look after the server ask it: whether it lives, whether it is ready, what it has counted.

Source: security §6.3, §6.4; native-api §3.22.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..dialects.gojson import encode
from ..scheduler.loop import Scheduler
from ..scheduler.views import Snapshot
from ..store.prefixes import Prefixes
from .answers import JSON
from .metrics import Metrics, Scene
from .routes import Handler, Route

Phase = Literal["starting", "ok", "stopping"]


class HealthReply(msgspec.Struct):
    status: str


class Readiness:
    """Whether requests are welcome: not before the models of LLAMERO_PRELOAD are there, nor once the server stops."""

    def __init__(self, is_stopping: Callable[[], bool]) -> None:
        self._is_stopping = is_stopping
        self._has_started = False

    @property
    def phase(self) -> Phase:
        if self._is_stopping():
            return "stopping"
        return "ok" if self._has_started else "starting"

    def started(self) -> None:
        self._has_started = True


class Health:
    """`connections` counts those of clients, now."""

    def __init__(
        self,
        readiness: Readiness,
        metrics: Metrics,
        scheduler: Scheduler,
        prefixes: Prefixes,
        connections: Callable[[], int],
    ) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._scheduler = scheduler
        self._prefixes = prefixes
        self._connections = connections

    async def lives(self, request: Request, body: bytes) -> Response:
        return Response(encode(HealthReply("ok")), media_type=JSON)

    async def is_ready(self, request: Request, body: bytes) -> Response:
        phase = self._readiness.phase
        return Response(encode(HealthReply(phase)), 200 if phase == "ok" else 503, media_type=JSON)

    async def metrics(self, request: Request, body: bytes) -> Response:
        snapshot, connections = self._scheduler.snapshot(), self._connections()
        accept = request.headers.get("accept", "")
        page, content_type = await asyncio.to_thread(self._page, snapshot, connections, accept)
        response = Response(page)
        response.headers["content-type"] = content_type  # starlette would add a charset that is there already
        return response

    def _page(self, snapshot: Snapshot, connections: int, accept: str) -> tuple[bytes, str]:
        entries = self._prefixes.entries()
        scene = Scene(
            snapshot=snapshot,
            connections=connections,
            prompts=len(entries),
            prompts_bytes=sum(entry.size_bytes for entry in entries),
            prompts_limit_bytes=self._prefixes.limit_bytes,
        )
        return self._metrics.render(scene, accept)


def routes(health: Health) -> list[Route]:
    def word(path: str, handler: Handler, summary: str) -> list[Route]:
        return [Route(method, path, handler, summary, "none", reply=HealthReply) for method in ("GET", "HEAD")]

    return [
        *word("/healthz", health.lives, "Whether the process answers"),
        *word("/readyz", health.is_ready, "Whether requests are welcome; 503 while it starts or stops"),
        Route("GET", "/metrics", health.metrics, "What was counted, for Prometheus", "admin"),
    ]
