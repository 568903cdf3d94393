from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import Server
from tests.server.keyed import AT_ONCE, Keyed, keyed_server
from tests.server.tiny_models import EYES, TEXT, make


@pytest.fixture(scope="session")
def tiny_eyes(server: Server) -> str:
    """A tiny random Gemma 3 that sees."""
    return make(server, "tiny-eyes", [TEXT, EYES])


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """One server with API keys for all tests that change none of them; where it matters a test has a key of its own."""
    env = {"LLAMERO_MAX_CONCURRENT_PER_KEY": str(AT_ONCE), "LLAMERO_SHARE": "1", "OLLAMA_NUM_PARALLEL": "4"}
    with keyed_server(tmp_path_factory.mktemp("keyed"), **env) as started:
        yield started
