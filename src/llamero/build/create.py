"""Create: a new model out of another one or out of uploaded GGUF files, and what the request changes about it.

It decides what the manifest lists; the store writes that, last and in one step, so that a failure leaves the name as it
was. No path that a client gave is ever opened: files come as digests of blobs.
Source: store-registry §6, native-api §3.11.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import gguf
from ..errors import BadRequest, Forbidden, ModelNotFound, TemplateError
from ..gguf import Gguf
from ..messages import Message, Progress
from ..names import Digest, ModelName, split_source
from ..store import Store
from ..store import manifests as media
from ..store.layers import Config, encode_messages, encode_parameters
from ..store.manifests import Layer, encode_manifest
from ..template.render import Template
from . import sources
from .defaults import BY_ARCHITECTURE, Dialect, detect, knows_tools
from .quantize.levels import parse_level
from .remote import is_allowed, parse_remote
from .workshop import Report, Workshop

NO_REMOTE = "ollama cloud is disabled: remote model is unavailable"

MAX_FILES = 1000
"""In one request, and so open at once: the largest published models come in some 200 files."""

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
    store: Store,
    request: CreateRequest,
    report: Report,
    *,
    fetch: Fetch | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    remotes: Collection[str] | None = ("ollama.com",),
) -> ModelName:
    """Make the model and return its name as it is stored. It may take hours: run it in a thread.

    `fetch` pulls a base model that is not here. `remotes` are the hosts that may run models for us; None stands for a
    server without remote models. `cancelled` is asked on any thread. Whatever it raises, the name is as it was and
    nothing is left: BadRequest, Forbidden, ModelNotFound, NotSupported, StorageError, Cancelled, and LlameroError for
    what cannot be quantized. What is wrong with the request alone is said before the first report.
    """
    target = _check(request, remotes)
    info = _read_info(request.info)
    with Workshop(store, report, cancelled) as shop:
        given = (request.files or {}, request.adapters, request.draft_files)
        shop.hold(digest for files in given for digest in _digests(files).values())
        plan = _plan(shop, request, fetch)
        for name in sorted(set(request.info) - {*_TEXT_INFO, *_COUNT_INFO, "capabilities"}):
            shop.warn(f'info field "{name}" is unknown and has no effect')
        config = _config(store, request, info, plan)
        _apply(request, plan, config.model_family)
        return _write(shop, target, plan, config)


# --- the request ---------------------------------------------------------------------------------------------------


def _check(request: CreateRequest, remotes: Collection[str] | None) -> ModelName:
    """What can be said without looking at any file, in the order of store-registry §6.3. Returns the target's name."""
    files = [*(request.files or {}).items(), *request.draft_files.items()]
    if not all(sources.is_clean(path) for path, _ in files):
        raise BadRequest("file path must be relative")
    for _, digest in files:
        Digest.parse(digest)
    if request.draft_quantize and not request.draft_files:
        raise BadRequest("--draft-quantize requires a DRAFT model")
    for digest in request.adapters.values():
        Digest.parse(digest)
    if len(files) + len(request.adapters) > MAX_FILES:
        raise BadRequest(f"at most {MAX_FILES} files are accepted")
    target = ModelName.parse(request.model)
    if not request.from_ and request.files is None:
        raise BadRequest("neither 'from' or 'files' was specified")
    if not request.from_ and not request.files:
        raise BadRequest("unknown type")
    if request.remote_host:
        _check_remote(request, remotes)
    for level in filter(None, (request.quantize, request.draft_quantize)):
        parse_level(level)
    try:
        Template.parse(request.template)
    except TemplateError as error:
        raise BadRequest(f"template error: {error}") from error
    return target


def _check_remote(request: CreateRequest, remotes: Collection[str] | None) -> None:
    if request.draft_files:
        raise BadRequest("DRAFT cannot be used with remote models")
    remote = parse_remote(request.remote_host)
    if remotes is None:
        raise Forbidden(NO_REMOTE)
    if not is_allowed(remote, remotes):
        raise BadRequest("this server cannot run this remote model")
    ModelName.parse(request.from_.strip())
    if request.quantize or request.adapters or request.files:
        raise BadRequest("a remote model takes neither files, adapters nor quantization")


