"""Connections of the listener: how many there may be, what a client may send on one, and how long it may take.

uvicorn's protocol answers requests; this stands around it. Nothing here runs when a piece of an answer is written: one
look per second at each connection finds those whose time is over. It needs httptools, which Windows has not: there
uvicorn's own protocol serves, with h11. Source: security §5, §6.6, §9.4.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ..dialects import native
from ..errors import BadRequest, Busy, LlameroError, RateLimited
from . import addresses
from .addresses import Address
from .answers import JSON
from .framing import CONNECTION, Framing

log = logging.getLogger(__name__)

MAX_SPILL_BYTES = 256 * 2**10
"""Of a body that nobody wanted: so much is read for the sake of the connection, more is not worth it."""

MAX_AHEAD_BYTES = 64 * 2**10
"""Of requests that were sent before the one before them is answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    connections: int = 4096
    """LLAMERO_MAX_CONNECTIONS."""
    per_address: int = 256
    idle_s: float = 75.0
    """Without a request. Clients that pool connections reuse them for about a minute."""
    head_s: float = 15.0
    """From the first byte of a request to the end of its head."""
    body_bytes_per_s: int = 1024
    """The slowest that a body may come."""
    body_grace_s: float = 15.0
    """By which it may be late, at any time."""
    stall_s: float = 120.0
    """In which a client reads nothing of what is waiting for it."""
    linger_s: float = 2.0
    """For which a connection stays open behind an answer that came before the end of its request. Closed at once, the
    system would tell the client to forget what it has not read yet, and that is the answer."""
    linger_bytes: int = 32 * 2**20
    """Of the request that are read and forgotten meanwhile: many clients read nothing before they have sent it all."""
    check_s: float = 1.0
    """Between two looks at each connection: a thousandth of a second for a thousand of them."""


class Connections:
    """All of one server. `is_spared` tells of a peer whether it may open as many as it likes."""

    def __init__(self, limits: Limits, is_spared: Callable[[Address], bool]) -> None:
        self.limits = limits
        self._is_spared = is_spared
        self._open: set[Connection] = set()
        self._of_party: Counter[str] = Counter()
        self._is_watching = False

    def __len__(self) -> int:
        return len(self._open)

    def connection(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """What uvicorn calls for every connection (`http` of its Config)."""
        return Connection(self, config, server_state, app_state, _loop)

    def enter(self, connection: Connection) -> None:
        """Raises Busy or RateLimited when it is one too many."""
        if not self._is_watching:
            self._is_watching = True
            asyncio.get_running_loop().call_later(self.limits.check_s, self._check)
        self._open.add(connection)
        count = 0
        if (address := connection.address) is not None and not self._is_spared(address):
            connection.party = addresses.party(str(address))
            count = self._of_party[connection.party] = self._of_party[connection.party] + 1
        if len(self._open) > self.limits.connections:
            raise Busy("the server has too many connections, see LLAMERO_MAX_CONNECTIONS")
        if count > self.limits.per_address:
            raise RateLimited("too many connections from this address")

    def leave(self, connection: Connection) -> None:
        self._open.discard(connection)
        if party := connection.party:
            self._of_party[party] -= 1
            if self._of_party[party] <= 0:
                del self._of_party[party]

    def _check(self) -> None:
        if not self._open:
            self._is_watching = False
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self.limits.check_s, self._check)
        for connection in tuple(self._open):
            try:
                connection.check(loop.time())
            except Exception:  # one that is odd must not be the end of all limits
                log.exception("a connection from %s could not be looked at", connection.address)


