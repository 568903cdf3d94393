"""A table of Markdown, drawn when all of it is there, since every cell has a say in the widths. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..format import columns
from ..terminal import BOLD, GREY, RESET
from .flow import RIGHT_MARGIN, Flow
from .spans import Spans

LEAST_CELL_COLUMNS = 6
"""Where not even this much is left for each cell, the table is shown as it was written."""

_SEPARATOR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r":?-+:?")
_CODES = re.compile(r"\x1b\[[0-9;]*m")


def draw_table(lines: Sequence[str], width: int) -> list[str] | None:
    """The lines to show for those of a table; None when they are none, or do not fit."""
    rows = [_cells(line) for line in lines]
    if len(rows) < 2 or not all(_RULE.fullmatch(cell) for cell in rows[1]):
        return None
    count = len(rows[0])
    rules = (rows[1] + ["---"] * count)[:count]
    texts = [(row + [""] * count)[:count] for row in (rows[0], *rows[2:])]
    widths = _widths(texts, width - RIGHT_MARGIN - 3 * (count - 1))
    if widths is None:
        return None
    bar = f"{GREY}│{RESET}"
    drawn = []
    for number, row in enumerate(texts):
        cells = [_wrapped(cell, size, BOLD if number == 0 else "") for cell, size in zip(row, widths, strict=True)]
        for index in range(max(map(len, cells))):
            parts = [cell[index] if index < len(cell) else "" for cell in cells]
            padded = [_aligned(part, size, rule) for part, size, rule in zip(parts, widths, rules, strict=True)]
            drawn.append(f" {bar} ".join(padded).rstrip())
        if number == 0:
            drawn.append(GREY + "─┼─".join("─" * size for size in widths) + RESET)
    return drawn


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [cell.strip().replace("\\|", "|") for cell in _SEPARATOR.split(inner)]


def _widths(rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """Columns of each cell: what it needs, or a fair share where there is not enough for all."""
    needed = [max(max(map(_visible, map(_styled, column))), 1) for column in zip(*rows, strict=True)]
    if room < LEAST_CELL_COLUMNS * len(needed) and sum(needed) > room:
        return None
    share = room
    while sum(min(each, share) for each in needed) > room:
        share -= 1
    return [min(each, share) for each in needed]


def _styled(text: str, style: str = "") -> str:
    flow = Flow(lambda: 10**6)
    _write(flow, text, style)
    return flow.take()


def _wrapped(text: str, width: int, style: str) -> list[str]:
    """Each line with its own codes, because others stand beside it."""
    flow = Flow(lambda: width, margin=0, breaks_words=True, least=1)
    _write(flow, text, style)
    return flow.take().split("\n")


def _write(flow: Flow, text: str, style: str) -> None:
    spans = Spans(style)
    for piece in (*spans.feed(text), *spans.end()):
        flow.feed(piece)
    flow.close()


def _visible(text: str) -> int:
    return columns(_CODES.sub("", text))


def _aligned(text: str, width: int, rule: str) -> str:
    missing = width - _visible(text)
    if rule.endswith(":"):
        left = missing // 2 if rule.startswith(":") else missing
        return " " * left + text + " " * (missing - left)
    return text + " " * missing
