"""The systemd unit: hardened, accepted by systemd's own checker, and the one that is shipped (security §13)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from llamero.cli.service.plan import Remove, Run, Wanted, Write
from llamero.cli.service.systemd import GPU_DROP_IN, STATE, Systemd, unit

SHIPPED_FOLDER = Path(__file__).parents[3] / "deploy" / "systemd"
PROGRAM = (str(Path(sys.executable).with_name("ollama")), "serve")
SHIPPED = Wanted(("/opt/llamero/bin/ollama", "serve"), "system", "root", Path("/root"), Path("/root/.ollama"))
"""As docs/configuration.md installs it. The unit does not depend on who installs it."""

MOST_EXPOSURE = 3.0
"""`systemd-analyze security` counts from 0, closed, to 10 (security §13)."""

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "XDG_RUNTIME_DIR": "/run"}  # it must be set for the units of users, and is not written to
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, env=env)


def written(folder: Path, wanted: Wanted) -> Path:
    """The unit as a file, with its drop-in where it has one."""
    path = folder / "llamero.service"
    path.write_text(unit(wanted))
    if wanted.uses_gpu:
        (folder / "llamero.service.d").mkdir()
        (folder / "llamero.service.d" / "gpu.conf").write_text(GPU_DROP_IN)
    return path


def test_what_is_shipped_is_what_is_installed() -> None:
    """To bring it up to date: `ollama service install --dry-run`, from /opt/llamero."""
    assert (SHIPPED_FOLDER / "llamero.service").read_text() == unit(SHIPPED)
    assert (SHIPPED_FOLDER / "llamero.service.d" / "gpu.conf").read_text() == GPU_DROP_IN


@needs_systemd
@pytest.mark.parametrize(
    ("scope", "uses_gpu"), [("system", False), ("system", True), ("user", False)], ids=["machine", "gpu", "user"]
)
def test_systemd_understands_every_line_of_it(tmp_path: Path, scope: str, uses_gpu: bool) -> None:
    """partly X-98: the unit."""
    wanted = replace(SHIPPED, program=PROGRAM, scope=scope, uses_gpu=uses_gpu)  # type: ignore[arg-type]
    verified = analyze("verify", *(["--user"] if scope == "user" else []), written(tmp_path, wanted))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
def test_a_mistake_in_it_would_be_seen(tmp_path: Path) -> None:
    path = written(tmp_path, replace(SHIPPED, program=PROGRAM))
    path.write_text(path.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    assert "ProtectHouse" in analyze("verify", path).stderr


@needs_systemd
def test_it_is_as_closed_as_a_processor_allows(tmp_path: Path) -> None:
    path = written(tmp_path, replace(SHIPPED, program=PROGRAM))
    judged = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSURE * 10:.0f}", "--no-pager", path)
    assert judged.returncode == 0, judged.stdout
    exposure = float(judged.stdout.rpartition("service: ")[2].split()[0])
    assert exposure <= MOST_EXPOSURE


@pytest.mark.parametrize(
    "line",
    """ProtectSystem=strict|ProtectHome=yes|PrivateTmp=yes|NoNewPrivileges=yes|CapabilityBoundingSet=|UMask=0027
    StateDirectory=llamero|RuntimeDirectory=llamero|ProtectKernelTunables=yes|ProtectKernelModules=yes|ProtectKernelLogs=yes|ProtectClock=yes
    ProtectControlGroups=yes|ProtectHostname=yes|RestrictNamespaces=yes|RestrictSUIDSGID=yes|RestrictRealtime=yes
    LockPersonality=yes|MemoryDenyWriteExecute=yes|SystemCallArchitectures=native|SystemCallFilter=@system-service
    RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK|LimitCORE=0|IPAddressDeny=169.254.0.0/16|User=llamero
    Restart=always|RestartSec=3""".replace("\n    ", "|").split("|"),
)
def test_the_unit_says(line: str) -> None:
    """Security §13 and cli §12.2, line by line."""
    assert f"\n{line}\n" in unit(SHIPPED)


def test_a_gpu_gets_its_devices_back_and_no_others() -> None:
    for line in ("PrivateDevices=no", "DevicePolicy=closed", "MemoryDenyWriteExecute=no"):
        assert f"\n{line}\n" in GPU_DROP_IN
    assert [line for line in GPU_DROP_IN.splitlines() if line.startswith("DeviceAllow=")] == [
        "DeviceAllow=char-nvidia* rw",
        "DeviceAllow=char-drm rw",
        "DeviceAllow=char-kfd rw",
    ]


@needs_systemd
@pytest.mark.parametrize("name", ["my program", "50%n", "a$b", "semi;colon"])
def test_the_program_may_lie_anywhere(tmp_path: Path, name: str) -> None:
    """systemd looks whether the program can be run, and so whether it read its path as it is meant."""
    program = tmp_path / name
    program.symlink_to(PROGRAM[0])
    verified = analyze("verify", written(tmp_path, replace(SHIPPED, program=(str(program), "serve"))))
    assert (verified.returncode, verified.stderr) == (0, "")


# --- steps -----------------------------------------------------------------------------------------------------------


def argvs(steps: list[Write | Remove | Run]) -> list[str]:
    return [" ".join(step.argv) for step in steps if isinstance(step, Run)]


def files(steps: list[Write | Remove | Run]) -> list[str]:
    return [f"{type(step).__name__} {step.path}" for step in steps if not isinstance(step, Run)]


def test_a_service_of_the_machine() -> None:
    manager = Systemd(SHIPPED)
    steps = manager.install()
    assert files(steps) == [
        "Write /etc/systemd/system/llamero.service",
        "Remove /etc/systemd/system/llamero.service.d/gpu.conf",
    ]
    assert argvs(steps) == [
        f'systemd-sysusers --inline u llamero - "Llamero" {STATE}',
        "systemctl daemon-reload",
        "systemctl enable llamero.service",
        "systemctl restart llamero.service",
    ]
    assert argvs(manager.uninstall()) == ["systemctl disable --now llamero.service", "systemctl daemon-reload"]


def test_a_graphics_card_brings_a_drop_in_and_groups() -> None:
    steps = Systemd(replace(SHIPPED, uses_gpu=True)).install()
    assert Write(Path("/etc/systemd/system/llamero.service.d/gpu.conf"), GPU_DROP_IN) in steps
    groups = [command for command in argvs(steps) if " m " in command]
    assert groups == [f"systemd-sysusers --inline m llamero {group}" for group in ("render", "video")]


def test_a_service_of_one_user() -> None:
    manager = Systemd(replace(SHIPPED, scope="user", home=Path("/home/u"), account="u"))
    assert files(manager.install()) == ["Write /home/u/.config/systemd/user/llamero.service"]
    assert argvs(manager.install()) == [
        f"systemctl --user {words} llamero.service".replace("reload llamero.service", "reload")
        for words in ("daemon-reload", "enable", "restart")
    ]
    assert "loginctl enable-linger u" in manager.advice
    assert "User=" not in unit(manager.wanted)


@pytest.mark.parametrize(("scope", "option"), [("system", ()), ("user", ("--user",))])
def test_its_log_is_the_journals(scope: str, option: tuple[str, ...]) -> None:
    manager = Systemd(replace(SHIPPED, scope=scope))  # type: ignore[arg-type]
    wanted = ("journalctl", *option, "--unit=llamero.service", "--no-pager", "--lines=7")
    assert manager.logs(7, follow=False).argv == wanted
    assert manager.logs(7, follow=True).argv == (*wanted, "--follow")
