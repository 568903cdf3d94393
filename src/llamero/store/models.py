"""A model: a name resolved to everything known about it. It loads and runs nothing.

Source: store-registry §2.2, §7.5; modelfile-templates §3.5, §5; native-api §2.11, §2.12.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from .. import gguf
from ..errors import InvalidModelFile, InvalidName, LlameroError, ModelNotFound
from ..gguf import Gguf
from ..messages import Message
from ..names import Digest, ModelName
from ..template.builtin import is_builtin
from ..template.cache import parsed
from ..template.render import Template
from . import layers, tensors
from .blobs import Blobs
from .capabilities import DEFAULT_TEMPLATE, HARMONY_FAMILIES, PromptPath, Templates, capabilities, parser_of
from .headers import Headers
from .jinja import bundled_jinja, gemma4_renderer
from .layers import Config
from .manifests import (
    ADAPTER,
    DRAFT,
    LICENSE,
    MAX_CONFIG_BYTES,
    MAX_TEXT_BYTES,
    MESSAGES,
    MODEL,
    PARAMS,
    PROJECTOR,
    PROMPT,
    SYSTEM,
    TEMPLATE,
    TENSOR,
    Layer,
    Manifest,
    Manifests,
    Stored,
)
from .tensors import TensorModel

_MAX_ANCESTORS = 32
"""How far back a template is followed through `from`; also what ends a circle."""


@dataclass(frozen=True, slots=True)
class Details:
    """The object of native-api §2.11."""

    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str


@dataclass(frozen=True, eq=False)
class Model:
    """Everything a manifest leads to. Small texts are read; headers of large files only when they are asked for.

    A header that turns out broken raises InvalidModelFile with status 500: the client did nothing wrong. A missing file
    raises BlobNotFound, with 404 as in the reference: `run` and other clients then pull the model, which mends it.
    """

    name: ModelName
    manifest: Manifest
    modified_ns: int
    """Nanoseconds since 1970: the manifest file's time."""
    config: Config
    weights: Path | None
    weights_digest: Digest | None
    projectors: tuple[Path, ...]
    adapters: tuple[Path, ...]
    draft: Path | None
    template: str | None
    """The Go template layer; None when there is none, or an empty one."""
    is_user_template: bool
    """Whether it was given to a create on this machine, here or at an ancestor, and not by a program that recognised
    the chat format (modelfile-templates §3.5, 2)."""
    system: str
    parameters: dict[str, Any]
    messages: tuple[Message, ...]
    licenses: tuple[str, ...]
    _headers: Headers
    _blobs: Blobs
    _go_template_setting: bool | None
    _ignores_jinja: bool = False

    @cached_property
    def digest(self) -> str:
        """Of the manifest: 64 hex digits."""
        return self.manifest.digest

    @property
    def size_bytes(self) -> int:
        """All layers and the config, as the manifest states them."""
        return self.manifest.size_bytes

    @property
    def parent_name(self) -> str:
        """Shortest name of the model that the weights came from, or empty."""
        weights = self.manifest.of_type(MODEL)
        return weights[-1].from_name if weights else ""

    @cached_property
    def gguf(self) -> Gguf | None:
        """The header of the weights; None for a model without (a remote stub, a safetensors model)."""
        return None if self.weights_digest is None else self._header(self.weights_digest)

    @cached_property
    def projector_gguf(self) -> Gguf | None:
        """The header of the first projector."""
        projectors = self.manifest.of_type(PROJECTOR)
        return self._header(projectors[0].digest) if projectors else None

    @cached_property
    def draft_gguf(self) -> Gguf | None:
        """The header of the draft model."""
        drafts = self.manifest.of_type(DRAFT)
        return self._header(drafts[-1].digest) if drafts else None

    @cached_property
    def tensors(self) -> TensorModel | None:
        """What the headers of a safetensors model tell; None for every other one."""
        return tensors.read(self.manifest, self._blobs) if self.manifest.of_type(TENSOR) else None

    @property
    def jinja(self) -> str:
        """The chat template inside the weights, or empty."""
        return self._jinja_in(self.gguf)

    @property
    def without_jinja(self) -> Model:
        """The same model where the engine cannot use that template: its TEMPLATE counts first then (§3.5, end)."""
        setting = True if self._go_template_setting is None else self._go_template_setting
        return replace(self, _ignores_jinja=True, _go_template_setting=setting)

    @property
    def spare_jinja(self) -> str:
        """The chat template of ours that the engine is to have then; empty where there is none for the family."""
        return self._bundled(self.config.parser)

    @property
    def template_text(self) -> str:
        """The Go template layer, or the one that every model has without it."""
        return self.template or DEFAULT_TEMPLATE

    @property
    def go_template(self) -> Template:
        """The same ready to render. TemplateError when another program stored one that is none."""
        return parsed(self.template_text)

    @property
    def parser(self) -> str:
        """The built-in parser of its raw text, by name; empty for the generic ones, and it may be an unknown name."""
        return parser_of(named=self.config.parser, family=self.config.model_family, go=self.template or "")

    @property
    def bundled_jinja(self) -> str:
        """The chat template of ours that the engine must be given; empty where the file's own or none is used."""
        templates = self._templates(self.jinja)
        return templates.bundled if templates.path == "jinja" and not templates.jinja else ""

    @property
    def prompt_path(self) -> PromptPath:
        """Which way prompts are made, unless the request brings a template or a suffix: that is always "go"."""
        return self._templates(self.jinja).path

    @property
    def template_in_force(self) -> str:
        """The text that `show` gives as the template."""
        return self._templates(self.jinja).in_force

    @cached_property
    def capabilities(self) -> tuple[str, ...]:
        """What the model can do. An unreadable header takes its share away only."""
        weights = self._header_or_none(self.weights_digest)
        return capabilities(
            self._templates(self._jinja_in(weights)),
            stored=self.config.capabilities,
            parser=self.parser,
            renderer=self.config.renderer,
            family=self.config.model_family,
            format=self.config.model_format,
            weights=weights,
            projectors=tuple(self._header_or_none(layer.digest) for layer in self.manifest.of_type(PROJECTOR)),
        )

    def _templates(self, jinja: str) -> Templates:
        return Templates(
            go=self.template or "",
            is_users=self.is_user_template,
            jinja=jinja,
            # a parser alone belongs to a published Go template, which says more about the model
            bundled="" if jinja else self._bundled("" if self.template else self.config.parser),
            setting=self._go_template_setting,
        )

    def _jinja_in(self, weights: Gguf | None) -> str:
        return "" if weights is None or self._ignores_jinja else weights.get_str("tokenizer.chat_template", "")

    def _bundled(self, parser: str) -> str:
        """Ours for weights without a chat template (modelfile-templates §3.5, 4)."""
        if self.weights_digest is None:
            return ""
        config = self.config
        family = config.model_family if config.model_family in HARMONY_FAMILIES else ""
        renderer = config.renderer
        if renderer == "gemma4" and (weights := self._header_or_none(self.weights_digest)):
            renderer = gemma4_renderer(self.name.display, weights.parameter_count)
        return bundled_jinja(renderer=renderer, parser=parser, family=family)

    @property
    def context_length(self) -> int:
        """The longest context in tokens that the weights were made for; 0 when unknown."""
        return self._length("context_length")

    @property
    def embedding_length(self) -> int:
        """Numbers per embedding; 0 when unknown."""
        return self._length("embedding_length")

    def details(self) -> Details:
        level, family, size = self.config.file_type, self.config.model_family, self.config.model_type
        if level in ("", gguf.UNKNOWN) and (weights := self._header_or_none(self.weights_digest)):
            level = weights.file_type
        if stored := self._tensors_or_none():
            level, family = level or stored.level, family or stored.architecture
            size = size or gguf.human_count(stored.parameter_count)
        return Details(
            parent_model=self.parent_name,
            format=self.config.model_format,
            family=family,
            families=self.config.model_families or None,
            parameter_size=size,
            quantization_level=level,
        )

    def model_info(self, *, verbose: bool = False) -> dict[str, Any]:
        """The metadata that `show` prints; of a remote stub or a safetensors model what its small files know."""
        if self.weights_digest is not None:
            return self._metadata(self.weights_digest, verbose=verbose)
        if stored := self.tensors:
            return self._info_of(stored)
        if not self.config.remote_host:
            return {}
        family = self.config.model_family
        known = {
            "general.architecture": family,
            "general.basename": self.config.base_name,
            f"{family}.context_length": self.config.context_length,
            f"{family}.embedding_length": self.config.embedding_length,
        }
        return {key: value for key, value in sorted(known.items()) if value}

    def _info_of(self, stored: TensorModel) -> dict[str, Any]:
        family = stored.architecture or self.config.model_family
        known = {
            "general.architecture": family,
            "general.basename": self.config.base_name,
            "general.parameter_count": stored.parameter_count,
            **{f"{family}.{name}": count for name, count in stored.counts.items()},
        }
        return {key: value for key, value in sorted(known.items()) if value}

    def projector_info(self, *, verbose: bool = False) -> dict[str, Any] | None:
        """The same for the first projector."""
        projectors = self.manifest.of_type(PROJECTOR)
        return self._metadata(projectors[0].digest, verbose=verbose, projector=True) if projectors else None

    def _length(self, key: Literal["context_length", "embedding_length"]) -> int:
        given: int = getattr(self.config, key)
        if given:
            return given
        if (weights := self._header_or_none(self.weights_digest)) and (length := weights.get_int(key, 0)):
            return length
        stored = self._tensors_or_none()
        return stored.counts.get(key, 0) if stored else 0

    def _tensors_or_none(self) -> TensorModel | None:
        try:
            return self.tensors
        except LlameroError:
            return None

    def _metadata(self, digest: Digest, *, verbose: bool, projector: bool = False) -> dict[str, Any]:
        header = self._header(digest)
        with self._headers.content(digest) as buffer:
            return gguf.show_metadata(header, buffer, verbose=verbose, projector=projector)

    def _header(self, digest: Digest) -> Gguf:
        try:
            return self._headers.read(digest)
        except InvalidModelFile as error:
            raise InvalidModelFile(error.reason, status=500) from error

    def _header_or_none(self, digest: Digest | None) -> Gguf | None:
        try:
            return None if digest is None else self._header(digest)
        except LlameroError:
            return None


