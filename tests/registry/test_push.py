"""A whole model on its way: to a real plain registry, and to one that keeps to a script (store-registry §4)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import BlobNotFound, ModelNotFound, RegistryError
from llamero.messages import Progress
from llamero.names import ModelName
from llamero.registry.download import download
from llamero.registry.identity import ensure_key_pair
from llamero.registry.limit import Pace
from llamero.registry.push import push
from llamero.registry.session import Network, Origin, Session
from llamero.registry.upload import LAYERS, TENSORS
from llamero.store import Store
from llamero.store.manifests import parse_manifest
from tests import model_folders
from tests.registry.distribution import Distribution, distribution
from tests.registry.fault_proxy import Answer, Cut, FaultProxy, Rule
from tests.registry.upload_registry import Refuse, UploadRegistry

WEIGHTS = os.urandom(1 << 20)
TEMPLATE = "{{ .Prompt }}"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"

QUICK = {"layers": replace(LAYERS, delays_s=(0,) * 5), "tensors": replace(TENSORS, delays_s=(0,) * 5)}
"""Without pauses between tries."""
IN_PARTS = {"layers": replace(LAYERS, min_part_bytes=100_000, max_part_bytes=100_000, delays_s=(0,) * 5)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Distribution]:
    """The CNCF distribution."""
    with distribution(tmp_path / "registry") as registry:
        yield registry


def add(store: Store, folder: Path, name: str, *weights: bytes, **more: Any) -> ModelName:
    """A model made here, under a name that leads to a registry."""
    model_folders.add(folder, "m", *(weights or (WEIGHTS,)), **({"template": TEMPLATE, "newline": True} | more))
    return store.copy(ModelName.parse("m"), ModelName.parse(name))


def add_tensors(store: Store, folder: Path, name: str, count: int = 12) -> ModelName:
    """A model of many blobs."""
    return add(store, folder, name, more=[("tensor", bytes([number]) * 100) for number in range(count)])


@asynccontextmanager
async def repository(folder: Path, name: ModelName, host: str = "") -> AsyncIterator[Session]:
    ensure_key_pair(folder / "home")
    place = f"http://{host or name.host}"
    origin = Origin(place, name.namespace, name.model, "registry", name.host, may_be_private=True)
    network = Network(folder / "home", allow_private=("127.0.0.1",), first_byte_timeout_s=5)
    async with Session(origin, network) as session:
        yield session


async def pushed(store: Store, name: ModelName, host: str = "", **manner: Any) -> list[Progress]:
    """Push to the registry of the name (or to the one at `host`), and give back all that was reported."""
    reported: list[Progress] = []
    async with repository(store.root, name, host) as session:
        await push(store, name, session, pace=Pace(), report=reported.append, **(manner or QUICK))
    return reported


async def pulled(name: ModelName, folder: Path) -> Store:
    """A store that has the model from its registry."""
    store = Store(folder)
    async with repository(folder, name) as session:
        raw = await session.manifest(name.tag)
        for layer in parse_manifest(raw).blobs:
            await download(store, layer.digest, layer.size_bytes, [session], pace=Pace(), report=lambda n: None)
    store.write(name, raw)
    return store


def statuses(reported: list[Progress]) -> list[str]:
    return [status for status, _ in groupby(progress.status for progress in reported)]


def short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


# --- a plain registry ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
async def test_a_plain_registry_gives_back_what_it_got(
    tmp_path: Path, store: Store, folder: Path, relative: bool
) -> None:
    """partly S-56: push and pull against the CNCF distribution 2.8, http, filesystem storage; and GAP-07."""
    with distribution(tmp_path / "registry", http={"relativeurls": relative}) as plain:
        name = add(store, folder, f"{plain.host}/me/m:v1", more=[("license", b""), ("license", b"MIT")])
        await pushed(store, name, **IN_PARTS)
        model, raw = store.resolve(name), store.manifests.read(name).manifest.raw
        for layer in model.manifest.blobs:
            assert plain.data_of(str(layer.digest)).read_bytes() == store.blobs.path(layer.digest).read_bytes()
        other = await pulled(name, tmp_path / "other")
        assert other.manifests.read(name).manifest.raw == raw
        assert other.resolve(name).digest == model.digest
        assert model_folders.blobs(tmp_path / "other") == model_folders.blobs(folder)


async def test_s52_what_the_registry_has_is_not_sent_again(store: Store, folder: Path, plain: Distribution) -> None:
    """partly S-52"""
    name = add(store, folder, f"{plain.host}/me/m")
    await pushed(store, name)
    async with FaultProxy(plain.host) as proxy:
        reported = await pushed(store, name, proxy.host)
        assert [request.split()[0] for request in proxy.requests] == ["HEAD", "HEAD", "HEAD", "PUT"]
    lines = [(progress.completed_bytes, progress.total_bytes) for progress in reported if progress.digest]
    assert lines == [(1 << 20, 1 << 20), (13, 13), (2, 2)], "one full line for each"


async def test_s53_a_plain_registry_mounts_from_its_other_repositories(
    store: Store, folder: Path, plain: Distribution
) -> None:
    """partly S-53: by the name that `create` writes into a layer, on a registry that really has the blob."""
    await pushed(store, add(store, folder, f"{plain.host}/me/base"))
    name = add(
        store, folder, f"{plain.host}/me/derived", from_name=f"{plain.host}/me/base:latest", config={"os": "linux"}
    )
    async with FaultProxy(plain.host) as proxy:
        await pushed(store, name, proxy.host)
        sent = [request.split()[0] for request in proxy.requests]
    # the weights, the template, and the config, which is of no other model
    assert sent == ["HEAD", "POST", "HEAD", "POST", "HEAD", "POST", "PATCH", "PUT", "PUT"]


@pytest.mark.parametrize("after_bytes", [0, 70_000, 99_999])
async def test_s57_a_plain_registry_and_a_broken_connection(
    store: Store, folder: Path, plain: Distribution, after_bytes: int
) -> None:
    """partly S-57: whatever the real program kept of the part, and whatever it says about it, the blob arrives."""
    name = add(store, folder, f"{plain.host}/me/m")
    rules = [Rule(Cut(after_bytes, way="up"), method="PATCH", skip=2), Rule(Answer(502), method="PATCH", skip=5)]
    async with FaultProxy(plain.host, rules) as proxy:
        await pushed(store, name, proxy.host, **IN_PARTS)
        assert [rule.times for rule in rules] == [0, 0], "both faults happened"
    digest = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
    assert plain.data_of(digest).read_bytes() == WEIGHTS


async def test_tensors_go_to_a_plain_registry(tmp_path: Path, store: Store, folder: Path, plain: Distribution) -> None:
    """Without the `digest` parameter, which some take for an upload in one request (§4.4)."""
    name = add_tensors(store, folder, f"{plain.host}/me/tensors")
    async with FaultProxy(plain.host) as proxy:
        await pushed(store, name, proxy.host)
        assert not [request for request in proxy.requests if request.startswith("POST") and "digest=" in request]
    other = await pulled(name, tmp_path / "other")
    assert model_folders.blobs(tmp_path / "other") == model_folders.blobs(folder)
    assert other.resolve(name).digest == store.resolve(name).digest


async def test_an_upper_case_repository_is_explained(store: Store, folder: Path, plain: Distribution) -> None:
    name = add(store, folder, f"{plain.host}/Me/Mine")
    with pytest.raises(RegistryError, match="lower-case names only: copy the model to me/mine"):
        await pushed(store, name)


@pytest.mark.parametrize("media_type", [MANIFEST, OCI_MANIFEST, None])
async def test_a_manifest_arrives_byte_for_byte_and_under_its_own_type(
    store: Store, folder: Path, plain: Distribution, media_type: str | None
) -> None:
    """GAP-07: spacing, order, unknown fields and annotations are kept, so the digest is the same on both sides."""
    document = {
        "layers": [model_folders.layer(folder, model_folders.IMAGE + "model", WEIGHTS) | {"annotations": {"a": "b"}}],
        "config": model_folders.layer(folder, model_folders.CONFIG, b"{}"),
        "unknown": {"kept": True},
        "schemaVersion": 2,
    } | ({"mediaType": media_type} if media_type else {})
    raw = json.dumps(document, indent=3).encode()
    model_folders.write(folder, "m", raw)
    name = store.copy(ModelName.parse("m"), ModelName.parse(f"{plain.host}/me/m"))
    await pushed(store, name)
    async with repository(folder, name) as session:
        assert await session.manifest(f"sha256:{hashlib.sha256(raw).hexdigest()}") == raw


# --- what is told --------------------------------------------------------------------------------------------------


async def test_s52_the_steps_in_their_order(store: Store, folder: Path) -> None:
    """S-52: each layer in its order, then the config; the last line of each is full. The caller says `success`."""
    async with UploadRegistry() as registry:
        name = add(store, folder, f"{registry.host}/me/m", license="MIT")
        layers = [WEIGHTS, TEMPLATE.encode(), b"MIT", b"{}"]
        registry.blobs["me/m", f"sha256:{hashlib.sha256(b'MIT').hexdigest()}"] = b"MIT"
        reported = await pushed(store, name)
        assert statuses(reported) == [
            "retrieving manifest",
            *(f"pushing {short(content)}" for content in layers),
            "pushing manifest",
        ]
        for content in layers:
            lines = [progress for progress in reported if progress.status == f"pushing {short(content)}"]
            assert {(line.digest, line.total_bytes) for line in lines} == {
                (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
            }
            assert lines[-1].completed_bytes == len(content)
        assert registry.steps().count("POST") == 3, "one of the four was there"
        assert registry.manifests["me/m", "latest"] == (MANIFEST, store.manifests.read(name).manifest.raw)


async def test_s59_a_model_that_is_not_here(store: Store) -> None:
    """S-59"""
    reported: list[Progress] = []
    name = ModelName.parse("127.0.0.1:1/me/m")
    async with repository(store.root, name) as session:
        with pytest.raises(ModelNotFound, match="not found") as caught:
            await push(store, name, session, pace=Pace(), report=reported.append)
    assert statuses(reported) == ["retrieving manifest", "couldn't retrieve manifest"]
    assert caught.value.status == 500


async def test_lines_are_few(store: Store, folder: Path) -> None:
    """A line every 60 ms, not one for each block."""
    async with UploadRegistry() as registry:
        name = add(store, folder, f"{registry.host}/me/m", os.urandom(16 << 20))
        started = asyncio.get_running_loop().time()
        reported = await pushed(store, name)
        seconds = asyncio.get_running_loop().time() - started
    assert len(reported) < 10 + seconds / 0.06


async def test_many_small_blobs_are_told_as_one(store: Store, folder: Path) -> None:
    async with UploadRegistry("direct", token=True) as registry:
        name = add_tensors(store, folder, f"{registry.host}/me/tensors")
        total = store.resolve(name).manifest.size_bytes
        [known] = [layer for layer in store.resolve(name).manifest.layers if layer.digest.short == short(b"\0" * 100)]
        registry.blobs["me/tensors", str(known.digest)] = b"\0" * 100
        reported = await pushed(store, name)
        assert statuses(reported) == ["retrieving manifest", "pushing model", "pushing manifest"]
        lines = [progress for progress in reported if progress.status == "pushing model"]
        assert {(line.digest, line.total_bytes) for line in lines} == {("sha256:model", total)}
        assert lines[0].completed_bytes == 100, "what the registry has is done"
        assert lines[-1].completed_bytes == total
        assert len(registry.of("STORE")) == 11 + 3
        assert registry.manifests["me/tensors", "latest"][1] == store.manifests.read(name).manifest.raw


@pytest.mark.parametrize("streams", [1, 4])
async def test_so_many_blobs_travel_at_once(store: Store, folder: Path, streams: int) -> None:
    async with UploadRegistry("direct", parts_together=streams) as registry:
        name = add_tensors(store, folder, f"{registry.host}/me/tensors")
        await pushed(store, name, streams=streams)
        assert registry.most_together == streams


# --- what goes wrong -----------------------------------------------------------------------------------------------


async def test_s53_the_same_blob_goes_to_every_repository_that_lacks_it(store: Store, folder: Path) -> None:
    """partly S-53: mounted into one, it is still uploaded to the next."""
    async with UploadRegistry() as registry:
        names = [add(store, folder, f"{registry.host}/me/{model}", from_name="base") for model in ("one", "two")]
        digest = f"sha256:{hashlib.sha256(WEIGHTS).hexdigest()}"
        registry.mountable.add(("library/base", digest))
        await pushed(store, names[0])
        registry.mountable.clear()
        await pushed(store, names[1])
        assert registry.blobs["me/one", digest] == b""
        assert registry.blobs["me/two", digest] == WEIGHTS


async def test_a_model_deleted_meanwhile_is_pushed_to_the_end(store: Store, folder: Path) -> None:
    """A blob that somebody relies on is not removed (security §9.2)."""
    async with UploadRegistry() as registry:
        name = add(store, folder, f"{registry.host}/me/m")
        store.delete(ModelName.parse("m"))
        registry.on_step = lambda step: step == "PATCH" and len(registry.of("PATCH")) == 1 and store.delete(name)
        await pushed(store, name)
        assert ("me/m", "latest") in registry.manifests
    assert model_folders.blobs(folder) == set()


async def test_a_model_without_one_of_its_blobs_is_not_published(store: Store, folder: Path) -> None:
    async with UploadRegistry() as registry:
        name = add(store, folder, f"{registry.host}/me/m")
        (folder / "blobs" / f"sha256-{hashlib.sha256(TEMPLATE.encode()).hexdigest()}").unlink()
        with pytest.raises(BlobNotFound):
            await pushed(store, name)
        assert registry.manifests == {}


async def test_a_registry_that_wants_another_account_says_so(store: Store, folder: Path) -> None:
    async with UploadRegistry(faults={"POST": [Refuse(401)]}) as registry:
        name = add(store, folder, f"{registry.host}/me/m")
        with pytest.raises(RegistryError, match=r"^unauthorized: access denied$"):
            await pushed(store, name)


@pytest.mark.parametrize("step", ["HEAD", "POST", "MANIFEST"])
async def test_the_words_of_a_registry_reach_the_person(store: Store, folder: Path, step: str) -> None:
    async with UploadRegistry(faults={step: [Refuse(403, "access denied: you do not own this namespace")]}) as registry:
        name = add(store, folder, f"{registry.host}/me/m")
        words = "" if step == "HEAD" else ": access denied: you do not own this namespace"
        with pytest.raises(RegistryError, match=f"^403{words}$"):
            await pushed(store, name)


async def test_a_failure_among_many_blobs_is_one_error(store: Store, folder: Path) -> None:
    async with UploadRegistry("direct", faults={"STORE": [None, None, *[Refuse(403)] * 2]}) as registry:
        name = add_tensors(store, folder, f"{registry.host}/me/tensors")
        with pytest.raises(RegistryError, match="http status 403 Forbidden"):
            await pushed(store, name)
        registry.faults.clear()
        assert registry.manifests == {}


async def test_a_registry_that_is_not_there(store: Store, folder: Path) -> None:
    name = add(store, folder, "127.0.0.1:1/me/m")
    with pytest.raises(RegistryError, match="connection refused") as caught:
        await pushed(store, name)
    assert caught.value.retryable
