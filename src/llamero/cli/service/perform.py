"""Steps carried out, or printed."""

from __future__ import annotations

import secrets
import shlex
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ...errors import LlameroError
from ...store.files import create, place
from ..terminal import Terminal
from .plan import Remove, Run, Step, Write

LIMIT_S = 120.0
"""For one command of a service manager: a stop waits for the requests in flight, and then for a kill."""


def perform(steps: Iterable[Step], terminal: Terminal, *, dry_run: bool = False) -> None:
    """Raises LlameroError at the first step that fails; those before it stay done, and doing all again is safe."""
    for step in steps:
        if dry_run:
            terminal.out(_told(step))
            continue
        match step:
            case Write():
                _write(step)
            case Remove():
                _remove(step.path)
            case Run():
                _run(step, terminal)


def follow(command: Run) -> int:
    """Run it in our place: its output is ours, and Ctrl+C ends it. Returns its status."""
    try:
        return subprocess.run(command.argv, check=False).returncode
    except FileNotFoundError:
        raise LlameroError(f"{command.argv[0]} is not installed here") from None


def _told(step: Step) -> str:
    match step:
        case Write():
            mode = "" if step.mode == 0o644 else f" (mode {step.mode:o})"
            return f"write {step.path}{mode}:\n\n{_indented(step.text)}\n"
        case Remove():
            return f"remove {step.path}\n"
        case Run():
            return f"run {shlex.join(step.argv)}\n"


def _indented(text: str) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())


def _write(step: Write) -> None:
    draft = step.path.with_name(f".{step.path.name}.{secrets.token_hex(4)}")
    try:
        step.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(create(draft, step.mode), "wb") as file:
                file.write(step.text.encode(step.encoding))
            place(draft, step.path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise LlameroError(f"{step.path}: {(error.strerror or str(error)).lower()}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        if path.parent.name.endswith(".d") and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
    except OSError as error:
        raise LlameroError(f"{path}: {(error.strerror or str(error)).lower()}") from error


def _run(step: Run, terminal: Terminal) -> None:
    try:
        ran = subprocess.run(
            step.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise LlameroError(f"{step.argv[0]} is not installed here") from None
    except subprocess.TimeoutExpired:
        raise LlameroError(f"`{shlex.join(step.argv)}` did not end within {LIMIT_S:.0f} s") from None
    if ran.returncode and not step.may_fail:
        words = ran.stdout.decode(errors="replace").strip()
        told = f": {words}" if words else ""
        raise LlameroError(f"`{shlex.join(step.argv)}` failed with status {ran.returncode}{told}")
