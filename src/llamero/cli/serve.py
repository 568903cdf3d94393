"""`serve`: settings, logging, and then the server's own affair (cli §3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..config import Settings, parse_host
from .app import App
from .logs import log_to


def serve(app: App, listen: Sequence[str]) -> None:
    """Run the server until it is stopped."""
    from ..server.serve import serve as run_server

    settings = server_settings(app.env, listen)
    log_to(app.terminal.stderr, app.terminal.stdout, settings.debug_level)
    run_server(settings)


def server_settings(env: Mapping[str, str], listen: Sequence[str]) -> Settings:
    """What the environment says, with the addresses of `--listen` in place of OLLAMA_HOST's."""
    settings = Settings.from_env(env)
    if not listen:
        return settings
    parsed = [parse_host(text) for text in listen]
    warnings = [warning for _, several in parsed for warning in several]
    return replace(
        settings,
        listen=tuple(host for host, _ in parsed),
        listen_via="--listen",
        warnings=(*settings.warnings, *warnings),
    )
