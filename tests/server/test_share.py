"""The share: this machine's models for others, under `/v2/` (store-registry §3, GAP-12; security §6.3, §6.5)."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders as folder
from tests.running import Reply, Server, running
from tests.server.share.stock import MANIFEST_TYPE, Key, Refused, StockClient, send, token_url

API_KEY = "a-secret-of-this-server"
WEIGHTS = random.Random(1).randbytes(100_000)
KEYS_FILE = "home/.ollama/llamero/share_keys"
HUGE_BYTES = 5 * 10**9
MIB = 2**20


def make_models(root: Path) -> None:
    folder.add(root, "m", WEIGHTS, template="{{ .Prompt }}", license="MIT")
    folder.add(root, "m:small", WEIGHTS[:1000])
    folder.add(root, "user/Other", b"other weights", newline=True)
    folder.add(root, "hf.co/org/m:q4", b"from the hub")
    folder.add(root, "stub", config={"remote_host": "https://ollama.com", "remote_model": "x"}, license="of the stub")
    folder.blob(root, b"in no manifest")
    huge = {"mediaType": folder.IMAGE + "model", "digest": f"sha256:{'ab' * 32}", "size": HUGE_BYTES}
    with (root / "blobs" / f"sha256-{'ab' * 32}").open("wb") as file:
        file.truncate(HUGE_BYTES)
        file.seek(HUGE_BYTES - 3)
        file.write(b"end")
    document = {"schemaVersion": 2, "config": folder.layer(root, folder.CONFIG, b"{}"), "layers": [huge]}
    folder.write(root, "huge", json.dumps(document).encode())


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that shares with everybody near."""
    place = tmp_path_factory.mktemp("share")
    make_models(place / "models")
    with running(place, place / "models", LLAMERO_SHARE="1") as server:
        yield server


@pytest.fixture(scope="module")
def listed() -> Key:
    return Key()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, listed: Key) -> Iterator[Server]:
    """A server that shares with whom `share_keys` lists, or with who has the API key."""
    place = tmp_path_factory.mktemp("locked")
    make_models(place / "models")
    keys = place / KEYS_FILE
    keys.parent.mkdir(parents=True)
    keys.write_text(f"# who may read\n\n{listed.line} somebody@somewhere\n")
    keys.chmod(0o600)
    env = {"OLLAMA_API_KEY": f"box=infer:{API_KEY}", "LLAMERO_TRUSTED_PROXIES": "127.0.0.1"}
    with running(place, place / "models", LLAMERO_SHARE="1", **env) as server:
        yield server


_strangers = itertools.count(1)


def from_a_stranger(authorization: str) -> dict[str, str]:
    """Headers of a client of whom nobody has heard: ten wrong keys are all that one has in a minute."""
    return {"Authorization": authorization, "X-Forwarded-For": f"198.18.0.{next(_strangers)}"}


def raw(server: Server, name: str) -> bytes:
    return folder.manifest_path(server.models, name).read_bytes()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def codes(reply: Reply) -> list[str]:
    problems = reply.json()["errors"]
    assert all(problem["message"] for problem in problems)
    return [problem["code"] for problem in problems]


BLOB = f"/v2/library/m/blobs/{digest_of(WEIGHTS)}"


# --- what a stock client does --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repository", "tag"), [("library/m", "latest"), ("library/m", "small"), ("user/Other", "latest")]
)
def test_a_stock_client_pulls_without_keys(share: Server, repository: str, tag: str) -> None:
    """partly S-106: the half without keys."""
    client = StockClient(share.url)
    manifest, blobs = client.pull(repository, tag)
    assert manifest == raw(share, f"{repository.removeprefix('library/')}:{tag}")
    assert {layer["digest"] for layer in json.loads(manifest)["layers"]} < set(blobs)
    assert not client.token
    assert len(client.ranges) > len(blobs)


