"""What reaches pipes and files while the rest of the program has a terminal, byte by byte (cli G-01, §5).

`script` gives each line below a real terminal; the shell takes one stream of it away into a file.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.scripted_server import Reply, ScriptedServer, generated, shown
from tests.running import OLLAMA

pytestmark = pytest.mark.skipif(shutil.which("script") is None, reason="script is not installed")

LAYER = {"digest": "sha256:4f659a1e86d7ffff", "total": 2_000_000_000}
OTHER = {"digest": "sha256:0a1b2c3d4e5fffff", "total": 1000}


def layers(status: str) -> list[dict[str, object]]:
    """Two layers that move by turns, in small steps."""
    steps = []
    for percent in range(2, 101, 2):
        steps += [
            {"status": status, **layer, "completed": int(layer["total"]) * percent // 100} for layer in (LAYER, OTHER)
        ]
    return steps


CONVERTING = [
    {"status": "converting model"},
    *({"status": "quantizing F16 model to Q4_K_M", "total": 1000, "completed": done} for done in range(0, 1001, 50)),
    {"status": "creating new layer sha256:4f659a1e86d7"},
    {"status": "writing manifest"},
    {"status": "success"},
]


@pytest.fixture
def server(server: ScriptedServer) -> ScriptedServer:
    end = [{"status": "success"}]
    model = {"name": "m:latest", "digest": "a" * 64, "size": 10**9}
    server.replies |= {
        "POST /api/pull": Reply(lines=[{"status": "pulling manifest"}, *layers("pulling"), *end]),
        "POST /api/push": Reply(lines=[{"status": "retrieving manifest"}, *layers("pushing 4f659a1e86d7"), *end]),
        "POST /api/create": Reply(lines=CONVERTING),
        "POST /api/show": shown(capabilities=["completion", "thinking"]),
        "POST /api/generate": generated("**word** \x1b[31m", *["word "] * 60),
        "GET /api/tags": Reply(json={"models": [model]}),
        "GET /api/ps": Reply(json={"models": [model], "loading": [{"model": "m:latest", "progress": 0.5}]}),
    }
    return server


def on_a_terminal(server: ScriptedServer, folder: Path, line: str) -> tuple[str, str]:
    """A shell's line with `ollama` in it, on a terminal: what stood there, and what the file `f` got."""
    (folder / "Modelfile").write_text("FROM m\n")
    (folder / "f").unlink(missing_ok=True)
    env = {"HOME": str(folder), "OLLAMA_HOST": server.address, "TERM": "xterm-256color", "SHELL": "/bin/sh"}
    path = f"{OLLAMA.parent}:{os.environ['PATH']}"
    command = ["script", "-qec", f"stty cols 80 rows 24; {line}", "/dev/null"]
    done = subprocess.run(command, cwd=folder, env=env | {"PATH": path}, capture_output=True, stdin=subprocess.DEVNULL)
    return done.stdout.decode(), (folder / "f").read_bytes().decode()


def plain(label: str, total: str, steps: list[str]) -> list[str]:
    return [f"{label} {percent}% {done}/{total}" for percent, done in zip((2, *range(10, 101, 10)), steps, strict=True)]


GIGABYTES = ["40 MB", "200 MB", "400 MB", "600 MB", "800 MB", *(f"1{dot} GB" for dot in ("", ".2", ".4", ".6", ".8"))]
PLAIN = {
    "pull m": ("pulling manifest", "pulling 4f659a1e86d7:", "pulling 0a1b2c3d4e5f:"),
    "push me/m": ("retrieving manifest", "pushing 4f659a1e86d7", "pushing 4f659a1e86d7"),
}


@pytest.mark.parametrize("command", PLAIN)
def test_layers_are_one_line_for_each_tenth(server: ScriptedServer, tmp_path: Path, command: str) -> None:
    """partly L-67: no ESC bytes, a line per status and per layer"""
    shown_there, written = on_a_terminal(server, tmp_path, f"ollama {command} 2>f")
    assert "\x1b" not in shown_there + written
    first, large, small = PLAIN[command]
    lines = written.splitlines()
    assert (lines[0], lines[-1]) == (first, "success")
    assert [line for line in lines if line.endswith("/2 GB")] == plain(large, "2 GB", [*GIGABYTES, "2 GB"])
    sizes = ["20 B", *(f"{tenth}00 B" for tenth in range(1, 10)), "1 KB"]
    assert [line for line in lines if line.endswith("/1 KB")] == plain(small, "1 KB", sizes)
    assert len(lines) == 24


def test_converting_is_one_line_for_each_tenth(server: ScriptedServer, tmp_path: Path) -> None:
    _, written = on_a_terminal(server, tmp_path, "ollama create new -q q4_K_M 2>f")
    assert written.splitlines() == [
        "gathering model components",
        "converting model",
        "quantizing F16 model to Q4_K_M 0% 0 B/1 KB",
        *(f"quantizing F16 model to Q4_K_M {tenth}0% {tenth}00 B/1 KB" for tenth in range(1, 10)),
        "quantizing F16 model to Q4_K_M 100% 1 KB/1 KB",
        "creating new layer sha256:4f659a1e86d7",
        "writing manifest",
        "success",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "ollama run m hi >f",
        pytest.param("ollama run m hi | cat >f", marks=pytest.mark.heavy),
        pytest.param("ollama run m hi --markdown >f", marks=pytest.mark.heavy),
        "ollama list --wide >f; ollama ps --wide >>f 2>>f; ollama show m -v >>f; ollama --help >>f",
        pytest.param("ollama pull m --quiet 2>f; ollama stop m 2>>f; ollama run m '' 2>>f", marks=pytest.mark.heavy),
        pytest.param("CI=1 ollama pull m 2>&1 | cat >f", marks=pytest.mark.heavy),
    ],
)
def test_no_escape_ever_gets_into_a_file(server: ScriptedServer, tmp_path: Path, line: str) -> None:
    """partly L-46. What the model itself says is kept as it is: it is the user's data, and no terminal reads it."""
    _, written = on_a_terminal(server, tmp_path, line)
    assert written
    assert "\x1b" not in written.replace("\x1b[31m", "")


def test_a_question_from_a_pipe_leaves_nothing_on_stderr(server: ScriptedServer, tmp_path: Path) -> None:
    assert on_a_terminal(server, tmp_path, "echo hi | ollama run m 2>f")[1] == ""


def test_on_the_terminal_bars_are_drawn(server: ScriptedServer, tmp_path: Path) -> None:
    """Two layers, two bars as wide as the terminal but one; nothing of it goes to stdout."""
    drawn, written = on_a_terminal(server, tmp_path, "ollama pull m >f")
    assert written == ""
    assert "\x1b[?2026h" in drawn
    *_, last = drawn.split("\x1b[?2026h")
    bars = [line for line in last.replace("\x1b[K", "").split("\r\n") if "▕" in line]
    assert [bar.partition(" ▕")[0] for bar in bars] == ["pulling 4f659a1e86d7: 100%", "pulling 0a1b2c3d4e5f: 100%"]
    assert all(len(bar) == 79 for bar in bars)


def test_a_shell_has_its_terminal_back(server: ScriptedServer, tmp_path: Path) -> None:
    """The cursor is shown again, and lines are echoed as before."""
    drawn, settings = on_a_terminal(server, tmp_path, "stty -a >before; ollama pull m; stty -a >f; diff before f")
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")
    assert settings
    assert "<" not in drawn
    assert shlex.split(settings)
