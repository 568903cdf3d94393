"""A session against real servers on loopback: store-registry §3.2, §3.3 no. 6, §3.7, security §10.1."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import resource
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from yarl import URL

from llamero import API_LEVEL, __version__
from llamero.errors import Forbidden, RegistryAnswered, RegistryError, StorageError
from llamero.names import Digest
from llamero.registry.identity import ensure_key_pair
from llamero.registry.session import Located, Network, Origin, Session
from tests.registry.web import DIGEST, Handler, Site, answer, certificate, serving, tunnel

MANIFEST = b'{ "schemaVersion":2,\n\t"layers" : [], "unknown": {"b":1, "a":2}  }'
BLOB = Digest.parse(DIGEST)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a key pair, and without a Docker of the person who runs the tests."""
    ensure_key_pair(tmp_path / "home")
    return tmp_path / "home"


def network(home: Path, *, allow: tuple[str, ...] = (), lookup: Any = None, **env: str) -> Network:
    more = {} if lookup is None else {"lookup": lookup}
    return Network(
        home, {"DOCKER_CONFIG": str(home), **env}, allow, connect_timeout_s=2, first_byte_timeout_s=1, **more
    )


def session(home: Path, base_url: str, *, private: bool = True, host: str = "", **more: Any) -> Session:
    kind = more.pop("kind", "registry")
    origin = Origin(base_url, "library", "m", kind, host or URL(base_url).authority, may_be_private=private)
    return Session(origin, more.pop("network", None) or network(home, **more))


def write_entry(home: Path, host: str, **entry: Any) -> None:
    (home / "llamero").mkdir(exist_ok=True)
    (home / "llamero" / "registries.json").write_text(json.dumps({"auths": {host: entry}}))


async def bytes_of(registry: Session, digest: Digest) -> bytes:
    async with registry.open(await registry.locate(digest), {}) as response:
        return await response.read()


def on_paths(handlers: dict[str, Handler]) -> Handler:
    """One handler per path; anything else is 404."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        handler = handlers.get(request.path)
        return await handler(request) if handler else web.Response(status=404)

    return handle


# --- manifests -----------------------------------------------------------------------------------------------------


async def test_the_manifest_request(home: Path) -> None:
    """Partly S-08, partly S-20, partly S-28: http for an http origin, the `Accept`, the bytes as they were sent."""
    async with serving(answer(text=MANIFEST.decode())) as site, session(home, f"http://{site.place}") as registry:
        assert await registry.manifest("latest") == MANIFEST
    assert site.asked == ["GET /v2/library/m/manifests/latest"]
    headers = site.requests[0].headers
    assert headers["Accept"].split(", ") == [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
    ]
    assert headers["User-Agent"].startswith(f"ollama/{API_LEVEL} (")
    assert headers["User-Agent"].endswith(f") Go/go1.24 llamero/{__version__}")
    assert "Authorization" not in headers
    assert "Cookie" not in headers


async def test_an_https_origin_hears_tls_from_the_first_byte(home: Path) -> None:
    """Partly S-08: an https origin is never asked in the clear."""
    first = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.set_result(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with session(home, f"https://127.0.0.1:{port}") as registry:
            with pytest.raises(RegistryError) as failed:
                await registry.manifest("latest")
        assert failed.value.retryable
        assert await first == b"\x16", "a TLS record of type handshake"


async def test_a_registry_may_live_below_a_path(home: Path) -> None:
    """GAP-08: path prefixes of Nexus and Artifactory."""
    async with (
        serving(answer(text="{}")) as site,
        session(home, f"http://{site.place}/repository/ollama/") as registry,
    ):
        await registry.manifest("7b")
        assert str(registry.path("blobs/uploads/?mount=x")) == (
            f"http://{site.place}/repository/ollama/v2/library/m/blobs/uploads/?mount=x"
        )
    assert site.asked == ["GET /repository/ollama/v2/library/m/manifests/7b"]


@pytest.mark.parametrize(
    ("kind", "host", "query"),
    [
        ("peer", "hf.co", "?ns=hf.co"),
        ("peer", "box:5000", "?ns=box%3A5000"),
        ("peer", "registry.ollama.ai", ""),
        ("mirror", "hf.co", ""),
    ],
)
async def test_a_peer_learns_for_whom_it_stands(home: Path, kind: str, host: str, query: str) -> None:
    async with (
        serving(answer(text="{}")) as site,
        session(home, f"http://{site.place}", kind=kind, host=host) as peer,
    ):
        await peer.manifest("latest")
        located = await peer.locate(BLOB)
    assert site.asked == [f"GET /v2/library/m/manifests/latest{query}", f"GET /v2/library/m/blobs/{DIGEST}{query}"]
    assert located.url.raw_query_string == query[1:]


async def test_every_digest_that_is_given_is_compared(home: Path) -> None:
    good, bad = str(Digest.of(MANIFEST)), DIGEST
    for header, reference, fits in (
        (good, "latest", True),
        (good, good, True),
        ("sha512:abc", good, True),
        (bad, "latest", False),
        (good, bad, False),
        ("", bad, False),
    ):
        site_answer = answer(text=MANIFEST.decode(), **({"Docker_Content_Digest": header} if header else {}))
        async with serving(site_answer) as site, session(home, f"http://{site.place}") as registry:
            if fits:
                assert await registry.manifest(reference) == MANIFEST
            else:
                with pytest.raises(RegistryError, match=f"manifest digest mismatch: want {bad}, got {good}"):
                    await registry.manifest(reference)


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, '{"errors":[]}', "file does not exist"),
        (412, "\n\nThis model wants a newer version.\n\n\tGet it!\n", "412: This model wants a newer version. Get it!"),
        (400, '{"error":"sharded"}', '400: {"error":"sharded"}'),
        (403, "", "403"),
        (500, "\x1b[31mred\x07 \u202eevil\u2028line\x00", "500: red evil line".replace("red", "[31mred")),
        (503, "x" * 70_000, "503: " + "x" * 65536),
    ],
)
async def test_refusals_in_the_registrys_words(home: Path, status: int, body: str, text: str) -> None:
    """Partly S-28: `pull` puts `pull model manifest: ` before them."""
    async with serving(answer(status, body)) as site, session(home, f"http://{site.place}") as registry:
        with pytest.raises(RegistryAnswered) as refused:
            await registry.manifest("latest")
    assert str(refused.value) == text
    assert refused.value.answer_status == status
    assert not refused.value.retryable


def bomb(size_bytes: int) -> Handler:
    # packed block by block, or this test itself would be the largest thing in memory
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    block = bytes(10**6)
    packed = b"".join(packer.compress(block) for _ in range(size_bytes // len(block))) + packer.flush()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    return handle


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


async def test_a_gzip_bomb_ends_at_the_limit(home: Path) -> None:
    """Partly X-31: the registry's half. 300 MB in 300 kB, as a manifest, as an error, as a token."""
    handle = bomb(300_000_000)
    async with serving(handle) as site, session(home, f"http://{site.place}") as registry:
        before = peak_bytes()
        with pytest.raises(RegistryError, match="larger than 4194304 bytes"):
            await registry.manifest("latest")
        assert peak_bytes() - before < 64 * 2**20


