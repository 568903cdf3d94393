"""What is shown on stderr while something takes its time: spinners and bars, or plain lines off a terminal.

Source: cli §5. The drawing of one line is pure (`Spinner.line`, `Bar.line`); `Drawing` redraws them ten times a second
from a thread of its own, because the caller is waiting for the server's next line.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, Self

from ..durations import SECOND, format_duration
from ..sizes import human_bytes
from .format import columns, printable
from .terminal import Terminal, size

if TYPE_CHECKING:
    from ..messages import Progress

TICK_S = 0.1
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

SAMPLES = 10
SAMPLE_GAP_S = 1.0
"""The rate is an average over the last ten seconds or so: steady to read, quick to follow."""

PATIENCE_S = 1.0
"""For so long nobody asks why something takes its time."""
LOOK_S = 0.5
"""Between two looks at why."""

DIGEST_CHARS = 12
_LONG_DIGEST = re.compile(r"[0-9a-f]{64}")

PLAIN_STEP_PERCENT = 10
PLAIN_STEP_S = 10.0


class Line(Protocol):
    def line(self, width: int, now: float) -> str:
        """At most `width` - 1 columns; `now` is a monotonic clock in seconds."""


class Spinner:
    """A text and a turning sign; the text alone once it is over."""

    def __init__(self, text: str) -> None:
        self.text = printable(text)
        self.is_over = False

    def line(self, width: int, now: float) -> str:
        sign = "" if self.is_over else f"{FRAMES[int(now / TICK_S) % len(FRAMES)]} "
        return _cut(f"{self.text} {sign}" if self.text else sign, width - 1)


class Bar:
    """Bytes done of a known total, how fast, and how long still. It never runs backwards (cli G-10)."""

    def __init__(self, label: str, total_bytes: int) -> None:
        self.label = printable(label)
        self.total_bytes = total_bytes
        self.completed_bytes = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def set(self, completed_bytes: int, now: float) -> None:
        self.completed_bytes = max(self.completed_bytes, min(completed_bytes, self.total_bytes))
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_GAP_S:
            self._samples.append((now, self.completed_bytes))

    @property
    def percent(self) -> float:
        return 100 * self.completed_bytes / self.total_bytes if self.total_bytes else 0.0

    @property
    def is_full(self) -> bool:
        return self.completed_bytes >= self.total_bytes

    @property
    def bytes_per_s(self) -> float:
        """0 while too little has been seen."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s)

    def line(self, width: int, now: float) -> str:
        """`label  42% ▕████      ▏ 90 MB/2.6 GB  44 MB/s  55s`, the right side always 31 columns."""
        head = f"{self.label} {self.percent:3.0f}%"
        room = max(0, width - columns(head) - 31 - 5)
        filled = int(room * self.percent / 100)
        return _cut(f"{head} ▕{'█' * filled}{' ' * (room - filled)}▏ {self.suffix}", width - 1)

    @property
    def suffix(self) -> str:
        """How much of how much, and when that is known, how fast and how long still."""
        total = f"{human_bytes(self.total_bytes):>6}"
        if self.is_full:
            return f"{total:<31}"
        sizes = f"{human_bytes(self.completed_bytes):>6}/{total}"
        rate = self.bytes_per_s
        if not rate:
            return f"{sizes:<31}"
        eta = _eta((self.total_bytes - self.completed_bytes) / rate)
        return f"{sizes}  {human_bytes(int(rate)):>6}/s  {eta:>6}"


