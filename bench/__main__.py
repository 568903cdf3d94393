"""Everything that Llamero promises about speed (DESIGN §7), measured by one command; or our server against others.

python -m bench                                        # all of it, which takes long
python -m bench parallel streams --rounds 3            # some of it
python -m bench --json figures.json --picture figures.png
python -m bench --against http://127.0.0.1:11434       # an Ollama, run by run with ours
python -m bench --against-llama-server http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TypeVar

from .against import compare, disciplines, introduce, sides_of
from .contest import Contest
from .effort import Effort, rounds
from .figures import Figure
from .machine import Machine
from .picture import can_draw, draw
from .programs import OTHERS, PROGRAMS, PROMISED, measure_all
from .report import Report
from .servers import EMBEDDER, MODEL
from .wire import Failed

T = TypeVar("T")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    promised, others = (
        "\n".join(f"  {name:14} {about}" for name, about in programs.items()) for programs in (PROMISED, OTHERS)
    )
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{__doc__}\npromised:\n{promised}\nonly by name:\n{others}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="name", help="what to measure (default: what is promised)")
    parser.add_argument("--rounds", type=rounds, metavar="N", help="instead of each program's own number")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, one round: only shows that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every value, with the machine and the versions")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="needs the extra `plot`")
    rivals = parser.add_argument_group("against others")
    rivals.add_argument("--against", action="append", default=[], metavar="URL", help="any server with Ollama's API")
    rivals.add_argument("--against-llama-server", action="append", default=[], metavar="URL", help="llama.cpp's server")
    rivals.add_argument("--ours", default="", metavar="URL", help="do not start ours, it is there")
    rivals.add_argument("--model", default=MODEL, help="that every side has by this name (%(default)s)")
    rivals.add_argument("--embedder", default=EMBEDDER, metavar="MODEL", help="for embeddings (%(default)s)")
    chosen = parser.parse_args(words)
    if unknown := sorted(set(chosen.names) - set(PROGRAMS)):
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(PROGRAMS)}")
    chosen.compares = bool(chosen.against or chosen.against_llama_server)
    if chosen.compares and chosen.names:
        parser.error("names choose from what is measured against the bare engine, not from a comparison")
    if not chosen.compares and chosen.ours:
        parser.error("--ours needs somebody to compare with: --against or --against-llama-server")
    for file in (chosen.json, chosen.picture):  # now, not after an hour of measuring
        if file and not file.parent.is_dir():
            parser.error(f"{file.parent} is no folder")
    if chosen.picture and not can_draw():
        parser.error("--picture needs matplotlib: install the extra `plot`")
    return chosen


def main() -> int:
    chosen = arguments()
    effort = Effort(chosen.rounds, chosen.quick)
    start = Report(date=date.today().isoformat(), machine=Machine.this(), is_quick=chosen.quick)
    for warning in start.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    try:
        report = _contests(start, chosen, effort) if chosen.compares else _figures(start, chosen, effort)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.markdown())
    if chosen.json:
        chosen.json.write_text(report.json() + "\n")
    if chosen.picture:
        draw(report, chosen.picture)
    return 0


def _figures(start: Report, chosen: argparse.Namespace, effort: Effort) -> Report:
    found: list[Figure] = []
    for figures in _until_interrupted(measure_all(chosen.names or PROMISED, effort)):
        found += figures
        for figure in figures:
            print(f"{figure.name}: {figure.measured}", file=sys.stderr, flush=True)
    return replace(start, figures=found)


def _contests(start: Report, chosen: argparse.Namespace, effort: Effort) -> Report:
    found: list[Contest] = []
    with sides_of(chosen.ours, chosen.against, chosen.against_llama_server, chosen.model) as sides:
        about = introduce(sides)
        for contests in _until_interrupted(compare(sides, disciplines(effort, chosen.embedder), effort)):
            found += contests
            for contest in contests:
                print(f"{contest.name}, ours / {contest.rival}: {contest.ratio.measured}", file=sys.stderr, flush=True)
    return replace(start, contests=found, sides=about)


def _until_interrupted(parts: Iterator[T]) -> Iterator[T]:
    """After Ctrl-C there is a report of what was measured until then."""
    try:
        yield from parts
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
