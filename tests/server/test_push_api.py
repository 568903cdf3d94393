"""POST /api/push of a real server, to real and scripted registries (native-api §3.15; store-registry §4)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.model_folders import tree
from tests.registry.distribution import distribution
from tests.registry.fault_proxy import Cut, FaultProxy, Rule
from tests.registry.model_registry import ModelRegistry, digest_of
from tests.registry.upload_registry import Hang, Refuse, UploadRegistry
from tests.running import OLLAMA, Reply, Server, clean_environment, running

NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
"""Nobody listens there: no test leaves this machine."""

RETRIEVING, NOT_RETRIEVED, SENDING, SUCCESS = (
    {"status": status}
    for status in ("retrieving manifest", "couldn't retrieve manifest", "pushing manifest", "success")
)
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("pusher")
    with running(folder, folder / "models", **NOWHERE) as started:
        yield started


@pytest.fixture
def weights() -> bytes:
    return os.urandom(MIB)


def push(server: Server, model: str, **fields: Any) -> Reply:
    return server.post("/api/push", {"model": model} | fields)


async def pushed(server: Server, model: str, **fields: Any) -> list[Any]:
    """What a push says, without the lines in the middle of a layer."""
    reply = await asyncio.to_thread(push, server, model, **fields)
    assert (reply.status, reply.content_type) == (200, "application/x-ndjson")
    return [line for line in reply.lines() if not 0 < line.get("completed", 0) < line.get("total", 0)]


def progress(content: bytes, *, begins: bool = True) -> list[Any]:
    digest = digest_of(content)
    line = {"status": f"pushing {digest[7:19]}", "digest": digest, "total": len(content)}
    return [line] * begins + [line | {"completed": len(content)}]


# --- what is said --------------------------------------------------------------------------------------------------


async def test_the_lines_of_a_push(server: Server, weights: bytes) -> None:
    async with UploadRegistry() as registry:
        name = f"{registry.host}/me/m"
        manifest = model_folders.add(server.models, name, weights, license="MIT")
        registry.blobs["me/m", digest_of(b"MIT")] = b"MIT"
        assert await pushed(server, f"http://{name}") == [
            RETRIEVING,
            *progress(weights),
            *progress(b"MIT", begins=False),
            *progress(b"{}"),
            SENDING,
            SUCCESS,
        ]
        assert registry.manifests["me/m", "latest"][1] == manifest.read_bytes()
        reply = await asyncio.to_thread(push, server, name, insecure=True, stream=False)
        assert (reply.status, reply.content_type, reply.body) == (200, "application/json", b'{"status":"success"}')


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("nope", "model 'nope:latest' not found"),
        ("127.0.0.1:9/me/nope:v1", "model '127.0.0.1:9/me/nope:v1' not found"),
        ("../nope", "invalid model name"),
    ],
)
def test_s59_n120_a_model_that_is_not_here(server: Server, model: str, text: str) -> None:
    """S-59, N-120: two lines and an error, or 500 unstreamed."""
    assert push(server, model).lines() == [RETRIEVING, NOT_RETRIEVED, {"error": text}]
    reply = push(server, model, stream=False)
    assert (reply.status, reply.json()) == (500, {"error": text})


def test_n41_a_name_is_needed(server: Server) -> None:
    """N-41"""
    for path, body, text in (
        ("/api/pull", {}, "invalid model name"),
        ("/api/push", {}, "model is required"),
        ("/api/push", {"model": " ", "insecure": True}, "model is required"),
        ("/api/push", None, "missing request body"),
    ):
        reply = server.post(path, body)
        assert (reply.status, reply.error) == (400, text)


async def test_what_a_registry_refuses_is_told_in_its_words(server: Server, weights: bytes) -> None:
    refusals = {"MANIFEST": Refuse(403, "denied:\x1b[31m not\r\nyours"), "POST": Refuse(401)}
    texts = ("403: denied: [31m not yours", "unauthorized: access denied")
    for (step, refusal), text in zip(refusals.items(), texts, strict=True):
        async with UploadRegistry(faults={step: [refusal]}) as registry:
            name = f"{registry.host}/me/m"
            model_folders.add(server.models, name, weights)
            assert (await pushed(server, f"http://{name}"))[-1] == {"error": text}
    assert "\x1b" not in server.log.read_text()


async def test_x36_what_we_send_comes_back_to_nobody(server: Server) -> None:
    """X-36: a registry that repeats the login that was meant for it; it is in no reply and in no log."""
    login = base64.b64encode(b"ann:correct-horse").decode()
    async with UploadRegistry(password=login, faults={"POST": [Refuse(403, "you said ", echo=True)]}) as registry:
        name = f"{registry.host}/me/m"
        model_folders.add(server.models, name, b"weights")
        place = server.home / ".ollama/llamero/registries.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps({"auths": {registry.host: {"auth": login}}}))
        said = (await pushed(server, f"http://{name}"))[-1]["error"]
        assert said == "403: you said Basic [redacted]"
        place.unlink()
    for text in (said, server.log.read_text()):
        assert login not in text
        assert "correct-horse" not in text


def test_where_a_push_may_go(server: Server) -> None:
    """Plain http to a public host takes `insecure`; metadata services and this server itself are sent nothing."""
    for name, text in (
        ("http://192.0.2.1/me/m", "insecure protocol http"),
        ("169.254.169.254/me/m", "169.254.169.254:443 is a reserved address"),
        (f"http://{server.host}/me/m", f"{server.host} is this server itself"),
    ):
        model_folders.add(server.models, name.removeprefix("http://"), b"w")
        said = push(server, name).lines()
        assert said[0] == RETRIEVING
        assert said[-1]["error"].startswith(text)


async def test_a_share_takes_no_pushes(server: Server, tmp_path: Path) -> None:
    with running(tmp_path, tmp_path / "models", LLAMERO_SHARE="1") as share:
        name = f"{share.host}/library/m"
        model_folders.add(server.models, name, b"w")
        before = tree(share.models) if share.models.exists() else {}
        error = (await pushed(server, f"http://{name}"))[-1]["error"]
        assert error == '405: {"errors":[{"code":"UNSUPPORTED","message":"method not allowed"}]}'
        assert (tree(share.models) if share.models.exists() else {}) == before


# --- the course of it ----------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_ends_its_push(server: Server, weights: bytes) -> None:
    async with UploadRegistry(faults={"PATCH": [Hang()]}) as registry:
        name = f"{registry.host}/me/m"
        model_folders.add(server.models, name, weights)

        def leave() -> None:
            with server.streaming("/api/push", {"model": f"http://{name}"}) as reply:
                assert reply.readline() == b'{"status":"retrieving manifest"}\n'
                deadline = time.monotonic() + 10
                while "PATCH" not in registry.steps():
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            server.wait_until(lambda: f"push of {name}:latest: cancelled" in server.log.read_text())

        await asyncio.to_thread(leave)
        assert (await pushed(server, f"http://{name}"))[-1] == SUCCESS


async def test_a_push_keeps_to_its_rate(server: Server) -> None:
    async with UploadRegistry() as registry:
        name = f"{registry.host}/me/m"
        model_folders.add(server.models, name, os.urandom(900_000))
        began_s = time.monotonic()
        assert (await pushed(server, f"http://{name}", limit_rate="500KB"))[-1] == SUCCESS
        assert 0.8 < time.monotonic() - began_s < 5


# --- a real registry and the real command --------------------------------------------------------------------------


def ollama(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [OLLAMA, *arguments],
        env=clean_environment(server.home, OLLAMA_HOST=server.host),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_s56_there_and_back_with_a_plain_registry(server: Server, tmp_path: Path, weights: bytes) -> None:
    """S-56: the command, its server, and the CNCF distribution; every byte comes back."""
    with distribution(tmp_path) as registry:
        name = f"{registry.host}/me/m:v1"
        raw = model_folders.add(
            server.models, name, weights, template="{{ .Prompt }}", license="MIT", newline=True
        ).read_bytes()
        done = ollama(server, "push", name, "--insecure")
        assert (done.returncode, done.stdout) == (0, f"\nYou can find your model at:\n\n\t{name}\n")
        assert registry.data_of(digest_of(weights)).read_bytes() == weights

        blobs = {path.name: path.read_bytes() for path in (server.models / "blobs").glob("sha256-*")}
        assert ollama(server, "rm", name).returncode == 0
        assert not (server.models / "blobs" / f"sha256-{hashlib.sha256(weights).hexdigest()}").exists()
        done = ollama(server, "pull", name, "--insecure")
        assert (done.returncode, done.stdout) == (0, "")
        assert model_folders.manifest_path(server.models, name).read_bytes() == raw
        assert {path.name: path.read_bytes() for path in (server.models / "blobs").glob("sha256-*")} == blobs

        missing = ollama(server, "pull", f"{registry.host}/me/m:v2", "--insecure")
        assert (missing.returncode, missing.stderr.splitlines()[-1]) == (
            1,
            "Error: pull model manifest: file does not exist",
        )


async def test_a_broken_line_to_a_plain_registry_is_mended(server: Server, tmp_path: Path, weights: bytes) -> None:
    """Cut once on the way up and once on the way down."""
    with distribution(tmp_path) as registry:
        rules = [Rule(Cut(300_000, "up"), method="PATCH"), Rule(Cut(300_000), method="GET", path="/blobs/", skip=1)]
        async with FaultProxy(registry.host, rules) as proxy:
            name = f"{proxy.host}/me/m"
            raw = model_folders.add(server.models, name, weights).read_bytes()
            assert (await pushed(server, f"http://{name}"))[-1] == SUCCESS
            assert server.call("DELETE", "/api/delete", {"model": name}).status == 200
            reply = await asyncio.to_thread(server.post, "/api/pull", {"model": f"http://{name}"})
            assert reply.lines()[-1] == SUCCESS
            assert model_folders.manifest_path(server.models, name).read_bytes() == raw
        assert [rule.times for rule in rules] == [0, 0]


def test_what_was_pulled_from_one_registry_goes_to_another(server: Server, tmp_path: Path, weights: bytes) -> None:
    """A registry of one's own, filled by hand: pull, copy, push; the manifest stays what it was."""
    with ModelRegistry() as source, distribution(tmp_path) as target:
        model = source.add("library/m:latest", weights, license="MIT")
        assert server.post("/api/pull", {"model": f"http://{source.host}/library/m"}).lines()[-1] == SUCCESS
        names = {"source": f"{source.host}/library/m", "destination": f"{target.host}/library/m"}
        assert server.post("/api/copy", names).status == 200
        assert push(server, names["destination"], insecure=True).lines()[-1] == SUCCESS
        assert target.data_of(model.digest).read_bytes() == model.raw
