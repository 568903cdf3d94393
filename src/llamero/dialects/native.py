"""Ollama's own dialect: bodies of `/api/...` into the vocabulary of `messages`, steps of an answer into bytes. Pure.

The structs are the wire: field order is the reference's, `/openapi.json` is made from them. Source: native-api §1.5 to
§1.8, §2, §3.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .. import durations
from ..errors import BadRequest, LlameroError, NotSignedIn
from ..messages import (
    THINK_LEVELS,
    Adapter,
    ChatRequest,
    Delays,
    Embedded,
    EmbedRequest,
    Finished,
    GenerateRequest,
    Loaded,
    Logprob,
    Message,
    Rendered,
    Text,
    Think,
    Thinking,
    ToolCall,
    Usage,
)
from .gojson import Custom, GoType, WrongType, decode, encode, ordered_map
from .vectors import Numbers, numbers

MAX_MESSAGES = 10_000
MAX_TOOLS = 512
MAX_INPUTS = 2_048
MAX_IMAGES = 32
"""Security §5: counts beyond which a request is an attack on memory, not a conversation."""

MAX_TOP_LOGPROBS = 20


# --- fields that read themselves -----------------------------------------------------------------------------------


def read_keep_alive(value: Any) -> int:
    """`keep_alive` in nanoseconds; a number counts seconds, anything negative means for ever (native-api §2.2)."""
    if isinstance(value, bool):
        raise BadRequest("Unsupported type: 'bool'")
    if isinstance(value, int | float):
        if value < 0 or value >= durations.FOREVER / durations.SECOND:
            return durations.FOREVER
        return int(value * durations.SECOND)
    if isinstance(value, str):
        ns = durations.parse_duration(value)
        return durations.FOREVER if ns < 0 else ns
    kind = "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
    raise BadRequest(f"Unsupported type: '{kind}'")


_THINK_WORDS = '"high", "medium", "low", "max", true, or false'


def read_think(value: Any) -> Think:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        for level in THINK_LEVELS:
            if value == level:
                return level
        quoted = msgspec.json.encode(value).decode()
        raise BadRequest(f"invalid think value: {quoted} (must be {_THINK_WORDS})")
    raise BadRequest(f"think must be a boolean or string ({_THINK_WORDS})")


def read_inputs(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if len(value) > MAX_INPUTS:
            raise BadRequest(f"input: at most {MAX_INPUTS} items are accepted")
        return value
    raise BadRequest("invalid input type")


def read_role(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongType
    return value.lower()


def read_tool(value: Any) -> dict[str, Any]:
    """A tool as the client wrote it: Jinja templates get the whole schema; only what must be an object is checked."""
    if not isinstance(value, dict):
        raise WrongType
    function = value.get("function")
    if function is None:
        return value
    if not isinstance(function, dict):
        raise WrongType
    parameters = function.get("parameters")
    if isinstance(parameters, dict) and parameters.get("properties") is not None:
        ordered_map(parameters["properties"])
    return value


def read_licenses(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise LlameroError("json: cannot unmarshal license into Go value of type string")


def _described(*forms: dict[str, Any]) -> Meta:
    """What `/openapi.json` says of a field that reads itself."""
    return Meta(extra_json_schema={"anyOf": [*forms, {"type": "null"}]})


KeepAlive = Annotated[Any, Custom(read_keep_alive), _described({"type": "number"}, {"type": "string"})]
ThinkField = Annotated[Any, Custom(read_think), _described({"type": "boolean"}, {"enum": list(THINK_LEVELS)})]
Inputs = Annotated[
    Any, _described({"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": MAX_INPUTS})
]
ToolChoiceField = Annotated[Any, _described({"enum": ["auto", "none", "required"]}, {"type": "object"})]
Format = Annotated[Any, _described({"enum": ["", "json"]}, {"type": "object"})]
Images = Annotated[
    tuple[Annotated[bytes, GoType("api.ImageData")], ...], GoType("[]api.ImageData"), Meta(max_length=MAX_IMAGES)
]
OptionMap = Annotated[dict[str, Any], GoType("map[string]interface {}")]


# --- requests ------------------------------------------------------------------------------------------------------


class FunctionBody(msgspec.Struct):
    index: int = 0
    name: str = ""
    arguments: Annotated[dict[str, Any], Custom(ordered_map)] = {}


class ToolCallBody(msgspec.Struct):
    id: str = ""
    function: FunctionBody = msgspec.field(default_factory=FunctionBody)


class MessageBody(msgspec.Struct):
    role: Annotated[str, Custom(read_role), GoType("string")] = ""
    content: str = ""
    thinking: str = ""
    images: Images = ()
    tool_calls: Annotated[tuple[ToolCallBody, ...], GoType("[]api.ToolCall")] = ()
    tool_name: str = ""
    tool_call_id: str = ""

    def message(self) -> Message:
        calls = tuple(
            ToolCall(call.function.name, call.function.arguments, call.id, call.function.index)
            for call in self.tool_calls
        )
        return Message(self.role, self.content, self.thinking, self.images, calls, self.tool_name, self.tool_call_id)


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
    messages: Annotated[tuple[MessageBody, ...], GoType("[]api.Message"), Meta(max_length=MAX_MESSAGES)] = ()
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
    messages: Annotated[tuple[MessageBody, ...], GoType("[]api.Message"), Meta(max_length=MAX_MESSAGES)] = ()
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


# --- replies -------------------------------------------------------------------------------------------------------


class LogprobReply(msgspec.Struct, omit_defaults=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] = ()
    top_logprobs: list[LogprobReply] | None = None


class FunctionReply(msgspec.Struct):
    index: int
    name: str
    arguments: dict[str, Any]


class ToolCallReply(msgspec.Struct):
    id: str | UnsetType
    function: FunctionReply


class MessageReply(msgspec.Struct):
    role: str
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[ToolCallReply] | UnsetType = UNSET


class DebugInfo(msgspec.Struct):
    rendered_template: str
    image_count: int | UnsetType = UNSET


class TimingsReply(msgspec.Struct):
    """Where a request's time went (native-api §2.10): milliseconds and tokens, 0 for what did not happen."""

    queued_ms: float
    load_ms: float
    restore_ms: float
    prompt_tokens: int
    cached_tokens: int
    prefill_ms: float
    predicted_tokens: int
    decode_ms: float
    draft_tokens: int
    accepted_tokens: int


