"""The server's process: its signals, its end, its start again, and sockets that somebody else has opened for it."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import model_folders
from tests.conftest import StartServer
from tests.fake_llama_server import install
from tests.running import OLLAMA, Server, clean_environment, free_port, running
from tests.server.puppet import Puppet, delta, piece

PROMPTLY_S = 2.0
ALL_OVER_S = 5.0
UPLOAD = b"x" * 10_000


@contextlib.contextmanager
def half_an_upload(server: Server) -> Iterator[http.client.HTTPConnection]:
    """A request that is being sent: the server has its head and a part of its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest("POST", f"/api/blobs/sha256:{hashlib.sha256(UPLOAD).hexdigest()}")
        connection.putheader("Content-Length", str(len(UPLOAD)))
        connection.endheaders(UPLOAD[:100])
        server.wait_until(lambda: any((server.models / ".llamero" / "tmp").glob("*")))
        yield connection


def is_stopping(server: Server) -> bool:
    return "stopping: running requests have" in server.log.read_text()


def stopped_within(server: Server, limit_s: float) -> int:
    started = time.monotonic()
    status = server.process.wait(30)
    assert time.monotonic() - started < limit_s
    return status


# --- stopping ---


def test_what_is_running_may_end(tmp_path: Path) -> None:
    """New clients are refused meanwhile, and the request gets its whole answer. SIGHUP ends nothing at all."""
    with running(tmp_path, tmp_path / "models") as server, half_an_upload(server) as upload:
        server.process.send_signal(signal.SIGHUP)
        assert server.get("/api/version").status == 200
        server.process.send_signal(signal.SIGINT)
        server.wait_until(lambda: is_stopping(server))
        with pytest.raises(ConnectionError):
            server.get("/api/version")
        upload.send(UPLOAD[100:])
        assert upload.getresponse().status == 201
        assert stopped_within(server, PROMPTLY_S) == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, tmp_path / "models", LLAMERO_STOP_TIMEOUT="60") as server, half_an_upload(server):
        server.process.terminate()
        server.wait_until(lambda: is_stopping(server))
        assert server.process.poll() is None
        server.process.terminate()
        assert stopped_within(server, PROMPTLY_S) == 128 + signal.SIGTERM


@pytest.mark.heavy
def test_a_pull_from_a_registry_that_says_nothing_does_not_hold_it_up(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(tmp_path, tmp_path / "models", LLAMERO_STOP_TIMEOUT="0") as server,
    ):
        name = f"http://127.0.0.1:{silent.getsockname()[1]}/library/m"
        with server.streaming("/api/pull", {"model": name, "insecure": True}) as response:
            assert b"pulling manifest" in response.readline()
            server.process.terminate()
            assert response.read() == b'{"error":"the server is stopping"}\n'
            assert stopped_within(server, PROMPTLY_S) == 0


def test_what_does_not_end_in_time_is_told(start_server: StartServer, tmp_path: Path) -> None:
    """Streams get an error in their own form, and the proper end of the transfer, not a cut; others a status."""
    program = str(install(tmp_path))
    server = start_server(LLAMERO_LLAMA_SERVER=program, LLAMERO_STOP_TIMEOUT="0", OLLAMA_NUM_PARALLEL="3")
    puppet = Puppet(server, tmp_path)
    puppet.plays(delta(content="a"), {"hold": True}, completion=[piece("a"), {"hold": True}])
    body = {"model": "smollm2:135m", "max_tokens": 9, "stream": True}
    chat = body | {"messages": [{"role": "user", "content": "hi"}]}
    asked = {"/api/generate": body | {"prompt": "hi"}, "/v1/chat/completions": chat, "/v1/messages": chat}
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(server.streaming(path, each)) for path, each in asked.items()]
        assert all(stream.readline() for stream in streams)
        upload = stack.enter_context(half_an_upload(server))
        server.process.terminate()
        response = upload.getresponse()
        assert (response.status, response.read()) == (503, b'{"error":"the server is stopping"}')
        for stream in streams:
            assert b"the server is stopping" in stream.read()  # IncompleteRead where it is cut
    assert stopped_within(server, PROMPTLY_S) == 0
    assert "Traceback" not in server.log.read_text()


