"""What the tests of export and import share: the command in this process against a real server, and archives for it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from llamero.cli.main import main
from tests.running import Server

NAME = "org.opencontainers.image.ref.name"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Outcome:
    status: int
    out: bytes
    err: str


def ollama(server: Server, *argv: str | Path, stdin: bytes = b"") -> Outcome:
    """One run with nothing being a terminal."""
    out, err = io.TextIOWrapper(io.BytesIO(), write_through=True), io.StringIO()
    status = main(
        [str(word) for word in argv],
        env={"OLLAMA_HOST": server.host, "HOME": str(server.home)},
        stdin=io.TextIOWrapper(io.BytesIO(stdin)),
        stdout=out,
        stderr=err,
    )
    return Outcome(status, out.buffer.getvalue(), err.getvalue())


def empty(server: Server) -> None:
    """Give a running server an empty models folder."""
    for folder in ("blobs", "manifests", ".llamero"):
        shutil.rmtree(server.models / folder, ignore_errors=True)


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}  # type: ignore[union-attr]


def repacked(files: dict[str, bytes], *more: tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive as another program would write it: its folders, times and owners, and a record of 10 KiB to fill."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as writer:
        for folder in ("./", "./blobs/", "./blobs/sha256/"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            writer.addfile(info)
        for name, content in (*files.items(), *more):
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mtime, info.uid, info.uname = len(content), 1_700_000_000.5, 1000, "somebody"
            writer.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def index(*entries: tuple[bytes, str | None]) -> bytes:
    """An index of manifests and their names."""
    manifests = [
        {"mediaType": DOCKER, "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}", "size": len(raw)}
        | ({"annotations": {NAME: name}} if name is not None else {})
        for raw, name in entries
    ]
    return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()


def stored(root: Path) -> dict[str, bytes]:
    """Every manifest and blob, by its path in a models folder."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in ("blobs", "manifests")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


def requests(server: Server, path: str = "") -> list[str]:
    """`206 GET "/path"` of every request that the server has logged, or of those whose path begins so."""
    lines = [line.split(" | ") for line in server.log.read_text().splitlines() if line.startswith("[GIN]")]
    asked = [f"{fields[1].strip()} {' '.join(fields[-1].split())}" for fields in lines]
    return [line for line in asked if f' "{path}' in line]
