"""`import`: the models of one file or pipe, every digest checked, nothing unpacked (GAP-13, security §2)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import re
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.cli.archives import empty, index, members, ollama, repacked, requests, stored
from tests.cli.terminals import TerminalProgram
from tests.conftest import StartServer
from tests.gguf_files import tiny_llama
from tests.running import OLLAMA, Server, clean_environment, running

WEIGHTS = tiny_llama()
LARGE = random.Random(3).randbytes(5 << 20)
"""Beyond what may be a manifest, so it goes to the server as it comes."""
LICENSE = b"MIT License"
TEXTS: dict[str, Any] = {"system": "be kind", "license": LICENSE, "params": b'{"top_k":1}\n'}
MODEL_NAME = "registry.ollama.ai/library/m:latest"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder as stock Ollama leaves it after a pull."""
    root = tmp_path_factory.mktemp("original")
    model_folders.add(root, "m", WEIGHTS, config={"model_format": "gguf"}, more=[("tensor", LARGE)], **TEXTS)
    return root


@pytest.fixture(scope="module")
def archive(original: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with running(tmp_path_factory.mktemp("source"), original) as server:
        return ollama(server, "export", "m", "-").out


@pytest.fixture(scope="module")
def files(archive: bytes) -> dict[str, bytes]:
    return members(archive)


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("target")
    with running(folder, folder / "models") as started:
        yield started


@pytest.fixture
def server(running_server: Server) -> Server:
    """One with an empty models folder."""
    empty(running_server)
    return running_server


def blob(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def manifest(original: Path) -> bytes:
    return model_folders.manifest_path(original, "m").read_bytes()


def uploads(server: Server, after: int = 0) -> list[str]:
    return [line for line in requests(server, "/api/blobs/")[after:] if " POST " in line]


def test_s105_a_model_moves_byte_for_byte(server: Server, original: Path, archive: bytes, tmp_path: Path) -> None:
    """S-105: what arrives is the folder that was exported, file by file, and so as good to either program.

    That the archive is a valid OCI image layout stands in test_export, that a tampered blob is refused further below.
    """
    (tmp_path / "m.tar").write_bytes(archive)
    outcome = ollama(server, "import", tmp_path / "m.tar")
    assert (outcome.status, outcome.out) == (0, b"imported 'm:latest'\n")
    assert f"importing {hashlib.sha256(LARGE).hexdigest()[:12]}: 100% 5.2 MB/5.2 MB\n" in outcome.err
    assert outcome.err.endswith("writing manifest\n")
    assert stored(server.models) == stored(original)
    assert ollama(server, "export", "m", "-").out == archive
    shown = server.post("/api/show", {"model": "m"}).json()
    assert (shown["system"], shown["license"], shown["parameters"].split()) == (
        "be kind",
        LICENSE.decode(),
        ["top_k", "1"],
    )


@pytest.mark.heavy
def test_s105_an_imported_model_answers(start_server: StartServer, tmp_path: Path) -> None:
    source = start_server()
    path = tmp_path / "smollm2.tar"
    assert ollama(source, "export", "smollm2:135m", path).status == 0
    (tmp_path / "target").mkdir()
    with running(tmp_path / "target", tmp_path / "target" / "models") as target:
        assert ollama(target, "import", path).out == b"imported 'smollm2:135m'\n"
        ask = {"model": "smollm2:135m", "prompt": "Hi", "stream": False, "options": {"num_predict": 4}}
        assert target.post("/api/generate", ask).json()["response"]


@pytest.mark.parametrize("which", [LARGE, WEIGHTS, LICENSE, None], ids=["large", "weights", "text", "manifest"])
@pytest.mark.parametrize("is_there", [False, True], ids=["new", "already there"])
def test_s105_a_tampered_blob_is_refused(
    server: Server, original: Path, archive: bytes, which: bytes | None, is_there: bool
) -> None:
    """Whether or not the server has the true one already; of the false one nothing stays."""
    if is_there:
        assert ollama(server, "import", "-", stdin=archive).status == 0
    before = stored(server.models)
    true = manifest(original) if which is None else which
    at = archive.index(true) + len(true) // 2
    tampered = archive[:at] + bytes([archive[at] ^ 1]) + archive[at + 1 :]
    false = true[: len(true) // 2] + tampered[at : at + 1] + true[len(true) // 2 + 1 :]
    outcome = ollama(server, "import", "-", stdin=tampered)
    expected, got = (f"sha256:{hashlib.sha256(content).hexdigest()}" for content in (true, false))
    assert outcome.status == 1
    assert outcome.err.endswith(f'Error: digest mismatch, expected "{expected}", got "{got}"\n')
    after = stored(server.models)
    assert not [path for path in after if path.startswith("manifests/") and path not in before]
    assert all(hashlib.sha256(data).hexdigest() in path for path, data in after.items() if path.startswith("blobs/"))


# --- names ---


def test_another_name(server: Server, archive: bytes, original: Path) -> None:
    outcome = ollama(server, "import", "-", "--as", "Ns/Other:1", stdin=archive)
    assert (outcome.status, outcome.out) == (0, b"imported 'Ns/Other:1'\n")
    assert model_folders.manifest_path(server.models, "Ns/Other:1").read_bytes() == manifest(original)
    assert not model_folders.manifest_path(server.models, "m").exists()


def two_models(files: dict[str, bytes]) -> dict[str, bytes]:
    layer = {"mediaType": "application/vnd.ollama.image.license", "digest": "", "size": len(LICENSE)}
    layer["digest"] = f"sha256:{hashlib.sha256(LICENSE).hexdigest()}"
    second = json.dumps({"schemaVersion": 2, "config": None, "layers": [layer]}).encode()
    first = files[list(files)[2]]
    return {
        **files,
        blob(second): second,
        "index.json": index((first, MODEL_NAME), (second, "host.example:5000/ns/second:tag")),
    }


def test_several_models_in_one_file(server: Server, files: dict[str, bytes]) -> None:
    both = repacked(two_models(files))
    outcome = ollama(server, "import", "-", stdin=both)
    assert (outcome.status, outcome.out.decode().splitlines()) == (
        0,
        ["imported 'm:latest'", "imported 'host.example:5000/ns/second:tag'"],
    )
    refused = ollama(server, "import", "-", "--as", "x", stdin=both)
    assert refused.err.endswith("Error: the file holds 2 models, which --as cannot all name\n")


@pytest.mark.parametrize("name", [None, "", "latest"])
def test_a_file_that_does_not_name_its_model(server: Server, files: dict[str, bytes], name: str | None) -> None:
    """Programs for images often write no more than the tag, which is no model's name."""
    raw = files[list(files)[2]]
    anonymous = repacked({**files, "index.json": index((raw, name))})
    outcome = ollama(server, "import", "-", stdin=anonymous)
    said = name or "no name"
    assert outcome.err.endswith(f"Error: the file does not name its model ({said}): give it one with --as NAME\n")
    assert ollama(server, "import", "-", "--as", "x", stdin=anonymous).out == b"imported 'x:latest'\n"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../b:c", "h/n/m:t/..", "ns/" + "x" * 81])
def test_names_that_are_none(server: Server, files: dict[str, bytes], name: str) -> None:
    raw = files[list(files)[2]]
    outcome = ollama(server, "import", "-", stdin=repacked({**files, "index.json": index((raw, name))}))
    assert outcome.err.endswith(f"Error: invalid model name: {name}\n")
    assert not (server.models / "manifests").exists()


# --- other writers ---


@pytest.mark.parametrize("order", ["index first", "index last", "sorted", "reversed"])
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["GNU", "pax"])
def test_members_in_any_order(server: Server, original: Path, files: dict[str, bytes], order: str, format: int) -> None:
    names = {
        "index first": list(files),
        "index last": [*list(files)[2:], "index.json", "oci-layout"],
        "sorted": sorted(files),
        "reversed": sorted(files, reverse=True),
    }[order]
    outcome = ollama(server, "import", "-", stdin=repacked({name: files[name] for name in names}, format=format))
    assert outcome.status == 0, outcome.err
    assert stored(server.models) == stored(original)


def test_a_compressed_archive(server: Server, original: Path, archive: bytes, tmp_path: Path) -> None:
    (tmp_path / "whatever.bin").write_bytes(gzip.compress(archive, 1))
    assert ollama(server, "import", tmp_path / "whatever.bin").status == 0
    assert stored(server.models) == stored(original)


def test_what_belongs_to_no_model_is_not_sent(server: Server, original: Path, files: dict[str, bytes]) -> None:
    more = {**files, blob(b"stray"): b"stray", "manifest.json": b"[]", "blobs/sha512/" + "0" * 128: b"other"}
    assert ollama(server, "import", "-", stdin=repacked(more)).status == 0
    assert stored(server.models) == stored(original)


def test_a_layer_that_looks_like_a_manifest(server: Server, tmp_path: Path, original: Path) -> None:
    inner = manifest(original)
    raw = model_folders.add(tmp_path, "m", license=inner).read_bytes()
    layout = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        blob(b"{}"): b"{}",
        blob(inner): inner,
        blob(raw): raw,
        "index.json": index((raw, MODEL_NAME)),
    }
    assert ollama(server, "import", "-", stdin=repacked(layout)).status == 0
    assert stored(server.models) == stored(tmp_path)


# --- going on ---


def test_what_is_there_is_not_sent_again(server: Server, archive: bytes) -> None:
    assert ollama(server, "import", "-", stdin=archive).status == 0
    before = len(requests(server, "/api/blobs/"))
    assert ollama(server, "import", "-", "--as", "again", stdin=archive).status == 0
    assert uploads(server, before) == []


def test_a_killed_import_goes_on(server: Server, original: Path, archive: bytes) -> None:
    """Killed in the middle of the last blob; the ones before it have arrived and stay."""
    env = clean_environment(server.home, OLLAMA_HOST=server.host)
    last = archive.index(b'{"top_k":1}\n')
    with subprocess.Popen(
        [OLLAMA, "import", "-"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    ) as process:
        assert process.stdin is not None
        process.stdin.write(archive[: last + 3])
        process.stdin.flush()
        server.wait_until(lambda: (server.models / blob(LICENSE).replace("sha256/", "sha256-")).exists())
        process.send_signal(signal.SIGKILL)
    assert not (server.models / "manifests").exists()
    before = len(requests(server, "/api/blobs/"))
    assert ollama(server, "import", "-", stdin=archive).status == 0
    assert len(uploads(server, before)) == 1
    assert stored(server.models) == stored(original)


def test_from_one_machine_to_the_next_through_a_pipe(server: Server, original: Path, tmp_path: Path) -> None:
    with running(tmp_path, original) as source:
        env = clean_environment(server.home, OLLAMA_HOST=server.host)
        command = f'OLLAMA_HOST={source.host} "$0" export m - | "$0" import -'
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command, OLLAMA], check=False, capture_output=True, text=True, env=env
        )
    assert (ran.returncode, ran.stdout) == (0, "imported 'm:latest'\n"), ran.stderr
    assert stored(server.models) == stored(original)