_TEXT_INFO = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
}
"""The request's word for a text, and the config's."""
_COUNT_INFO = ("context_length", "embedding_length")
_MOST = 2**63 - 1
"""What the reference can hold in such a field."""


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
            if not 0 <= value <= _MOST or value != value // 1:
                raise BadRequest(f'info field "{name}" must be a non-negative integer')
            info[name] = int(value)
        elif name == "capabilities":
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                raise BadRequest('info field "capabilities" must be a list of strings')
            info[name] = tuple(value)
    return info


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
        self.stops_status = ""
        """What to say of parameters with them."""
        self.texts: dict[Digest, bytes] = {}
        """Content of layers that is not stored yet."""
        self.statuses: dict[Digest, str] = {}
        """What to say of a layer; where it is empty, whether it is new."""

    @property
    def model(self) -> Layer | None:
        return next((layer for layer in reversed(self.layers) if layer.media_type == media.MODEL), None)

    def headers(self, store: Store, media_type: str) -> list[Gguf]:
        return [store.headers.read(layer.digest) for layer in self.layers if layer.media_type == media_type]

    def append(self, media_type: str, content: bytes, *, status: str = "") -> None:
        digest = Digest.of(content)
        self.texts[digest], self.statuses[digest] = content, status
        self.layers.append(Layer(media_type, digest, len(content)))

    def put(self, content: bytes, media_type: str, *aliases: str, status: str = "") -> None:
        """Append the only layer of its type."""
        self.remove(media_type, *aliases)
        self.append(media_type, content, status=status)

    def remove(self, *media_types: str) -> None:
        self.layers = [layer for layer in self.layers if layer.media_type not in media_types]


Fetch = Callable[[ModelName], None]


def _plan(shop: Workshop, request: CreateRequest, fetch: Fetch | None) -> _Plan:
    """All layers that come from elsewhere, in their order: the sources, adapters, a draft."""
    level = parse_level(request.quantize) if request.quantize else ""
    if request.remote_host:
        config = Config(remote_host=parse_remote(request.remote_host), remote_model=request.from_.strip())
        plan = _Plan([], config, {})
    elif request.from_:
        plan = _from_model(shop, request, level, fetch)
    else:
        plan = _Plan(sources.model_layers(shop, _digests(request.files or {}), level), Config(), {})
        for header in plan.headers(shop.store, media.MODEL)[-1:]:
            _recognise(plan, header.get_str("tokenizer.chat_template"))
    if request.adapters:
        plan.layers.append(sources.adapter_layer(shop, _digests(request.adapters), plan.model))
    if request.draft_files:
        draft_level = parse_level(request.draft_quantize) if request.draft_quantize else ""
        draft = sources.draft_layer(shop, _digests(request.draft_files), draft_level)
        plan.remove(media.DRAFT)
        plan.layers.append(draft)
        header = shop.store.headers.read(draft.digest)
        plan.config = replace(plan.config, draft={"model_format": "gguf", "architecture": header.architecture})
    return plan


def _recognise(plan: _Plan, jinja: str) -> None:
    """Take over the stops of a known chat format, and its Go template where that takes nothing away."""
    if (known := detect(jinja)) is None:
        return
    plan.stops = known.stops
    if knows_tools(jinja):
        plan.stops_status = f"using stops of autodetected template {known.name}"
    else:
        status = f"using autodetected template {known.name}"
        plan.append(media.TEMPLATE, known.template.encode(), status=status)


def _digests(given: Mapping[str, str]) -> dict[str, Digest]:
    """By path, so that a request means the same in whatever order it names its files."""
    return {path: Digest.parse(digest) for path, digest in sorted(given.items())}