async def test_a_body_is_unpacked_whole_or_not_at_all(home: Path) -> None:
    packed = gzip.compress(MANIFEST)
    for body, coding, fits in (
        (packed, "gzip", True),
        (packed[:-9], "gzip", False),
        (MANIFEST, "gzip", False),
        (MANIFEST, "br", False),
    ):

        async def handle(request: web.BaseRequest, body: bytes = body, coding: str = coding) -> web.StreamResponse:
            return web.Response(body=body, headers={"Content-Encoding": coding})

        async with serving(handle) as site, session(home, f"http://{site.place}") as registry:
            if fits:
                assert await registry.manifest("latest") == MANIFEST
            else:
                with pytest.raises(RegistryError):
                    await registry.manifest("latest")


# --- redirects -----------------------------------------------------------------------------------------------------


def to(location: str, status: int = 307) -> Handler:
    return answer(status, "", Location=location)


async def test_x38_five_redirects_are_followed_and_six_are_not(home: Path) -> None:
    """X-38: the number of steps."""

    async def count_down(request: web.BaseRequest) -> web.StreamResponse:
        left = int(request.query.get("left", len(request.path.rpartition("/")[2])))
        if left == 0:
            return web.Response(text="{}")
        return web.Response(status=302, headers={"Location": f"?left={left - 1}"})

    async with serving(count_down) as site, session(home, f"http://{site.place}") as registry:
        assert await registry.manifest("x" * 5) == b"{}"
        with pytest.raises(RegistryError, match="more than 5 redirects"):
            await registry.manifest("x" * 6)


@pytest.mark.parametrize("target", ["http://10.0.0.1/x", "http://169.254.169.254/latest/", "http://[::1]:9/"])
async def test_x38_a_redirect_to_a_private_address_is_refused(home: Path, target: str) -> None:
    """X-38: the last step of a chain, though the origin itself may be private."""

    async def chain(request: web.BaseRequest) -> web.StreamResponse:
        location = target if request.path == "/hop" else "/hop"
        return web.Response(status=302, headers={"Location": location})

    async with serving(chain) as site, session(home, f"http://{site.place}") as registry:
        with pytest.raises(Forbidden):
            await registry.manifest("latest")
        with pytest.raises(Forbidden):
            await bytes_of(registry, BLOB)


