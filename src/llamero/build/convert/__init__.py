"""Converts a checkpoint folder (safetensors, config, tokenizer) into one GGUF file, in a child process.

This module is the parent's side and imports nothing that parses a model: files from outside are read by the child alone
(security §1, §9.3), which gets no environment of ours. `__main__.py` is the child's side, `conversion.py` the work.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ... import child
from ...errors import BadRequest, DiskFull, LlameroError

log = logging.getLogger(__name__)

TIMEOUT_S = 4 * 3600.0
"""A 70B checkpoint (140 GB) at the 20 MB/s of a slow disk takes two hours."""


def convert_in_child(
    folder: Path,
    output: Path,
    report: Callable[[int, int], None],
    *,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Convert `folder` into the file `output`; `report(completed, total)` counts bytes of tensor data.

    Blocks: call it on a thread. `cancelled` is asked on another one. When it raises, `output` does not exist:
    BadRequest for whatever is wrong with the folder, DiskFull, Cancelled, LlameroError when the child broke.
    """
    problems: list[dict[str, Any]] = []

    def on_line(line: str) -> None:
        message = _message(line)
        if "error" in message:
            problems.append(message)
        elif "total" in message:
            report(message["completed"], message["total"])

    argv = [sys.executable, "-P", "-X", "utf8", "-m", __name__, str(folder.absolute()), str(output.absolute())]
    try:
        child.run(
            argv, cwd=output.parent, env=_environment(), on_line=on_line, cancelled=cancelled, timeout_s=TIMEOUT_S
        )
    except BaseException as exc:
        output.unlink(missing_ok=True)  # a child that was killed cannot do it
        if isinstance(exc, child.ChildFailed):
            raise _failure(problems, exc) from exc
        raise


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}  # a warning of a library, or a traceback: `child` keeps it for the log
    return message if isinstance(message, dict) else {}


def _failure(problems: list[dict[str, Any]], failed: child.ChildFailed) -> LlameroError:
    if not problems:
        log.error("conversion broke: %s, last output: %r", failed, failed.tail)
        return LlameroError("the conversion of the model failed")
    text, status = str(problems[0]["error"]), problems[0]["status"]
    if status == DiskFull.status:
        return DiskFull(text)
    return BadRequest(text) if status == BadRequest.status else LlameroError(text)


def _environment() -> dict[str, str]:
    """Empty but for where this program's own modules lie, however it was installed."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
