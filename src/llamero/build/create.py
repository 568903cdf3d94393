"""Create: a new model out of another one or out of uploaded GGUF files, and what the request changes about it.

It decides what the manifest lists; the store writes that, last and in one step, so that a failure leaves the name as it
was. No path that a client gave is ever opened: files come as digests of blobs.
Source: store-registry §6, native-api §3.11.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import gguf
from ..errors import BadRequest, BlobNotFound, Forbidden, ModelNotFound, NotSupported
from ..gguf import Gguf
from ..messages import Message, Progress
from ..names import Digest, ModelName, split_source
from ..store import Store
from ..store import manifests as media
from ..store.layers import Config, encode_messages, encode_parameters
from ..store.manifests import Layer, encode_manifest
from .defaults import BY_ARCHITECTURE, Dialect, stops_of

Report = Callable[[Progress], None]
"""What it raises (the client is gone) ends the create like any other error."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """The body of `/api/create`. Empty means not given; for `files` there is a difference between None and empty."""

    model: str
    from_: str = ""
    files: Mapping[str, str] | None = None
    """Path, as the client names it, to digest. The path decides nothing but the kind and the order."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    draft_files: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    system: str = ""
    licenses: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    quantize: str = ""
    draft_quantize: str = ""
    remote_host: str = ""


def create(
    store: Store, request: CreateRequest, report: Report, *, fetch: Callable[[ModelName], None] | None = None
) -> ModelName:
    """Make the model and return its name as it is stored. Large files take seconds: run it in a thread.

    `fetch` pulls a base model that is not here. Raises BadRequest, ModelNotFound, NotSupported and StorageError; what
    is wrong with the request alone is said before the first report.
    """
    target = _check(request)
    info = _read_info(request.info)
    plan = _from_model(store, request, fetch) if request.from_ else _from_files(store, request, report)
    if request.adapters:
        plan.layers.append(_adapter(store, request.adapters, report))
    for warning in _warnings(request):
        report(Progress(f"warning: {warning}"))
    config = _config(store, request, info, plan)
    _apply(request, plan, config.model_family)
    return _write(store, target, plan, config, report)


# --- the request ---------------------------------------------------------------------------------------------------


def _check(request: CreateRequest) -> ModelName:
    """What can be said without looking at any file, in the order of store-registry §6.3. Returns the target's name."""
    files = {**(request.files or {}), **request.draft_files}
    if not all(_is_clean(path) for path in files):
        raise BadRequest("file path must be relative")
    for digest in files.values():
        Digest.parse(digest)
    if request.draft_quantize and not request.draft_files:
        raise BadRequest("--draft-quantize requires a DRAFT model")
    for digest in request.adapters.values():
        Digest.parse(digest)
    target = ModelName.parse(request.model)
    if not request.from_ and request.files is None:
        raise BadRequest("neither 'from' or 'files' was specified")
    if not request.from_ and not request.files:
        raise BadRequest("unknown type")
    if request.draft_files and request.remote_host:
        raise BadRequest("DRAFT cannot be used with remote models")
    for given, what in (
        (request.remote_host, "models that run on a remote host"),
        (request.draft_files, "draft models"),
        (request.quantize, "quantizing while creating"),
    ):
        if given:
            raise NotSupported(f"{what}: not supported by this version")
    return target


def _is_clean(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return not any(part in ("", ".", "..") for part in path.split("/"))


_TEXT_INFO = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
}
"""The request's word for a text, and the config's."""
_COUNT_INFO = ("context_length", "embedding_length")


