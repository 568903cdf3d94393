"""The models that there are, as OpenAI's clients list them. Source: compat-api §4.1, §4.2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ... import durations
from ...names import ModelName


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model in the store, as far as lists of models tell."""

    name: ModelName
    modified_ns: int
    """Since 1970."""
    context_tokens: int = 0
    """The longest context that it was made for; 0 where its file does not say."""


class ModelReply(msgspec.Struct):
    id: str
    object: str
    created: int
    owned_by: str


class ListReply(msgspec.Struct):
    object: str
    data: list[ModelReply]


class DeletedReply(msgspec.Struct):
    id: str
    object: str
    deleted: bool


def write_models(models: Iterable[KnownModel]) -> bytes:
    """All of them in one page, in their order."""
    return msgspec.json.encode(ListReply("list", [_model(model.name.display, model) for model in models]))


def write_model(id_: str, model: KnownModel) -> bytes:
    """One model, under the name that the client asked for."""
    return msgspec.json.encode(_model(id_, model))


def write_deleted(id_: str) -> bytes:
    return msgspec.json.encode(DeletedReply(id_, "model", deleted=True))


def _model(id_: str, model: KnownModel) -> ModelReply:
    return ModelReply(id_, "model", model.modified_ns // durations.SECOND, model.name.namespace)
