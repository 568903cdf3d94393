"""Windows: a task of the Task Scheduler, which needs no program that speaks the protocol of Windows services.

The task of a user starts when they sign in; that of the machine starts with it, as the user who installed it, and
needs an administrator's prompt. Either writes its log itself: the scheduler keeps none.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .plan import Remove, Run, Step, Wanted, Write, tail

NAME = "Llamero"
_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"


def task(wanted: Wanted) -> str:
    """The task in the scheduler's XML."""
    is_user = wanted.scope == "user"
    root = ElementTree.Element("Task", version="1.2", xmlns=_NAMESPACE)
    _add(root, "RegistrationInfo", Description="Llamero, a server for language models")
    triggers = ElementTree.SubElement(root, "Triggers")
    _add(triggers, "LogonTrigger" if is_user else "BootTrigger", **({"UserId": wanted.account} if is_user else {}))
    principal = _add(
        ElementTree.SubElement(root, "Principals"),
        "Principal",
        UserId=wanted.account,
        LogonType="InteractiveToken" if is_user else "S4U",
        RunLevel="LeastPrivilege",
    )
    principal.set("id", "Author")
    settings = _add(
        root,
        "Settings",
        MultipleInstancesPolicy="IgnoreNew",
        DisallowStartIfOnBatteries="false",
        StopIfGoingOnBatteries="false",
        ExecutionTimeLimit="PT0S",
        Priority="5",  # the scheduler's own 7 is below normal
        Hidden="true",
    )
    _add(settings, "RestartOnFailure", Interval="PT1M", Count="10")
    actions = ElementTree.SubElement(root, "Actions", Context="Author")
    program, *arguments = wanted.program
    _add(
        actions,
        "Exec",
        Command=program,
        Arguments=subprocess.list2cmdline(arguments),
        WorkingDirectory=str(wanted.home),
    )
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-16"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, tag: str, **texts: str) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    for name, text in texts.items():
        ElementTree.SubElement(element, name).text = text
    return element


@dataclass(frozen=True, slots=True)
class TaskScheduler:
    wanted: Wanted

    @property
    def marker(self) -> Path:
        return self.wanted.data / "llamero" / f"task-{self.wanted.scope}.xml"

    @property
    def advice(self) -> str:
        return "its settings are yours: `ollama config`\n"

    def install(self) -> list[Step]:
        return [
            Write(self.marker, task(self.wanted), encoding="utf-16"),
            Run(("schtasks", "/Create", "/F", "/TN", NAME, "/XML", str(self.marker))),
            *self.start(),
        ]

    def uninstall(self) -> list[Step]:
        return [*self.stop(), Run(("schtasks", "/Delete", "/F", "/TN", NAME), may_fail=True), Remove(self.marker)]

    def start(self) -> list[Step]:
        return [Run(("schtasks", "/Run", "/TN", NAME))]

    def stop(self) -> list[Step]:
        return [Run(("schtasks", "/End", "/TN", NAME), may_fail=True)]

    def restart(self) -> list[Step]:
        return [*self.stop(), *self.start()]

    def status(self) -> Run:
        return Run(("schtasks", "/Query", "/V", "/FO", "LIST", "/TN", NAME), may_fail=True)

    def logs(self, lines: int, *, follow: bool) -> Run:
        return tail(self.wanted.data / "logs" / "server.log", lines, follow=follow, windows=True)