def test_s106_with_keys_only_a_listed_client_pulls(share: Server, locked: Server, listed: Key) -> None:
    """S-106: replayed requests of a stock client, without keys and with them."""
    want = StockClient(share.url).pull("library/m", "latest")
    client = StockClient(locked.url, listed)
    assert client.pull("library/m", "latest") == want
    assert client.token
    with pytest.raises(Refused, match=r"^401: .*this key is not in the server's share_keys: ssh-ed25519 AAAA"):
        StockClient(locked.url).pull("library/m", "latest")


# --- manifests and lists -------------------------------------------------------------------------------------------


def test_the_version_check(share: Server) -> None:
    for method, body in (("GET", b"{}"), ("HEAD", b"")):
        reply = share.call(method, "/v2/")
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_a_manifest_is_its_stored_bytes(share: Server) -> None:
    content = raw(share, "m")
    for reference in ("latest", "LATEST", digest_of(content)):
        reply = share.get(f"/v2/library/m/manifests/{reference}")
        assert (reply.status, reply.body, reply.content_type) == (200, content, MANIFEST_TYPE)
        assert reply.headers["Docker-Content-Digest"] == digest_of(content)
        head = share.call("HEAD", f"/v2/library/m/manifests/{reference}")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(content)))
        assert head.headers["Docker-Content-Digest"] == digest_of(content)


@pytest.mark.parametrize(
    ("said", "content_type"),
    [
        ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.manifest.v1+json"),
        ("text/html\r\nSet-Cookie: a=b", MANIFEST_TYPE),
        ("text/html; charset=x", MANIFEST_TYPE),
        (7, MANIFEST_TYPE),
        (None, MANIFEST_TYPE),
    ],
)
def test_a_manifest_has_its_own_media_type_if_it_is_one(share: Server, said: Any, content_type: str) -> None:
    document = json.loads(raw(share, "m")) | {"mediaType": said}
    folder.write(share.models, "typed:x", json.dumps(document).encode())
    reply = share.get("/v2/library/typed/manifests/x")
    assert (reply.status, reply.content_type, reply.headers["Set-Cookie"]) == (200, content_type, None)
    folder.manifest_path(share.models, "typed:x").unlink()


def test_a_manifest_that_changes_is_served_as_it_is_now(share: Server) -> None:
    first = folder.write(share.models, "changing", raw(share, "m")).read_bytes()
    assert share.get(f"/v2/library/changing/manifests/{digest_of(first)}").status == 200
    second = folder.write(share.models, "changing", raw(share, "m:small")).read_bytes()
    assert share.get("/v2/library/changing/manifests/latest").body == second
    assert share.get(f"/v2/library/changing/manifests/{digest_of(first)}").status == 404
    folder.manifest_path(share.models, "changing").unlink()
    assert share.get("/v2/library/changing/manifests/latest").status == 404


def test_models_of_other_registries_are_found_by_their_host(share: Server) -> None:
    assert share.get("/v2/org/m/manifests/q4").status == 404
    reply = share.get("/v2/org/m/manifests/q4?ns=hf.co")
    assert (reply.status, reply.body) == (200, raw(share, "hf.co/org/m:q4"))
    assert share.get("/v2/library/m/manifests/latest?ns=registry.ollama.ai").status == 200
    assert share.get("/v2/_catalog?ns=hf.co").json() == {"repositories": ["org/m"]}
    assert share.get("/v2/org/m/tags/list?ns=hf.co").json() == {"name": "org/m", "tags": ["q4"]}


def test_the_catalog_and_the_tags(share: Server) -> None:
    catalog = share.get("/v2/_catalog")
    assert catalog.json() == {"repositories": ["library/huge", "library/m", "user/Other"]}
    assert share.get("/v2/library/m/tags/list").json() == {"name": "library/m", "tags": ["latest", "small"]}
    missing = share.get("/v2/library/nothing/tags/list")
    assert (missing.status, codes(missing)) == (404, ["NAME_UNKNOWN"])


