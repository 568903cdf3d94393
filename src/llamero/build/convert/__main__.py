"""The child's side of a conversion: `python -m llamero.build.convert FOLDER OUTPUT [BASE]`. See `build/worker.py`.

With BASE, the folder holds an adapter for that model.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .. import worker
from .adapter import convert_adapter
from .conversion import convert


def main(arguments: list[str]) -> int:
    folder, output, *base = map(Path, arguments)

    def work(report: worker.Count) -> None:
        for warning in convert_adapter(folder, base[0], output, report) if base else convert(folder, output, report):
            worker.warn(warning)

    return worker.main(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
