"""launchd's property list and commands (macOS)."""

from __future__ import annotations

import plistlib
from dataclasses import replace
from pathlib import Path

from llamero.cli.service.launchd import Launchd, plist
from llamero.cli.service.plan import Remove, Run, Wanted, Write

WANTED = Wanted(
    ("/Users/Ann & Bob/venv/bin/ollama", "serve"), "user", "ann", Path("/Users/ann"), Path("/Users/ann/.ollama")
)
JOB = "gui/501/io.github.llamero.server"


def test_a_job_that_starts_and_stays() -> None:
    job = plistlib.loads(plist(WANTED).encode())
    assert job["ProgramArguments"] == ["/Users/Ann & Bob/venv/bin/ollama", "serve"]
    assert job["RunAtLoad"] is True
    assert job["KeepAlive"] == {"SuccessfulExit": False}, "a server that was asked to stop stays away"
    assert job["StandardOutPath"] == job["StandardErrorPath"] == "/Users/ann/.ollama/logs/server.log"
    assert job["EnvironmentVariables"] == {"HOME": "/Users/ann"}
    assert "UserName" not in job


def test_a_daemon_runs_as_the_account_that_installed_it() -> None:
    manager = Launchd(replace(WANTED, scope="system"), 501)
    assert plistlib.loads(plist(manager.wanted).encode())["UserName"] == "ann"
    assert manager.marker == Path("/Library/LaunchDaemons/io.github.llamero.server.plist")
    assert manager.stop() == [Run(("launchctl", "kill", "SIGTERM", "system/io.github.llamero.server"))]
    assert manager.install()[0] == Run(("sudo", "-u", "ann", "mkdir", "-p", "/Users/ann/.ollama/logs"))


def test_an_agent_of_one_user() -> None:
    manager = Launchd(WANTED, 501)
    marker = Path("/Users/ann/Library/LaunchAgents/io.github.llamero.server.plist")
    assert manager.install() == [
        Run(("mkdir", "-p", "/Users/ann/.ollama/logs")),
        Run(("launchctl", "bootout", JOB), may_fail=True),
        Write(marker, plist(WANTED)),
        Run(("launchctl", "enable", JOB)),
        Run(("launchctl", "bootstrap", "gui/501", str(marker))),
    ]
    assert manager.uninstall() == [Run(("launchctl", "bootout", JOB), may_fail=True), Remove(marker)]
    assert manager.start() == [Run(("launchctl", "kickstart", JOB))]
    assert manager.restart() == [Run(("launchctl", "kickstart", "-k", JOB))]
    assert manager.logs(9, follow=True).argv == ("tail", "-n", "9", "-F", "/Users/ann/.ollama/logs/server.log")
