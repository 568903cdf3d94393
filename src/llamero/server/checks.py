"""What a model must be able to do for a request, said in each endpoint's words. It loads nothing.

Source: native-api §2.4 to §2.6, §2.12; modelfile-templates §5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..chat import prompt, schema
from ..chat.grammar import check_grammar
from ..chat.media import MAX_FILES, kind_of
from ..errors import BadRequest, Incapable, LlameroError, UnsupportedOption
from ..messages import GenerateRequest, GenerationRequest, Message, Request, Think
from ..store.models import Model


def check_thinking(request: GenerationRequest, model: Model) -> None:
    if request.think and "thinking" not in model.capabilities and not request.is_thinking_optional:
        hint = ""
        if model.config.model_family == "qwen3" or model.name.model == "deepseek-r1":
            hint = ". Pull the model again to get the latest version with full thinking support"
        raise Incapable(f'"{request.model}" does not support thinking{hint}', request.model, "thinking")


def think_of(request: GenerationRequest, model: Model) -> Think:
    """What to tell the template: a thinking model thinks unless it is told not to."""
    can = "thinking" in model.capabilities
    if request.think is None and can:
        return True
    return None if request.is_thinking_optional and not can else request.think


def unheard_wishes(request: Request, model: Model) -> tuple[str, ...]:
    """What a request would like, and does without."""
    if isinstance(request, GenerationRequest) and request.think and "thinking" not in model.capabilities:
        return (f'"{request.model}" does not support thinking: it answers at once',)
    return ()


def check_capabilities(asked_as: str, model: Model, action: str, needed: Sequence[str]) -> None:
    """`action` is chat or generate; `needed` what the request asks for besides completion."""
    if "image" in model.capabilities:
        raise BadRequest("image generation models are not currently supported")
    if "completion" not in model.capabilities:
        raise Incapable(f'"{asked_as}" does not support {action}', asked_as, "completion")
    missing = [capability for capability in needed if capability not in model.capabilities]
    if missing:
        said = "\n".join(f"{model.name.full} does not support {capability}" for capability in missing)
        raise Incapable(said, asked_as, missing[0])


def check_images(request: GenerationRequest, model: Model, messages: Sequence[Message]) -> None:
    """Refuse pictures for a model that cannot see, and sounds for one that cannot hear (native-api §2.6)."""
    if "mllama" in (model.config.model_family, *model.config.model_families) and any(
        len(message.images) > 1 for message in messages
    ):
        status = 400 if isinstance(request, GenerateRequest) else 500
        raise LlameroError("this model only supports one image while more than one image requested", status=status)
    if (count := sum(len(message.images) for message in messages)) > MAX_FILES:
        raise BadRequest(f"{count} images are more than the {MAX_FILES} that a request may have")
    if request.render_only:
        return
    senses = _senses(model)
    for message in messages:
        for data in message.images:
            if (kind := kind_of(data)) not in senses:
                need = "audio" if kind == "audio" else "vision"
                raise Incapable(f'{kind} input is not supported by "{request.model}"', request.model, need)


def _senses(model: Model) -> set[str]:
    """What the engine can take in: it sees and hears by a projector only, and every projector counts as `vision`."""
    projector = model.projector_gguf
    if projector is None:
        return set()
    hears = "audio" in model.capabilities
    sees = "vision" in model.capabilities and not (hears and not projector.get_bool("has_vision_encoder"))
    return {kind for kind, can in (("image", sees), ("audio", hears)) if can}


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer must look like: a format or a grammar, never both."""

    format: str | Mapping[str, Any] | None = None
    grammar: str = ""
    warnings: tuple[str, ...] = ()
    """Parts of a schema that the engine will not enforce."""

    @classmethod
    def of(cls, request: GenerationRequest, options: Mapping[str, Any]) -> Constraint:
        """Checked here, before anything is loaded: the engine itself ignores what it cannot satisfy."""
        format = schema.parse_format(request.format)
        grammar = options["grammar"]
        if grammar:
            if format is not None:
                raise UnsupportedOption("grammar and format cannot be used together")
            check_grammar(grammar)
            return cls(grammar=grammar)
        if not isinstance(format, dict):
            return cls(format)
        schema.check_schema(format)
        enforced, notes = schema.for_engine(format)
        return cls(enforced, warnings=tuple(f"format: {note}" for note in notes))

    @property
    def is_set(self) -> bool:
        return self.format is not None or bool(self.grammar)

    def for_completion(self) -> dict[str, Any]:
        return {"grammar": self.grammar} if self.grammar else prompt.completion_constraint(self.format)