def test_lists_come_in_pages(share: Server) -> None:
    found, path = [], "/v2/_catalog?n=2"
    while path:
        reply = share.get(path)
        found.append(reply.json()["repositories"])
        path = (reply.headers["Link"] or "").partition(">")[0].removeprefix("<")
    assert found == [["library/huge", "library/m"], ["user/Other"]]
    first = share.get("/v2/library/m/tags/list?n=1")
    assert (first.json()["tags"], first.headers["Link"]) == (
        ["latest"],
        '</v2/library/m/tags/list?n=1&last=latest>; rel="next"',
    )
    assert share.get("/v2/library/m/tags/list?last=latest").json()["tags"] == ["small"]
    assert share.get("/v2/_catalog?n=0").json() == {"repositories": []}
    for n in ("-1", "x", "", "%C2%B2", "9" * 30):
        reply = share.get(f"/v2/_catalog?n={n}")
        assert (reply.status, codes(reply)) == (400, ["PAGINATION_NUMBER_INVALID"])


def test_a_model_that_runs_elsewhere_is_not_shared(share: Server) -> None:
    assert folder.manifest_path(share.models, "stub").exists()
    reply = share.get("/v2/library/stub/manifests/latest")
    assert (reply.status, codes(reply)) == (404, ["MANIFEST_UNKNOWN"])
    assert share.get(f"/v2/library/stub/manifests/{digest_of(raw(share, 'stub'))}").status == 404
    assert share.get(f"/v2/library/stub/blobs/{digest_of(b'of the stub')}").status == 404


# --- blobs ---------------------------------------------------------------------------------------------------------


def test_a_blob_says_where_its_ranges_are(share: Server) -> None:
    for method, body in (("GET", WEIGHTS), ("HEAD", b"")):
        reply = share.call(method, BLOB)
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["Content-Length"] == str(len(WEIGHTS))
        assert reply.headers["Accept-Ranges"] == "bytes"
        assert reply.headers["Docker-Content-Digest"] == digest_of(WEIGHTS)
        assert reply.headers["Location"] == share.url + BLOB
    named = share.get(BLOB, headers={"Host": "localhost:80"})
    assert named.headers["Location"] == f"http://localhost:80{BLOB}"


def test_a_client_without_a_host_gets_a_relative_location(share: Server) -> None:
    with socket.create_connection(("127.0.0.1", share.port), timeout=30) as connection:
        connection.sendall(f"HEAD {BLOB} HTTP/1.0\r\n\r\n".encode())
        with connection.makefile("rb") as reply:
            assert f"location: {BLOB}\r\n".encode() in reply.read().lower()


SIZE = len(WEIGHTS)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-99", 10, 99),
        ("bytes=99000-", 99000, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1),
        (f"bytes=-{SIZE * 2}", 0, SIZE - 1),
        (f"bytes=5-{SIZE * 9}", 5, SIZE - 1),
    ],
)
def test_one_range_of_a_blob(share: Server, asked: str, first: int, last: int) -> None:
    reply = share.get(BLOB, headers={"Range": asked})
    assert (reply.status, reply.body) == (206, WEIGHTS[first : last + 1])
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert reply.headers["Content-Length"] == str(last + 1 - first)
    assert reply.headers["Location"] is None


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=-", "bytes=x-", "items=0-1", "bytes=0-1,5-6", "bytes=+1-2", ""])
def test_what_is_no_range_is_answered_with_all_of_it(share: Server, asked: str) -> None:
    reply = share.get(BLOB, headers={"Range": asked})
    assert (reply.status, reply.body) == (200, WEIGHTS)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
def test_a_range_behind_the_end(share: Server, asked: str) -> None:
    reply = share.get(BLOB, headers={"Range": asked})
    assert (reply.status, codes(reply), reply.headers["Content-Range"]) == (416, ["RANGE_INVALID"], f"bytes */{SIZE}")


def test_the_same_blob_is_served_under_any_model(share: Server) -> None:
    """A neighbour asks for digests, and may know their model by another name."""
    assert share.get(f"/v2/library/unknown/blobs/{digest_of(WEIGHTS)}").body == WEIGHTS


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_no_manifest_lists_is_not_there(share: Server, method: str) -> None:
    unlisted = digest_of(b"in no manifest")
    assert share.models.joinpath("blobs", unlisted.replace(":", "-")).exists()
    for digest in (unlisted, f"sha256:{'0' * 64}"):
        reply = share.call(method, f"/v2/library/m/blobs/{digest}")
        assert reply.status == 404
        assert method == "HEAD" or codes(reply) == ["BLOB_UNKNOWN"]


