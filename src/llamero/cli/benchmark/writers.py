"""Reports as files: Markdown, CSV, JSON, HTML and PNG. What they contain is decided in `pages`."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from ...errors import BadRequest
from . import charts
from .figures import decode_per_s, prefill_per_s
from .pages import Page, Table
from .records import Report

ENDINGS = ("md", "csv", "json", "html", "png")


def report_files(names: Iterable[str]) -> list[tuple[str, Path]]:
    """The files that `--report` means, with their endings: a name that has one is one file, any other means all five.

    BadRequest for one that cannot be written.
    """
    files = []
    for name in names:
        path = Path(name).expanduser()
        ending = path.suffix.lower().removeprefix(".")
        if ending in ENDINGS:
            files.append((ending, path))
        else:
            files += [(each, path.with_name(f"{path.name}.{each}")) for each in ENDINGS]
    for _, path in files:
        check_file(path)
    return files


def check_file(path: Path) -> None:
    if not path.parent.is_dir():
        raise BadRequest(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise BadRequest(f"{path} is a folder")
    if not os.access(path.parent, os.W_OK):
        raise BadRequest(f"{path}: its folder cannot be written")


def write_reports(names: Iterable[str], bodies: Mapping[str, Callable[[], bytes]]) -> None:
    """`bodies` makes the content for each ending."""
    for ending, path in report_files(names):
        write_file(path, bodies[ending]())


def write_file(path: Path, data: bytes) -> None:
    """All of it or nothing. BadRequest in the system's words when that is impossible."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(data)
                file.close()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}") from error


def _umask() -> int:
    """Temporary files are private; a report is as open as the user's other files."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# --- Markdown ------------------------------------------------------------------------------------------------------


def markdown(page: Page) -> str:
    parts = [f"# {_plain(page.title)}", *map(_plain, page.intro)]
    for table in page.tables:
        if table.rows:
            parts += [f"## {_plain(table.title)}", _markdown_table(table)]
    if page.notes:
        parts += ["## Notes", "\n".join(f"* {_plain(note)}" for note in page.notes)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    rules = ["---" if index < table.text_columns else "---:" for index in range(len(table.header))]
    rows = [table.header, tuple(rules), *(tuple(map(_plain, row)) for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


_MARKUP = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|#&~"})


def _plain(text: str) -> str:
    """The text without any power: names and errors are a server's words."""
    return " ".join(text.split()).translate(_MARKUP)


# --- HTML ----------------------------------------------------------------------------------------------------------

_STYLE = """
body { font-family: sans-serif; color: #1f2933; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { padding: 0.25rem 0.75rem; border-bottom: 1px solid #d7dde3; text-align: right; }
.words { text-align: left; }
svg { display: block; max-width: 100%; height: auto; margin-bottom: 1rem; }
"""


def html(page: Page) -> str:
    """One file that loads nothing and runs nothing."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(page.title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(page.title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in page.intro),
        *(_html_table(table) for table in page.tables if table.rows),
        *(charts.svg(charts.lay_out(chart)) for chart in page.charts),
    ]
    if page.notes:
        parts += ["<h2>Notes</h2><ul>", *(f"<li>{escape(note)}</li>" for note in page.notes), "</ul>"]
    return "\n".join([*parts, "</body></html>\n"])


def _html_table(table: Table) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        words = (' class="words"' if index < table.text_columns else "" for index in range(len(cells)))
        row = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(words, cells, strict=True))
        return f"<tr>{row}</tr>"

    rows = [line("th", table.header), *(line("td", row) for row in table.rows)]
    return "\n".join([f"<h2>{escape(table.title)}</h2>", "<table>", *rows, "</table>"])


# --- PNG -----------------------------------------------------------------------------------------------------------

_LINE_HEIGHT = 20


def png(page: Page) -> bytes:
    """The charts below each other, with the page's title; the figures are in the other files."""
    head = [charts.Text(charts.MARGIN, 28, charts.shortened(page.title, 80), size=charts.TITLE_FONT + 2)]
    for number, line in enumerate(page.intro):
        text = charts.shortened(line, 135)
        head.append(charts.Text(charts.MARGIN, 52 + number * _LINE_HEIGHT, text, size=11, colour=charts.FAINT))
    drawing = charts.stacked([charts.lay_out(chart) for chart in page.charts], top=50 + _LINE_HEIGHT * len(page.intro))
    return charts.png(charts.Drawing(drawing.height + charts.MARGIN, [*head, *drawing.shapes]))


# --- CSV -----------------------------------------------------------------------------------------------------------

ROUND_COLUMNS = (
    "server",
    "model",
    "task",
    "round",
    "ttft_s",
    "total_s",
    "load_s",
    "prompt_tokens",
    "prompt_s",
    "prefill_tokens_per_s",
    "predicted_tokens",
    "predicted_s",
    "decode_tokens_per_s",
    "verdict",
    "failure",
)


def rounds_csv(report: Report) -> str:
    """Every single answer: what somebody calculates with has not been calculated already."""
    rows = []
    for model in report.models:
        for task in model.tasks:
            for number, each in enumerate(task.rounds, 1):
                rows.append(
                    (
                        report.server,
                        model.name,
                        task.task,
                        number,
                        each.ttft_s,
                        each.total_s,
                        each.load_s,
                        each.prompt_tokens,
                        each.prompt_s,
                        prefill_per_s(each),
                        each.predicted_tokens,
                        each.predicted_s,
                        decode_per_s(each),
                        each.verdict,
                        each.failure,
                    )
                )
    return _csv(ROUND_COLUMNS, rows)


def table_csv(table: Table) -> str:
    return _csv(table.header, table.rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: object) -> object:
    """Figures to a microsecond; words that a spreadsheet would take for a formula begin with an apostrophe."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
