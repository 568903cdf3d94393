"""A real server in a process of its own, and a plain way to talk to it: what most tests of the API stand on."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDLESS = 'root ::= "' + " ".join(map(str, range(1000, 4000))) + '"'
"""A grammar for an answer that is sure to be going on for as long as any test looks at it. Three thousand numbers: a
model that may choose repeats itself, and is stopped for it."""

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0

OLLAMA = Path(sys.executable).with_name("ollama")
"""The installed command, as a user has it."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def error(self) -> str:
        return str(self.json()["error"])

    @property
    def content_type(self) -> str | None:
        return self.headers["Content-Type"]


class Server:
    """One started server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, home: Path, models: Path, log: Path) -> None:
        self.process = process
        self.port = port
        self.home = home
        self.models = models
        self.log = log

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> Reply:
        """One request. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return Reply(response.status, response.msg, response.read())
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> Reply:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self.call("POST", path, body, **more)

    @contextmanager
    def streaming(self, path: str, body: Any) -> Iterator[http.client.HTTPResponse]:
        """A reply that is still coming; leaving the block hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body))
            with connection.getresponse() as response:  # it holds the socket as well
                yield response
        finally:
            connection.close()

    @contextmanager
    def streaming_unread(self, path: str, body: Any) -> Iterator[None]:
        """Send a request and hang up a moment later, without waiting for its reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body))
            time.sleep(0.05)  # long enough for the request to arrive, too short for a model to load
            yield
        finally:
            connection.close()

    def loaded(self) -> list[str]:
        return [model["name"] for model in self.get("/api/ps").json()["models"]]

    def wait_until(self, holds: Any, timeout_s: float = 10.0) -> None:
        """Ask until it is so; fail when it does not become so."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, "it did not become so in time"
            time.sleep(0.02)

    def unload_all(self) -> None:
        """Let go of everything. A test that deletes a model unloads it first: nobody can name it afterwards."""
        for name in self.loaded():
            self.post("/api/generate", {"model": name, "keep_alive": 0})
        self.wait_until(lambda: not self.loaded())

    def engines(self) -> list[int]:
        """Process ids of the engines that this server started."""
        return [pid for pid in children(self.process.pid) if command_line(pid).endswith("engines.runner ")]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """One that nobody listens on. Tests run in two processes: each has its own half of them."""
    half = os.environ.get("PYTEST_XDIST_WORKER", "gw0").endswith("1")
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        if port // 2 % 2 == half:  # the kernel gives even numbers to listeners
            return port


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """What a new user has, and nothing that this machine's user has set for these programs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OLLAMA_", "LLAMERO_", "LLAMA_", "HF_"))
    }
    return {**kept, "HOME": str(home), "HF_HUB_OFFLINE": "1", **more}


@contextmanager
def running(folder: Path, models: Path, *, port: int = 0, umask: int = -1, **env: str) -> Iterator[Server]:
    """`ollama serve` on a free port with a new home; ended, with all it started, when the block is left."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    port = port or free_port()
    settings = clean_environment(
        home,
        OLLAMA_HOST=f"127.0.0.1:{port}",
        OLLAMA_MODELS=str(models),
        LLAMERO_NEIGHBOURS="0",  # tests run side by side: engines would be loaded again whenever another one works
    )
    settings |= env
    with log.open("wb") as output:
        process = subprocess.Popen(
            [OLLAMA, "serve"],
            env=settings,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            umask=umask,
        )
    server = Server(process, port, home, models, log)
    try:
        _wait_for(server)
        yield server
    finally:
        if process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.call("HEAD", "/", timeout_s=5)
            return
        except OSError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{server.log.read_text()}") from None
            time.sleep(0.02)


def linked_copy(source: Path, target: Path) -> Path:
    """A models folder of one's own without its bytes: blobs are hard links, manifests are copies."""

    def link_or_copy(from_: str, to: str) -> None:
        if "/blobs/" in from_:
            os.link(from_, to)
        else:
            shutil.copy2(from_, to)

    shutil.copytree(source, target, copy_function=link_or_copy, ignore=shutil.ignore_patterns(".llamero"))
    return target