def test_a_listed_blob_that_is_gone_is_not_found(share: Server) -> None:
    content = b"soon gone"
    folder.add(share.models, "gone", content)
    path = share.models / "blobs" / digest_of(content).replace(":", "-")
    assert share.get(f"/v2/library/gone/blobs/{digest_of(content)}").body == content
    path.unlink()
    reply = share.get(f"/v2/library/gone/blobs/{digest_of(content)}")
    assert (reply.status, codes(reply)) == (404, ["BLOB_UNKNOWN"])
    folder.manifest_path(share.models, "gone").unlink()


def memory_peak_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_blob_of_5_gb_takes_no_memory(share: Server) -> None:
    path = f"/v2/library/huge/blobs/sha256:{'ab' * 32}"
    share.get(path, headers={"Range": "bytes=0-1048575"})
    before_bytes = memory_peak_bytes(share)
    with ExitStack() as stack:
        streams = []
        for _ in range(16):  # as many as a stock client opens, most of them slow
            connection = http.client.HTTPConnection("127.0.0.1", share.port, timeout=30)
            stack.callback(connection.close)
            connection.request("GET", path)
            streams.append(stack.enter_context(connection.getresponse()))
        assert all(stream.length == HUGE_BYTES for stream in streams)
        for _ in range(64):
            assert streams[0].read(4 * MIB) == bytes(4 * MIB)
        assert memory_peak_bytes(share) - before_bytes < 48 * MIB
    end = share.get(path, headers={"Range": f"bytes={HUGE_BYTES - 5}-"})
    assert (end.status, end.body) == (206, b"\0\0end")


def open_files(server: Server) -> int:
    links = []
    for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(OSError):
            links.append(os.readlink(entry))
    return sum("ab" * 32 in link for link in links)


def test_a_client_that_leaves_is_let_go(share: Server) -> None:
    """Stock clients read the head of a blob's reply and hang up."""
    for _ in range(3):
        StockClient(share.url).direct_url(f"/v2/library/huge/blobs/sha256:{'ab' * 32}")
    share.wait_until(lambda: open_files(share) == 0)
    assert "Traceback" not in share.log.read_text()


def test_a_blob_that_shrinks_while_it_is_read_ends_the_connection(share: Server) -> None:
    folder.add(share.models, "shrinking", bytes(64 * MIB))
    path = share.models / "blobs" / digest_of(bytes(64 * MIB)).replace(":", "-")
    connection = http.client.HTTPConnection("127.0.0.1", share.port, timeout=30)
    connection.request("GET", f"/v2/library/shrinking/blobs/{digest_of(bytes(64 * MIB))}")
    with connection.getresponse() as response:
        response.read(10)
        os.truncate(path, 0)
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    connection.close()
    folder.manifest_path(share.models, "shrinking").unlink()
    path.unlink()
    assert "a blob could not be read to its end" in share.log.read_text()


# --- names, paths, methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v2/library/..%2f..%2fetc/manifests/latest",
        "/v2/library/%2e%2e/manifests/latest",
        "/v2/..%00/m/manifests/latest",
        "/v2/.hidden/m/manifests/latest",
        "/v2/library/m/manifests/..%2f..%2flatest",
        "/v2/library/m/manifests/-x",
        "/v2/n.s/m/manifests/latest",
        "/v2/library/m%22,x=%22/manifests/latest",
        "/v2/library/m/manifests/latest?ns=../../etc",
        "/v2/library/m/manifests/latest?ns=",
        "/v2/_catalog/m/tags/list?ns=a/b",
        "/v2/library/" + "m" * 81 + "/manifests/latest",
    ],
)
@pytest.mark.parametrize("name", ["share", "locked"])
def test_what_is_no_name_is_refused(request: pytest.FixtureRequest, name: str, path: str) -> None:
    reply = request.getfixturevalue(name).get(path)
    assert (reply.status, codes(reply)) == (400, ["NAME_INVALID"])


