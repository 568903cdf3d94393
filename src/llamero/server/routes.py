"""THE table of routes: method, path, handler, who may call it, how large a body may be, and what it looks like.

The app dispatches by it, the guard asks it for roles, `/openapi.json` is made from it. Matching is literal: paths are
looked at as they were sent, nothing is decoded (security §9.4).
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .guard import Role

Handler = Callable[[Request, bytes], Awaitable[Response]]
Upload = Callable[[Request], Awaitable[Response]]

MANAGEMENT_BODY_BYTES = 2**20
CREATE_BODY_BYTES = 16 * 2**20

METHOD_ORDER = ("HEAD", "GET", "POST", "DELETE")
"""In which `Allow` lists methods."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    """Literal, but for a last segment in braces, which stands for any text without a slash."""
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


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    parameters: dict[str, str]


class Routes:
    def __init__(self, routes: Iterable[Route]) -> None:
        self.all = tuple(routes)
        self._exact: dict[str, dict[str, Route]] = {}
        self._prefixes: dict[str, dict[str, Route]] = {}
        for route in self.all:
            prefix, brace, _ = route.path.partition("{")
            table = self._prefixes if brace else self._exact
            table.setdefault(prefix, {})[route.method] = route

    def methods(self, path: str) -> dict[str, Match]:
        """What can be done with a path, by method; empty when there is no such path."""
        if (exact := self._exact.get(path)) is not None:
            return {method: Match(route, {}) for method, route in exact.items()}
        prefix, _, last = path.rpartition("/")
        routes = self._prefixes.get(f"{prefix}/", {})
        if not last or not routes:
            return {}
        return {
            method: Match(route, {route.path.partition("{")[2].rstrip("}"): last}) for method, route in routes.items()
        }

    def elsewhere(self, method: str, path: str) -> str | None:
        """The path that was probably meant: without a trailing slash, doubled slashes or dot segments."""
        cleaned = posixpath.normpath("/" + path.lstrip("/"))
        return cleaned if cleaned != path and method in self.methods(cleaned) else None


def allow(methods: Iterable[Any]) -> str:
    present = set(methods)
    return ", ".join(method for method in METHOD_ORDER if method in present)
