"""Who holds a port that we cannot have: real sockets of this process and of children."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from llamero.config import parse_host
from llamero.server import occupant
from llamero.server.occupant import Occupant, explain, find

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who listens")

HOLDER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
held = socket.create_server((sys.argv[1], 0), family=family)
print(held.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(address: str, *words: str) -> Iterator[tuple[int, int]]:
    """Process id and port of a program that listens there."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, address, *words], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        yield child.pid, int(child.stdout.readline())
        child.communicate("")


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "0.0.0.0"),
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("::", "::1"),
    ],
)
def test_the_process_that_is_in_the_way(held: str, wanted: str) -> None:
    with holder(held) as (pid, port):
        found = find(wanted, port)
        assert found is not None
        assert found.pid == pid
        assert found.command.startswith("python")


def test_one_at_another_address_is_not_in_the_way() -> None:
    with holder("127.0.0.2") as (_, port):
        assert find("127.0.0.1", port) is None


def test_a_connection_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port = int(client.getsockname()[1])
        assert find("127.0.0.1", port) is None


def test_a_command_line_cannot_forge_the_message() -> None:
    with holder("127.0.0.1", "\x1b[2J\nError: all is well", "x" * 200) as (_, port):
        found = find("127.0.0.1", port)
    assert found is not None
    assert found.command.isprintable()
    assert len(found.command) == occupant.MAX_COMMAND_CHARS


@pytest.mark.parametrize(
    ("unit", "is_users", "said"),
    [
        ("", False, "kill 7"),
        ("ollama.service", False, "systemctl stop ollama"),
        ("llamero.service", True, "systemctl --user stop llamero"),
    ],
)
def test_how_to_stop_it(unit: str, is_users: bool, said: str) -> None:
    assert Occupant(7, "ollama serve", unit, is_users).how_to_stop == said


def test_our_own_socket_is_known_for_what_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        found = find("127.0.0.1", port)
        assert found is not None
        assert found.pid == os.getpid()
        assert "another address in the list" in explain(parse_host(f"127.0.0.1:{port}")[0])


def test_nobody_is_made_up() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert find("127.0.0.1", port) is None
    said = explain(parse_host(f"127.0.0.1:{port}")[0])
    assert said == ": stop the program that listens there, or choose another address with --listen or OLLAMA_HOST"
