"""What pip is configured with: where the package index is, and how it is reached.

pip itself is asked, so its files, its variables and its own default count, and no text of ours names a host. It is
asked for nothing else: `pip download` of a source distribution would run that distribution's code.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .. import child
from ..errors import RegistryError

PIP = (sys.executable, "-m", "pip")

ASK_TIMEOUT_S = 60.0
"""It only reads files; on a slow disk it takes seconds to start."""

_ENTRY = re.compile(r"(?P<section>[^.=]+)\.(?P<name>[\w-]+)=(?P<value>['\"].*)")
_DEFAULT_INDEX = re.compile(r"--index-url\s+<\w+>.*?\(default\s+(https?://[^\s)]+)\)")
_SECTIONS = ("global", "download", ":env:")
"""Of pip's configuration, those that count for a download; a later one wins."""
_YES = frozenset({"1", "y", "yes", "t", "true", "on"})


@dataclass(frozen=True, slots=True)
class PipSettings:
    main_index: str = ""
    """URL of a simple index; it may hold credentials. Empty until pip has told its own."""
    more_indexes: tuple[str, ...] = ()
    is_offline: bool = False
    """No index is to be asked, only what `find_links` says."""
    find_links: tuple[str, ...] = ()
    """Folders, or URLs of pages, with archives in them."""
    certificates: str = ""
    """A file of certificates to trust."""
    trusted_hosts: tuple[str, ...] = ()
    """`host` or `host:port` whose certificates nobody looks at."""
    proxy: str = ""
    """Instead of the environment's."""

    @property
    def indexes(self) -> tuple[str, ...]:
        """Those to ask, in order."""
        return () if self.is_offline else (self.main_index, *self.more_indexes)


def read_settings(env: Mapping[str, str], folder: Path, cancelled: Callable[[], bool]) -> PipSettings:
    """Ask pip, in the environment that it would download in. Raises RegistryError, Cancelled."""
    settings = parse_settings(_ask(("config", "list"), env, folder, cancelled))
    if settings.main_index or settings.is_offline:
        return settings
    return replace(settings, main_index=parse_default(_ask(("help", "download"), env, folder, cancelled)))


def parse_settings(listed: Iterable[str]) -> PipSettings:
    """From the lines of `pip config list`."""
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listed:
        entry = _ENTRY.fullmatch(line)
        if entry and entry["section"] in found:
            found[entry["section"]][entry["name"]] = _text(entry["value"])
    values = {name: value for section in _SECTIONS for name, value in found[section].items()}
    return PipSettings(
        main_index=values.get("index-url", "").strip(),
        more_indexes=tuple(values.get("extra-index-url", "").split()),
        is_offline=values.get("no-index", "").lower() in _YES,
        find_links=tuple(values.get("find-links", "").split()),
        certificates=values.get("cert", ""),
        trusted_hosts=tuple(host.lower() for host in values.get("trusted-host", "").split()),
        proxy=values.get("proxy", ""),
    )


def parse_default(helped: Iterable[str]) -> str:
    """pip's own index, from the lines of `pip help download`."""
    default = _DEFAULT_INDEX.search(" ".join(line.strip() for line in helped))
    if default is None:
        raise RegistryError("pip does not say where its package index is: set PIP_INDEX_URL")
    return default[1]


def _text(quoted: str) -> str:
    """A value as pip prints it: a literal of Python."""
    try:
        return str(ast.literal_eval(quoted))
    except (ValueError, SyntaxError):
        return ""


def _ask(words: tuple[str, ...], env: Mapping[str, str], folder: Path, cancelled: Callable[[], bool]) -> list[str]:
    lines: list[str] = []
    argv = (*PIP, *words, "--disable-pip-version-check")
    try:
        child.run(argv, cwd=folder, env=env, on_line=lines.append, cancelled=cancelled, timeout_s=ASK_TIMEOUT_S)
    except child.ChildFailed as exc:
        raise RegistryError(f"pip does not say how it is configured: {exc}") from exc
    return lines
