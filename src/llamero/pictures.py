"""Pictures that requests name by URL, fetched where an operator allows it. Source: compat-api §5.2; security §10.1.

What the bytes are is for the readers to find out. Nothing on this machine or its networks is ever asked, whoever wants
it: a picture's address is a stranger's word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from yarl import URL

from .chat.media import MAX_FILES, MAX_IMAGE_BYTES
from .errors import Forbidden, InvalidField, RegistryError, first_of
from .registry.egress import Egress, Exemption, authority, join_url, parse_url
from .registry.network import Network, Transport

MAX_REDIRECTS = 3
FETCH_TIMEOUT_S = 10.0
"""For one picture, its redirects included."""
MAX_AT_ONCE = 4

_REDIRECTS = (301, 302, 303, 307, 308)


Named = Callable[[], Mapping[str, str]]
"""Gives the URLs in a request and the field of each; may raise BadRequest."""


class Pictures(Protocol):
    async def fetch(self, named: Named) -> Mapping[str, bytes]:
        """The pictures by URL. Raises BadRequest: an InvalidField for one that cannot be had."""


class NoPictures:
    """Nothing is fetched: the readers refuse URLs themselves."""

    async def fetch(self, named: Named) -> Mapping[str, bytes]:
        return {}


class RemotePictures:
    """`exemptions` and another `timeout_s` are for tests: their pictures lie on this machine."""

    def __init__(
        self, network: Network, exemptions: tuple[Exemption, ...] = (), *, timeout_s: float = FETCH_TIMEOUT_S
    ) -> None:
        self._network = network
        self._exemptions = exemptions
        self._timeout_s = timeout_s

    async def fetch(self, named: Named) -> Mapping[str, bytes]:
        urls = named()
        if len(urls) > MAX_FILES:
            raise InvalidField(f"at most {MAX_FILES} images are accepted", list(urls.values())[MAX_FILES])
        turns = asyncio.Semaphore(MAX_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {url: group.create_task(self._try(url, param, turns)) for url, param in urls.items()}
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        return {url: task.result() for url, task in tasks.items()}

    async def _try(self, text: str, param: str, turns: asyncio.Semaphore) -> bytes:
        try:
            url = parse_url(text)
        except RegistryError:
            raise InvalidField("the image cannot be fetched: its address is malformed", param) from None
        try:
            async with turns, asyncio.timeout(self._timeout_s):
                return await self._fetch(url)
        except Forbidden:
            reason = "its host is not on the public internet"
        except TimeoutError:
            reason = "timed out"
        except RegistryError as error:
            reason = str(error)
        raise InvalidField(f"the image cannot be fetched: {reason}", param)

    async def _fetch(self, url: URL) -> bytes:
        egress = Egress(url, exemptions=self._exemptions, is_own_listener=self._network.is_own_listener)
        transport = Transport(self._network, egress)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                response = await transport.send("GET", url, {"Accept": "image/*"})
                try:
                    if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                        source, url = url, join_url(url, location)
                        egress.check_hop(source, url)
                        continue
                    if response.status != 200:
                        raise RegistryError(f"{authority(url)} answers {response.status}")
                    if not response.content_type.startswith("image/"):
                        raise RegistryError(f"{authority(url)} sends something else")
                    return await transport.read_body(response, MAX_IMAGE_BYTES)
                finally:
                    response.close()
            raise RegistryError("too many redirects")
        finally:
            await transport.close()
