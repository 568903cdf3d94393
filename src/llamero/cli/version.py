"""`ollama --version`: two lines at most, and fast (cli §3.14)."""

from __future__ import annotations

from .. import API_LEVEL, __version__
from ..errors import ClientError
from .app import App


def show_version(app: App) -> None:
    """The server's version first, because tools take the last word of the first line. It always succeeds."""
    try:
        server = app.client.version()
    except ClientError:
        app.terminal.out("Warning: could not connect to a running Ollama instance\n")
        server = ""
    if server:
        app.terminal.out(f"ollama version is {server}\n")
    if server != API_LEVEL:
        app.terminal.out(f"Warning: client version is {API_LEVEL}\n")


def show_versions(app: App) -> None:
    """The same, and what is installed here: `ollama version`, which the reference has not."""
    show_version(app)
    _, *here = _installed().items()
    app.terminal.out("".join(f"{name} version is {version}\n" for name, version in here))


def show_version_json(app: App) -> None:
    """What is installed here; no server is asked."""
    import json

    app.terminal.out(json.dumps(_installed()) + "\n")


def _installed() -> dict[str, str]:
    from importlib.metadata import version

    return {"version": API_LEVEL, "llamero": __version__, "engine": f"xllamacpp {version('xllamacpp')}"}
