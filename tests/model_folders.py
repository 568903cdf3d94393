"""Models folders as another program leaves them: plain files, written without any of our code that is under test.

folder.add(tmp_path, "m", gguf, template="...", newline=False)      a pulled model
folder.blob(tmp_path, b"...")                                       one blob, its digest as `sha256:<hex>`
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

IMAGE = "application/vnd.ollama.image."
CONFIG = "application/vnd.docker.container.image.v1+json"
HOUR_S = 3600


def blob(root: Path, content: bytes, *, age_s: float = 0) -> str:
    name = hashlib.sha256(content).hexdigest()
    path = root / "blobs" / f"sha256-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    make_older(path, age_s)
    return f"sha256:{name}"


def make_older(path: Path, age_s: float) -> None:
    status = os.lstat(path)
    at_ns = status.st_mtime_ns - int(age_s * 1e9)
    os.utime(path, ns=(at_ns, at_ns), follow_symlinks=False)


def manifest_path(root: Path, name: str) -> Path:
    """`m`, `m:tag`, `ns/m:tag` or `host/ns/m:tag` in the tree."""
    base, _, tag = name.rpartition(":") if name.rfind(":") > name.rfind("/") else (name, "", "")
    parts = base.split("/")
    return (root / "manifests").joinpath(*["registry.ollama.ai", "library"][: 3 - len(parts)], *parts, tag or "latest")


def add(
    root: Path,
    name: str,
    model: bytes | None = None,
    *,
    config: dict[str, Any] | None = None,
    newline: bool = False,
    from_name: str = "",
    more: list[tuple[str, bytes]] | None = None,
    **texts: str | bytes,
) -> Path:
    """Write a model of the weights, the layers in `more`, and one for each of `texts`. Returns its manifest."""
    parts = [] if model is None else [("model", model)]
    parts += (more or []) + [(kind, text.encode() if isinstance(text, str) else text) for kind, text in texts.items()]
    layers = [layer(root, IMAGE + kind, content, from_name) for kind, content in parts]
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": layer(root, CONFIG, json.dumps(config or {}).encode()),
        "layers": layers,
    }
    return write(root, name, json.dumps(document, separators=(",", ":")).encode() + b"\n" * newline)


def layer(root: Path, media_type: str, content: bytes, from_name: str = "") -> dict[str, Any]:
    fields = {"mediaType": media_type, "digest": blob(root, content), "size": len(content)}
    return fields | ({"from": from_name} if from_name else {})


def write(root: Path, name: str, raw: bytes) -> Path:
    path = manifest_path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


def blobs(root: Path) -> set[str]:
    """Names of all files in `blobs/`."""
    return {path.name for path in (root / "blobs").glob("*")}


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: content of files, `/` for folders, the target of links."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "/" if path.is_dir() else path.read_bytes()
    return found
