"""One blob on its way to one repository: asked for, mounted or sent in parts, and committed.

It knows no model and keeps nothing between two calls, so what one repository holds is never taken for another's.
Source: store-registry §4.1, §4.3, §4.4.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from yarl import URL

from ..errors import InvalidName, RegistryError, StorageError
from ..names import DEFAULT_HOST, Digest, ModelName
from ..store import files
from ..store.blobs import Blobs
from ..store.manifests import Layer
from .chunk import BLOCK_BYTES, Chunk
from .egress import join_url
from .limit import Pace
from .session import Answer, Session

T = TypeVar("T")

ANY_STATUS: Collection[int] = range(600)
"""Of requests whose every answer is judged here."""

PARTS = 16
"""A blob is cut into so many where the limits of a part's size allow it, and so many are under way at once."""

_ONWARD = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
"""Answers to a part whose bytes are wanted elsewhere."""

_FINAL = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
"""Answers to a part that no further try will change."""

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that are about the moment, not about what was asked."""

_NO_SUCH_NAME = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
"""Answers to a repository name that the registry does not allow."""

_PHRASES = {status.value: status.phrase for status in HTTPStatus}

_TAKES_DIGEST = frozenset({DEFAULT_HOST})
"""Registries that want the digest when a direct upload begins; others may take it for the whole upload (§4.4)."""

_SIGNED = "x-signed-header-"
_OURS = frozenset({"authorization", "connection", "content-length", "cookie", "expect", "host", "transfer-encoding"})
"""Headers that frame a request or say who asks: no registry writes those for us."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How blobs are sent. `delays_s` stand between tries, so there is one try more than there are delays."""

    min_part_bytes: int
    max_part_bytes: int
    parts_at_once: int
    direct: bool = False
    """Ask for a place that takes the whole blob in one request (§4.3)."""
    delays_s: tuple[float, ...] = (1, 2, 4, 8, 16)
    stall_s: float = 30
    """The longest time in which no block goes out (security §10.1)."""


LAYERS = Manner(min_part_bytes=100_000_000, max_part_bytes=1_000_000_000, parts_at_once=PARTS)
TENSORS = Manner(min_part_bytes=100 << 20, max_part_bytes=1000 << 20, parts_at_once=1, direct=True)


async def is_there(session: Session, digest: Digest) -> bool:
    """Whether the session's repository has the blob."""
    answer = await session.request("HEAD", session.path(f"blobs/{digest}"), expect=ANY_STATUS)
    if answer.status >= 300 and answer.status != HTTPStatus.NOT_FOUND:
        raise refusal(answer, session)
    return answer.status != HTTPStatus.NOT_FOUND


async def upload(
    blobs: Blobs,
    layer: Layer,
    session: Session,
    *,
    pace: Pace,
    report: Callable[[int], None],
    manner: Manner = LAYERS,
) -> None:
    """Bring a blob into the session's repository, which does not have it. `report` is told how many bytes are sent.

    That number goes down when a part fails. Raises RegistryError, BlobNotFound, and StorageError for a blob that is not
    what its name and its layer promise.
    """
    await _Upload(blobs, layer, session, pace, report, manner).run()


