"""What the clock has to do with who may read."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero.errors import Busy
from llamero.server.share.tokens import MAX_NONCES, Nonces
from tests import model_folders as folder
from tests.server.share.in_process import Clock, LocalShare, no_fetch
from tests.server.share.stock import Key, token_url

HOUR_S = 3600


@pytest.fixture
def key() -> Key:
    return Key()


@pytest.fixture
def share(tmp_path: Path, key: Key) -> LocalShare:
    folder.add(tmp_path, "m", b"weights", license="MIT")
    keys = tmp_path / "share_keys"
    keys.write_text(key.line)
    keys.chmod(0o600)
    return LocalShare(tmp_path, keys, no_fetch)


MANIFEST = "/v2/library/m/manifests/latest"


async def bearer(share: LocalShare, key: Key) -> dict[str, str]:
    challenge = (await share.send("GET", MANIFEST)).headers["WWW-Authenticate"]
    url = token_url(challenge, ts=int(share.clock.now_s))
    reply = await share.send("GET", url, {"Authorization": key.authorization(url)})
    assert reply.status == 200, reply.body
    return {"Authorization": f"Bearer {reply.json()['token']}"}


async def test_x102_the_share_with_keys(share: LocalShare, key: Key, tmp_path: Path) -> None:
    """X-102: no token for an unlisted public key; a link opens one blob for one hour; nothing is written."""
    weights, licence = (folder.blob(tmp_path, content) for content in (b"weights", b"MIT"))
    with pytest.raises(AssertionError, match="share_keys"):
        await bearer(share, Key())
    blob = await share.send("GET", f"/v2/library/m/blobs/{weights}", await bearer(share, key))
    link = blob.headers["Location"]
    share.clock.now_s += HOUR_S - 1
    opened = await share.send("GET", link, {"Range": "bytes=1-3"})
    assert (opened.status, opened.body) == (206, b"eig")
    assert (await share.send("GET", link)).headers["Location"] == link
    assert (await share.send("GET", link.replace(weights, licence))).status == 401
    share.clock.now_s += 1
    assert (await share.send("GET", link, {"Range": "bytes=1-3"})).status == 401
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for path in ("/v2/", MANIFEST, f"/v2/library/m/blobs/{weights}", "/v2/library/m/blobs/uploads/"):
            assert (await share.send(method, path, await bearer(share, key))).status == 405


async def test_a_token_ends_after_an_hour(share: LocalShare, key: Key) -> None:
    headers = await bearer(share, key)
    share.clock.now_s += HOUR_S - 1
    assert (await share.send("GET", MANIFEST, headers)).status == 200
    share.clock.now_s += 1
    assert (await share.send("GET", MANIFEST, headers)).status == 401


async def test_a_signature_cannot_be_sent_again_as_long_as_its_time_is_good(share: LocalShare, key: Key) -> None:
    challenge = (await share.send("GET", MANIFEST)).headers["WWW-Authenticate"]
    url = token_url(challenge, ts=int(share.clock.now_s) + 300)
    headers = {"Authorization": key.authorization(url)}
    assert (await share.send("GET", url, headers)).status == 200
    for later_s in (0, 1, 299, 300, 1, 10_000):
        share.clock.now_s += later_s
        assert (await share.send("GET", url, headers)).status == 401


def test_nonces_are_bounded_and_forgotten_in_time() -> None:
    clock = Clock()
    nonces = Nonces(clock, kept_s=600)
    assert all(nonces.use(b"k", str(number)) for number in range(MAX_NONCES))
    assert not nonces.use(b"k", "0")
    with pytest.raises(Busy):
        nonces.use(b"k", "one more")
    clock.now_s += 601
    assert nonces.use(b"k", "one more")
    assert nonces.use(b"k", "0")
    assert nonces.use(b"other", "0")
    assert not nonces.use(b"k", "0")
