"""Spans made after the fact: their shape in memory, and a real server that sends them to a collector."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llamero.config import Settings
from llamero.durations import MS, SECOND
from llamero.messages import Delays, Usage
from llamero.server import traces
from llamero.server.account import Account, Exchange
from llamero.server.pace import Pace
from llamero.server.traces import NoTraces, OtelTraces, open_traces, steps
from tests.conftest import StartServer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
DELAYS = Delays(queued_ns=20 * MS, load_ns=300 * MS, restore_ns=5 * MS)
USAGE = Usage(prompt_tokens=30, cached_tokens=10, predicted_tokens=7)


def paced(first_ns: int) -> Pace:
    pace = Pace(lambda: first_ns)
    pace.hear(1)
    return pace


def account(began_ns: int = 1, **more: Any) -> Account:
    """Waited for 20 ms, loaded for 300, read back for 5, read for 75 and wrote for 500."""
    fields = {
        "model": "m:latest",
        "began_ns": began_ns,
        "ready_ns": began_ns + 321 * MS,
        "ended_ns": began_ns + 901 * MS,
        "delays": DELAYS,
        "usage": USAGE,
        "pace": paced(began_ns + 401 * MS),
    }
    return Account(**{**fields, **more})


def took_ms(told: Account) -> dict[str, int]:
    return {name: (ended - began) // MS for name, began, ended in steps(told)}


def test_the_steps_of_an_answer_follow_one_another() -> None:
    assert took_ms(account()) == {"queue": 20, "load": 300, "restore": 5, "prefill": 75, "decode": 500}
    found = steps(account())
    assert [ended for _, _, ended in found[:-1]] == [began for _, began, _ in found[1:]]


def test_steps_that_took_no_time_are_left_out() -> None:
    assert took_ms(account(delays=Delays())) == {"prefill": 80, "decode": 500}


def test_texts_that_become_vectors_are_only_read() -> None:
    assert took_ms(account(delays=Delays(), pace=None)) == {"prefill": 580}


def told(exchange: Exchange) -> dict[str, ReadableSpan]:
    exporter = InMemorySpanExporter()
    kept = OtelTraces(exporter)
    kept.tell(exchange)
    kept.close()
    return {span.name: span for span in exporter.get_finished_spans()}


def exchange(*accounts: Account, **more: Any) -> Exchange:
    began_ns = time.monotonic_ns()
    fields = {"method": "POST", "route": "/api/chat", "status": 200, "key": "ci", "began_ns": began_ns}
    return Exchange(**{**fields, "ended_ns": began_ns + SECOND, "accounts": accounts, **more})


def test_a_request_is_a_span_with_its_steps_below_it() -> None:
    spans = told(exchange(account(time.monotonic_ns())))
    request = spans["POST /api/chat"]
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/api/chat",
        "http.response.status_code": 200,
        "llamero.key": "ci",
    }
    assert request.start_time is not None
    assert request.end_time == request.start_time + SECOND
    assert abs(request.start_time - time.time_ns()) < 5 * SECOND
    assert {name: span.parent for name, span in spans.items() if name != request.name} == dict.fromkeys(
        ("queue", "load", "restore", "prefill", "decode"), request.get_span_context()
    )
    assert spans["decode"].attributes == {
        "gen_ai.request.model": "m:latest",
        "gen_ai.usage.output_tokens": 7,
        "llamero.drafted_tokens": 0,
        "llamero.accepted_tokens": 0,
        "llamero.is_finished": True,
    }
    assert spans["prefill"].attributes == {
        "gen_ai.request.model": "m:latest",
        "gen_ai.usage.input_tokens": 30,
        "llamero.cached_tokens": 10,
    }


def test_it_belongs_to_the_trace_of_its_client() -> None:
    (request,) = told(exchange(trace_parent=PARENT)).values()
    assert request.parent is not None
    assert f"{request.parent.trace_id:032x}-{request.parent.span_id:016x}" == PARENT[3:-3]


@pytest.mark.parametrize("parent", ["", "nonsense", "00-0-0-0", PARENT * 100])
def test_a_header_that_is_none_begins_a_trace_of_its_own(parent: str) -> None:
    (request,) = told(exchange(trace_parent=parent)).values()
    assert request.parent is None


def test_a_failure_of_ours_is_marked() -> None:
    (request,) = told(exchange(status=503)).values()
    assert not request.status.is_ok


class Stuck(SpanExporter):
    """A collector that does not answer."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.let_go.wait(30)
        return SpanExportResult.FAILURE


def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "FLUSH_S", 0.1)
    exporter = Stuck()
    kept = OtelTraces(exporter)
    kept.tell(exchange())
    began_s = time.monotonic()
    kept.close()
    assert time.monotonic() - began_s < 2
    exporter.let_go.set()


def test_without_a_collector_there_are_none() -> None:
    assert isinstance(open_traces(""), NoTraces)


def test_without_the_extra_that_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert isinstance(open_traces("http://127.0.0.1:1/v1/traces"), NoTraces)
    assert caplog.messages == [traces.MISSING]


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/x/"}, "http://c:4318/x/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/own"}, "http://t/own"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t"}, "http://t"),
    ],
)
def test_the_standard_variables(env: dict[str, str], url: str) -> None:
    assert Settings.from_env({"HOME": "/h", **env}).traces_url == url


# --- a real server and a real collector ---


class Collector:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                packed = self.headers.get("Content-Encoding") == "gzip"
                collector.bodies.append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def names(self) -> list[list[str]]:
        """Of the spans in each trace, in the order of their beginning."""
        traces: dict[bytes, list[Any]] = {}
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        traces.setdefault(span.trace_id, []).append(span)
        return [
            [
                span.name
                for span in sorted(spans, key=lambda each: (each.start_time_unix_nano, bool(each.parent_span_id)))
            ]
            for spans in traces.values()
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()


def test_a_real_answer_is_traced_without_a_word_of_it(start_server: StartServer) -> None:
    with collecting() as collector:
        server = start_server(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        body = {"model": "smollm2:135m", "prompt": "CANARY-7f3a", "options": {"num_predict": 4}, "stream": False}
        assert server.post("/api/generate", body).status == 200
        server.stop()  # which sends what is left
    assert ["POST /api/generate", "load", "prefill", "decode"] in [
        [name for name in names if name != "queue"] for names in collector.names()
    ]
    assert all(b"CANARY" not in body for body in collector.bodies)
