"""Bars, spinners, and how they are drawn (cli §5)."""

from __future__ import annotations

import contextlib
import io

import pytest

from llamero.cli.format import columns
from llamero.cli.progress import Bar, Copy, Display, Drawing, PlainLines, Spinner, steps, waiting
from llamero.cli.terminal import Terminal
from llamero.messages import Progress
from tests.cli.terminals import terminal_stream

LABEL = "pulling 4f659a1e86d7:"
GB = 10**9


def running(completed: int, total: int, *, seconds: int = 0, start: int = 0) -> Bar:
    bar = Bar(LABEL, total)
    bar.set(start, 0)
    bar.set(completed, seconds)
    return bar


def test_a_running_bar() -> None:
    """L-63"""
    bar = running(90_000_000, 2_600_000_000, seconds=2, start=2_000_000)
    assert bar.line(80, 2) == f"{LABEL}   3% ▕                  ▏  90 MB/2.6 GB   44 MB/s     57s"


def test_a_full_bar() -> None:
    """L-64"""
    bar = running(2_600_000_000, 2_600_000_000, seconds=2)
    assert bar.line(80, 2) == f"{LABEL} 100% ▕██████████████████▏ 2.6 GB                         "


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("completed", [1, 999_999, GB, 2 * GB, 3 * GB])
@pytest.mark.parametrize("seconds", [0, 1, 1000])
def test_a_bar_leaves_one_column_free(width: int, completed: int, seconds: int) -> None:
    """L-63"""
    assert columns(running(completed, 3 * GB, seconds=seconds).line(width, seconds)) == width - 1


def test_a_bar_is_filled_by_its_share() -> None:
    line = running(GB // 2, GB).line(80, 0)
    assert line == f"{LABEL}  50% ▕█████████         ▏ 500 MB/  1 GB                  "


def test_a_narrow_terminal_cuts_it() -> None:
    assert running(GB // 2, GB).line(20, 0) == LABEL[:19]


def test_a_bar_never_runs_backwards() -> None:
    bar = running(600, 1000, seconds=1)
    bar.set(100, 2)
    assert bar.completed_bytes == 600
    bar.set(5000, 3)
    assert bar.completed_bytes == 1000


def test_the_rate_is_of_the_last_ten_seconds() -> None:
    bar = Bar(LABEL, 100 * GB)
    for second in range(20):
        bar.set(second * (1 if second < 10 else GB), second)
        bar.set(second * (1 if second < 10 else GB) + 1, second + 0.5)  # too soon to count
    assert bar.bytes_per_s == GB


@pytest.mark.parametrize(
    ("left_s", "text"),
    [
        (55, "55s"),
        (62, "1m2s"),
        (3599, "59m59s"),
        (3600, "1h0m"),
        (9000, "2h30m"),
        (359_999, "99h59m"),
        (360_000, "99h+"),
    ],
)
def test_time_left(left_s: int, text: str) -> None:
    total = 10_000_000_000
    bar = running(10_000, total, seconds=10)
    bar.total_bytes = 10_000 + left_s * 1000
    assert bar.line(80, 10).endswith(f"  {text:>6}")


def test_a_spinner_turns_and_leaves_its_text() -> None:
    spinner = Spinner("pulling manifest")
    assert [spinner.line(80, tenth / 10 + 0.05) for tenth in (0, 1, 9, 10)] == [
        f"pulling manifest {frame} " for frame in "⠋⠙⠏⠋"
    ]
    spinner.is_over = True
    assert spinner.line(80, 0) == "pulling manifest "
    assert Spinner("x" * 50).line(20, 0) == "x" * 19


# --- displays ------------------------------------------------------------------------------------------------------


def layer(completed: int, digest: str = "sha256:4f659a1e86d7ffff") -> Progress:
    return Progress("pulling 4f659a1e86d7", digest, 1000, completed)


def test_layers_become_bars_once_something_came() -> None:
    """L-65"""
    seen: list[str] = []

    class Recording(Display):
        def status(self, text: str) -> None:
            seen.append(text)

        def bar(self, key: str, label: str, completed_bytes: int, total_bytes: int) -> None:
            seen.append(f"{label} {completed_bytes}/{total_bytes}")

    Recording().follow_pull(
        [Progress("pulling manifest"), layer(0), layer(5), layer(0, "sha256:model"), layer(7, "model")]
    )
    assert seen == ["pulling manifest", f"{LABEL} 5/1000", "pulling model: 7/1000"]
    seen.clear()
    Recording().follow_create([Progress("quantizing F16 model to Q4_K_M", "0000", 10, 0), Progress("success")])
    assert seen == ["quantizing F16 model to Q4_K_M 0/10", "success"]
    seen.clear()
    sized = [Progress("converting model", "", 10, 5), Progress("a", "000", 10, 0), Progress("b", "000", 20, 1)]
    Recording().follow_create([Progress("converting model"), *sized])
    assert seen == ["converting model", "converting model 5/10", "a 0/10", "b 1/20"]


def test_plain_lines_name_each_step_once() -> None:
    err = io.StringIO()
    with PlainLines(Terminal(io.StringIO(), io.StringIO(), err)) as display:
        for text in ("a", "a", "b", "a"):
            display.status(text)
        for done in (1, 2, 100, 150, 199, 200, 1000, 1000):
            display.bar("key", "label", done, 1000)
    assert err.getvalue().splitlines() == [
        "a",
        "b",
        "a",
        "label 0% 1 B/1 KB",
        "label 10% 100 B/1 KB",
        "label 20% 200 B/1 KB",
        "label 100% 1 KB/1 KB",
    ]


def test_a_long_tenth_is_told_of_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 9.9, 10.0, 15.0, 20.5])
    monkeypatch.setattr("llamero.cli.progress.time.monotonic", lambda: next(now))
    err = io.StringIO()
    display = PlainLines(Terminal(io.StringIO(), io.StringIO(), err))
    for done in (1, 2, 3, 4, 5):
        display.bar("key", "label", done, 1000)
    assert [line.split()[2] for line in err.getvalue().splitlines()] == ["1", "3", "5"]


