"""The Task Scheduler's XML and commands (Windows)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from llamero.cli.service.plan import Run, Wanted, Write
from llamero.cli.service.tasks import TaskScheduler, task

WANTED = Wanted(
    ("C:\\Program Files\\Python\\pythonw.exe", "-m", "llamero.cli.main", "service", "run"),
    "user",
    "ann",
    Path("/Users/ann & bob"),
    Path("/Users/ann/.ollama"),
)
NS = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def text(root: ElementTree.Element, path: str) -> str | None:
    return root.findtext("/".join(f"{NS}{part}" for part in path.split("/")))


@pytest.mark.parametrize(
    ("scope", "trigger", "logon"), [("user", "LogonTrigger", "InteractiveToken"), ("system", "BootTrigger", "S4U")]
)
def test_a_task_that_starts_and_is_never_ended_for_its_length(scope: str, trigger: str, logon: str) -> None:
    root = ElementTree.fromstring(task(replace(WANTED, scope=scope)).split("\n", 1)[1])  # type: ignore[arg-type]
    assert [child.tag for child in root.find(f"{NS}Triggers") or ()] == [f"{NS}{trigger}"]
    assert text(root, "Principals/Principal/LogonType") == logon
    assert text(root, "Principals/Principal/RunLevel") == "LeastPrivilege"
    assert text(root, "Settings/ExecutionTimeLimit") == "PT0S"
    assert text(root, "Settings/StopIfGoingOnBatteries") == "false"
    assert text(root, "Actions/Exec/Command") == "C:\\Program Files\\Python\\pythonw.exe"
    assert text(root, "Actions/Exec/Arguments") == "-m llamero.cli.main service run"
    assert text(root, "Actions/Exec/WorkingDirectory") == "/Users/ann & bob"


def test_its_commands() -> None:
    manager = TaskScheduler(WANTED)
    marker = Path("/Users/ann/.ollama/llamero/task-user.xml")
    assert manager.install() == [
        Write(marker, task(WANTED), encoding="utf-16"),
        Run(("schtasks", "/Create", "/F", "/TN", "Llamero", "/XML", str(marker))),
        Run(("schtasks", "/Run", "/TN", "Llamero")),
    ]
    assert manager.stop() == [Run(("schtasks", "/End", "/TN", "Llamero"), may_fail=True)]
    assert [type(step).__name__ for step in manager.uninstall()] == ["Run", "Run", "Remove"]


def test_the_end_of_its_log_is_shown_whatever_the_folder_is_called() -> None:
    manager = TaskScheduler(replace(WANTED, data=Path("/it's mine")))
    *_, command = manager.logs(5, follow=True).argv
    assert command == "Get-Content -LiteralPath '/it''s mine/logs/server.log' -Tail 5 -Wait"
