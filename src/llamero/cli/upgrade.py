"""`upgrade`: how this installation was made, and the command that makes it newer. It runs none: X-99.

Nothing of ours fetches a program of ours, and no server is asked whether there is a newer one. Whoever installed it
knows where from, and whether it may change now.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import sysconfig
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from .. import API_LEVEL, __version__
from .app import App

PROJECT = "llamero"
IN_THE_SOURCE = "Run it in the folder of the newer source: on the package index, that name is another project's."
_MARKS = ("uv-receipt.toml", "pipx_metadata.json", "conda-meta")
"""What uv, pipx and conda leave in an environment that they manage."""
_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


@dataclass(frozen=True, slots=True)
class Installation:
    """What can be seen of how we came here."""

    python: str
    prefix: Path
    is_environment: bool = False
    """A virtual one, not the system's Python."""
    marks: Collection[str] = ()
    """Which of _MARKS lie in the prefix."""
    installer: str = ""
    """The program that put the package there, in its own words: `pip`, `uv`."""
    checkout: str = ""
    """The source folder, where the package is used from it."""
    is_container: bool = False
    is_managed: bool = False
    """The system's Python, which the distribution keeps to itself (PEP 668)."""
    is_users: bool = False
    """In the user's own site-packages."""


@dataclass(frozen=True, slots=True)
class Guide:
    how: str
    commands: tuple[str, ...]
    note: str = ""


def upgrade(app: App) -> None:
    found = guide(find_installation(app.own_env))
    lines = [
        f"llamero {__version__} (Ollama API {API_LEVEL}): {found.how}",
        "",
        *(f"    {command}" for command in found.commands),
        *(["", found.note] if found.note else []),
        "",
        "Then restart the server: `ollama service restart`, or stop `ollama serve` and start it. Models stay.",
    ]
    app.terminal.out("\n".join(lines) + "\n")


def guide(of: Installation) -> Guide:
    """What to run for one kind of installation; the most telling sign decides."""
    python = shlex.quote(of.python)
    if of.checkout:
        return Guide(
            f"it is used from its source in {of.checkout}. To upgrade it:",
            (
                f"git -C {shlex.quote(of.checkout)} pull",
                f"{python} -m pip install --editable {shlex.quote(of.checkout)}",
            ),
        )
    if of.is_container:
        return Guide(
            "it runs in a container. Outside of it, in the folder that the image is built in:",
            ("git pull", "docker compose -f deploy/docker/compose.yaml up --build --detach"),
            "An image from elsewhere is pulled again, and a container made from it; the volume keeps the models.",
        )
    if "uv-receipt.toml" in of.marks:
        return Guide("it is a tool of uv. To upgrade it:", (f"uv tool upgrade {PROJECT}",))
    if "pipx_metadata.json" in of.marks:
        return Guide("it was installed by pipx. To upgrade it:", (f"pipx upgrade {PROJECT}",))
    if of.installer == "uv":
        return Guide(
            f"uv installed it into {of.prefix}. To upgrade it:",
            (f"uv pip install --python {python} --upgrade .",),
            IN_THE_SOURCE,
        )
    if of.is_managed and not of.is_environment:
        return Guide(
            "it is in the system's Python, which belongs to the distribution. An environment of its own is safer:",
            ("python3 -m venv /opt/llamero", "/opt/llamero/bin/pip install --upgrade ."),
            IN_THE_SOURCE,
        )
    where = (
        "conda's environment" if "conda-meta" in of.marks else "the environment" if of.is_environment else "Python in"
    )
    user = " --user" if of.is_users else ""
    return Guide(
        f"pip installed it into {where} {of.prefix}. To upgrade it:",
        (f"{python} -m pip install{user} --upgrade .",),
        IN_THE_SOURCE,
    )


def find_installation(env: Mapping[str, str]) -> Installation:
    package = Distribution.from_name(PROJECT)
    prefix = Path(sys.prefix)
    return Installation(
        python=sys.executable,
        prefix=prefix,
        is_environment=sys.prefix != sys.base_prefix,
        marks=[mark for mark in _MARKS if (prefix / mark).exists()],
        installer=(package.read_text("INSTALLER") or "").strip(),
        checkout=_checkout(package.read_text("direct_url.json") or "{}"),
        is_container=bool(env.get("container")) or any(Path(mark).exists() for mark in _CONTAINER_MARKS),
        is_managed=Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists(),
        is_users=_is_users(str(package.locate_file(""))),
    )


def _checkout(direct_url: str) -> str:
    """The folder of an editable installation, by PEP 610; empty for any other."""
    try:
        record = json.loads(direct_url)
        is_editable = record.get("dir_info", {}).get("editable", False)
        return record["url"].removeprefix("file://") if is_editable else ""
    except (ValueError, KeyError, AttributeError):
        return ""


def _is_users(folder: str) -> bool:
    import site

    return os.path.realpath(folder) == os.path.realpath(site.getusersitepackages())
