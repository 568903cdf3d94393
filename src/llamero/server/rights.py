"""What the rights of a caller leave of a request to a model. Every request passes here, once, when its job is made.

Which models a caller may use is `shelf`'s. Source: security §5 (model thrash), §6.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from ..durations import format_duration
from ..errors import Forbidden
from ..messages import Request
from ..options import RUNNER_OPTIONS
from .caller import Caller

R = TypeVar("R", bound=Request)

RESERVED_OPTIONS = frozenset(RUNNER_OPTIONS) - {"num_ctx"}
"""Each changes how a model is loaded for everybody who uses it."""

NO_EFFECT = "option {!r} needs an admin key and has no effect"
KEPT_FOR = "keep_alive: without an admin key a model is kept for {} at most"
NO_UNLOADING = "forbidden: a model is unloaded with an admin key"
NO_UNLOADING_FORWARDED = (
    "forbidden: a forwarded request may use models but not unload them, see LLAMERO_TRUSTED_PROXIES and OLLAMA_API_KEY"
)


def granted(request: R, who: Caller, keep_alive_ns: int) -> R:
    """The request as its caller may make it, with a warning for whatever it may not. `keep_alive_ns` is the server's
    own, which nobody without an admin key exceeds."""
    if who.rights == "admin":
        return request
    asked_ns = request.keep_alive_ns
    kept_ns = None if asked_ns is None else max(0, min(asked_ns, keep_alive_ns))
    options = {name: value for name, value in request.options.items() if name not in RESERVED_OPTIONS}
    warnings = (*request.warnings, *_told(request, kept_ns))
    return replace(request, options=options, keep_alive_ns=kept_ns, warnings=warnings)


def check_unload(who: Caller) -> None:
    """Raises Forbidden for a caller that must not take a model away from others without using it."""
    if who.rights != "admin":
        raise Forbidden(NO_UNLOADING if who.key else NO_UNLOADING_FORWARDED)


def _told(request: Request, kept_ns: int | None) -> Iterator[str]:
    for name, value in request.options.items():
        if name in RESERVED_OPTIONS and value is not None:
            yield NO_EFFECT.format(name)
    if kept_ns is not None and kept_ns != request.keep_alive_ns:
        yield KEPT_FOR.format(format_duration(kept_ns))
