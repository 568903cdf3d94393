"""Pictures that requests name by URL, fetched from real servers on loopback (compat-api §5.2)."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from aiohttp import web

from llamero import pictures
from llamero.chat.media import MAX_FILES, MAX_IMAGE_BYTES
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
            return image(b"\0" * (MAX_IMAGE_BYTES + 1))
        case "home":
            raise web.HTTPFound("http://10.0.0.1/a.png")
        case "none":
            raise web.HTTPNotFound
        case "bomb":
            body = gzip.compress(b"\0" * (MAX_IMAGE_BYTES + 1))
            return web.Response(body=body, content_type="image/png", headers={"Content-Encoding": "gzip"})
        case "file" | "odd" | "nowhere":
            where = {"file": "file:///etc/passwd", "odd": "http://127.1/a.png", "nowhere": ""}[name]
            return web.Response(status=302, headers={"Location": where} if where else {})
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
        ("bomb", "the answer is larger than"),
        ("file", "address is malformed"),
        ("odd", "address is malformed"),
        ("nowhere", "answers 302"),
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


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1/a.png", "http://0x7f.1/a.png", "http://2130706433/a.png", "http://017700000001/a.png",
        "http://127.0.0.1./a.png", "http://pictures.example:99999/", "http:///a.png", "http://①②⑦.⓪.⓪.①/",
        "http://pictures.example\\@127.0.0.1/", "http://[fe80::1%25eth0]/", "http://a..b/", "http://a b/",
        "http://pictures.example\r\nHost: x/",
    ],
)  # fmt: skip
async def test_addresses_that_two_readers_may_read_differently(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidField, match="the image cannot be fetched: its address is malformed"):
        await RemotePictures(Network(tmp_path)).fetch(lambda: {url: "p"})


async def test_a_name_that_is_none_is_a_picture_that_cannot_be_had(tmp_path: Path) -> None:
    """Python refuses to look it up with an error of a kind of its own."""
    with pytest.raises(InvalidField, match="no such host"):
        await RemotePictures(Network(tmp_path)).fetch(lambda: {f"http://{'a' * 64}.example/": "p"})


async def test_a_name_is_looked_up_once_for_each_connection(tmp_path: Path) -> None:
    """Partly X-39: what a second answer would be does not matter."""
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    async with serving(gallery) as site:
        port = site.place.partition(":")[2]
        exemption = Exemption.parse("127.0.0.0/8")
        fetcher = RemotePictures(Network(tmp_path, lookup=lookup), (exemption,))
        url = f"http://pictures.example:{port}/0.png"
        assert await fetcher.fetch(lambda: {url: "p"}) == {url: PNG}
        assert asked == ["pictures.example"]


async def test_one_bad_address_among_good_ones_is_enough(tmp_path: Path) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1", "10.0.0.1"]

    async with serving(gallery) as site:
        port = site.place.partition(":")[2]
        fetcher = RemotePictures(Network(tmp_path, lookup=lookup), (Exemption.parse("127.0.0.0/8"),))
        with pytest.raises(InvalidField, match="not on the public internet"):
            await fetcher.fetch(lambda: {f"http://pictures.example:{port}/0.png": "p"})
        assert site.asked == []


async def test_this_server_does_not_ask_itself(tmp_path: Path) -> None:
    """Also at an address of the public internet."""
    network = Network(tmp_path, is_own_listener=lambda address, port: (str(address), port) == ("8.8.8.8", 11434))
    with pytest.raises(InvalidField, match="not on the public internet"):
        await RemotePictures(network).fetch(lambda: {"http://8.8.8.8:11434/a.png": "p"})


async def test_more_pictures_than_a_request_may_have_are_not_begun_with(tmp_path: Path) -> None:
    async with serving(gallery) as site:
        fetcher = Fetcher(site, tmp_path)
        with pytest.raises(InvalidField, match="at most 32 images") as caught:
            await fetcher.fetch(*(fetcher.url(f"0.png?{number}") for number in range(MAX_FILES + 1)))
        assert caught.value.param == "p[32]"
        assert site.asked == []


async def test_only_a_few_are_fetched_at_once_and_nothing_is_told_of_us(tmp_path: Path) -> None:
    at_once = most = 0

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return image()

    async with serving(slow) as site:
        fetcher = Fetcher(site, tmp_path)
        assert await fetcher.fetch(*(fetcher.url(f"{number}") for number in range(9))) == [PNG] * 9
        assert most == pictures.MAX_AT_ONCE
        assert {*site.header("Cookie"), *site.header("Authorization"), *site.header("Referer")} == {None}


async def test_a_server_that_drips_is_given_up(tmp_path: Path) -> None:
    """The time is for the whole picture, not for each of its bytes."""

    async def drip(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.01)

    async with serving(drip) as site:
        fetcher = Fetcher(site, tmp_path, timeout_s=0.2)
        with pytest.raises(InvalidField, match="timed out"):
            await fetcher.fetch(fetcher.url("0.png"))


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