def _read_info(given: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields of `info`, checked. Null counts as not given."""
    info: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in _TEXT_INFO:
            if not isinstance(value, str):
                raise BadRequest(f'info field "{name}" must be a string')
            info[name] = value
        elif name in _COUNT_INFO:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadRequest(f'info field "{name}" must be a number')
            if value < 0 or value != value // 1:
                raise BadRequest(f'info field "{name}" must be a non-negative integer')
            info[name] = int(value)
        elif name == "capabilities":
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                raise BadRequest('info field "capabilities" must be a list of strings')
            info[name] = tuple(value)
    return info


def _warnings(request: CreateRequest) -> list[str]:
    unknown = set(request.info) - {*_TEXT_INFO, *_COUNT_INFO, "capabilities"}
    warnings = [f'info field "{name}" is unknown and has no effect' for name in sorted(unknown)]
    if request.from_ and request.files:
        warnings.append("files have no effect beside a base model")
    return warnings


# --- the sources ---------------------------------------------------------------------------------------------------


class _Plan:
    """What the new manifest will list, as far as it is decided."""

    def __init__(self, layers: list[Layer], config: Config, parameters: Mapping[str, Any]) -> None:
        self.layers = layers
        self.config = config
        """Of the base model."""
        self.parameters = parameters
        """Of the base model."""
        self.stops: tuple[str, ...] = ()
        """Those that the chat template implies, where nobody names any."""
        self.fresh: dict[Digest, bytes] = {}
        """Content of layers that is not stored yet."""

    def headers(self, store: Store, media_type: str) -> list[Gguf]:
        return [store.headers.read(layer.digest) for layer in self.layers if layer.media_type == media_type]

    def append(self, media_type: str, content: bytes) -> None:
        digest = Digest.of(content)
        self.fresh[digest] = content
        self.layers.append(Layer(media_type, digest, len(content)))

    def put(self, content: bytes, media_type: str, *aliases: str) -> None:
        """Append the only layer of its type."""
        self.layers = [layer for layer in self.layers if layer.media_type not in (media_type, *aliases)]
        self.append(media_type, content)


def _from_model(store: Store, request: CreateRequest, fetch: Callable[[ModelName], None] | None) -> _Plan:
    text, source = split_source(request.from_)
    if source == "cloud":
        raise Forbidden("ollama cloud is disabled: remote model is unavailable")
    name = ModelName.parse(text)
    try:
        base = store.resolve(name)
    except ModelNotFound:
        if fetch is None or source == "local":
            raise
        fetch(name)
        base = store.resolve(name)
    if source == "local" and base.config.remote_host:
        raise ModelNotFound(f"model '{name}' not found")
    _ = base.gguf, base.projector_gguf  # a broken file of ours is no fault of the client: these say so with a 500
    layers = [replace(layer, from_name=base.name.display) for layer in base.manifest.layers]
    return _Plan(layers, base.config, base.parameters)


COMPANIONS = (".json", ".jinja", "tokenizer.model")
"""What a client sends along from a model's folder (store-registry §6.2); a GGUF carries all of it inside."""


def _from_files(store: Store, request: CreateRequest, report: Report) -> _Plan:
    files = {path: Digest.parse(digest) for path, digest in sorted((request.files or {}).items())}
    _expect_gguf(store, files, "converting safetensors files")
    models = [digest for path, digest in files.items() if not path.endswith(COMPANIONS)]
    plan = _Plan([_gguf_layer(store, digest, report) for digest in models], Config(), {})
    for header in plan.headers(store, media.MODEL)[-1:]:
        plan.stops = stops_of(header.get_str("tokenizer.chat_template"))
    return plan


def _adapter(store: Store, given: Mapping[str, str], report: Report) -> Layer:
    files = {path: Digest.parse(digest) for path, digest in sorted(given.items())}
    _expect_gguf(store, files, "converting safetensors adapters")
    if len(files) > 1:
        raise BadRequest("only one adapter is currently supported")
    layer = _gguf_layer(store, next(iter(files.values())), report)
    if layer.media_type != media.ADAPTER:
        raise BadRequest("the file given as an adapter is none")
    return layer


def _expect_gguf(store: Store, files: Mapping[str, Digest], conversion: str) -> None:
    """Refuse what is no set of GGUF files: the first path that tells its kind decides (store-registry §6.4)."""
    for digest in files.values():
        if not store.blobs.exists(digest):
            raise BlobNotFound(str(digest), status=400)
    for path, digest in files.items():
        if path.endswith(".safetensors"):
            raise NotSupported(f"{conversion}: not supported by this version")
        if path.endswith(".gguf") or _claims_gguf(store, digest):
            return
    raise BadRequest("unknown type")


def _claims_gguf(store: Store, digest: Digest) -> bool:
    with store.blobs.open(digest) as file:
        return gguf.is_gguf(file.read(4))


_LAYER_OF_KIND = {"model": media.MODEL, "projector": media.PROJECTOR, "adapter": media.ADAPTER}


def _gguf_layer(store: Store, digest: Digest, report: Report) -> Layer:
    if not _claims_gguf(store, digest):
        raise BadRequest("supplied file was not in GGUF format")
    report(Progress("parsing GGUF"))
    header = store.headers.read(digest)
    n_parts = header.metadata.get("split.count", header.get_int("split.count"))
    if isinstance(n_parts, int) and n_parts > 1:
        raise NotSupported("a GGUF split into several files: not supported by this version, merge it first")
    store.headers.check(digest)
    return Layer(_LAYER_OF_KIND[header.kind], digest, header.size_bytes)


# --- what the request changes --------------------------------------------------------------------------------------


def _config(store: Store, request: CreateRequest, info: Mapping[str, Any], plan: _Plan) -> Config:
    """The base model's config, what the files say, what the request says: the later wins (store §6.4, §6.7)."""
    base = plan.config
    config = replace(base, base_name="", model_format=base.model_format or "gguf")
    models = plan.headers(store, media.MODEL)[::-1] + plan.headers(store, media.PROJECTOR)
    if models:
        config = replace(
            config,
            model_family=models[0].architecture,
            model_families=tuple(dict.fromkeys(header.architecture for header in models)),
            model_type=gguf.human_count(models[0].parameter_count),
            file_type=models[0].file_type,
        )
    config = replace(
        config,
        requires=request.requires or base.requires,
        capabilities=tuple(dict.fromkeys((*base.capabilities, *info.get("capabilities", ())))),
        **{ours: info[name] for name, ours in _TEXT_INFO.items() if name in info},
        **{name: info[name] for name in _COUNT_INFO if name in info},
    )
    dialect = _dialect(request, base, config.model_family)
    return replace(config, renderer=dialect.renderer, parser=dialect.parser)


def _dialect(request: CreateRequest, base: Config, family: str) -> Dialect:
    """Renderer and parser as given or inherited; with neither, those that the architecture implies, and its stops."""
    renderer, parser = request.renderer or base.renderer, request.parser or base.parser
    return Dialect(renderer, parser) if renderer or parser else BY_ARCHITECTURE.get(family, Dialect("", ""))


def _apply(request: CreateRequest, plan: _Plan, family: str) -> None:
    """Replace or add the texts, in the order of store-registry §6.7."""
    # kept as it is for now: the template parser will refuse here what it cannot parse
    if request.template:
        plan.put(request.template.encode(), media.TEMPLATE, media.PROMPT)
    if request.system:
        plan.put(request.system.encode(), media.SYSTEM)
    for text in filter(None, request.licenses):
        plan.append(media.LICENSE, text.encode())
    stops = _dialect(request, plan.config, family).stops or plan.stops
    implied = {"stop": stops} if stops else {}
    given = {name: value for name, value in request.parameters.items() if value is not None}
    parameters = encode_parameters({**implied, **plan.parameters, **given})
    if parameters != encode_parameters(plan.parameters):
        plan.put(parameters, media.PARAMS)
    if request.messages:
        plan.put(encode_messages(request.messages), media.MESSAGES)


def _write(store: Store, target: ModelName, plan: _Plan, config: Config, report: Report) -> ModelName:
    content = config.encode()
    config_layer = Layer(media.CONFIG, Digest.of(content), len(content))
    raw = encode_manifest(config_layer, tuple(plan.layers))
    made: list[Digest] = []

    def keep(digest: Digest, content: bytes | None) -> str:
        if content is None or store.blobs.exists(digest):
            store.blobs.touch(digest)
            return f"using existing layer {digest}"
        made.append(store.blobs.put(content))
        return f"creating new layer {digest}"

    with store.hold([config_layer.digest, *(layer.digest for layer in plan.layers)]):
        try:
            for layer in plan.layers:
                report(Progress(keep(layer.digest, plan.fresh.get(layer.digest))))
            keep(config_layer.digest, content)
            report(Progress("writing manifest"))
            name = store.write(target, raw)
        except BaseException:
            store.discard(made)
            raise
    log.info("created model %s", name)
    report(Progress("success"))
    return name
