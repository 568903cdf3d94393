"""Our own routes that keep the models folder tidy: what it takes, what is wrong with it, what is out of date.

Shapes are ours (native-api §3.22); the commands `du`, `prune`, `doctor`, `mv` and `update` call them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..dialects.gojson import decode, encode
from ..errors import Cancelled, Forbidden, LlameroError, ModelNotFound, NotFound, RegistryAnswered
from ..messages import Found, Progress
from ..names import Digest, ModelName
from ..registry.pull import PullRequest
from ..store import Finding, Store
from .answers import JSON
from .reports import ProgressLine, Report, Shared, every, report
from .routes import Handler, Route
from .transfers import Transfers, is_at_this_machine

TICK_S = 0.1
"""Between two lines about how far a check is."""

WHOLE_STORE = "sha256:store"
"""What progress lines carry for all blobs together."""


class UsageBody(msgspec.Struct):
    without: list[str] = []
    """Names; `freed` of the reply says what removing them all would free."""


class ModelUsageReply(msgspec.Struct):
    name: str
    size: int
    own: int
    shared_with: list[str]


class UsageReply(msgspec.Struct):
    models: list[ModelUsageReply]
    models_size: int
    disk_size: int
    saved: int
    unused: int
    freed: int = 0


class PruneBody(msgspec.Struct):
    dry_run: bool = False


class PruneReply(msgspec.Struct):
    files: list[str]
    freed: int


class StoreReply(msgspec.Struct):
    models: str


class MoveBody(msgspec.Struct):
    source: str = ""
    destination: str = ""


class MoveReply(msgspec.Struct):
    model: str


class DoctorBody(msgspec.Struct):
    repair: bool = False
    stream: bool | None = None


class UpdateBody(msgspec.Struct):
    models: list[str] = []
    """None: all."""
    check: bool = False
    stream: bool | None = None


class Housekeeping:
    def __init__(self, store: Store, transfers: Transfers) -> None:
        self._store = store
        self._transfers = transfers

    async def usage(self, request: Request, body: bytes) -> Response:
        asked = decode(body or b"{}", UsageBody, "UsageRequest").value
        names = [self._stored(text) for text in asked.without]
        usage = await asyncio.to_thread(self._store.usage)
        models = [
            ModelUsageReply(
                each.name.display, each.size_bytes, each.own_bytes, [other.display for other in each.shared_with]
            )
            for each in usage.models
        ]
        reply = UsageReply(
            models,
            usage.models_bytes,
            usage.disk_bytes,
            usage.saved_bytes,
            usage.unused_bytes,
            usage.freed_by(names),
        )
        return Response(encode(reply), media_type=JSON)

    def _stored(self, text: str) -> ModelName:
        name = self._store.manifests.adopt(ModelName.parse(text))
        try:
            self._store.manifests.read(name)
        except ModelNotFound:
            raise ModelNotFound(f"model '{text}' not found") from None
        return name

    async def store(self, request: Request, body: bytes) -> Response:
        """Where the models are: the command line of the same user on the same machine links files into that folder."""
        if not is_at_this_machine(request):
            raise Forbidden("only this machine is told where the models are")
        return Response(encode(StoreReply(str(self._store.root.absolute()))), media_type=JSON)

    async def prune(self, request: Request, body: bytes) -> Response:
        asked = decode(body or b"{}", PruneBody, "PruneRequest").value
        pruned = await asyncio.to_thread(lambda: self._store.prune(dry_run=asked.dry_run))
        return Response(encode(PruneReply(list(pruned.names), pruned.freed_bytes)), media_type=JSON)

    async def move(self, request: Request, body: bytes) -> Response:
        asked = decode(body, MoveBody, "MoveRequest").value
        source, destination = ModelName.parse(asked.source), ModelName.parse(asked.destination)
        try:
            name = await asyncio.to_thread(self._store.move, source, destination)
        except ModelNotFound:
            raise ModelNotFound(f"model '{asked.source}' not found") from None
        return Response(encode(MoveReply(name.display)), media_type=JSON)

    async def doctor(self, request: Request, body: bytes) -> Response:
        asked = decode(body or b"{}", DoctorBody, "DoctorRequest").value
        trusted = is_at_this_machine(request)

        def work(tell: Report, cancelled: Callable[[], bool]) -> None:
            tell(Progress("reading manifests"))

            def count(completed_bytes: int, total_bytes: int) -> None:
                tell(Progress("verifying blobs", WHOLE_STORE, total_bytes, completed_bytes))

            for finding in self._store.check(every(TICK_S, count), cancelled):
                if asked.repair and finding.damaged and finding.name is not None:
                    finding = self._repair(finding, trusted, tell, cancelled)
                tell(Found(finding.text, subject=finding.subject, level=finding.level, advice=finding.advice))
            tell(Progress("success"))

        return await report(request, Shared(work).follow(), stream=asked.stream is not False)

    def _repair(self, finding: Finding, trusted: bool, tell: Report, cancelled: Callable[[], bool]) -> Finding:
        """Fetch the damaged blobs of a model again, and nothing else."""
        assert finding.name is not None
        stored = self._store.manifests.read(finding.name)
        origin = self._store.pulled_as(stored)
        if origin is None:
            return finding
        wanted = PullRequest(name=origin, pin=Digest(stored.manifest.digest), target=finding.name, trusted=trusted)
        try:
            with self._store.without(finding.damaged):
                self._transfers.refetch(wanted, tell, cancelled)
        except Cancelled:
            raise
        except LlameroError as error:
            return replace(finding, text=f"{finding.text}; not repaired: {error}")
        return Finding("ok", finding.subject, f"repaired: {finding.text}")

    async def update(self, request: Request, body: bytes) -> Response:
        asked = decode(body or b"{}", UpdateBody, "UpdateRequest").value
        names = [self._stored(text) for text in asked.models]
        trusted = is_at_this_machine(request)

        def work(tell: Report, cancelled: Callable[[], bool]) -> None:
            tell(Progress("reading manifests"))
            for name in names or [summary.name for summary in self._store.list()]:
                tell(self._update(name, trusted, asked.check, tell, cancelled))
            tell(Progress("success"))

        return await report(request, Shared(work).follow(), stream=asked.stream is not False)

    def _update(
        self, name: ModelName, trusted: bool, only_check: bool, tell: Report, cancelled: Callable[[], bool]
    ) -> Found:
        """What became of one model. One that cannot be updated does not stop the others."""
        stored, subject = self._store.manifests.read(name), name.display
        manifest, origin = stored.manifest, self._store.pulled_as(stored)
        if origin is None:
            return Found("made here, nothing to update", subject=subject)
        wanted = PullRequest(name=origin, target=name, trusted=trusted)
        try:
            newest = self._transfers.look_up(wanted, cancelled)
            if newest.digest == manifest.digest:
                return Found("up to date", subject=subject)
            changed = {layer.digest: layer.size_bytes for layer in newest.blobs if layer.digest not in manifest.digests}
            size = f"{len(changed)} layers, {sum(changed.values())} bytes"
            if only_check:
                return Found(f"update available: {size}", subject=subject, level="warn", advice=f"ollama update {name}")
            self._transfers.refetch(wanted, tell, cancelled)
            return Found(f"updated: {size}", subject=subject)
        except Cancelled:
            raise
        except RegistryAnswered as error:
            if error.answer_status == NotFound.status:
                return Found("not at the registry", subject=subject)
            return Found(f"cannot be updated: {error}", subject=subject, level="fail")
        except LlameroError as error:
            return Found(f"cannot be updated: {error}", subject=subject, level="fail")


def routes(store: Store, transfers: Transfers) -> list[Route]:
    own = Housekeeping(store, transfers)

    def post(path: str, handler: Handler, summary: str, body: type, reply: type) -> Route:
        lines = reply if reply is ProgressLine else None
        return Route("POST", f"/api/llamero/{path}", handler, summary, body=body, reply=reply, lines=lines)

    return [
        Route("GET", "/api/llamero/store", own.store, "Where the models folder is", reply=StoreReply),
        post("usage", own.usage, "What the models take on the disk", UsageBody, UsageReply),
        post("prune", own.prune, "Remove what no model uses", PruneBody, PruneReply),
        post("move", own.move, "Give a model another name", MoveBody, MoveReply),
        post("doctor", own.doctor, "Verify every manifest and every blob", DoctorBody, ProgressLine),
        post("update", own.update, "Fetch what has changed at the registries", UpdateBody, ProgressLine),
    ]
