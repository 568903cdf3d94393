"""How the command line writes times and tables.

Durations are in `durations`, sizes in `sizes`, parameter counts in `gguf`.
Source: cli §4. Byte for byte the reference's, trailing blanks included: scripts cut columns out of these tables.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

FOREVER_AWAY = timedelta(days=21 * 365)
"""A keep-alive without an end expires in some hundred years; nobody sets one of more than twenty whole ones."""


def relative_time(time: datetime, now: datetime, never: str = "Never") -> str:
    """`3 weeks ago`, `4 minutes from now`, `Forever`; `never` for the zero time. Both times have a zone."""
    if time.year == 1:
        return never
    if time - now >= FOREVER_AWAY:
        return "Forever"
    return f"{_roughly(abs(now - time))} {'ago' if time <= now else 'from now'}"


def _roughly(span: timedelta) -> str:
    seconds = span.total_seconds()
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds < 2 else f"{int(seconds)} seconds"
    minutes = int(seconds / 60)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    return f"{days // 30} months" if days < 730 else f"{days // 365} years"


# --- text on a screen ----------------------------------------------------------------------------------------------

_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


def printable(text: str) -> str:
    """The text without control characters: what a model says or is called must not command the terminal."""
    return text.translate(_CONTROLS)


def columns(text: str) -> int:
    """Columns that the text takes on a terminal: wide characters two, marks and joiners none."""
    return len(text) if text.isascii() else sum(map(char_columns, text))


def char_columns(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


# --- tables --------------------------------------------------------------------------------------------------------

GAP = 4
"""Blanks after every cell, the last one too."""
CELL_COLUMNS = 30
"""A cell that is wider is broken between words."""
_FILLER = "  "
"""What a cell holds beside the second and later lines of its neighbours. In an empty first column these two blanks are
the further indent of a continuation line."""


def table(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), *, cell_columns: int = CELL_COLUMNS
) -> Iterator[str]:
    """The lines of a table without borders. All rows have as many cells as the longest, missing ones being empty."""
    count = max((len(row) for row in (*rows, header)), default=0)
    cells = [[_broken(printable(cell), cell_columns) for cell in (*row, *[""] * (count - len(row)))] for row in rows]
    titles = [columns(title) for title in header] or [0] * count
    widths = [max([title, *(cell.columns for cell in column)]) for title, *column in zip(titles, *cells, strict=True)]
    if header:
        padded = [_pad(title, width + GAP) for title, width in zip(header, widths, strict=True)]
        yield "".join(padded)[: 1 - GAP]  # the last title is followed by one blank only
    for row in cells:
        for index in range(max((len(cell.lines) for cell in row), default=0)):
            texts = [cell.lines[index] if index < len(cell.lines) else _FILLER for cell in row]
            yield "".join(
                _pad(text, max(width, columns(text)) + GAP) for text, width in zip(texts, widths, strict=True)
            )


def _pad(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


@dataclass(frozen=True, slots=True)
class _Cell:
    lines: Sequence[str]
    columns: int
    """The width of the widest line, or what was allowed and not used up."""


def _broken(text: str, limit: int) -> _Cell:
    """The text as one paragraph, no line wider than `limit` and none so ragged that another break would be better.

    The reference breaks lines so that the squares of what stays empty at their ends add up to least, the last line not
    counted. A word that is wider than all stays whole, and the other lines may be as wide as it is.
    """
    given = text.split("\n")
    allowed = min(limit, max(map(columns, given)))
    if len(given) == 1 and columns(text) == allowed:
        return _Cell(given, allowed)
    words = " ".join(given).split(" ")
    widths = [columns(word) for word in words]
    ends = _line_ends(widths, max(allowed, *widths))
    lines, start = [], 0
    while start < len(words):
        lines.append(" ".join(words[start : ends[start]]))
        start = ends[start]
    return _Cell(lines, max(allowed, *map(columns, lines)))


_OVERFULL = 100_000
"""What a line costs that is too wide, so that it hardly ever is the best."""


def _line_ends(widths: Sequence[int], room: int) -> list[int]:
    """For each word that could begin a line, the word behind that line in the least ragged rest of the paragraph."""
    count = len(widths)
    costs, ends = [0] * count, [count] * count
    rest = -1
    for start in reversed(range(count)):
        rest += 1 + widths[start]
        if rest <= room:
            continue  # it all fits on the last line
        best, width = None, widths[start]
        for end in range(start + 1, count):
            cost = (room - width) ** 2 + (_OVERFULL if width > room else 0)
            if best is None or cost + costs[end] < best:
                best, ends[start] = cost + costs[end], end
            elif width > room and cost >= best:
                break  # it only gets wider
            width += 1 + widths[end]
        costs[start] = best or 0
    return ends