async def test_another_port_of_the_origins_host_is_another_host(home: Path) -> None:
    """Partly X-38: the refusal comes before any connection, and an operator's list lifts it."""
    async with serving(answer(text="{}")) as other, serving(to(f"http://{other.place}/")) as site:
        async with session(home, f"http://{site.place}") as registry:
            with pytest.raises(Forbidden, match="LLAMERO_ALLOW_PRIVATE_REGISTRIES"):
                await registry.manifest("latest")
        assert other.asked == []
        async with session(home, f"http://{site.place}", allow=(other.place,)) as registry:
            assert await registry.manifest("latest") == b"{}"
        assert other.asked == ["GET /"]


async def test_x38_https_never_leads_to_http(home: Path, tmp_path: Path) -> None:
    """X-38: the scheme."""
    pem, tls = certificate(tmp_path, "127.0.0.1")
    async with serving(answer(text="{}")) as plain, serving(to(f"http://{plain.place}/"), tls=tls) as site:
        allow = (plain.place,)
        async with session(home, f"https://{site.place}", allow=allow, SSL_CERT_FILE=str(pem)) as registry:
            for step in (registry.manifest("latest"), registry.locate(BLOB)):
                with pytest.raises(Forbidden, match="from https to http"):
                    await step
            with pytest.raises(Forbidden, match="from https to http"):
                await registry.request("PUT", f"http://{plain.place}/", data=b"x")
            with pytest.raises(Forbidden, match="from https to http"):
                await registry.put_elsewhere(f"http://{plain.place}/", headers={}, data=b"x")
    assert plain.asked == []


# --- which hosts are asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_origin_needs_a_trusted_asker_or_the_list(home: Path, host: str) -> None:
    """Partly X-37: by its address as by its name."""
    async with serving(answer(text="{}")) as site:
        base = f"http://{host}:{site.place.partition(':')[2]}"
        async with session(home, base, private=False) as registry:
            with pytest.raises(Forbidden):
                await registry.manifest("latest")
        assert site.asked == []
        for options in ({"private": True}, {"private": False, "allow": (host,)}):
            async with session(home, base, **options) as registry:
                assert await registry.manifest("latest") == b"{}"


async def test_x39_the_connection_goes_to_the_address_that_was_checked(home: Path) -> None:
    """X-39: the name answers with another address the second time. The listed address stands for a public one."""
    answers = [["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "10.0.0.1"]]
    looked_up: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return answers.pop(0)

    async with serving(answer(text="{}")) as site:
        base = f"http://registry.example:{site.place.partition(':')[2]}"
        options: dict[str, Any] = {"private": False, "allow": ("127.0.0.1",), "lookup": lookup}
        async with session(home, base, **options) as registry:
            assert await registry.manifest("latest") == b"{}"
        assert looked_up == ["registry.example"], "asked once: what was judged is what was used"
        assert site.header("Host") == [base.removeprefix("http://")]
        for _ in range(2):
            async with session(home, base, **options) as registry:
                with pytest.raises(Forbidden):
                    await registry.manifest("latest")
    assert len(site.asked) == 1


async def test_a_refused_name_refuses_all_who_wait_for_it(home: Path) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        await asyncio.sleep(0)
        return ["10.0.0.1"]

    async with session(home, "https://registry.example", private=False, lookup=lookup) as registry:
        results = await asyncio.gather(*(registry.locate(BLOB) for _ in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [Forbidden] * 4


@pytest.mark.parametrize("base", ["https://h\\@evil", "https://b ox", "https://fe80::1", "https://2130706433"])
def test_a_host_that_is_none_is_no_session(home: Path, base: str) -> None:
    with pytest.raises(RegistryError, match="malformed"):
        Session(Origin(base, "library", "m", "registry", "h", may_be_private=True), network(home))


# --- where blobs are -----------------------------------------------------------------------------------------------

BLOB_PATH = f"/v2/library/m/blobs/{DIGEST}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 200])
@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("http://cdn.example/x%3Ay?X-Sig=a%2Fb%3D&e=1+2", "http://cdn.example/x%3Ay?X-Sig=a%2Fb%3D&e=1+2"),
        ("/store/x%3Ay?s=%2F", "http://{place}/store/x%3Ay?s=%2F"),
    ],
)
async def test_a_location_is_taken_word_for_word(home: Path, status: int, location: str, url: str) -> None:
    """Partly S-31, partly S-33: any redirect, and 200 with a `Location`, which is not asked with our credentials."""
    async with serving(to(location, status)) as site, session(home, f"http://{site.place}") as registry:
        located = await registry.locate(BLOB)
        assert located == Located(URL(url.format(place=site.place), encoded=True), with_credentials=False)
    assert site.asked == [f"GET {BLOB_PATH}"]


@pytest.mark.parametrize("headers", [{}, {"Location": BLOB_PATH}], ids=["no Location", "its own Location"])
async def test_bytes_from_the_registry_itself(home: Path, headers: dict[str, str]) -> None:
    """Partly S-32: 200 without `Location`, or with one that says the same. The body is not waited for."""

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(10**12), **headers})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async with serving(endless) as site, session(home, f"http://{site.place}") as registry:
        async with asyncio.timeout(5):
            located = await registry.locate(BLOB)
        assert located == Located(registry.path(f"blobs/{DIGEST}"), with_credentials=True)


