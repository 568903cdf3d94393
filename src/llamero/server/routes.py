"""THE table of routes: method, path, handler, who may call it, how large a body may be, and what it looks like.

The app dispatches by it, the guard asks it for roles, `/openapi.json` is made from it. Matching is literal: paths are
looked at as they were sent, nothing is decoded (security §9.4).
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ..dialects import native
from ..errors import LlameroError
from .guard import Role

Handler = Callable[[Request, bytes], Awaitable[Response]]
Upload = Callable[[Request], Awaitable[Response]]

MANAGEMENT_BODY_BYTES = 2**20
CREATE_BODY_BYTES = 16 * 2**20

METHOD_ORDER = ("HEAD", "GET", "POST", "DELETE")
"""In which `Allow` lists methods."""


def _status(error: LlameroError) -> int:
    return error.status


def _headers(error: LlameroError) -> Mapping[str, str]:
    return error.headers


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """How a family of routes says what went wrong."""

    write: Callable[[LlameroError, str], bytes]
    """From the error and the id of the request."""
    reply: type
    """What it writes."""
    status: Callable[[LlameroError], int] = _status
    headers: Callable[[LlameroError], Mapping[str, str]] = _headers
    id_header: str = ""
    """In which every reply carries the id of its request; empty: in none."""
    not_found: Callable[[str, str, str], bytes] | None = None
    """The body for a method, a path that is none, and the id of the request; None: plain text."""
    others: Mapping[bytes, ErrorShape] = field(default_factory=dict)
    """In its place, for clients that send a header of this name, in lower case."""

    def towards(self, headers: Iterable[tuple[bytes, bytes]]) -> ErrorShape:
        """The shape that a client reads which sends these headers."""
        return next((self.others[name] for name, _ in headers if name in self.others), self)


NATIVE_ERRORS = ErrorShape(lambda error, _: native.write_error(error), native.ErrorReply)


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    """Literal, but for segments in braces, each of which stands for any text without a slash."""
    handler: Handler | None
    summary: str
    role: Role = "admin"
    body: type | None = None
    reply: type | None = None
    lines: type | None = None
    """What a line of the streamed reply is, where there is one."""
    body_limit_bytes: int = MANAGEMENT_BODY_BYTES
    upload: Upload | None = None
    """Instead of `handler`, where the body is too large to be held."""
    bare_json_errors: bool = False
    """Errors carry the content type of a stream's first line (native-api §1.6)."""
    errors: ErrorShape = NATIVE_ERRORS
    inflates: bool = False
    """Whether a compressed body is unpacked."""
    gives_away: bool = False
    """Whether reading it is worth a line of the audit log."""

    @property
    def is_audited(self) -> bool:
        """Whether every request stands in the audit log (security §6.2): what manages, not what only looks."""
        return self.role == "admin" and (self.gives_away or self.method not in ("GET", "HEAD"))

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.split("/"))

    @property
    def parameters(self) -> list[str]:
        """Names of the segments in braces."""
        return [name for segment in self.segments if (name := _parameter(segment))]


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    parameters: dict[str, str]


class Routes:
    """`families` are prefixes of paths whose errors have a shape of their own, the longest first."""

    def __init__(self, routes: Iterable[Route], families: Iterable[tuple[str, ErrorShape]] = ()) -> None:
        self.all = tuple(routes)
        self._families = tuple(families)
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in self.all:
            if route.parameters:
                self._patterns.setdefault(route.segments, {})[route.method] = route
            else:
                self._exact.setdefault(route.path, {})[route.method] = route

    def methods(self, path: str) -> dict[str, Match]:
        """What can be done with a path, by method; empty when there is no such path."""
        if (exact := self._exact.get(path)) is not None:
            return {method: Match(route, {}) for method, route in exact.items()}
        segments = tuple(path.split("/"))
        for pattern, routes in self._patterns.items():
            if (parameters := _fit(pattern, segments)) is not None:
                return {method: Match(route, parameters) for method, route in routes.items()}
        return {}

    def errors(self, path: str) -> ErrorShape:
        """How a path that leads nowhere says so."""
        return next((shape for prefix, shape in self._families if path.startswith(prefix)), NATIVE_ERRORS)

    def elsewhere(self, method: str, path: str) -> str | None:
        """The path that was probably meant: without a trailing slash, doubled slashes or dot segments."""
        cleaned = posixpath.normpath("/" + path.lstrip("/"))
        return cleaned if cleaned != path and method in self.methods(cleaned) else None


def _parameter(segment: str) -> str:
    """The name in braces; empty for a literal segment."""
    return segment[1:-1] if segment.startswith("{") else ""


def _fit(pattern: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    """The parameters of a path that fits a pattern. An empty segment is no value of a parameter."""
    if len(pattern) != len(segments):
        return None
    parameters = {}
    for wanted, segment in zip(pattern, segments, strict=True):
        if name := _parameter(wanted):
            if not segment:
                return None
            parameters[name] = segment
        elif wanted != segment:
            return None
    return parameters


def allow(methods: Iterable[Any]) -> str:
    present = set(methods)
    return ", ".join(method for method in METHOD_ORDER if method in present)
