"""What is seen of a benchmark while it runs: a live table on a terminal, plain lines elsewhere.

Both write to stderr, since stdout is for results. Texts of the server are printed as texts, never as markup or control.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ..format import printable
from ..progress import FRAMES, TICK_S
from ..terminal import Terminal, size
from .measure import Watcher
from .pages import TASK_HEADER, Table, plain_lines, task_cells
from .records import ModelResult, TaskResult

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table as RichTable

TABLE_FRAME_LINES = 7
"""Lines of the screen that a live table cannot fill: title, header, status, and where the cursor goes."""
ROWS_AHEAD = 2
"""Where there is no room for all rows, so many are shown below the latest figures."""
REDRAWS_PER_S = 5
FIGURE_COLUMNS = len(TASK_HEADER) - 2


def view(terminal: Terminal, *, several_servers: bool, is_plain: bool) -> Watcher:
    """`is_plain` wants lines even on a terminal."""
    if terminal.stderr_draws and not is_plain:
        return LiveTable(terminal, several_servers=several_servers)
    return PlainLines(terminal, several_servers=several_servers)


class PlainLines:
    """One line per finished task."""

    def __init__(self, terminal: Terminal, *, several_servers: bool) -> None:
        self._terminal = terminal
        self._several = several_servers
        self._told: dict[tuple[str, str, str], int] = {}
        self._doing = ("", "")

    def live(self) -> AbstractContextManager[object]:
        return nullcontext()

    def doing(self, server: str, model: str, what: str) -> None:
        if (server, model) != self._doing:
            self._doing = (server, model)
            self._say(f"{model}{f' at {server}' if self._several else ''}")

    def result(self, server: str, model: ModelResult) -> None:
        for task in model.tasks:
            done = len(task.rounds)
            if done > self._told.get((server, model.name, task.task), 0):
                self._told[server, model.name, task.task] = done
                self._say(f"  {task.task}, {done}: {_last(task)}")
        if model.skipped or model.failure:
            self._say(f"  {model.skipped or model.failure}")

    def note(self, text: str) -> None:
        self._say(f"Note: {text}")

    def _say(self, text: str) -> None:
        self._terminal.err(f"{printable(text)}\n")


def _last(task: TaskResult) -> str:
    """How the latest round of a task went."""
    one = task.rounds[-1]
    if one.failure:
        return f"failed: {one.failure}"
    last = dict(zip(TASK_HEADER[2:], task_cells(TaskResult(task=task.task, rounds=[one])), strict=True))
    verdict = "" if one.verdict == "unchecked" else f", {one.verdict}"
    return f"first token {last['TTFT']}, prefill {last['PREFILL']}, decode {last['DECODE']} tokens/s{verdict}"


class LiveTable:
    """A table of all tasks on a screen of its own, which is gone at the end."""

    def __init__(self, terminal: Terminal, *, several_servers: bool) -> None:
        self._terminal = terminal
        self._several = several_servers
        self._results: dict[tuple[str, str], ModelResult] = {}
        self._current = ("", "")
        self._what = "starting"
        self._notes: list[str] = []
        self._started_s = time.monotonic()

    def live(self) -> AbstractContextManager[object]:
        from rich.live import Live

        # on the terminal's other screen: whatever its size becomes meanwhile, nothing of this stays behind
        console = _console(self._terminal.stderr)
        return Live(self, console=console, screen=True, refresh_per_second=REDRAWS_PER_S, redirect_stdout=False)

    def doing(self, server: str, model: str, what: str) -> None:
        self._current, self._what = (server, model), what

    def result(self, server: str, model: ModelResult) -> None:
        self._results[server, model.name] = model

    def note(self, text: str) -> None:
        self._notes.append(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The rows around the latest figures, what is going on, and the latest note."""
        from rich.text import Text

        now = time.monotonic()
        columns, lines = size(self._terminal.stderr)
        rows, latest = self._rows()
        room = max(3, lines - TABLE_FRAME_LINES)
        start = max(0, min(len(rows) - room, latest + 1 + ROWS_AHEAD - room))
        shown = rows[start : start + room]
        header = (*(("SERVER",) if self._several else ()), *TASK_HEADER)
        yield rich_table(Table("", header, shown, text_columns=len(header) - FIGURE_COLUMNS))
        server, model = self._current
        frame = FRAMES[int(now / TICK_S) % len(FRAMES)]
        seconds = int(now - self._started_s)
        where = f"{model}{f' at {server}' if self._several else ''}: " if model else ""
        yield Text(printable(f"{frame} {where}{self._what}  ({seconds} s)")[: columns - 1], no_wrap=True)
        if self._notes:
            yield Text(printable(f"Note: {self._notes[-1]}")[:columns], style="dim", no_wrap=True)

    def _rows(self) -> tuple[list[tuple[str, ...]], int]:
        """All rows, and which of them has the latest figures."""
        rows: list[tuple[str, ...]] = []
        latest = 0
        for (server, name), model in list(self._results.items()):  # while it is drawn there may come more
            head = (server, name) if self._several else (name,)
            if model.failure or model.skipped:
                rows.append((*head, "failed" if model.failure else "left out", *[""] * FIGURE_COLUMNS))
                continue
            for task in model.tasks:
                if task.rounds and (server, name) == self._current:
                    latest = len(rows)
                rows.append((*head, task.task, *task_cells(task)))
        return rows, latest


def show_table(terminal: Terminal, table: Table) -> None:
    """A table as a result, on stdout."""
    if not table.rows:
        return
    if terminal.stdout_draws:
        _console(terminal.stdout).print(rich_table(table))
    else:
        lines = [table.title, "", *plain_lines(table), ""]
        terminal.out("".join(f"{line}\n" for line in lines))


def rich_table(table: Table) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Rich
    from rich.text import Text

    drawn = Rich(box=SIMPLE_HEAD, title=Text(table.title) if table.title else None, title_justify="left")
    for index, title in enumerate(table.header):
        is_text = index < table.text_columns
        # where there is no room for all, names lose their ends and figures stay whole
        drawn.add_column(title, justify="left" if is_text else "right", no_wrap=not is_text, overflow="ellipsis")
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn


def _console(stream: object) -> Console:
    from rich.console import Console

    return Console(file=stream, force_terminal=True, highlight=False, markup=False)  # type: ignore[arg-type]
