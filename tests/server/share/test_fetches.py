"""`LLAMERO_SHARE=through`: what is asked for and is not here is fetched first (store-registry GAP-12)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from llamero.errors import DiskFull, ModelNotFound, RegistryError
from llamero.names import ModelName
from llamero.server.share.fetches import MAX_FETCHES
from tests import model_folders as folder
from tests.running import Reply
from tests.server.share.in_process import LocalShare

MANIFEST = "/v2/library/m/manifests/latest"


class Upstream:
    """A registry that gives `m` once it is let, and what `error` says for anything else."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.asked: list[str] = []
        self.started = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.has_answered = asyncio.Event()
        self.error: Exception = ModelNotFound("file does not exist")

    async def fetch(self, name: ModelName) -> None:
        self.asked.append(name.full)
        self.started.release()
        await self.may_answer.wait()
        if name.model != "m":
            raise self.error
        folder.add(self.models, f"{name.host}/{name.namespace}/m:{name.tag}", b"weights")
        self.has_answered.set()


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "models")


@pytest.fixture
def share(tmp_path: Path, upstream: Upstream) -> LocalShare:
    return LocalShare(upstream.models, tmp_path / "share_keys", upstream.fetch, api_key="the-key-of-this-server")


KEY = {"Authorization": "Bearer the-key-of-this-server"}


def problem(reply: Reply) -> tuple[int, str, str]:
    (only,) = reply.json()["errors"]
    return reply.status, only["code"], only["message"]


async def test_a_missing_model_is_fetched_once_for_all_who_ask(share: LocalShare, upstream: Upstream) -> None:
    waiting = [asyncio.create_task(share.send(method, MANIFEST, KEY)) for method in ("GET", "GET", "HEAD")]
    await upstream.started.acquire()
    upstream.may_answer.set()
    replies = await asyncio.gather(*waiting)
    assert [reply.status for reply in replies] == [200] * 3
    assert upstream.asked == ["registry.ollama.ai/library/m:latest"]
    assert (await share.send("GET", MANIFEST, KEY)).status == 200
    assert len(upstream.asked) == 1


async def test_it_comes_from_the_host_that_is_named(share: LocalShare, upstream: Upstream) -> None:
    upstream.may_answer.set()
    assert (await share.send("GET", "/v2/org/m/manifests/q4?ns=hf.co", KEY)).status == 200
    assert upstream.asked == ["hf.co/org/m:q4"]


async def test_a_fetch_goes_on_when_its_client_leaves(share: LocalShare, upstream: Upstream) -> None:
    client = asyncio.create_task(share.send("GET", MANIFEST, KEY))
    await upstream.started.acquire()
    client.cancel()
    await asyncio.wait([client])
    upstream.may_answer.set()
    await upstream.has_answered.wait()
    assert (await share.send("GET", MANIFEST, KEY)).status == 200
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (ModelNotFound("file does not exist"), (404, "MANIFEST_UNKNOWN", "file does not exist")),
        (RegistryError("pull model manifest: 500: broken"), (502, "UNAVAILABLE", "pull model manifest: 500: broken")),
        (DiskFull("write blob: no space left on device"), (502, "UNAVAILABLE", "write blob: no space left on device")),
    ],
)
async def test_why_it_cannot_be_fetched_is_said(
    share: LocalShare, upstream: Upstream, error: Exception, answer: tuple[int, str, str]
) -> None:
    upstream.error = error
    upstream.may_answer.set()
    assert problem(await share.send("GET", "/v2/library/none/manifests/latest", KEY)) == answer
    assert problem(await share.send("GET", "/v2/library/none/manifests/latest", KEY)) == answer
    assert len(upstream.asked) == 2  # a failure is not remembered


async def test_only_so_many_are_fetched_at_once(share: LocalShare, upstream: Upstream) -> None:
    paths = [f"/v2/library/m/manifests/{number}" for number in range(MAX_FETCHES)]
    waiting = [asyncio.create_task(share.send("GET", path, KEY)) for path in paths]
    for _ in paths:
        await upstream.started.acquire()
    busy = await share.send("GET", MANIFEST, KEY)
    assert (problem(busy)[:2], busy.headers["Retry-After"]) == ((503, "UNAVAILABLE"), "1")
    upstream.may_answer.set()
    assert [reply.status for reply in await asyncio.gather(*waiting)] == [200] * MAX_FETCHES
    assert (await share.send("GET", MANIFEST, KEY)).status == 200


async def test_nothing_is_fetched_for_what_has_no_tag_or_no_right_to_it(
    share: LocalShare, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.may_answer.set()
    assert (await share.send("GET", MANIFEST)).status == 401
    assert (await share.send("GET", f"/v2/library/m/manifests/sha256:{'0' * 64}", KEY)).status == 404
    assert (await share.send("GET", "/v2/library/m/tags/list", KEY)).status == 404
    assert (await share.send("GET", f"/v2/library/m/blobs/sha256:{'0' * 64}", KEY)).status == 404
    assert (await share.send("GET", "/v2/library/-/manifests/latest", KEY)).status == 400
    assert upstream.asked == []

    without_keys = LocalShare(upstream.models, tmp_path / "share_keys", upstream.fetch)
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert (await without_keys.send("GET", MANIFEST, forwarded)).status == 404  # a stranger may read, not download
    assert upstream.asked == []
    assert (await without_keys.send("GET", MANIFEST)).status == 200
    assert (await without_keys.send("GET", MANIFEST, forwarded)).status == 200
