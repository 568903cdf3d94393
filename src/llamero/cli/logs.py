"""The logs of `serve`: a line per record on stderr and one per request on stdout, as text or as JSON (cli §11).

What comes from outside cannot forge a line, hide in one or fill the disk: every value is redacted, cut and escaped
here, whoever logs it (security §9.5). What is worth a line, and the shape of the access line, are for their writers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TextIO

from .redaction import Redaction

TRACE = 5
"""Below DEBUG: bodies and engine output."""

ACCESS = "llamero.access"
"""The server's logger for requests."""

MAX_VALUE_CHARS = 512
TAIL_CHARS = 128
"""Of those, the end of a value: what went wrong often stands last."""
MAX_REDACTED_CHARS = 16 * 2**10
"""More than will be shown, and as much as is worth searching for secrets."""
MAX_TRACEBACK_CHARS = 8 * 2**10

WHOLE = frozenset({"env"})
"""Fields of our own making that are not cut: the variables that the server was started with."""

_NAMES = {TRACE: "TRACE", logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}
_OWN_FIELDS = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}

Value = str | int | float | bool | None


class SafeFormatter(logging.Formatter):
    """What all formats share: values from outside made harmless. Numbers and words of ours pass as they are."""

    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self._redact = redact

    def message(self, record: logging.LogRecord) -> str:
        """Our words with the values in their places; a message that was put together elsewhere counts as one value."""
        if not record.args:
            return str(self.value(record.msg))
        if isinstance(record.args, Mapping):
            return str(record.msg) % {name: self.value(value) for name, value in record.args.items()}
        return str(record.msg) % tuple(map(self.value, record.args))

    def fields(self, record: logging.LogRecord) -> dict[str, Value]:
        """What the writer gave as `extra`, and where an exception came from."""
        found = {
            name: self._redact(str(value)) if name in WHOLE else self.value(value)
            for name, value in vars(record).items()
            if name not in _OWN_FIELDS
        }
        if record.exc_info:
            found["trace"] = self._redact(self.formatException(record.exc_info)[-MAX_TRACEBACK_CHARS:])
        return found

    def value(self, value: object) -> Value:
        if value is None or isinstance(value, int | float):
            return value
        return _cut(self._redact(_cut(str(value), MAX_REDACTED_CHARS)), MAX_VALUE_CHARS)


class LogfmtFormatter(SafeFormatter):
    """`time=… level=… source=… msg=… key=value`; the keys are what the writer gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = (
            f"time={_time(record)} level={_level(record)} source={_source(record)} msg={_quote(self.message(record))}"
        )
        return line + "".join(f" {name}={_quote(str(value))}" for name, value in self.fields(record).items())


class AccessFormatter(SafeFormatter):
    """The line as its writer made it; the fields that it was given besides are for JSON."""

    def format(self, record: logging.LogRecord) -> str:
        return escaped(self.message(record))


class JsonFormatter(SafeFormatter):
    """One object per line; `message` takes the place of a text that only repeats the fields."""

    def __init__(self, redact: Redaction, message: str = "") -> None:
        super().__init__(redact)
        self._message = message

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, Value] = {
            "time": _time(record),
            "level": _level(record),
            "source": _source(record),
            "msg": self._message or self.message(record),
        }
        return escaped(json.dumps(shown | self.fields(record), ensure_ascii=False))


def escaped(text: str) -> str:
    """Without characters that move a cursor, end a line, turn the direction of writing or cannot be seen."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _quote(text: str) -> str:
    """Bare when it is one plain word."""
    if text and text.isprintable() and not any(char in ' "=' for char in text):
        return text
    return escaped(json.dumps(text, ensure_ascii=False))


def _cut(text: str, limit: int) -> str:
    """Its beginning and its end, where it is longer."""
    if len(text) <= limit:
        return text
    return f"{text[: limit - TAIL_CHARS - 1]}…{text[-TAIL_CHARS:]}"


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def _level(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno, record.levelname)


def _source(record: logging.LogRecord) -> str:
    return f"{record.filename}:{record.lineno}"


def log_to(
    stderr: TextIO, stdout: TextIO, debug_level: int, *, as_json: bool = False, secrets: Iterable[str] = ()
) -> None:
    """Send all logging there. `debug_level` is OLLAMA_DEBUG's: 0 INFO, 1 DEBUG, 2 TRACE, -1 WARN, -2 ERROR."""
    levels = {-2: logging.ERROR, -1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG, 2: TRACE}
    level = levels[max(-2, min(2, debug_level))]
    redact = Redaction(secrets)
    _handle(logging.getLogger(), stderr, JsonFormatter(redact) if as_json else LogfmtFormatter(redact), level)
    access = logging.getLogger(ACCESS)
    access.propagate = False
    shape = JsonFormatter(redact, "request") if as_json else AccessFormatter(redact)
    _handle(access, stdout, shape, max(level, logging.INFO))


def _handle(logger: logging.Logger, stream: TextIO, formatter: logging.Formatter, level: int) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.handlers = [handler]
    logger.setLevel(level)
