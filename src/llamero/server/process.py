"""The process around the app: its listeners in the event loop, its signals, and an end in time.

What is served is the app's affair. Source: cli §3.1, §11; security §5, §6.6; scheduler §11.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from ..config import Settings
from . import descriptors
from .addresses import Address
from .app import App
from .framing import MAX_HEAD_BYTES
from .handshakes import Handshakes, Reception
from .listen import BACKLOG, Listener
from .peers import Networks
from .signals import STOP, Signals, on_terminal
from .tls import Tls

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
"""How long an idle client connection stays open; clients that pool connections reuse them for about a minute."""

LAST_S = 2.0
"""For saving prompts and ending engines, after requests have had their time: with the usual three seconds for those,
all is over in five. Whatever hangs beyond that is left behind."""

SAID_TWICE = 128
"""Added to the signal's number: the exit status of a program that a signal ended."""


class Process(uvicorn.Server):
    """uvicorn, told to leave with status 0 when it is asked to stop, and at once when it is asked twice."""

    def __init__(
        self,
        settings: Settings,
        app: App,
        listeners: Sequence[Listener],
        tls: Tls | None,
        reload: Callable[[], None],
        signals: Signals,
    ) -> None:
        """`reload` is called on SIGHUP; `signals` knows what came before there was anything to reload."""
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                log_level=logging.WARNING,
                server_header=False,
                lifespan="on",
                proxy_headers=False,
                headers=[("x-content-type-options", "nosniff")],
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(settings.stop_timeout_s),
                **_protocol(settings),
            )
        )
        self._handshakes = Handshakes(settings.max_connections, _spared(settings))
        descriptors.provide(settings.max_connections * (1 if tls is None else 2))
        self._listeners = listeners
        self._receptions: list[Reception] = []
        self._tls = tls
        self._reload = reload
        self._stop_s = settings.stop_timeout_s
        self._signals = signals

    # --- listening ---

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, for sockets of several kinds: TLS is for TCP, a unix socket is guarded by its mode."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        opened = [await self._accept(listener) for listener in self._listeners]
        self.servers = [each for each in opened if not isinstance(each, Reception)]
        self._receptions = [each for each in opened if isinstance(each, Reception)]
        self.started = True

    async def _accept(self, listener: Listener) -> asyncio.Server | Reception:
        loop = asyncio.get_running_loop()
        if sys.platform != "win32" and listener.host.is_unix:
            # who made a socket file removes it: `Listener.close`, or the service manager
            more: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            return await loop.create_unix_server(self._protocol, sock=listener.socket, backlog=BACKLOG, **more)
        if self._tls is None:
            return await loop.create_server(self._protocol, sock=listener.socket, backlog=BACKLOG)
        return Reception(listener.socket, self._tls.context, self._protocol, self._handshakes)

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    # --- signals ---

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in STOP:
            signal.signal(number, self._leave)
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)
        if self._signals.was_hung_up:
            self._hang_up()
        yield

    def _leave(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(SAID_TWICE + number)  # engines end with us, and no file is ever half-written under its name
        self.should_exit = True

    def _hang_up(self) -> None:
        """SIGHUP asks a service to read its files again; from a terminal it says that the terminal is gone."""
        if self._signals.had_terminal and not on_terminal():
            self.should_exit = True
        else:
            self._reload()

    # --- the end ---

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Running requests have their time; what remains is cancelled, and says so to its client."""
        log.info("stopping: running requests have %g s to finish", self._stop_s)
        hurry = threading.Timer(self._stop_s + LAST_S, _abandon)
        hurry.daemon = True
        hurry.start()
        for reception in self._receptions:
            await reception.close()
        await super().shutdown([listener.socket for listener in self._listeners])


def _protocol(settings: Settings) -> dict[str, Any]:
    """What speaks HTTP, as arguments of uvicorn's Config. Windows has no httptools, and h11 fewer limits."""
    if sys.platform == "win32":
        return {
            "http": "h11",
            "h11_max_incomplete_event_size": MAX_HEAD_BYTES,
            "limit_concurrency": settings.max_connections,
            "ws": "none",
        }
    from .connections import Connections, Limits

    limits = Limits(connections=settings.max_connections, idle_s=KEEP_ALIVE_S)
    return {"http": Connections(limits, _spared(settings)).connection, "ws": "none"}


def _spared(settings: Settings) -> Callable[[Address], bool]:
    """Whose connections are not counted each for itself: those of this machine, and of proxies, many people's."""
    proxies = Networks("LLAMERO_TRUSTED_PROXIES", settings.trusted_proxies)
    return lambda address: address.is_loopback or address in proxies


def _abandon() -> None:
    log.warning("something did not end in time and is left behind")
    os._exit(0)
