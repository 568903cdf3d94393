"""Traces for OpenTelemetry: of each request one span, and below it where its time went. Names and figures, no text.

Spans are made when the request is over, from what it took: while it runs, nothing is done for them. The library is the
extra `otel`, and is imported only where one of the standard variables names a collector. What else the standard
defines (OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER ...) the library reads by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from .. import __version__
from .account import Account, Exchange

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

FLUSH_S = 1.0
"""What is still to be sent may take this long when the server stops, which it has to within five seconds."""

MISSING = (
    "traces are asked for by OTEL_EXPORTER_OTLP_ENDPOINT and need the extra otel: pip install '.[otel]' in the folder "
    "of Llamero's source"
)


class Traces(Protocol):
    def tell(self, exchange: Exchange) -> None:
        """A request is over. Costs no more than putting its spans into a queue."""

    def close(self) -> None:
        """Send what is left, for `FLUSH_S` at most. Blocks."""


class NoTraces:
    def tell(self, exchange: Exchange) -> None: ...

    def close(self) -> None: ...


def open_traces(url: str) -> Traces:
    """Traces that are sent to a collector; none where there is no `url`, and without the extra."""
    if not url:
        return NoTraces()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.warning(MISSING)
        return NoTraces()
    log.info("traces of requests are sent to %s", url)
    return OtelTraces(OTLPSpanExporter(endpoint=url))


class OtelTraces:
    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource({"service.name": "llamero", "service.version": __version__}).merge(Resource.create())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("llamero", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._below = set_span_in_context

    def tell(self, exchange: Exchange) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        offset_ns = time.time_ns() - time.monotonic_ns()
        span = self._tracer.start_span(
            f"{exchange.method} {exchange.route}".strip(),
            self._propagator.extract({"traceparent": exchange.trace_parent}),
            SpanKind.SERVER,
            {
                "http.request.method": exchange.method,
                "http.route": exchange.route,
                "http.response.status_code": exchange.status,
                "llamero.key": exchange.key,
            },
            start_time=exchange.began_ns + offset_ns,
        )
        if exchange.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        below = self._below(span)
        for account in exchange.accounts:
            for name, began_ns, ended_ns in steps(account):
                self._add(name, began_ns + offset_ns, ended_ns + offset_ns, account, below)
        span.end(exchange.ended_ns + offset_ns)

    def _add(self, name: str, began_ns: int, ended_ns: int, account: Account, below: Context) -> None:
        usage = account.usage
        attributes: dict[str, str | int] = {"gen_ai.request.model": account.model}
        if name == "prefill":
            attributes |= {
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "llamero.cached_tokens": usage.cached_tokens,
            }
        elif name == "decode":
            attributes |= {
                "gen_ai.usage.output_tokens": usage.predicted_tokens,
                "llamero.drafted_tokens": usage.draft_tokens,
                "llamero.accepted_tokens": usage.accepted_tokens,
                "llamero.is_finished": account.is_finished,
            }
        self._tracer.start_span(name, below, attributes=attributes, start_time=began_ns).end(ended_ns)

    def close(self) -> None:
        # the library goes on trying for longer than we may take: a thread that nobody has to wait for
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(FLUSH_S)


def steps(account: Account) -> list[tuple[str, int, int]]:
    """Where the time of an answer went: name, beginning and end of each step that took any."""
    delays = account.delays
    loading_ns = account.ready_ns - delays.load_ns
    begun_ns = account.ready_ns + delays.restore_ns
    first_ns = account.first_ns or account.ended_ns
    found = [
        ("queue", loading_ns - delays.queued_ns, loading_ns),
        ("load", loading_ns, account.ready_ns),
        ("restore", account.ready_ns, begun_ns),
        ("prefill", begun_ns, first_ns),
        ("decode", first_ns, account.ended_ns),
    ]
    return [step for step in found if step[2] > step[1]]
