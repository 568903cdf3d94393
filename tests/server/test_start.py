"""What stops a server from starting: settings that would leave it open, or that cannot be meant."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.running import OLLAMA, clean_environment, free_port

SECRET = "a-secret-of-this-server"


def serve(home: Path, **env: str) -> str:
    """The end of what a server says that does not start; fails if it does."""
    settings = clean_environment(home, OLLAMA_HOST=f"127.0.0.1:{free_port()}", **env)
    ended = subprocess.run([OLLAMA, "serve"], env=settings, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "Listening" not in ended.stdout + ended.stderr
    assert SECRET not in ended.stdout + ended.stderr
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        pytest.param({"OLLAMA_API_KEY": "hunter2"}, "needs 16 characters", id="short key: partly X-47"),
        pytest.param({"OLLAMA_ORIGINS": "chat.example.com"}, "'chat.example.com' is not an origin", id="X-07"),
        pytest.param({"LLAMERO_ALLOW_IPS": "lan"}, "LLAMERO_ALLOW_IPS: 'lan'", id="no address"),
        pytest.param({"LLAMERO_API_KEYS_FILE": "/nowhere/keys"}, "not there: /nowhere/keys", id="no file"),
    ],
)
def test_a_setting_that_cannot_be_meant_stops_the_start(tmp_path: Path, env: dict[str, str], said: str) -> None:
    """X-07, with `test_guard`."""
    assert said in serve(tmp_path, **env)


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (f"al admin {SECRET}\n", 0o644, "chmod 600"),
        (f"al admin {SECRET}\nal infer {SECRET}2\n", 0o600, "called al"),
    ],
)
def test_x47_a_key_file_that_is_not_good_stops_the_start(tmp_path: Path, text: str, mode: int, said: str) -> None:
    """X-47, with `test_keys` and `test_keyed_server`."""
    path = tmp_path / ".ollama" / "llamero" / "keys"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)
    assert said in serve(tmp_path)
