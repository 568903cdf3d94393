"""The routes of the share and what answers them: checks in their order, then a reply."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...dialects.gojson import encode
from ...errors import ModelNotFound
from ...names import DEFAULT_HOST, DEFAULT_TAG, Digest, ModelName
from ...store import Store
from ...store.manifests import MANIFEST_TYPE, Manifest
from ..answers import JSON
from ..ranges import asked_span
from ..routes import Handler, Route
from ..shelf import check_name
from ..streams import unless_gone
from .access import CATALOG_SCOPE, TOKEN_PATH, Access, ShareToken, base_url, repository_scope
from .catalog import Catalog
from .content import Content
from .errors import API_VERSION, ERRORS, BadPage, UploadNotFound
from .fetches import Fetch, Fetches

THREADS = 4
"""That read from disk for the share. They are its own, so that slow readers never hold up the rest of the server."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9.+_-]{1,100}/[A-Za-z0-9.+_-]{1,100}")


class Repositories(msgspec.Struct):
    repositories: list[str]


class RepositoryTags(msgspec.Struct):
    name: str
    tags: list[str]


class Share:
    """The handlers. Each looks in the same order: is the name sound, may the caller read, is it here."""

    def __init__(self, store: Store, access: Access, fetch: Fetch) -> None:
        self._store = store
        self._access = access
        self._catalog = Catalog(store)
        self._fetch = fetch
        self._fetches = Fetches(self._bring)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="share")

    def in_thread(self, answer: Callable[[Request], Response]) -> Handler:
        """A handler out of a function that reads from disk."""

        async def handler(request: Request, body: bytes) -> Response:
            run = copy_context().run  # a thread of these would not know who asks
            return await asyncio.get_running_loop().run_in_executor(self._threads, run, answer, request)

        return handler

    def ping(self, request: Request) -> Response:
        self._access.check(request, "")
        return Response(b"{}", media_type=JSON, headers=API_VERSION)

    def token(self, request: Request) -> Response:
        granted = self._access.token(request)
        return Response(encode(granted), media_type=JSON, headers={"Cache-Control": "no-store"})

    def catalog(self, request: Request) -> Response:
        self._access.check(request, CATALOG_SCOPE)
        repositories, headers = _page(request, self._catalog.repositories(_host(request)))
        return Response(encode(Repositories(repositories)), media_type=JSON, headers=API_VERSION | headers)

    def tags(self, request: Request) -> Response:
        name = self._admit(request)
        tags, headers = _page(request, self._catalog.tags(name))
        reply = RepositoryTags(f"{name.namespace}/{name.model}", tags)
        return Response(encode(reply), media_type=JSON, headers=API_VERSION | headers)

    async def manifest(self, request: Request, body: bytes) -> Response:
        """A manifest, by tag or digest. What has a tag and is not here may be fetched first."""
        answer = self.in_thread(self._manifest)
        try:
            return await answer(request, body)
        except ModelNotFound:
            if _is_digest(request) or not self._may_fetch(request):
                raise
        name = _name(request, request.path_params["reference"])
        check_name(name)
        await unless_gone(request, self._fetches.wait(name))
        return await answer(request, body)

    def _manifest(self, request: Request) -> Response:
        reference = request.path_params["reference"]
        if _is_digest(request):
            digest = Digest.parse(reference)
            manifest = self._catalog.manifest_by_digest(self._admit(request), digest)
        else:
            manifest = self._catalog.manifest(self._admit(request, reference))
        headers = {"Docker-Content-Digest": f"sha256:{manifest.digest}", "Content-Type": _media_type(manifest)}
        return Response(manifest.raw, headers=API_VERSION | headers)

    def blob(self, request: Request) -> Response:
        """A blob or one range of it. A reply with all of it says where ranges are to be had without credentials."""
        name = _name(request)
        digest = Digest.parse(request.path_params["digest"])
        link = self._access.check_blob(request, _scope(name), digest)
        self._catalog.require_blob(digest)
        etag = f'"{digest}"'
        file = self._store.blobs.open(digest)
        try:
            size_bytes = os.fstat(file.fileno()).st_size
            span = asked_span(request.headers if request.method == "GET" else {}, size_bytes, etag)
        except BaseException:
            file.close()
            raise
        headers = API_VERSION | span.headers(etag) | {"Docker-Content-Digest": str(digest)}
        if not span.is_part:
            # stock clients insist on a Location, even of a registry that sends the bytes itself
            headers["Location"] = f"{base_url(request)}{_path(request)}{link}"
        return Content(file, span, headers=headers, request=request, threads=self._threads)

    def upload(self, request: Request) -> Response:
        self._admit(request)
        raise UploadNotFound

    def _admit(self, request: Request, tag: str = DEFAULT_TAG) -> ModelName:
        name = _name(request, tag)
        self._access.check(request, _scope(name))
        return name

    async def _bring(self, name: ModelName) -> None:
        """Fetch a model, unless it has come between a look for it and the wish to have it fetched."""
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._threads, self._catalog.holds, name):
            await self._fetch(name)

    def _may_fetch(self, request: Request) -> bool:
        """Who has shown a key, or could pull as well; not a stranger behind a tunnel, who may only read."""
        return request.state.rights == "admin" or self._access.is_limited


