"""Documents ranked by how well they answer a query: the request read, the reply written. Pure.

`/api/rerank` is ours, in the native dialect's manners; `/v1/rerank` has what readers of Jina's and of Cohere's replies
look for. Source: native-api §3.22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..errors import InvalidField
from ..messages import Reranked, RerankRequest
from .fields import read_body, read_extensions, warnings_of
from .gojson import decode, encode
from .native import KeepAlive, OptionMap, unknown_fields
from .openai.chat import read_model

MAX_DOCUMENTS = 2_048

_FIELDS = frozenset("model query documents top_n return_documents".split())

API_VERSION = "2"
"""Of Cohere's, whose reply this is."""


@dataclass(frozen=True, slots=True)
class Rerank:
    """A request, and what concerns the form of its reply."""

    request: RerankRequest
    returns_documents: bool = False


# --- requests ------------------------------------------------------------------------------------------------------


Documents = Annotated[
    Any,
    Meta(
        extra_json_schema={
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_DOCUMENTS,
            "items": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"text": {"type": "string"}}}]},
        }
    ),
]


class RerankBody(msgspec.Struct):
    model: str = ""
    query: str = ""
    documents: Documents = None
    top_n: int | None = None
    return_documents: bool = False
    options: OptionMap = {}
    keep_alive: KeepAlive = None


def read_rerank(body: bytes) -> Rerank:
    """The body of `/api/rerank`. Raises BadRequest."""
    decoded = decode(body, RerankBody, "RerankRequest")
    value = decoded.value
    if not value.model.strip():
        raise InvalidField("model is required", "model")
    request = RerankRequest(
        model=value.model,
        query=_query(value.query),
        documents=_documents(value.documents),
        top_n=_top_n(value.top_n),
        options=value.options,
        keep_alive_ns=value.keep_alive,
        warnings=unknown_fields(decoded.unknown),
    )
    return Rerank(request, value.return_documents)


def read_v1_rerank(body: bytes) -> Rerank:
    """The body of `/v1/rerank`. Raises BadRequest, mostly as InvalidField."""
    fields = read_body(body)
    extensions = read_extensions(fields)
    request = RerankRequest(
        model=read_model(fields),
        query=_query(fields.text("query")),
        documents=_documents(fields.raw("documents")),
        top_n=_top_n(fields.integer("top_n")),
        options=extensions["options"],
        keep_alive_ns=extensions.get("keep_alive_ns"),
        warnings=warnings_of(fields, _FIELDS, ("think", "adapters")),
    )
    return Rerank(request, fields.boolean("return_documents") or False)


def _query(query: str | None) -> str:
    if not query:
        raise InvalidField("query is required", "query")
    return query


def _documents(given: Any) -> tuple[str, ...]:
    if given is None or given == []:
        raise InvalidField("documents is required", "documents")
    if not isinstance(given, list):
        raise InvalidField("documents must be an array", "documents")
    if len(given) > MAX_DOCUMENTS:
        raise InvalidField(f"documents: at most {MAX_DOCUMENTS} are accepted", "documents")
    return tuple(_document(item, f"documents[{index}]") for index, item in enumerate(given))


def _document(item: Any, path: str) -> str:
    text = item.get("text") if isinstance(item, dict) else item
    if not isinstance(text, str):
        raise InvalidField(f"'{path}' must be a string, or an object with a text", path)
    return text


def _top_n(top_n: int | None) -> int | None:
    if top_n is not None and top_n < 1:
        raise InvalidField("top_n must be at least 1", "top_n")
    return top_n


# --- replies -------------------------------------------------------------------------------------------------------


class DocumentReply(msgspec.Struct):
    text: str


class ResultReply(msgspec.Struct):
    index: int
    relevance_score: float
    document: DocumentReply | UnsetType = UNSET


class UsageReply(msgspec.Struct):
    total_tokens: int


class RerankReply(msgspec.Struct):
    model: str
    results: list[ResultReply]
    usage: UsageReply


class VersionReply(msgspec.Struct):
    version: str = API_VERSION


class TokensReply(msgspec.Struct):
    input_tokens: int
    output_tokens: int = 0


class MetaReply(msgspec.Struct):
    """What Cohere's clients read about a reply."""

    tokens: TokensReply
    api_version: VersionReply = msgspec.field(default_factory=VersionReply)
    warnings: tuple[str, ...] | UnsetType = UNSET


class V1RerankReply(msgspec.Struct):
    id: str
    model: str
    results: list[ResultReply]
    usage: UsageReply
    meta: MetaReply


def write_rerank(asked: Rerank, found: Reranked) -> bytes:
    usage = UsageReply(found.usage.prompt_tokens)
    return encode(RerankReply(asked.request.model, _results(asked, found), usage))


def write_v1_rerank(asked: Rerank, found: Reranked, id_: str) -> bytes:
    tokens = found.usage.prompt_tokens
    meta = MetaReply(TokensReply(tokens), warnings=found.warnings or UNSET)
    reply = V1RerankReply(id_, asked.request.model, _results(asked, found), UsageReply(tokens), meta)
    return msgspec.json.encode(reply)


def _results(asked: Rerank, found: Reranked) -> list[ResultReply]:
    documents = asked.request.documents

    def document(index: int) -> DocumentReply | UnsetType:
        return DocumentReply(documents[index]) if asked.returns_documents else UNSET

    return [ResultReply(each.index, each.relevance, document(each.index)) for each in found.ranking]
