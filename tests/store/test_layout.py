"""The small files of an OCI image layout, and blobs that must be what their names say."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from llamero.errors import BadRequest
from llamero.names import Digest
from llamero.store import layout, tar
from llamero.store.layout import Reference, Verified

DIGEST = Digest.of(b"manifest")
ENTRY: dict[str, Any] = {
    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
    "digest": str(DIGEST),
    "size": 8,
    "annotations": {"org.opencontainers.image.ref.name": "registry.ollama.ai/library/m:latest"},
}


def index(*entries: Any, **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(entries), **more}).encode()


def test_an_index_says_what_was_put_into_it() -> None:
    reference = Reference(DIGEST, 8, "host/ns/m:tag", layout.OCI_MANIFEST_TYPE)
    raw = layout.encode_index(reference)
    assert layout.decode_index(raw) == (reference,)
    assert json.loads(raw) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": str(DIGEST),
                "size": 8,
                "annotations": {"org.opencontainers.image.ref.name": "host/ns/m:tag"},
            }
        ],
    }


def test_the_index_of_another_program() -> None:
    raw = index({**ENTRY, "platform": {"os": "linux"}, "urls": []}, {**ENTRY, "annotations": None}, unknown=1)
    assert [reference.name for reference in layout.decode_index(raw)] == ["registry.ollama.ai/library/m:latest", ""]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "index.json is not JSON"),
        (b"[" * 100_000, "index.json is not JSON"),
        (b"[]", "index.json is not an object"),
        (b"{}", "lists no manifest"),
        (index(), "lists no manifest"),
        (index(None), "is not an object"),
        (index(*[ENTRY] * 1001), "more than 1000 manifests"),
        (index({**ENTRY, "mediaType": "application/vnd.oci.image.index.v1+json"}), "what is no manifest"),
        (index({**ENTRY, "mediaType": None}), "what is no manifest"),
        (index({**ENTRY, "digest": "sha256:../../../etc/passwd"}), "malformed"),
        (index({**ENTRY, "digest": "sha512:" + "a" * 128}), "malformed"),
        (index({**ENTRY, "digest": 5}), "lacks its digest or size"),
        (index({**ENTRY, "size": "8"}), "lacks its digest or size"),
        (index({**ENTRY, "size": True}), "lacks its digest or size"),
    ],
)
def test_an_index_that_is_wrong(raw: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=f"^invalid archive: .*{reason}"):
        layout.decode_index(raw)


@pytest.mark.parametrize("raw", [layout.MARK, b'{"imageLayoutVersion":"1.1.0","more":[]}'])
def test_marks_that_we_know(raw: bytes) -> None:
    layout.check_mark(raw)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"imageLayoutVersion":"2.0.0"}', b'{"imageLayoutVersion":1}'])
def test_marks_that_we_do_not_know(raw: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^invalid archive: oci-layout"):
        layout.check_mark(raw)


@pytest.mark.parametrize(
    ("file", "digest"),
    [
        (layout.blob_file(DIGEST), DIGEST),
        ("blobs/sha256/" + "A" * 64, None),
        ("blobs/sha256/" + "a" * 63, None),
        ("blobs/sha256/../" + "a" * 64, None),
        ("blobs/sha512/" + "a" * 128, None),
        ("index.json", None),
    ],
)
def test_names_of_blobs(file: str, digest: Digest | None) -> None:
    assert layout.blob_digest(file) == digest


def member(content: bytes) -> tar.Member:
    return next(tar.members(io.BytesIO(tar.header("n", len(content)) + tar.padded(content))))


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 5000])
def test_a_blob_that_is_what_it_says(content: bytes) -> None:
    told: list[int] = []
    assert Verified(member(content), Digest.of(content), told.append).whole() == content
    assert told[-1] == len(content)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 5000])
def test_the_last_bytes_of_a_blob_that_lies_never_arrive(content: bytes) -> None:
    verified = Verified(member(content), Digest.of(b"else"))
    came: list[bytes] = []
    with pytest.raises(BadRequest) as caught:
        came.extend(iter(lambda: verified.read(1000), b""))
    assert len(b"".join(came)) <= max(0, len(content) - 1)
    expected, got = Digest.of(b"else"), Digest.of(content)
    assert str(caught.value) == f'digest mismatch, expected "{expected}", got "{got}"'
