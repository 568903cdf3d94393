"""What a service is to be, and the steps that make it so: values, which can be printed as well as carried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Scope = Literal["system", "user"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service: of the machine, or of one user."""

    program: tuple[str, ...]
    """The command that serves, with its arguments; the first is an absolute path."""
    scope: Scope
    account: str
    """Whose commands these are."""
    home: Path
    """The folder of that account."""
    data: Path
    """`~/.ollama` of that account, where its logs are kept if the platform keeps none."""
    uses_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """A file with this content."""

    path: Path
    text: str
    mode: int = 0o644
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Remove:
    """No file there; an empty folder around it goes as well."""

    path: Path


@dataclass(frozen=True, slots=True)
class Run:
    """A command; one that `may_fail` only makes sure of something."""

    argv: tuple[str, ...]
    may_fail: bool = False


Step = Write | Remove | Run


def tail(path: Path, lines: int, *, follow: bool, windows: bool) -> Run:
    """The end of a log file that the server writes itself, by what the platform has for that."""
    if windows:
        quoted = str(path).replace("'", "''")
        command = f"Get-Content -LiteralPath '{quoted}' -Tail {lines}{' -Wait' if follow else ''}"
        return Run(("powershell", "-NoProfile", "-Command", command))
    return Run(("tail", "-n", str(lines), *(("-F",) if follow else ()), str(path)))


class Manager(Protocol):
    """What a platform's service manager needs to be told. Nothing here touches the machine."""

    @property
    def marker(self) -> Path:
        """The file that is there when the service is installed."""
        ...

    @property
    def advice(self) -> str:
        """For a person, after the installation: where settings go, what else to do."""
        ...

    def install(self) -> list[Step]: ...

    def uninstall(self) -> list[Step]: ...

    def start(self) -> list[Step]: ...

    def stop(self) -> list[Step]: ...

    def restart(self) -> list[Step]: ...

    def status(self) -> Run: ...

    def logs(self, lines: int, *, follow: bool) -> Run: ...
