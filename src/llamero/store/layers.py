"""The small blobs of a model: its config, parameters and messages, between bytes and values.

Reading takes what other programs wrote, unknown keys and nulls included; writing is byte-exact. They open no file.
Source: store-registry §2.2 to §2.4, native-api §2.7 (shape of a message).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ..errors import StorageError
from ..messages import Message, ToolCall
from . import canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a model says about itself. Empty means unset throughout."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] = ()
    model_type: str = ""
    """Shown as the parameter size, e.g. `3.2B`."""
    file_type: str = ""
    """Quantization level, e.g. `Q4_K_M`."""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    """Lowest version of the reference that runs it."""
    remote_host: str = ""
    remote_model: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0
    base_name: str = ""
    draft: Mapping[str, Any] | None = None
    architecture: str = "amd64"
    os: str = "linux"

    @classmethod
    def decode(cls, raw: bytes) -> Config:
        """Read a config blob; nothing at all reads as an empty config. StorageError when it is no object."""
        fields = _object(raw, "config") if raw else {}
        draft = fields.get("draft")
        texts = {name: _text(fields.get(name)) for name in _TEXTS if name in fields}
        return cls(
            **texts,
            model_families=_texts(fields.get("model_families")),
            capabilities=_texts(fields.get("capabilities")),
            context_length=_count(fields.get("context_length")),
            embedding_length=_count(fields.get("embedding_length")),
            draft=draft if isinstance(draft, dict) else None,
        )

    def encode(self) -> bytes:
        always = {
            "model_format": self.model_format,
            "model_family": self.model_family,
            "model_families": self.model_families or None,
            "model_type": self.model_type,
            "file_type": self.file_type,
        }
        when_set = {name: getattr(self, name) for name in _WHEN_SET if getattr(self, name)}
        machine = {"architecture": self.architecture, "os": self.os}
        return canonical.encode(always | when_set | machine) + b"\n"


_WHEN_SET = (
    "renderer",
    "parser",
    "requires",
    "remote_host",
    "remote_model",
    "capabilities",
    "context_length",
    "embedding_length",
    "base_name",
    "draft",
)
"""Left out when empty, in this order."""

_TEXTS = (
    "model_format",
    "model_family",
    "model_type",
    "file_type",
    "renderer",
    "parser",
    "requires",
    "remote_host",
    "remote_model",
    "base_name",
    "architecture",
    "os",
)


def encode_parameters(parameters: Mapping[str, Any]) -> bytes:
    return canonical.encode(parameters, sort_keys=True) + b"\n"


def decode_parameters(raw: bytes) -> dict[str, Any]:
    return _object(raw, "parameters")


def encode_messages(messages: Iterable[Message]) -> bytes:
    return canonical.encode([_message(message) for message in messages]) + b"\n"


def decode_messages(raw: bytes) -> tuple[Message, ...]:
    document = _json(raw, "messages")
    if document is None:
        return ()
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise StorageError("bad messages layer: not a list of objects")
    return tuple(_read_message(item) for item in document)


def _message(message: Message) -> dict[str, Any]:
    optional = {
        "thinking": message.thinking,
        "images": [base64.b64encode(image).decode() for image in message.images],
        "tool_calls": [_call(call) for call in message.tool_calls],
        "tool_name": message.tool_name,
        "tool_call_id": message.tool_call_id,
    }
    return {"role": message.role, "content": message.content} | {key: value for key, value in optional.items() if value}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": call.arguments}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def _read_message(item: Mapping[str, Any]) -> Message:
    calls = item.get("tool_calls")
    return Message(
        role=_text(item.get("role")),
        content=_text(item.get("content")),
        thinking=_text(item.get("thinking")),
        images=tuple(_image(image) for image in _texts(item.get("images"))),
        tool_calls=tuple(_read_call(call) for call in calls if isinstance(call, dict))
        if isinstance(calls, list)
        else (),
        tool_name=_text(item.get("tool_name")),
        tool_call_id=_text(item.get("tool_call_id")),
    )


def _read_call(item: Mapping[str, Any]) -> ToolCall:
    function = item.get("function")
    function = function if isinstance(function, dict) else {}
    arguments = function.get("arguments")
    return ToolCall(
        name=_text(function.get("name")),
        arguments=arguments if isinstance(arguments, dict) else {},
        id=_text(item.get("id")),
        index=_count(function.get("index")),
    )


def _image(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise StorageError("bad messages layer: an image is not base64") from None


def _object(raw: bytes, what: str) -> dict[str, Any]:
    document = _json(raw, what)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise StorageError(f"bad {what} layer: not an object")
    return document


def _json(raw: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise StorageError(f"bad {what} layer: not JSON") from None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
