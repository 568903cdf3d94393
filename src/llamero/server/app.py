"""The ASGI application: guard, dispatch, body limits, errors and the access log around every handler.

What a route does is in `native.py`, `library.py`; sockets and the process are `process.py`'s. Source: native-api §1.3,
§1.5 to §1.7; security §5, §9.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..errors import (
    Cancelled,
    ContextTooLong,
    EngineError,
    LlameroError,
    LoadFailed,
    MethodNotAllowed,
    RateLimited,
    TooLarge,
)
from . import access, account, addresses
from .account import Exchange
from .admission import Admission
from .answers import BARE_JSON, JSON, warning_headers, with_headers
from .audit import Audit, Entry, Notes
from .caller import PRIORITY_HEADER, Caller, caller
from .disclosure import discreet
from .framing import CONNECTION
from .guard import Guard, Role, Verdict
from .inflate import inflated, insist_plain
from .keys import Key
from .request_log import RequestLog
from .routes import NATIVE_ERRORS, ErrorShape, Match, Route, Routes, allow
from .streams import STOPPING
from .watch import Watch

log = logging.getLogger(__name__)

Startup = Callable[[], Awaitable[None]]

REFUSALS = (401, 403, 429)
"""Statuses of replies that stand in the audit log, whoever gave them."""
NO_STORE = (b"cache-control", b"no-store")
"""On every reply that says nothing else of it; streams do."""
CLOSE = (b"connection", b"close")


class App:
    def __init__(
        self,
        routes: Routes,
        guard: Guard,
        audit: Audit,
        watch: Watch,
        requests: RequestLog,
        *,
        admission: Admission | None = None,
        startup: Startup,
        shutdown: Startup,
    ) -> None:
        self._routes = routes
        self._guard = guard
        self._audit = audit
        self._watch = watch
        self._requests = requests
        self._admission = admission or Admission()
        self._startup = startup
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            with self._watch.in_flight(), contextlib.ExitStack() as stay:
                await self._http(scope, receive, send, stay)

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

    async def _http(self, scope: Scope, receive: Receive, send: Send, stay: contextlib.ExitStack) -> None:
        started_ns = time.monotonic_ns()
        accounts = account.begin()
        status = 0
        extra: Sequence[tuple[str, str]] = ()
        keeps_open = scope.get("extensions", {}).get(CONNECTION, {}).get("keeps_open", lambda: True)

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], *((k.lower().encode(), v.encode()) for k, v in extra)]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(NO_STORE)
                if not keeps_open():
                    headers.append(CLOSE)
                message = {**message, "headers": headers}
            elif not message.get("more_body"):
                stay.close()  # before its client can ask for the next thing
            await send(message)

        path = scope["raw_path"].decode("latin-1")
        methods = self._routes.methods(path)
        match = methods.get(scope["method"])
        peer = scope["client"][0] if scope["client"] else None
        verdict = self._guard.check(
            method=scope["method"],
            headers=scope["headers"],
            peer=peer,
            role=self._role(scope["method"], path, methods),
            http_version=scope["http_version"],
        )
        extra = verdict.headers
        address = self._guard.client(peer, scope["headers"])
        notes = Notes()
        shape = self._shape(scope, path, methods, match)
        if not verdict.allowed:
            response = self._refusal(scope, shape, verdict)
        elif match is None:
            response = self._no_route(scope, shape, path, methods)
        else:
            request = Request(scope, receive)
            request.state.rights = verdict.rights
            request.state.key = verdict.key
            request.state.is_local = self._guard.is_local(peer, scope["headers"])
            request.state.notes = notes
            request.state.errors = shape
            caller.set(_caller(verdict, address, request))
            response = await self._admitted(request, match, stay)
        try:
            await response(scope, receive, sending)
        finally:
            exchange = Exchange(
                method=scope["method"],
                route=match.route.path if match else "",
                status=status,
                key=verdict.key.name if verdict.key else "",
                began_ns=started_ns,
                ended_ns=time.monotonic_ns(),
                trace_parent=_header(scope, b"traceparent"),
                accounts=accounts,
            )
            access.write(exchange, path, address)
            self._watch.leaves(exchange)
            self._write_audit(exchange, match, path, address, notes)

    async def _admitted(self, request: Request, match: Match, stay: contextlib.ExitStack) -> Response:
        """The reply of a route, unless its caller makes too many requests; this one lasts as long as its `stay`.

        What is open to everybody is not counted: it costs nothing, and probes ask for it.
        """
        if match.route.role != "none":
            key: Key | None = request.state.key
            try:
                stay.enter_context(self._admission.of(caller.get().party, key.rate if key else None))
            except RateLimited as error:
                return _refused(error, request.state.errors)
        return await self._answer(request, match)

    def _write_audit(self, told: Exchange, match: Match | None, path: str, address: str, notes: Notes) -> None:
        entry = Entry(address, told.key, told.method, told.route or path, told.status, notes)
        if told.status in REFUSALS:
            self._audit.refused(entry)
        elif match is not None and match.route.is_audited:
            self._audit.done(entry)

    def _role(self, method: str, path: str, methods: Mapping[str, Match]) -> Role | None:
        """What is asked of the caller; where there is no such route, by what else there is at that path.

        An `infer` key is led to the tidy path of a route that it may use, as everybody is while there are no keys.
        """
        if match := methods.get(method) or next(iter(methods.values()), None):
            return match.route.role
        meant = self._routes.elsewhere(method, path)
        is_for_users = meant is not None and self._routes.methods(meant)[method].route.role == "infer"
        return "infer" if is_for_users else None

    def _shape(self, scope: Scope, path: str, methods: Mapping[str, Match], match: Match | None) -> ErrorShape:
        """How its client is told what goes wrong: as the path asked for does it, whose dialect may be the client's."""
        asked = match or next(iter(methods.values()), None)
        return (asked.route.errors if asked else self._routes.errors(path)).towards(scope["headers"])

    def _refusal(self, scope: Scope, shape: ErrorShape, verdict: Verdict) -> Response:
        """What the guard says instead of a handler."""
        return _bare(verdict.status, b"", None) if verdict.error is None else _refused(verdict.error, shape)

    async def _answer(self, request: Request, match: Match) -> Response:
        """The reply of a route, with what `bodies.read` found to warn of: on errors too, which it may explain."""
        request.scope["path_params"] = match.parameters
        request.state.warnings = list[str]()
        request.state.id = new_request_id()
        request.state.streams = False
        response = await self._handle(request, match.route)
        if id_header := request.state.errors.id_header:
            response.headers[id_header] = request.state.id
        return with_headers(response, warning_headers(request.state.warnings))

    async def _handle(self, request: Request, route: Route) -> Response:
        """Run a handler; every error becomes a reply here and nowhere else."""
        coding = request.headers.get("content-encoding", "")
        try:
            if not route.inflates:
                insist_plain(coding)
            if route.upload is not None:
                return await route.upload(request)
            assert route.handler is not None
            body = await inflated(await _body(request, route.body_limit_bytes), coding, route.body_limit_bytes)
            await self._requests.keep(route, body, request.headers.get("content-type", ""))
            return await route.handler(request, body)
        except LlameroError as error:
            return _error(error, request, bare=route.bare_json_errors or _replaces_first_line(error, request))
        except ClientDisconnect:
            return _error(Cancelled(), request, bare=route.bare_json_errors)
        except asyncio.CancelledError:
            return _error(STOPPING, request, bare=route.bare_json_errors)  # uvicorn ends what outlives its time to stop
        except Exception:
            log.exception("a request failed unexpectedly: %s %s", route.method, route.path)
            return _error(LlameroError("internal server error"), request, bare=route.bare_json_errors)

    def _no_route(self, scope: Scope, shape: ErrorShape, path: str, methods: Mapping[str, Match]) -> Response:
        method = scope["method"]
        if methods:
            error = MethodNotAllowed(allow(methods))
            if shape is not NATIVE_ERRORS:
                return _written(error, shape, new_request_id())
            return _bare(error.status, b"405 method not allowed", "text/plain", error.headers)
        if (target := self._routes.elsewhere(method, path)) is not None:
            query = scope["query_string"].decode("latin-1")
            location = f"{target}?{query}" if query else target
            if method != "GET":
                return _bare(307, b"", None, {"Location": location})
            link = f'<a href="{_attribute(location)}">Moved Permanently</a>.\n\n'.encode()
            return _bare(301, link, "text/html; charset=utf-8", {"Location": location})
        if shape.not_found is not None:
            request_id = new_request_id()
            body = shape.not_found(method, path, request_id)
            return _bare(404, body, BARE_JSON, {shape.id_header: request_id})
        return _bare(404, b"404 page not found", "text/plain")


