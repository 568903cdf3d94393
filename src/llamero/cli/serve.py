"""`serve`: settings, logging, and then the server's own affair (cli §3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..config import NO_FILE, ConfigFile, Settings, parse_hosts
from ..errors import LlameroError
from .app import App
from .logfile import keep_small, log_path
from .logs import log_to
from .redaction import secrets_of


def serve(app: App, listen: Sequence[str]) -> None:
    """Run the server until it is stopped. Raises LlameroError for a config.toml that cannot be used."""
    if app.file.problem:
        raise LlameroError(app.file.problem)
    from ..server.signals import Signals

    signals = Signals()  # before the next line, which takes half a second
    from ..server.serve import serve as run_server

    settings = server_settings(app.own_env, listen, app.file)
    secrets = secrets_of(app.env)
    out, err = app.terminal.stdout, app.terminal.stderr
    log_to(err, out, settings.debug_level, as_json=settings.logs_json, secrets=secrets)
    keep_small(log_path(settings))
    run_server(settings, signals)


def server_settings(env: Mapping[str, str], listen: Sequence[str], file: ConfigFile = NO_FILE) -> Settings:
    """What the environment and config.toml say, with the addresses of `--listen` in place of OLLAMA_HOST's."""
    settings = Settings.from_env(env, file)
    if not listen:
        return settings
    parsed = [parse_hosts(text) for text in listen]
    warnings = [warning for _, several in parsed for warning in several]
    return replace(
        settings,
        listen=tuple(host for hosts, _ in parsed for host in hosts),
        listen_via="--listen",
        warnings=(*settings.warnings, *warnings),
    )
