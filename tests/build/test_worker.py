"""Our own programs that work on model files in a child process: what they get, and what they tell."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamero.build import worker
from llamero.errors import BadRequest, Cancelled, DiskFull, LlameroError, NotSupported
from tests.running import children

Run = Callable[..., list[tuple[int, int]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the text of a worker module; returns what it reported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def run_(program: str, **more: Any) -> list[tuple[int, int]]:
        (tmp_path / "some_worker.py").write_text(f"import os, sys, time\nfrom llamero.build import worker\n{program}")
        reports: list[tuple[int, int]] = []
        options: dict[str, Any] = {"cancelled": lambda: False, "timeout_s": 20.0, "broke": "it broke"} | more
        worker.run(
            "some_worker",
            ["argument"],
            output=tmp_path / "output",
            report=lambda completed, total: reports.append((completed, total)),
            **options,
        )
        return reports

    return run_


def test_progress_and_warnings_reach_the_parent(run: Run, tmp_path: Path) -> None:
    warnings: list[str] = []
    program = """
def work(report):
    report(1, 3)
    print("noise of a library")
    worker.warn("careful")
    report(3, 3)
    open("output", "w").write(sys.argv[1])
sys.exit(worker.main(work))
"""
    assert run(program, warn=warnings.append) == [(1, 3), (3, 3)]
    assert warnings == ["careful"]
    assert (tmp_path / "output").read_text() == "argument"


def test_x28_a_worker_gets_no_environment_of_ours(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Partly X-28. The locale is what the interpreter sets for itself."""
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    run("import json; open('output', 'w').write(json.dumps(dict(os.environ)))")
    environment = json.loads((tmp_path / "output").read_text())
    assert set(environment) <= {"PYTHONPATH", "LC_CTYPE"}
    assert "secret" not in str(environment)


@pytest.mark.parametrize(
    ("problem", "error", "text"),
    [
        ("errors.BadRequest('what you sent')", BadRequest, "what you sent"),
        ("errors.InvalidModelFile('cut')", BadRequest, "invalid model file: cut"),
        ("errors.NotSupported('not yet')", NotSupported, "not yet"),
        ("errors.LlameroError('our fault')", LlameroError, "our fault"),
        ("OSError(28, 'No space left on device', '/secret/path')", DiskFull, "no space left on device"),
        ("OSError(5, 'Input/output error', '/secret/path')", LlameroError, "input/output error"),
        ("ValueError('a bug')", LlameroError, "it broke"),
        ("MemoryError()", LlameroError, "it broke"),
    ],
)
def test_what_went_wrong_is_told_and_leaves_no_output(
    run: Run, tmp_path: Path, problem: str, error: type[LlameroError], text: str
) -> None:
    program = f"""
from llamero import errors
def work(report):
    open("output", "w").write("half")
    raise {problem}
sys.exit(worker.main(work))
"""
    with pytest.raises(error) as caught:
        run(program)
    assert type(caught.value) is error
    assert str(caught.value) == text
    assert not (tmp_path / "output").exists()


def test_a_worker_that_is_not_wanted_any_more_is_killed(run: Run, tmp_path: Path) -> None:
    program = "open('output', 'w').write('half')\ntime.sleep(60)"
    before = set(children(os.getpid()))
    with pytest.raises(Cancelled):
        run(program, cancelled=(tmp_path / "output").exists)
    assert not (tmp_path / "output").exists()
    assert set(children(os.getpid())) <= before


def test_a_worker_that_takes_too_long_is_killed(run: Run, tmp_path: Path) -> None:
    began_s = time.monotonic()
    with pytest.raises(LlameroError, match="it broke"):
        run("open('output', 'w').write('half')\ntime.sleep(60)", timeout_s=0.5)
    assert time.monotonic() - began_s < 10
    assert not (tmp_path / "output").exists()
