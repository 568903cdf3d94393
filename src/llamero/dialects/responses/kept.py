"""A response that is kept with its input, and what can be asked of it later. Source: compat-api §8.9."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ...errors import BadRequest, InvalidField, NotFound
from .items import Item
from .output import NewId
from .reply import ErrorReply, ResponseObject

MAX_PAGE = 100
DEFAULT_PAGE = 20
"""OpenAI's own."""

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "web_search_call": "ws",
}


@dataclass(frozen=True, slots=True)
class Kept:
    response: dict[str, Any]
    """The response object."""
    items: Sequence[Item]
    """Everything that it answers, also what earlier responses brought; each with an id."""

    @property
    def id(self) -> str:
        return str(self.response["id"])

    @property
    def is_pending(self) -> bool:
        """Whether somebody is still at it, in the background."""
        return self.response["status"] in ("queued", "in_progress")

    def now(self, response: ResponseObject) -> Kept:
        """The same, later."""
        return replace(self, response=msgspec.to_builtins(response))

    @property
    def conversation(self) -> list[Item]:
        """What a response that follows this one goes on with."""
        return [*self.items, *self.response["output"]]


def keep(response: ResponseObject, items: Iterable[Item], new_id: NewId) -> Kept:
    return Kept(msgspec.to_builtins(response), [_listed(item, new_id) for item in items])


def broken_off(pending: Kept) -> Kept:
    """A response that nobody is at any more."""
    error = ErrorReply("server_error", "the server was stopped before the response was complete and kept")
    return replace(pending, response={**pending.response, "status": "failed", "error": msgspec.to_builtins(error)})


def _listed(item: Item, new_id: NewId) -> Item:
    """An input item in the full form in which it is listed, whatever short one the client wrote."""
    kind = item.get("type") or "message"
    given = item.get("id")
    id_ = given if isinstance(given, str) and given else new_id(_PREFIXES[kind])
    listed = {**item, "id": id_, "type": kind}
    if kind == "message":
        listed["content"] = _parts(listed)
    if kind != "reasoning":
        listed.setdefault("status", "completed")
    return listed


def _parts(message: Item) -> list[Any]:
    content = message.get("content")
    if not isinstance(content, str):
        return list(content or ())
    if message["role"].lower() == "assistant":
        return [{"type": "output_text", "text": content, "annotations": []}]
    return [{"type": "input_text", "text": content}]


def list_input(kept: Kept, query: Mapping[str, str]) -> bytes:
    """One page of the input items: `limit`, `order`, `after`. Raises InvalidField."""
    limit = query.get("limit", str(DEFAULT_PAGE))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:4]) <= MAX_PAGE):
        raise InvalidField(f"'limit' must be between 1 and {MAX_PAGE}", "limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidField("'order' must be asc or desc", "order")
    items = list(kept.items) if order == "asc" else list(reversed(kept.items))
    items = items[_start(items, query.get("after")) :]
    page = items[: int(limit)]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > len(page),
        }
    )


def _start(items: Sequence[Item], after: str | None) -> int:
    if not after:
        return 0
    for place, item in enumerate(items):
        if item["id"] == after:
            return place + 1
    raise InvalidField(f"Item with id '{after[:100]}' not found.", "after")


def write_kept(kept: Kept) -> bytes:
    return msgspec.json.encode(kept.response)


def write_deleted(id_: str) -> bytes:
    return msgspec.json.encode({"id": id_, "object": "response", "deleted": True})


def write_input_tokens(tokens: int) -> bytes:
    """The reply of `/v1/responses/input_tokens`: how long a request's prompt is."""
    return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": tokens})


def not_found(id_: str) -> NotFound:
    return NotFound(f"Response with id '{id_[:100]}' not found.")


def previous_not_found(id_: str) -> InvalidField:
    message = f"Previous response with id '{id_[:100]}' not found."
    return InvalidField(message, "previous_response_id", "previous_response_not_found")


def previous_not_ready(id_: str) -> InvalidField:
    message = f"Previous response with id '{id_[:100]}' is still being made."
    return InvalidField(message, "previous_response_id", "previous_response_not_ready")


def too_long() -> InvalidField:
    return InvalidField("the conversation is too long to be kept, as a response in the background must be", "input")


def cannot_cancel() -> BadRequest:
    """Only those that are made in the background go on while somebody asks."""
    return BadRequest("Cannot cancel a synchronous response.")
