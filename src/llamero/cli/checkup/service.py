"""The server: whether one answers, which, what else has its port, and how its models lie in memory."""

from __future__ import annotations

from collections.abc import Iterator

from ... import API_LEVEL
from ...client import RunningModel
from ...errors import LlameroError, ServerAnswered, ServerRefused
from ...messages import Found
from . import Surroundings, fail, ok, warn
from .port import holder


def server(here: Surroundings) -> Iterator[Found]:
    host = here.client.host
    is_here = host.is_loopback and host.scheme != "unix"
    try:
        version = here.client.version()
    except ServerRefused:
        yield warn("server", f"nothing answers at {host.url}", "ollama serve starts one")
        return
    except LlameroError as error:
        version, reason = "", str(error)
        if isinstance(error, ServerAnswered) and error.status == 403:
            advice = "change the setting that it names where the server runs, and start that again"
            yield fail("server", f"{host.url} does not serve this machine: {reason}", advice)
            return
    else:
        reason = "it is no ollama server"
    who = holder(host.port) if is_here else ""
    by = f" ({who})" if who else ""
    if not version:
        advice = "stop it, or set OLLAMA_HOST to another port" if is_here else "check OLLAMA_HOST"
        yield fail("server", f"what listens at {host.url}{by} does not answer as it should: {reason}", advice)
    elif version != API_LEVEL:
        text = f"{host.url}{by} answers as version {version}, this command is of {API_LEVEL}"
        yield warn("server", text, "update the older of the two, and restart the server")
    else:
        yield ok("server", f"{host.url}{by} answers, version {version}")


def models(here: Surroundings) -> Iterator[Found]:
    """Those that are loaded, and above all those that did not fit the GPU."""
    try:
        running = here.client.ps()
    except ServerAnswered as error:
        if error.status in (401, 403):
            yield fail(
                "models", f"the server does not show them: {error}", "set OLLAMA_API_KEY to a key of this server"
            )
        return
    except LlameroError:
        return  # `server` has said it
    spilled = [model for model in running.models if 0 < model.size_vram_bytes < model.size_bytes]
    yield from map(_spilled, spilled)
    if not spilled:
        yield ok(
            "models", f"{len(running.models)} loaded, {len(running.loading)} loading, {len(running.queue)} waiting"
        )


def _spilled(model: RunningModel) -> Found:
    share = 1 - model.size_vram_bytes / model.size_bytes
    advice = "a smaller num_ctx, OLLAMA_KV_CACHE_TYPE=q8_0 or a smaller quantization (ollama fit) lets it fit"
    return warn("models", f"{model.name} lies to {share:.0%} in main memory, which makes it slow", advice)
