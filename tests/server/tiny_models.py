"""Tiny models made through the API, the one of `tests/data/vision-tiny`, which sees, and something to look at."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.running import Server

EYES = Path(__file__).parents[1] / "data" / "vision-tiny" / "mmproj.gguf"
TEXT = EYES.with_name("model.gguf")


def make(server: Server, name: str, files: Sequence[Path] = (), *, from_: str = "", **more: object) -> str:
    """Create a model of GGUF files or of another model; gives its name back."""
    digests = {}
    for path in files:
        content = path.read_bytes()
        digests[path.name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        url = f"/api/blobs/{digests[path.name]}"
        if server.call("HEAD", url).status != 200:  # of what is there already, the server reads only a part
            assert server.post(url, content).status in (200, 201)
    body = {"model": name, "stream": False, **({"files": digests} if digests else {"from": from_}), **more}
    reply = server.post("/api/create", body)
    assert reply.json() == {"status": "success"}, reply.body
    return name


def picture(color: str = "red", form: str = "PNG", size: tuple[int, int] = (96, 64), **more: Any) -> bytes:
    """A gradient, so that no two places look the same."""
    file = io.BytesIO()
    image = Image.merge("RGB", [Image.linear_gradient("L").resize(size)] * 3)
    Image.blend(image, Image.new("RGB", size, color), 0.6).save(file, form, **more)
    return file.getvalue()
