"""Searching a catalogue of models: the Hugging Face hub's list of GGUF repositories, or another of that shape.

It fetches no model. Source: cli §3.16 (`search`). Whatever comes back is a stranger's text until it is a model's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urlencode

import msgspec

from ..errors import InvalidName, RegistryAnswered, RegistryError
from ..names import ModelName
from .network import Network
from .session import Origin, Session

HUB_URL = "https://huggingface.co"
HUB_HOST = "hf.co"
"""By which the hub stands in the names of its models."""
MOST_ROWS = 100
"""As many as the hub gives at a time."""
MAX_LIST_BYTES = 8 * 2**20
"""A hundred rows have some 20 kB where they are asked for as here, and a hundred times that where that is not heard."""
_FIELDS = ("downloads", "gated", "lastModified", "likes")


@dataclass(frozen=True, slots=True)
class Listed:
    """One repository."""

    name: str
    """To be pulled by: `hf.co/owner/repository`."""
    downloads: int
    """In the last month."""
    likes: int
    updated_at: datetime | None
    is_gated: bool
    """Its owner wants to know who fetches it."""


class _Row(msgspec.Struct):
    id: str = ""
    downloads: int = 0
    likes: int = 0
    lastModified: datetime | None = None
    gated: bool | str = False


async def search(network: Network, text: str, *, index: str = "", most: int = 20) -> list[Listed]:
    """The repositories of weights for `text`, the most downloaded first. `index` is the address of another catalogue.

    Raises RegistryError, in one line that says what to try, and Forbidden for an address that may not be asked.
    """
    base = index.rstrip("/") or HUB_URL
    place = base.rpartition("@")[2]  # without a password
    fields = [("search", text), ("filter", "gguf"), ("sort", "downloads"), ("direction", "-1"), ("limit", str(most))]
    query = urlencode([*fields, *(("expand", field) for field in _FIELDS)])
    try:
        async with Session(_origin(base), network) as session:
            body = await session.listing(f"api/models?{query}", MAX_LIST_BYTES)
    except RegistryAnswered as error:
        if error.answer_status == HTTPStatus.NOT_FOUND:
            raise RegistryError(f"cannot search: there is no catalogue at {place}") from error
        raise RegistryError(f"cannot search: {place} answered {error}") from error
    except RegistryError as error:
        hint = "; behind a proxy set HTTPS_PROXY; --index asks another catalogue" if error.retryable else ""
        raise RegistryError(f"cannot search: {error}{hint}") from error
    try:
        rows = msgspec.json.decode(body, type=list[_Row])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RegistryError(f"cannot search: what answers at {place} is no catalogue of models") from error
    return list(_listed(rows))[:most]


def _origin(base: str) -> Origin:
    """Whoever names an address here is also the one who asks: it may be near, and only then without encryption."""
    is_plain = base.lower().startswith("http://")
    return Origin(base, "", "", "registry", HUB_HOST, may_be_private=True, must_be_private=is_plain)


def _listed(rows: list[_Row]) -> Iterator[Listed]:
    """Those whose names can be pulled."""
    for row in rows:
        try:
            name = ModelName.parse(f"{HUB_HOST}/{row.id}")
        except InvalidName:
            continue
        if name.host == HUB_HOST:
            updated_at = row.lastModified
            if updated_at is not None and updated_at.tzinfo is None:
                updated_at = updated_at.replace(tzinfo=UTC)
            yield Listed(f"{HUB_HOST}/{row.id}", row.downloads, row.likes, updated_at, bool(row.gated))
