"""A real HTTP server that answers from a table and remembers what it was asked: the other side of client and CLI tests.

Not a mock: it speaks HTTP/1.1 over a socket, chunked where the API streams, so that the bytes on both sides are real.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One answer. `lines` are streamed as NDJSON; an Event among them is waited for before the next line is sent."""

    status: int = 200
    json: Any = None
    text: str | None = None
    lines: Iterable[Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: threading.Event | None = None
    """Waited for before anything is sent."""


@dataclass
class Request:
    method: str
    path: str
    body: Any
    headers: Mapping[str, str]

    @property
    def route(self) -> str:
        return f"{self.method} {self.path}"


WAIT_LIMIT_S = 10


class ScriptedServer:
    """Answers `replies["POST /api/show"]`: one Reply for every such request, or a list of them used up in turn."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply | list[Reply]] = {"HEAD /": Reply()}
        self.requests: list[Request] = []
        self._arrival = threading.Condition()
        self.disconnected = threading.Event()
        """A client went away in the middle of a stream."""
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                script._answer(self)

            do_HEAD = do_GET = do_POST = do_DELETE = _answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def routes(self) -> list[str]:
        """What was asked, heartbeats left out."""
        return [request.route for request in self.requests if request.route != "HEAD /"]

    def asked(self, count: int) -> bool:
        """Wait until that many requests have come; false if they do not."""
        with self._arrival:
            return self._arrival.wait_for(lambda: len(self.requests) >= count, WAIT_LIMIT_S)

    def bodies(self, route: str) -> list[Any]:
        return [request.body for request in self.requests if request.route == route]

    def body(self, route: str) -> Any:
        """The body of the only such request."""
        (body,) = self.bodies(route)
        return body

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        try:
            body = json.loads(data) if data else None
        except ValueError:
            body = data
        request = Request(handler.command, handler.path, body, dict(handler.headers))
        with self._arrival:
            self.requests.append(request)
            self._arrival.notify_all()
        reply = self.replies.get(request.route, Reply(404, text="404 page not found"))
        if isinstance(reply, list):
            reply = reply.pop(0)
        try:
            if reply.after:
                self._wait(handler, reply.after)
            self._send(handler, reply)
        except (BrokenPipeError, ConnectionResetError):
            self.disconnected.set()

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        handler.close_connection = True
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        if reply.lines is not None:
            handler.send_header("Content-Type", "application/x-ndjson")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            self._stream(handler, reply.lines)
            return
        content = reply.text if reply.text is not None else "" if reply.json is None else json.dumps(reply.json)
        data = content.encode()
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)

    def _stream(self, handler: BaseHTTPRequestHandler, lines: Iterable[Any]) -> None:
        for line in lines:
            if isinstance(line, threading.Event):
                self._wait(handler, line)
                continue
            data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    def _wait(self, handler: BaseHTTPRequestHandler, event: threading.Event) -> None:
        """Until the test goes on, or the client hangs up: then its socket reads as ended."""
        handler.connection.settimeout(0.01)
        for _ in range(WAIT_LIMIT_S * 100):
            if event.is_set():
                break
            try:
                if not handler.connection.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                pass
        handler.connection.settimeout(None)


def shown(**fields: Any) -> Reply:
    """A plausible `/api/show` for a plain completion model, with `fields` changed."""
    body = {
        "modelfile": "FROM m",
        "details": {"family": "llama", "parameter_size": "7B", "quantization_level": "FP16"},
        "model_info": {"general.architecture": "llama"},
        "capabilities": ["completion"],
        "modified_at": "2026-08-21T10:00:00Z",
    }
    return Reply(json=body | fields)


def generated(*texts: str, **last: Any) -> Reply:
    """The stream of `/api/generate`."""
    lines: list[Any] = [{"model": "m", "response": text, "done": False} for text in texts]
    return Reply(lines=[*lines, {"model": "m", "response": "", "done": True, "done_reason": "stop"} | last])


def chatted(*texts: str, **last: Any) -> Reply:
    """The stream of `/api/chat`."""
    lines = [{"model": "m", "message": {"role": "assistant", "content": text}, "done": False} for text in texts]
    end = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return Reply(lines=[*lines, end | last])