HANGS = """
import asyncio, sys
from pathlib import Path
from llamero.config import Settings, parse_hosts
from llamero.server.listen import listen
from llamero.server.process import Process
from llamero.server.signals import Signals

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        print("started", flush=True)
        await receive()
        await asyncio.sleep(3600)

settings = Settings(home=Path("/h"), models=Path("/m"), listen=parse_hosts("127.0.0.1:0")[0], stop_timeout_s=0)
Process(settings, app, listen(settings), None, lambda: None, Signals()).run()
"""


@pytest.mark.heavy
def test_whatever_hangs_is_left_behind(tmp_path: Path) -> None:
    """Two seconds after the time of the requests."""
    with subprocess.Popen([sys.executable, "-c", HANGS], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "started\n"
        started = time.monotonic()
        process.terminate()
        assert process.wait(ALL_OVER_S) == 0
        assert 1.5 < time.monotonic() - started < ALL_OVER_S
        assert "something did not end in time and is left behind" in process.stderr.read()


# --- before it listens ---


@contextlib.contextmanager
def starting(folder: Path, **env: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """A new server that has just made its key pair, and what it says from then on."""
    environment = clean_environment(folder, OLLAMA_HOST=f"127.0.0.1:{free_port()}", **env)
    with subprocess.Popen(
        [OLLAMA, "serve"], env=environment, stdin=-3, stdout=-1, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("Couldn't find")
            yield process, process.stdout
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.heavy)])
def test_who_stops_it_before_it_listens_has_it_stop(tmp_path: Path, number: int) -> None:
    with starting(tmp_path) as (process, said):
        process.send_signal(number)
        assert "Traceback" not in "".join(said)
        assert process.wait(PROMPTLY_S) == 0


def test_a_hang_up_before_it_listens_is_heard_when_it_does(tmp_path: Path) -> None:
    with starting(tmp_path) as (process, said):
        process.send_signal(signal.SIGHUP)
        assert any("API keys read again" in line for line in said), "it has ended"
        process.terminate()
        assert "Traceback" not in "".join(said)
        assert process.wait(PROMPTLY_S) == 0


# --- SIGHUP ---


