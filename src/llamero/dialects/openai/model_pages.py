"""The same models as Anthropic's clients list them: page by page. Source: compat-api §4.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ...errors import InvalidField
from ..native import timestamp
from .models import KnownModel

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of the list is wanted: `limit` models behind `after_id`, or those just in front of `before_id`."""

    limit: int = DEFAULT_LIMIT
    after_id: str = ""
    before_id: str = ""


class ModelInfo(msgspec.Struct):
    type: str
    id: str
    display_name: str
    created_at: str
    lifecycle: str
    max_input_tokens: int | None
    max_tokens: int | None


class PageReply(msgspec.Struct):
    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


def read_page(query: Mapping[str, str]) -> Page:
    """The page that a query string asks for. Raises InvalidField."""
    limit = query.get("limit") or str(DEFAULT_LIMIT)
    if not (limit.isascii() and limit.isdigit() and len(limit) <= len(str(MAX_LIMIT)) and 1 <= int(limit) <= MAX_LIMIT):
        raise InvalidField(f"limit must be between 1 and {MAX_LIMIT}", "limit")
    page = Page(int(limit), query.get("after_id", ""), query.get("before_id", ""))
    if page.after_id and page.before_id:
        raise InvalidField("use either after_id or before_id, not both", "before_id")
    return page


def write_page(models: Sequence[KnownModel], page: Page) -> bytes:
    """Raises InvalidField for an id that is not in the list."""
    if page.before_id:
        end = _index(models, page.before_id, "before_id")
        start = max(0, end - page.limit)
        has_more = start > 0
    else:
        start = _index(models, page.after_id, "after_id") + 1 if page.after_id else 0
        end = start + page.limit
        has_more = end < len(models)
    data = [_info(model.name.display, model) for model in models[start:end]]
    return msgspec.json.encode(
        PageReply(data, has_more, data[0].id if data else None, data[-1].id if data else None),
    )


def write_info(id_: str, model: KnownModel) -> bytes:
    """One model, under the name that the client asked for."""
    return msgspec.json.encode(_info(id_, model))


def _index(models: Sequence[KnownModel], id_: str, param: str) -> int:
    for index, model in enumerate(models):
        if model.name.display == id_:
            return index
    raise InvalidField(f"{param}: there is no model {id_!r}", param)


def _info(id_: str, model: KnownModel) -> ModelInfo:
    tokens = model.context_tokens or None  # prompt and answer share one window
    return ModelInfo("model", id_, id_, timestamp(model.modified_ns), "active", tokens, tokens)
