"""The image: what its Dockerfile says, and what becomes of it when the kernel does what a container engine would do."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamero import API_LEVEL
from tests.certificates import Authority
from tests.deploy import dockerfile
from tests.deploy.proxies import DEPLOY
from tests.running import Server, children, clean_environment, free_port, running

PROJECT = DEPLOY.parent
IMAGE = dockerfile.read(DEPLOY / "docker" / "Dockerfile")
BUILD, FINAL = IMAGE.stages
START_LIMIT_S = 20.0


# --- its text ------------------------------------------------------------------------------------------------------


def test_l104_the_text_of_the_dockerfile() -> None:
    """`docker run IMG` serves on 0.0.0.0:11434, and arguments reach the command: what no container engine shows here
    is also shown by `test_l104_the_image_as_a_process`."""
    assert FINAL.last("ENTRYPOINT").words == ["/bin/ollama"]
    assert FINAL.last("CMD").words == ["serve"]
    assert FINAL.environment["OLLAMA_HOST"] == "0.0.0.0:11434"
    assert FINAL.last("EXPOSE").words == ["11434"]
    assert "ln --symbolic /opt/llamero/bin/ollama /bin/ollama" in FINAL.all("RUN")[-1].text


def test_an_ordinary_user_whose_home_is_roots() -> None:
    """cli §12.3"""
    assert FINAL.last("USER").words == ["10001:10001"]
    assert FINAL.environment["HOME"] == "/root"
    assert FINAL.environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert FINAL.environment["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert "nvidia" in FINAL.environment["LD_LIBRARY_PATH"]


def test_nothing_names_a_package_host_or_holds_a_secret() -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    assert not re.search(r"https?://|\bindex-url\s+[^\s\"$]", text)
    assert not [each for stage in IMAGE.stages for each in stage.all("ARG") if re.search("KEY|TOKEN|SECRET", each.text)]
    assert not [name for name in FINAL.environment if re.search("KEY|TOKEN|SECRET", name)]


def test_two_stages_on_one_base_that_can_be_chosen() -> None:
    assert IMAGE.arguments == {"BASE": "ubuntu:24.04"}
    assert (BUILD.base, FINAL.base) == ("${BASE}", "${BASE}")
    assert BUILD.name == "build"
    assert FINAL.all("COPY")[0].words == ["--from=build", "/opt/llamero", "/opt/llamero"]
    assert not [run for run in FINAL.all("RUN") if re.search(r"\bpip\b|python3-venv", run.text)]


def test_layers_keep_no_lists_of_packages() -> None:
    installing = [run for stage in IMAGE.stages for run in stage.all("RUN") if "apt-get install" in run.text]
    assert len(installing) == 2
    for run in installing:
        assert "--no-install-recommends" in run.text
        assert "rm -rf /var/lib/apt/lists/*" in run.text


def test_what_is_copied_exists_and_is_let_through() -> None:
    """The ignore file lets nothing through but what it names."""
    rules = [
        line for line in (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    assert rules[0] == "*"
    let_through = {rule[1:] for rule in rules if rule.startswith("!")}
    own = [each for stage in IMAGE.stages for each in stage.all("COPY") if "--from" not in each.text]
    copied = {source for each in own for source in each.words[:-1]}
    assert copied == let_through
    assert all((PROJECT / source).exists() for source in copied)


# --- as a process --------------------------------------------------------------------------------------------------

TOOLS = "unshare nsenter setpriv prlimit ip chroot useradd"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
APART = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]


def can_unshare() -> bool:
    if os.name == "nt" or os.geteuid() != 0 or not all(shutil.which(tool, path=PATH) for tool in TOOLS.split()):
        return False
    return subprocess.run([*APART, "true"], check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="needs root, and namespaces of its own")


class Container:
    """The image, running: `docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges
    --user 10001:10001 --pids-limit 512 -v VOLUME:/root/.ollama IMG ARGUMENTS`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.volume = folder / "volume"
        self.volume.mkdir(exist_ok=True)
        self._log = folder / "log"
        (folder / "image").mkdir(exist_ok=True)
        healthy = DEPLOY / "docker" / "healthy.py"
        files = [folder / "image", self.volume, sys.prefix, PROJECT / "src", sys.base_prefix, healthy]
        user = FINAL.last("USER").text.partition(":")[0]
        setup = FINAL.all("RUN")[-1].text
        command = [*FINAL.last("ENTRYPOINT").words, *(arguments or FINAL.last("CMD").words)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*APART, Path(__file__).with_name("container.sh"), *files, setup, user, "--", *command],
                env={"PATH": PATH, **FINAL.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def exec(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`docker exec`."""
        (inside,) = children(self.process.pid)
        enter = ["nsenter", "--target", str(inside), "--mount", "--net", "--pid", "--root", "--wd=/"]
        user = FINAL.last("USER").text.partition(":")[0]
        lower = ["/usr/bin/setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"]
        known = {"PATH": PATH, **FINAL.environment, **env}
        return subprocess.run([*enter, *lower, *command], env=known, capture_output=True, text=True, timeout=60)

    def wait_until_healthy(self) -> None:
        """As its HEALTHCHECK has it."""
        check = dockerfile.Instruction("CMD", FINAL.last("HEALTHCHECK").text.partition("CMD ")[2]).words
        deadline = time.monotonic() + START_LIMIT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if children(self.process.pid) and self.exec(*check).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"not healthy:\n{self.log}")

    def stop(self) -> int:
        """`docker stop`: SIGTERM to the first process inside."""
        (inside,) = children(self.process.pid)
        os.kill(inside, signal.SIGTERM)
        return self.process.wait(10)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    started = Container(tmp_path)
    try:
        yield started
    finally:
        started.process.kill()  # all inside dies with it
        started.process.wait()


@needs_namespaces
def test_l104_arguments_reach_the_command(tmp_path: Path) -> None:
    asked = Container(tmp_path, "--version")
    assert asked.process.wait(START_LIMIT_S) == 0, asked.log
    assert f"client version is {API_LEVEL}\n" in asked.log


@needs_namespaces
def test_l104_the_image_as_a_process(container: Container) -> None:
    """L-104: it serves on every address of the container, as nobody in particular, and stops when it is told to."""
    container.wait_until_healthy()
    assert "Listening on 0.0.0.0:11434 " in container.log
    assert container.exec("ollama", "list").stdout.startswith("NAME ")
    assert container.exec("ollama", "list", OLLAMA_HOST="172.17.0.2").returncode == 0  # as from another container
    assert container.exec("id", "-u").stdout == "10001\n"
    assert container.exec("sh", "-c", "touch /root/x").returncode != 0
    assert "the server runs as root" not in container.log
    key = container.volume / "id_ed25519"
    assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (10001, 0o600)
    assert container.stop() == 0


@needs_namespaces
@pytest.mark.heavy
@pytest.mark.engine
def test_a_model_answers_in_the_container(container: Container, smollm2_gguf: Path) -> None:
    container.wait_until_healthy()
    shutil.copyfile(smollm2_gguf, container.volume / "smollm2.gguf")
    (container.volume / "Modelfile").write_text("FROM ./smollm2.gguf\n")
    made = container.exec("ollama", "create", "small", "-f", "/root/.ollama/Modelfile")
    assert made.returncode == 0, made.stderr + container.log
    told = container.exec("ollama", "run", "small", "Say hello.")
    assert told.returncode == 0, told.stderr + container.log
    assert told.stdout.strip()
    assert container.stop() == 0


def health(home: Path, **env: str) -> int:
    command = [sys.executable, DEPLOY / "docker" / "healthy.py"]
    return subprocess.run(command, env=clean_environment(home, **env), check=False).returncode


def test_the_health_check(server: Server, tmp_path: Path) -> None:
    assert health(tmp_path, OLLAMA_HOST=f"0.0.0.0:{server.port}") == 0
    assert health(tmp_path, OLLAMA_HOST=f"0.0.0.0:{free_port()}") == 1


@pytest.mark.heavy
def test_the_health_check_of_a_server_with_tls(tmp_path: Path) -> None:
    """`LLAMERO_TLS_CERT` is enough for TLS, whatever the scheme in OLLAMA_HOST; a socket file stays plain."""
    pair = Authority(tmp_path, "authority").issue("server")
    tls = {"LLAMERO_TLS_CERT": str(pair.certificate), "LLAMERO_TLS_KEY": str(pair.key)}
    port, path = free_port(), tmp_path / "s"
    with running(tmp_path, tmp_path / "models", port=port, OLLAMA_HOST=f"0.0.0.0:{port},unix:{path}", **tls) as server:
        for host in (f"0.0.0.0:{port}", f"https://0.0.0.0:{port}", f"unix:{path}"):
            assert health(server.home, OLLAMA_HOST=host, **tls) == 0
        file = server.home / ".ollama" / "llamero" / "config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'tls_cert = "{pair.certificate}"\n')
        assert health(server.home, OLLAMA_HOST=f"0.0.0.0:{port}") == 0
    assert health(tmp_path, OLLAMA_HOST=f"unix:{path}") == 1
