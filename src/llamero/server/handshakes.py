"""Connections on their way to TLS: how many may be shaking hands at once, and how many of them with one party.

Before that is over, a connection is none of `connections` and no limit of theirs knows it: whoever says nothing at all
would have as many as the system has descriptors. Source: security §5 (connection floods), §6.6.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from . import addresses
from .addresses import Address
from .tls import GOODBYE_S, HANDSHAKE_S

log = logging.getLogger(__name__)

MOST_EACH = 256
"""With one party: as many as it may have connections."""
PAUSE_S = 1.0
"""When the system has no descriptor left: connections wait, and others end meanwhile."""


class Handshakes:
    """All that go on. `is_spared` tells of a peer whether it may begin as many as it likes, up to `most`."""

    def __init__(self, most: int, is_spared: Callable[[Address], bool], most_each: int = MOST_EACH) -> None:
        self._most = most
        self._most_each = most_each
        self._is_spared = is_spared
        self._of_party: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of_party.total()

    def begin(self, peer: str) -> str | None:
        """For whom one more counts, which `end` wants to hear; None: it is one too many."""
        address, party = addresses.parse(peer), addresses.party(peer)
        most_each = self._most if address is not None and self._is_spared(address) else self._most_each
        if len(self) >= self._most or self._of_party[party] >= most_each:
            return None
        self._of_party[party] += 1
        return party

    def end(self, party: str) -> None:
        self._of_party[party] -= 1
        if not self._of_party[party]:
            del self._of_party[party]


class Reception:
    """Accepts connections and has them shake hands, as `asyncio.Server` does, which knows no limits.

    `make` gives the protocol of one that has; `listening` is closed by whoever opened it, after `close`.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        make: Callable[[], asyncio.Protocol],
        handshakes: Handshakes,
    ) -> None:
        self._context = context
        self._make = make
        self._handshakes = handshakes
        listening.setblocking(False)
        self._tasks = {asyncio.create_task(self._accept(listening))}

    async def close(self) -> None:
        """Connections that are made stay; handshakes that go on are broken off."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue  # whoever it was has gone again
            except OSError as error:
                log.error("no connection can be taken in: %s", error.strerror)
                await asyncio.sleep(PAUSE_S)
                continue
            party = self._handshakes.begin(peer[0])
            if party is None:
                log.debug("a connection from %s is closed: too many that have not begun", peer[0])
                connection.close()  # in what language could it be told why?
                continue
            task = asyncio.create_task(self._shake_hands(connection, party))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake_hands(self, connection: socket.socket, party: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except OSError as error:
            log.debug("no TLS with %s: %s", party, error)
        finally:
            self._handshakes.end(party)
