"""`export`: one file with a whole model, which is there whole or not at all (GAP-13)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from llamero.cli.main import main
from tests import model_folders
from tests.cli.archives import members, ollama, requests
from tests.cli.terminals import TerminalProgram
from tests.gguf_files import tiny_llama
from tests.running import OLLAMA, Server, clean_environment, running

WEIGHTS = tiny_llama()
BIG = random.Random(2).randbytes(1 << 20) * 96


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("export")
    model_folders.add(folder / "models", "m", WEIGHTS, system="s", license="MIT", config={"model_format": "gguf"})
    model_folders.add(folder / "models", "big", more=[("tensor", BIG)])
    with running(folder, folder / "models") as started:
        yield started


@pytest.fixture(scope="module")
def archive(server: Server) -> bytes:
    return ollama(server, "export", "m", "-").out


def environment(server: Server) -> dict[str, str]:
    return clean_environment(server.home, OLLAMA_HOST=server.host)


def exports(server: Server) -> list[str]:
    return requests(server, "/api/llamero/export")


def test_a_file_and_what_is_said(server: Server, tmp_path: Path, archive: bytes) -> None:
    target = tmp_path / "m.tar"
    outcome = ollama(server, "export", "m", target)
    assert (outcome.status, outcome.out) == (0, f"exported 'm' to '{target}'\n".encode())
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert f"exporting {digest[:12]}: 100% 77 KB/77 KB\n" in outcome.err
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() == archive


def test_the_archive_is_an_oci_image_layout(server: Server, archive: bytes) -> None:
    """Every MUST of the OCI image-spec 1.0 on layouts, indexes and descriptors. Partly S-105."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert all(member.isreg() for member in opened)
        assert len(opened.getnames()) == len(set(opened.getnames()))
    files = members(archive)
    assert json.loads(files.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files.pop("index.json"))
    assert index["schemaVersion"] == 2
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    for name, content in files.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    (entry,) = index["manifests"]
    name = entry["annotations"]["org.opencontainers.image.ref.name"]
    assert name == "registry.ollama.ai/library/m:latest"
    assert re.fullmatch(r"[A-Za-z0-9]+(([-._:@+]|--|/)[A-Za-z0-9]+)*", name)
    manifest = json.loads(files[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    assert manifest["mediaType"] == entry["mediaType"]
    descriptors = [entry, manifest["config"], *manifest["layers"]]
    for each in descriptors:
        assert re.fullmatch(r"[a-z]+/[A-Za-z0-9.+_-]+", each["mediaType"])
        assert len(files[f"blobs/sha256/{each['digest'].removeprefix('sha256:')}"]) == each["size"]
    assert len(files) == len(descriptors)


def test_standard_output_is_nothing_but_the_archive(server: Server, archive: bytes) -> None:
    """As over ssh: `ssh host ollama export m - | ollama import -`."""
    ran = subprocess.run([OLLAMA, "export", "m", "-"], check=True, capture_output=True, env=environment(server))
    assert ran.stdout == archive
    assert b"exporting" in ran.stderr
    assert b"\x1b" not in ran.stderr


def test_a_reader_that_goes_away(server: Server) -> None:
    with subprocess.Popen(
        [OLLAMA, "export", "big", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(server)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 141
    assert b"Error" not in said


def test_a_file_that_is_there_stays(server: Server, tmp_path: Path, archive: bytes) -> None:
    target = tmp_path / "m.tar"
    target.write_bytes(b"precious")
    outcome = ollama(server, "export", "m", target)
    assert (outcome.status, outcome.err) == (1, f"Error: {target} already exists; --force replaces it\n")
    assert target.read_bytes() == b"precious"
    assert ollama(server, "export", "--force", "m", target).status == 0
    assert target.read_bytes() == archive
    assert ollama(server, "export", "--force", "m", tmp_path).err == (
        f"Error: {tmp_path} is not a file; - writes to standard output\n"
    )


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("nobody", "x.tar", "model 'nobody' not found"),
        ("..", "x.tar", "invalid model name"),
        ("m", "no/folder/x.tar", "open no/folder/x.tar.partial: No such file or directory"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = ollama(server, "export", name, file)
    assert (outcome.status, outcome.out, outcome.err) == (1, b"", f"Error: {text}\n")
    assert list(tmp_path.iterdir()) == []


# --- going on ---


@pytest.mark.parametrize("held_bytes", [0, 1, 512, 1536, 1600, 2048, 50_000, -513, -1, None])
def test_a_broken_export_goes_on(server: Server, tmp_path: Path, archive: bytes, held_bytes: int | None) -> None:
    """From wherever it broke off; also when only the last step, the renaming, was missing."""
    target, partial = tmp_path / "m.tar", tmp_path / "m.tar.partial"
    partial.write_bytes(archive[:held_bytes])
    outcome = ollama(server, "export", "m", target)
    assert outcome.status == 0, outcome.err
    assert target.read_bytes() == archive
    assert not partial.exists()
    resumes = held_bytes is None or held_bytes < 0 or held_bytes >= 2048
    assert exports(server)[-1].startswith("206" if resumes else "200")


def test_a_killed_export_goes_on(server: Server, tmp_path: Path) -> None:
    target, partial = tmp_path / "big.tar", tmp_path / "big.tar.partial"
    with subprocess.Popen(
        [OLLAMA, "export", "big", target], stderr=subprocess.DEVNULL, env=environment(server)
    ) as process:
        while not partial.exists() or partial.stat().st_size < 4 << 20:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    held_bytes = partial.stat().st_size
    assert not target.exists()
    assert 4 << 20 <= held_bytes < len(BIG)
    assert ollama(server, "export", "big", target).status == 0
    assert exports(server)[-1].startswith("206")
    assert target.read_bytes().count(BIG) == 1
    assert not partial.exists()


def test_an_export_of_another_state_starts_again(server: Server, tmp_path: Path, archive: bytes) -> None:
    partial = tmp_path / "m.tar.partial"
    server.post("/api/copy", {"source": "m", "destination": "copy"})
    partial.write_bytes(ollama(server, "export", "copy", "-").out[:60_000])
    outcome = ollama(server, "export", "m", tmp_path / "m.tar")
    assert "m.tar.partial is of another state of the model: starting again\n" in outcome.err
    assert (tmp_path / "m.tar").read_bytes() == archive


def test_damage_in_what_was_held_is_found_and_mended(server: Server, tmp_path: Path, archive: bytes) -> None:
    """A power cut leaves zeros where nobody had written yet. What lies before the damage is kept."""
    target, partial = tmp_path / "m.tar", tmp_path / "m.tar.partial"
    at = archive.index(WEIGHTS) + 10_000
    partial.write_bytes(archive[:at] + bytes(500) + b"\1" + archive[at + 501 : -600])
    first = ollama(server, "export", "m", target)
    assert first.status == 1
    assert "Error: digest mismatch, expected" in first.err
    assert not target.exists()
    assert partial.stat().st_size == archive.index(WEIGHTS) - 512
    assert ollama(server, "export", "m", target).status == 0
    assert target.read_bytes() == archive


def test_somebody_elses_partial_file_is_left_alone(server: Server, tmp_path: Path) -> None:
    partial = tmp_path / "m.tar.partial"
    partial.write_bytes(b"half a thesis")
    outcome = ollama(server, "export", "m", tmp_path / "m.tar")
    assert (outcome.status, outcome.err) == (
        1,
        f"Error: {partial} is there and no unfinished export: remove it, or name another file\n",
    )
    assert partial.read_bytes() == b"half a thesis"


def test_a_partial_file_that_is_too_long(server: Server, tmp_path: Path, archive: bytes) -> None:
    partial = tmp_path / "m.tar.partial"
    partial.write_bytes(archive + bytes(5000))
    outcome = ollama(server, "export", "m", tmp_path / "m.tar")
    assert outcome.err == f"Error: {partial} is longer than the archive: remove it\n"


def test_two_exports_into_one_file(server: Server, tmp_path: Path) -> None:
    target, partial = tmp_path / "big.tar", tmp_path / "big.tar.partial"
    with subprocess.Popen(
        [OLLAMA, "export", "big", target], stderr=subprocess.DEVNULL, env=environment(server)
    ) as process:
        while not partial.exists() or not partial.stat().st_size:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        second = ollama(server, "export", "big", target)
        process.send_signal(signal.SIGCONT)
    assert second.err == f"Error: {partial} is being written by another export\n"
    assert process.returncode == 0
    assert target.exists()


def test_a_blob_that_is_damaged_in_the_store_is_not_exported(server: Server, tmp_path: Path) -> None:
    raw = model_folders.add(server.models, "rotten", more=[("tensor", b"rotten" * 1000)]).read_bytes()
    digest = json.loads(raw)["layers"][0]["digest"]
    (server.models / "blobs" / digest.replace(":", "-")).write_bytes(b"rotted" * 1000)
    outcome = ollama(server, "export", "rotten", tmp_path / "r.tar")
    got = hashlib.sha256(b"rotted" * 1000).hexdigest()
    assert outcome.err.endswith(f'Error: digest mismatch, expected "{digest}", got "sha256:{got}"\n')
    assert not (tmp_path / "r.tar").exists()
    assert ollama(server, "export", "rotten", "-").status == 1


def test_a_server_that_breaks_off(server: Server, tmp_path: Path) -> None:
    model_folders.add(server.models, "cut", more=[("tensor", BIG[1:])])
    blob = next(path for path in (server.models / "blobs").iterdir() if path.stat().st_size == len(BIG) - 1)
    target, partial = tmp_path / "cut.tar", tmp_path / "cut.tar.partial"
    with subprocess.Popen(
        [OLLAMA, "export", "cut", target], stderr=subprocess.PIPE, env=environment(server)
    ) as process:
        while not partial.exists() or not partial.stat().st_size:
            time.sleep(0.001)
        os.truncate(blob, 5 << 20)
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()[-1]
    assert process.returncode == 1
    assert said.startswith("Error: the server hung up with ")
    assert said.endswith("; its log says why; the same command again goes on from there")
    assert partial.exists()
    assert not target.exists()


class Unmeasured(BaseHTTPRequestHandler):
    """A proxy that passes a reply on without its length."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_reply_of_unknown_length_is_no_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody could tell where it broke off."""
    with HTTPServer(("127.0.0.1", 0), Unmeasured) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"127.0.0.1:{proxy.server_port}"
        assert main(["export", "m", str(tmp_path / "m.tar")], env={"OLLAMA_HOST": address, "HOME": str(tmp_path)}) == 1
        proxy.shutdown()
        thread.join()
    assert "the server does not say how long the archive is" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- disks ---


def test_a_file_that_may_not_grow(server: Server, tmp_path: Path, archive: bytes) -> None:
    """As on a stick whose file system ends at 4 GB. What was written is not lost."""
    target, partial = tmp_path / "m.tar", tmp_path / "m.tar.partial"
    ran = subprocess.run(
        ["sh", "-c", 'ulimit -f 100; exec "$0" export m "$1"', OLLAMA, target],
        check=False,
        capture_output=True,
        text=True,
        env=environment(server),
    )
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, f"Error: write {partial}: File too large")
    assert 50 << 10 <= partial.stat().st_size < len(archive)
    assert not target.exists()
    assert ollama(server, "export", "m", target).status == 0
    assert target.read_bytes() == archive


SMALL_DISK = 'mount -t tmpfs -o size=256k none "$1" && exec "$0" export big "$1/big.tar"'


def test_a_disk_without_room_is_told_before_anything_is_written(server: Server, tmp_path: Path) -> None:
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        subprocess.run([*command, "mount", "-t", "tmpfs", "none", tmp_path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a mount namespace: {error}")
    ran = subprocess.run(
        [*command, "sh", "-c", SMALL_DISK, OLLAMA, tmp_path],
        check=False,
        capture_output=True,
        text=True,
        env=environment(server),
    )
    assert (ran.returncode, ran.stderr) == (
        1,
        f"Error: not enough space for {tmp_path}/big.tar.partial: 100 MB are needed, 262 KB are free\n",
    )


# --- on a terminal ---


def on_terminal(server: Server, *argv: str) -> tuple[int, str]:
    with TerminalProgram(argv, {"OLLAMA_HOST": server.host, "HOME": str(server.home)}) as program:
        return program.wait(), program.output


def test_an_archive_never_reaches_a_terminal(server: Server) -> None:
    status, output = on_terminal(server, "export", "m", "-")
    assert status == 1
    assert output == "Error: a model is not written to a terminal: redirect the output, or name a file\r\n"


def test_bars_on_a_terminal(server: Server, tmp_path: Path) -> None:
    status, output = on_terminal(server, "export", "m", str(tmp_path / "m.tar"))
    assert status == 0
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert re.search(f"exporting {digest[:12]}: 100% ▕█+▏  77 KB", output)
