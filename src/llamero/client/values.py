"""What the server's replies are as values, and what a request for an answer holds. Nothing here reads or sends.

Source: native-api §3. The replies are named tuples: that many dataclasses would cost a twentieth of the time in which
`ollama --version` has to start and to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ..durations import FOREVER, format_duration

if TYPE_CHECKING:
    from ..messages import Think, ToolCall

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time: "no time at all"."""


class ListedModel(NamedTuple):
    name: str
    digest: str
    size_bytes: int
    modified_at: datetime
    is_remote: bool
    details: Mapping[str, Any] = {}
    capabilities: Sequence[str] = ()


class RunningModel(NamedTuple):
    name: str
    digest: str
    size_bytes: int
    size_vram_bytes: int
    context_tokens: int
    expires_at: datetime
    used_tokens: int = 0
    """Of the context, by the conversation that was answered last."""
    details: Mapping[str, Any] = {}


class LoadingModel(NamedTuple):
    name: str
    progress: float
    """From 0 to 1."""


class WaitingRequest(NamedTuple):
    position: int
    """In its line, from 1."""
    model: str
    waiting_ms: int


class Running(NamedTuple):
    """The reply of `/api/ps`. Servers of the reference tell the first of the three."""

    models: list[RunningModel]
    loading: list[LoadingModel]
    queue: list[WaitingRequest]


class ShownModel(NamedTuple):
    """The reply of `/api/show`; texts that the model has not are empty."""

    license: str
    modelfile: str
    parameters: str
    template: str
    system: str
    requires: str
    remote_model: str
    remote_host: str
    details: Mapping[str, Any]
    model_info: Mapping[str, Any] | None
    projector_info: Mapping[str, Any]
    tensors: Sequence[Mapping[str, Any]]
    capabilities: Sequence[str]
    messages: Sequence[Mapping[str, Any]]


class ModelUsage(NamedTuple):
    name: str
    size_bytes: int
    own_bytes: int
    """What removing it frees."""
    shared_with: tuple[str, ...]


class DiskUsage(NamedTuple):
    models: list[ModelUsage]
    without: list[ModelUsage]
    """Those of them that were named, in that order."""
    models_bytes: int
    disk_bytes: int
    saved_bytes: int
    unused_bytes: int
    freed_bytes: int


class SavedPrompt(NamedTuple):
    model: str
    tokens: int
    size_bytes: int
    used_at: datetime


class ApiKey(NamedTuple):
    name: str
    role: str
    models: tuple[str, ...]
    """The only ones that it may use; none: all of them."""
    expires_at: datetime
    """The zero time: never."""
    is_expired: bool
    rate: str
    source: str
    secret: str = ""
    """Of a key that was just made."""


class Metrics(NamedTuple):
    """What an answer cost; 0 where the server said nothing."""

    total_ns: int
    load_ns: int
    prompt_tokens: int
    prompt_ns: int
    predicted_tokens: int
    predicted_ns: int


class Part(NamedTuple):
    """One step of an answer. The last one carries the metrics."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    metrics: Metrics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What generate and chat share; a field that nobody set is not sent."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    format: Any = None
    think: Think | str = None
    keep_alive_ns: int | None = None

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"model": self.model}
        if self.options:
            fields["options"] = dict(self.options)
        if self.format is not None:
            fields["format"] = self.format
        if self.think is not None:
            fields["think"] = self.think
        return fields | keep_alive(self.keep_alive_ns)


def keep_alive(ns: int | None) -> dict[str, Any]:
    """The field as native-api §2.2 reads it; every negative or endless duration is -1."""
    if ns is None:
        return {}
    return {"keep_alive": -1 if ns < 0 or ns >= FOREVER else format_duration(ns)}
