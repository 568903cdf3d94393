"""What was measured: plain records, which are also the JSON report. They compute nothing.

Times are in seconds, as a wall clock here saw them unless they say otherwise. None means that nobody could tell.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from ...errors import BadRequest

FORMAT = 1
"""Raised when a report of this program can no longer be compared with an older one."""
MAX_REPORT_BYTES = 64 * 2**20
"""A report of a thousand models is a few megabytes."""

Verdict = Literal["right", "wrong", "unchecked"]


class Round(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer to one question."""

    total_s: float
    ttft_s: float | None = None
    """To the first text, thinking or tool call."""
    load_s: float = 0.0
    """The server's word, like the four below."""
    prompt_tokens: int = 0
    prompt_s: float = 0.0
    predicted_tokens: int = 0
    predicted_s: float = 0.0
    verdict: Verdict = "unchecked"
    failure: str = ""
    """Why there is no answer."""


class TaskResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    task: str
    rounds: list[Round] = []
    skipped: str = ""
    """Why it was not asked."""


class ModelResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    digest: str = ""
    parameters: str = ""
    quantization: str = ""
    family: str = ""
    size_bytes: int = 0
    load_s: float | None = None
    memory_bytes: int | None = None
    """What the loaded model takes, of which `vram_bytes` on GPUs."""
    vram_bytes: int | None = None
    context_tokens: int | None = None
    tasks: list[TaskResult] = []
    skipped: str = ""
    failure: str = ""
    """Why nothing could be asked, although it should have been."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What every question was asked with; reports under different ones are hard to compare."""

    rounds: int
    warmup: int
    max_tokens: int
    temperature: float
    seed: int
    num_ctx: int
    prompt_tokens: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found on one server."""

    format: int = FORMAT
    server: str
    """Its address, without a password."""
    version: str
    started_at: datetime
    conditions: Conditions
    models: list[ModelResult]
    notes: list[str] = []
    """What a reader has to know beside the figures."""


def encode(report: Report) -> bytes:
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def decode(data: bytes, name: str) -> Report:
    """A report out of the file `name`. BadRequest when it is none, or of another format."""
    try:
        report = msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadRequest(f"{name} is no report of this tool: {error}") from None
    if report.format != FORMAT:
        raise BadRequest(f"{name} is a report of format {report.format}; this version reads format {FORMAT}")
    return report
