"""The routes that are about models on disk: list, show, create, copy, delete, blobs. They load nothing.

Source: native-api §3.4 to §3.6, §3.11 to §3.14, §3.16.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .. import modelfile
from ..build.create import CreateRequest, create
from ..config import Settings
from ..dialects import native
from ..dialects.gojson import encode
from ..errors import BadRequest, Forbidden, InvalidName, ModelNotFound
from ..names import Digest, ModelName, split_source
from ..options import read_options
from ..scheduler.loop import Scheduler
from ..scheduler.views import Snapshot
from ..store import Model, Store, Summary
from .answers import JSON, nothing
from .audit import change, changing, notes_of
from .bodies import read
from .caller import caller
from .fullness import Fullness
from .reports import Report, Shared, report
from .shelf import Shelf
from .transfers import Transfers, is_trusted, stub_name

NO_REMOTE_DETAILS = "ollama cloud is disabled: remote model details are unavailable"


class DetailsReply(msgspec.Struct):
    parent_model: str
    format: str
    family: str
    families: tuple[str, ...] | None
    parameter_size: str
    quantization_level: str


class ListedDetails(DetailsReply, omit_defaults=True):
    context_length: int = 0
    embedding_length: int = 0


class TagsEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    name: str
    model: str
    remote_model: str = ""
    remote_host: str = ""
    modified_at: str
    size: int
    digest: str
    details: ListedDetails
    capabilities: tuple[str, ...] = ()


class TagsReply(msgspec.Struct):
    models: list[TagsEntry]


class PsEntry(msgspec.Struct, omit_defaults=True):
    name: str
    model: str
    size: int
    digest: str
    details: DetailsReply
    expires_at: str
    size_vram: int
    context_length: int
    context_used: int = 0
    """Tokens of the conversation that it answered last."""


class PsLoading(msgspec.Struct):
    model: str
    progress: float


class PsWaiting(msgspec.Struct):
    position: int
    model: str
    waiting_ms: int


class PsReply(msgspec.Struct, omit_defaults=True):
    models: list[PsEntry]
    loading: list[PsLoading] = []
    queue: list[PsWaiting] = []


class TensorReply(msgspec.Struct):
    name: str
    type: str
    shape: tuple[int, ...]


class ShownMessage(msgspec.Struct):
    role: str
    content: str


class ShowReply(msgspec.Struct, omit_defaults=True, kw_only=True):
    license: str = ""
    modelfile: str
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: DetailsReply
    messages: list[ShownMessage] = []
    remote_model: str = ""
    remote_host: str = ""
    model_info: dict[str, Any]
    projector_info: dict[str, Any] | None = None
    tensors: list[TensorReply] = []
    capabilities: tuple[str, ...] = ()
    modified_at: str
    requires: str = ""


class Library:
    def __init__(
        self, store: Store, scheduler: Scheduler, fullness: Fullness, transfers: Transfers, settings: Settings
    ) -> None:
        self._store = store
        self._shelf = Shelf(store)
        self._scheduler = scheduler
        self._fullness = fullness
        self._remotes = None if settings.no_cloud else settings.remotes
        self._transfers = transfers

    # --- looking ---------------------------------------------------------------------------------------------------

    async def tags(self, request: Request, body: bytes) -> Response:
        summaries = await asyncio.to_thread(self._shelf.list)
        return _json(TagsReply([_listed(summary) for summary in summaries]))

    async def ps(self, request: Request, body: bytes) -> Response:
        snapshot = await asyncio.to_thread(self._visible, self._scheduler.snapshot())
        models = [
            PsEntry(
                name=view.model.name.display,
                model=view.model.name.display,
                size=view.memory.total_bytes,
                digest=view.model.digest,
                details=msgspec.structs.replace(_details(view.model), parent_model=""),
                expires_at=native.timestamp(view.expires_at_ns, local=True),
                size_vram=view.memory.vram_bytes,
                context_length=view.wanted.plan.ctx_tokens,
                context_used=self._fullness.tokens(str(view.model.weights_digest)),
            )
            for view in snapshot.loaded
        ]
        loading = [PsLoading(view.model.name.display, round(view.progress, 2)) for view in snapshot.loading]
        queue = [PsWaiting(view.position, view.model.name.display, view.waiting_ms) for view in snapshot.queue]
        return _json(PsReply(models, loading, queue))

    def _visible(self, snapshot: Snapshot) -> Snapshot:
        """What a caller may know of: its models, and without an admin key of those who wait only itself."""
        who, allows = caller.get(), self._shelf.allows
        return Snapshot(
            tuple(view for view in snapshot.loaded if allows(view.model.name)),
            tuple(view for view in snapshot.loading if allows(view.model.name)),
            tuple(view for view in snapshot.queue if who.rights == "admin" or view.party == who.party),
        )

    async def show(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, native.ShowBody, "ShowRequest")
        text = asked.model or asked.name
        if not text.strip():
            raise BadRequest("model is required")
        reply = await asyncio.to_thread(self._look_up, text, asked)
        if request.headers.get("user-agent", "").startswith("GitHubCopilotChat/"):
            reply.model_info["general.basename"] = text
        return _json(reply)

    def _look_up(self, text: str, asked: native.ShowBody) -> ShowReply:
        base, source = split_source(text)
        if source == "cloud":
            raise Forbidden(NO_REMOTE_DETAILS)
        name = ModelName.parse(base)
        try:
            with self._shelf.using(name) as model:
                if model.config.remote_host and self._remotes is None:
                    raise Forbidden(NO_REMOTE_DETAILS)
                return self._show(model, asked)
        except ModelNotFound:
            raise ModelNotFound(f"model '{name.display}' not found") from None

    def _show(self, model: Model, asked: native.ShowBody) -> ShowReply:
        """Without an admin key no path of a file: the Modelfile names the model instead (security §6.3)."""
        tells_paths = caller.get().rights == "admin"
        system = asked.system or model.system
        overlay, _ = read_options(asked.options)
        # of a safetensors model, which may have many thousands, only when asked (store-registry §7.5)
        stored = model.gguf or (model.tensors if asked.verbose else None)
        shown_tensors = stored.tensors if stored else ()
        return ShowReply(
            modelfile=modelfile.show_modelfile(
                model.name.display,
                weights=str(model.weights) if tells_paths and model.weights is not None else None,
                adapters=[str(path) for path in model.adapters if tells_paths],
                drafts=[str(model.draft)] if tells_paths and model.draft is not None else [],
                projectors=[str(path) for path in model.projectors if tells_paths],
                template=model.template,
                system=system,
                renderer=model.config.renderer,
                parser=model.config.parser,
                parameters={**model.parameters, **overlay},
                licenses=model.licenses,
                messages=model.messages,
            ),
            details=_details(model),
            model_info=model.model_info(verbose=asked.verbose),
            modified_at=native.timestamp(model.modified_ns, local=True),
            license="\n".join(model.licenses),
            parameters=modelfile.parameter_lines(model.parameters),
            template=model.template_in_force,
            system=system,
            messages=[ShownMessage(message.role, message.content) for message in model.messages],
            projector_info=model.projector_info(verbose=asked.verbose),
            tensors=[TensorReply(tensor.name, tensor.type, tensor.shape) for tensor in shown_tensors],
            capabilities=model.capabilities,
            requires=model.config.requires,
            remote_model=model.config.remote_model,
            remote_host=model.config.remote_host,
        )

    # --- changing --------------------------------------------------------------------------------------------------

    async def copy(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, native.CopyBody, "CopyRequest")
        source = _name(asked.source, "source")
        destination = _name(asked.destination, "destination")
        try:
            await change(request, self._store, destination, lambda: self._store.copy(source, destination))
        except ModelNotFound:
            raise ModelNotFound(f'model "{asked.source}" not found') from None
        return nothing()

    async def delete(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, native.DeleteBody, "DeleteRequest")
        text = asked.model or asked.name
        if not text.strip():
            raise BadRequest("model is required")
        try:
            name = stub_name(text)
        except InvalidName:
            raise BadRequest(f"name {_quoted(text)} is invalid") from None
        try:
            await change(request, self._store, name, lambda: self._store.delete(name))
        except ModelNotFound:
            raise ModelNotFound(f"model '{text}' not found") from None
        return nothing()

    async def create(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, native.CreateBody, "CreateRequest")
        wanted = _create_request(asked)

        trusted = is_trusted(request)

        def work(tell: Report, cancelled: Callable[[], bool]) -> None:
            with changing(notes_of(request), self._store, wanted.model):
                create(
                    self._store,
                    wanted,
                    tell,
                    fetch=lambda name: self._transfers.fetch(name, trusted=trusted, tell=tell, cancelled=cancelled),
                    cancelled=cancelled,
                    remotes=self._remotes,
                )

        return await report(request, Shared(work).follow(), stream=asked.stream is not False)

    # --- blobs -----------------------------------------------------------------------------------------------------

    async def blob_head(self, request: Request, body: bytes) -> Response:
        digest = _digest(request)
        found = await asyncio.to_thread(self._store.blobs.exists, digest)
        return nothing() if found else nothing(404, {"Content-Type": JSON})

    async def blob_upload(self, request: Request) -> Response:
        """Take a file, hashing as it comes. Nothing of it can be seen before its digest is proven."""
        digest = _digest(request)
        if await asyncio.to_thread(self._store.blobs.exists, digest):
            return nothing(200)
        announced = request.headers.get("content-length", "0")
        announced_bytes = int(announced) if announced.isdigit() else 0
        writer = await asyncio.to_thread(
            lambda: self._store.blobs.stage(digest, announced_bytes=announced_bytes, reserve=True)
        )
        with writer:
            async for chunk in request.stream():
                await asyncio.to_thread(writer.write, chunk)
            await asyncio.to_thread(writer.commit)
        return nothing(201)


def _digest(request: Request) -> Digest:
    """Of the path. Some clients escape its colon; nothing else is decoded (security §9.4)."""
    return Digest.parse(re.sub("%3a", ":", request.path_params["digest"], flags=re.IGNORECASE))


def _json(value: Any) -> Response:
    return Response(encode(value), media_type=JSON)


def _details(model: Model) -> DetailsReply:
    known = model.details()
    return DetailsReply(
        _parent(known.parent_model),
        known.format,
        known.family,
        known.families,
        known.parameter_size,
        known.quantization_level,
    )


def _parent(text: str) -> str:
    """The model that one was made from. Other programs write paths of files there, too: those are for admins."""
    if text and caller.get().rights != "admin":
        try:
            ModelName.parse(text)
        except InvalidName:
            return ""
    return text


def _listed(summary: Summary) -> TagsEntry:
    known = summary.details
    return TagsEntry(
        name=summary.name.display,
        model=summary.name.display,
        modified_at=native.timestamp(summary.modified_ns, local=True),
        size=summary.size_bytes,
        digest=summary.digest,
        details=ListedDetails(
            _parent(known.parent_model),
            known.format,
            known.family,
            known.families,
            known.parameter_size,
            known.quantization_level,
            summary.context_length,
            summary.embedding_length,
        ),
        remote_model=summary.remote_model,
        remote_host=summary.remote_host,
        capabilities=summary.capabilities,
    )


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _name(text: str, what: str) -> ModelName:
    try:
        return ModelName.parse(text)
    except BadRequest:
        raise BadRequest(f"{what} {_quoted(text)} is invalid") from None


def _create_request(asked: native.CreateBody) -> CreateRequest:
    return CreateRequest(
        model=asked.model or asked.name,
        from_=asked.from_,
        files=asked.files,
        adapters=asked.adapters or {},
        draft_files=asked.draft_files or {},
        template=asked.template,
        system=asked.system,
        licenses=tuple(asked.license),
        parameters=asked.parameters,
        messages=tuple(body.message() for body in asked.messages),
        renderer=asked.renderer,
        parser=asked.parser,
        requires=asked.requires,
        info=asked.info,
        quantize=asked.quantize or asked.quantization,
        draft_quantize=asked.draft_quantize,
        remote_host=asked.remote_host,
    )
