from __future__ import annotations

from pathlib import Path

import ollama
import pytest

from tests.clients.speakers import GO, call, thought
from tests.parrot import write_parrot
from tests.running import Server
from tests.server.puppet import Puppet
from tests.server.tiny_models import make

VISION = Path(__file__).parents[1] / "data" / "vision-tiny"


@pytest.fixture(scope="session")
def tiny_vision(server: Server) -> str:
    """A tiny random Gemma 3 with its projector, made through the API."""
    client = ollama.Client(server.url)
    files = {path.name: client.create_blob(path) for path in sorted(VISION.glob("*.gguf"))}
    client.create("tiny-vision", files=files)
    client._client.close()
    return "tiny-vision"


@pytest.fixture(scope="session")
def told(server: Server, puppet_theatre: Puppet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The servers and models that checks of a client are for: one model calls a tool, one thinks."""
    folder = tmp_path_factory.mktemp("told")
    first = thought("I need the weather.", call("get_weather", city="Paris"))
    caller = write_parrot(folder / "caller.gguf", first, behind={"1": "It rains in Paris."})
    thinker = write_parrot(folder / "thinker.gguf", thought("Thirty and three.", "It is 33."))
    return {
        "url": server.url,
        "puppet": puppet_theatre.server.url,
        "caller": make(server, "checked-caller", [caller], template=GO),
        "thinker": make(server, "checked-thinker", [thinker], template=GO),
    }
