"""The logs of `serve` (cli §11): their shape and their levels."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator

import pytest

from llamero.cli.logs import ACCESS, TRACE, log_to
from llamero.config import Settings

log = logging.getLogger("llamero.test")


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    loggers = (logging.getLogger(), logging.getLogger(ACCESS))
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def logged(
    debug_level: int = 0, *, as_json: bool = False, secrets: Iterable[str] = ()
) -> tuple[io.StringIO, io.StringIO]:
    err, out = io.StringIO(newline=""), io.StringIO(newline="")
    log_to(err, out, debug_level, as_json=as_json, secrets=secrets)
    return err, out


def test_a_record_is_one_line_of_fields() -> None:
    err, _ = logged()
    log.info("server config", extra={"env": "map[A:b C:d]", "count": 3, "empty": "", "path": "/a=b"})
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d level=INFO source=test_logs\.py:\d+ "
        r'msg="server config" env="map\[A:b C:d\]" count=3 empty="" path="/a=b"\n',
        err.getvalue(),
    )


HOSTILE = {
    "line breaks": "x\r\n2026-01-01 INFO admin login\n[GIN] 2026/01/01 | 200 | admin",
    "logfmt": 'a "b"\ntime=now level=ERROR msg=forged\x1b[2J',
    "terminal": "\x1b]0;owned\x07\x1b[31m\x9b2J\x7f\x08\x00",
    "right to left": "\u202egnp.exe\u202c \u2066x\u2069 \u200f \u061c",
    "separators": "a\u2028b\u2029c\x85d\x0b\x0c",
    "invisible": "a\u200bb\ufeffc\u00add\U000e0041",
    "half characters": "\ud800 \udfff",
    "a megabyte": "n" * 2**20,
    "a megabyte of line breaks": "\r\n" * 2**19,
    "quotes": '" | 200 | "\\" \\',
}
FORGERIES = (
    "\r",
    "\n",
    "\x1b",
    "\x07",
    "\x9b",
    "\x7f",
    "\x00",
    "\u202e",
    "\u2066",
    "\u2028",
    "\x85",
    "\u200b",
    "\ud800",
)


def spoken(text: str) -> list[Callable[[], None]]:
    """All ways by which text from outside comes into the log."""

    def fail() -> None:
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("failed for %s", text)

    return [
        lambda: log.warning("pull %s: %s", text, ValueError(text)),
        lambda: log.warning(text),
        lambda: log.warning("%(who)s", {"who": text}),
        lambda: log.info("x", extra={"name_": text}),
        fail,
        lambda: logging.getLogger(ACCESS).info('"%s"', text, extra={"path": text, "status": 200}),
    ]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_x88_whatever_is_logged_is_one_escaped_line(text: str, as_json: bool) -> None:
    """X-88, with the requests of `server/test_canaries.py`."""
    err, out = logged(as_json=as_json)
    ways = spoken(text)
    for speak in ways:
        speak()
    lines = (err.getvalue() + out.getvalue()).split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(ways)
    for line in lines:
        assert line.isprintable()
        assert not any(character in line for character in FORGERIES)
        assert len(line) < 32 * 2**10
        line.encode()
        if as_json:
            assert json.loads(line)["level"] in ("INFO", "WARN", "ERROR")


def test_long_values_keep_their_beginning_and_their_end() -> None:
    err, _ = logged()
    log.info("got %s", "a" * 600 + "z" * 600)
    shown = re.search(r'msg="got (.*)"', err.getvalue())
    assert shown is not None
    assert shown[1] == "a" * 383 + "…" + "z" * 128


def test_our_own_words_are_not_cut() -> None:
    """The variables of the start log."""
    err, _ = logged()
    variables = " ".join(f"NAME_{number}:value" for number in range(200))
    log.info("server config", extra={"env": variables})
    assert variables in err.getvalue()


def test_a_traceback_is_a_field_of_its_line() -> None:
    err, _ = logged()
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    (line,) = err.getvalue().splitlines()
    assert re.search(r'msg=failed trace="Traceback \(most recent call last\):\\n.*\\nValueError: why"$', line)


def test_secrets_are_redacted_wherever_they_stand() -> None:
    err, out = logged(secrets=["canary-secret"])
    for speak in spoken("canary-secret https://u:canary-pw@h/?t=canary-token Authorization: Bearer canary-bearer"):
        speak()
    assert "canary" not in err.getvalue() + out.getvalue()


def test_json_is_one_object_per_line_with_typed_fields() -> None:
    err, out = logged(as_json=True)
    log.info("loaded %s", "m", extra={"count": 3, "share": 0.5, "name_": "x", "is_new": True})
    logging.getLogger(ACCESS).info('[GIN] %s | "%s"', "now", "/api/tags", extra={"status": 200, "path": "/api/tags"})
    record = json.loads(err.getvalue())
    time, source = record.pop("time"), record.pop("source")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", time)
    assert re.fullmatch(r"test_logs\.py:\d+", source)
    assert record == {"level": "INFO", "msg": "loaded m", "count": 3, "share": 0.5, "name_": "x", "is_new": True}
    request = json.loads(out.getvalue())
    assert (request["msg"], request["status"], request["path"]) == ("request", 200, "/api/tags")


@pytest.mark.parametrize(
    ("value", "as_json", "warns"),
    [("", False, False), ("text", False, False), ("JSON", True, False), ("xml", False, True)],
)
def test_the_variable_of_the_format(value: str, as_json: bool, warns: bool) -> None:
    settings = Settings.from_env({"HOME": "/h", "LLAMERO_LOG_FORMAT": value})
    assert (settings.logs_json, bool(settings.warnings)) == (as_json, warns)


@pytest.mark.parametrize(
    ("debug_level", "names"),
    [
        (0, "INFO WARN ERROR"),
        (1, "DEBUG INFO WARN ERROR"),
        (2, "TRACE DEBUG INFO WARN ERROR"),
        (9, "TRACE DEBUG INFO WARN ERROR"),
        (-1, "WARN ERROR"),
        (-2, "ERROR"),
    ],
)
def test_levels(debug_level: int, names: str) -> None:
    err, _ = logged(debug_level)
    log_at_every_level()
    assert re.findall(r"level=(\w+)", err.getvalue()) == names.split()


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("1", "DEBUG INFO WARN ERROR"),
        ("true", "DEBUG INFO WARN ERROR"),
        ("2", "TRACE DEBUG INFO WARN ERROR"),
        ("-1", "WARN ERROR"),
        ("0", "INFO WARN ERROR"),
        ("", "INFO WARN ERROR"),
    ],
)
def test_what_the_variable_means(variable: str, names: str) -> None:
    """L-102"""
    err, _ = logged(Settings.from_env({"OLLAMA_DEBUG": variable}).debug_level)
    log_at_every_level()
    assert re.findall(r"level=(\w+)", err.getvalue()) == names.split()


def log_at_every_level() -> None:
    for level in (TRACE, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(level, "x")


def test_requests_go_to_stdout_as_they_are() -> None:
    err, out = logged()
    logging.getLogger(ACCESS).info('[GIN] %s | "%s"', "now", "/api/tags")
    assert (err.getvalue(), out.getvalue()) == ("", '[GIN] now | "/api/tags"\n')


def test_a_quiet_log_has_no_requests() -> None:
    _, out = logged(-1)
    logging.getLogger(ACCESS).info("request")
    assert out.getvalue() == ""
