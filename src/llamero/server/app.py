"""The ASGI application: guard, dispatch, body limits, errors and the access log around every handler.

What a route does is in `native.py`, `library.py`; sockets and the process are `process.py`'s. Source: native-api §1.3,
§1.5 to §1.7; security §5, §9.4.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..durations import MINUTE, SECOND, format_duration
from ..errors import Cancelled, EngineError, LlameroError, LoadFailed, MethodNotAllowed, TooLarge
from .answers import BARE_JSON, JSON, warning_headers, with_headers
from .caller import PRIORITY_HEADER, Caller, caller
from .guard import Guard
from .inflate import inflated
from .routes import NATIVE_ERRORS, ErrorShape, Match, Route, Routes, allow
from .streams import STOPPING

log = logging.getLogger(__name__)
access = logging.getLogger("llamero.access")

Startup = Callable[[], Awaitable[None]]


class App:
    def __init__(self, routes: Routes, guard: Guard, *, startup: Startup, shutdown: Startup) -> None:
        self._routes = routes
        self._guard = guard
        self._startup = startup
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._startup()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_ns = time.monotonic_ns()
        status = 0
        extra: Sequence[tuple[str, str]] = ()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], *((k.lower().encode(), v.encode()) for k, v in extra)]
                message = {**message, "headers": headers}
            await send(message)

        path = scope["raw_path"].decode("latin-1")
        methods = self._routes.methods(path)
        match = methods.get(scope["method"])
        role = next((each.route.role for each in methods.values()), None)
        peer = scope["client"][0] if scope["client"] else None
        verdict = self._guard.check(
            method=scope["method"],
            headers=scope["headers"],
            peer=peer,
            role=match.route.role if match else role,
            http_version=scope["http_version"],
        )
        extra = verdict.headers
        if not verdict.allowed:
            response = _bare(verdict.status, verdict.body, verdict.content_type)
        elif match is None:
            response = self._no_route(scope, path, methods)
        else:
            request = Request(scope, receive)
            request.state.rights = verdict.rights
            caller.set(Caller(party=peer or "", is_batch=request.headers.get(PRIORITY_HEADER, "").strip() == "batch"))
            response = await self._answer(request, match)
        try:
            await response(scope, receive, sending)
        finally:
            _log_access(scope, path, status, time.monotonic_ns() - started_ns)

    async def _answer(self, request: Request, match: Match) -> Response:
        """The reply of a route, with what `bodies.read` found to warn of: on errors too, which it may explain."""
        request.scope["path_params"] = match.parameters
        request.state.warnings = list[str]()
        request.state.id = new_request_id()
        request.state.errors = match.route.errors  # a handler may find that its client speaks another dialect
        response = await self._handle(request, match.route)
        if id_header := request.state.errors.id_header:
            response.headers[id_header] = request.state.id
        return with_headers(response, warning_headers(request.state.warnings))

    async def _handle(self, request: Request, route: Route) -> Response:
        """Run a handler; every error becomes a reply here and nowhere else."""
        try:
            if route.upload is not None:
                return await route.upload(request)
            assert route.handler is not None
            body = await _body(request, route.body_limit_bytes)
            if route.inflates:
                body = await inflated(body, request.headers.get("content-encoding", ""), route.body_limit_bytes)
            return await route.handler(request, body)
        except LlameroError as error:
            return _error(error, request, bare=route.bare_json_errors or _replaces_first_line(error))
        except ClientDisconnect:
            return _error(Cancelled(), request, bare=route.bare_json_errors)
        except asyncio.CancelledError:
            return _error(STOPPING, request, bare=route.bare_json_errors)  # uvicorn ends what outlives its time to stop
        except Exception:
            log.exception("a request failed unexpectedly: %s %s", route.method, route.path)
            return _error(LlameroError("internal server error"), request, bare=route.bare_json_errors)

    def _no_route(self, scope: Scope, path: str, methods: dict[str, Match]) -> Response:
        method = scope["method"]
        if methods:
            error = MethodNotAllowed(allow(methods))
            route = next(iter(methods.values())).route
            if route.errors is not NATIVE_ERRORS:
                return _written(error, route.errors, new_request_id())
            return _bare(error.status, b"405 method not allowed", "text/plain", error.headers)
        if (target := self._routes.elsewhere(method, path)) is not None:
            query = scope["query_string"].decode("latin-1")
            location = f"{target}?{query}" if query else target
            if method != "GET":
                return _bare(307, b"", None, {"Location": location})
            link = f'<a href="{_attribute(location)}">Moved Permanently</a>.\n\n'.encode()
            return _bare(301, link, "text/html; charset=utf-8", {"Location": location})
        shape = self._routes.errors(path)
        if shape.not_found is not None:
            request_id = new_request_id()
            body = shape.not_found(method, path, request_id)
            return _bare(404, body, BARE_JSON, {shape.id_header: request_id})
        return _bare(404, b"404 page not found", "text/plain")


def new_request_id() -> str:
    """In Anthropic's form, which is as good as any."""
    return f"req_{secrets.token_hex(12)}"


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&#34;").replace("<", "&lt;").replace(">", "&gt;")


async def _body(request: Request, limit_bytes: int) -> bytes:
    """The whole body, or TooLarge before more of it than the limit is held."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise TooLarge(limit_bytes)
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(limit_bytes)
        parts.append(chunk)
    return b"".join(parts)


def _replaces_first_line(error: LlameroError) -> bool:
    """Whether an error came from the answer itself, not from before it (native-api §1.6)."""
    return isinstance(error, EngineError) and not isinstance(error, LoadFailed)


def _error(error: LlameroError, request: Request, *, bare: bool) -> Response:
    return _written(error, request.state.errors, request.state.id, bare=bare)


def _written(error: LlameroError, shape: ErrorShape, request_id: str, *, bare: bool = False) -> Response:
    headers = {**shape.headers(error), **({shape.id_header: request_id} if shape.id_header else {})}
    if isinstance(error, TooLarge):
        headers["Connection"] = "close"  # the rest of the body is not worth reading
    content_type = JSON if shape is NATIVE_ERRORS and not bare else BARE_JSON
    return _bare(shape.status(error), shape.write(error, request_id), content_type, headers)


def _bare(status: int, body: bytes, content_type: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """A reply with exactly this content type: starlette adds a charset to text types."""
    response = Response(body, status, headers)
    if content_type is not None:
        response.headers["content-type"] = content_type
    return response


_CONTROL = {code: f"\\x{code:02x}" for code in [*range(32), 0x7F]}


def _log_access(scope: Scope, path: str, status: int, took_ns: int) -> None:
    """One line in the shape that log scrapers know (cli §11)."""
    if not access.isEnabledFor(logging.INFO):
        return
    if took_ns > MINUTE:
        took_ns -= took_ns % SECOND
    now = time.strftime("%Y/%m/%d - %H:%M:%S")
    client = scope["client"][0] if scope["client"] else "unix"
    shown = path[:512].translate(_CONTROL).replace('"', '\\"')
    access.info(
        '[GIN] %s | %3d | %13s | %15s | %-7s  "%s"',
        now,
        status,
        format_duration(took_ns),
        client,
        scope["method"],
        shown,
    )
