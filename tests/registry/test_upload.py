"""One blob on its way into a repository (store-registry §4.1, §4.3, §4.4)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from llamero.errors import BlobNotFound, Forbidden, RegistryError, StorageError
from llamero.names import Digest
from llamero.registry.identity import ensure_key_pair
from llamero.registry.limit import Pace, RateLimit
from llamero.registry.session import Network, Origin, Session
from llamero.registry.upload import LAYERS, TENSORS, Manner, etag, is_there, split, upload
from llamero.store import Store
from llamero.store.manifests import MODEL, Layer
from tests.registry.upload_registry import Cut, Forget, Hang, LoseAnswer, Refuse, RevokeToken, UploadRegistry

CONTENT = b"aaaaaaaaaabbbbbbbbbbccccc"
"""Three parts of ten bytes, the last one shorter."""

SMALL = replace(LAYERS, min_part_bytes=10, max_part_bytes=10, delays_s=(0,) * 5)
"""The manner of large blobs for small ones, and without pauses between tries."""
DIRECT = replace(TENSORS, min_part_bytes=10, max_part_bytes=10, delays_s=(0,) * 5)

DELAYS_S = (1, 2, 4, 8, 16)

MB = 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture
def layer(store: Store) -> Layer:
    return layer_of(store, CONTENT)


def layer_of(store: Store, content: bytes, from_name: str = "") -> Layer:
    return Layer(MODEL, store.blobs.put(content), len(content), from_name)


@asynccontextmanager
async def repository(
    registry: UploadRegistry, tmp_path: Path, name: str = "me/m", *, storage_allowed: bool = True, url: str = ""
) -> AsyncIterator[Session]:
    """A session with a repository of the registry."""
    ensure_key_pair(tmp_path / "home")
    namespace, model = name.split("/")
    origin = Origin(url or registry.url, namespace, model, "registry", registry.host, may_be_private=True)
    network = Network(
        tmp_path / "home", allow_private=("127.0.0.1",) if storage_allowed else (), first_byte_timeout_s=5
    )
    async with Session(origin, network) as session:
        yield session


async def sent(
    registry: UploadRegistry, tmp_path: Path, store: Store, layer: Layer, manner: Manner = SMALL, name: str = "me/m"
) -> list[int]:
    """Upload a blob; check that the repository has it, and give back what was reported."""
    reported: list[int] = []
    async with repository(registry, tmp_path, name) as session:
        await upload(store.blobs, layer, session, pace=Pace(), report=reported.append, manner=manner)
    content = await asyncio.to_thread(store.blobs.path(layer.digest).read_bytes)
    assert registry.blobs[name, str(layer.digest)] in (content, b"")  # nothing when it was mounted
    return reported


# --- parts and their sum -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        pytest.param(0, [], id="nothing"),
        pytest.param(50 * MB, [50 * MB], id="less than a part"),
        pytest.param(1_200 * MB, [100 * MB] * 12, id="smallest parts"),
        pytest.param(4_700 * MB, [293_750_000] * 16, id="sixteen"),
        pytest.param(42_000 * MB, [1_000 * MB] * 42, id="largest parts"),
        pytest.param(250 * MB, [100 * MB, 100 * MB, 50 * MB], id="a rest"),
    ],
)
def test_a_blob_is_cut_into_sixteen_parts_within_limits(size: int, sizes: list[int]) -> None:
    parts = list(split(size, LAYERS))
    assert [part_bytes for _, part_bytes in parts] == sizes
    assert [offset for offset, _ in parts] == [sum(sizes[:number]) for number in range(len(sizes))]


def test_the_largest_parts_of_tensors_are_counted_in_mib() -> None:
    assert {size for _, size in split(3000 << 20, TENSORS)} == {(3000 << 20) // 16}
    assert max(size for _, size in split(40_000 << 20, TENSORS)) == 1000 << 20
    assert max(size for _, size in split(1000 << 20, TENSORS)) == 100 << 20


async def test_s55_commit_carries_the_md5_of_the_parts_md5s(tmp_path: Path, store: Store) -> None:
    """S-55: the vector of Appendix A, on the wire."""
    async with UploadRegistry() as registry:
        layer = layer_of(store, b"aaaaaaaaaabbbbb")
        await sent(registry, tmp_path, store, layer)
        [commit] = registry.of("PUT")
        assert commit.query["digest"] == str(layer.digest)
        assert commit.query["etag"] == "94bfe67beece4111821a3daf596d366f-2"
        assert commit.query["state"] == "2", "the last upload URL, its own query kept"


async def test_an_empty_blob_is_committed_without_parts(tmp_path: Path, store: Store) -> None:
    async with UploadRegistry() as registry:
        await sent(registry, tmp_path, store, layer_of(store, b""))
        assert registry.steps() == ["POST", "PUT"]
        assert registry.etags == ["d41d8cd98f00b204e9800998ecf8427e-0"]
    assert etag([]) == "d41d8cd98f00b204e9800998ecf8427e-0"


# --- how bytes go --------------------------------------------------------------------------------------------------


async def test_s54_parts_follow_one_another_where_they_are_accepted(tmp_path: Path, store: Store, layer: Layer) -> None:
    """S-54, 202 leads to serial parts. The registry itself compares every header with what §4.1 lists."""
    async with UploadRegistry("serial") as registry:
        reported = await sent(registry, tmp_path, store, layer)
        assert registry.steps() == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
        assert [patch.headers["Content-Range"] for patch in registry.of("PATCH")] == ["0-9", "10-19", "20-24"]
        assert [patch.headers["Content-Length"] for patch in registry.of("PATCH")] == ["10", "10", "5"]
        assert [patch.query["state"] for patch in registry.of("PATCH")] == ["0", "1", "2"]
    assert reported == [10, 20, 25, 25]


async def test_s54_redirected_parts_travel_side_by_side(tmp_path: Path, store: Store) -> None:
    """S-54, 307 leads to PUT without credentials and parallel parts: storage answers none before three are there."""
    layer = layer_of(store, b"".join(bytes([letter]) * 10 for letter in range(20)))
    async with UploadRegistry("redirect", token=True, parts_together=3) as registry:
        reported = await sent(registry, tmp_path, store, layer)
        assert len(registry.of("PATCH")) == len(registry.of("STORE")) == 20
        assert all(patch.headers["Authorization"] == "Bearer token-1" for patch in registry.of("PATCH"))
        assert 3 <= registry.most_together <= 16
        assert registry.etags[0].endswith("-20")
    assert reported[-1] == 200


async def test_never_more_than_sixteen_parts_are_under_way(tmp_path: Path, store: Store) -> None:
    layer = layer_of(store, b"".join(bytes([letter]) * 10 for letter in range(40)))
    async with UploadRegistry("redirect", parts_together=16) as registry:
        await sent(registry, tmp_path, store, layer)
        assert registry.most_together == 16


async def test_the_bearer_stays_at_the_registry_when_parts_go_elsewhere(
    tmp_path: Path, store: Store, layer: Layer
) -> None:
    """partly S-51: of uploads, in all three manners. Storage itself complains about an Authorization header."""
    for style, manner in (("redirect", SMALL), ("direct", DIRECT)):
        async with UploadRegistry(style, token=True) as registry:  # type: ignore[arg-type]
            await sent(registry, tmp_path, store, layer, manner)
            assert registry.of("STORE")
            assert {seen.headers.get("Authorization") for seen in registry.of("STORE")} == {None}
            assert {seen.headers["Authorization"] for seen in registry.of("PUT")} == {"Bearer token-1"}


async def test_the_place_of_a_part_is_judged_like_every_other(tmp_path: Path, store: Store, layer: Layer) -> None:
    """What may be asked because the name says so does not extend to where a registry points (security §10.1)."""
    async with UploadRegistry("redirect") as registry, repository(registry, tmp_path, storage_allowed=False) as session:
        with pytest.raises(Forbidden):
            await upload(store.blobs, layer, session, pace=Pace(), report=lambda n: None, manner=SMALL)
        assert registry.of("STORE") == []


async def test_s58_a_direct_upload_goes_as_it_was_signed(tmp_path: Path, store: Store, layer: Layer) -> None:
    """S-58: the storage compares the raw URL; the signed headers replace ours, and no Authorization goes along."""
    async with UploadRegistry("direct", token=True) as registry:
        await sent(registry, tmp_path, store, layer, DIRECT)
        assert registry.steps() == ["POST", "POST", "STORE", "PUT"], "the second POST has the token"
        begun, stored, commit = registry.seen[1:]
        assert begun.headers["X-Content-Length"] == str(len(CONTENT))
        assert "digest" not in begun.query, "other registries would take it for a whole upload"
        assert stored.headers.getall("Content-Type") == ["application/x-signed"]  # type: ignore[attr-defined]
        assert stored.headers["X-Amz-Meta-Size"] == str(len(CONTENT))
        assert stored.headers["Content-Length"] == str(len(CONTENT))
        assert "Authorization" not in stored.headers
        assert commit.query["digest"] == str(layer.digest)
        assert "etag" not in commit.query


async def test_where_no_direct_upload_is_offered_tensors_go_in_parts(
    tmp_path: Path, store: Store, layer: Layer
) -> None:
    async with UploadRegistry("serial") as registry:
        await sent(registry, tmp_path, store, layer, DIRECT)
        assert registry.steps() == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]


async def test_s53_a_layer_of_another_model_is_mounted(tmp_path: Path, store: Store) -> None:
    """S-53: 201 skips the body, and the same blob is still uploaded to a repository that cannot mount it."""
    layer = layer_of(store, CONTENT, from_name="base:latest")
    async with UploadRegistry(mountable=[("library/base", str(layer.digest))]) as registry:
        assert await sent(registry, tmp_path, store, layer) == [25]
        [begun] = registry.of("POST")
        assert begun.query == {"from": "library/base", "mount": str(layer.digest)}
        assert registry.steps() == ["POST"]

        registry.mountable.clear()
        await sent(registry, tmp_path, store, layer, name="me/other")
        assert registry.blobs["me/other", str(layer.digest)] == CONTENT


async def test_what_is_no_name_is_not_mounted_from(tmp_path: Path, store: Store) -> None:
    async with UploadRegistry() as registry:
        await sent(registry, tmp_path, store, layer_of(store, CONTENT, from_name="/home/me/model.gguf"))
        assert registry.of("POST")[0].query == {}


async def test_the_upload_location_of_docker_goes_before_the_general_one(
    tmp_path: Path, store: Store, layer: Layer
) -> None:
    async with UploadRegistry(decoy=True) as registry:
        await sent(registry, tmp_path, store, layer)


# --- what goes wrong -----------------------------------------------------------------------------------------------


async def test_s57_relative_locations_are_followed(tmp_path: Path, store: Store, layer: Layer) -> None:
    """partly S-57"""
    async with UploadRegistry(relative=True) as registry:
        await sent(registry, tmp_path, store, layer)


async def test_s57_a_broken_part_goes_on_where_the_registry_says(tmp_path: Path, store: Store, layer: Layer) -> None:
    """partly S-57: recovery by upload-status offset; what was kept is not sent again, and the md5s are right."""
    async with UploadRegistry(faults={"PATCH": [None, Cut(7)]}) as registry:
        reported = await sent(registry, tmp_path, store, layer)
        assert registry.steps() == ["POST", "PATCH", "PATCH", "GET", "PATCH", "PATCH", "PUT"]
        assert [patch.headers["Content-Range"] for patch in registry.of("PATCH")] == ["0-9", "10-19", "17-19", "20-24"]
    assert 17 in reported
    assert reported[-1] == 25


async def test_s57_a_part_whose_answer_was_lost_is_not_sent_again(tmp_path: Path, store: Store, layer: Layer) -> None:
    """partly S-57"""
    async with UploadRegistry(moves=False, faults={"PATCH": [None, LoseAnswer()]}) as registry:
        await sent(registry, tmp_path, store, layer)
        assert registry.steps() == ["POST", "PATCH", "PATCH", "GET", "PATCH", "PUT"]


async def test_s57_without_an_offset_a_new_session_begins(tmp_path: Path, store: Store, layer: Layer) -> None:
    """S-57: relative locations too; the blob is sent anew and its progress taken back."""
    async with UploadRegistry(relative=True, tells_offset=False, faults={"PATCH": [None, Cut(7)]}) as registry:
        reported = await sent(registry, tmp_path, store, layer)
        assert registry.steps() == ["POST", "PATCH", "PATCH", "GET", "POST", "PATCH", "PATCH", "PATCH", "PUT"]
    assert 0 in reported[1:]


async def test_a_registry_that_is_busy_keeps_what_it_had(tmp_path: Path, store: Store, layer: Layer) -> None:
    """Such as one that starts anew behind its proxy."""
    async with UploadRegistry(faults={"PATCH": [None, Cut(7)], "GET": [Refuse(503), Refuse(502)]}) as registry:
        await sent(registry, tmp_path, store, layer)
        assert registry.steps() == ["POST", "PATCH", "PATCH", "GET", "GET", "GET", "PATCH", "PATCH", "PUT"]


async def test_a_session_that_the_registry_forgot_is_begun_anew(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(faults={"PATCH": [None, Forget()]}) as registry:
        await sent(registry, tmp_path, store, layer)
        assert registry.steps() == ["POST", "PATCH", "PATCH", "POST", "PATCH", "PATCH", "PATCH", "PUT"]


async def test_a_session_forgotten_before_its_commit_is_begun_anew(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(faults={"PUT": [Forget()]}) as registry:
        await sent(registry, tmp_path, store, layer)
        assert registry.steps()[4:] == ["PUT", "HEAD", "POST", "PATCH", "PATCH", "PATCH", "PUT"]


async def test_a_redirected_part_is_offered_again_to_the_same_url(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(
        "redirect", faults={"PATCH": [None, Refuse(502)], "STORE": [None, Refuse(503)]}
    ) as registry:
        await sent(registry, tmp_path, store, layer)
        assert registry.steps().count("POST") == 1
        assert registry.steps().count("GET") == 0
        assert (registry.steps().count("PATCH"), registry.steps().count("STORE")) == (4, 4)


async def test_progress_of_a_failed_part_is_rolled_back(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry("redirect", faults={"STORE": [Refuse(500)]}) as registry:
        reported = await sent(registry, tmp_path, store, layer)
    assert any(after < before for before, after in pairwise(reported))
    assert max(reported) == reported[-1] == 25


async def test_a_token_that_ends_in_the_middle_is_renewed(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(token=True, faults={"PATCH": [None, RevokeToken()]}) as registry:
        await sent(registry, tmp_path, store, layer)
        assert [patch.headers["Authorization"] for patch in registry.of("PATCH")] == [
            "Bearer token-1",
            "Bearer token-1",
            "Bearer token-3",
            "Bearer token-3",
        ]


async def test_six_tries_and_no_more(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(faults={"PATCH": [Refuse(500, "out of order")] * 6}) as registry:
        with pytest.raises(RegistryError) as caught:
            await sent(registry, tmp_path, store, layer)
        assert str(caught.value) == "max retries exceeded: http status 500 Internal Server Error: out of order"
        assert registry.steps().count("PATCH") == 6


async def test_the_pause_between_tries_doubles(tmp_path: Path, store: Store, layer: Layer) -> None:
    at: list[float] = []
    manner = replace(SMALL, delays_s=tuple(delay / 50 for delay in LAYERS.delays_s))
    async with UploadRegistry(faults={"PATCH": [Refuse(500)] * 6}) as registry:
        registry.on_step = lambda step: step == "PATCH" and at.append(asyncio.get_running_loop().time())
        with pytest.raises(RegistryError):
            await sent(registry, tmp_path, store, layer, manner)
    assert len(at) == 6
    assert all(later - sooner >= seconds / 50 for (sooner, later), seconds in zip(pairwise(at), DELAYS_S, strict=True))


@pytest.mark.parametrize("status", [401, 403, 413])
async def test_a_refusal_for_good_is_not_tried_again(tmp_path: Path, store: Store, layer: Layer, status: int) -> None:
    async with UploadRegistry(faults={"PATCH": [Refuse(status, "no")]}) as registry:
        with pytest.raises(RegistryError, match=f"{status}|unauthorized: access denied"):
            await sent(registry, tmp_path, store, layer)
        assert registry.steps() == ["POST", "PATCH"]


async def test_a_commit_whose_answer_was_lost_has_gone_through(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(faults={"PUT": [LoseAnswer()]}) as registry:
        await sent(registry, tmp_path, store, layer)
        assert registry.steps()[-3:] == ["PUT", "PUT", "HEAD"]


async def test_a_commit_is_tried_again(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(faults={"PUT": [Refuse(503)] * 5}) as registry:
        await sent(registry, tmp_path, store, layer)


async def test_a_registry_that_takes_nothing_more_is_a_stall(tmp_path: Path, store: Store) -> None:
    """A peer that stops reading would hold a push for ever: no socket option tells."""
    layer = layer_of(store, os.urandom(16 << 20))
    async with UploadRegistry(faults={"PATCH": [Hang()]}) as registry:
        with pytest.raises(RegistryError, match="no data could be sent"):
            await sent(registry, tmp_path, store, layer, replace(LAYERS, delays_s=(), stall_s=0.2))


async def test_a_cancelled_upload_ends_at_once(tmp_path: Path, store: Store) -> None:
    layer = layer_of(store, os.urandom(16 << 20))
    async with UploadRegistry(faults={"PATCH": [Hang()]}) as registry:
        begun = asyncio.Event()
        registry.on_step = lambda step: step == "PATCH" and begun.set()
        task = asyncio.create_task(sent(registry, tmp_path, store, layer, LAYERS))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)


async def test_a_registry_may_answer_before_it_has_read_a_body(tmp_path: Path, store: Store) -> None:
    """A redirect comes at once; what is still to be sent is not."""
    layer = layer_of(store, os.urandom(16 << 20))
    async with UploadRegistry("redirect") as registry:
        started = asyncio.get_running_loop().time()
        await sent(registry, tmp_path, store, layer, LAYERS)
        assert asyncio.get_running_loop().time() - started < 5


async def test_the_pace_holds(tmp_path: Path, store: Store) -> None:
    layer = layer_of(store, os.urandom(1 << 20))
    started = asyncio.get_running_loop().time()
    async with UploadRegistry() as registry, repository(registry, tmp_path) as session:
        pace = Pace(RateLimit(4 << 20))
        await upload(
            store.blobs, layer, session, pace=pace, report=lambda n: None, manner=replace(LAYERS, stall_s=0.05)
        )
    assert asyncio.get_running_loop().time() - started > 0.1


# --- the blob itself -----------------------------------------------------------------------------------------------


async def test_a_blob_of_another_size_is_not_sent(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry() as registry:
        with pytest.raises(StorageError, match="has 25 bytes, but its manifest says 26"):
            await sent(registry, tmp_path, store, replace(layer, size_bytes=26))
        assert registry.seen == []


async def test_a_blob_that_is_not_here_is_named(tmp_path: Path, store: Store) -> None:
    missing = Layer(MODEL, Digest.of(b"missing"), 7)
    async with UploadRegistry() as registry:
        with pytest.raises(BlobNotFound, match=missing.digest.hex):
            await sent(registry, tmp_path, store, missing)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        pytest.param(lambda path: os.truncate(path, 12), StorageError, "became shorter while it was sent", id="cut"),
        pytest.param(lambda path: path.unlink(), BlobNotFound, "not found", id="gone"),
        pytest.param(lambda path: path.write_bytes(b"x" * 25), StorageError, "is damaged", id="overwritten"),
    ],
)
async def test_a_blob_that_changes_underneath_is_a_clear_error(
    tmp_path: Path, store: Store, layer: Layer, change, error: type[Exception], text: str
) -> None:
    async with UploadRegistry() as registry:
        registry.on_step = lambda step: (
            step == "PATCH" and len(registry.of("PATCH")) == 2 and change(store.blobs.path(layer.digest))
        )
        with pytest.raises(error, match=text):
            await sent(registry, tmp_path, store, layer)
        assert registry.blobs == {}


async def test_a_registry_that_names_no_place_is_an_error(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(faults={"POST": [Refuse(202)]}) as registry:
        with pytest.raises(RegistryError, match="did not say where to upload to"):
            await sent(registry, tmp_path, store, layer)


@pytest.mark.parametrize("status", [400, 404])
async def test_an_upper_case_name_is_explained(tmp_path: Path, store: Store, layer: Layer, status: int) -> None:
    async with UploadRegistry(faults={"POST": [Refuse(status, "NAME_INVALID")]}) as registry:
        with pytest.raises(RegistryError, match=rf"{status}: NAME_INVALID .*lower-case names only.* me/mine"):
            await sent(registry, tmp_path, store, layer, name="Me/Mine")


async def test_the_registrys_words_pass_through(tmp_path: Path, store: Store, layer: Layer) -> None:
    async with UploadRegistry(faults={"POST": [Refuse(403, "access denied:\nnot your namespace")]}) as registry:
        with pytest.raises(RegistryError, match="403: access denied: not your namespace"):
            await sent(registry, tmp_path, store, layer)


@pytest.mark.parametrize("step", ["HEAD", "POST", "PATCH", "PUT"])
async def test_credentials_that_a_registry_repeats_are_not_shown(
    tmp_path: Path, store: Store, layer: Layer, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    """partly X-36: the texts and the log of an upload."""
    async with UploadRegistry(password="hunter22", faults={step: [Refuse(403, "you are ", echo=True)]}) as registry:
        url = registry.url.replace("://", "://somebody:hunter22@")
        async with repository(registry, tmp_path, url=url) as session:
            with pytest.raises(RegistryError, match="403") as caught:
                await _ask_and_upload(store, layer, session)
    sent_along = registry.of(step)[-1].headers["Authorization"].removeprefix("Basic ")
    for text in (str(caught.value), caplog.text):
        assert "hunter22" not in text
        assert sent_along not in text


async def _ask_and_upload(store: Store, layer: Layer, session: Session) -> None:
    await is_there(session, layer.digest)
    await upload(store.blobs, layer, session, pace=Pace(), report=lambda n: None, manner=SMALL)
