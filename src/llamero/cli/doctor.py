"""`doctor`: every check at once, one line for each finding, and what to do about it (cli §3.16, G-29)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from ..client import Client, Proxies
from ..config import Settings
from ..errors import LlameroError
from ..messages import Found
from .app import App
from .checkup import ANSWER_TIMEOUT_S, Check, Surroundings, ok, warn
from .checkup.environment import config_file, proxies, variables
from .checkup.folders import folders
from .checkup.machine import clock, engine, gpu, load, memory
from .checkup.service import models, server
from .findings import Findings
from .progress import waiting

LIMIT_S = 4.5
"""For all checks together, which run side by side: nobody waits for a diagnosis longer than for an answer."""

EVERYWHERE: tuple[tuple[str, Check], ...] = (
    ("server", server),
    ("models", models),
    ("environment", variables),
    ("proxy", proxies),
    ("clock", clock),
)
HERE: tuple[tuple[str, Check], ...] = (
    ("engine", engine),
    ("gpu", gpu),
    ("memory", memory),
    ("load", load),
    ("disk", folders),
)
"""Of the machine that computes: nothing to look at when the server is on another one."""


def examine(app: App, *, as_json: bool, quiet: bool) -> None:
    """Look at everything. Raises LlameroError, after all was shown, when something is broken."""
    settings = Settings.from_env(app.env)  # what is wrong with config.toml has a line of its own
    proxied = Proxies.from_env(app.env)
    client = Client(settings.host, settings.api_key, proxies=proxied, timeout_s=ANSWER_TIMEOUT_S)
    here = Surroundings(app.env, settings, client)
    is_here = settings.host.is_loopback or settings.host.scheme == "unix"
    findings = Findings(app.terminal)
    with waiting(app.terminal, quiet=quiet):
        findings.add(*run((*EVERYWHERE, *HERE) if is_here else EVERYWHERE, here, LIMIT_S))
    if not is_here:
        findings.add(
            ok("machine", f"the server is at {settings.host.host}", "ollama doctor there looks at its machine")
        )
    findings.add(*config_file(app.file))
    findings.show(as_json=as_json)
    findings.raise_failures()


def run(checks: Sequence[tuple[str, Check]], here: Surroundings, limit_s: float) -> list[Found]:
    """What they find, in their order. One that does not end in time is left behind, and that is told."""
    running = [_Running(subject, check, here) for subject, check in checks]
    ends_at = time.monotonic() + limit_s
    for each in running:
        each.thread.join(max(0.0, ends_at - time.monotonic()))
    return [found for each in running for found in each.result()]


class _Running:
    """One check on a thread of its own, that ends with the process at the latest."""

    def __init__(self, subject: str, check: Check, here: Surroundings) -> None:
        self._subject = subject
        self._found: list[Found] = []
        self.thread = threading.Thread(target=self._run, args=(check, here), name=f"check {subject}", daemon=True)
        self.thread.start()

    def _run(self, check: Check, here: Surroundings) -> None:
        try:
            for found in check(here):
                self._found.append(found)
        except Exception as error:  # a check that breaks says something about this machine, too
            reason = str(error) if isinstance(error, LlameroError | OSError) else type(error).__name__
            self._found.append(warn(self._subject, f"cannot be examined: {reason}", "please report this"))

    def result(self) -> list[Found]:
        found = list(self._found)
        if self.thread.is_alive():
            found.append(warn(self._subject, "takes so long to examine that it is left out", "try again"))
        return found
