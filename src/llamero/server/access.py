"""The access log: one line per request, in the shape that log scrapers know (cli §11)."""

from __future__ import annotations

import logging
import time

from ..durations import MINUTE, SECOND, format_duration
from .account import Exchange

log = logging.getLogger("llamero.access")


def write(exchange: Exchange, path: str, client: str) -> None:
    """`path` is what was asked for; `client` the address that did, empty on a unix socket."""
    if not log.isEnabledFor(logging.INFO):
        return
    took_ns = exchange.ended_ns - exchange.began_ns
    shown_ns = took_ns - took_ns % SECOND if took_ns > MINUTE else took_ns
    quoted = path.replace("\\", "\\\\").replace('"', '\\"')
    log.info(
        '[GIN] %s | %3d | %13s | %15s | %-7s  "%s"',
        time.strftime("%Y/%m/%d - %H:%M:%S"),
        exchange.status,
        format_duration(shown_ns),
        client or "unix",
        exchange.method,
        quoted,
        # for those who read JSON
        extra={
            "status": exchange.status,
            "seconds": took_ns / SECOND,
            "client": client,
            "method": exchange.method,
            "path": path,
            "key": exchange.key,
        },
    )
