"""Source distributions out of a package index: found on its pages, fetched as the archives that they are.

Nothing of them is installed or executed here. An archive is taken only with the sha256 that the index gives for it,
unless it lies in a folder of the user's own. Source: PEP 503, PEP 691, PEP 625.
"""

from __future__ import annotations

import base64
import hashlib
import netrc
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urldefrag

import aiohttp
import msgspec
from yarl import URL

from ..client import Proxies
from ..config import HostUrl
from ..errors import RegistryError
from ..store import files
from . import credentials, thread
from .egress import shown
from .network import tls_context, translated, user_agent
from .pip import PipSettings, read_settings

MAX_PAGE_BYTES = 64 << 20
"""A project with 1,000 files has a page of 300 kB."""
MAX_ARCHIVE_BYTES = 512 << 20
"""The sources of llama.cpp have 38 MB."""
CONNECT_TIMEOUT_S = 30.0
PAUSE_TIMEOUT_S = 60.0
"""The longest silence of a server that sends something."""
MAX_REDIRECTS = 5

_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
_BLOCK_BYTES = 1 << 18
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Archive:
    """A source distribution that is offered."""

    title: str
    version: str
    place: str
    """A URL, or the path of a file."""
    sha256: str = ""
    """Empty only for a file of the user's own."""


class _JsonFile(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str] = {}


class _JsonPage(msgspec.Struct):
    files: list[_JsonFile]