class Connection(HttpToolsProtocol):
    """One connection. Its requests are answered one after the other: the next is read when the one before it is."""

    def __init__(
        self,
        all_of_them: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.address: Address | None = None
        """Of the peer; None on a unix socket."""
        self.party = ""
        """Whom it counts for; empty: for nobody."""
        self._all = all_of_them
        self._framing = Framing()
        self._unread = b""
        """What came and was not looked at."""
        self._parsed_heads = 0
        self._is_leaving = False
        self._phase = _Unchanged()
        self._stall = _Unchanged()
        self._credit_s = all_of_them.limits.body_grace_s
        """By which the body may still be late."""
        self._received_bytes = 0
        """Since the last look, or since we hung up."""
        self._checked_s = self.loop.time()
        self._socket: asyncio.Transport

    # --- uvicorn's protocol ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._socket = transport
        self.transport = cast(asyncio.Transport, _Line(transport, self._leave, self._is_closing))
        if self.client is not None:
            self.address = addresses.parse(self.client[0])
        try:
            self._all.enter(self)
        except LlameroError as error:
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_leaving = True
        self._all.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        if self._is_leaving:
            if self._received_bytes > self._all.limits.linger_bytes:
                self.flow.pause_reading()
            return
        self._unread = self._unread + data if self._unread else data
        self._read()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest("malformed request"))

    def on_headers_complete(self) -> None:
        self.scope["extensions"] = {CONNECTION: {"keeps_open": self._keeps_open}}
        super().on_headers_complete()
        self._parsed_heads += 1
        self.headers = []  # the request has its own; trailers end here, where nobody takes them for its head

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._keeps_open():
            self.transport.close()
        elif self._unread:
            self.loop.call_soon(self._read)

    # --- reading ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Have the parser see what came, as far as it is sound and its turn."""
        try:
            while self._unread and not self._is_leaving:
                if self._is_answering and not self._framing.in_body:
                    if len(self._unread) > MAX_AHEAD_BYTES:
                        self.flow.pause_reading()
                    return
                sound, self._unread = self._framing.take(self._unread)
                if sound:
                    super().data_received(sound)
                elif self._framing.has_begun:
                    self._unset_keepalive_if_required()
        except LlameroError as error:
            self._refuse(error)

    @property
    def _request(self) -> RequestResponseCycle | None:
        """The one whose head came last; None before the first, and when the parser has not seen that head."""
        return self.cycle if self._parsed_heads == self._framing.heads else None

    @property
    def _is_answering(self) -> bool:
        return self._request is not None and not self._request.response_complete

    def _keeps_open(self) -> bool:
        """Whether there can be another request behind an answer that is given now: not when the rest of the body is too
        much to read for nothing. Who asked whether to send it at all may never do so."""
        framing = self._framing
        if not framing.in_body:
            return True
        return framing.part == "body" and framing.left_bytes <= MAX_SPILL_BYTES and not self.expect_100_continue

    # --- hanging up ------------------------------------------------------------------------------------------------

    def _refuse(self, error: LlameroError) -> None:
        """Say why, unless an answer is on its way already, and hang up."""
        if self._is_leaving:
            return
        is_answered = False
        if self._framing.in_body and (request := self._request) is not None:
            is_answered = request.response_started
            request.disconnected = True
            request.message_event.set()
        if not is_answered:
            self._socket.write(_written(error, self.server_state.default_headers))
        log.debug("a connection from %s is closed: %s", self.address, error)
        self._leave()

    def _leave(self) -> None:
        """Close, but not in the face of a client that is still sending."""
        if self._is_leaving:
            return
        self._is_leaving = True
        transport = self._socket
        if transport.is_closing():
            return
        if not self._framing.in_body and not self._framing.has_begun and not self._unread:
            transport.close()
            return
        self._received_bytes = 0
        self.flow.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self.loop.call_later(self._all.limits.linger_s, transport.close)

    def _is_closing(self) -> bool:
        return self._is_leaving or self._socket.is_closing()

    # --- time ------------------------------------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """End what has taken too long. Called about every second."""
        unsent_bytes = self._socket.get_write_buffer_size()
        stalled_s = self._stall.for_s(unsent_bytes, now_s)
        if unsent_bytes and stalled_s > self._all.limits.stall_s:
            log.info("a client reads nothing of its answer: %s is disconnected", self.address)
            self._socket.abort()
        elif not self._is_leaving:
            self._check_reading(now_s)
        self._checked_s = now_s

    def _check_reading(self, now_s: float) -> None:
        limits, framing = self._all.limits, self._framing
        received_bytes, self._received_bytes = self._received_bytes, 0
        waited_s = self._phase.for_s((framing.has_begun, framing.in_body, framing.heads), now_s)
        if framing.in_body:
            self._check_body(received_bytes, now_s - self._checked_s)
            return
        self._credit_s = limits.body_grace_s
        if framing.has_begun and waited_s > limits.head_s:
            self._refuse(LlameroError("the head of the request took too long", status=408))
        elif self._request is None and not framing.has_begun and waited_s > limits.idle_s:
            self.transport.close()  # behind an answer, uvicorn counts

    def _check_body(self, received_bytes: int, passed_s: float) -> None:
        """Time counts while the client could send: not while we do not take it, nor while it waits for our word."""
        limits, request = self._all.limits, self._request
        if self.flow.read_paused or request is None or request.waiting_for_100_continue:
            return
        self._credit_s += received_bytes / limits.body_bytes_per_s - passed_s
        if self._credit_s < 0:
            self._refuse(LlameroError("the body of the request comes too slowly", status=408))
        self._credit_s = min(self._credit_s, limits.body_grace_s)


class _Line:
    """The transport as uvicorn's code has it: the same, but that closing is the connection's own affair.

    No subclass with methods around the transport's: each piece of a stream would go through one more.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], is_closing: Callable[[], bool]) -> None:
        self.write = transport.write
        self.get_extra_info = transport.get_extra_info
        self.close = close
        self.is_closing = is_closing


class _Unchanged:
    """For how long something has been the same."""

    def __init__(self) -> None:
        self._seen: Hashable = None
        self._since_s = 0.0

    def for_s(self, seen: Hashable, now_s: float) -> float:
        if seen != self._seen:
            self._seen, self._since_s = seen, now_s
        return now_s - self._since_s


def _written(error: LlameroError, headers: list[tuple[bytes, bytes]]) -> bytes:
    """A whole reply. No dialect: nobody knows yet which path was asked for, if any."""
    body = native.write_error(error)
    fields = {
        "content-type": JSON,
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "connection": "close",
        **error.headers,
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name.decode()}: {value.decode()}" for name, value in headers]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