@pytest.mark.parametrize(
    ("status", "text"),
    [(204, "unexpected status code 204"), (307, "http: no Location header in response"), (404, "file does not exist")],
)
async def test_a_blob_that_is_nowhere(home: Path, status: int, text: str) -> None:
    async with serving(answer(status)) as site, session(home, f"http://{site.place}") as registry:
        with pytest.raises(RegistryError, match=text):
            await registry.locate(BLOB)


async def test_s51_x35_the_bearer_stays_with_the_registry(home: Path) -> None:
    """S-51 and X-35, partly S-31: manifest, blob, range request and part upload that lead to another host."""
    async with (
        serving(answer(text="{}")) as cdn,
        guarded(to(f"http://{cdn.place}/x?s=1")) as site,
        session(home, f"http://{site.place}", allow=(cdn.place,)) as registry,
    ):
        await registry.manifest("latest")
        located = await registry.locate(BLOB)
        async with registry.open(located, {"Range": "bytes=0-1", "X-Ours": "1"}) as response:
            assert response.status == 200
        answered = await registry.request("PATCH", registry.path("blobs/uploads/1"), data=b"x", follow=False)
        await registry.put_elsewhere(answered.headers["Location"], headers={}, data=b"x")
        await registry.request("PATCH", registry.path("blobs/uploads/1"), data=b"x", headers={"X-Ours": "1"})
        await registry.request("PUT", f"http://{cdn.place}/absolute", data=b"x")
    asked_in = [
        request.method for request in site.requests if request.headers.get("Authorization") == f"Bearer {TOKEN}"
    ]
    assert asked_in == ["GET", "GET", "PATCH", "PATCH"]
    assert cdn.asked == [*(["GET /x?s=1"] * 2), "PUT /x?s=1", "PATCH /x?s=1", "PUT /absolute"]
    assert cdn.header("Authorization") == [None] * 5
    assert cdn.header("Range") == [None, "bytes=0-1", None, None, None]
    assert cdn.header("X-Ours") == [None, "1", None, None, None], "said to that host itself, or not at all"


async def test_a_bearer_that_left_does_not_come_back(home: Path) -> None:
    """Partly S-51: origin, elsewhere, origin."""
    handlers: dict[str, Handler] = {"/v2/library/m/manifests/latest": answer(text="never")}
    async with guarded(on_paths(handlers)) as site, serving(to(f"http://{site.place}/back")) as cdn:
        handlers["/v2/library/m/manifests/latest"] = to(f"http://{cdn.place}/")
        handlers["/back"] = answer(text="{}")
        async with session(home, f"http://{site.place}", allow=(cdn.place,)) as registry:
            with pytest.raises(RegistryAnswered, match="access denied"):
                await registry.manifest("latest")
    assert site.requests[-1].path == "/back"
    assert site.requests[-1].headers.get("Authorization") is None


async def test_s45_a_blob_is_never_unpacked(home: Path) -> None:
    """S-45: compression is not asked for; what comes packed stays so."""
    packed = gzip.compress(b"blob" * 1000)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with serving(handle) as site, session(home, f"http://{site.place}") as registry:
        located = await registry.locate(BLOB)
        async with registry.open(located, {"Range": "bytes=0-"}) as response:
            assert await response.read() == packed
    assert set(site.header("Accept-Encoding")) == {"identity"}


# --- challenges ----------------------------------------------------------------------------------------------------

TOKEN = "opensesame"