class PackageIndex:
    """The indexes and folders that pip would look into. Any thread may call it; each call has its own connections."""

    def __init__(self, settings: PipSettings, env: Mapping[str, str], cancelled: Callable[[], bool]) -> None:
        self._settings = settings
        self._env = env
        self._cancelled = cancelled
        self._pages = [place for place in settings.find_links if _is_url(place)]
        self._logins: dict[str, tuple[str, str]] = {}
        """By `host:port`: what the addresses of indexes have of names and passwords, which no text of ours shows."""
        for place in (*self._pages, *settings.indexes):
            url = _url(place)
            if url.user:
                self._logins[f"{url.host}:{url.port}"] = url.user, url.password or ""

    @classmethod
    def of_pip(cls, env: Mapping[str, str], folder: Path, cancelled: Callable[[], bool]) -> Self:
        """As pip is configured in this environment; `folder` is where it is asked, and of no interest to it."""
        return cls(read_settings(env, folder, cancelled), env, cancelled)

    def sources(self, project: str) -> list[Archive]:
        """Every source distribution of a project. RegistryError when an index cannot be asked; a project that it does
        not know has none."""
        pages = [_url(place) for place in self._pages]
        pages += [_url(index.rstrip("/") + f"/{_normal(project)}/") for index in self._settings.indexes]
        found = [file for place in self._settings.find_links if not _is_url(place) for file in _in_folder(place)]
        for page in pages:
            found += thread.run(self._page(page.with_user(None)), self._cancelled)
        return _of_project(found, project)

    def fetch(self, archive: Archive, target: Path, report: Callable[[int, int], None]) -> None:
        """Write the archive to `target`, which is new. RegistryError when it is another one than the index promised.

        `report(completed, total)` counts bytes. DiskFull and other StorageErrors are the target's.
        """
        if not _is_url(archive.place):
            with files.translated("copy the sources"):
                shutil.copyfile(archive.place, target)
        elif not archive.sha256:
            raise RegistryError(f"the package index gives no sha256 for {archive.title}: it is not taken")
        else:
            thread.run(self._fetch(archive, target, report), self._cancelled)

    async def _page(self, url: URL) -> list[Archive]:
        async with self._get(url, {"Accept": _ACCEPT}) as response:
            if response.status == 404:
                return []
            _insist_ok(response)
            with translated("GET", url):
                body = bytearray()
                async for block in response.content.iter_chunked(_BLOCK_BYTES):
                    body += block
                    if len(body) > MAX_PAGE_BYTES:
                        raise RegistryError(f"{shown(url)}: the page is larger than {MAX_PAGE_BYTES} bytes")
        return parse_page(bytes(body), response.content_type, str(response.url))

    async def _fetch(self, archive: Archive, target: Path, report: Callable[[int, int], None]) -> None:
        url = _url(archive.place)
        seen = hashlib.sha256()
        completed_bytes = 0
        async with self._get(url, {}) as response:
            _insist_ok(response)
            with target.open("xb") as file, translated("GET", url):
                async for block in response.content.iter_chunked(_BLOCK_BYTES):
                    seen.update(block)
                    completed_bytes += len(block)
                    if completed_bytes > MAX_ARCHIVE_BYTES:
                        raise RegistryError(f"{archive.title} is larger than {MAX_ARCHIVE_BYTES} bytes")
                    with files.translated("fetch the sources"):
                        file.write(block)
                    report(completed_bytes, max(response.content_length or 0, completed_bytes))
        if seen.hexdigest() != archive.sha256:
            raise RegistryError(
                f"{archive.title} is not what the package index promised: its sha256 is {seen.hexdigest()}, "
                f"not {archive.sha256}"
            )

    @asynccontextmanager
    async def _get(self, url: URL, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=PAUSE_TIMEOUT_S)
        self._insist_safe(url)
        headers = {"User-Agent": user_agent(), "Accept-Encoding": "identity", **headers, **self._login(url)}
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            with translated("GET", url):
                response = await session.get(
                    url,
                    headers=headers,
                    proxy=self._proxy(url),
                    ssl=self._tls(url) if url.scheme == "https" else True,
                    max_redirects=MAX_REDIRECTS,
                )
            async with response:
                self._insist_safe(response.url)
                yield response

    def _insist_safe(self, url: URL) -> None:
        """As pip has it: whoever could change a page on its way would change the sha256 on it as well."""
        host = HostUrl(url.scheme, url.host or "", url.port or 0)
        if url.scheme != "https" and not host.is_loopback and not self._is_trusted(url):
            raise RegistryError(f"{shown(url)}: no encryption; set pip's trusted-host if this index is to be trusted")

    def _is_trusted(self, url: URL) -> bool:
        return not {url.host, f"{url.host}:{url.port}"}.isdisjoint(self._settings.trusted_hosts)

    def _login(self, url: URL) -> dict[str, str]:
        """What pip is configured with for this host, or what stands in the file where it looks, too."""
        user, password = self._logins.get(f"{url.host}:{url.port}") or self._netrc(url.host or "")
        return (
            {} if not user else {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
        )

    def _netrc(self, host: str) -> tuple[str, str]:
        path = Path(self._env.get("NETRC") or Path(self._env.get("HOME", "~")).expanduser() / ".netrc")
        try:
            entry = netrc.netrc(str(path)).authenticators(host)
        except (OSError, netrc.NetrcParseError):
            entry = None
        return (entry[0] or "", entry[2] or "") if entry else ("", "")

    def _proxy(self, url: URL) -> str | None:
        host = HostUrl(url.scheme, url.host or "", url.port or 0)
        return self._settings.proxy or Proxies.from_env(self._env).for_host(host) or None

    def _tls(self, url: URL) -> ssl.SSLContext:
        entry = credentials.Entry(ca=self._settings.certificates, insecure_tls=self._is_trusted(url))
        return tls_context(self._env, entry)


def _insist_ok(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise RegistryError(f"{shown(response.url)}: the package index answered {response.status}")


# --- pages -----------------------------------------------------------------------------------------------------------


def parse_page(body: bytes, content_type: str, url: str) -> list[Archive]:
    """The files that a page of a simple index offers, in either of its forms. RegistryError when it is neither."""
    if content_type != _JSON:
        return _parse_html(body, url)
    try:
        page = msgspec.json.decode(body, type=_JsonPage)
    except msgspec.MsgspecError as exc:
        raise RegistryError(f"{shown(URL(url))}: the answer is no page of a package index") from exc
    return [_archive(file.filename, _absolute(url, file.url), file.hashes.get("sha256", "")) for file in page.files]


def _parse_html(body: bytes, url: str) -> list[Archive]:
    links = _Links(url)
    links.feed(body.decode("utf-8", "replace"))
    links.close()
    found = []
    for link in links.found:
        place, fragment = urldefrag(link)
        name, _, digest = fragment.partition("=")
        found.append(_archive(unquote(URL(place).name), place, digest if name == "sha256" else ""))
    return found


class _Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._base = url

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "base":
            self._base = _absolute(self._base, href)
        elif href and tag == "a":
            self.found.append(_absolute(self._base, href))


def _absolute(base: str, link: str) -> str:
    """Empty for one that leads nowhere that we go."""
    try:
        url = URL(base).join(URL(link))
    except ValueError:
        return ""
    return str(url) if url.scheme in ("http", "https") else ""


def _archive(title: str, place: str, sha256: str) -> Archive:
    return Archive(title, "", place, sha256 if _SHA256.fullmatch(sha256) else "")


def _of_project(files: list[Archive], project: str) -> list[Archive]:
    """Those that are source distributions of it, with their versions."""
    found = []
    for file in files:
        stem, dot, _ = file.title.partition(".tar.gz")
        name, _, version = stem.rpartition("-")
        if dot and file.place and version[:1].isdigit() and _normal(name) == _normal(project):
            found.append(Archive(file.title, version, file.place, file.sha256))
    return found


def _in_folder(place: str) -> list[Archive]:
    """The files in a folder of find-links; pip passes over one that it cannot read, too."""
    folder = Path(unquote(URL(place).path) if place.startswith("file:") else place).expanduser()
    try:
        return [Archive(file.name, "", str(file)) for file in sorted(folder.iterdir())]
    except OSError:
        return []


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if not _is_url(text) or not url.host:
        raise RegistryError("pip is configured with a package index that has no http:// or https:// address")
    return url


def _normal(project: str) -> str:
    """The spelling under which an index knows a project."""
    return re.sub(r"[-_.]+", "-", project).lower()