# --- what is refused ---


def without(files: dict[str, bytes], *names: str) -> bytes:
    return repacked({name: content for name, content in files.items() if name not in names})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "{file} is neither an exported model nor a GGUF file"),
        (b"PK\x03\x04" + bytes(600), "{file} is neither an exported model nor a GGUF file"),
        (b"\x1f\x8b" + bytes(600), "invalid archive: the compressed stream is damaged"),
        (gzip.compress(b"no tar" * 200), "invalid archive: no tar header where one must be"),
        (gzip.compress(gzip.compress(b"no tar")), "invalid archive: "),
    ],
    ids=["empty", "zip", "no gzip", "no tar in it", "twice packed"],
)
def test_files_that_are_no_archive(server: Server, tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    outcome = ollama(server, "import", file)
    assert outcome.status == 1
    assert outcome.err.strip().startswith(f"Error: {text.format(file=file)}")


def test_a_file_that_cannot_be_read(server: Server, tmp_path: Path) -> None:
    assert ollama(server, "import", tmp_path / "nothing").err == (
        f"Error: open {tmp_path}/nothing: No such file or directory\n"
    )
    assert ollama(server, "import", tmp_path).err == f"Error: open {tmp_path}: Is a directory\n"


def test_a_gguf_file_does_not_come_through_a_pipe(server: Server) -> None:
    assert ollama(server, "import", "-", stdin=WEIGHTS).err == (
        "Error: a GGUF file cannot be taken from a pipe: save it and import the file\n"
    )


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def manifest_of(files: dict[str, bytes]) -> bytes:
    return files[list(files)[2]]


def with_index(files: dict[str, bytes], raw: bytes) -> bytes:
    return repacked({**files, "index.json": raw})


def with_wrong_size(files: dict[str, bytes]) -> bytes:
    size = f'"size":{len(manifest_of(files))}'.encode()
    return with_index(files, files["index.json"].replace(size, size + b"0"))


INCOMPLETE: dict[str, tuple[Callable[[dict[str, bytes]], bytes], str]] = {
    "no index": (lambda files: without(files, "index.json"), "invalid archive: it is no OCI image layout"),
    "no mark": (lambda files: without(files, "oci-layout"), "invalid archive: it is no OCI image layout"),
    "no manifest": (
        lambda files: without(files, blob(manifest_of(files))),
        "invalid archive: the manifest sha256:[0-9a-f]{64} is not in it",
    ),
    "no licence": (lambda files: without(files, blob(LICENSE)), f"blobs are missing: {digest_of(LICENSE)}"),
    "no config": (lambda files: without(files, list(files)[3]), "blobs are missing: sha256:"),
    "manifest of another size": (
        with_wrong_size,
        "invalid archive: the manifest sha256:[0-9a-f]{64} has another size than index.json says",
    ),
    "empty index": (lambda files: with_index(files, b"{}"), "invalid archive: index.json lists no manifest"),
    "two indexes": (
        lambda files: repacked(files, ("index.json", files["index.json"])),
        "invalid archive: index.json stands in it twice",
    ),
    "a licence for a manifest": (
        lambda files: with_index(files, index((LICENSE, MODEL_NAME))),
        "invalid manifest: not JSON",
    ),
    "an unknown layout": (
        lambda files: repacked({**files, "oci-layout": b"{}"}),
        "invalid archive: oci-layout names no version",
    ),
}


@pytest.mark.parametrize(("make", "text"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_layouts_that_are_not_whole(
    server: Server, files: dict[str, bytes], make: Callable[[dict[str, bytes]], bytes], text: str
) -> None:
    outcome = ollama(server, "import", "-", stdin=make(files))
    assert outcome.status == 1
    assert re.match(f"Error: {text}", outcome.err.splitlines()[-1])
    assert not (server.models / "manifests").exists()


def test_what_is_not_in_the_file_may_be_on_the_server(server: Server, archive: bytes, files: dict[str, bytes]) -> None:
    """A layout may lack what its reader has; so a second quantization can travel without the shared projector."""
    assert ollama(server, "import", "-", stdin=archive).status == 0
    partial = without(files, blob(LARGE), blob(LICENSE))
    assert ollama(server, "import", "-", "--as", "again", stdin=partial).out == b"imported 'again:latest'\n"


@pytest.mark.parametrize("cut", [100, 600, 3000, 90_000, 1_000_000])
def test_a_file_that_ends_early(server: Server, archive: bytes, cut: int) -> None:
    outcome = ollama(server, "import", "-", stdin=archive[:cut])
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1].startswith("Error: ")
    assert not (server.models / "manifests").exists()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "blobs/sha256/../../../escaped"])
