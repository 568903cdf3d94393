"""The logs of `serve` (cli §11): their shape and their levels."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

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


def logged(debug_level: int = 0) -> tuple[io.StringIO, io.StringIO]:
    err, out = io.StringIO(), io.StringIO()
    log_to(err, out, debug_level)
    return err, out


def test_a_record_is_one_line_of_fields() -> None:
    err, _ = logged()
    log.info("server config", extra={"env": "map[A:b C:d]", "count": 3, "empty": "", "path": "/a=b"})
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d level=INFO source=test_logs\.py:\d+ "
        r'msg="server config" env="map\[A:b C:d\]" count=3 empty="" path="/a=b"\n',
        err.getvalue(),
    )


def test_text_from_outside_cannot_forge_a_line() -> None:
    err, _ = logged()
    log.info('a "b"\ntime=now level=ERROR msg=forged\x1b[2J')
    assert err.getvalue().count("\n") == 1
    assert r'msg="a \"b\"\ntime=now level=ERROR msg=forged\u001b[2J"' in err.getvalue()


def test_a_traceback_follows_its_line() -> None:
    err, _ = logged()
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("failed")
    first, second, *_ = err.getvalue().splitlines()
    assert first.endswith("msg=failed")
    assert second == "Traceback (most recent call last):"


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
