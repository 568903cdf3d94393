"""The progress lines of one layer, or of a whole model: not too many, and always the last one (store-registry §3.1)."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..messages import Progress

Report = Callable[[Progress], None]

TICK_S = 0.06
"""Between two lines."""

WHOLE_MODEL = "sha256:model"
"""What the lines of a model made of many small blobs carry for a digest."""


class Lines:
    def __init__(self, status: str, digest: str, total_bytes: int, report: Report) -> None:
        self._status = status
        self._digest = digest
        self._total_bytes = total_bytes
        self._report = report
        self._next_s = 0.0

    def tell(self, completed_bytes: int) -> None:
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + TICK_S
            self._say(min(completed_bytes, self._total_bytes))

    def finish(self) -> None:
        self._say(self._total_bytes)

    def _say(self, completed_bytes: int) -> None:
        self._report(Progress(self._status, self._digest, self._total_bytes, completed_bytes))
