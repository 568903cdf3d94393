"""The decisions of a pull that need no server process: who is asked for what, in which order, and what fits.

Source: store-registry §3, GAP-08, GAP-09, GAP-12; security §10.1. The rest is in tests/server/test_pull_api.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llamero.config import Settings
from llamero.errors import DiskFull, Forbidden, RegistryAnswered, RegistryError
from llamero.messages import Progress
from llamero.names import ModelName
from llamero.registry.limit import RateLimit
from llamero.registry.network import Network
from llamero.registry.pull import Puller, PullRequest
from llamero.store import Store
from tests.registry.model_registry import Answer, ModelRegistry, digest_of
from tests.small_disk import small_disk

WEIGHTS = os.urandom(50_000)
MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def registry() -> Iterator[ModelRegistry]:
    with ModelRegistry() as started:
        yield started


def puller(store: Store, tmp_path: Path, **env: str) -> Puller:
    settings = Settings.from_env({"HOME": str(tmp_path), "OLLAMA_MODELS": str(store.root)} | env)
    assert not settings.warnings
    network = Network(settings.home, settings.registry_env, settings.allow_private_registries)
    return Puller(store, settings, network, RateLimit())


def wanted(registry: ModelRegistry, **more: Any) -> PullRequest:
    """`library/m` of a registry, asked for by somebody at this machine."""
    return PullRequest(**({"name": ModelName.parse(f"http://{registry.host}/library/m"), "trusted": True} | more))


async def statuses(pulling: Puller, request: PullRequest) -> list[str]:
    reported: list[Progress] = []
    await pulling.pull(request, reported.append)
    return [progress.status for progress in reported if not progress.digest]


async def test_a_stranger_cannot_have_this_network_asked(store: Store, tmp_path: Path, registry: ModelRegistry) -> None:
    registry.add("library/m:latest", WEIGHTS)
    pulling = puller(store, tmp_path)
    for request in (wanted(registry, trusted=False), wanted(registry, trusted=False, insecure=True)):
        with pytest.raises(Forbidden, match=f"^{registry.host} is a private address"):
            await pulling.pull(request, lambda progress: None)
        with pytest.raises(Forbidden):
            await pulling.manifest(request)
    assert registry.asked == []


async def test_a_stranger_cannot_name_a_neighbour_but_configured_ones_are_asked(
    store: Store, tmp_path: Path, registry: ModelRegistry
) -> None:
    registry.add("library/m:latest", WEIGHTS)
    with ModelRegistry() as named, ModelRegistry() as configured:
        configured.add("library/m:latest", WEIGHTS)
        env = {"LLAMERO_ALLOW_PRIVATE_REGISTRIES": registry.host, "LLAMERO_PEERS": f"{configured.url}/"}
        said = await statuses(puller(store, tmp_path, **env), wanted(registry, trusted=False, peer=named.url))
        assert said[1].startswith(f"peer {named.url} is left out: {named.host} is a private address")
        assert (named.asked, len(configured.bodies(digest_of(WEIGHTS)))) == ([], 1)
        assert configured.asked[0].path == "/v2/"


async def test_who_is_asked_first(store: Store, tmp_path: Path, registry: ModelRegistry) -> None:
    """For the manifest mirrors and then the registry; for blobs the named neighbour before all others."""
    with ExitStack() as stack:
        named, configured, mirror = (stack.enter_context(ModelRegistry()) for _ in range(3))
        everybody = (named, configured, mirror, registry)
        model = registry.add("library/m:latest", *(bytes([number]) * 1000 for number in range(len(everybody))))
        mirror.put("library/m:latest", model.raw)
        # each has one layer more than those before it
        for number, each in enumerate(everybody):
            each.blobs = {digest_of(bytes([n]) * 1000): bytes([n]) * 1000 for n in range(number + 1)}
        registry.blobs[digest_of(b"{}")] = b"{}"
        env = {
            "LLAMERO_ALLOW_PRIVATE_REGISTRIES": f"{mirror.host},{configured.host}",
            "LLAMERO_MIRRORS": f"{registry.host}={mirror.url}",
            "LLAMERO_PEERS": configured.url,
        }
        assert (await statuses(puller(store, tmp_path, **env), wanted(registry, peer=named.url)))[-1] == "success"
        for number, each in enumerate(everybody):
            assert [len(each.bodies(digest_of(bytes([n]) * 1000))) for n in range(4)] == [
                int(n == number) for n in range(4)
            ]
        manifests = [sum("/manifests/" in path for path in each.paths) for each in everybody]
        assert manifests == [0, 0, 1, 0]


async def test_neighbours_below_a_path_are_found_there(store: Store, tmp_path: Path, registry: ModelRegistry) -> None:
    registry.add("library/m:latest", WEIGHTS)
    with ModelRegistry() as peer:
        peer.answers["/llm/v2/"] = Answer(200, b"{}")
        said = await statuses(puller(store, tmp_path), wanted(registry, peer=f"{peer.url}/llm/"))
        assert said == ["pulling manifest", "verifying sha256 digest", "writing manifest", "success"]
        assert peer.paths[0] == "/llm/v2/"
        assert {path.partition("/v2/")[0] for path in peer.paths} == {"/llm"}


async def test_a_neighbour_that_sleeps_costs_two_seconds(store: Store, tmp_path: Path, registry: ModelRegistry) -> None:
    registry.add("library/m:latest", WEIGHTS)
    pulling = puller(store, tmp_path)
    with ModelRegistry() as peer:
        peer.is_silent = True
        began_s = time.monotonic()
        said = await statuses(pulling, wanted(registry, peer=peer.url))
        assert 2 <= time.monotonic() - began_s < 4
        assert said[1] == f"peer {peer.url} is left out: it does not answer"
        assert len(peer.asked) == 1
        await pulling.pull(wanted(registry, peer=peer.url), lambda progress: None)
        assert len(peer.asked) == 1, "nothing is missing: nobody is asked for blobs"


async def test_a_registry_that_does_not_answer_in_time(store: Store, tmp_path: Path, registry: ModelRegistry) -> None:
    """What a starter waits for: retryable, as if nobody had been there."""
    registry.is_silent = True
    with pytest.raises(RegistryError, match=r"^pull model manifest: the registry does not answer$") as caught:
        await puller(store, tmp_path).pull(wanted(registry), lambda progress: None, patience_s=0.2)
    assert caught.value.retryable


async def test_what_the_registry_has_now(store: Store, tmp_path: Path, registry: ModelRegistry) -> None:
    model = registry.add("library/m:latest", WEIGHTS)
    pulling = puller(store, tmp_path)
    assert (await pulling.manifest(wanted(registry))).raw == model.raw
    registry.answers.clear()
    with pytest.raises(RegistryAnswered, match=r"^pull model manifest: file does not exist$") as caught:
        await pulling.manifest(wanted(registry))
    assert (caught.value.answer_status, caught.value.retryable) == (404, False)
    assert not store.root.exists()


async def test_what_has_arrived_needs_no_space_again(tmp_path: Path, registry: ModelRegistry) -> None:
    """A pull that filled three quarters of a disk and was interrupted goes on; one that does not fit does not begin."""
    weights = os.urandom(40 * MIB)
    model = registry.add("library/m:latest", weights)
    registry.add("library/m:large", weights, os.urandom(20 * MIB))
    with small_disk(tmp_path / "disk", 60 * MIB) as disk:
        store = Store(disk)
        large = ModelName.parse(f"http://{registry.host}/library/m:large")
        with pytest.raises(DiskFull, match=r"^not enough disk space: 62914562 bytes are needed, \d+ are free$"):
            await puller(store, tmp_path).pull(wanted(registry, name=large), lambda progress: None)
        assert list((disk / "blobs").iterdir()) == []

        digest = model.digests[1].replace(":", "-")
        (disk / f"blobs/{digest}-partial").write_bytes(weights[: 30 * MIB])
        os.truncate(disk / f"blobs/{digest}-partial", len(weights))
        state = {"N": 0, "Offset": 0, "Size": len(weights), "Completed": 30 * MIB}
        (disk / f"blobs/{digest}-partial-0").write_text(json.dumps(state, separators=(",", ":")) + "\n")
        assert (await statuses(puller(store, tmp_path), wanted(registry)))[-1] == "success"
        assert (disk / f"blobs/{digest}").read_bytes() == weights
        assert registry.sent_bytes < 11 * MIB


async def test_a_pull_that_is_cancelled_is_over_at_once(store: Store, tmp_path: Path, registry: ModelRegistry) -> None:
    model = registry.add("library/m:latest", WEIGHTS)
    registry.hold(model.digests[1])
    task = asyncio.create_task(puller(store, tmp_path).pull(wanted(registry), lambda progress: None))
    await asyncio.to_thread(registry.wait_for, lambda: registry.sent_bytes > 0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=2)
    assert done
    assert task.cancelled()
    assert await asyncio.to_thread(registry.hung_up.wait, 5)
    registry.release()
    assert (await statuses(puller(store, tmp_path), wanted(registry)))[-1] == "success"
