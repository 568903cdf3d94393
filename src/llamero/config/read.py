"""One mapping read by the rules of cli §10; what is wrong with it is collected, never raised."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, TypeVar

from .. import durations
from ..errors import BadRequest
from ..options import parse_bool
from .hosts import HostUrl, is_base_url, parse_hosts
from .secrets import shown, without_logins
from .table import BY_NAME, SPECULATION
from .words import clean, parse_size, parse_time, parse_whole

_T = TypeVar("_T")


class Reader:
    """Reads one mapping by the rules of cli §10 and collects what was wrong with it."""

    def __init__(self, env: Mapping[str, str], from_file: Collection[str] = ()) -> None:
        self.env = env
        self.warnings: list[str] = []
        self._from_file = from_file
        """Names whose values config.toml gave."""

    def text(self, name: str) -> str:
        return clean(self.env.get(name, ""))

    def path(self, name: str) -> Path | None:
        text = self.text(name)
        return Path(text).expanduser() if text else None

    def flag(self, name: str) -> bool:
        return self.tristate(name) or False

    def tristate(self, name: str) -> bool | None:
        text = self.text(name)
        if not text:
            return None
        try:
            return parse_bool(text)
        except ValueError:
            # the reference counts any other word as true; so do we, but aloud
            self.warnings.append(f"{name}={text} is not a boolean and counts as true; use 1 or 0")
            return True

    def uint(self, name: str, default: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63:
            return int(text)
        return self._bad(name, text, default)

    def duration(self, name: str, default_ns: int) -> int:
        text = self.text(name)
        if not text:
            return default_ns
        try:
            return parse_time(text)
        except BadRequest:
            return self._bad(name, text, default_ns)

    def keep_alive(self) -> int:
        ns = self.duration("OLLAMA_KEEP_ALIVE", 5 * durations.MINUTE)
        return durations.FOREVER if ns < 0 else min(ns, durations.FOREVER)

    def size(self, name: str, default: _T) -> int | _T:
        text = self.text(name)
        if not text:
            return default
        try:
            return parse_size(text)
        except BadRequest:
            return self._bad(name, text, default)

    def choice(self, name: str, choices: tuple[str, ...], default: str = "") -> str:
        """One of some words in lower case; anything else is a warning and the default."""
        text = self.text(name).lower()
        if not text:
            return default
        return text if text in choices else self._bad(name, text, default)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Whole numbers with commas or slashes between them, as the engine reads them; none of them if one is bad."""
        words = self.text(name).replace("/", ",").split(",")
        if words == [""] or all(word.strip().isdecimal() for word in words):
            return tuple(int(word) for word in words if word)
        return self._bad(name, self.text(name), ())

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def urls(self, name: str) -> tuple[str, ...]:
        """Base URLs without a trailing slash; one that is none is a warning and left out."""
        return tuple(url for word in self.words(name) if (url := self._base_url(name, word)))

    def mirrors(self) -> dict[str, tuple[str, ...]]:
        """`host=URL|URL,host=URL` of LLAMERO_MIRRORS (store-registry GAP-08)."""
        name, found = "LLAMERO_MIRRORS", dict[str, tuple[str, ...]]()
        for word in self.words(name):
            host, _, urls = word.partition("=")
            bases = tuple(base for url in urls.split("|") if (base := self._base_url(name, url.strip())))
            if host.strip() and bases:
                found[host.strip().lower()] = bases
        return found

    def _base_url(self, name: str, text: str) -> str:
        if is_base_url(text):
            return text.rstrip("/")
        return self._bad(name, without_logins(text).rpartition("@")[2], "")  # a login may stand without a scheme

    def traces_url(self) -> str:
        """As OpenTelemetry has it: the endpoint of all signals is a base, that of traces the whole URL."""
        base = self.text("OTEL_EXPORTER_OTLP_ENDPOINT").rstrip("/")
        return self.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (f"{base}/v1/traces" if base else "")

    def share(self) -> Literal["off", "on", "through"]:
        if self.text("LLAMERO_SHARE").lower() == "through":
            return "through"
        return "on" if self.flag("LLAMERO_SHARE") else "off"

    def responses(self) -> Literal["disk", "memory", "off"]:
        match self.choice("LLAMERO_RESPONSES", ("disk", "memory", "off"), "disk"):
            case "memory" | "off" as where:
                return where
        return "disk"

    def speculation(self) -> Literal["ngram", "off"]:
        match self.choice("LLAMERO_SPECULATION", ("ngram", "off"), SPECULATION):
            case "ngram":
                return "ngram"
        return "off"

    def debug(self) -> int:
        """Steps down from INFO. A word that is no boolean does not count as true here: nobody means that by `off`."""
        name = "OLLAMA_DEBUG"
        text = self.text(name)
        for read in (parse_whole, parse_bool):
            try:
                return int(read(text)) if text else 0
            except ValueError:
                pass
        return self._bad(name, text, 0)

    def hosts(self) -> tuple[tuple[HostUrl, ...], str]:
        text = self.text("OLLAMA_HOST")
        hosts, warnings = parse_hosts(text)
        self.warnings += warnings
        given = "config.toml" if "OLLAMA_HOST" in self._from_file else "OLLAMA_HOST"
        return hosts, given if text else "default"

    def _bad(self, name: str, text: str, default: _T) -> _T:
        value = shown(BY_NAME[name], text)
        what = "value in config.toml" if name in self._from_file else "environment variable"
        self.warnings.append(f"invalid {what}, using default key={name} value={value} default={default}")
        return default


def unheard(env: Mapping[str, str]) -> list[str]:
    """Names of ours that nothing honours, and names that look like ours and are not."""
    warnings = []
    for name in sorted(env):
        if not name.startswith(("OLLAMA_", "LLAMERO_", "LLAMA_ARG_")) or not clean(env[name]):
            continue
        variable = BY_NAME.get(name)
        if variable is None:
            warnings.append(f"{name} is not a variable of this program and has no effect")
        elif not variable.honoured_by:
            warnings.append(f"{name} is known but has no effect in this version")
    return warnings
