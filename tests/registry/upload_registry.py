"""The upload half of a registry, on loopback: it checks every request, and fails where its script says so.

    async with UploadRegistry(style="redirect", faults={"PATCH": [Cut(5), None, Refuse(500)]}) as registry: ...

`style` is how it wants bytes: "serial" (as plain registries), "redirect" (parts go to storage, as the public registry),
"direct" (whole blobs go to storage). Storage is a server of its own, hence another origin. Each step (POST, PATCH, GET,
PUT, STORE, MANIFEST) takes the next fault of its list, None and the end of the list being none. What no client may send
is written down in `complaints`, and fails the test when the block ends.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from aiohttp import web

from tests.registry.web import serving

OCTETS = "application/octet-stream"


@dataclass(frozen=True)
class Cut:
    """The connection breaks after so many bytes of the body, which are kept."""

    after_bytes: int


@dataclass(frozen=True)
class Refuse:
    """The body is read and thrown away."""

    status: int
    text: str = ""
    echo: bool = False
    """Repeat the credentials in the text."""


@dataclass(frozen=True)
class LoseAnswer:
    """All is done as asked, and the connection breaks before the answer."""


@dataclass(frozen=True)
class RevokeToken:
    """The token is no longer good."""


@dataclass(frozen=True)
class Forget:
    """The upload session is gone."""


@dataclass(frozen=True)
class Hang:
    """Nothing is read and nothing is answered."""


Work = Callable[[], Awaitable[web.StreamResponse]]
Fault = Cut | Refuse | LoseAnswer | RevokeToken | Forget | Hang


@dataclass
class Seen:
    """A request as it came."""

    step: str
    method: str
    target: str
    """Path and query, raw."""
    query: dict[str, str]
    headers: Mapping[str, str]


@dataclass
class _Upload:
    repository: str
    parts: list[bytes] = field(default_factory=list)
    partial: bytes = b""
    """What came of a part before its connection broke."""
    state: int = 0
    """Each answer moves the upload URL; an older one is not good any more."""

    @property
    def offset(self) -> int:
        return sum(map(len, self.parts)) + len(self.partial)


class UploadRegistry:
    def __init__(
        self,
        style: Literal["serial", "redirect", "direct"] = "serial",
        *,
        relative: bool = False,
        decoy: bool = False,
        moves: bool = True,
        tells_offset: bool = True,
        mountable: Sequence[tuple[str, str]] = (),
        faults: Mapping[str, Sequence[Fault | None]] = {},
        parts_together: int = 1,
        token: bool = False,
        password: str = "",
    ) -> None:
        """How this registry differs from the plainest one.

        relative: its locations are. decoy: `Location` leads nowhere, the upload URL stands in Docker's own header.
        moves: every answer gives a new upload URL. tells_offset: a GET of the upload URL is answered.
        mountable: repository and digest of blobs that are elsewhere. token: it wants one; password: a basic login.
        parts_together: storage answers no part before so many have come.
        """
        self.style = style
        self.relative = relative
        self.decoy = decoy
        self.moves = moves
        self.tells_offset = tells_offset
        self.mountable = set(mountable)
        self.faults = {step: list(faults) for step, faults in faults.items()}
        self.parts_together = parts_together
        self.token = token
        self.password = password
        self.seen: list[Seen] = []
        self.complaints: list[str] = []
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        """Repository and tag to media type and bytes."""
        self.etags: list[str] = []
        self.most_together = 0
        self.on_step: Callable[[str], object] = lambda step: None
        """Called with each step when it begins."""
        self._uploads: dict[str, _Upload] = {}
        self._tokens = 0
        self._together = 0
        self._full = asyncio.Event()
        self._end = asyncio.Event()
        self._sites = AsyncExitStack()

    async def __aenter__(self) -> UploadRegistry:
        self.host = (await self._sites.enter_async_context(serving(self._registry))).place
        self.url = f"http://{self.host}"
        self.storage_url = f"http://{(await self._sites.enter_async_context(serving(self._storage))).place}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._full.set()
        self._end.set()
        await self._sites.aclose()
        if error is None:
            assert self.complaints == []
            assert not any(self.faults.values()), "a fault of the script did not happen"

    def steps(self) -> list[str]:
        """What happened, in order."""
        return [seen.step for seen in self.seen]

    def of(self, step: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.step == step]

    # --- the registry ---

    async def _registry(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            self._tokens += 1
            return web.json_response({"token": f"token-{self._tokens}"})
        _, version, namespace, model, kind, *rest = request.path.split("/")
        assert version == "v2"
        repository = f"{namespace}/{model}"
        if kind == "manifests":
            return await self._step("MANIFEST", request, lambda: self._put_manifest(request, repository, rest[0]))
        if rest[0] == "uploads":
            if request.method == "POST":
                return await self._step("POST", request, lambda: self._begin(request, repository))
            return await self._step(request.method, request, lambda: self._go_on(request, repository, rest[1]))
        return await self._step("HEAD", request, lambda: self._head(repository, rest[0]))

    async def _step(self, step: str, request: web.BaseRequest, work: Work) -> web.StreamResponse:
        raw = request.raw_path
        self.seen.append(Seen(step, request.method, raw, dict(request.query), request.headers))
        self.on_step(step)
        if step != "STORE" and (refusal := self._unauthorized(request)):
            return refusal
        fault = self.faults[step].pop(0) if self.faults.get(step) else None
        match fault:
            case Refuse(status, text, echo):
                await request.read()
                return web.Response(status=status, text=text + (request.headers["Authorization"] if echo else ""))
            case RevokeToken():
                self._tokens += 1
                return self._challenge()
            case Forget():
                self._uploads.clear()
                return web.Response(status=404, text='{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}')
            case Hang():
                await self._end.wait()
            case Cut(after_bytes):
                received = await request.content.readexactly(after_bytes)
                self._uploads[request.path.rpartition("/")[2]].partial += received
                return self._break(request)
        answer = await work()
        return self._break(request) if isinstance(fault, LoseAnswer) else answer

    def _break(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response(status=500)

    def _unauthorized(self, request: web.BaseRequest) -> web.StreamResponse | None:
        sent = request.headers.get("Authorization", "")
        if self.token and sent != f"Bearer token-{self._tokens}":
            return self._challenge()
        if self.password and not sent.startswith("Basic "):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="registry"'})
        return None

    def _challenge(self) -> web.StreamResponse:
        challenge = f'Bearer realm="{self.url}/token",service="registry",scope="repository:push"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async def _head(self, repository: str, digest: str) -> web.StreamResponse:
        return web.Response(status=200 if (repository, digest) in self.blobs else 404)

    async def _begin(self, request: web.BaseRequest, repository: str) -> web.StreamResponse:
        self._expect(request, "POST", {"Content-Length": "0"})
        query = request.query
        if (query.get("from"), query.get("mount")) in self.mountable:
            self.blobs[repository, query["mount"]] = b""
            return web.Response(status=201)
        key = f"u{len(self._uploads)}"
        self._uploads[key] = _Upload(repository)
        headers = {}
        if self.style == "direct":
            self._expect(request, "POST", {"X-Redirect-Uploads": "2"})
            headers = {
                # what a client that takes URLs apart and puts them together again would change
                "X-Direct-Upload-URL": f"{self.storage_url}/whole/{key}/0?X-Sig=a%2Fb%3D~+c&b=%7e",
                "X-Signed-Header-Content-Type": "application/x-signed",
                "X-Signed-Header-X-Amz-Meta-Size": request.headers.get("X-Content-Length", ""),
            }
        return web.Response(status=202, headers={**headers, **self._where(request, key)})

    async def _go_on(self, request: web.BaseRequest, repository: str, key: str) -> web.StreamResponse:
        upload = self._uploads.get(key)
        if upload is None or upload.repository != repository or request.query.get("state") != str(upload.state):
            return web.Response(status=404, text="no such upload")
        upload.state += self.moves
        match request.method:
            case "PATCH":
                return await self._patch(request, upload, key)
            case "GET":
                if not self.tells_offset:
                    return web.Response(status=405)
                kept = f"0-{max(upload.offset - 1, 0)}"
                return web.Response(status=204, headers={"Range": kept, **self._where(request, key)})
        return await self._commit(request, upload)

    async def _patch(self, request: web.BaseRequest, upload: _Upload, key: str) -> web.StreamResponse:
        redirects = self.style == "redirect"
        size = int(request.headers.get("Content-Length", 0))
        # storage knows the part's place by the number of parts before it; here all but the last are alike
        offset = len(upload.parts) * len(upload.parts[0]) if redirects and upload.parts else upload.offset
        content_range = {"Content-Range": f"{offset}-{offset + size - 1}"}
        self._expect(request, "PATCH", {"Content-Type": OCTETS, "X-Redirect-Uploads": "1", **content_range})
        if redirects:
            upload.parts.append(b"\0" * size)
            target = f"{self.storage_url}/part/{key}/{len(upload.parts) - 1}?X-Sig=a%2Fb%3D~+c&b=%7e"
            # nobody reads the body: it is wanted elsewhere
            headers = {"Docker-Upload-Location": self._where(request, key)["Location"], "Location": target}
            return web.Response(status=307, headers=headers)
        body = upload.partial + await self._body(request)
        upload.partial = b""
        upload.parts.append(body)
        return web.Response(status=202, headers=self._where(request, key))

    async def _commit(self, request: web.BaseRequest, upload: _Upload) -> web.StreamResponse:
        self._expect(request, "PUT", {"Content-Length": "0"})
        content, digest = b"".join(upload.parts), request.query["digest"]
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            return web.Response(status=400, text='{"errors":[{"code":"DIGEST_INVALID"}]}')
        if self.style != "direct":
            self.etags.append(request.query.get("etag", ""))
            md5s = b"".join(hashlib.md5(part).digest() for part in upload.parts)
            wanted = f"{hashlib.md5(md5s).hexdigest()}-{len(upload.parts)}"
            if self.etags[-1] != wanted:
                self.complaints.append(f"etag {self.etags[-1]}, not {wanted}")
        self.blobs[upload.repository, digest] = content
        return web.Response(status=201)

    async def _put_manifest(self, request: web.BaseRequest, repository: str, tag: str) -> web.StreamResponse:
        self.manifests[repository, tag] = (request.content_type, await request.read())
        return web.Response(status=201)

    def _where(self, request: web.BaseRequest, key: str) -> dict[str, str]:
        upload = self._uploads[key]
        path = f"/v2/{upload.repository}/blobs/uploads/{key}?state={upload.state}"
        url = path if self.relative else f"{self.url}{path}"
        return {"Docker-Upload-Location": url, "Location": "/nowhere"} if self.decoy else {"Location": url}

    # --- storage ---

    async def _storage(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._step("STORE", request, lambda: self._store(request))

    async def _store(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.raw_path.endswith("?X-Sig=a%2Fb%3D~+c&b=%7e"):
            self.complaints.append(f"a signed URL was changed: {request.raw_path}")
        for ours in ("Authorization", "X-Redirect-Uploads", "X-Content-Length", "Cookie"):
            if ours in request.headers:
                self.complaints.append(f"storage was told {ours}")
        self._together += 1
        self.most_together = max(self.most_together, self._together)
        if self._together >= self.parts_together:
            self._full.set()
        await self._full.wait()
        kind, key, number = request.path.split("/")[1:]
        body = await self._body(request)
        self._together -= 1
        parts = self._uploads[key].parts
        if kind == "whole":
            parts.append(body)
        else:
            parts[int(number)] = body
        return web.Response(status=200)

    # --- both ---

    async def _body(self, request: web.BaseRequest) -> bytes:
        return b"".join([piece async for piece in request.content.iter_any()])

    def _expect(self, request: web.BaseRequest, step: str, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            if request.headers.get(name) != value:
                self.complaints.append(f"{step}: {name} is {request.headers.get(name)}, not {value}")
