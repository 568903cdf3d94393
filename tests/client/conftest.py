"""A scripted server, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llamero.client import Client
from llamero.config import parse_host
from tests.cli.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Client:
    return Client(parse_host(server.address)[0])
