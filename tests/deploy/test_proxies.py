"""Real nginx and Caddy with the files of `deploy/`, in front of the real server with the real engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llamero.client import NOBODY_BEHIND
from tests.deploy.proxies import CADDY, KEY, Proxy, caddy, needs_caddy, nginx
from tests.nginx import needs_nginx
from tests.running import ENDLESS, OLLAMA, Reply, Server, clean_environment, free_port, linked_copy, running

pytestmark = pytest.mark.engine

MODEL = "smollm2:135m"
TOKENS = 40
ADMIN_KEY = "admin-secret-of-ours"

REFUSED = "forbidden: this proxy passes on what uses models, not what manages them"
DOWN = "the proxy is here, the model server behind it does not answer; is it running?"

Start = Callable[[Path, int], AbstractContextManager[Proxy]]

SITES: dict[str, Start] = {
    "nginx, http": lambda folder, port: nginx(folder, "http", port),
    "nginx, https": lambda folder, port: nginx(folder, "https", port),
    "nginx, subpath": lambda folder, port: nginx(folder, "subpath", port),
    "caddy": lambda folder, port: caddy(folder, "Caddyfile", port),
    "caddy, subpath": lambda folder, port: caddy(folder, "Caddyfile.subpath", port),
}


def installed(site: str, *marks: pytest.MarkDecorator) -> object:
    return pytest.param(site, id=site, marks=[needs_nginx if site.startswith("nginx") else needs_caddy, *marks])


ALL = [installed(site) for site in SITES]


@pytest.fixture(scope="module")
def keyed(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key for ourselves and one for the proxy, which it believes."""
    folder = tmp_path_factory.mktemp("keyed")
    with running(
        folder,
        linked_copy(starter_models, folder / "models"),
        OLLAMA_API_KEY=f"admin:{ADMIN_KEY},proxy=infer:{KEY}",
        LLAMERO_TRUSTED_PROXIES="127.0.0.1",
    ) as started:
        yield started