def verified(request: web.BaseRequest, home: Path) -> bool:
    """Whether a token request is signed by the key of `home`, over the URL as it was sent (store-registry §3.7)."""
    key, _, signature = request.headers["Authorization"].partition(":")
    assert (home / "id_ed25519.pub").read_text() == f"ssh-ed25519 {key}\n"
    public = load_ssh_public_key(f"ssh-ed25519 {key}".encode())
    assert isinstance(public, Ed25519PublicKey)
    empty = base64.b64encode(b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").decode()
    url = f"{request.scheme}://{request.host}{request.raw_path}"
    public.verify(base64.b64decode(signature), f"GET,{url},{empty}".encode())
    return True


@asynccontextmanager
async def guarded(
    inner: Handler, *, token: Handler | None = None, realm: str = "", scope: str = "repository:library/m:pull"
) -> AsyncIterator[Site]:
    """A registry that lets only TOKEN in, and gives it at `/token` to anybody who asks."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return await (token or answer(text=json.dumps({"token": TOKEN})))(request)
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return await inner(request)
        where = realm or f"{request.scheme}://{request.host}/token"
        challenge = f'Bearer realm="{where}",service="registry",scope="{scope}"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with serving(handle) as site:
        yield site


async def test_s46_s50_a_token_for_a_signature(home: Path) -> None:
    """S-46 and S-50: the vector of Appendix A is in test_auth and test_identity."""
    nonces = []

    async def token(request: web.BaseRequest) -> web.StreamResponse:
        assert verified(request, home)
        query = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)
        assert [name for name, _ in query] == ["nonce", "scope", "scope", "service", "ts"]
        assert [value for name, value in query if name == "scope"] == ["repository:library/m:pull", "other"]
        values = dict(query)
        assert abs(int(values["ts"]) - time.time()) < 60
        nonces.append(values["nonce"])
        return web.Response(text=json.dumps({"token": TOKEN}))

    async with guarded(answer(text="{}"), token=token, scope="repository:library/m:pull other") as site:
        for _ in range(2):
            async with session(home, f"http://{site.place}") as registry:
                assert await registry.manifest("latest") == b"{}"
                await registry.locate(BLOB)
    kinds = [request.path.split("/")[-1][:6] for request in site.requests]
    assert kinds == ["latest", "token", "latest", "sha256"] * 2, "a token serves the whole operation"
    assert len(set(nonces)) == 2
    assert {len(nonce) for nonce in nonces} == {22}


async def test_s49_a_second_401_is_the_end(home: Path) -> None:
    """S-49."""
    async with (
        guarded(answer(), token=answer(text='{"token":"wrong"}')) as site,
        session(home, f"http://{site.place}") as registry,
    ):
        with pytest.raises(RegistryAnswered, match=r"^unauthorized: access denied$"):
            await registry.manifest("latest")
    assert [request.path for request in site.requests].count("/token") == 1
    async with serving(answer(401)) as site, session(home, f"http://{site.place}") as registry:
        with pytest.raises(RegistryAnswered, match=r"^unauthorized: access denied$"):
            await registry.manifest("latest")
    assert len(site.asked) == 1, "nobody said how to get in"


async def test_s47_x34_a_foreign_realm_is_not_asked(home: Path) -> None:
    """S-47 and X-34: another port, another host, another scheme."""
    async with serving(answer(text='{"token":"t"}')) as thief:
        for realm in (f"http://{thief.place}/token", f"http://localhost:{thief.place[10:]}/", "https://evil.example/"):
            async with (
                guarded(answer(), realm=realm) as site,
                session(home, f"http://{site.place}", allow=("127.0.0.0/8", "localhost")) as registry,
            ):
                with pytest.raises(RegistryError, match=rf'^realm host "[^"]+" does not match .* "{site.place}"$'):
                    await registry.manifest("latest")
    assert thief.asked == []


async def test_an_encrypted_registry_has_no_realm_in_the_clear(home: Path, tmp_path: Path) -> None:
    """Partly X-34: the scheme."""
    pem, tls = certificate(tmp_path, "127.0.0.1")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        challenge = f'Bearer realm="http://{request.host}/token"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async with (
        serving(handle, tls=tls) as site,
        session(home, f"https://{site.place}", SSL_CERT_FILE=str(pem)) as registry,
    ):
        with pytest.raises(RegistryError, match="not encrypted"):
            await registry.manifest("latest")
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        (to("/elsewhere"), "answered 307"),
        (answer(403, "not you"), "^403: not you$"),
        (answer(502), "^502$"),
        (answer(text="<html>"), "malformed"),
        (answer(text=json.dumps({"token": "x" * 70_000})), "larger than 65536 bytes"),
        (bomb(80_000_000), "larger than 65536 bytes"),
    ],
    ids=["redirect", "403", "502", "html", "large", "bomb"],
)
async def test_token_servers_that_misbehave(home: Path, token: Handler, problem: str) -> None:
    """Partly X-35, partly X-31: a redirect of a token request is refused."""
    async with guarded(answer(), token=token) as site, session(home, f"http://{site.place}") as registry:
        with pytest.raises(RegistryError, match=problem):
            await registry.manifest("latest")
    assert [request.path for request in site.requests] == ["/v2/library/m/manifests/latest", "/token"]


async def test_many_parts_that_lose_their_token_get_one_new_one(home: Path) -> None:
    async with guarded(answer(206, "x")) as site, session(home, f"http://{site.place}") as registry:
        located = Located(registry.path(f"blobs/{DIGEST}"), with_credentials=True)

        async def part() -> int:
            async with registry.open(located, {"Range": "bytes=0-0"}) as response:
                return response.status

        assert await asyncio.gather(*(part() for _ in range(8))) == [206] * 8
    assert [request.path for request in site.requests].count("/token") == 1


async def test_a_login_for_basic_and_for_a_token_server_elsewhere(home: Path) -> None:
    """GAP-05: the login goes where the file sends it, in place of the signature, and nowhere else."""
    anna = "Basic " + base64.b64encode(b"anna:sesame").decode()

    async def basic(request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Authorization") == anna:
            return web.Response(text="{}")
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="registry"'})

    async with serving(basic) as site:
        write_entry(home, site.place, auth=anna[6:])
        async with session(home, f"http://{site.place}") as registry:
            assert await registry.manifest("latest") == b"{}"

    async with (
        serving(answer(text=json.dumps({"access_token": TOKEN, "expires_in": 300}))) as tokens,
        guarded(answer(text="{}"), realm=f"http://{tokens.place}/token") as site,
    ):
        write_entry(home, site.place, auth=anna[6:], realm=f"http://{tokens.place}/token")
        async with session(home, f"http://{site.place}", allow=(tokens.place,)) as registry:
            assert await registry.manifest("latest") == b"{}"
        assert tokens.header("Authorization") == [anna]
        assert anna not in site.header("Authorization")


async def test_a_login_in_an_operators_url(home: Path) -> None:
    """A mirror that wants one, and nobody wrote a file."""
    async with guarded(answer(text="{}")) as site:
        base = f"http://anna:sesa%2Fme@{site.place}"
        async with session(home, base, kind="mirror", host="registry.ollama.ai") as mirror:
            assert await mirror.manifest("latest") == b"{}"
            assert "anna" not in str(mirror.path("x"))
    assert site.header("Authorization")[1] == "Basic " + base64.b64encode(b"anna:sesa/me").decode()


async def test_x36_our_secrets_reach_no_text_and_no_log(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """X-36: neither a token nor a login that a registry repeats, nor the query and the user information of a URL."""
    caplog.set_level("DEBUG")
    basic = "Basic " + base64.b64encode(b"anna:sesame").decode()

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        sent = request.headers.get("Authorization", "")
        if not sent:
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        return web.Response(status=400, text=f"you sent {sent}, {base64.b64decode(sent.split()[-1] + '==')!r}")

    async with guarded(echo) as site, session(home, f"http://{site.place}") as registry:
        with pytest.raises(RegistryAnswered, match=r"^400: you sent Bearer \[redacted\], "):
            await registry.manifest("latest")
        answered = await registry.request("GET", registry.path("x"), expect={400})
        assert TOKEN not in registry.in_words(answered.body)
    async with serving(echo) as site, session(home, f"http://anna:sesame@{site.place}") as registry:
        with pytest.raises(RegistryAnswered, match=r"^400: you sent Basic \[redacted\], b'anna:\[redacted\]'$"):
            await registry.manifest("latest")
    assert site.header("Authorization") == [None, basic]
    async with session(home, f"http://anna:sesame@{site.place}") as registry:
        with pytest.raises(RegistryError) as refused:
            await registry.put_elsewhere(f"http://{site.place}/x?signature=secret", headers={}, data=b"")
    assert refused.value.retryable
    assert str(refused.value) == f'PUT "http://{site.place}/x": connection refused'
    assert not {word for word in (TOKEN, "sesame", basic[6:], "secret") if word in caplog.text}


# --- the hub -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def hub(handler: Handler, folder: Path) -> AsyncIterator[tuple[Site, list[str], dict[str, str]]]:
    """A server for every host of the world, behind a proxy; the hosts that were asked for; the environment for it."""
    pem, tls = certificate(folder, "hf.co", "huggingface.co", "other.example")
    async with serving(handler, tls=tls) as site, tunnel(site.place) as (proxy, wanted):
        yield site, wanted, {"HTTPS_PROXY": f"http://{proxy}", "SSL_CERT_FILE": str(pem)}


async def test_s48_the_hub_may_ask_for_a_signature_under_its_other_name(home: Path, tmp_path: Path) -> None:
    """S-48, GAP-06."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            assert verified(request, home)
            return web.Response(text=json.dumps({"token": TOKEN}))
        if request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return web.Response(text="{}")
        realm = {"hf.co": "huggingface.co"}.get(request.host, "hf.co")
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="https://{realm}/token"'})

    async with hub(handle, tmp_path) as (_, wanted, env):
        async with session(home, "https://hf.co", private=False, **env) as registry:
            assert await registry.manifest("latest") == b"{}"
        assert wanted == ["hf.co:443", "huggingface.co:443"]
        for host in ("huggingface.co", "other.example"):
            async with session(home, f"https://{host}", private=False, **env) as registry:
                with pytest.raises(RegistryError, match=f'realm host "hf.co" does not match original host "{host}"'):
                    await registry.manifest("latest")
        assert wanted[2:] == ["huggingface.co:443", "other.example:443"]


async def test_the_hubs_own_token_goes_to_the_hub_alone(home: Path, tmp_path: Path) -> None:
    """GAP-06: not to the storage that it redirects to, and not to another registry."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.host == "hf.co":
            return web.Response(status=302, headers={"Location": "https://other.example/x"})
        return web.Response(text="{}")

    async with hub(handle, tmp_path) as (site, _, env):
        for host in ("hf.co", "other.example"):
            async with session(home, f"https://{host}", private=False, HF_TOKEN="hf_secret", **env) as registry:
                await registry.manifest("latest")
        sent = [(request.host, request.headers.get("Authorization")) for request in site.requests]
    assert sent == [("hf.co", "Bearer hf_secret"), ("other.example", None), ("other.example", None)]


# --- certificates --------------------------------------------------------------------------------------------------


async def test_whom_https_trusts(home: Path, tmp_path: Path) -> None:
    """GAP-05: the system's authorities, the environment's besides, and a registry's own for that registry."""
    pem, tls = certificate(tmp_path, "127.0.0.1")

    async def trusts(site: Site, **env: str) -> bool:
        async with session(home, f"https://{site.place}", **env) as registry:
            try:
                return await registry.manifest("latest") == b"{}"
            except RegistryError as error:
                return "certificate not trusted: self-signed certificate" not in str(error)

    async with serving(answer(text="{}"), tls=tls) as site, serving(answer(text="{}"), tls=tls) as other:
        base = f"https://{site.place}"
        assert not await trusts(site)
        assert await trusts(site, SSL_CERT_FILE=str(pem))
        write_entry(home, site.place, ca=str(pem))
        assert await trusts(site)
        assert not await trusts(other)
        write_entry(home, site.place, insecure_tls=True)
        assert await trusts(site)
        assert not await trusts(other)
        write_entry(home, site.place, ca=str(tmp_path / "none.pem"))
        async with session(home, base) as registry:
            with pytest.raises(
                RegistryError, match=r"cannot read certificates of ca in llamero/registries\.json: No such"
            ):
                await registry.manifest("latest")


async def test_a_certificate_for_another_name_is_not_trusted(home: Path, tmp_path: Path) -> None:
    pem, tls = certificate(tmp_path, "other.example")
    async with (
        serving(answer(), tls=tls) as site,
        session(home, f"https://{site.place}", SSL_CERT_FILE=str(pem)) as registry,
    ):
        with pytest.raises(RegistryError, match="certificate not trusted: IP address mismatch"):
            await registry.manifest("latest")


# --- proxies -------------------------------------------------------------------------------------------------------


async def no_lookup(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was looked up here: the proxy does that")


async def test_a_proxy_resolves_and_the_written_host_is_judged(home: Path) -> None:
    async with serving(answer(text="{}")) as proxy:
        env = {"HTTP_PROXY": f"http://me:pass%2Fword@{proxy.place}", "lookup": no_lookup}
        async with session(home, "http://registry.example", private=False, **env) as registry:
            assert await registry.manifest("latest") == b"{}"
        assert proxy.asked == ["GET http://registry.example/v2/library/m/manifests/latest"]
        me = "Basic " + base64.b64encode(b"me:pass/word").decode()
        assert proxy.header("Proxy-Authorization") == [me]
        assert proxy.header("Authorization") == [None]
        for base in ("http://10.0.0.7", "http://box.lan", "http://169.254.169.254"):
            async with session(home, base, private=False, **env) as registry:
                with pytest.raises(Forbidden):
                    await registry.manifest("latest")
        assert len(proxy.asked) == 1
        async with session(home, "http://box.lan", private=True, **env) as registry:
            assert await registry.manifest("latest") == b"{}"


async def test_who_needs_no_proxy_is_asked_directly(home: Path) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with serving(answer(text="{}")) as site, serving(answer(500)) as proxy:
        base = f"http://box.example:{site.place.partition(':')[2]}"
        env = {"http_proxy": proxy.place, "no_proxy": "x,.example"}
        async with session(home, base, lookup=lookup, **env) as registry:
            assert await registry.manifest("latest") == b"{}"
        assert proxy.asked == []


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://", "http://[::1"])
async def test_a_proxy_that_cannot_be_used(home: Path, proxy: str) -> None:
    """Partly X-36."""
    env = {"HTTP_PROXY": proxy.replace("//", "//me:secret@")}
    async with session(home, "http://registry.example", lookup=no_lookup, **env) as registry:
        with pytest.raises(RegistryError, match="unusable proxy") as refused:
            await registry.manifest("latest")
    assert "secret" not in str(refused.value)


async def test_a_proxy_that_refuses(home: Path) -> None:
    """Partly X-36."""
    async with serving(answer(407)) as proxy:
        env = {"HTTPS_PROXY": f"http://me:secret@{proxy.place}"}
        async with session(home, "https://registry.example", lookup=no_lookup, **env) as registry:
            with pytest.raises(RegistryError, match=r"^GET .*: the proxy answered 407$") as refused:
                await registry.manifest("latest")
    assert refused.value.retryable
    assert "secret" not in str(refused.value)


# --- when nobody answers -------------------------------------------------------------------------------------------


async def silent(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def drips(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def breaks_off(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"x")
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    ("handler", "reason"),
    [(silent, "timed out"), (drips, "timed out"), (breaks_off, "the connection was closed too early|connection reset")],
)
async def test_a_registry_that_does_not_answer(home: Path, handler: Handler, reason: str) -> None:
    fast = Network(home, {}, first_byte_timeout_s=0.2, answer_timeout_s=0.3)
    async with serving(handler) as site, session(home, f"http://{site.place}", network=fast) as registry:
        with pytest.raises(RegistryError, match=f'^GET "http://{site.place}/v2/.*latest": ({reason})') as failed:
            await registry.manifest("latest")
    assert failed.value.retryable


async def test_a_name_that_nobody_knows(home: Path) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    async with session(home, "https://registry.example", lookup=lookup) as registry:
        with pytest.raises(RegistryError, match="no such host") as failed:
            await registry.manifest("latest")
    assert failed.value.retryable


# --- requests of a push --------------------------------------------------------------------------------------------


async def test_a_body_that_streams_is_sent_again_after_a_401(home: Path) -> None:
    bodies = []

    async def take(request: web.BaseRequest) -> web.StreamResponse:
        bodies.append(await request.read())
        return web.Response(status=202, headers={"Location": "../x?_state=a%2Fb"}, text="kept")

    async def data() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    async with guarded(take) as site, session(home, f"http://{site.place}") as registry:
        answered = await registry.request(
            "PATCH", "/v2/library/m/blobs/uploads/1", headers={"Content-Length": "4"}, data=data
        )
    assert bodies == [b"abcd"]
    assert (answered.status, answered.headers["location"], answered.body) == (202, "../x?_state=a%2Fb", b"kept")
    assert answered.url == URL(f"http://{site.place}/v2/library/m/blobs/uploads/1")
    assert site.header("Content-Length")[-1] == "4"


async def test_only_expected_refusals_are_answers(home: Path) -> None:
    async with serving(answer(416, "offset")) as site, session(home, f"http://{site.place}") as registry:
        answered = await registry.request("HEAD", registry.path("x"), expect={416})
        assert answered.status == 416
        with pytest.raises(RegistryAnswered, match=r"^416: offset$"):
            await registry.request("GET", registry.path("x"), expect={404})
        assert (await registry.put_elsewhere(registry.path("x"), headers={}, data=b"x")).status == 416


async def test_an_error_of_the_body_itself_is_told(home: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise StorageError("read blob: input/output error")

    async with serving(answer()) as site, session(home, f"http://{site.place}") as registry:
        with pytest.raises(StorageError, match="read blob"):
            await registry.put_elsewhere(registry.path("x"), headers={}, data=broken)
