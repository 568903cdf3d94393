"""The entry of the program: streams in, exit status out. The only place that ends the process or reads its environment.

Source: cli §1. Any failure is one line `Error: …` on stderr and status 1; Ctrl+C is 130, a closed pipe 141, as a shell
counts signals.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from ..config import config_path, read_config, system_environment
from ..errors import LlameroError
from .app import App, client_settings
from .terminal import Terminal

FAILED = 1
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(
    argv: Sequence[str] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> int:
    """Run one command and return its exit status. Everything that a test wants to hold can be passed in."""
    env = system_environment() if env is None else env
    file = read_config(config_path(env))
    settings = client_settings(env, file)
    terminal = Terminal(
        stdin or sys.stdin or io.TextIOWrapper(io.BytesIO()),  # whoever started us may have closed any of the three
        stdout or _utf8(sys.stdout or io.StringIO()),
        stderr or _utf8(sys.stderr or io.StringIO()),
        is_plain=settings.plain_terminal,
    )
    app = App(env, settings, terminal, file)
    try:
        return _run(app, list(sys.argv[1:] if argv is None else argv))
    except LlameroError as error:
        app.fail(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED  # whoever read our output has gone
    except Exception as error:
        if app.debug:
            raise
        terminal.err(f"Error: {type(error).__name__}: {error} (--debug shows where)\n")
    finally:
        _let_go(terminal.stdout, terminal.stderr)
    return FAILED


def hi() -> int:
    """The script `hi-ai`."""
    return main(["hi", *sys.argv[1:]])


def benchmark() -> int:
    """The script `ollama-benchmark`."""
    return main(["bench", *sys.argv[1:]])


def _run(app: App, argv: list[str]) -> int:
    if argv in (["--version"], ["-v"]):
        # asked by scripts all day long; the parser alone would take as long as the whole answer may
        from .version import show_version

        show_version(app)
        return 0
    import click

    from .commands import root

    try:
        with root.make_context(root.name, argv, obj=app) as context:
            root.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _let_go(*streams: TextIO) -> None:
    """What a stream still holds and nobody takes goes nowhere: the interpreter would complain of it once more."""
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _utf8(stream: TextIO) -> TextIO:
    """Bars and models speak UTF-8 whatever the locale says."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8", errors="replace")
    return stream


if __name__ == "__main__":
    sys.exit(main())
