"""One program run by itself: `python -m bench.<program> [rounds] [--quick]` prints a table of its figures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from .effort import Effort, rounds
from .figures import Figure
from .report import table

Measure = Callable[[Effort], Sequence[Figure]]
"""What every program is."""


def alone(measure: Measure, description: str | None) -> None:
    """`description`: the program's docstring, shown by --help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=rounds, help="instead of the program's own number")
    parser.add_argument("--quick", action="store_true", help="the smallest size, one round: only shows that it runs")
    arguments = parser.parse_args()
    print(table(measure(Effort(arguments.rounds, arguments.quick))))
