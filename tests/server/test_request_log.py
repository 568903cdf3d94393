"""OLLAMA_DEBUG_LOG_REQUESTS: bodies on disk that nobody else can read, and scripts that send them again."""

from __future__ import annotations

import asyncio
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from llamero.server.request_log import KeptRequests, NoRequestLog
from llamero.server.routes import Route
from tests.running import running

CHAT = Route("POST", "/api/chat", None, "", "infer")


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def keeping() -> KeptRequests:
    return KeptRequests("http://127.0.0.1:1", max_total_bytes=10)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_body_and_script_are_for_us_alone() -> None:
    kept = keeping()
    await kept.keep(CHAT, b"{}", "")
    body, script = sorted(kept.folder.iterdir())
    assert body.read_bytes() == b"{}"
    assert (body.suffix, script.suffix) == (".body", ".sh")
    assert (mode(kept.folder), mode(body), mode(script)) == (0o700, 0o600, 0o600)


async def test_that_prompts_are_written_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    kept = keeping()
    (record,) = caplog.records
    assert (record.levelname, str(kept.folder) in record.getMessage()) == ("WARNING", True)


@pytest.mark.parametrize(
    ("method", "path", "is_kept"),
    [
        ("POST", "/api/generate", True),
        ("POST", "/v1/messages", True),
        ("POST", "/api/create", False),
        ("POST", "/api/llamero/keys", False),
        ("GET", "/v1/models", False),
    ],
)
async def test_only_inference_is_kept(method: str, path: str, is_kept: bool) -> None:
    kept = keeping()
    await kept.keep(Route(method, path, None, "", "infer"), b"x", "")
    assert bool(list(kept.folder.iterdir())) == is_kept


async def test_it_never_fills_the_disk(caplog: pytest.LogCaptureFixture) -> None:
    kept = keeping()
    for _ in range(4):
        await kept.keep(CHAT, b"four", "")
    assert len(list(kept.folder.glob("*.body"))) == 2
    assert [record.getMessage().endswith("no more requests are written") for record in caplog.records] == [False, True]


async def test_a_folder_that_is_gone_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    kept = keeping()
    shutil.rmtree(kept.folder)
    await kept.keep(CHAT, b"x", "")
    assert "could not be written" in caplog.messages[-1]


def test_a_content_type_cannot_leave_its_quotes() -> None:
    kept = keeping()
    asyncio.run(kept.keep(CHAT, b"x", "a'; touch owned; '"))
    (script,) = kept.folder.glob("*.sh")
    subprocess.run(["sh", "-n", script], check=True)
    subprocess.run(["/bin/sh", script], env={"PATH": str(kept.folder)}, check=False, capture_output=True)
    assert not (kept.folder / "owned").exists()


async def test_switched_off_it_does_nothing() -> None:
    await NoRequestLog().keep(CHAT, b"x", "")


def test_what_was_kept_can_be_sent_again(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the scripts are curl's")
    env = {"OLLAMA_DEBUG_LOG_REQUESTS": "1", "TMPDIR": str(tmp_path)}
    with running(tmp_path, tmp_path / "models", **env) as server:
        asked = server.post("/api/chat", {"model": "none-of-that-name", "messages": []})
        (folder,) = tmp_path.glob("llamero-requests-*")
        (script,) = folder.glob("*.sh")
        again = subprocess.run(["sh", script], capture_output=True, check=True)
    assert again.stdout == asked.body
    assert b"not found" in asked.body
    assert "every prompt is written to" in server.log.read_text()
