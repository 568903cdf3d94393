"""Servers that answer their heartbeat and then go wrong, each in its own way: what a command line must live through."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

ALIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def _plain(status: str, body: bytes, content_type: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return head.encode() + b"\r\n" + body


_CUT_LINE = b'{"status":"pulling man'
FAULTS: dict[str, bytes] = {
    "500 without a word": _plain("500 Internal Server Error", b""),
    "500 with an error": _plain("500 Internal Server Error", b'{"error":"out of luck"}', "application/json"),
    "garbage": _plain("200 OK", b"\x00\xff<html>hello</html>"),
    "an empty body": _plain("200 OK", b""),
    "JSON that is no object": _plain("200 OK", b"[1, 2]", "application/json"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "a hang-up": b"",
    "a body cut short": b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"models": [',
    "a stream cut short": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n"
    % (len(_CUT_LINE), _CUT_LINE),
    "a moved server": b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
}


@contextmanager
def faulty_server(fault: str) -> Iterator[str]:
    """Answers `HEAD /` and then everything else with that fault; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, lambda: FAULTS[fault]), daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _serve(listener: socket.socket, reply: Callable[[], bytes]) -> None:
    with suppress(OSError):  # the listener is shut down
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.settimeout(5)
                request = _request(connection)
                connection.sendall(ALIVE if request.startswith(b"HEAD / ") else reply())


def _request(connection: socket.socket) -> bytes:
    """All of one request: whoever closes with something unread resets the connection instead of ending it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (block := connection.recv(65536))
        if not block:
            return data
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    left = length - len(body)
    while left > 0 and (block := connection.recv(65536)):
        left -= len(block)
    return data
