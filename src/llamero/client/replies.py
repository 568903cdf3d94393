"""Replies of the server, from JSON to values. Source: native-api §3 and what it adds for servers of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .fields import array, count, mapping, moment, objects, share, word
from .values import (
    ApiKey,
    DiskUsage,
    ListedModel,
    LoadingModel,
    Metrics,
    ModelUsage,
    Part,
    Running,
    RunningModel,
    SavedPrompt,
    ShownModel,
    WaitingRequest,
)

if TYPE_CHECKING:
    from ..messages import Progress, ToolCall


def read_tags(reply: Mapping[str, Any]) -> list[ListedModel]:
    return [
        ListedModel(
            name=word(entry, "name"),
            digest=word(entry, "digest"),
            size_bytes=count(entry, "size"),
            modified_at=moment(entry.get("modified_at")),
            is_remote=bool(entry.get("remote_model")),
            details=mapping(entry.get("details")),
            capabilities=[str(each) for each in array(entry.get("capabilities"))],
        )
        for entry in objects(reply.get("models"))
    ]


def read_ps(reply: Mapping[str, Any]) -> Running:
    return Running(
        [_running(entry) for entry in objects(reply.get("models"))],
        [LoadingModel(word(entry, "model"), share(entry, "progress")) for entry in objects(reply.get("loading"))],
        [
            WaitingRequest(count(entry, "position"), word(entry, "model"), count(entry, "waiting_ms"))
            for entry in objects(reply.get("queue"))
        ],
    )


def _running(entry: Mapping[str, Any]) -> RunningModel:
    return RunningModel(
        name=word(entry, "name"),
        digest=word(entry, "digest"),
        size_bytes=count(entry, "size"),
        size_vram_bytes=count(entry, "size_vram"),
        context_tokens=count(entry, "context_length"),
        expires_at=moment(entry.get("expires_at")),
        used_tokens=count(entry, "context_used"),
        details=mapping(entry.get("details")),
    )


def read_show(reply: Mapping[str, Any]) -> ShownModel:
    info = reply.get("model_info")
    texts = ("license", "modelfile", "parameters", "template", "system", "requires", "remote_model", "remote_host")
    return ShownModel(
        **{name: str(reply.get(name) or "") for name in texts},
        details=mapping(reply.get("details")),
        model_info=info if isinstance(info, dict) else None,
        projector_info=mapping(reply.get("projector_info")),
        tensors=objects(reply.get("tensors")),
        capabilities=[str(each) for each in array(reply.get("capabilities"))],
        messages=objects(reply.get("messages")),
    )


def read_usage(reply: Mapping[str, Any]) -> DiskUsage:
    totals = (count(reply, key) for key in ("models_size", "disk_size", "saved", "unused", "freed"))
    return DiskUsage(_usages(reply.get("models")), _usages(reply.get("without")), *totals)


def _usages(value: Any) -> list[ModelUsage]:
    return [
        ModelUsage(
            word(each, "name"),
            count(each, "size"),
            count(each, "own"),
            tuple(map(str, array(each.get("shared_with")))),
        )
        for each in objects(value)
    ]


def read_prompts(reply: Mapping[str, Any]) -> list[SavedPrompt]:
    return [
        SavedPrompt(word(each, "model"), count(each, "tokens"), count(each, "size"), moment(each.get("used_at")))
        for each in objects(reply.get("prompts"))
    ]


def read_api_key(entry: Mapping[str, Any]) -> ApiKey:
    return ApiKey(
        name=word(entry, "name"),
        role=word(entry, "role"),
        models=tuple(str(model) for model in array(entry.get("models"))),
        expires_at=moment(entry.get("expires_at")),
        is_expired=entry.get("is_expired") is True,
        rate=word(entry, "rate"),
        source=word(entry, "source"),
        secret=word(entry, "secret"),
    )


def read_part(entry: Mapping[str, Any]) -> Part:
    """One object of a generate or chat stream: the first has its texts at the top, the second in `message`."""
    message = mapping(entry.get("message")) or entry
    calls: tuple[ToolCall, ...] = ()
    if message.get("tool_calls"):
        from ..messages import ToolCall

        functions = [mapping(call.get("function")) for call in objects(message["tool_calls"])]
        calls = tuple(ToolCall(word(one, "name"), mapping(one.get("arguments"))) for one in functions)
    metrics = None
    if entry.get("done"):
        metrics = Metrics(
            total_ns=count(entry, "total_duration"),
            load_ns=count(entry, "load_duration"),
            prompt_tokens=count(entry, "prompt_eval_count"),
            prompt_ns=count(entry, "prompt_eval_duration"),
            predicted_tokens=count(entry, "eval_count"),
            predicted_ns=count(entry, "eval_duration"),
        )
    text = message.get("response" if message is entry else "content")
    return Part(str(text or ""), str(message.get("thinking") or ""), calls, metrics)


def read_step(status: str, entry: Mapping[str, Any]) -> Progress:
    from ..messages import Found, Progress

    level = entry.get("level")
    if level in ("ok", "warn", "fail"):
        return Found(status, subject=word(entry, "subject"), level=level, advice=word(entry, "advice"))
    return Progress(status, word(entry, "digest"), count(entry, "total"), count(entry, "completed"))
