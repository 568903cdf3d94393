"""What the server counts, in Prometheus' text format: requests, the queue, loads, answers, memory.

Everything is counted once, when a request or an answer is over; the gaps between tokens are measured as they come
(`pace.py`) and added then. Labels are bounded: routes are those of THE table, models those of the store, keys those
that are configured, and of each no more than `MAX_SERIES`. Source: security §6.3; scheduler §7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .. import API_LEVEL, __version__
from ..scheduler.views import Snapshot
from .account import Account, Exchange
from .pace import BOUNDS_S, Pace

MAX_SERIES = 256
"""Models, keys and pairs of them. Whatever comes later is counted as `other`: a scrape must stay small."""

OTHER = "other"

LEFT = 499
"""The status of a client that left before there was one."""

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

REQUEST_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
WAIT_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
LOAD_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

_PER_ANSWER = ("model", "key")

_NS = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is so now, in contrast to what has been."""

    snapshot: Snapshot
    connections: int
    prompts: int
    """Saved on disk."""
    prompts_bytes: int
    prompts_limit_bytes: int


class Metrics:
    """Of one server: a registry of its own, nothing of the process's global one."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each one, that says when it began
        self._registry = CollectorRegistry()
        self._scene: Scene | None = None
        self._series: set[tuple[str, ...]] = set()
        self._paces = _Paces()
        self._registry.register(self._paces)
        self._registry.register(_Scenery(self))
        ProcessCollector(registry=self._registry)  # memory, file descriptors, processor time; Linux only
        build = self._gauge("build_info", "Always 1; the labels say what runs", ("version", "api_level"))
        build.labels(__version__, API_LEVEL).set(1)
        self._count_requests()
        self._count_loads()
        self._count_answers()

    def _count_requests(self) -> None:
        self._requests = self._counter(
            "requests", "Requests that were answered", ("route", "method", "dialect", "status", "key")
        )
        self._in_flight = self._gauge("requests_in_flight", "Requests that are being answered")
        self._request_s = self._histogram(
            "request_seconds", "From a request's head to the end of its reply", ("route", "dialect"), REQUEST_S
        )

    def _count_loads(self) -> None:
        self._wait_s = self._histogram(
            "queue_wait_seconds", "Waited for a slot, for room, for other models to load", ("model",), WAIT_S
        )
        self._loads = self._counter("model_loads", "Loads, by what came of them", ("model", "result"))
        self._load_s = self._histogram("model_load_seconds", "What loads took that succeeded", ("model",), LOAD_S)
        self._unloads = self._counter(
            "model_unloads", "Models that went, by why; evicted: to make room for another", ("model", "reason")
        )

    def _count_answers(self) -> None:
        self._answers = self._counter(
            "answers", "Answers, by whether they came to their end or were broken off", (*_PER_ANSWER, "end")
        )
        self._first_token_s = self._histogram(
            "time_to_first_token_seconds", "From a request's body to the first token", _PER_ANSWER, FIRST_TOKEN_S
        )
        self._prompt_tokens = self._counter("prompt_tokens", "Of prompts, those from the cache too", _PER_ANSWER)
        self._cached_tokens = self._counter("cached_tokens", "Of prompts, taken from the cache", _PER_ANSWER)
        self._generated_tokens = self._counter("generated_tokens", "Of answers", _PER_ANSWER)
        self._prefill_s = self._counter("prefill_seconds", "Spent reading prompts", _PER_ANSWER)
        self._decode_s = self._counter("decode_seconds", "Spent writing answers", _PER_ANSWER)
        self._drafted_tokens = self._counter("drafted_tokens", "Guessed ahead", ("model",))
        self._accepted_tokens = self._counter("accepted_tokens", "Of those, confirmed by the model", ("model",))
        self._prefix_hits = self._counter("prefix_cache_hits", "Prompts that were read back from disk", ("model",))

    # --- what happens -------------------------------------------------------------------------------------------------

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """For the length of a request."""
        self._in_flight.inc()
        try:
            yield
        finally:
            self._in_flight.dec()

    def leaves(self, exchange: Exchange) -> None:
        route, dialect = exchange.route or OTHER, dialect_of(exchange.route)
        method = exchange.method if exchange.method in METHODS else OTHER
        (key,) = self._bounded(exchange.key)
        self._requests.labels(route, method, dialect, exchange.status or LEFT, key).inc()
        self._request_s.labels(route, dialect).observe((exchange.ended_ns - exchange.began_ns) * _NS)

    def leased(self, model: str, queued_s: float) -> None:
        """A request has its place in an engine."""
        (model,) = self._bounded(model)
        self._wait_s.labels(model).observe(queued_s)

    def loaded(self, model: str, result: str, took_s: float) -> None:
        """`result` is ok, failed, out_of_memory or cancelled."""
        (model,) = self._bounded(model)
        self._loads.labels(model, result).inc()
        if result == "ok":
            self._load_s.labels(model).observe(took_s)

    def unloaded(self, model: str, reason: str) -> None:
        """`reason` is evicted, replaced (by itself with other settings), idle, died or stopping."""
        (model,) = self._bounded(model)
        self._unloads.labels(model, reason).inc()

    def answered(self, account: Account, key: str) -> None:
        usage, pace = account.usage, account.pace
        labels = model, key = self._bounded(account.model, key)
        self._prompt_tokens.labels(model, key).inc(usage.prompt_tokens)
        self._cached_tokens.labels(model, key).inc(usage.cached_tokens)
        self._prefill_s.labels(model, key).inc(usage.prompt_ns * _NS)
        if account.delays.restore_ns:
            self._prefix_hits.labels(model).inc()
        if pace is None:
            return
        self._answers.labels(model, key, "finished" if account.is_finished else "broken").inc()
        self._generated_tokens.labels(model, key).inc(usage.predicted_tokens)
        self._decode_s.labels(model, key).inc(usage.predicted_ns * _NS)
        self._drafted_tokens.labels(model).inc(usage.draft_tokens)
        self._accepted_tokens.labels(model).inc(usage.accepted_tokens)
        if pace.first_ns:
            self._first_token_s.labels(model, key).observe((pace.first_ns - account.began_ns) * _NS)
            self._paces.add(labels, pace)

    # --- what is shown ------------------------------------------------------------------------------------------------

    def render(self, scene: Scene, accept: str) -> tuple[bytes, str]:
        """The whole page and its content type: OpenMetrics for those who ask for it. It may run in any thread."""
        self._scene = scene
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    @property
    def scene(self) -> Scene | None:
        return self._scene

    @property
    def names(self) -> set[str]:
        """Of all metrics, as Prometheus keeps them."""
        found = set[str]()
        for metric in self._registry.collect():
            found |= _sample_names(metric)
        return found

    def _bounded(self, *labels: str) -> tuple[str, ...]:
        if labels not in self._series:
            if len(self._series) >= MAX_SERIES:
                return (OTHER,) * len(labels)
            self._series.add(labels)
        return labels

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"llamero_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"llamero_{name}", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, labels: Sequence[str], bounds_s: Sequence[float]) -> Histogram:
        return Histogram(f"llamero_{name}", meaning, labels, registry=self._registry, buckets=bounds_s)


_FAMILIES = (
    ("/v1/messages", "anthropic"),
    ("/v1/", "openai"),
    ("/v2/", "registry"),
    ("/api/llamero/", "llamero"),
    ("/api/", "native"),
)


def dialect_of(route: str) -> str:
    """Whose API a route belongs to; empty for those of nobody in particular."""
    return next((dialect for prefix, dialect in _FAMILIES if route.startswith(prefix)), "")


def _sample_names(metric: Metric) -> set[str]:
    match metric.type:
        case "counter":
            return {f"{metric.name}_total"}
        case "histogram":
            return {f"{metric.name}_{end}" for end in ("bucket", "sum", "count")}
    return {metric.name}


class _Paces(Collector):
    """The gaps between tokens: thousands for each answer, so that they are added up and not observed one by one."""

    def __init__(self) -> None:
        self._gaps: dict[tuple[str, ...], list[int]] = {}
        self._seconds: dict[tuple[str, ...], float] = {}

    def add(self, labels: tuple[str, ...], pace: Pace) -> None:
        before = self._gaps.get(labels)
        self._gaps[labels] = pace.gaps if before is None else [a + b for a, b in zip(before, pace.gaps, strict=True)]
        self._seconds[labels] = self._seconds.get(labels, 0.0) + pace.gaps_ns * _NS

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(
            "llamero_inter_token_seconds", "From one token of an answer to the next", labels=_PER_ANSWER
        )
        bounds = [*map(str, BOUNDS_S), "+Inf"]
        for labels, gaps in list(self._gaps.items()):
            buckets = [*zip(bounds, accumulate(gaps), strict=True)]
            family.add_metric(labels, buckets, self._seconds.get(labels, 0.0))
        yield family


class _Scenery(Collector):
    """What is so at the moment, from the scene that was handed in with the question."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        memory = GaugeMetricFamily(
            "llamero_model_memory_bytes", "Of loaded models, by where it is", labels=("model", "where")
        )
        loading = GaugeMetricFamily("llamero_model_loading_ratio", "How far loads have come, 0 to 1", labels=("model",))
        figures = {name: GaugeMetricFamily(f"llamero_{name}", meaning) for name, meaning in _FIGURES.items()}
        scene = self._metrics.scene
        if scene is not None:
            snapshot = scene.snapshot
            for view in snapshot.loaded:
                name, use = view.model.name.display, view.memory
                memory.add_metric((name, "gpu"), use.vram_bytes)
                memory.add_metric((name, "ram"), use.total_bytes - use.vram_bytes)
            for each in snapshot.loading:
                loading.add_metric((each.model.name.display,), each.progress)
            figures["models_loaded"].add_metric((), len(snapshot.loaded))
            figures["queue_requests"].add_metric((), len(snapshot.queue))
            figures["open_connections"].add_metric((), scene.connections)
            figures["prefix_cache_prompts"].add_metric((), scene.prompts)
            figures["prefix_cache_bytes"].add_metric((), scene.prompts_bytes)
            figures["prefix_cache_limit_bytes"].add_metric((), scene.prompts_limit_bytes)
        yield from (memory, loading, *figures.values())


_FIGURES = {
    "models_loaded": "Models that are in memory",
    "queue_requests": "Requests that wait for a model or for a slot of one",
    "open_connections": "Connections of clients",
    "prefix_cache_prompts": "Prompts that are saved on disk",
    "prefix_cache_bytes": "What they take",
    "prefix_cache_limit_bytes": "What they may take",
}
