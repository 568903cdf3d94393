"""Every command against servers that go wrong in every way: a line that says so, status 1, no traceback (cli §1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Outcome, command
from tests.cli.faults import FAULTS, faulty_server
from tests.running import free_port

COMMANDS = (
    "create new -f {folder}/Modelfile",
    "show m",
    "show m --modelfile",
    "run m hi",
    "run m hi --format json",
    "stop m",
    "stop --all",
    "pull m",
    "pull m --dry-run",
    "pull m --json",
    "push me/m",
    "signin",
    "signout",
    "list",
    "ps",
    "ps --wide",
    "cp a b",
    "rm a",
    "rm a* --dry-run",
    "launch claude --config --model m",
    "mv a b",
    "update",
    "du",
    "prune",
    "cache",
    "cache clear",
    "fit m",
    "key list",
    "key new box",
    "key revoke box",
    "export m {folder}/out.tar",
    "import {folder}/in.gguf --as m",
    "doctor --store",
    "hi",
    "bench --auto",
)
NEED_NO_SERVER = {"cache", "cache clear", "doctor --store", "key list", "key new box", "key revoke box"}
"""Without one they look at the folder or the file themselves."""
ARE_ANSWERED_WITHOUT_A_BODY = {"signout", "cp a b", "rm a", "key revoke box"}
"""For these 200 is success, whatever comes with it."""
WHOLE = ("garbage", "an empty body", "JSON that is no object")


def run(line: str, host: str, folder: Path) -> Outcome:
    (folder / "Modelfile").write_text("FROM m\n")
    (folder / "in.gguf").write_bytes(b"GGUF" + bytes(100))
    ollama = command(host, folder)
    return ollama(*line.format(folder=folder).split(), env={"LLAMERO_AUTOSTART": "0"})


def check(outcome: Outcome, what: str) -> None:
    assert outcome.status == 1, (what, outcome)
    *_, last = outcome.err.splitlines()
    assert last.startswith("Error: "), (what, outcome)
    assert len(last) > len("Error: x")
    assert "Traceback" not in outcome.err
    assert "--debug" not in outcome.err, (what, outcome)  # what is said of an error that nobody has foreseen
    assert "\x1b" not in outcome.out + outcome.err


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("line", sorted({*COMMANDS} - NEED_NO_SERVER))
def test_nothing_listens(line: str, tmp_path: Path) -> None:
    outcome = run(line, f"127.0.0.1:{free_port()}", tmp_path)
    check(outcome, line)
    assert len(outcome.err.splitlines()) == 1
    assert "ollama serve" in outcome.err


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_goes_wrong(fault: str, tmp_path: Path) -> None:
    with faulty_server(fault) as host:
        for line in COMMANDS:
            outcome = run(line, host, tmp_path)
            if not (fault in WHOLE and line in ARE_ANSWERED_WITHOUT_A_BODY):
                check(outcome, f"{fault}: {line}")
    assert not (tmp_path / "out.tar").exists()
    assert not (tmp_path / ".claude").exists()
