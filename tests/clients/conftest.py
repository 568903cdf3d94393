from __future__ import annotations

from pathlib import Path

import ollama
import pytest

from tests.running import Server

VISION = Path(__file__).parents[1] / "data" / "vision-tiny"


@pytest.fixture(scope="session")
def tiny_vision(server: Server) -> str:
    """A tiny random Gemma 3 with its projector, made through the API."""
    client = ollama.Client(server.url)
    files = {path.name: client.create_blob(path) for path in sorted(VISION.glob("*.gguf"))}
    client.create("tiny-vision", files=files)
    client._client.close()
    return "tiny-vision"