class GenerateReply(msgspec.Struct):
    model: str
    created_at: str
    response: str
    done: bool
    thinking: str | UnsetType = UNSET
    tool_calls: list[ToolCallReply] | UnsetType = UNSET
    logprobs: list[LogprobReply] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")
    done_reason: Literal["stop", "length", "load", "unload"] | UnsetType = UNSET
    context: tuple[int, ...] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    timings: TimingsReply | UnsetType = UNSET


class ChatReply(msgspec.Struct):
    model: str
    created_at: str
    message: MessageReply
    done: bool
    logprobs: list[LogprobReply] | UnsetType = UNSET
    debug_info: DebugInfo | UnsetType = msgspec.field(default=UNSET, name="_debug_info")
    done_reason: Literal["stop", "length", "load", "unload"] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    timings: TimingsReply | UnsetType = UNSET


class EmbedReply(msgspec.Struct):
    model: str
    embeddings: list[Numbers]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    warnings: tuple[str, ...] | UnsetType = UNSET
    timings: TimingsReply | UnsetType = UNSET


class EmbeddingsReply(msgspec.Struct):
    embedding: Numbers


class ErrorReply(msgspec.Struct, omit_defaults=True):
    error: str
    signin_url: str = ""


Part = Text | Thinking | ToolCall

R = TypeVar("R", ChatReply, GenerateReply)

Clock = Callable[[], int]
"""Nanoseconds since 1970."""


class _Writer(ABC, Generic[R]):
    """Writes the steps of one answer; what chat and generate have in common."""

    def __init__(self, model: str, clock: Clock, *, timings: bool = False) -> None:
        self._model = model
        self._clock = clock
        self._timings = timings

    def part(self, part: Part) -> bytes:
        """One line of a stream."""
        return encode(self._reply([part], done=False))

    def end(self, finished: Finished, parts: Sequence[Part] = ()) -> bytes:
        """The last line of a stream; with all `parts`, the whole answer."""
        reply = self._reply(parts, done=True)
        _finish(reply, finished)
        if self._timings:  # of all its runs: the question is where the time went
            reply.timings = _timings(finished.cost, finished.delays)
        return encode(reply)

    def single(self, step: Loaded | Rendered) -> bytes:
        """The whole reply to a request that generates nothing."""
        reply = self._reply([], done=isinstance(step, Loaded))
        if isinstance(step, Loaded):
            reply.done_reason = step.reason
            if self._timings:
                reply.timings = _timings(Usage(), step.delays)
        else:
            reply.debug_info = _debug(step)
        return encode(reply)

    @abstractmethod
    def _reply(self, parts: Sequence[Part], *, done: bool) -> R: ...


