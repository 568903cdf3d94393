"""systemd: the hardened unit of security §13, for the machine or for one user.

The unit in `deploy/systemd/` is this one. A GPU needs devices and pages that are written and run, which a drop-in gives
back: the unit itself stays as tight as a processor allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .plan import Remove, Run, Step, Wanted, Write

NAME = "llamero.service"
ACCOUNT = "llamero"
STATE = Path("/var/lib/llamero")
"""Home of the account, and `StateDirectory`: models, keys and settings are below its `.ollama`."""
ENVIRONMENT_FILE = Path("/etc/llamero/environment")

_UNIT = """\
# Llamero as a service, as `ollama service install` writes it. Your own settings belong into a drop-in, which no new
# version overwrites: {edit}
[Unit]
Description=Llamero, a server for language models
Documentation=https://github.com/llamero/llamero#readme
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=3
# the server ends its engines itself, after the requests in flight
KillMode=mixed
TimeoutStopSec=15
LimitNOFILE=65536
LimitCORE=0
"""

_MACHINE = f"""\

# an account of its own, whose home is the state directory
User={ACCOUNT}
Group={ACCOUNT}
StateDirectory={ACCOUNT}
StateDirectoryMode=0750
# /run/llamero, for a socket file: OLLAMA_HOST=unix:/run/llamero/llamero.sock
RuntimeDirectory={ACCOUNT}
WorkingDirectory={STATE}
Environment=HOME={STATE}
# OLLAMA_… and LLAMERO_… variables, one NAME=value per line; root:root 0640, for a key may be among them
EnvironmentFile=-{ENVIRONMENT_FILE}
# keys in a file of root's: LoadCredential=keys:/etc/llamero/keys and Environment=LLAMERO_API_KEYS_FILE=%d/keys
UMask=0027

# what it may not do
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RemoveIPC=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# where clouds hand out a machine's credentials
IPAddressDeny=169.254.0.0/16

[Install]
WantedBy=multi-user.target
"""

_USER = """\

# what it may not do, as far as a user's manager can see to it
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"""

GPU_DROP_IN = """\
# Graphics cards: their devices, the groups that own them, and drivers that write programs for them into memory.
[Service]
PrivateDevices=no
DevicePolicy=closed
DeviceAllow=char-nvidia* rw
DeviceAllow=char-drm rw
DeviceAllow=char-kfd rw
SupplementaryGroups=render video
MemoryDenyWriteExecute=no
"""


def unit(wanted: Wanted) -> str:
    """The text of the unit file."""
    rest = _MACHINE if wanted.scope == "system" else _USER
    edit = "systemctl edit llamero" if wanted.scope == "system" else "systemctl --user edit llamero"
    return _UNIT.format(command=" ".join(map(quoted, wanted.program)), edit=edit) + rest


def quoted(word: str) -> str:
    """A word of a command as systemd reads it. Quotes and backslashes in a program's path it refuses anyway."""
    word = word.replace("%", "%%")
    return f'"{word}"' if set(word) & set(" \t;") else word


@dataclass(frozen=True, slots=True)
class Systemd:
    wanted: Wanted

    @property
    def _is_user(self) -> bool:
        return self.wanted.scope == "user"

    @property
    def _folder(self) -> Path:
        return self.wanted.home / ".config/systemd/user" if self._is_user else Path("/etc/systemd/system")

    @property
    def marker(self) -> Path:
        return self._folder / NAME

    @property
    def _gpu_file(self) -> Path:
        return self._folder / f"{NAME}.d" / "gpu.conf"

    @property
    def advice(self) -> str:
        if self._is_user:
            return (
                "its settings are yours: `ollama config`\n"
                f"to let it start with the machine and outlive your sessions: loginctl enable-linger "
                f"{self.wanted.account}\n"
            )
        return (
            f"its settings: {STATE}/.ollama/llamero/config.toml, {ENVIRONMENT_FILE}, or `systemctl edit llamero`\n"
            f"its models: {STATE}/.ollama/models\n"
        )

    def install(self) -> list[Step]:
        steps: list[Step] = []
        if not self._is_user:
            steps += [Run(("systemd-sysusers", "--inline", line)) for line in self._accounts()]
        steps.append(Write(self.marker, unit(self.wanted)))
        if not self._is_user:
            steps.append(Write(self._gpu_file, GPU_DROP_IN) if self.wanted.uses_gpu else Remove(self._gpu_file))
        return [*steps, self._systemctl("daemon-reload"), self._systemctl("enable", NAME), *self.restart()]

    def _accounts(self) -> list[str]:
        """In the words of sysusers.d, which makes what is missing and leaves what is there."""
        groups = ("render", "video") if self.wanted.uses_gpu else ()
        return [f'u {ACCOUNT} - "Llamero" {STATE}', *(f"m {ACCOUNT} {group}" for group in groups)]

    def uninstall(self) -> list[Step]:
        """The account and its models stay."""
        steps: list[Step] = [self._systemctl("disable", "--now", NAME, may_fail=True), Remove(self.marker)]
        if not self._is_user:
            steps.append(Remove(self._gpu_file))
        return [*steps, self._systemctl("daemon-reload")]

    def start(self) -> list[Step]:
        return [self._systemctl("start", NAME)]

    def stop(self) -> list[Step]:
        return [self._systemctl("stop", NAME)]

    def restart(self) -> list[Step]:
        return [self._systemctl("restart", NAME)]

    def status(self) -> Run:
        return self._systemctl("status", "--no-pager", "--lines=0", NAME, may_fail=True)

    def logs(self, lines: int, *, follow: bool) -> Run:
        scope = ("--user",) if self._is_user else ()
        following = ("--follow",) if follow else ()
        return Run(("journalctl", *scope, f"--unit={NAME}", "--no-pager", f"--lines={lines}", *following))

    def _systemctl(self, *words: str, may_fail: bool = False) -> Run:
        scope = ("--user",) if self._is_user else ()
        return Run(("systemctl", *scope, *words), may_fail)