class Copy:
    """A file on its way: a spinner with a percentage, as the reference shows it, and how fast and how long still."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self._bar = Bar(what, total_bytes)
        self.is_over = False

    def set(self, completed_bytes: int, now: float) -> None:
        self._bar.set(completed_bytes, now)
        self.is_over = self._bar.is_full

    def line(self, width: int, now: float) -> str:
        what, percent = self._bar.label, int(self._bar.percent) if self._bar.total_bytes else 100
        if self.is_over:
            return _cut(f"{what} {percent}% ", width - 1)
        tail = f" {percent}% {FRAMES[int(now / TICK_S) % len(FRAMES)]} {self._bar.suffix.rstrip()}"
        if columns(what + tail) >= width:  # a digest in full takes the room of what people want to know
            what = _LONG_DIGEST.sub(lambda digest: digest[0][:DIGEST_CHARS], what)
        return _cut(what + tail, width - 1)


def _eta(seconds: float) -> str:
    hours = int(seconds // 3600)
    if hours >= 100:
        return "99h+"
    if hours:
        return f"{hours}h{int(seconds % 3600 // 60)}m"
    return format_duration(round(seconds) * SECOND)


def _cut(text: str, width: int) -> str:
    while columns(text) > width:
        text = text[:-1]
    return text


def short_digest(key: str) -> str:
    """Twelve digits; what is no digest as it is."""
    return key.removeprefix("sha256:")[:DIGEST_CHARS] if key.startswith("sha256:") else key


# --- where it is shown ---------------------------------------------------------------------------------------------


class Display:
    """Shows one command's progress. This one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def status(self, text: str) -> None:
        """A step without a size. The one before it is over."""

    def bar(self, key: str, label: str, completed_bytes: int, total_bytes: int) -> None:
        """A step with a size; calls with the same key move the same bar."""

    def copying(self, what: str, completed_bytes: int, total_bytes: int) -> None:
        """A file on its way, of which there may be several at once."""

    def close(self) -> None:
        """Nothing is shown any more after this; it may be called twice."""

    def follow_pull(self, lines: Iterable[Progress]) -> None:
        """Show a server's lines to their end. The first line of a layer only tells its size and makes no bar."""
        for line in lines:
            if not line.digest:
                self.status(line.status)
            elif line.completed_bytes:
                label = f"pulling {short_digest(line.digest)}:"
                self.bar(line.digest, label, line.completed_bytes, line.total_bytes)

    def follow_create(self, lines: Iterable[Progress]) -> None:
        """The same for a create, whose sized steps have the same digest or none, but a text of their own."""
        for line in lines:
            if line.total_bytes:
                self.bar(f"{line.digest} {line.status}", line.status, line.completed_bytes, line.total_bytes)
            else:
                self.status(line.status)


