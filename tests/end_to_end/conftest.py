"""What the tests of the whole program share: somebody else's server, and a models folder that outlives its servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import model_folders
from tests.end_to_end.world import BIG_BYTES, MIB, World, weights, world_at
from tests.running import Server, running


@pytest.fixture(scope="session")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose models are pulled."""
    place = tmp_path_factory.mktemp("neighbour")
    model_folders.add(place / "models", "big", weights(BIG_BYTES, "big"), license="MIT", system="s")
    model_folders.add(place / "models", "archived", weights(8 * MIB, "archived"), license="MIT")
    with running(place, place / "models", LLAMERO_SHARE="1") as server:
        yield server


@pytest.fixture
def world(tmp_path: Path, neighbour: Server) -> Iterator[World]:
    with world_at(tmp_path, tmp_path / "models", neighbour) as made:
        yield made
