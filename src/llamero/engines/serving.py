"""Which program an engine is started with, and the way back to the wheel when that one does not run here.

LLAMERO_LLAMA_SERVER wins, then what was chosen with `ollama engine`, then the wheel. The first is the operator's word
and has no way back. What was chosen may have been compiled for another processor than the one that it finds itself on:
when it does not start where the wheel does, or crashes soon after, it is given up until this server ends.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import replace

from ..errors import LoadFailed, OutOfMemory, TemplateRefused
from . import LoadPlan, Progress
from .llamacpp import LlamaCpp, LlamaCppSettings
from .native import Chosen, NativeEngines
from .process import describe_exit

log = logging.getLogger(__name__)

CRASHED_SOON_S = 60.0
"""A program with instructions that this processor lacks meets them in its first answer."""

CRASHES = frozenset(
    -number for name in ("SIGILL", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGABRT") if (number := getattr(signal, name, 0))
)
"""Exit statuses. Not among them is the one of a kill: by us, or for want of memory."""


class Serving:
    """Starts engines with the program that serves."""

    def __init__(self, settings: LlamaCppSettings, natives: NativeEngines) -> None:
        """`settings.program` is LLAMERO_LLAMA_SERVER."""
        self._settings = settings
        self._natives = natives
        self._given_up: dict[str, str] = {}
        """Programs, and why."""
        self._warned: set[str] = set()

    def chosen(self) -> Chosen:
        """What the next engine is started with. Asked anew each time: a choice needs no restart of the server."""
        if self._settings.program:
            return Chosen("program", self._settings.program, "LLAMERO_LLAMA_SERVER is set")
        chosen = self._natives.chosen()
        if chosen.program in self._given_up:
            return Chosen("wheel", why=self._given_up[chosen.program])
        if chosen.warning and chosen.warning not in self._warned:
            self._warned.add(chosen.warning)
            log.warning(chosen.warning)
        return chosen

    async def start(self, plan: LoadPlan, progress: Progress) -> LlamaCpp:
        """As `LlamaCpp.start`. Where what was chosen fails, the wheel is tried; if that fails too, its error counts."""
        chosen = self.chosen()
        try:
            engine = await LlamaCpp.start(plan, replace(self._settings, program=chosen.program), progress)
        except (OutOfMemory, TemplateRefused):
            raise
        except LoadFailed as error:
            if self._settings.program or not chosen.program:
                raise
            engine = await LlamaCpp.start(plan, self._settings, progress)
            self._give_up(chosen.program, f"it does not load {plan.model.name}, which the wheel does: {error}")
            return engine
        if chosen.program and not self._settings.program:
            self._watch(engine, chosen.program)
        return engine

    def _watch(self, engine: LlamaCpp, program: str) -> None:
        """Give the program up when the engine crashes soon. Its request has failed by then; the next gets the wheel."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()

        def ended(exited: asyncio.Future[int]) -> None:
            status = exited.result()
            if status in CRASHES and loop.time() - started_s < CRASHED_SOON_S:
                self._give_up(program, f"it crashed soon after its start: {describe_exit(status)}")

        engine.exited.add_done_callback(ended)

    def _give_up(self, program: str, reason: str) -> None:
        if program not in self._given_up:
            self._given_up[program] = f"{program} is given up: {reason}"
            log.warning("the engine %s is given up until the server restarts, the wheel serves: %s", program, reason)
