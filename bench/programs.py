"""The programs, first those whose figures are promised (DESIGN §7), and running them one after the other."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Iterator

from .effort import Effort
from .figures import Figure, failed

PROMISED = {
    "engine_ratio": "decode and prefill through our API / bare engine",
    "streams": "CPU time per streamed token, 1 and 32 streams",
    "cold_start": "request for an unloaded model to its first token",
    "prefix_cache": "follow-up in a long chat after unload and restart",
    "parallel": "eight clients / one; what slots cost a lone client",
    "neighbours": "decode beside busy processes, and beside another model",
    "command_start": "`--version`, `list`, idle memory",
    "pull": "a blob over loopback / copy + sha256",
    "embed_ratio": "inputs embedded per second / bare engine",
}
"""Modules beside this one, each with `measure`: what it is about. One runs at a time, each with servers of its own."""

OTHERS = {
    "speculation": "guessing repeated text, by kind of text",
    "convert": "a checkpoint to GGUF / reading and writing its bytes",
    "template": "a Go template with 200 messages",
    "parsers": "thinking and tool calls out of a stream, per token",
    "prompt_share": "template, grammar and parsers of a chat / its decoding",
    "gguf_header": "a header with 150,000 tokens",
}
"""Measured when they are named."""

PROGRAMS = PROMISED | OTHERS


def measure_all(names: Iterable[str], effort: Effort) -> Iterator[list[Figure]]:
    """The figures of each program in turn. One that fails is a row that says so, and the others go on."""
    for name in names:
        try:
            yield list(importlib.import_module(f"bench.{name}").measure(effort))
        except Exception as error:  # the outermost loop: hours of other measurements must not be lost
            traceback.print_exc(file=sys.stderr)
            yield [failed(name, f"{type(error).__name__}: {error}")]
