"""Whether requests are welcome."""

from __future__ import annotations

from pathlib import Path

from llamero.server.health import Readiness
from tests.conftest import StartServer
from tests.fake_llama_server import DEFAULT_LINES, install


def test_readiness_has_three_phases() -> None:
    stopping = False
    readiness = Readiness(lambda: stopping)
    phases = [readiness.phase]
    readiness.started()
    phases.append(readiness.phase)
    stopping = True
    phases.append(readiness.phase)
    assert phases == ["starting", "ok", "stopping"]


def test_a_server_is_not_ready_before_its_models_are(start_server: StartServer, tmp_path: Path) -> None:
    """Other requests are answered meanwhile."""
    program = install(tmp_path, {"prints": [0.6, *DEFAULT_LINES]})
    server = start_server(LLAMERO_PRELOAD="smollm2:135m", LLAMERO_LLAMA_SERVER=str(program))
    reply = server.get("/readyz")
    assert (reply.status, reply.json()) == (503, {"status": "starting"})
    assert server.call("HEAD", "/readyz").status == 503
    assert server.get("/healthz").status == server.get("/api/tags").status == 200
    server.wait_until(lambda: server.get("/readyz").status == 200)
    assert server.loaded() == ["smollm2:135m"]
