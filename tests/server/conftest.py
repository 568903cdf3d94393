from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_llama_server import install
from tests.running import Server, linked_copy, running
from tests.server.puppet import Puppet
from tests.server.tiny_models import EYES, TEXT, make


@pytest.fixture(scope="session")
def tiny_eyes(server: Server) -> str:
    """A tiny random Gemma 3 that sees."""
    return make(server, "tiny-eyes", [TEXT, EYES])


@pytest.fixture(scope="session")
def puppet_theatre(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Puppet]:
    folder = tmp_path_factory.mktemp("puppet")
    program = install(folder)
    with running(folder, linked_copy(starter_models, folder / "models"), LLAMERO_LLAMA_SERVER=str(program)) as server:
        puppet = Puppet(server, folder)
        puppet.make_models()
        yield puppet


@pytest.fixture
def puppet(puppet_theatre: Puppet) -> Puppet:
    """One server with a scripted engine for all tests; each begins with the fake's own answers."""
    puppet_theatre.plays()
    return puppet_theatre
