from __future__ import annotations

from pathlib import Path

import pytest

from llamero.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A models folder that does not exist yet."""
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)
