"""A scripted server with two models, as the greeting and the benchmark tool find it: one talks, one makes vectors."""

from __future__ import annotations

from typing import Any

from tests.cli.scripted_server import Reply, ScriptedServer, chatted, shown

TALKER, EMBEDDER = "talker:1b", "vectors:latest"
FIGURES = {
    "total_duration": 700_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": 40,
    "prompt_eval_duration": 100_000_000,
    "eval_count": 20,
    "eval_duration": 500_000_000,
}
"""400 tokens per second read, 40 written."""

RUNS = 5
"""So many times the tools may ask for all models in turn."""


def stock(server: ScriptedServer, *models: str) -> None:
    """Make it answer everything that the tools ask."""
    listed = [{"name": name, "digest": f"{index:064x}", "size": 10**9} for index, name in enumerate(models)]
    server.replies |= {
        "GET /api/tags": Reply(json={"models": listed}),
        "GET /api/version": Reply(json={"version": "1.2.3"}),
        "GET /api/ps": Reply(json={"models": []}),
        "POST /api/show": [shown(capabilities=abilities(name)) for name in models] * RUNS,
        "POST /api/generate": Reply(json={"model": "m", "response": "", "done": True, "done_reason": "load"}),
        "POST /api/chat": chatted("Hello, ", "10", **FIGURES),
    }


def abilities(name: str) -> list[str]:
    return ["embedding"] if name == EMBEDDER else ["completion"]


def unloads(server: ScriptedServer) -> list[Any]:
    return [body["model"] for body in server.bodies("POST /api/generate") if body.get("keep_alive") == "0s"]
