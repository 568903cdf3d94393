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

from ..dialects.gojson import encode
from ..errors import Cancelled, Forbidden, LlameroError, ModelNotFound, NotFound, RegistryAnswered, StorageError
from ..messages import Found, Progress
from ..names import Digest, ModelName
from ..registry.pull import PullRequest
from ..sizes import human_bytes
from ..store import Finding, Store
from ..store.check import Check
from ..store.manifests import Manifest
from ..store.usage import ModelUsage
from .answers import JSON
from .audit import change
from .bodies import read
from .reports import ProgressLine, Report, Shared, every, report
from .routes import Handler, Route
from .transfers import Transfers, is_at_this_machine, is_trusted

TICK_S = 0.1
"""Between two lines about how far a check is."""

WHOLE_STORE = "sha256:store"
"""What progress lines carry for all blobs together."""


class UsageBody(msgspec.Struct):
    without: list[str] = []
    """Names; the reply says what removing them all would free."""


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
    freed: int
    """By removing `without`, all together."""
    without: list[ModelUsageReply]


class PruneBody(msgspec.Struct):
    dry_run: bool = False
    downloads: bool = False
    """Also interrupted downloads, which could be resumed."""


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
        asked = read(request, body or b"{}", UsageBody, "UsageRequest")
        names = [self._stored(text) for text in asked.without]
        usage = await asyncio.to_thread(self._store.usage)
        models = {each.name: _usage_of(each) for each in usage.models}
        reply = UsageReply(
            models=list(models.values()),
            models_size=usage.models_bytes,
            disk_size=usage.disk_bytes,
            saved=usage.saved_bytes,
            unused=usage.unused_bytes,
            freed=usage.freed_by(names),
            without=[models[name] for name in names if name in models],
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
        asked = read(request, body or b"{}", PruneBody, "PruneRequest")
        pruned = await asyncio.to_thread(lambda: self._store.prune(dry_run=asked.dry_run, downloads=asked.downloads))
        if pruned.refusal:
            raise StorageError(pruned.refusal)
        return Response(encode(PruneReply(list(pruned.names), pruned.freed_bytes)), media_type=JSON)

    async def move(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, MoveBody, "MoveRequest")
        source, destination = ModelName.parse(asked.source), ModelName.parse(asked.destination)
        try:
            name = await change(request, self._store, destination, lambda: self._store.move(source, destination))
        except ModelNotFound:
            raise ModelNotFound(f"model '{asked.source}' not found") from None
        return Response(encode(MoveReply(name.display)), media_type=JSON)

    async def doctor(self, request: Request, body: bytes) -> Response:
        asked = read(request, body or b"{}", DoctorBody, "DoctorRequest")
        trusted = is_trusted(request)

        def work(tell: Report, cancelled: Callable[[], bool]) -> None:
            tell(Progress("reading manifests"))

            def count(completed_bytes: int, total_bytes: int) -> None:
                tell(Progress("verifying blobs", WHOLE_STORE, total_bytes, completed_bytes))

            check = self._store.check(every(TICK_S, count), cancelled)
            for finding in check:
                if asked.repair and finding.damaged:
                    finding = self._repaired(check, finding, trusted, tell, cancelled)
                tell(Found(finding.text, subject=finding.subject, level=finding.level, advice=finding.advice))
            tell(Progress("success"))

        return await report(request, Shared(work).follow(), stream=asked.stream is not False)

    def _repaired(
        self, check: Check, finding: Finding, trusted: bool, tell: Report, cancelled: Callable[[], bool]
    ) -> Finding:
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
        check.mended(finding.damaged)
        again = ", ".join(digest.short for digest in finding.damaged)
        return Finding("ok", finding.subject, f"repaired: {again} fetched again")

    async def update(self, request: Request, body: bytes) -> Response:
        asked = read(request, body or b"{}", UpdateBody, "UpdateRequest")
        names = [self._stored(text) for text in asked.models]
        trusted = is_trusted(request)

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
        subject = name.display
        try:
            stored = self._store.manifests.read(name)
            source = self._store.pulled_as(stored)
            if source is None:
                return Found("made here", subject=subject)
            wanted = PullRequest(name=source, target=name, trusted=trusted)
            newest = self._transfers.look_up(wanted, cancelled)
            if newest.digest == stored.manifest.digest:
                return Found("up to date", subject=subject)
            news = _news(stored.manifest, newest)
            if only_check:
                return Found(f"has an update: {news}", subject=subject, level="warn", advice=f"ollama update {name}")
            self._transfers.refetch(wanted, tell, cancelled)
            return Found(f"updated: {news}", subject=subject)
        except Cancelled:
            raise
        except RegistryAnswered as error:
            if error.answer_status == NotFound.status:
                return Found("not at its registry", subject=subject)
            return Found(f"cannot be updated: {error}", subject=subject, level="fail")
        except LlameroError as error:
            return Found(f"cannot be updated: {error}", subject=subject, level="fail")


def _usage_of(model: ModelUsage) -> ModelUsageReply:
    others = [other.display for other in model.shared_with]
    return ModelUsageReply(model.name.display, model.size_bytes, model.own_bytes, others)


def _news(manifest: Manifest, newest: Manifest) -> str:
    """What an update brings, in words."""
    new = {layer.digest: layer.size_bytes for layer in newest.blobs if layer.digest not in manifest.digests}
    if not new:
        return "no new layers"
    count = "1 new layer" if len(new) == 1 else f"{len(new)} new layers"
    return f"{count}, {human_bytes(sum(new.values()))}"


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