def test_hostile_members_end_it_and_nothing_is_written(
    server: Server, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Security §2, archives: CVE-2024-45436 and its like. All other hostile members are in test_tar."""
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as writer:
        for member in (link("blobs/sha256", "/"), tarfile.TarInfo(name)):
            writer.addfile(member)
    for hostile in (buffer.getvalue(), buffer.getvalue()[512:]):
        outcome = ollama(server, "import", "-", stdin=hostile)
        assert outcome.status == 1
        assert outcome.err.splitlines()[-1].startswith("Error: invalid archive: ")
    assert list(tmp_path.iterdir()) == []
    assert stored(server.models) == {}


def test_a_model_that_no_engine_could_load_is_refused(server: Server, tmp_path: Path) -> None:
    raw = model_folders.add(tmp_path, "m", b"GGUF broken").read_bytes()
    layout = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": index((raw, MODEL_NAME)),
        blob(raw): raw,
        blob(b"{}"): b"{}",
        blob(b"GGUF broken"): b"GGUF broken",
    }
    outcome = ollama(server, "import", "-", stdin=repacked(layout))
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1].startswith("Error: invalid model file: ")
    assert not (server.models / "manifests").exists()


def test_somebody_at_a_terminal_is_told(server: Server) -> None:
    with TerminalProgram(("import", "-"), {"OLLAMA_HOST": server.host, "HOME": str(server.home)}) as program:
        assert program.wait() == 1
    said = "Error: standard input is a terminal: pipe an exported model into it, or name a file\r\n"
    assert program.output == said
