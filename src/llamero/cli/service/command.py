"""`service`: which manager there is, whose service is meant, and what is done (cli §3.16)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ...client import Client
from ...config import BY_NAME
from ...errors import BadRequest, ClientError, LlameroError, NotFound
from ..app import App
from ..logfile import log_path, open_log
from ..pidfile import PidFile
from ..serve import serve
from ..terminal import Terminal
from . import here
from .launchd import Launchd
from .perform import follow, perform
from .plan import Manager, Scope, Step, tail
from .systemd import Systemd

USAGE = "say `ollama service install|uninstall|status|start|stop|restart|logs`"
ANSWER_TIMEOUT_S = 2.0
_NOT_INSTALLED = "no service is installed: `ollama service install` does, for the machine, or with --user for you"


@dataclass(frozen=True, slots=True)
class ServiceFlags:
    user: bool
    dry_run: bool
    gpu: str
    follow: bool
    lines: int


def service(app: App, words: Sequence[str], flags: ServiceFlags) -> None:
    match words:
        case ["install"]:
            install(app, flags)
        case ["uninstall"]:
            uninstall(app, flags)
        case ["status"]:
            status(app, flags)
        case ["start" | "stop" | "restart" as verb]:
            control(app, verb, flags)
        case ["logs"]:
            logs(app, flags)
        case ["run"]:
            run_into_log(app)
        case _:
            raise BadRequest(USAGE)


# --- install, uninstall ----------------------------------------------------------------------------------------------


def install(app: App, flags: ServiceFlags) -> None:
    scope: Scope = "user" if flags.user else "system"
    manager = here.manager(app.own_env, app.settings.home, scope, uses_gpu=here.uses_gpu(flags.gpu))
    if not flags.dry_run:
        _insist_possible(app, manager, scope)
    perform(manager.install(), app.terminal, dry_run=flags.dry_run)
    if flags.dry_run:
        return
    app.terminal.out(f"{manager.marker} is installed, and the server is started\n{manager.advice}")
    app.terminal.out("its log: ollama service logs\n")
    for warning in _warnings(app, manager):
        app.warn(warning)


def uninstall(app: App, flags: ServiceFlags) -> None:
    manager = _installed(app, flags)
    perform(manager.uninstall(), app.terminal, dry_run=flags.dry_run)
    if not flags.dry_run:
        app.terminal.out(f"{manager.marker} is gone; models and settings stay\n")


def _insist_possible(app: App, manager: Manager, scope: Scope) -> None:
    """What would fail halfway, said before anything is written."""
    if isinstance(manager, Systemd) and not Path("/run/systemd/system").is_dir():
        raise LlameroError(
            "systemd does not run here (a container?): start `ollama serve` with what starts programs here; "
            "--dry-run shows the unit"
        )
    if scope == "user":
        return
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        raise LlameroError(
            f"a service of the machine is installed by root: sudo {here.program()[0]} service install; "
            "--user installs one of yours"
        )
    if isinstance(manager, Systemd) and (place := here.out_of_sight((here.program()[0], sys.executable, sys.prefix))):
        raise LlameroError(
            f"{place} cannot be seen by a service of the machine: install Llamero where it can (python3 -m venv "
            "/opt/llamero, then /opt/llamero/bin/pip install . in the folder of its source), or use --user"
        )
    if isinstance(manager, Launchd) and manager.uid == 0:
        raise LlameroError("say it with sudo from the account that the server is to run as")


def _warnings(app: App, manager: Manager) -> list[str]:
    """What a user may not expect."""
    found = []
    ours = [name for name in app.own_env if name in BY_NAME and name.startswith(("OLLAMA_", "LLAMERO_"))]
    if ours:
        found.append(f"{', '.join(sorted(ours))}: set in this shell, which the service does not see")
    if isinstance(manager, Systemd) and Path("/etc/systemd/system/ollama.service").exists():
        found.append(
            "ollama.service is installed as well: `systemctl disable --now ollama` leaves the port to this one"
        )
    if PidFile(app.settings).pid():
        found.append("a server in the background has the port: `ollama service stop` ends it, then `service start`")
    return found


# --- status, start, stop, logs ---------------------------------------------------------------------------------------


def status(app: App, flags: ServiceFlags) -> None:
    """What is installed and what runs. LlameroError, so that scripts can tell, when no server answers."""
    manager = _find_installed(app, flags)
    if manager:
        follow(manager.status())
    else:
        app.terminal.out("no service is installed\n")
    if pid := _background(app):
        app.terminal.out(f"a server runs in the background: pid {pid}, log {log_path(app.settings)}\n")
    url = app.settings.host.url
    version = _version(app)
    if not version:
        raise LlameroError(f"no server answers at {url}")
    app.terminal.out(f"a server answers at {url}: version {version}\n")


def control(app: App, verb: str, flags: ServiceFlags) -> None:
    manager = _find_installed(app, flags)
    if verb == "stop" and not flags.dry_run and (pid := _background(app)):
        PidFile(app.settings).stop()
        app.terminal.out(f"stopped the server in the background (pid {pid})\n")
        if not manager:
            return
    if not manager:
        raise NotFound(_NOT_INSTALLED if verb != "stop" else f"{_NOT_INSTALLED}, and none runs in the background")
    steps: dict[str, Callable[[], list[Step]]] = {
        "start": manager.start,
        "stop": manager.stop,
        "restart": manager.restart,
    }
    perform(steps[verb](), app.terminal, dry_run=flags.dry_run)


def logs(app: App, flags: ServiceFlags) -> None:
    manager = _find_installed(app, flags)
    path = log_path(app.settings)
    if manager:
        command = manager.logs(flags.lines, follow=flags.follow)
    elif path.exists():
        command = tail(path, flags.lines, follow=flags.follow, windows=sys.platform == "win32")
    else:
        raise NotFound(f"{_NOT_INSTALLED}, and {path} does not exist")
    if flags.dry_run:
        perform([command], app.terminal, dry_run=True)
    elif code := follow(command):
        raise click.exceptions.Exit(code)


def run_into_log(app: App) -> None:
    """`service run`: `serve` for managers that keep no log. Hidden, for it is of no use to people."""
    descriptor = open_log(log_path(app.settings))
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    log = open(1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False)  # noqa: SIM115  # for good
    sys.stdout = sys.stderr = log
    app.terminal = Terminal(app.terminal.stdin, log, log, is_plain=True)
    serve(app, ())


def _background(app: App) -> int | None:
    pid = PidFile(app.settings).pid()
    return pid if pid and (sys.platform != "win32" or _version(app)) else None


def _version(app: App) -> str:
    """Of the server at our address; empty when none answers."""
    client = Client(app.settings.host, app.settings.api_key, timeout_s=ANSWER_TIMEOUT_S)
    try:
        return client.version()
    except ClientError:
        return ""


def _installed(app: App, flags: ServiceFlags) -> Manager:
    manager = _find_installed(app, flags)
    if not manager:
        raise NotFound(_NOT_INSTALLED)
    return manager


def _find_installed(app: App, flags: ServiceFlags) -> Manager | None:
    """The user's service, if there is one, else the machine's."""
    scopes: tuple[Scope, ...] = ("user",) if flags.user else here.scopes(app.own_env)
    for scope in scopes:
        manager = here.manager(app.own_env, app.settings.home, scope)
        if manager.marker.exists():
            return manager
    return None