def load(
    stored: Stored, *, blobs: Blobs, manifests: Manifests, headers: Headers, go_template: bool | None = None
) -> Model:
    """Read what a manifest leads to. BlobNotFound for a missing small blob, an error with status 500 for a broken one.

    `go_template` is the setting OLLAMA_GO_TEMPLATE.
    """
    manifest = stored.manifest

    def read(layer: Layer, limit_bytes: int = MAX_TEXT_BYTES) -> bytes:
        return blobs.read(layer.digest, limit_bytes)

    def text(layer: Layer) -> str:
        return read(layer).decode("utf-8", "replace")

    def paths(media_type: str) -> tuple[Path, ...]:
        return tuple(blobs.path(layer.digest) for layer in manifest.of_type(media_type))

    # of what there should be one, the last wins
    weights, draft = manifest.of_type(MODEL)[-1:], paths(DRAFT)[-1:]
    template, system = manifest.of_type(TEMPLATE, PROMPT)[-1:], manifest.of_type(SYSTEM)[-1:]
    params, messages = manifest.of_type(PARAMS)[-1:], manifest.of_type(MESSAGES)[-1:]
    template_text = text(template[0]) if template else ""
    return Model(
        name=stored.name,
        manifest=manifest,
        modified_ns=stored.modified_ns,
        config=Config.decode(read(manifest.config, MAX_CONFIG_BYTES)) if manifest.config else Config(),
        weights=blobs.path(weights[0].digest) if weights else None,
        weights_digest=weights[0].digest if weights else None,
        projectors=paths(PROJECTOR),
        adapters=paths(ADAPTER),
        draft=draft[0] if draft else None,
        template=template_text or None,
        is_user_template=bool(template_text)
        and not is_builtin(template_text)
        and _given_by_user(stored, template[0], manifests),
        system=text(system[0]) if system else "",
        parameters=layers.decode_parameters(read(params[0])) if params else {},
        messages=layers.decode_messages(read(messages[0])) if messages else (),
        licenses=tuple(text(layer) for layer in manifest.of_type(LICENSE)),
        _headers=headers,
        _blobs=blobs,
        _go_template_setting=go_template,
    )


def _given_by_user(stored: Stored, template: Layer, manifests: Manifests) -> bool:
    """Whether a TEMPLATE layer was given to a create on this machine: follow `from` to where it came in.

    An ancestor that is gone, or has another template by now, tells nothing. Then the layer counts as the user's: to
    ignore what a user wrote is worse than to render a publisher's template instead of the same publisher's Jinja.
    """
    for _ in range(_MAX_ANCESTORS):
        if not stored.manifest.made_here:
            return False
        if not template.from_name:
            return True
        try:
            stored = manifests.read(manifests.adopt(ModelName.parse(template.from_name)))
        except (InvalidName, ModelNotFound):
            return True
        same = [layer for layer in stored.manifest.of_type(TEMPLATE, PROMPT) if layer.digest == template.digest]
        if not same:
            return True
        template = same[-1]
    return True
