"""The child's side of a conversion: `python -m llamero.build.convert FOLDER OUTPUT`.

Prints one JSON object per line: `{"status": "converting model", "completed": ..., "total": ...}` in bytes of tensor
data, or at the end `{"error": ..., "status": ...}` with the status of `errors.py`, and exits 1.
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

from ...errors import DiskFull, LlameroError
from .conversion import convert


def main(arguments: list[str]) -> int:
    folder, output = map(Path, arguments)
    try:
        convert(folder, output, _report)
    except LlameroError as exc:
        return _fail(str(exc), exc.status)
    except OSError as exc:
        # without the path: this text reaches clients
        return _fail(f"{exc.strerror}", DiskFull.status if exc.errno in (errno.ENOSPC, errno.EDQUOT) else 500)
    return 0


def _report(completed: int, total: int) -> None:
    _print({"status": "converting model", "completed": completed, "total": total})


def _fail(text: str, status: int) -> int:
    _print({"error": text, "status": status})
    return 1


def _print(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