class ChatWriter(_Writer[ChatReply]):
    def single(self, step: Loaded | Rendered) -> bytes:
        if isinstance(step, Loaded):
            return super().single(step)
        reply = self._reply([], done=False)
        reply.message.role = ""  # as the reference has it
        reply.debug_info = _debug(step)
        return encode(reply)

    def _reply(self, parts: Sequence[Part], *, done: bool) -> ChatReply:
        text, thinking, calls, logprobs = _join(parts)
        message = MessageReply("assistant", text, thinking or UNSET, calls or UNSET)
        return ChatReply(self._model, timestamp(self._clock()), message, done, logprobs or UNSET)


class GenerateWriter(_Writer[GenerateReply]):
    def _reply(self, parts: Sequence[Part], *, done: bool) -> GenerateReply:
        text, thinking, calls, logprobs = _join(parts)
        now = timestamp(self._clock())
        return GenerateReply(self._model, now, text, done, thinking or UNSET, calls or UNSET, logprobs or UNSET)


def write_embed(model: str, embedded: Embedded, *, timings: bool = False) -> bytes:
    return encode(
        EmbedReply(
            model,
            [numbers(vector) for vector in embedded.vectors],
            embedded.total_ns or UNSET,
            embedded.load_ns or UNSET,
            embedded.usage.prompt_tokens or UNSET,
            embedded.warnings or UNSET,
            _timings(embedded.usage, embedded.delays) if timings else UNSET,
        )
    )


def write_embeddings(embedded: Embedded) -> bytes:
    return encode(EmbeddingsReply(numbers(embedded.vectors[0]) if embedded.vectors else msgspec.Raw(b"[]")))


def write_error(error: LlameroError) -> bytes:
    return encode(ErrorReply(str(error), error.signin_url if isinstance(error, NotSignedIn) else ""))


def _join(parts: Sequence[Part]) -> tuple[str, str, list[ToolCallReply], list[LogprobReply]]:
    text: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCallReply] = []
    logprobs: list[LogprobReply] = []
    for part in parts:
        if isinstance(part, ToolCall):
            function = FunctionReply(part.index, part.name, part.arguments)
            calls.append(ToolCallReply(part.id or UNSET, function))
            continue
        (text if isinstance(part, Text) else thinking).append(part.text)
        logprobs += [_logprob(item) for item in part.logprobs]
    return "".join(text), "".join(thinking), calls, logprobs


def _logprob(item: Logprob) -> LogprobReply:
    return LogprobReply(item.token, item.logprob, item.bytes, [_logprob(other) for other in item.top] or None)


def _finish(reply: ChatReply | GenerateReply, finished: Finished) -> None:
    usage = finished.usage
    if isinstance(reply, GenerateReply) and finished.context is not None:
        reply.context = finished.context
    reply.done_reason = finished.reason
    reply.total_duration = finished.total_ns or UNSET
    reply.load_duration = finished.load_ns or UNSET
    reply.prompt_eval_count = usage.prompt_tokens or UNSET
    reply.prompt_eval_duration = usage.prompt_ns or UNSET
    reply.eval_count = usage.predicted_tokens or UNSET
    reply.eval_duration = usage.predicted_ns or UNSET
    reply.warnings = finished.warnings or UNSET


def _timings(usage: Usage, delays: Delays) -> TimingsReply:
    def ms(ns: int) -> float:
        return round(ns / durations.MS, 3)

    return TimingsReply(
        queued_ms=ms(delays.queued_ns),
        load_ms=ms(delays.load_ns),
        restore_ms=ms(delays.restore_ns),
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        prefill_ms=ms(usage.prompt_ns),
        predicted_tokens=usage.predicted_tokens,
        decode_ms=ms(usage.predicted_ns),
        draft_tokens=usage.draft_tokens,
        accepted_tokens=usage.accepted_tokens,
    )


def _debug(rendered: Rendered) -> DebugInfo:
    return DebugInfo(rendered.prompt, rendered.image_count or UNSET)


def timestamp(ns: int, *, local: bool = False) -> str:
    """RFC 3339 with up to nine fractional digits, trailing zeros removed; UTC, or with the server's own offset."""
    seconds, fraction = divmod(ns, durations.SECOND)
    text, offset = _second(seconds, local)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{text}{digits}{offset}"


@lru_cache(maxsize=4)
def _second(seconds: int, local: bool) -> tuple[str, str]:
    """Date and time of day, and the offset: the tokens of one second share them."""
    moment = time.localtime(seconds) if local else time.gmtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
    if not local or not moment.tm_gmtoff:
        return text, "Z"
    sign, minutes = ("-", -moment.tm_gmtoff // 60) if moment.tm_gmtoff < 0 else ("+", moment.tm_gmtoff // 60)
    return text, f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
