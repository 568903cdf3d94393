"""Everybody who is told what requests and answers took: metrics and traces."""

from __future__ import annotations

from contextlib import AbstractContextManager

from . import account
from .account import Account, Exchange
from .caller import caller
from .metrics import Metrics
from .traces import Traces


class Watch:
    def __init__(self, metrics: Metrics, traces: Traces) -> None:
        self.metrics = metrics
        self._traces = traces

    def in_flight(self) -> AbstractContextManager[None]:
        """For the length of a request."""
        return self.metrics.in_flight()

    def leaves(self, exchange: Exchange) -> None:
        self.metrics.leaves(exchange)
        self._traces.tell(exchange)

    def leased(self, model: str, queued_s: float) -> None:
        self.metrics.leased(model, queued_s)

    def answered(self, told: Account) -> None:
        """An answer is over, whether or not the request that it was for still goes on."""
        self.metrics.answered(told, caller.get().key)
        account.keep(told)

    def close(self) -> None:
        """Blocks until what is left has been sent."""
        self._traces.close()
