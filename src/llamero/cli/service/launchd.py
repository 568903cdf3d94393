"""launchd on macOS: an agent of one user, or a daemon that runs as one."""

from __future__ import annotations

import plistlib
from dataclasses import dataclass
from pathlib import Path

from .plan import Remove, Run, Step, Wanted, Write, tail

LABEL = "io.github.llamero.server"
STOP_LIMIT_S = 15
"""Then launchd kills it; the server itself is done in five."""
OPEN_FILES = 65536


def plist(wanted: Wanted) -> str:
    """The property list of the job."""
    log = str(log_file(wanted))
    job: dict[str, object] = {
        "Label": LABEL,
        "ProgramArguments": list(wanted.program),
        "RunAtLoad": True,
        # a server that was asked to stop leaves with 0 and stays away
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 3,
        "ExitTimeOut": STOP_LIMIT_S,
        "ProcessType": "Interactive",  # anything less is slowed down
        "SoftResourceLimits": {"NumberOfFiles": OPEN_FILES, "Core": 0},
        "EnvironmentVariables": {"HOME": str(wanted.home)},
        "WorkingDirectory": str(wanted.home),
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    if wanted.scope == "system":
        job["UserName"] = wanted.account
    return plistlib.dumps(job, sort_keys=False).decode()


def log_file(wanted: Wanted) -> Path:
    return wanted.data / "logs" / "server.log"


@dataclass(frozen=True, slots=True)
class Launchd:
    wanted: Wanted
    uid: int
    """Of the account."""

    @property
    def marker(self) -> Path:
        folder = Path("/Library/LaunchDaemons")
        if self.wanted.scope == "user":
            folder = self.wanted.home / "Library/LaunchAgents"
        return folder / f"{LABEL}.plist"

    @property
    def _domain(self) -> str:
        return f"gui/{self.uid}" if self.wanted.scope == "user" else "system"

    @property
    def _job(self) -> str:
        return f"{self._domain}/{LABEL}"

    @property
    def advice(self) -> str:
        return f"it runs as {self.wanted.account}, with the settings of `ollama config`\n"

    def install(self) -> list[Step]:
        return [
            self._log_folder(),
            Run(("launchctl", "bootout", self._job), may_fail=True),
            Write(self.marker, plist(self.wanted)),
            Run(("launchctl", "enable", self._job)),
            Run(("launchctl", "bootstrap", self._domain, str(self.marker))),
        ]

    def _log_folder(self) -> Run:
        """launchd opens the log and makes no folder for it. Whose it is matters: root would shut its owner out."""
        make = ("mkdir", "-p", str(log_file(self.wanted).parent))
        return Run(make if self.wanted.scope == "user" else ("sudo", "-u", self.wanted.account, *make))

    def uninstall(self) -> list[Step]:
        return [Run(("launchctl", "bootout", self._job), may_fail=True), Remove(self.marker)]

    def start(self) -> list[Step]:
        return [Run(("launchctl", "kickstart", self._job))]

    def stop(self) -> list[Step]:
        return [Run(("launchctl", "kill", "SIGTERM", self._job))]

    def restart(self) -> list[Step]:
        return [Run(("launchctl", "kickstart", "-k", self._job))]

    def status(self) -> Run:
        return Run(("launchctl", "print", self._job), may_fail=True)

    def logs(self, lines: int, *, follow: bool) -> Run:
        return tail(log_file(self.wanted), lines, follow=follow, windows=False)