@pytest.mark.heavy
def test_a_terminal_that_goes_takes_its_server_along(tmp_path: Path) -> None:
    """Somebody typed `ollama serve` and closed the window: nothing may keep the port."""
    env = clean_environment(tmp_path) | {"OLLAMA_HOST": f"127.0.0.1:{(port := free_port())}"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(OLLAMA, [str(OLLAMA), "serve"], env)
    said = b""
    while b"Listening on" not in said:
        said += os.read(terminal, 4096)
    assert version_over(socket.AF_INET, ("127.0.0.1", port)).startswith(b"HTTP/1.1 200 ")
    os.kill(pid, signal.SIGHUP)  # with the terminal still there: it goes on
    assert version_over(socket.AF_INET, ("127.0.0.1", port)).startswith(b"HTTP/1.1 200 ")
    os.close(terminal)
    deadline = time.monotonic() + ALL_OVER_S
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ended == (pid, 0)


# --- starting again ---


@pytest.mark.heavy
def test_a_restart_under_load_loses_nothing_but_what_was_in_flight(tmp_path: Path) -> None:
    port, outcomes, stop = free_port(), Counter[str](), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", "/api/tags")
                response = connection.getresponse()
                outcomes[f"{response.status} {response.read().decode()}"] += 1
            except (ConnectionError, http.client.RemoteDisconnected) as error:
                outcomes[type(error).__name__] += 1
                time.sleep(0.01)
            finally:
                connection.close()

    clients = [threading.Thread(target=ask) for _ in range(8)]
    good = '200 {"models":[]}'
    try:
        with running(tmp_path, tmp_path / "models", port=port) as first:
            for client in clients:
                client.start()
            first.wait_until(lambda: outcomes[good] > 50)
            assert first.stop() == 0
        before = outcomes[good]
        with running(tmp_path, tmp_path / "models", port=port) as second:
            second.wait_until(lambda: outcomes[good] > before + 50)
            stop.set()
            for client in clients:
                client.join()
            assert "Traceback" not in second.log.read_text()
    finally:
        stop.set()
    refused = {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "BrokenPipeError"}
    stopping = '503 {"error":"the server is stopping"}'
    assert set(outcomes) <= {good, stopping, *refused}
    in_flight = sum(outcomes[each] for each in outcomes if each not in (good, "ConnectionRefusedError"))
    assert in_flight <= 2 * len(clients)


# --- sockets of a service manager ---

AS_SYSTEMD = """
import os, sys
for number, descriptor in enumerate(sys.argv[2].split(",")):
    os.dup2(int(descriptor), 100 + number)
for number in range(len(sys.argv[2].split(","))):
    os.dup2(100 + number, 3 + number)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sys.argv[2].split(",")))}
os.execv(sys.argv[1], [sys.argv[1], "serve"])
"""


@contextlib.contextmanager
def activated(tmp_path: Path, *sockets: socket.socket, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server that gets its sockets as systemd hands them over, and its log."""
    (tmp_path / "home").mkdir(exist_ok=True)
    numbers = [each.fileno() for each in sockets]
    log = tmp_path / "activated.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(OLLAMA), ",".join(map(str, numbers))],
            env=clean_environment(tmp_path / "home") | env,
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process, log
    finally:
        process.terminate()
        process.wait(10)


def version_over(family: int, address: object) -> bytes:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect(address)  # type: ignore[arg-type]
        client.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(4096), b""))


@pytest.mark.parametrize("starts", [1, pytest.param(2, marks=pytest.mark.heavy)])
def test_a_start_with_activation_refuses_nobody(tmp_path: Path, starts: int) -> None:
    """Who connects while no server runs gets an answer from the next one; the socket file stays where it is, and its
    mode, which is for everybody unless systemd is told, is said."""
    path = tmp_path / "s"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        path.chmod(0o666)
        unix.listen()
        for _ in range(starts):
            with activated(tmp_path, tcp, unix, OLLAMA_HOST="127.0.0.1:1") as (process, log):
                assert version_over(socket.AF_INET, tcp.getsockname()).startswith(b"HTTP/1.1 200 ")
                assert version_over(socket.AF_UNIX, str(path)).startswith(b"HTTP/1.1 200 ")
                assert process.poll() is None
        assert path.is_socket()
        port = tcp.getsockname()[1]
    shown = re.findall(r"Listening on (\S+) \(via ([^)]+)\)", log.read_text())
    assert shown == [(f"127.0.0.1:{port}", "socket activation"), (f"unix:{path}", "socket activation")]
    assert f"every account of this machine may use unix:{path}: set SocketMode=0660" in log.read_text()


@pytest.mark.heavy
def test_a_socket_that_does_not_listen_is_refused(tmp_path: Path) -> None:
    with socket.socket() as idle, activated(tmp_path, idle) as (process, log):
        assert process.wait(20) == 1
        assert "Error: socket activation: a socket does not listen; use ListenStream= and Accept=no" in log.read_text()


# --- two servers on one store ---


def test_x59_a_second_server_on_one_store(tmp_path: Path) -> None:
    """X-59: it runs, says so in its log, and prunes nothing."""
    models = tmp_path / "models"
    with running(tmp_path / "one", models) as first:
        unused = model_folders.blob(models, b"unused", age_s=10 * 24 * 3600).replace(":", "-")
        with running(tmp_path / "two", models) as second:
            assert second.get("/api/tags").json() == {"models": []}
            assert "another server uses this models folder: nothing is pruned here" in second.log.read_text()
            assert model_folders.blobs(models) == {unused}
            data = b"it may write"
            assert second.post(f"/api/blobs/sha256:{hashlib.sha256(data).hexdigest()}", data).status == 201
        assert first.get("/api/version").status == 200