def split(size_bytes: int, manner: Manner) -> Iterator[tuple[int, int]]:
    """Offset and size in bytes of each part, in order; nothing for an empty blob."""
    part_bytes = min(max(size_bytes // PARTS, manner.min_part_bytes), manner.max_part_bytes)
    for offset in range(0, size_bytes, part_bytes):
        yield offset, min(part_bytes, size_bytes - offset)


def etag(part_md5s: Collection[bytes]) -> str:
    """The md5 of the parts' md5s, and their number: how S3 calls an object that came in parts."""
    return f"{hashlib.md5(b''.join(part_md5s), usedforsecurity=False).hexdigest()}-{len(part_md5s)}"


class _Lost(RegistryError):
    """The upload session cannot go on from where it stands. A new one may."""


class _Upload:
    """One blob until it is committed or given up."""

    def __init__(
        self,
        blobs: Blobs,
        layer: Layer,
        session: Session,
        pace: Pace,
        report: Callable[[int], None],
        manner: Manner,
    ) -> None:
        self._blobs = blobs
        self._layer = layer
        self._session = session
        self._pace = pace
        self._report = report
        self._manner = manner
        self._size_bytes = blobs.size(layer.digest)
        if layer.size_bytes not in (0, self._size_bytes):  # 0 is also what a manifest without sizes reads as
            raise StorageError(
                f'blob "{layer.digest}" has {self._size_bytes} bytes, but its manifest says {layer.size_bytes}'
            )
        self._sent_bytes = 0

    async def run(self) -> None:
        await self._tried(self._one_session)
        self._report(self._size_bytes)

    # --- one upload session ---

    async def _one_session(self) -> None:
        """1. Begin, and hear that the blob is there by now. 2. Send it, at once or in parts. 3. Commit."""
        self._count(-self._sent_bytes)
        begun = await self._begin()
        if begun.status == HTTPStatus.CREATED:
            return
        self._url = _next_url(begun)
        self._redirected = False  # parts go elsewhere: nothing of one that failed was kept at the upload URL
        self._doubt: RegistryError | None = None  # what broke a part, of which something may have been kept
        direct_url = begun.headers.get("X-Direct-Upload-URL") if self._manner.direct else None
        try:
            if direct_url:
                await self._send_whole(_resolved(begun, direct_url), _signed_headers(begun.headers))
                await self._commit()
            else:
                await self._commit(etag=etag(await self._send_parts()))
        except _Lost as lost:
            raise RegistryError(str(lost), retryable=True) from lost

    async def _begin(self) -> Answer:
        query, headers = {}, {}
        if source := _repository_of(self._layer.from_name):
            query = {"from": source, "mount": str(self._layer.digest)}
        if self._manner.direct:
            headers = {"X-Redirect-Uploads": "2", "X-Content-Length": str(self._size_bytes)}
            if self._session.origin.host.lower() in _TAKES_DIGEST:
                query["digest"] = str(self._layer.digest)
        url = self._session.path("blobs/uploads/").with_query(query)
        answer = await self._session.request("POST", url, headers=headers, data=b"", expect=ANY_STATUS, follow=False)
        if answer.status not in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED):
            raise refusal(answer, self._session)
        return answer

    async def _commit(self, **parameters: str) -> None:
        # the colon is escaped as Go does it; what the registry wrote before it stays as it is, for it may be signed
        parameters = {"digest": f"sha256%3A{self._layer.digest.hex}", **parameters}
        query = "&".join(f"{key}={value}" for key, value in parameters.items())
        url = URL(f"{self._url}{'&' if self._url.raw_query_string else '?'}{query}", encoded=True)
        await self._tried(partial(self._commit_to, url))

    async def _commit_to(self, url: URL) -> None:
        answer = await self._session.request("PUT", url, data=b"", expect=ANY_STATUS, follow=False)
        if answer.status < 300:
            return
        if answer.status == HTTPStatus.NOT_FOUND:
            if await is_there(self._session, self._layer.digest):
                return  # an earlier try went through, and only its answer was lost
            raise _Lost(str(refusal(answer, self._session)))
        if answer.status == HTTPStatus.BAD_REQUEST:
            await asyncio.to_thread(self._check_content)
        raise refusal(answer, self._session)

    def _check_content(self) -> None:
        """StorageError when a registry was right to refuse what we sent. Reads the whole blob."""
        digest = self._layer.digest
        content_hash = hashlib.sha256()
        with self._blobs.open(digest) as file, files.translated("read blob"):
            while block := file.read(BLOCK_BYTES):
                content_hash.update(block)
        if content_hash.hexdigest() != digest.hex:
            raise StorageError(f'blob "{digest}" is damaged: its content is not what its name says')

    # --- the bytes ---

    async def _send_whole(self, url: URL, headers: Mapping[str, str]) -> None:
        await self._tried(partial(self._put, self._chunk(0, self._size_bytes), url, headers))

    async def _send_parts(self) -> list[bytes]:
        """Offer each part to the upload URL in turn; those that are wanted elsewhere go there side by side.

        Returns their md5s.
        """
        parts = [self._chunk(offset, size) for offset, size in split(self._size_bytes, self._manner)]
        free = asyncio.Semaphore(self._manner.parts_at_once)

        async def put(part: Chunk, url: URL) -> None:
            try:
                await self._tried(partial(self._put, part, url, {}))
            finally:
                free.release()

        with one_failure():
            async with asyncio.TaskGroup() as elsewhere:
                for part in parts:
                    await free.acquire()
                    url = await self._tried(partial(self._patch, part))
                    if url is None:
                        free.release()
                    else:
                        elsewhere.create_task(put(part, url))
        return [part.md5 for part in parts]

    async def _patch(self, part: Chunk) -> URL | None:
        """One try to send a part to the upload URL. Returns where its bytes are wanted instead, if anywhere."""
        if self._doubt is not None:
            await self._recover(part, self._doubt)
        if part.arrived_bytes == part.size_bytes:
            return None
        start = part.offset_bytes + part.arrived_bytes
        end = part.offset_bytes + part.size_bytes
        headers = _octets(end - start) | {"Content-Range": f"{start}-{end - 1}", "X-Redirect-Uploads": "1"}
        url = self._url
        try:
            answer = await part.send(
                lambda blocks: self._session.request(
                    "PATCH", url, headers=headers, data=blocks, expect=ANY_STATUS, follow=False
                )
            )
            if answer.status == HTTPStatus.NOT_FOUND:
                raise _Lost(str(_part_refusal(answer, self._session.in_words(answer.body))))
            if answer.status >= 300 and answer.status not in _ONWARD:
                raise _part_refusal(answer, self._session.in_words(answer.body))
        except RegistryError as failure:
            self._doubt = None if self._redirected else failure
            raise
        self._doubt = None
        self._redirected = answer.status in _ONWARD
        self._url = _next_url(answer, self._url)
        return _resolved(answer, answer.headers.get("Location", "")) if self._redirected else None

    async def _recover(self, part: Chunk, failure: RegistryError) -> None:
        """Ask how much of a failed part was kept, and go on behind it (§4.4)."""
        answer = await self._session.request("GET", self._url, expect=ANY_STATUS, follow=False)
        if answer.status in _PASSING:
            raise RegistryError(str(failure), retryable=True)
        kept = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
        # `0-0` is said of nothing as well as of one byte
        if answer.status != HTTPStatus.NO_CONTENT or kept is None or kept[1] == "0":
            raise _Lost(str(failure))
        arrived_bytes = int(kept[1]) + 1 - part.offset_bytes
        if not 0 <= arrived_bytes <= part.size_bytes or (arrived_bytes == part.size_bytes and not part.md5):
            raise _Lost(str(failure))
        part.resume(arrived_bytes)
        self._url = _next_url(answer, self._url)
        self._doubt = None

    async def _put(self, part: Chunk, url: URL, headers: Mapping[str, str]) -> None:
        """One try to send a part to a place that the registry named; our credentials do not go there."""
        headers = _octets(part.size_bytes) | {name.title(): value for name, value in headers.items()}
        answer = await part.send(lambda blocks: self._session.put_elsewhere(url, headers=headers, data=blocks))
        if answer.status >= 300:
            raise _part_refusal(answer)  # without its words: storage repeats the signature it was shown

    def _chunk(self, offset_bytes: int, size_bytes: int) -> Chunk:
        return Chunk(
            self._blobs,
            self._layer.digest,
            offset_bytes,
            size_bytes,
            pace=self._pace,
            stall_s=self._manner.stall_s,
            count=self._count,
        )

    def _count(self, more_bytes: int) -> None:
        if more_bytes:
            self._sent_bytes += more_bytes
            self._report(self._sent_bytes)

    async def _tried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The first success of several tries. What is not `retryable` ends them at once."""
        delays_s = iter(self._manner.delays_s)
        while True:
            try:
                return await attempt()
            except RegistryError as failure:
                if not failure.retryable:
                    raise
                delay_s = next(delays_s, None)
                if delay_s is None:
                    raise RegistryError(f"max retries exceeded: {failure}") from failure
            await asyncio.sleep(delay_s)


# --- what answers say ------------------------------------------------------------------------------------------------


def _repository_of(name: str) -> str:
    """`namespace/model` of the model that a layer came from, which this registry may have too; else nothing."""
    try:
        source = ModelName.parse(name)
    except InvalidName:
        return ""
    return f"{source.namespace}/{source.model}"


def _octets(n_bytes: int) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(n_bytes)}


def _signed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What a direct upload has to carry, as the registry has signed it."""
    signed = {key[len(_SIGNED) :]: value for key, value in headers.items() if key.lower().startswith(_SIGNED)}
    return {key: value for key, value in signed.items() if key and key.lower() not in _OURS}


def _next_url(answer: Answer, stay: URL | None = None) -> URL:
    """Where the upload session goes on. The `Location` of a redirect leads elsewhere and is not it."""
    location = answer.headers.get("Docker-Upload-Location", "")
    if not location and answer.status not in _ONWARD:
        location = answer.headers.get("Location", "")
    return stay if stay is not None and not location else _resolved(answer, location)


def _resolved(answer: Answer, location: str) -> URL:
    """A URL of an answer, to be used as it is written: it may be signed, and it may be relative (§4.4)."""
    if not location:
        raise RegistryError("the registry did not say where to upload to")
    return join_url(answer.url, location)


def refusal(answer: Answer, session: Session) -> RegistryError:
    """What a registry's no means to a person."""
    text = f"{answer.status}: {session.in_words(answer.body)}".removesuffix(": ")
    repository = f"{session.origin.namespace}/{session.origin.model}"
    if answer.status in _NO_SUCH_NAME and repository != repository.lower():
        text += f" (most registries take lower-case names only: copy the model to {repository.lower()} and push that)"
    return RegistryError(text, retryable=answer.status in _PASSING)


def _part_refusal(answer: Answer, words: str = "") -> RegistryError:
    line = " ".join(("http status", str(answer.status), _PHRASES.get(answer.status, ""))).rstrip()
    return RegistryError(f"{line}: {words}" if words else line, retryable=answer.status not in _FINAL)


@contextmanager
def one_failure() -> Iterator[None]:
    """Around a task group: the first task that failed speaks for all."""
    try:
        yield
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
