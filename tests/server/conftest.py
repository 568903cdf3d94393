from __future__ import annotations

import pytest

from tests.running import Server
from tests.server.tiny_models import EYES, TEXT, make


@pytest.fixture(scope="session")
def tiny_eyes(server: Server) -> str:
    """A tiny random Gemma 3 that sees."""
    return make(server, "tiny-eyes", [TEXT, EYES])
