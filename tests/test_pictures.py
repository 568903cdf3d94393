"""Pictures that requests name by URL, fetched from real servers on loopback (compat-api §5.2)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from llamero import pictures
from llamero.errors import BadRequest, InvalidField
from llamero.pictures import NoPictures, RemotePictures
from llamero.registry.egress import Exemption
from llamero.registry.network import Network
from tests.registry.web import Site, serving

PNG = b"\x89PNG\r\n\x1a\nand so on"


def image(body: bytes = PNG, content_type: str = "image/png") -> web.Response:
    return web.Response(body=body, content_type=content_type)


async def gallery(request: web.BaseRequest) -> web.StreamResponse:
    """Pictures by path: `/2.png` leads over two redirects to one."""
    name = request.path.strip("/")
    match name:
        case "page":
            return image(b"<html>", "text/html")
        case "large":
            return image(b"\0" * (pictures.MAX_PICTURE_BYTES + 1))
        case "home":
            raise web.HTTPFound("http://10.0.0.1/a.png")
        case "none":
            raise web.HTTPNotFound
    left = int(name.removesuffix(".png"))
    if left:
        raise web.HTTPTemporaryRedirect(f"{left - 1}.png")
    return image()


class Fetcher:
    def __init__(self, site: Site, home: Path, timeout_s: float = 10) -> None:
        self._site = site
        # a name of the public net, whose server happens to stand here
        exemption = Exemption.parse(site.place)
        self._pictures = RemotePictures(Network(home, lookup=self._lookup), (exemption,), timeout_s=timeout_s)

    async def _lookup(self, host: str, port: int) -> list[str]:
        return ["127.0.0.1" if host == "pictures.example" else "10.0.0.1"]

    def url(self, path: str) -> str:
        return f"http://pictures.example:{self._site.place.partition(':')[2]}/{path}"

    async def fetch(self, *urls: str) -> list[bytes]:
        fetched = await self._pictures.fetch(lambda: {url: f"p[{number}]" for number, url in enumerate(urls)})
        return [fetched[url] for url in urls]


async def test_pictures_are_fetched_over_a_few_redirects(tmp_path: Path) -> None:
    async with serving(gallery) as site:
        fetcher = Fetcher(site, tmp_path)
        urls = [fetcher.url(f"{hops}.png") for hops in range(pictures.MAX_REDIRECTS + 1)]
        assert await fetcher.fetch(*urls) == [PNG] * 4


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("4.png", "too many redirects"),
        ("page", "sends something else"),
        ("none", "answers 404"),
        ("large", "the answer is larger than"),
        ("home", "its host is not on the public internet"),
    ],
)
async def test_pictures_that_cannot_be_had_are_named(tmp_path: Path, path: str, reason: str) -> None:
    async with serving(gallery) as site:
        fetcher = Fetcher(site, tmp_path)
        with pytest.raises(InvalidField, match=f"the image cannot be fetched: .*{reason}") as caught:
            await fetcher.fetch(fetcher.url("0.png"), fetcher.url(path))
        assert caught.value.param == "p[1]"


async def test_names_of_this_network_are_not_asked(tmp_path: Path) -> None:
    async with serving(gallery) as site:
        with pytest.raises(InvalidField, match="not on the public internet"):
            await Fetcher(site, tmp_path).fetch("http://elsewhere.example/0.png")
        with pytest.raises(InvalidField, match="malformed"):
            await Fetcher(site, tmp_path).fetch("http://user:secret@pictures.example/0.png")
        assert site.asked == []


async def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    async def silent(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        return image()

    async with serving(silent) as site:
        fetcher = Fetcher(site, tmp_path, timeout_s=0.05)
        with pytest.raises(InvalidField, match="timed out"):
            await fetcher.fetch(fetcher.url("0.png"))


async def test_nothing_is_read_or_fetched_where_it_is_not_allowed() -> None:
    def never() -> dict[str, str]:
        raise BadRequest("nobody asks")

    assert await NoPictures().fetch(never) == {}
