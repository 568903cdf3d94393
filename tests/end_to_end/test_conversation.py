"""A conversation in a real terminal, with a real server and a real model (cli §6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.screens import Screen, needs_tmux
from tests.running import Server

pytestmark = [pytest.mark.engine, pytest.mark.tmux, needs_tmux]

READY = r">>> Send a message \(/\? for help\)[^\n]*\Z"


def test_a_saved_session_is_the_model_that_it_was(server: Server, tmp_path: Path) -> None:
    """L-90"""
    env = {"OLLAMA_HOST": server.host, "HOME": str(tmp_path)}
    with Screen(["run", "smollm2:135m", "--num-predict", "8", "--num-ctx", "1024"], env) as screen:
        screen.wait_for(READY)
        screen.say("/set system Answer with one word.")
        screen.say("/set parameter temperature 0")
        screen.say("What is the capital of France?")
        text = screen.wait_for(rf"of France\?\n\S.*{READY}")
        answer = text.split("of France?\n")[1].partition("\n\n>>>")[0]
        assert "/1K" in text.split("\n")[-1]  # how full the context is, as the real server tells it
        screen.say("/save capitals")
        screen.wait_for("Created new model 'capitals'")
        screen.press("C-d")
        screen.wait_for("status=0")
    with Screen(["run", "capitals"], env) as screen:
        text = screen.wait_for(READY)
        assert text.startswith(f">>> What is the capital of France?\n{answer}\n\n>>>")
        screen.say("/show system")
        screen.wait_for("/show system\nAnswer with one word.")
        screen.say("/show parameters")
        screen.wait_for(r"  num_ctx +1024\n  num_predict +8\n.*  temperature +0\n")
    shown = server.post("/api/show", {"model": "capitals"}).json()
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"]
    server.call("DELETE", "/api/delete", {"model": "capitals"})
