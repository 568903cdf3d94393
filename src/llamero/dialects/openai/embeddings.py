"""Texts turned into vectors: the request read, the reply written. Source: compat-api §7."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from ...errors import InvalidField
from ...messages import Embedded, EmbedRequest
from ..fields import Fields, read_body, read_extensions, warnings_of
from ..limits import MAX_INPUTS
from ..vectors import numbers, packed
from .chat import read_model
from .prompts import read_prompts

Encoding = Literal["float", "base64"]

_FIELDS = frozenset("model input dimensions encoding_format truncate".split())


@dataclass(frozen=True, slots=True)
class Embeddings:
    request: EmbedRequest
    encoding: Encoding = "float"


class EmbeddingReply(msgspec.Struct):
    object: str
    embedding: msgspec.Raw
    index: int


class UsageReply(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(msgspec.Struct):
    object: str
    data: list[EmbeddingReply]
    model: str
    usage: UsageReply


def read_embeddings(body: bytes) -> Embeddings:
    """Raises BadRequest, mostly as InvalidField."""
    fields = read_body(body)
    model = read_model(fields)
    texts, tokens = _inputs(fields)
    extensions = read_extensions(fields)
    request = EmbedRequest(
        model=model,
        inputs=texts,
        tokens=tokens,
        truncate=fields.boolean("truncate") is not False,
        dimensions=_dimensions(fields),
        options=extensions["options"],
        keep_alive_ns=extensions.get("keep_alive_ns"),
        is_batch=extensions.get("is_batch", False),
        warnings=warnings_of(fields, _FIELDS, ("think", "adapters")),
    )
    return Embeddings(request, _encoding(fields))


def write_embeddings(asked: Embeddings, embedded: Embedded) -> bytes:
    """Raises InvalidField when the vectors are shorter than what was asked for."""
    dimensions = asked.request.dimensions
    if embedded.vectors and dimensions > len(embedded.vectors[0]):
        size = len(embedded.vectors[0])
        raise InvalidField(f"dimensions must not be more than the {size} of this model", "dimensions")
    write = packed if asked.encoding == "base64" else numbers
    data = [EmbeddingReply("embedding", write(vector), index) for index, vector in enumerate(embedded.vectors)]
    tokens = embedded.usage.prompt_tokens
    return msgspec.json.encode(EmbeddingsReply("list", data, asked.request.model, UsageReply(tokens, tokens)))


def _inputs(body: Fields) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    given = body.raw("input")
    if given is None or given == []:
        raise body.invalid("input", "invalid input")
    inputs = read_prompts(given)
    if inputs is None:
        raise body.invalid("input", "invalid input type")
    if len(inputs) > MAX_INPUTS:
        raise body.invalid("input", f"input: at most {MAX_INPUTS} items are accepted")
    texts = tuple(item for item in inputs if isinstance(item, str))
    return texts, tuple(item for item in inputs if isinstance(item, tuple))


def _dimensions(body: Fields) -> int:
    """0: all of them."""
    dimensions = body.integer("dimensions")
    if dimensions is None:
        return 0
    if dimensions < 1:
        raise body.invalid("dimensions", "dimensions must be at least 1")
    return dimensions


def _encoding(body: Fields) -> Encoding:
    text = body.text("encoding_format") or "float"
    match text.lower():
        case "float" | "base64" as encoding:
            return encoding
    raise body.invalid(
        "encoding_format",
        f"Invalid value for 'encoding_format' = {text}. Supported values: ['float', 'base64'].",
    )