@pytest.fixture(scope="module", params=ALL)
def proxy(request: pytest.FixtureRequest, keyed: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with SITES[request.param](tmp_path_factory.mktemp("proxy"), keyed.port) as started:
        yield started


def told_by(proxy: Proxy, tmp_path: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command as installed, with nothing but OLLAMA_HOST to find its way."""
    known = clean_environment(tmp_path, **{**proxy.env, **env})
    return subprocess.run(
        [OLLAMA, *argv], env=known, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )


def with_key(proxy: Proxy, key: str = KEY) -> dict[str, str]:
    """Headers of a program that is let in; plain HTTP has no passwords, so it brings a key."""
    return proxy.headers() if proxy.wants_password else {"Authorization": f"Bearer {key}"}


# --- token by token ------------------------------------------------------------------------------------------------

APART_S = 0.001
"""Two lines that come out of one buffer are read within 50 microseconds; a token takes the engine 5 ms and more."""

STREAMS = {
    "/api/chat": {"messages": [{"role": "user", "content": "Tell me a story."}], "options": {"num_predict": TOKENS}},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "max_tokens": TOKENS,
        "stream": True,
    },
}


def assert_one_by_one(proxy: Proxy, path: str) -> None:
    """Most tokens come alone: nobody on the way collects them. (Not all: this machine has other work, too.)"""
    arrivals = proxy.arrivals(path, {"model": MODEL, **STREAMS[path]}, with_key(proxy))
    alone = [later for earlier, later in pairwise(arrivals) if later - earlier > APART_S]
    assert len(arrivals) >= TOKENS
    assert len(alone) > TOKENS / 2


@pytest.mark.parametrize(
    ("site", "path"),
    [
        pytest.param("nginx, https", "/api/chat", marks=needs_nginx),
        pytest.param("caddy", "/v1/chat/completions", marks=needs_caddy),
    ],
)
def test_a_stream_comes_token_by_token(site: str, path: str, server: Server, tmp_path: Path) -> None:
    """partly X-98"""
    with SITES[site](tmp_path, server.port) as proxy:
        assert_one_by_one(proxy, path)


@pytest.mark.heavy
@pytest.mark.parametrize("path", STREAMS)
def test_every_sample_streams_token_by_token(proxy: Proxy, path: str) -> None:
    """X-98; its systemd unit is verified in tests/cli/service/test_systemd.py, its image run in test_image.py."""
    assert_one_by_one(proxy, path)


@pytest.mark.heavy
def test_the_server_hears_of_who_leaves(proxy: Proxy, keyed: Server) -> None:
    """An answer that nobody waits for any more is ended at once: its line in the log comes with its end."""

    def ended() -> int:
        return keyed.log.read_text().count('POST     "/api/generate"')

    before = ended()
    connection = proxy.connect()
    options = {"grammar": ENDLESS, "num_predict": -1}
    body = {"model": MODEL, "prompt": "Count.", "options": options}
    connection.request("POST", f"{proxy.prefix}/api/generate", json.dumps(body), with_key(proxy))
    with connection.getresponse() as response:
        assert response.readline()
        assert ended() == before
    connection.close()
    keyed.wait_until(lambda: ended() == before + 1)


# --- who gets through, and how far ---------------------------------------------------------------------------------


@pytest.mark.heavy
def test_the_server_knows_the_proxy_by_its_key(proxy: Proxy, keyed: Server) -> None:
    assert keyed.get("/api/tags").status == 401
    assert proxy.call("GET", "/api/tags", headers=with_key(proxy)).status == 200


@pytest.mark.heavy
def test_a_key_of_ones_own_goes_before_the_proxys(proxy: Proxy) -> None:
    """It is the wrong one: the server says so, not the proxy."""
    own = {**(proxy.headers() if proxy.wants_password else {}), "x-api-key": "not-a-key-of-anybody"}
    reply = proxy.call("GET", "/api/tags", headers=own)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="llamero"'


@pytest.mark.heavy
@pytest.mark.parametrize("password", [None, "", "guess"])
def test_without_the_password_nobody_gets_in(proxy: Proxy, password: str | None) -> None:
    if not proxy.wants_password:
        pytest.skip("this site has no passwords: keys are the server's business")
    headers = {} if password is None else proxy.headers(password)
    reply = proxy.call("POST", "/api/chat", {"model": MODEL}, headers=headers)
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")


def admin_routes(server: Server) -> list[tuple[str, str]]:
    """Method and path of all that an `infer` key must not do, by asking each: the server's own judgement."""
    described = server.get("/openapi.json", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).json()["paths"]
    routes = [(method.upper(), path) for path, methods in described.items() for method in methods]
    return [route for route in routes if asked_with(server, KEY, *route).status == 403]


def asked_with(server: Server, key: str, method: str, path: str) -> Reply:
    return server.call(method, path.replace("{", "").replace("}", ""), headers={"Authorization": f"Bearer {key}"})


@pytest.mark.heavy
def test_nothing_is_managed_through_the_proxy(proxy: Proxy, keyed: Server) -> None:
    """Every route that is not for users, not even with a key that might."""
    routes = admin_routes(keyed)
    assert ("POST", "/api/pull") in routes
    for number, (method, path) in enumerate(routes):
        headers = {**with_key(proxy), "x-api-key": ADMIN_KEY}
        source = f"127.0.1.{number + 1}"  # one address alone may not ask this often
        reply = proxy.call(method, path.replace("{", "").replace("}", ""), headers=headers, source=source)
        assert (method, path, reply.status) == (method, path, 403)
        assert method == "HEAD" or reply.error == REFUSED


@pytest.mark.heavy
@pytest.mark.parametrize(
    "path",
    [
        "//api/pull",
        "/api//pull",
        "/api/./pull",
        "/x/../api/pull",
        "/api/%70ull",
        "/%61pi/pull",
        "/api/pull/",
        "/api/pull?x=1",
        "/api/pull;x",
        "/API/PULL",
        "/api%2Fpull",
        "/api/%2e/pull",
        "/../llm/api/pull",
    ],
)
def test_no_spelling_of_a_path_gets_around_the_rule(proxy: Proxy, keyed: Server, path: str) -> None:
    """X-80 behind a proxy: refused there, or sent on as it is, which the server knows nothing of."""

    def pulls() -> int:
        return keyed.log.read_text().count('POST     "/api/pull"')

    before = pulls()
    reply = proxy.call("POST", path, {"model": "no-such"}, headers={**with_key(proxy), "x-api-key": ADMIN_KEY})
    assert reply.status in (301, 307, 308, 400, 403, 404), reply.body
    assert pulls() == before


@pytest.mark.heavy
def test_what_uses_models_gets_through(proxy: Proxy) -> None:
    for path in ("/api/version", "/api/tags", "/api/ps", "/v1/models", f"/v1/models/library%2F{MODEL}", "/healthz"):
        reply = proxy.call("GET", path, headers=with_key(proxy))
        assert (path, reply.status) == (path, 200)
    assert proxy.call("GET", "/", headers=with_key(proxy)).body == b"Ollama is running"


@pytest.mark.heavy
def test_a_large_request_gets_through(proxy: Proxy) -> None:
    """Pictures make requests large. The server reads it to its end, and says what is wrong with it."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x", "images": ["A" * 20_000_000]}]}
    reply = proxy.call("POST", "/api/chat", body, headers=with_key(proxy))
    assert reply.status == 400
    assert "image" in reply.error


@pytest.mark.heavy
def test_the_log_has_the_address_of_the_client(proxy: Proxy, keyed: Server) -> None:
    """partly X-52: LLAMERO_TRUSTED_PROXIES names the proxy. What the client claims to be is not believed."""
    source = f"127.0.3.{proxy.port % 250 + 1}"
    forged = {**with_key(proxy), "X-Forwarded-For": "10.1.2.3", "X-Real-IP": "10.1.2.3"}
    assert proxy.call("GET", "/api/ps", headers=forged, source=source).status == 200
    keyed.wait_until(lambda: f'{source} | GET      "/api/ps"' in keyed.log.read_text())
    assert "10.1.2.3" not in keyed.log.read_text()


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_ollama_run_through_the_proxy(proxy: Proxy, tmp_path: Path) -> None:
    key = {} if proxy.wants_password else {"OLLAMA_API_KEY": KEY}
    done = told_by(proxy, tmp_path, "run", MODEL, "Say hello.", "--num-predict", "40", **key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert MODEL in told_by(proxy, tmp_path, "list", **key).stdout
    copied = told_by(proxy, tmp_path, "cp", MODEL, "another", **key)
    assert (copied.returncode, copied.stderr) == (1, f"Error: {REFUSED}\n")
    pulled = told_by(proxy, tmp_path, "pull", MODEL, **key)
    assert (pulled.returncode, pulled.stderr.rpartition("Error: ")[2]) == (1, f"403 Forbidden: {REFUSED}\n")


@pytest.mark.heavy
def test_what_ollama_says_without_the_password(proxy: Proxy, tmp_path: Path) -> None:
    if not proxy.wants_password:
        pytest.skip("this site has no passwords")
    done = told_by(proxy, tmp_path, "list", OLLAMA_HOST=proxy.url(""))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "user:password@" in done.stderr


@pytest.mark.heavy
@pytest.mark.parametrize("site", ALL)
def test_what_ollama_says_when_the_server_is_down(site: str, tmp_path: Path) -> None:
    with SITES[site](tmp_path, free_port()) as proxy:
        reply = proxy.call("GET", "/api/tags")
        assert (reply.status, reply.content_type, reply.error) == (502, "application/json", DOWN)
        for command in (["list"], ["run", MODEL, "hi"]):  # they begin with HEAD, whose replies have no body
            told = told_by(proxy, tmp_path, *command)
            assert (told.returncode, told.stdout) == (1, "")
            assert told.stderr == f"Error: 502 Bad Gateway: {NOBODY_BEHIND}\n"


# --- what is particular to one -------------------------------------------------------------------------------------


@pytest.mark.heavy
@needs_nginx
def test_plain_http_leads_to_https(keyed: Server, tmp_path: Path) -> None:
    """With the method and the body: 301 would make a GET of a question."""
    plain = free_port()
    with nginx(tmp_path, "https", keyed.port, plain_port=plain):
        reply = Proxy(plain, None, wants_password=False).call("POST", "/api/chat?x=1", {"model": MODEL})
    assert (reply.status, reply.headers["Location"]) == (308, "https://models.example.com/api/chat?x=1")


@pytest.mark.heavy
@needs_nginx
def test_one_address_alone_may_not_ask_too_often(keyed: Server, tmp_path: Path) -> None:
    with nginx(tmp_path, "http", keyed.port) as proxy:
        told = [proxy.call("GET", "/api/version", source="127.0.2.1").status for _ in range(60)]
        assert proxy.call("GET", "/api/version", source="127.0.2.2").status == 200
    assert set(told[:40]) == {200}
    assert 429 in told


@pytest.mark.heavy
@pytest.mark.parametrize("site", [site for site in ALL if "subpath" in site.id])  # type: ignore[attr-defined]
def test_the_rest_of_the_site_is_its_own(site: str, keyed: Server, tmp_path: Path) -> None:
    with SITES[site](tmp_path, keyed.port) as proxy:
        rest = Proxy(proxy.port, proxy.certificate)
        assert rest.call("GET", "/api/tags", headers={}).body == b"the rest of the site"
        assert rest.call("DELETE", "/api/delete", headers={}).body == b"the rest of the site"


@pytest.mark.heavy
@pytest.mark.parametrize("site", [site for site in ALL if "subpath" in site.id])  # type: ignore[attr-defined]
def test_a_redirect_stays_under_the_prefix(site: str, keyed: Server, tmp_path: Path) -> None:
    """It tells clients that write a slash too many where the path is."""
    with SITES[site](tmp_path, keyed.port) as proxy:
        reply = proxy.call("GET", "/api/tags/")
    assert (reply.status, urlsplit(reply.headers["Location"]).path) == (301, "/llm/api/tags")


@pytest.mark.heavy
@needs_caddy
def test_caddy_takes_the_hash_that_it_makes(keyed: Server, tmp_path: Path) -> None:
    assert CADDY is not None
    command = [CADDY, "hash-password", "--plaintext", "another one"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with caddy(tmp_path, "Caddyfile", keyed.port, LLAMERO_PASSWORD_HASH=made) as proxy:
        assert proxy.call("GET", "/api/tags", headers=proxy.headers("another one")).status == 200
        assert proxy.call("GET", "/api/tags", headers=proxy.headers()).status == 401