def _host(request: Request) -> str:
    """The registry that a model is from; containerd names it so to mirrors."""
    return request.query_params.get("ns", DEFAULT_HOST)


def _name(request: Request, tag: str = DEFAULT_TAG) -> ModelName:
    parameters = request.path_params
    return ModelName(_host(request), parameters["namespace"], parameters["model"], tag)


def _scope(name: ModelName) -> str:
    return repository_scope(f"{name.namespace}/{name.model}")


def _is_digest(request: Request) -> bool:
    return ":" in request.path_params["reference"]  # which no tag has


def _media_type(manifest: Manifest) -> str:
    """As the manifest says; it comes from outside, so nothing that is no media type gets into a header."""
    said = msgspec.json.decode(manifest.raw).get("mediaType")
    return said if isinstance(said, str) and _MEDIA_TYPE.fullmatch(said) else MANIFEST_TYPE


def _path(request: Request) -> str:
    """As it was sent; a path that has come so far needs no escapes."""
    return str(request.scope["raw_path"].decode("latin-1"))


def _page(request: Request, everything: list[str]) -> tuple[list[str], dict[str, str]]:
    """What `n` and `last` ask for of a sorted list, and the `Link` header that leads to the rest. BadPage."""
    last = request.query_params.get("last", "")
    rest = [each for each in everything if each > last]
    wanted = request.query_params.get("n")
    if wanted is None:
        return rest, {}
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= 9):
        raise BadPage
    page = rest[: int(wanted)]
    if not page or len(page) == len(rest):
        return page, {}
    query = {"n": wanted, "last": page[-1]} | ({"ns": _host(request)} if "ns" in request.query_params else {})
    return page, {"Link": f'<{_path(request)}?{urlencode(query)}>; rel="next"'}


def routes(share: Share) -> list[Route]:
    repository = "/v2/{namespace}/{model}"

    def get(path: str, handler: Handler, summary: str, reply: type | None = None) -> list[Route]:
        return [
            Route(method, path, handler, summary, "share", reply=reply, errors=ERRORS) for method in ("GET", "HEAD")
        ]

    upload = share.in_thread(share.upload)
    return [
        *get("/v2/", share.in_thread(share.ping), "Say that this is a registry"),
        *get("/v2/_catalog", share.in_thread(share.catalog), "List the models that are shared", Repositories),
        *get(f"{repository}/tags/list", share.in_thread(share.tags), "List the tags of a model", RepositoryTags),
        *get(f"{repository}/manifests/{{reference}}", share.manifest, "The manifest of a model"),
        *get(f"{repository}/blobs/{{digest}}", share.in_thread(share.blob), "The bytes of a layer, or a range of them"),
        *get(f"{repository}/blobs/uploads/", upload, "No upload: this registry is read-only"),
        *get(f"{repository}/blobs/uploads/{{session}}", upload, "No upload: this registry is read-only"),
        Route(
            "GET",
            TOKEN_PATH,
            share.in_thread(share.token),
            "Exchange a signature for a token",
            "share",
            reply=ShareToken,
            errors=ERRORS,
        ),
    ]