def _from_model(shop: Workshop, request: CreateRequest, level: str, fetch: Fetch | None) -> _Plan:
    store = shop.store
    text, source = split_source(request.from_)
    if source == "cloud":
        raise Forbidden(NO_REMOTE)
    name = ModelName.parse(text)
    try:
        base = shop.model(name)
    except ModelNotFound:
        if fetch is None or source == "local":
            raise
        fetch(name)
        base = shop.model(name)
    if source == "local" and base.config.remote_host:
        raise ModelNotFound(f"model '{name}' not found")
    _ = base.gguf, base.projector_gguf  # a broken file of ours is no fault of the client: these say so with a 500
    layers = [replace(layer, from_name=base.name.display) for layer in base.manifest.layers]
    if level:
        store.check_weights(base)  # as above, for what only the work would stumble over
        layers = sources.quantized(shop, layers, level)
    if request.files:
        layers += _beside(shop, request.files, layers)
    return _Plan(layers, base.config, base.parameters)


def _beside(shop: Workshop, given: Mapping[str, str], layers: Sequence[Layer]) -> list[Layer]:
    """What files add to a base model: projectors, and nothing else."""
    projectors = sources.projector_layers(shop, _digests(given))
    if len(projectors) < len(given):
        shop.warn("files have no effect beside a base model")
    have = {layer.digest for layer in layers}
    return [layer for layer in projectors if layer.digest not in have]


# --- what the request changes --------------------------------------------------------------------------------------


def _config(store: Store, request: CreateRequest, info: Mapping[str, Any], plan: _Plan) -> Config:
    """The base model's config, what the files say, what the request says: the later wins (store §6.4, §6.7)."""
    base = plan.config
    config = replace(base, base_name="", model_format=base.model_format or ("" if base.remote_host else "gguf"))
    models = plan.headers(store, media.MODEL)[::-1] + plan.headers(store, media.PROJECTOR)
    families = [*filter(None, [info.get("model_family")]), *(header.architecture for header in models)]
    if families:
        config = replace(config, model_families=tuple(dict.fromkeys(families)))
    if models:
        config = replace(
            config,
            model_family=models[0].architecture,
            model_type=gguf.human_count(models[0].parameter_count),
            file_type=models[0].file_type,
        )
    config = replace(
        config,
        requires=request.requires or base.requires,
        capabilities=tuple(dict.fromkeys((*base.capabilities, *info.get("capabilities", ())))),
        **{ours: info[name] for name, ours in _TEXT_INFO.items() if info.get(name)},
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
    if request.template:
        plan.put(request.template.encode(), media.TEMPLATE, media.PROMPT)
    if request.system:
        plan.put(request.system.encode(), media.SYSTEM)
    for text in filter(None, request.licenses):
        plan.append(media.LICENSE, text.encode())
    family_stops = _dialect(request, plan.config, family).stops
    stops = family_stops or plan.stops
    implied = {"stop": stops} if stops else {}
    given = {name: value for name, value in request.parameters.items() if value is not None}
    # written again even where nothing changes: the reference does so, and equal requests must give equal manifests
    if parameters := {**implied, **plan.parameters, **given}:
        status = "" if family_stops or "stop" in given else plan.stops_status
        plan.put(encode_parameters(parameters), media.PARAMS, status=status)
    if request.messages:
        plan.put(encode_messages(request.messages), media.MESSAGES)


def _write(shop: Workshop, target: ModelName, plan: _Plan, config: Config) -> ModelName:
    content = config.encode()
    config_layer = Layer(media.CONFIG, Digest.of(content), len(content))
    shop.hold([config_layer.digest, *(layer.digest for layer in plan.layers)])
    for layer in plan.layers:
        text = plan.texts.get(layer.digest)
        status = shop.use(layer.digest) if text is None else shop.put(text)
        shop.say(plan.statuses.get(layer.digest) or status)
    shop.put(content)
    shop.say("writing manifest")
    name = shop.store.write(target, encode_manifest(config_layer, tuple(plan.layers)), is_stub=bool(config.remote_host))
    log.info("created model %s", name)
    shop.report(Progress("success"))
    return name
