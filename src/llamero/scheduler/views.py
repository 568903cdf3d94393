"""What the scheduler shows of itself, as values: for `/api/ps` and metrics, never to decide by.

Source: scheduler §11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..engines import MemoryUse
from .plan import Wanted


@dataclass(frozen=True, slots=True)
class RunnerView:
    """What `/api/ps` shows of a loaded model."""

    model: Any
    wanted: Wanted
    memory: MemoryUse
    expires_at_ns: int


@dataclass(frozen=True, slots=True)
class LoadingView:
    model: Any
    progress: float


@dataclass(frozen=True, slots=True)
class WaitingView:
    """Somebody who waits for the loader, or for a slot of a loaded engine."""

    position: int
    """In that line, from 1."""
    model: Any
    waiting_ms: int
    party: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    loaded: tuple[RunnerView, ...]
    loading: tuple[LoadingView, ...]
    queue: tuple[WaitingView, ...]
