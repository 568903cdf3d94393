"""The logs of `serve`: one logfmt line per record on stderr, one line per request on stdout (cli §11).

What is worth a line, and the shape of the access line, are for their writers to say.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import TextIO

TRACE = 5
"""Below DEBUG: bodies and engine output."""

ACCESS = "llamero.access"
"""The server's logger for requests."""

_NAMES = {TRACE: "TRACE", logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_OWN_FIELDS = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


class LogfmtFormatter(logging.Formatter):
    """`time=… level=… source=… msg=… key=value`; the keys are what the writer gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        level = _NAMES.get(record.levelno, record.levelname)
        fields = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
        line = f"time={time} level={level} source={record.filename}:{record.lineno} msg={_quote(record.getMessage())}"
        line += "".join(f" {name}={_quote(str(value))}" for name, value in fields.items())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quote(text: str) -> str:
    """Bare when it is one plain word; a line break would be a forged line."""
    if text and text.isprintable() and not any(char in ' "=' for char in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def log_to(stderr: TextIO, stdout: TextIO, debug_level: int) -> None:
    """Send all logging there. `debug_level` is OLLAMA_DEBUG's: 0 INFO, 1 DEBUG, 2 TRACE, -1 WARN, -2 ERROR."""
    levels = {-2: logging.ERROR, -1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG, 2: TRACE}
    level = levels[max(-2, min(2, debug_level))]
    _handle(logging.getLogger(), stderr, LogfmtFormatter(), level)
    access = logging.getLogger(ACCESS)
    access.propagate = False
    _handle(access, stdout, logging.Formatter("%(message)s"), max(level, logging.INFO))


def _handle(logger: logging.Logger, stream: TextIO, formatter: logging.Formatter, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.handlers = [handler]
    logger.setLevel(level)
