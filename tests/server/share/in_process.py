"""The share without a process: its routes behind the real app and guard, so that a test can hold the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

from llamero.names import ModelName
from llamero.server.app import App
from llamero.server.attempts import Attempts
from llamero.server.audit import Audit
from llamero.server.guard import Guard
from llamero.server.keys import Keys, read_entries
from llamero.server.metrics import Metrics
from llamero.server.request_log import NoRequestLog
from llamero.server.routes import Routes
from llamero.server.share import Access, Fetch, Share, ShareKeys, routes
from llamero.server.traces import NoTraces
from llamero.server.watch import Watch
from llamero.store import Store
from tests.running import Reply

HOST = "box:11434"
BASE = f"http://{HOST}"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class LocalShare:
    """`keys` is the file `share_keys`, `api_key` is OLLAMA_API_KEY."""

    def __init__(self, models: Path, keys: Path, fetch: Fetch, *, api_key: str = "") -> None:
        self.clock = Clock()
        api_keys = Keys(read_entries(api_key))
        attempts = Attempts()
        guard = Guard(
            origins=(),
            allowed_hosts=(),
            loopback_bind=False,
            insecure_public=False,
            host_names=("box",),
            own_addresses=frozenset,
            keys=lambda: api_keys,
            attempts=attempts,
        )
        access = Access(
            needs_key=lambda: api_keys.required,
            keys=ShareKeys(keys),
            is_ours=guard.is_ours,
            attempts=attempts,
            clock=self.clock,
        )
        self.app = App(
            Routes(routes(Share(Store(models), access, fetch))),
            guard,
            Audit(keys.parent / "audit.log"),
            Watch(Metrics(), NoTraces()),
            NoRequestLog(),
            startup=_nothing,
            shutdown=_nothing,
        )

    async def send(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Reply:
        """One request to a path, or to a URL of BASE."""
        path, _, query = url.removeprefix(BASE).partition("?")
        lines = {"host": HOST} | {name.lower(): value for name, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "method": method,
            "scheme": "http",
            "http_version": "1.1",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
            "client": ("192.168.1.5", 50000),
        }
        asked = [{"type": "http.request", "body": b"", "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return asked.pop() if asked else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        found = HTTPMessage()
        for name, value in sent[0]["headers"]:
            found[name.decode()] = value.decode()
        return Reply(sent[0]["status"], found, b"".join(message["body"] for message in sent[1:]))


async def _nothing() -> None:
    pass


async def no_fetch(name: ModelName) -> None:
    raise AssertionError(f"{name} was to be fetched")
