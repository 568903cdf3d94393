"""Pull: a model from a registry, its mirrors or a neighbour, into the store.

It decides who is asked for what and tells each step; how a registry talks is `session`'s, how a blob arrives
`download`'s. Source: store-registry §3, GAP-01, GAP-08, GAP-09, GAP-12; security §10.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from ..config import Settings
from ..errors import (
    BadRequest,
    BlobNotFound,
    Forbidden,
    LlameroError,
    ModelNotFound,
    RegistryAnswered,
    RegistryError,
    StorageError,
)
from ..messages import Progress
from ..names import Digest, ModelName
from ..store import Store, partials
from ..store.manifests import TENSOR, Layer, Manifest, parse_manifest
from . import peek
from .download import download
from .limit import Pace, RateLimit
from .lines import WHOLE_MODEL, Lines, Report
from .peek import Peek, Seen
from .policy import Policy
from .session import Network, Origin, Session

log = logging.getLogger(__name__)

PEER_TIMEOUT_S = 2.0
"""A neighbour that is there answers in milliseconds; one that is switched off must not hold a pull up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    name: ModelName
    pin: Digest | None = None
    """The manifest must have this digest, whatever the tag says by now (GAP-01)."""
    target: ModelName | None = None
    """Stored under this name instead."""
    insecure: bool = False
    trusted: bool = False
    """Somebody at this machine asks: the host that the name gives may be a private one (security §10.1)."""
    peer: str = ""
    """Base URL of a neighbour that is asked for each blob first."""
    limit_rate_bytes_per_s: int = 0
    dry_run: bool = False

    @property
    def scheme(self) -> str:
        """How the registry is asked."""
        return "http" if self.insecure else self.name.scheme


