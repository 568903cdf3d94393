"""What of services there is on this machine: its manager, and what it would run."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import BadRequest
from .launchd import Launchd
from .plan import Manager, Scope, Wanted
from .systemd import Systemd
from .tasks import TaskScheduler

GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dri/renderD128")
"""Of NVIDIA, AMD, and whatever Vulkan reaches."""
HIDDEN_FOLDERS = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What a service of the machine does not see under systemd (`ProtectHome`, `PrivateTmp`)."""


def manager(env: Mapping[str, str], data: Path, scope: Scope, *, uses_gpu: bool = False) -> Manager:
    """The platform's, for a service of this scope. `data` is `~/.ollama`."""
    if sys.platform == "darwin":
        return _launchd(env, data, scope)
    home = Path(env.get("HOME") or Path.home())
    wanted = Wanted(program(), scope, getpass.getuser(), home, data, uses_gpu)
    return TaskScheduler(wanted) if sys.platform == "win32" else Systemd(wanted)


def _launchd(env: Mapping[str, str], data: Path, scope: Scope) -> Launchd:
    """A daemon is installed by root and runs as the account that said sudo."""
    account = env.get("SUDO_USER", "")
    if scope == "user" or not account:
        home = Path(env.get("HOME") or Path.home())
        return Launchd(Wanted(program(), scope, getpass.getuser(), home, data), os.getuid())
    home = Path(f"~{account}").expanduser()
    return Launchd(Wanted(program(), scope, account, home, home / ".ollama"), int(env.get("SUDO_UID", "0")))


def scopes(env: Mapping[str, str]) -> tuple[Scope, ...]:
    """Where to look for an installed service: whoever says sudo means the machine's."""
    return ("system",) if env.get("SUDO_USER") else ("user", "system")


def program() -> tuple[str, ...]:
    """The command that serves, as this very installation has it."""
    python = Path(sys.executable)
    if sys.platform == "win32":
        # without a window, and with a log of its own
        return (str(python.with_name("pythonw.exe")), "-m", "llamero.cli.main", "service", "run")
    script = python.with_name("ollama")
    return (str(script), "serve") if script.exists() else (str(python), "-m", "llamero.cli.main", "serve")


def uses_gpu(word: str) -> bool:
    """What `--gpu` says, or whether a device of one is here."""
    if word not in ("", "auto", "yes", "no"):
        raise BadRequest(f"--gpu is auto, yes or no, not {word}")
    return word == "yes" or (word != "no" and any(Path(device).exists() for device in GPU_DEVICES))


def out_of_sight(paths: Iterable[str]) -> str:
    """The first path that a hardened service cannot reach, itself or what it links to; empty when all can be."""
    for path in paths:
        for known in (Path(path), Path(os.path.realpath(path))):
            if any(known.is_relative_to(folder) for folder in HIDDEN_FOLDERS):
                return str(known)
    return ""
