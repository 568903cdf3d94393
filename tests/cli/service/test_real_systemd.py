"""The service under a real systemd, which runs in namespaces of its own beside whatever runs this machine.

`ollama service install` is said inside, as root would; the unit is the shipped one, with everything that it forbids.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running import children, free_port

PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
"""One that a service sees; ours may lie in somebody's home. Its version must be ours, for the compiled packages."""
OLLAMA = ("/opt/llamero/bin/python3", "-m", "llamero.cli.main")
START_LIMIT_S = 30.0

BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /opt
mkdir -p /run/lock /opt/src /opt/site /opt/etc /opt/work /opt/llamero/bin /opt/llamero/lib/$NAME/site-packages
mount --bind "$SRC" /opt/src
mount --bind "$SITE" /opt/site
printf '/opt/src\\n/opt/site\\n' > /opt/llamero/lib/$NAME/site-packages/llamero.pth
printf 'home = /usr/bin\\ninclude-system-site-packages = false\\n' > /opt/llamero/pyvenv.cfg
ln -s "$PYTHON" /opt/llamero/bin/python3
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/llamero/.ollama
cp -r "$MODELS" /var/lib/llamero/.ollama/models
mount -t overlay overlay -o lowerdir=/etc,upperdir=/opt/etc,workdir=/opt/work /etc
for folder in /etc/systemd/system /usr/lib/systemd/system /usr/lib/systemd/system-generators; do
    mkdir -p $folder && mount -t tmpfs tmpfs $folder
done
for target in sysinit basic network-online multi-user shutdown idle; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > /etc/systemd/system/$target.target
done
mkdir -p /etc/llamero /etc/systemd/system/llamero.service.d
printf 'OLLAMA_HOST=127.0.0.1:%s\\n' "$PORT" > /etc/llamero/environment
printf '[Service]\\nStandardOutput=file:/opt/log\\nStandardError=file:/opt/log\\n' \\
    > /etc/systemd/system/llamero.service.d/log.conf
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=idle.target \\
    --log-target=console --show-status=no
"""
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--mount-proc", "--kill-child")


def may_unshare() -> bool:
    tools = ("unshare", "nsenter", "/lib/systemd/systemd", PYTHON)
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not may_unshare(), reason=f"needs root, namespaces, systemd and {PYTHON}"),
]

Inside = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def inside(starter_models: Path, tmp_path: Path, port: int) -> Iterator[Inside]:
    """Runs a command under a systemd that has just started."""
    env = {
        "PATH": os.environ["PATH"],
        "SRC": str(Path(__file__).parents[3] / "src"),
        "SITE": site.getsitepackages()[0],
        "NAME": f"python3.{sys.version_info.minor}",
        "PYTHON": PYTHON,
        "MODELS": str(starter_models),
        "PORT": str(port),
    }
    groups_before = control_groups()
    with (tmp_path / "systemd.log").open("wb") as log:
        outer = subprocess.Popen([*UNSHARE, "bash", "-c", BOOT], env=env, stdout=log, stderr=log)

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        (init,) = children(outer.pid)
        enter = ("nsenter", f"--target={init}", "--mount", "--pid", "--cgroup", "--uts", "--ipc")
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        return subprocess.run([*enter, *argv], env=clean, capture_output=True, text=True, check=False, timeout=60)

    try:
        until(lambda: bool(children(outer.pid)) and run("systemctl", "is-active", "idle.target").returncode == 0)
        yield run
    finally:
        for init in children(outer.pid):
            os.kill(init, signal.SIGKILL)  # and with it everything inside
        outer.wait(START_LIMIT_S)
        for group in control_groups() - groups_before:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


def control_groups() -> set[Path]:
    """Those that a systemd makes for itself, and does not take away when it is killed."""
    return {found for name in ("init.scope", "system.slice") for found in Path("/sys/fs/cgroup").glob(f"*/{name}")}


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.1)


def ollama(inside: Inside, *words: str) -> subprocess.CompletedProcess[str]:
    return inside(*OLLAMA, *words)


def ask(port: int, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST" if body else "GET", path, json.dumps(body) if body else None)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except OSError:
        return 0, {}
    finally:
        connection.close()


def test_the_hardened_service_installs_answers_and_goes(inside: Inside, port: int) -> None:
    installed = ollama(inside, "service", "install", "--gpu", "no")
    assert (installed.returncode, installed.stderr) == (0, "")
    assert installed.stdout.startswith("/etc/systemd/system/llamero.service is installed, and the server is started\n")

    until(lambda: ask(port, "/api/version")[0] == 200)
    prompt = {"model": "smollm2:135m", "prompt": "Hello", "stream": False, "options": {"num_predict": 4}}
    status, answer = ask(port, "/api/generate", prompt)
    assert (status, answer.get("done")) == (200, True), inside("cat", "/opt/log").stdout

    pids = inside("systemd-cgls", "--no-pager", "--full", "--unit", "llamero.service").stdout
    assert pids.count("python3 ") == 2, "the server and its engine"
    for pid in [line.split("─")[1].split()[0] for line in pids.splitlines() if "python3 " in line]:
        state = dict(
            line.split(":", 1) for line in inside("cat", f"/proc/{pid}/status").stdout.splitlines() if ":" in line
        )
        assert {name: state[name].strip() for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapBnd")} == {
            "NoNewPrivs": "1",
            "Seccomp": "2",
            "CapEff": "0" * 16,
            "CapBnd": "0" * 16,
        }
    assert inside("stat", "--format=%U %a", "/var/lib/llamero").stdout == "llamero 750\n"
    assert inside("stat", "--format=%U %a", "/var/lib/llamero/.ollama/id_ed25519").stdout == "llamero 600\n"

    found = inside("env", f"OLLAMA_HOST=127.0.0.1:{port}", *OLLAMA, "service", "status")
    assert found.returncode == 0
    assert "Active: active (running)" in found.stdout

    assert ollama(inside, "service", "restart").returncode == 0
    until(lambda: ask(port, "/api/version")[0] == 200)
    began = time.monotonic()
    assert ollama(inside, "service", "stop").returncode == 0
    assert time.monotonic() - began < 10
    assert inside("systemctl", "is-active", "llamero.service").stdout == "inactive\n"
    assert inside("systemctl", "show", "--property=Result", "llamero.service").stdout == "Result=success\n"

    gone = ollama(inside, "service", "uninstall")
    assert gone.stdout == "/etc/systemd/system/llamero.service is gone; models and settings stay\n"
    assert inside("test", "-e", "/etc/systemd/system/llamero.service").returncode == 1
    assert inside("test", "-e", "/var/lib/llamero/.ollama/models/blobs").returncode == 0
