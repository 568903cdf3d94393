"""Where a server listens (cli §9.1, security §9.1): real sockets, without a server behind them."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamero.cli.serve import server_settings
from llamero.config import HostUrl, Settings
from llamero.server.listen import CannotListen, Listener, exposure, listen
from tests.running import OLLAMA, clean_environment, free_port

Listen = Callable[..., list[Listener]]


@pytest.fixture
def listening() -> Iterator[Listen]:
    """Listen on what `--listen`, or OLLAMA_HOST by `host=`, says; all is closed after the test."""
    opened: list[Listener] = []

    def start(*flags: str, host: str = "", **env: str) -> list[Listener]:
        listeners = list(listen(server_settings({"HOME": "/h", "OLLAMA_HOST": host} | env, flags)))
        opened.extend(listeners)
        return listeners

    yield start
    for each in opened:
        each.close()


def accepts(family: int, address: object) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        return client.connect_ex(address) == 0  # type: ignore[arg-type]


FORMS = [
    # written, the address we are bound to, one that reaches us
    ("127.0.0.1:{}", "127.0.0.1", "127.0.0.1"),
    ("127.0.0.2:{}", "127.0.0.2", "127.0.0.2"),
    ("http://127.0.0.1:{}", "127.0.0.1", "127.0.0.1"),
    ("HTTP://127.0.0.1:{}/path/", "127.0.0.1", "127.0.0.1"),
    ("localhost:{}", "127.0.0.1", "127.0.0.1"),
    ("[::1]:{}", "::1", "::1"),
    ("0.0.0.0:{}", "0.0.0.0", "127.0.0.1"),
    ("[::]:{}", "::", "127.0.0.1"),
    (":{}", "::", "127.0.0.1"),
    (":{}", "::", "::1"),
]


@pytest.mark.parametrize("how", ["--listen", "OLLAMA_HOST"])
@pytest.mark.parametrize(("written", "bound", "reached"), FORMS)
def test_every_form_of_an_address(listening: Listen, how: str, written: str, bound: str, reached: str) -> None:
    """Partly X-57: the parsing table."""
    text = written.format(port := free_port())
    (listener,) = listening(text) if how == "--listen" else listening(host=text)
    assert (listener.host.host, listener.host.port, listener.via) == (bound, port, how)
    assert listener.shown == (f"[{bound}]:{port}" if ":" in bound else f"{bound}:{port}")
    for each in (reached, str(listener.own_address)):
        assert accepts(socket.AF_INET6 if ":" in each else socket.AF_INET, (each, port))


def test_ipv6_alone_is_not_ipv4(listening: Listen) -> None:
    (listener,) = listening(f"[::1]:{free_port()}")
    assert not accepts(socket.AF_INET, ("127.0.0.1", listener.host.port))


@pytest.fixture
def no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel started with ipv6.disable=1, which no test can have here."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, *more: int, **named: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, *more, **named)

    monkeypatch.setattr(socket, "socket", Socket)


def test_every_address_of_a_machine_without_ipv6(listening: Listen, no_ipv6: None) -> None:
    (listener,) = listening(f":{free_port()}")
    assert listener.host.host == "0.0.0.0"
    assert accepts(socket.AF_INET, ("127.0.0.1", listener.host.port))
    with pytest.raises(CannotListen, match=r"listen tcp \[::1\]:11434: bind: address family not supported"):
        listening("[::1]:11434")


def test_any_port_is_told(listening: Listen) -> None:
    """Port 0 stands for one that is free; what we are bound to is known by its number."""
    (listener,) = listening("127.0.0.1:0")
    assert listener.host.port > 0
    assert listener.shown == f"127.0.0.1:{listener.host.port}"


def test_several_addresses(listening: Listen, tmp_path: Path) -> None:
    one, two = free_port(), free_port()
    assert [each.shown for each in listening(host=f"127.0.0.1:{one}, 127.0.0.1:{two},")] == [
        f"127.0.0.1:{one}",
        f"127.0.0.1:{two}",
    ]
    three, four = free_port(), free_port()
    flags = (f"127.0.0.1:{three}", f"127.0.0.1:{four},unix:{tmp_path / 's'}")
    assert [each.shown for each in listening(*flags, host="127.0.0.1:1")] == [
        f"127.0.0.1:{three}",
        f"127.0.0.1:{four}",
        f"unix:{tmp_path / 's'}",
    ]


def test_one_address_named_twice_is_one_listener(listening: Listen) -> None:
    assert len(listening(*[f"127.0.0.1:{free_port()}"] * 2)) == 1


def test_an_address_that_another_one_covers(listening: Listen) -> None:
    port = free_port()
    with pytest.raises(CannotListen, match="another address in the list covers it; leave one of them out"):
        listening(f"0.0.0.0:{port}", f"127.0.0.1:{port}")


def test_all_addresses_or_none(listening: Listen, tmp_path: Path) -> None:
    """What was bound before the one that failed is let go again, and its socket file removed."""
    path, port = tmp_path / "s", free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotListen):
        listening(f"unix:{path},127.0.0.1:{port},127.0.0.1:{taken.getsockname()[1]}")
    assert not path.exists()
    assert listening(f"127.0.0.1:{port}")


REFUSED = [
    ("ftp://127.0.0.1", "cannot listen on ftp://127.0.0.1:11434: write an address and a port, http://, https:// or"),
    ("foo:bar:baz", r"listen tcp: lookup foo:bar:baz: .*; write an address of this machine"),
    ("a..b", r"listen tcp: lookup a..b: .*; write an address of this machine"),
    ("192.0.2.1:80", "listen tcp 192.0.2.1:80: bind: cannot assign requested address: no network of this machine"),
    ("https://127.0.0.1", "asks for TLS, which needs a certificate: set LLAMERO_TLS_CERT and LLAMERO_TLS_KEY"),
    ("unix:relative", "cannot listen on unix:relative: write the whole path, such as unix:/run/llamero.sock"),
    ("unix:/none/such/s", "listen unix:/none/such/s: bind: no such file or directory"),
    ("unix:/tmp/" + "x" * 200, "listen unix:/tmp/x+: bind: af_unix path too long"),
]


@pytest.mark.parametrize(("written", "error"), REFUSED)
def test_what_cannot_be_listened_on(listening: Listen, written: str, error: str) -> None:
    """Partly X-56: `https://` without a certificate, where the reference speaks plain HTTP."""
    with pytest.raises(CannotListen, match=error):
        listening(written)


def test_a_bad_port_is_the_default_one_with_a_warning() -> None:
    """Partly X-57."""
    settings = server_settings({"HOME": "/h"}, ["127.0.0.1:x"])
    assert [host.netloc for host in settings.listen] == ["127.0.0.1:11434"]
    assert settings.warnings == ("invalid port, using default port=x default=11434",)


# --- unix sockets ---


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_x57_the_mode_of_a_unix_socket(listening: Listen, tmp_path: Path, umask: int) -> None:
    """X-57, with the parsing table above and the busy port below: 0660, whatever the umask."""
    before = os.umask(umask)
    try:
        (listener,) = listening(f"unix:{tmp_path / 's'}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    assert listener.host.is_loopback
    assert accepts(socket.AF_UNIX, str(tmp_path / "s"))
    listener.close()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("form", ["unix:{}", "unix://{}", "UNIX:{}"])
def test_forms_of_a_unix_socket(listening: Listen, tmp_path: Path, form: str) -> None:
    (listener,) = listening(host=form.format(tmp_path / "s"))
    assert listener.shown == f"unix:{tmp_path / 's'}"


def test_what_a_server_left_behind_is_replaced(listening: Listen, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    assert listening(f"unix:{tmp_path / 's'}")
    assert accepts(socket.AF_UNIX, str(tmp_path / "s"))


def test_a_socket_that_somebody_answers_at_is_left_alone(listening: Listen, tmp_path: Path) -> None:
    listening(f"unix:{tmp_path / 's'}")
    with pytest.raises(CannotListen, match="address already in use: a server listens there; use it, stop it"):
        listening(f"unix:{tmp_path / 's'}")
    assert accepts(socket.AF_UNIX, str(tmp_path / "s"))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_never_removed(listening: Listen, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(CannotListen, match="something else has this name"):
        listening(f"unix:{path}")
    assert path.is_symlink() or path.exists()


def test_another_servers_socket_survives_our_end(listening: Listen, tmp_path: Path) -> None:
    """Somebody removed our file and started a second server there: its file is not ours to remove."""
    (first,) = listening(f"unix:{tmp_path / 's'}")
    (tmp_path / "s").unlink()
    listening(f"unix:{tmp_path / 's'}")
    first.close()
    assert accepts(socket.AF_UNIX, str(tmp_path / "s"))


def test_sockets_that_are_meant_for_another_process_are_not_taken(listening: Listen) -> None:
    """Variables of systemd that a shell inherited and passed on."""
    (listener,) = listening(f"127.0.0.1:{free_port()}", LISTEN_PID="1", LISTEN_FDS="1")
    assert listener.via == "--listen"


def test_a_number_of_sockets_that_is_none(listening: Listen) -> None:
    with pytest.raises(CannotListen, match="LISTEN_FDS='x' is no number of sockets"):
        listening(LISTEN_PID=str(os.getpid()), LISTEN_FDS="x")


# --- what clients make of it ---


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:1,127.0.0.1:2", "http://127.0.0.1:1"),
        ("127.0.0.1:0,127.0.0.1:2", "http://127.0.0.1:2"),
        (" , 0.0.0.0:7", "http://127.0.0.1:7"),
        ("unix:/run/x,127.0.0.1:2", "unix:/run/x"),
        (":0", "http://127.0.0.1:0"),
    ],
)
def test_clients_take_the_first_that_can_be_used(text: str, url: str) -> None:
    assert Settings.from_env({"HOME": "/h", "OLLAMA_HOST": text}).host.url == url


# --- what is said at the start ---


def host(text: str) -> Listener:
    return Listener(socket.socket(), HostUrl("http", text, 11434), "OLLAMA_HOST")


def test_nothing_is_said_of_an_address_that_only_this_machine_reaches() -> None:
    with (one := host("127.0.0.1")).socket, (two := host("::1")).socket:
        assert exposure((one, two), has_tls=False, has_key=False, has_allow_list=False) is None


def test_what_other_machines_reach_is_said_with_its_protection() -> None:
    with (one := host("127.0.0.1")).socket, (two := host("::")).socket:
        said = exposure((one, two), has_tls=True, has_key=False, has_allow_list=True)
    assert said is not None
    assert said.startswith("other machines can reach [::]:11434: TLS on, API key off, address list on; see https://")
    assert said.endswith("/docs/security.md")
    assert "127.0.0.1" not in said


# --- a busy port, as the person in front of it sees it ---


HOLDER = """
import socket
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
while True:
    held.accept()[0].close()
"""


def serve(tmp_path: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    environment = clean_environment(home) | env
    return subprocess.run(
        [OLLAMA, "serve", *words], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_x57_a_busy_port_ends_with_its_holder_and_the_ways_out(tmp_path: Path) -> None:
    """X-57: exit 1, and no other address in its place."""
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        ended = serve(tmp_path, "--listen", f"127.0.0.1:{port}")
        holder.kill()
    assert ended.returncode == 1
    assert "Listening on" not in ended.stderr
    said = ended.stderr.splitlines()[-1]
    assert said.startswith(f"Error: listen tcp 127.0.0.1:{port}: bind: address already in use: python")
    assert f"(pid {holder.pid}) listens there; stop it (kill {holder.pid}), or choose another address" in said
    assert re.search(r"with --listen or OLLAMA_HOST$", said)