@pytest.mark.parametrize(
    "reference",
    ["sha256:", "sha256:..%2f..%2f", "md5:0", f"sha256:{'0' * 63}", f"sha256:{'g' * 64}", "sha512:" + "0" * 128],
)
def test_what_is_no_digest_is_refused(share: Server, reference: str) -> None:
    for kind in ("blobs", "manifests"):
        reply = share.get(f"/v2/library/m/{kind}/{reference}")
        assert (reply.status, codes(reply)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/V2/",
        "/v2/library",
        "/v2/library/m",
        "/v2/library/m/blobs",
        "/v2/library/m/manifests/",
        "/v2/library/m/blobs/",
        "/v2/library/m/x/latest",
        "/v2/library/m/n/manifests/latest",
        "/%762/library/m/manifests/latest",
        "/v2/library/m/%6danifests/latest",
        "/v2/library/m/tags/list/x",
    ],
)
def test_other_paths_are_not_there(share: Server, path: str) -> None:
    reply = share.get(path)
    assert (reply.status, reply.body) == (404, b"404 page not found")


@pytest.mark.parametrize("path", ["/v2/library/../../etc/passwd", "/v2/../blobs/x", "/v2/library/m/manifests/../../.."])
def test_dot_segments_lead_nowhere(share: Server, path: str) -> None:
    assert share.get(path).status in (301, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("name", ["share", "locked"])
def test_nothing_is_ever_written(request: pytest.FixtureRequest, name: str, method: str) -> None:
    """partly X-102: writes 405."""
    server: Server = request.getfixturevalue(name)
    before = {path: path.stat().st_mtime_ns for path in server.models.rglob("*") if path.is_file()}
    for path in (
        "/v2/",
        "/v2/library/m/manifests/latest",
        BLOB,
        "/v2/library/m/blobs/uploads/",
        "/v2/library/m/blobs/uploads/7?digest=sha256:" + "0" * 64,
        "/v2/library/m/tags/list",
        "/v2/_catalog",
    ):
        reply = server.call(method, path, b"{}", headers={"Authorization": f"Bearer {API_KEY}"})
        assert (reply.status, codes(reply), reply.headers["Allow"]) == (405, ["UNSUPPORTED"], "HEAD, GET")
    assert {path: path.stat().st_mtime_ns for path in server.models.rglob("*") if path.is_file()} == before


def test_no_upload_is_under_way(share: Server) -> None:
    for path in ("/v2/library/m/blobs/uploads/", "/v2/library/m/blobs/uploads/7"):
        reply = share.get(path)
        assert (reply.status, codes(reply)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


def test_off_by_default(tmp_path: Path) -> None:
    make_models(tmp_path / "models")
    with running(tmp_path, tmp_path / "models") as server:
        for path in ("/v2/", "/v2/_catalog", "/v2/library/m/manifests/latest", BLOB, "/v2/token"):
            reply = server.get(path)
            assert (reply.status, reply.body) == (404, b"404 page not found")


def test_the_description_has_the_share_with_all_its_parameters(share: Server) -> None:
    document = share.get("/openapi.json").json()
    manifest = document["paths"]["/v2/{namespace}/{model}/manifests/{reference}"]["get"]
    assert [each["name"] for each in manifest["parameters"]] == ["namespace", "model", "reference"]
    error = manifest["responses"]["default"]["content"]["application/json"]["schema"]["$ref"]
    assert error == "#/components/schemas/RegistryProblems"
    operations = [each for path in document["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)


# --- who may read --------------------------------------------------------------------------------------------------


def test_a_forwarded_request_may_read_and_no_more(share: Server) -> None:
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert share.get("/v2/library/m/manifests/latest", headers=forwarded).status == 200
    assert share.get(BLOB, headers=forwarded).status == 200
    assert share.post("/api/pull", {"model": "m"}, headers=forwarded).status == 403
    assert share.call("DELETE", "/v2/library/m/manifests/latest", headers=forwarded).status == 405


def test_foreign_hosts_and_pages_do_not_read(share: Server) -> None:
    assert share.get("/v2/", headers={"Host": "evil.example"}).status == 403
    assert share.get("/v2/", headers={"Origin": "http://evil.example"}).status == 403


PROTECTED = {
    "/v2/": "",
    "/v2/_catalog": "registry:catalog:*",
    "/v2/library/m/tags/list": "repository:library/m:pull",
    "/v2/library/m/manifests/latest": "repository:library/m:pull",
    "/v2/user/none/manifests/latest": "repository:user/none:pull",
    f"/v2/library/m/manifests/sha256:{'0' * 64}": "repository:library/m:pull",
    BLOB: "repository:library/m:pull",
}


@pytest.mark.parametrize(
    "authorization", ["", "Bearer x", "Bearer ", "Basic eDp4", "Bearer 9999999999.cHVsbA.00", "Bearer é.é"]
)
def test_without_a_key_there_is_a_challenge_and_nothing_else(locked: Server, authorization: str) -> None:
    for path, scope in PROTECTED.items():
        reply = locked.get(path, headers=from_a_stranger(authorization))
        assert (reply.status, codes(reply)) == (401, ["UNAUTHORIZED"])
        challenge = f'Bearer realm="{locked.url}/v2/token",service="llamero"' + (f',scope="{scope}"' if scope else "")
        assert reply.headers["WWW-Authenticate"] == challenge
        assert locked.call("HEAD", path).status == 401


def test_the_api_key_opens_everything(locked: Server) -> None:
    headers = {"Authorization": f"bearer {API_KEY}"}
    assert locked.get("/v2/", headers=headers).status == 200
    assert locked.get("/v2/_catalog", headers=headers).json()["repositories"]
    assert locked.get(BLOB, headers=headers).body == WEIGHTS
    for wrong in (API_KEY[:-1], f"box=infer:{API_KEY}", f"{API_KEY}x", API_KEY.upper()):
        assert locked.get("/v2/", headers=from_a_stranger(f"Bearer {wrong}")).status == 401
    assert locked.get("/v2/", headers={"x-api-key": API_KEY}).status == 200


def test_the_share_is_no_way_around_the_limit_of_wrong_keys(locked: Server) -> None:
    guess = from_a_stranger("Bearer a-guess-at-the-secret")
    replies = [locked.get("/v2/", headers=guess) for _ in range(11)]
    assert [reply.status for reply in replies] == [401] * 10 + [429]
    assert (codes(replies[-1]), replies[-1].headers["Retry-After"]) == (["TOOMANYREQUESTS"], "6")


def test_a_token_that_has_been_good_is_no_guess(locked: Server, listed: Key) -> None:
    token = ask_token(locked, listed).json()["token"]
    elsewhere = from_a_stranger(f"Bearer {token}")
    assert {locked.get("/v2/_catalog", headers=elsewhere).status for _ in range(12)} == {401}


def test_what_opens_the_share_opens_nothing_else(locked: Server, listed: Key) -> None:
    assert locked.get("/api/tags").status == 401
    token = ask_token(locked, listed).json()["token"]
    assert locked.get("/api/tags", headers=from_a_stranger(f"Bearer {token}")).status == 401
    assert locked.get("/api/tags", headers={"Authorization": f"Bearer {API_KEY}"}).status == 200
    assert API_KEY not in locked.log.read_text()


def ask_token(server: Server, key: Key, *, path: str = "/v2/library/m/manifests/latest", **changes: Any) -> Reply:
    url = token_url(server.get(path).headers["WWW-Authenticate"], **changes)
    return send("GET", url, {"Authorization": key.authorization(url)})


def test_a_token_is_for_its_scope(locked: Server, listed: Key) -> None:
    reply = ask_token(locked, listed)
    assert (reply.status, set(reply.json()), reply.json()["expires_in"]) == (200, {"token", "expires_in"}, 3600)
    bearer = {"Authorization": f"Bearer {reply.json()['token']}"}
    assert locked.get("/v2/", headers=bearer).status == 200
    assert locked.get("/v2/library/m/manifests/latest", headers=bearer).status == 200
    for path in ("/v2/_catalog", "/v2/user/Other/manifests/latest"):
        assert locked.get(path, headers=bearer).status == 401
    catalog = ask_token(locked, listed, path="/v2/_catalog").json()["token"]
    assert locked.get("/v2/_catalog", headers={"Authorization": f"Bearer {catalog}"}).status == 200


@pytest.mark.parametrize(
    "scope", ["repository:library/m:push", f"blob {digest_of(WEIGHTS)}", "", "admin:*:*", "repository:a"]
)
def test_a_scope_that_nobody_gives_opens_no_model(locked: Server, listed: Key, scope: str) -> None:
    token = ask_token(locked, listed, scope=scope).json()["token"]
    assert locked.get(BLOB, headers={"Authorization": f"Bearer {token}"}).status == 401
    assert locked.get(f"{BLOB}?token={token}").status == 401


def test_only_what_can_be_had_of_a_scope_is_given(locked: Server, listed: Key) -> None:
    token = ask_token(locked, listed, scope="repository:library/m:pull,push").json()["token"]
    assert locked.get(BLOB, headers={"Authorization": f"Bearer {token}"}).status == 200


def refusal(reply: Reply) -> str:
    assert (reply.status, codes(reply)) == (401, ["UNAUTHORIZED"])
    return str(reply.json()["errors"][0]["message"])


def test_no_token_for_a_key_that_is_not_listed(locked: Server) -> None:
    """partly X-102: no token for an unlisted public key."""
    stranger = Key()
    assert refusal(ask_token(locked, stranger)) == f"this key is not in the server's share_keys: {stranger.line}"
    assert stranger.line in locked.log.read_text()


@pytest.mark.parametrize("off_by_s", [-400, 400, 10**9])
def test_no_token_for_a_request_of_another_time(locked: Server, listed: Key, off_by_s: int) -> None:
    assert "check the clocks" in refusal(ask_token(locked, listed, ts=int(time.time()) + off_by_s))
    assert ask_token(locked, listed, ts=int(time.time()) + (200 if off_by_s > 0 else -200)).status == 200


def test_no_token_for_a_request_that_was_seen_before(locked: Server, listed: Key) -> None:
    url = token_url(locked.get("/v2/").headers["WWW-Authenticate"])
    headers = {"Authorization": listed.authorization(url)}
    assert send("GET", url, headers).status == 200
    assert refusal(send("GET", url, headers)) == "this nonce has been used"


@pytest.mark.parametrize(
    "changes", [{"nonce": ""}, {"nonce": "n" * 129}, {"ts": ""}, {"ts": "-1"}, {"ts": "1e9"}, {"ts": "9" * 99}]
)
def test_no_token_without_a_sound_nonce_and_time(locked: Server, listed: Key, changes: dict[str, str]) -> None:
    refusal(ask_token(locked, listed, **changes))


def test_no_token_unless_this_very_request_was_signed(locked: Server, listed: Key) -> None:
    url = token_url(locked.get("/v2/").headers["WWW-Authenticate"])
    good = listed.authorization(url)
    key, _, signature = good.partition(":")
    other_scope = url.replace("scope=", "scope=registry%3Acatalog%3A%2A")
    elsewhere = url.replace("127.0.0.1", "localhost")
    assert refusal(send("GET", other_scope, {"Authorization": good})) == "the signature is wrong"
    assert refusal(send("GET", elsewhere, {"Authorization": good})) == "the signature is wrong"
    assert (
        refusal(send("GET", url, {"Authorization": f"{Key().line.split()[1]}:{signature}"})) == "the signature is wrong"
    )
    for wrong in (
        f"{key}:",
        key,
        f"{key}:{signature[:-4]}",
        f"{key}:é",
        f":{signature}",
        f"AAAA:{signature}",
        "Bearer x",
        "",
    ):
        refusal(send("GET", url, {"Authorization": wrong}))
    assert send("GET", url, {"Authorization": good}).status == 200  # none of them has used the nonce up


def test_no_token_for_what_was_signed_for_another_server(locked: Server, listed: Key) -> None:
    """A server that a listed client pulls from could pass that client's signature on to us."""
    url = token_url(locked.get("/v2/", headers={"Host": "evil.local:11434"}).headers["WWW-Authenticate"])
    assert url.startswith("http://evil.local:11434/v2/token?")
    passed_on = url.replace("evil.local:11434", locked.host)
    headers = {"Authorization": listed.authorization(url), "Host": "evil.local:11434"}
    assert "list it in its LLAMERO_ALLOWED_HOSTS" in refusal(send("GET", passed_on, headers))


# --- links ---------------------------------------------------------------------------------------------------------


def test_a_link_opens_its_blob_and_nothing_else(locked: Server) -> None:
    """partly X-102: a blob link opens that blob only."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    link = locked.get(BLOB, headers=headers).headers["Location"]
    assert link.startswith(f"{locked.url}{BLOB}?token=")
    token = link.partition("?token=")[2]
    assert send("GET", link, {"Range": "bytes=5-9"}).body == WEIGHTS[5:10]
    assert send("HEAD", link).status == 200
    small = digest_of(WEIGHTS[:1000])
    for path in (f"/v2/library/m/blobs/{small}", "/v2/library/m/manifests/latest", "/v2/", "/v2/_catalog"):
        assert locked.get(f"{path}?token={token}").status == 401
        assert locked.get(path, headers={"Authorization": f"Bearer {token}"}).status == 401
    assert locked.get(BLOB, headers={"Authorization": f"Bearer {token}"}).status == 401
    assert locked.get(f"/v2/library/m/blobs/{small}?token={token}", headers=headers).status == 200


def test_a_link_leads_to_itself_and_is_not_renewed(locked: Server) -> None:
    link = locked.get(BLOB, headers={"Authorization": f"Bearer {API_KEY}"}).headers["Location"]
    assert send("GET", link).headers["Location"] == link


def test_a_link_that_was_touched_or_is_from_another_server(locked: Server) -> None:
    link = locked.get(BLOB, headers={"Authorization": f"Bearer {API_KEY}"}).headers["Location"]
    expiry, subject, mac = link.partition("?token=")[2].split(".")
    later = f"{int(expiry) + 9999}.{subject}.{mac}"
    for token in (
        later,
        f"{expiry}.{subject}.{'0' * 64}",
        f"{expiry}.{subject}",
        "",
        ".",
        "..",
        f"{expiry}.{subject}.%C3%A9",
    ):
        assert locked.get(f"{BLOB}?token={token}").status == 401
    assert send("GET", f"{link}&token={later}").status == 401


# --- the file of keys ----------------------------------------------------------------------------------------------


def test_the_file_of_keys_is_read_again_and_must_be_ours_alone(tmp_path: Path) -> None:
    make_models(tmp_path / "models")
    keys = tmp_path / KEYS_FILE
    one, two = Key(), Key()
    with running(tmp_path, tmp_path / "models", LLAMERO_SHARE="on") as server:
        assert server.get(BLOB).status == 200  # no file, no keys
        keys.parent.mkdir(parents=True, exist_ok=True)
        keys.write_text(f"{one.line}\nssh-rsa AAAA old\nssh-ed25519 nonsense\n")
        keys.chmod(0o600)
        assert ask_token(server, one).status == 200
        refusal(ask_token(server, two))
        keys.write_text(f"{two.line}\n{one.line} again, with a comment\n")
        assert ask_token(server, two).status == 200
        keys.chmod(0o620)
        refusal(ask_token(server, two))
        assert server.get(BLOB).status == 401
        keys.chmod(0o600)
        assert ask_token(server, two).status == 200
        keys.write_text("")
        refusal(ask_token(server, one))
        said = server.log.read_text()
    assert "share_keys, line 2: not a line of the form" in said
    assert "share_keys, line 3: not a line of the form" in said
    assert "share_keys can be written by others, chmod 600 it" in said
