"""What `/api/...` is asked: each body as the struct that it is on the wire, read into a request of `messages`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ...errors import BadRequest
from ...messages import Adapter, ChatRequest, EmbedRequest, GenerateRequest, Message, ToolCall
from ..gojson import Custom, GoType, decode, ordered_map
from ..limits import MAX_MESSAGES, MAX_TOOLS, MAX_TOP_LOGPROBS
from .fields import (
    Format,
    Images,
    Inputs,
    KeepAlive,
    OptionMap,
    ThinkField,
    ToolChoiceField,
    read_licenses,
    read_role,
)
from .tools import read_tool


class FunctionBody(msgspec.Struct):
    index: int = 0
    name: str = ""
    arguments: Annotated[dict[str, Any], Custom(ordered_map)] = {}


class ToolCallBody(msgspec.Struct):
    id: str = ""
    function: Annotated[FunctionBody, GoType("api.ToolCallFunction")] = msgspec.field(default_factory=FunctionBody)


class MessageBody(msgspec.Struct):
    role: Annotated[str, Custom(read_role), GoType("string")] = ""
    content: str = ""
    thinking: str = ""
    images: Images = ()
    tool_calls: Annotated[tuple[Annotated[ToolCallBody, GoType("api.ToolCall")], ...], GoType("[]api.ToolCall")] = ()
    tool_name: str = ""
    tool_call_id: str = ""

    def message(self) -> Message:
        calls = tuple(
            ToolCall(call.function.name, call.function.arguments, call.id, call.function.index)
            for call in self.tool_calls
        )
        return Message(self.role, self.content, self.thinking, self.images, calls, self.tool_name, self.tool_call_id)


Messages = Annotated[
    tuple[Annotated[MessageBody, GoType("api.Alias")], ...], GoType("[]api.Message"), Meta(max_length=MAX_MESSAGES)
]
"""A message of the reference reads itself, under this other name."""


class AdapterBody(msgspec.Struct):
    model: str = ""
    scale: float = 1.0


class GenerationBody(msgspec.Struct):
    """The fields that generate and chat share."""

    model: str = ""
    stream: bool | None = None
    format: Format = None
    keep_alive: KeepAlive = None
    options: OptionMap = {}
    think: ThinkField = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    timings: bool = False
    adapters: Annotated[tuple[AdapterBody, ...] | None, GoType("[]api.Adapter")] = None
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")

    def shared(self, unknown: Sequence[str]) -> dict[str, Any]:
        if not 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS:
            raise BadRequest(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")
        return {
            "model": self.model,
            "stream": self.stream is not False,
            "format": None if self.format == "" else self.format,
            "keep_alive_ns": self.keep_alive,
            "options": self.options,
            "think": self.think,
            "truncate": self.truncate is not False,
            "shift": self.shift,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs,
            "timings": self.timings,
            "adapters": self._adapters(),
            "render_only": self.debug_render_only,
            "warnings": unknown_fields(unknown),
        }

    def _adapters(self) -> tuple[Adapter, ...] | None:
        given = self.adapters
        return None if given is None else tuple(Adapter(each.model, each.scale) for each in given)


class ChatBody(GenerationBody):
    messages: Messages = ()
    tools: Annotated[
        tuple[Annotated[dict[str, Any], Custom(read_tool), GoType("api.Tool")], ...],
        GoType("api.Tools"),
        Meta(max_length=MAX_TOOLS),
    ] = ()
    tool_choice: ToolChoiceField = None
    parallel_tool_calls: bool | None = None


class GenerateBody(GenerationBody):
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: Annotated[tuple[int, ...], GoType("[]int")] = ()
    raw: bool = False
    images: Images = ()


class EmbedBody(msgspec.Struct):
    model: str = ""
    input: Inputs = None
    truncate: bool | None = None
    dimensions: int = 0
    keep_alive: KeepAlive = None
    options: OptionMap = {}
    timings: bool = False


class EmbeddingsBody(msgspec.Struct):
    model: str = ""
    prompt: str = ""
    keep_alive: KeepAlive = None
    options: OptionMap = {}


class ShowBody(msgspec.Struct):
    model: str = ""
    name: str = ""
    verbose: bool = False
    system: str = ""
    options: OptionMap = {}
    template: str = ""


class CreateBody(msgspec.Struct):
    model: str = ""
    name: str = ""
    from_: str = msgspec.field(default="", name="from")
    files: Annotated[dict[str, str] | None, GoType("map[string]string")] = None
    adapters: Annotated[dict[str, str] | None, GoType("map[string]string")] = None
    draft_files: Annotated[dict[str, str] | None, GoType("map[string]string")] = None
    template: str = ""
    system: str = ""
    license: Annotated[list[str], Custom(read_licenses)] = []
    parameters: OptionMap = {}
    messages: Messages = ()
    quantize: str = ""
    quantization: str = ""
    draft_quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    info: OptionMap = {}
    stream: bool | None = None


class CopyBody(msgspec.Struct):
    source: str = ""
    destination: str = ""


class DeleteBody(msgspec.Struct):
    model: str = ""
    name: str = ""


class PullBody(msgspec.Struct):
    model: str = ""
    name: str = ""
    insecure: bool = False
    username: str = ""
    """Accepted and ignored, as the reference does; so is the password."""
    password: str = ""
    stream: bool | None = None
    starter: bool = False
    """Take the starter from the package index without asking the registry."""
    from_peer: str = ""
    """Base URL of a neighbour that is asked for each blob first."""
    limit_rate: str = ""
    """Bytes per second of this pull, such as `5MB`."""
    dry_run: bool = False
    as_: str = msgspec.field(default="", name="as")
    """Store the model under this name."""


class PushBody(msgspec.Struct):
    model: str = ""
    name: str = ""
    insecure: bool = False
    username: str = ""
    password: str = ""
    stream: bool | None = None
    limit_rate: str = ""


def read_chat(body: bytes) -> ChatRequest:
    decoded = decode(body, ChatBody, "ChatRequest")
    value = decoded.value
    shared = value.shared(decoded.unknown)
    return ChatRequest(
        **shared,
        messages=tuple(m.message() for m in value.messages),
        tools=value.tools,
        tool_choice=value.tool_choice,
        parallel_tool_calls=value.parallel_tool_calls,
    )


def read_generate(body: bytes) -> GenerateRequest:
    decoded = decode(body, GenerateBody, "GenerateRequest")
    value = decoded.value
    return GenerateRequest(
        **value.shared(decoded.unknown),
        prompt=value.prompt,
        suffix=value.suffix,
        system=value.system,
        template=value.template,
        context=value.context,
        raw=value.raw,
        images=value.images,
    )


def read_embed(body: bytes) -> tuple[EmbedRequest, Any]:
    """The request and its raw `input`: whether that makes sense is looked at after the name's syntax (§3.9)."""
    decoded = decode(body, EmbedBody, "EmbedRequest")
    value = decoded.value
    request = EmbedRequest(
        model=value.model,
        truncate=value.truncate is not False,
        dimensions=value.dimensions,
        keep_alive_ns=value.keep_alive,
        options=value.options,
        timings=value.timings,
        warnings=unknown_fields(decoded.unknown),
    )
    return request, value.input


def read_embeddings(body: bytes) -> EmbedRequest:
    decoded = decode(body, EmbeddingsBody, "EmbeddingRequest")
    value = decoded.value
    return EmbedRequest(
        model=value.model,
        inputs=(value.prompt,) if value.prompt else (),
        keep_alive_ns=value.keep_alive,
        options=value.options,
        warnings=unknown_fields(decoded.unknown),
    )


def unknown_fields(names: Iterable[str]) -> tuple[str, ...]:
    """What a request's reply warns of."""
    return tuple(f"field {name!r} is unknown and has no effect" for name in names)
