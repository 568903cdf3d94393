"""What `doctor` looks at: the machine, the folders, the environment, the server. Every check only looks.

A check is a function that yields findings; `doctor.py` runs them side by side and shows what they found. Nothing that
is found may hold a secret: names of variables are told, values only where they are harmless. Source: cli §3.16, G-29.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ...client import Client
from ...config import Settings
from ...messages import Found

ANSWER_TIMEOUT_S = 2.0
"""For a server on this machine, or near it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the checks may look at."""

    env: Mapping[str, str]
    settings: Settings
    """As a server that was started from here would read them."""
    client: Client
    """That gives up after ANSWER_TIMEOUT_S."""


Check = Callable[[Surroundings], Iterable[Found]]


def ok(subject: str, text: str, advice: str = "") -> Found:
    return Found(text, subject=subject, advice=advice)


def warn(subject: str, text: str, advice: str) -> Found:
    return Found(text, subject=subject, level="warn", advice=advice)


def fail(subject: str, text: str, advice: str) -> Found:
    return Found(text, subject=subject, level="fail", advice=advice)
