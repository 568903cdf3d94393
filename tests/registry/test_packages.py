"""Source distributions from a package index: the archive that was promised, or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamero.errors import Cancelled, RegistryError
from llamero.registry import packages
from llamero.registry.packages import Archive, PackageIndex, parse_page
from llamero.registry.pip import PipSettings
from tests.registry.package_index import JSON, PackageServer

CONTENT = b"sources " * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ROOT = "https://i.example/"
PAGE = f"{ROOT}simple/llm/"


@pytest.fixture(params=[True, False], ids=["json", "html"])
def server(request: pytest.FixtureRequest) -> Iterator[PackageServer]:
    with PackageServer(speaks_json=request.param) as server:
        yield server


def index_of(settings: PipSettings, *, is_cancelled: bool = False, **env: str) -> PackageIndex:
    return PackageIndex(settings, env, lambda: is_cancelled)


def test_a_source_distribution_is_found_and_fetched(server: PackageServer, tmp_path: Path) -> None:
    server.offer("other", "1.0", b"")
    server.offer("llm-x", "1.0", b"older")
    server.offer("llm-x", "1.10", CONTENT)
    server.pages["llm-x"].append({"filename": "llm_x-1.10-py3-none-any.whl", "url": "w.whl", "hashes": {}})
    index = index_of(PipSettings(server.url + "/"))
    found = {archive.version: archive for archive in index.sources("LLM_x")}
    assert found.keys() == {"1.0", "1.10"}
    seen: list[tuple[int, int]] = []
    index.fetch(found["1.10"], tmp_path / "file", lambda done, total: seen.append((done, total)))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_project_that_an_index_does_not_know_has_no_sources(server: PackageServer) -> None:
    assert index_of(PipSettings(server.url)).sources("llm") == []


def test_every_index_and_every_folder_is_looked_into(server: PackageServer, tmp_path: Path) -> None:
    server.offer("llm", "2", CONTENT)
    (tmp_path / "llm-1.tar.gz").write_bytes(CONTENT)
    (tmp_path / "llm-1-py3-none-any.whl").touch()
    with PackageServer() as other:
        other.offer("llm", "3", CONTENT)
        settings = PipSettings(server.url, (other.url,), find_links=(str(tmp_path), "/no/such/folder"))
        assert [archive.version for archive in index_of(settings).sources("llm")] == ["1", "2", "3"]
    offline = index_of(PipSettings(is_offline=True, find_links=(tmp_path.as_uri(),)))
    (archive,) = offline.sources("llm")
    offline.fetch(archive, tmp_path / "copy", lambda done, total: None)
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_another_content_than_promised_is_refused(server: PackageServer, tmp_path: Path) -> None:
    server.offer("llm", "1", CONTENT, sha256="0" * 64)
    index = index_of(PipSettings(server.url))
    with pytest.raises(RegistryError, match=f"llm-1.tar.gz is not what .* its sha256 is {DIGEST}, not 0000"):
        index.fetch(index.sources("llm")[0], tmp_path / "file", lambda done, total: None)


def test_an_archive_without_a_digest_is_refused(server: PackageServer, tmp_path: Path) -> None:
    server.offer("llm", "1", CONTENT, sha256="")
    index = index_of(PipSettings(server.url))
    with pytest.raises(RegistryError, match="gives no sha256 for llm-1"):
        index.fetch(index.sources("llm")[0], tmp_path / "file", lambda done, total: None)
    assert not (tmp_path / "file").exists()


def test_an_archive_without_end_is_cut_off(
    server: PackageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "MAX_ARCHIVE_BYTES", 1000)
    server.offer("llm", "1", CONTENT)
    index = index_of(PipSettings(server.url))
    with pytest.raises(RegistryError, match="larger than 1000 bytes"):
        index.fetch(index.sources("llm")[0], tmp_path / "file", lambda done, total: None)


def test_credentials_go_to_the_index_that_they_are_for_only(server: PackageServer, tmp_path: Path) -> None:
    server.offer("llm", "1", CONTENT)
    index = index_of(PipSettings(server.url.replace("://", "://me:secret@")))
    (archive,) = index.sources("llm")
    index.fetch(archive, tmp_path / "file", lambda done, total: None)
    assert [headers["Authorization"] for _, headers in server.requests] == ["Basic bWU6c2VjcmV0"] * 2
    with PackageServer() as other:
        server.redirects["/simple/llm/"] = f"{other.url.replace('127.0.0.1', 'localhost')}/llm/"
        index_of(PipSettings(server.url.replace("://", "://me:secret@"))).sources("llm")
        assert "Authorization" not in other.requests[-1][1]


def test_credentials_out_of_the_users_file_are_used(server: PackageServer, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    index_of(PipSettings(server.url), HOME=str(tmp_path)).sources("llm")
    assert server.requests[-1][1]["Authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://i.example/simple", "no encryption; set pip's trusted-host"),
        ("ftp://i.example/simple", "no http:// or https:// address"),
        ("simple", "no http:// or https:// address"),
        ("http://127.0.0.1:1/simple", "connection refused"),
    ],
)
def test_an_index_that_cannot_be_asked_is_named_without_its_credentials(url: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as caught:
        index_of(PipSettings(url.replace("://", "://me:secret@"))).sources("llm")
    assert "secret" not in str(caught.value)


def test_an_index_that_only_redirects_is_given_up(server: PackageServer) -> None:
    server.redirects = {"/simple/llm/": f"{server.url}/llm/"}
    with pytest.raises(RegistryError, match="no proper HTTP answer"):
        index_of(PipSettings(server.url)).sources("llm")
    assert len(server.requests) <= packages.MAX_REDIRECTS + 1


def test_a_cancelled_question_ends(server: PackageServer) -> None:
    with pytest.raises(Cancelled):
        index_of(PipSettings(server.url), is_cancelled=True).sources("endless")


@pytest.mark.parametrize(
    ("body", "kind", "found"),
    [
        (
            json.dumps({"files": [{"filename": "a-1.tar.gz", "url": "a-1.tar.gz", "hashes": {"sha256": DIGEST}}]}),
            JSON,
            [Archive("a-1.tar.gz", "", f"{PAGE}a-1.tar.gz", DIGEST)],
        ),
        (f'<a href="/a-1.tar.gz#sha256={DIGEST}">', "text/html", [("a-1.tar.gz", f"{ROOT}a-1.tar.gz", DIGEST)]),
        ('<A HREF="a-1.tar.gz#md5=0123">', "text/html", [("a-1.tar.gz", f"{PAGE}a-1.tar.gz", "")]),
        ('<a href="a-1.tar.gz#sha256=XYZ">', "text/html", [("a-1.tar.gz", f"{PAGE}a-1.tar.gz", "")]),
        (f'<base href="{ROOT}x/"><a href="a-1.tar.gz">', "text/html", [("a-1.tar.gz", f"{ROOT}x/a-1.tar.gz", "")]),
        ('<a href="a%2B1-1.tar.gz?q=1&amp;r=2">', "text/html", [("a+1-1.tar.gz", f"{PAGE}a%2B1-1.tar.gz?q=1&r=2", "")]),
        ('<a href="file:///etc/passwd">', "text/html", [("", "", "")]),
        ("<p>nothing here", "text/html", []),
    ],
)  # fmt: skip
def test_pages_are_read(body: str, kind: str, found: list[Archive | tuple[str, str, str]]) -> None:
    expected = [each if isinstance(each, Archive) else Archive(each[0], "", each[1], each[2]) for each in found]
    assert parse_page(body.encode(), kind, PAGE) == expected


@pytest.mark.parametrize("body", ["", "{", "[]", '{"files": [{"filename": 1}]}', '{"files": null}'])
def test_a_page_that_is_none_is_refused(body: str) -> None:
    with pytest.raises(RegistryError, match="no page of a package index"):
        parse_page(body.encode(), JSON, PAGE)