def _caller(verdict: Verdict, address: str, request: Request) -> Caller:
    key = verdict.key
    name = key.name if key else ""
    return Caller(
        party=name or addresses.party(address),
        owner=name,
        is_batch=request.headers.get(PRIORITY_HEADER, "").strip() == "batch",
        key=name,
        rights=verdict.rights,
        models=key.models if key and verdict.rights == "infer" else (),
        address=address,
    )


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _refused(error: LlameroError, shape: ErrorShape) -> Response:
    """An error before the body of its request was read."""
    return _written(error, shape, new_request_id())


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


def _replaces_first_line(error: LlameroError, request: Request) -> bool:
    """Whether an error came from a streamed answer itself, not from before it (native-api §1.6)."""
    if not request.state.streams:
        return False
    return isinstance(error, EngineError | ContextTooLong) and not isinstance(error, LoadFailed)


def _error(error: LlameroError, request: Request, *, bare: bool) -> Response:
    return _written(error, request.state.errors, request.state.id, bare=bare)


def _written(error: LlameroError, shape: ErrorShape, request_id: str, *, bare: bool = False) -> Response:
    headers = {**shape.headers(error), **({shape.id_header: request_id} if shape.id_header else {})}
    content_type = JSON if shape is NATIVE_ERRORS and not bare else BARE_JSON
    return _bare(shape.status(error), shape.write(discreet(error), request_id), content_type, headers)


def _bare(status: int, body: bytes, content_type: str | None, headers: Mapping[str, str] | None = None) -> Response:
    """A reply with exactly this content type: starlette adds a charset to text types."""
    response = Response(body, status, headers)
    if content_type is not None:
        response.headers["content-type"] = content_type
    return response
