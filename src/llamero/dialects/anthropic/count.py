"""Bodies and replies of `/v1/messages/count_tokens`. Source: compat-api §10."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...messages import ChatRequest
from ..fields import read_body
from .reading import check_model, read_prompt


def read_count(body: bytes, *, thinks_by_default: bool = False, fetched: Mapping[str, bytes] = {}) -> ChatRequest:
    """A request with the prompt that `read_messages` makes of the same body. Raises BadRequest."""
    fields = read_body(body)
    check_model(fields)
    shared, _ = read_prompt(fields, fetched, thinks_by_default=thinks_by_default)
    return ChatRequest(**shared, stream=False)


def write_count(prompt_tokens: int) -> bytes:
    return msgspec.json.encode({"input_tokens": prompt_tokens})
