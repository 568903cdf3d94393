"""Work on model files in a child process of ours, which gets no environment: both ends of what the two say.

The child prints one JSON object per line: `{"completed": ..., "total": ...}` as it goes on, `{"warning": ...}` for what
it cannot honour, or at the end `{"error": ..., "status": ...}` with a status of `errors.py`. Source: security §1, §9.3.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import child
from ..errors import BadRequest, DiskFull, LlameroError, NotSupported

log = logging.getLogger(__name__)

Count = Callable[[int, int], None]
"""Told how much is done, of how much."""


def run(
    module: str,
    arguments: Sequence[str],
    *,
    output: Path,
    report: Count,
    cancelled: Callable[[], bool],
    timeout_s: float,
    broke: str,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Run a worker module that makes the file `output`; `broke` says what failed when the child cannot say it.

    Blocks: call it on a thread. `cancelled` is asked on another one. When it raises, `output` does not exist: what the
    child said was wrong, Cancelled, or LlameroError when the child broke.
    """
    problems: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        message = _message(line)
        if "error" in message:
            problems.append(message)
        elif "warning" in message:
            warn(str(message["warning"]))
        elif "total" in message:
            report(message["completed"], message["total"])

    argv = [sys.executable, "-P", "-X", "utf8", "-m", module, *arguments]
    try:
        child.run(
            argv, cwd=output.parent, env=_environment(), on_line=on_line, cancelled=cancelled, timeout_s=timeout_s
        )
    except BaseException as exc:
        output.unlink(missing_ok=True)  # a child that was killed cannot do it
        if isinstance(exc, child.ChildFailed):
            raise _failure(problems, exc, broke) from exc
        raise


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}  # a warning of a library, or a traceback: `child` keeps it for the log
    return message if isinstance(message, dict) else {}


def _failure(problems: list[dict[str, Any]], failed: child.ChildFailed, broke: str) -> LlameroError:
    if not problems:
        log.error("%s: %s, last output: %r", broke, failed, failed.tail)
        return LlameroError(broke)
    text, status = str(problems[0]["error"]), problems[0]["status"]
    known = {each.status: each for each in (BadRequest, DiskFull, NotSupported)}
    return known.get(status, LlameroError)(text)


def _environment() -> dict[str, str]:
    """Empty but for where this program's own modules lie, however it was installed."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# --- the child's end -----------------------------------------------------------------------------------------------


def main(work: Callable[[Count], None]) -> int:
    """Do the work, tell its progress and how it went wrong; returns the exit status."""
    try:
        work(lambda completed, total: _print({"completed": completed, "total": total}))
    except LlameroError as exc:
        return _fail(str(exc), exc.status)
    except OSError as exc:
        # without the path: this text reaches clients
        reason = (exc.strerror or "input/output error").lower()
        return _fail(reason, DiskFull.status if exc.errno in (errno.ENOSPC, errno.EDQUOT) else 500)
    return 0


def warn(text: str) -> None:
    """Tell whoever wanted this work of something that it cannot honour."""
    _print({"warning": text})


def _fail(text: str, status: int) -> int:
    _print({"error": text, "status": status})
    return 1


def _print(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
