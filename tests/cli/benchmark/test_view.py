"""The live table and the plain lines of a benchmark."""

from __future__ import annotations

import io

from rich.console import Console

from llamero.cli.benchmark.records import ModelResult
from llamero.cli.benchmark.view import LiveTable, PlainLines
from llamero.cli.terminal import Terminal
from tests.cli.benchmark.reports import FAILED, model, one


def terminal() -> Terminal:
    """No terminal: 80 by 24, as far as anybody knows."""
    return Terminal(io.StringIO(), io.StringIO(), io.StringIO())


def drawn(table: LiveTable) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=100, height=24, color_system=None).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_table_follows_the_work() -> None:
    """It shows what the screen has room for: where the latest figures are, and what comes next."""
    table = LiveTable(terminal(), several_servers=False)
    for number in range(30):
        table.result("here", model(f"m:{number}", greeting=[one()], coding=[one()]))
    table.result("here", model("now", **{f"t{number}": [one()] if number < 12 else [] for number in range(20)}))
    table.doing("here", "now", "t11, 2 of 6")
    lines = drawn(table)
    tasks = [line.split()[1] for line in lines if " now " in line]
    assert tasks == [f"t{number}" for number in range(14)]
    assert lines[-1].endswith("now: t11, 2 of 6  (0 s)")
    assert len(lines) <= 24


def test_the_table_when_there_is_nothing_yet() -> None:
    assert drawn(LiveTable(terminal(), several_servers=True))[-1].endswith(" starting  (0 s)")


def test_two_servers_are_told_apart() -> None:
    table = LiveTable(terminal(), several_servers=True)
    table.result("one", model("m", greeting=[one()]))
    table.result("two", ModelResult(name="m", failure="out of memory"))
    table.note("something \x1b[2J[bold]odd[/bold]")
    lines = drawn(table)
    assert [line.split()[:3] for line in lines if " m " in line] == [["one", "m", "greeting"], ["two", "m", "failed"]]
    assert lines[-1] == "Note: something [2J[bold]odd[/bold]"


def test_plain_lines_tell_each_answer_once() -> None:
    known = terminal()
    lines = PlainLines(known, several_servers=False)
    lines.doing("here", "m", "loading")
    lines.result("here", model("m", greeting=[one()]))
    lines.result("here", model("m", greeting=[one()], coding=[]))
    lines.result("here", model("m", greeting=[one(), FAILED]))
    assert known.stderr.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "m",
        "  greeting, 1: first token 100 ms, prefill 400, decode 40.0 tokens/s, right",
        "  greeting, 2: failed: out of memory",
    ]