class Puller:
    """Pulls for one server, in any number of event loops at once."""

    def __init__(self, store: Store, settings: Settings, network: Network, rate: RateLimit) -> None:
        self._store = store
        self._settings = settings
        self._network = network
        self._rate = rate
        self.policy = Policy(settings.model_policy, settings.home / "llamero" / "pins")

    async def manifest(self, request: PullRequest) -> Manifest:
        """What the registry, a mirror or else a peer says the model is now. RegistryError, Forbidden."""
        async with AsyncExitStack() as stack:
            return await self._manifest(request, await self._enter(stack, self._origins(request)))

    async def peek(self, request: PullRequest) -> Peek:
        """What a model would be here; no weights are fetched. RegistryError, Forbidden, BadRequest."""
        async with AsyncExitStack() as stack:
            sessions = await self._enter(stack, self._origins(request))

            async def look(name: ModelName) -> Seen:
                manifest = await self._manifest(replace(request, name=name), sessions)
                return Seen(name, manifest, await peek.config(manifest, sessions))

            seen = await look(request.name)
            if seen.weights is None:
                stored_as = seen.config.model_format or "an unknown format"
                raise BadRequest(f'"{request.name}" is stored as {stored_as}, which cannot be run')
            header = await peek.header(seen.weights, sessions)
            tags = peek.sibling_tags(request.name, await peek.listed_tags(sessions[-1]))
            siblings = await peek.together([request.name.with_tag(tag) for tag in tags], look)
            return Peek(seen, header, tuple(siblings))

    async def pull(self, request: PullRequest, report: Report, *, patience_s: float | None = None) -> None:
        """Bring the model here; what has arrived when it fails stays for a resume.

        RegistryError (retryable when nobody can be reached, or not within `patience_s`), Forbidden, DiskFull,
        StorageError.
        """
        report(Progress("pulling manifest"))
        async with AsyncExitStack() as stack:
            sessions = await self._enter(stack, self._origins(request))
            try:
                manifest = await asyncio.wait_for(self._manifest(request, sessions), patience_s)
            except TimeoutError:
                raise RegistryError("pull model manifest: the registry does not answer", retryable=True) from None
            self._tell_change(request, manifest, report)
            missing = self._missing(manifest)
            if request.dry_run:
                _preview(manifest, missing, report)
            else:
                blobs = self._store.blobs
                blobs.require_space(
                    sum(partials.lacking_bytes(blobs, layer.digest, layer.size_bytes) for layer in missing)
                )
                peers = await self._neighbours(stack, request, report) if missing else []
                with self._store.hold(manifest.digests):
                    await self._fetch(request, manifest, [*peers, *sessions], report)
                    try:
                        self._write(request, manifest, report)
                    except BlobNotFound:  # another server on this folder knows no holds of ours, and removed it
                        await self._fetch(request, manifest, [*peers, *sessions], report)
                        self._write(request, manifest, report)
        report(Progress("success"))

    # --- whom to ask -----------------------------------------------------------------------------------------------

    def registry(self, name: ModelName, *, insecure: bool, trusted: bool) -> Origin:
        """Where the registry of a name is asked. Forbidden by policy."""
        self.policy.check_host(name)
        scheme = "http" if insecure else name.scheme
        url = f"{scheme}://{name.host}"
        return Origin(
            url,
            name.namespace,
            name.model,
            "registry",
            name.host,
            may_be_private=trusted,
            must_be_private=scheme == "http" and not insecure,
        )

    def _origins(self, request: PullRequest) -> list[Origin]:
        """The registry's mirrors, and last itself."""
        name = request.name
        mirrors = [
            Origin(url, name.namespace, name.model, "mirror", name.host, may_be_private=False)
            for url in self._settings.mirrors.get(name.host.lower(), ())
        ]
        return [*mirrors, self.registry(name, insecure=request.insecure, trusted=request.trusted)]

    async def _enter(self, stack: AsyncExitStack, origins: Sequence[Origin]) -> list[Session]:
        return [await stack.enter_async_context(Session(origin, self._network)) for origin in origins]

    def _peers(self, request: PullRequest) -> list[Origin]:
        """Neighbours. One that a request names may be private only when somebody at this machine asks."""
        named = [(request.peer.rstrip("/"), request.trusted)] if request.peer else []
        configured = [(url, True) for url in self._settings.peers]
        name = request.name
        return [
            Origin(url, name.namespace, name.model, "peer", name.host, may_be_private=trusted)
            for url, trusted in [*named, *configured]
        ]

    async def _neighbours(self, stack: AsyncExitStack, request: PullRequest, report: Report) -> list[Session]:
        """Those that are there. Configured ones come and go; who has named one is told that it is not."""
        peers = await self._enter(stack, self._peers(request))
        refusals = await asyncio.gather(*map(_refusal, peers))
        for number, (peer, refusal) in enumerate(zip(peers, refusals, strict=True)):
            if refusal:
                log.info("peer %s is left out: %s", peer.place, refusal)
                if request.peer and number == 0:
                    report(Progress(f"peer {peer.place} is left out: {refusal}"))
        return [peer for peer, refusal in zip(peers, refusals, strict=True) if not refusal]

    # --- the manifest ----------------------------------------------------------------------------------------------

    async def _manifest(self, request: PullRequest, sessions: Sequence[Session]) -> Manifest:
        """From the first that has it. A registry that cannot be reached may be stood in for by a neighbour."""
        *mirrors, registry = sessions
        for mirror in mirrors:
            try:
                return await self._manifest_of(mirror, request)
            except (RegistryError, Forbidden) as error:
                log.warning("mirror %s gives no manifest of %s: %s", mirror.place, request.name, error)
        try:
            return await self._manifest_of(registry, request)
        except RegistryError as error:
            if not error.retryable:
                raise
            for origin in self._peers(request):
                async with Session(origin, self._network) as peer:
                    try:
                        return await asyncio.wait_for(self._manifest_of(peer, request), PEER_TIMEOUT_S)
                    except (LlameroError, TimeoutError) as refusal:
                        log.info("peer %s gives no manifest of %s: %s", peer.place, request.name, refusal)
            raise

    async def _manifest_of(self, session: Session, request: PullRequest) -> Manifest:
        try:
            manifest = parse_manifest(await session.manifest(str(request.pin or request.name.tag)))
        except RegistryAnswered as error:
            raise RegistryAnswered(f"pull model manifest: {error}", error.answer_status) from error
        except (RegistryError, BadRequest) as error:
            retryable = isinstance(error, RegistryError) and error.retryable
            raise RegistryError(f"pull model manifest: {error}", retryable=retryable) from error
        self.policy.check_digest(request.name, manifest)
        return manifest

    def _tell_change(self, request: PullRequest, manifest: Manifest, report: Report) -> None:
        """Somebody else's words decide what a name means: say so when that changes (security §10.4)."""
        name = self._store.manifests.adopt(request.target or request.name)
        try:
            before = self._store.manifests.read(name).manifest.digest
        except (ModelNotFound, StorageError):
            return
        if before != manifest.digest:
            log.warning("%s: manifest %s will be replaced by %s", name, before, manifest.digest)
            report(Progress(f"manifest changed from {before[:12]} to {manifest.digest[:12]}"))

    # --- the blobs -------------------------------------------------------------------------------------------------

    def _missing(self, manifest: Manifest) -> list[Layer]:
        blobs = {layer.digest: layer for layer in manifest.blobs}
        return [layer for layer in blobs.values() if not self._store.blobs.has(layer.digest, layer.size_bytes)]

    async def _fetch(
        self, request: PullRequest, manifest: Manifest, sources: Sequence[Session], report: Report
    ) -> None:
        pace = Pace(self._rate, RateLimit(request.limit_rate_bytes_per_s))
        if manifest.of_type(TENSOR):
            await self._fetch_together(manifest, sources, pace, report)
        else:
            await self._fetch_in_turn(manifest, sources, pace, report)

    async def _fetch_in_turn(self, manifest: Manifest, sources: Sequence[Session], pace: Pace, report: Report) -> None:
        for layer in manifest.blobs:
            lines = Lines(f"pulling {layer.digest.short}", str(layer.digest), layer.size_bytes, report)
            if not self._store.blobs.has(layer.digest, layer.size_bytes):
                lines.tell(0)
                await download(self._store, layer.digest, layer.size_bytes, sources, pace=pace, report=lines.tell)
            lines.finish()
        # each blob was verified before it got its name; clients know the step
        report(Progress("verifying sha256 digest"))

    async def _fetch_together(self, manifest: Manifest, sources: Sequence[Session], pace: Pace, report: Report) -> None:
        """A model of many small blobs, told as one."""
        from .tensors import download_many

        layers = list({layer.digest: layer for layer in manifest.blobs}.values())
        lines = Lines("pulling model", WHOLE_MODEL, sum(layer.size_bytes for layer in layers), report)
        streams = self._settings.transfer_streams
        await download_many(self._store, layers, sources, streams=streams, pace=pace, report=lines.tell)
        lines.finish()

    def _write(self, request: PullRequest, manifest: Manifest, report: Report) -> None:
        report(Progress("writing manifest"))
        for digest in manifest.digests:
            self._store.blobs.touch(digest)
        removing = None if manifest.of_type(TENSOR) else lambda: report(Progress("removing unused layers"))
        name = self._store.write(request.target or request.name, manifest.raw, removing=removing)
        self._store.mark_pulled(name, manifest.digest, replace(request.name, scheme=request.scheme))
        log.info("pulled %s, manifest %s", name, manifest.digest)


async def _refusal(peer: Session) -> str:
    """Why a neighbour cannot be asked; empty when it can."""
    try:
        await asyncio.wait_for(peer.check(), PEER_TIMEOUT_S)
    except TimeoutError:
        return "it does not answer"
    except LlameroError as error:
        return str(error)
    return ""


def _preview(manifest: Manifest, missing: Sequence[Layer], report: Report) -> None:
    absent = {layer.digest for layer in missing}
    for layer in manifest.blobs:
        completed = 0 if layer.digest in absent else layer.size_bytes
        report(Progress(f"pulling {layer.digest.short}", str(layer.digest), layer.size_bytes, completed))
    to_fetch = sum(layer.size_bytes for layer in missing)
    report(Progress(f"dry run: {to_fetch} of {manifest.size_bytes} bytes would be fetched"))