def test_a_drawing_ends_with_its_last_state_and_a_new_line() -> None:
    """L-63, L-64: the whole of it on a terminal of 80 columns"""
    with terminal_stream() as (stream, written), steps(Terminal(stream, stream, stream)) as display:
        display.follow_pull([Progress("pulling manifest"), layer(1000), Progress("success")])
    last = written[0].rpartition("\x1b[?2026h")[2]
    assert last == (
        "\x1b[?25l\x1b[1G"
        "pulling manifest \x1b[K\r\n"
        f"{LABEL} 100% ▕██████████████████▏   1 KB                         \x1b[K\r\n"
        "success \x1b[K\x1b[?25h\x1b[?2026l\r\n"
    )


def test_ctrl_c_leaves_the_lines_as_they_are() -> None:
    """The terminal's own ^C has moved the cursor, by a row when the last line was full."""
    with (
        terminal_stream() as (stream, written),
        contextlib.suppress(KeyboardInterrupt),
        steps(Terminal(stream, stream, stream)) as display,
    ):
        assert isinstance(display, Drawing)
        display.status("pulling manifest")
        display.draw()
        stream.write("^C")
        raise KeyboardInterrupt
    assert written[0].endswith("^C\r\n")


def test_redrawing_goes_back_up_over_what_stands_there() -> None:
    with terminal_stream() as (stream, written):
        drawing = Drawing(Terminal(stream, stream, stream))
        drawing.status("one")
        drawing.status("two")
        drawing.draw()
        drawing.close()
    frames = written[0].split("\x1b[?2026h")
    assert frames[-1].startswith("\x1b[?25l\x1b[A\x1b[1Gone \x1b[K\r\n")


def test_only_as_many_lines_as_the_terminal_has_are_drawn() -> None:
    with terminal_stream() as (stream, written), Drawing(Terminal(stream, stream, stream)) as drawing:
        for number in range(40):
            drawing.status(f"step {number}")
    last = written[0].rpartition("\x1b[?2026h")[2]
    assert last.count("\x1b[K") == 24
    assert "step 16 " in last
    assert "step 15 " not in last


def test_a_step_that_learns_its_size_becomes_its_bar() -> None:
    with terminal_stream() as (stream, written), Drawing(Terminal(stream, stream, stream)) as drawing:
        drawing.status("converting model")
        drawing.draw()
        drawing.bar(" converting model", "converting model", 5, 10)
    last = written[0].rpartition("\x1b[?2026h")[2]
    assert last.count("converting model") == 1
    assert "converting model  50%" in last


def test_several_copies_run_side_by_side() -> None:
    with terminal_stream() as (stream, written), Drawing(Terminal(stream, stream, stream)) as drawing:
        drawing.copying("copying file a", 5, 10)
        drawing.copying("copying file b", 0, 10)
        drawing.copying("copying file a", 10, 10)
    last = written[0].rpartition("\x1b[?2026h")[2]
    assert "copying file a 100% \x1b[K\r\ncopying file b 0% " in last


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (140, f"copying file sha256:{HEX} 25% ⠋ 300 MB/1.2 GB   50 MB/s     18s"),
        (80, "copying file sha256:0123456789ab 25% ⠋ 300 MB/1.2 GB   50 MB/s     18s"),
        (40, "copying file sha256:0123456789ab 25% ⠋ "),
    ],
)
def test_a_file_on_its_way_tells_rate_and_time_left(width: int, line: str) -> None:
    copy = Copy(f"copying file sha256:{HEX}", 1_200_000_000)
    for second in range(7):
        copy.set(second * 50_000_000, second)
    assert copy.line(width, 6.0) == line
    copy.set(1_200_000_000, 30)
    assert copy.line(width, 30.0) == f"copying file sha256:{HEX} 100% "[: width - 1], "as the reference ends it"


def test_a_wait_leaves_nothing_behind() -> None:
    with terminal_stream() as (stream, written), waiting(Terminal(stream, stream, stream)) as display:
        assert isinstance(display, Drawing)
        display.draw()
    assert written[0].endswith("\x1b[?2026l\x1b[2K\x1b[1G")


@pytest.mark.parametrize("is_plain", [True, False])
def test_nothing_is_drawn_where_nobody_may(is_plain: bool) -> None:
    with terminal_stream() as (stream, written):
        terminal = Terminal(stream, stream, stream if is_plain else io.StringIO(), is_plain=is_plain)
        assert isinstance(steps(terminal), PlainLines)
        assert type(waiting(terminal)) is Display
    assert written == [""]
