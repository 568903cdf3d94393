"""The vocabulary of inference: what is asked of a model, and the events it answers with.

Plain values without behaviour. Every dialect reads its requests into these and writes these events back; nothing here
knows JSON field names of any API.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

# --- what is asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: dict[str, Any]
    id: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    """Encoded files (JPEG, PNG, WebP, WAV, MP3), in the order in which they belong to the text."""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


ThinkLevel = Literal["low", "medium", "high", "max"]
THINK_LEVELS: tuple[ThinkLevel, ...] = ("low", "medium", "high", "max")

Think = bool | ThinkLevel | None
"""None: the client did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What every request to a model carries."""

    model: str
    """The name as the client spelled it; replies echo it."""
    options: dict[str, Any] = field(default_factory=dict)
    keep_alive_ns: int | None = None
    """None: keep the model's present value."""
    is_batch: bool = False
    """Whether it gives way to requests that somebody waits for."""
    timings: bool = False
    """Whether the end of the reply shall tell where the time went."""
    warnings: tuple[str, ...] = ()
    """What the dialect already found that it cannot honour."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """The LoRA layers of a model, wanted for one request."""

    model: str
    """The name of the model that they belong to, as the client spelled it."""
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest(Request):
    """What chat and generate share."""

    stream: bool = True
    format: Any = None
    """None, "json", a JSON Schema object, or something invalid that the handler refuses."""
    think: Think = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    render_only: bool = False
    fallbacks: dict[str, Any] = field(default_factory=dict)
    """A dialect's own defaults of options: they count where neither the request nor the model says anything."""
    logit_bias: dict[int, float] = field(default_factory=dict)
    """Added to the logits of tokens, by id; from -100 to 100."""
    is_thinking_optional: bool = False
    """A wish to think counts for nothing with a model that cannot, instead of being refused."""
    adapters: tuple[Adapter, ...] | None = None
    """In place of the model's own; None: those, at full strength."""
    max_thinking_tokens: int | None = None
    """Where the thinking is ended if it has not ended by itself."""
    hides_thinking: bool = False
    """What a model thinks unasked is left out of its answer."""
    number: int = 0
    """Which of several answers to the same question this is: their seeds count up from the first one's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest(GenerationRequest):
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    """The client's own JSON objects: Jinja templates get the whole schema."""
    tool_choice: Any = None
    """"auto", "none", "required", a function, or something invalid that the handler refuses."""
    parallel_tool_calls: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest(GenerationRequest):
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    context: tuple[int, ...] = ()
    raw: bool = False
    images: tuple[bytes, ...] = ()
    tokens: tuple[int, ...] = ()
    """The prompt as token ids, in place of `prompt`; always `raw`."""
    loads_when_empty: bool = True
    """Without a prompt the model is only loaded, or let go; else it goes on from the beginning of all text."""
    raw_without_template: bool = False
    """`raw` for models that have no chat template."""
    generates: bool = True
    """Else the prompt is only counted."""
    tells_context: bool = True
    """Whether the end brings the token ids of prompt and answer, unless `raw`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest(Request):
    inputs: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    """Inputs as token ids, in place of `inputs`."""
    truncate: bool = True
    dimensions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest(Request):
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    """How many of the best are wanted; None: all."""


# --- what comes back -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Logprob:
    token: str
    logprob: float
    """Natural logarithm."""
    bytes: tuple[int, ...] = ()
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    text: str
    logprobs: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    text: str
    logprobs: tuple[Logprob, ...] = ()
    has_text: bool = field(default=False, compare=False)
    """Whether the engine told text in the same breath, which comes next."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a generation cost. Tokens are counted by the engine; times are nanoseconds."""

    prompt_tokens: int = 0
    """Including those taken from the cache."""
    cached_tokens: int = 0
    prompt_ns: int = 0
    predicted_tokens: int = 0
    predicted_ns: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Delays:
    """What a request waited for before its prompt was read, in nanoseconds."""

    queued_ns: int = 0
    """For a slot, for room, for other models to load."""
    load_ns: int = 0
    """For its own model to load."""
    restore_ns: int = 0
    """For a saved prompt to be read back."""


@dataclass(frozen=True, slots=True)
class Done:
    reason: Literal["stop", "length"]
    usage: Usage
    warnings: tuple[str, ...] = ()
    """What the engine could not give."""
    stopped_by: str = ""
    """The stop string that ended the answer."""
    is_stuck: bool = False
    """Whether it was ended here, in the middle: it only repeated itself (scheduler §11)."""


Event = Text | Thinking | ToolCall | Done
"""One step of an engine's answer. A stream of them ends with exactly one Done, or with an exception of `errors`."""


@dataclass(frozen=True, slots=True)
class Started:
    """The model is ready and the engine has begun: all that is known before the first byte of a reply."""

    warnings: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    """Known where the engine tells before its first word."""
    fingerprint: str = ""
    """As in Finished."""
    cached_tokens: int | None = None
    """Of the prompt; known where the engine tells before its first word."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The whole reply to a request that only loads or unloads."""

    reason: Literal["load", "unload"]
    warnings: tuple[str, ...] = ()
    delays: Delays = Delays()


@dataclass(frozen=True, slots=True)
class Rendered:
    """The whole reply to a request that only wants to see its prompt."""

    prompt: str
    image_count: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer, with what our side adds to the engine's figures."""

    reason: Literal["stop", "length"]
    usage: Usage
    total_ns: int
    load_ns: int
    """From the request's arrival until the model was ready for it."""
    context: tuple[int, ...] | None = None
    """Token ids of prompt and answer, for `/api/generate` without `raw`."""
    warnings: tuple[str, ...] = ()
    delays: Delays = Delays()
    thinking_tokens: int = 0
    """Of the predicted ones."""
    stopped_by: str = ""
    """The stop string that ended the answer, of those that the request gave."""
    is_stuck: bool = False
    """Whether the model only repeated itself, and was stopped in the middle."""
    fingerprint: str = ""
    """The model's manifest digest: what a seed's text depends on besides this server."""
    all_runs: Usage | None = None
    """Of all runs together, where the answer took several: the prompt once, and every token that was written."""

    @property
    def cost(self) -> Usage:
        """What the answer cost; `usage` is what its last run did (native-api §2.5)."""
        return self.all_runs or self.usage


Step = Started | Text | Thinking | ToolCall | Loaded | Rendered | Finished
"""One step of a reply as the server gives it to a dialect: Started, then events, then Loaded, Rendered or Finished."""


Vector: TypeAlias = "array[float]"
"""Of single precision (typecode "f"), as the engine has it."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The whole reply to an embedding request; one vector per input, in order."""

    vectors: tuple[Vector, ...]
    usage: Usage = Usage()
    total_ns: int = 0
    load_ns: int = 0
    warnings: tuple[str, ...] = ()
    delays: Delays = Delays()


@dataclass(frozen=True, slots=True)
class Ranked:
    """How well one document answers a query."""

    index: int
    """Its place among the documents as they were given."""
    relevance: float
    """From 0 to 1."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """The whole reply to a rerank request, the best document first."""

    ranking: tuple[Ranked, ...]
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of something long: a pull, a create, a conversion. Byte counts are 0 where they mean nothing."""

    status: str
    digest: str = ""
    """With its `sha256:` prefix."""
    total_bytes: int = 0
    completed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Found(Progress):
    """A step that is a result: what was found about one model or one file. `status` is the finding in words."""

    subject: str = ""
    level: Literal["ok", "warn", "fail"] = "ok"
    advice: str = ""