class PlainLines(Display):
    """One line per step, and for a sized one another at every tenth or every ten seconds; no control sequences."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._status = ""
        self._shown: dict[str, tuple[int, float]] = {}
        """By key: the last tenth that was told, and when."""

    def status(self, text: str) -> None:
        if text != self._status:
            self._status = text
            self._terminal.err(f"{printable(text)}\n")

    def bar(self, key: str, label: str, completed_bytes: int, total_bytes: int) -> None:
        percent = 100 * completed_bytes // total_bytes if total_bytes else 0
        tenth, now = percent // PLAIN_STEP_PERCENT, time.monotonic()
        last_tenth, last_s = self._shown.get(key, (-1, now))
        if tenth > last_tenth or now - last_s >= PLAIN_STEP_S:
            self._shown[key] = (tenth, now)
            done = f"{human_bytes(completed_bytes)}/{human_bytes(total_bytes)}"
            self._terminal.err(f"{printable(label)} {percent}% {done}\n")

    def copying(self, what: str, completed_bytes: int, total_bytes: int) -> None:
        self.bar(what, what, completed_bytes, total_bytes)


class Drawing(Display):
    """Lines redrawn in place. With `erase` nothing of them stays."""

    def __init__(self, terminal: Terminal, *, erase: bool = False) -> None:
        self._terminal = terminal
        self._erase = erase
        self._lines: list[Line] = []
        self._status = Spinner("")
        self._sized: dict[str, Bar | Copy] = {}
        self._drawn: list[str] = []
        """Lines on the screen now; the cursor is in the last."""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def status(self, text: str) -> None:
        with self._lock:
            if text != self._status.text or not self._lines:
                self._status.is_over = True
                self._status = Spinner(text)
                self._lines.append(self._status)

    def bar(self, key: str, label: str, completed_bytes: int, total_bytes: int) -> None:
        with self._lock:
            bar = self._sized.get(key)
            if not isinstance(bar, Bar):
                self._status.is_over = True
                if self._lines[-1:] == [self._status] and self._status.text == label:
                    self._lines.pop()  # the same step, of which the size is known by now
                bar = self._sized[key] = Bar(label, total_bytes)
                self._lines.append(bar)
            bar.set(completed_bytes, time.monotonic())

    def copying(self, what: str, completed_bytes: int, total_bytes: int) -> None:
        with self._lock:
            copy = self._sized.get(what)
            if not isinstance(copy, Copy):
                self._status.is_over = True
                copy = self._sized[what] = Copy(what, total_bytes)
                self._lines.append(copy)
            copy.set(completed_bytes, time.monotonic())

    def __exit__(self, *failure: object) -> None:
        # behind a last line that fills its row the terminal wrote ^C into the next: lines drawn now would stand twice
        self.close(is_as_drawn=KeyboardInterrupt in failure)

    def close(self, *, is_as_drawn: bool = False) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        self._status.is_over = True
        if not self._erase:
            if not is_as_drawn:
                self.draw()
            self._terminal.err("\n" if self._lines else "")
        elif self._drawn:
            self._terminal.err("\x1b[A".join(["\x1b[2K\x1b[1G"] * self._rows(size(self._terminal.stderr)[0])))

    def _run(self) -> None:
        while not self._over.wait(TICK_S):
            self.draw()

    def draw(self) -> None:
        """Bring the screen up to date, as happens ten times a second."""
        width, height = size(self._terminal.stderr)
        now = time.monotonic()
        with self._lock:
            lines = [line.line(width, now) for line in self._lines[-height:]]
            if not lines:
                return
            rows = self._rows(width)
            up = "\x1b[A" * (rows - 1)
            body = "\n".join(f"{line}\x1b[K" for line in lines)
            # what a terminal has broken it would put together again, and with lines that never were one
            clean = "\x1b[J" if rows > len(self._drawn) else ""
            self._terminal.err(f"\x1b[?2026h\x1b[?25l{up}\x1b[1G{clean}{body}\x1b[?25h\x1b[?2026l")
            self._drawn = lines

    def _rows(self, width: int) -> int:
        """Rows that those lines take: a terminal that has become narrower has broken them."""
        return sum(max(1, -(-columns(line) // width)) for line in self._drawn)


class Waiting(Drawing):
    """A spinner that leaves no trace. When it has turned for a while, it says why: `why` is asked, again and again."""

    def __init__(self, terminal: Terminal, why: Callable[[], str]) -> None:
        super().__init__(terminal, erase=True)
        self.status("")
        self._why = why
        # nobody waits for its end: it may be in the middle of a question to a server that is slow itself
        threading.Thread(target=self._explain, daemon=True).start()

    def _explain(self) -> None:
        pause_s = PATIENCE_S
        while not self._over.wait(pause_s):
            reason = printable(self._why())
            with self._lock:
                self._status.text = reason
            pause_s = LOOK_S


def steps(terminal: Terminal, *, quiet: bool = False, erase: bool = False) -> Display:
    """For pull and create: what was done stays readable, unless `erase` leaves the screen to the results."""
    return Drawing(terminal, erase=erase) if terminal.stderr_draws and not quiet else PlainLines(terminal)


def waiting(terminal: Terminal, *, quiet: bool = False, why: Callable[[], str] = lambda: "") -> Display:
    """For a load, a stop, an answer: a spinner, and nothing at all off a terminal. `why` may say what takes so long."""
    return Waiting(terminal, why) if terminal.stderr_draws and not quiet else Display()
