"""One run of the program: its environment, its terminal, and the way to a server. It knows no command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..config import BY_NAME, NO_FILE, ConfigFile, Settings
from ..errors import LlameroError, ServerAnswered, ServerRefused
from .format import printable
from .terminal import Terminal

if TYPE_CHECKING:
    from ..client import Client


COMPLETION_TIMEOUT_S = 1.0
"""Whoever presses Tab waits for the answer with a finger on the key."""


def client_settings(env: Mapping[str, str], file: ConfigFile = NO_FILE) -> Settings:
    """What concerns clients: a command that asks a server neither obeys nor criticises the server's variables."""
    ours = {name for name, variable in BY_NAME.items() if variable.where in ("client", "both")}
    return Settings.from_env({name: text for name, text in env.items() if name in ours}, file.only(ours))


@dataclass
class App:
    own_env: Mapping[str, str]
    """The environment of this process alone, for whoever starts another one of us."""
    settings: Settings
    """Those of a client."""
    terminal: Terminal
    file: ConfigFile = NO_FILE
    debug: bool = False
    """Show where an unexpected error came from."""
    env: Mapping[str, str] = field(init=False)
    """The environment over what config.toml says."""

    def __post_init__(self) -> None:
        self.env = self.file.under(self.own_env)

    @cached_property
    def client(self) -> Client:
        for warning in self.settings.warnings:
            self.warn(warning)
        return self._client(warn=self.warn)

    def connect(self, *, is_run: bool = False) -> Client:
        """The client, once the server has answered its heartbeat; `run` may start one in the background (cli §7)."""
        try:
            self.client.heartbeat()
        except ServerRefused as error:
            wanted = {"always": True, "run": is_run, "never": False}[self.settings.autostart]
            is_local = all(host.is_loopback for host in self.settings.listen)  # it would listen on every one of them
            if not wanted or self.settings.host.scheme != "http" or not is_local:
                raise ServerRefused(self._not_running()) from error
            from .background import start_server

            start_server(self)
        return self.client

    def model_names(self, *, only_running: bool = False) -> list[str]:
        """For completion: what a server that answers at once has, else nothing."""
        client = self._client(timeout_s=COMPLETION_TIMEOUT_S)
        try:
            return [model.name for model in (client.ps().models if only_running else client.tags())]
        except LlameroError:
            return []

    def _client(self, **more: Any) -> Client:
        from ..client import Certificates, Client, Proxies

        proxies, certificates = Proxies.from_env(self.env), Certificates.from_env(self.env)
        return Client(self.settings.host, self.settings.api_key, proxies=proxies, certificates=certificates, **more)

    def warn(self, text: str) -> None:
        self.terminal.err(f"Warning: {printable(text)}\n")

    def fail(self, error: LlameroError) -> None:
        """Say what went wrong. The words may be a registry's, so they must not command the terminal."""
        if isinstance(error, ServerAnswered) and error.signin_url:
            from .account import CLOUD_NEEDS_SIGN_IN, sign_in_text

            self.terminal.out(sign_in_text(CLOUD_NEEDS_SIGN_IN, error.signin_url))
        self.terminal.err(f"Error: {printable(str(error))}\n")

    def _not_running(self) -> str:
        host = self.settings.host
        address = "" if host.is_loopback and not host.is_unix else f" at {host.url}"
        return f"could not connect to ollama server{address}, run 'ollama serve' to start it"
