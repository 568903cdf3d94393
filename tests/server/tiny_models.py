"""Tiny models made through the API, and the one of `tests/data/vision-tiny`, which sees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tests.running import Server

EYES = Path(__file__).parents[1] / "data" / "vision-tiny" / "mmproj.gguf"
TEXT = EYES.with_name("model.gguf")


def make(server: Server, name: str, files: Sequence[Path] = (), *, from_: str = "", **more: object) -> str:
    """Create a model of GGUF files or of another model; gives its name back."""
    digests = {}
    for path in files:
        content = path.read_bytes()
        digests[path.name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert server.post(f"/api/blobs/{digests[path.name]}", content).status in (200, 201)
    body = {"model": name, "stream": False, **({"files": digests} if digests else {"from": from_}), **more}
    reply = server.post("/api/create", body)
    assert reply.json() == {"status": "success"}, reply.body
    return name
