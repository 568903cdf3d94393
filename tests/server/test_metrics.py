"""What is counted, and how it is shown. Requests to a real server are at the end."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llamero.durations import MS, SECOND
from llamero.messages import Delays, Usage
from llamero.scheduler.views import Snapshot
from llamero.server.account import Account, Exchange
from llamero.server.metrics import MAX_SERIES, Metrics, Scene, dialect_of
from llamero.server.pace import Pace
from tests.running import ENDLESS, Server, linked_copy, running

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "llamero.json"
DOCS = DASHBOARD.parents[2] / "docs"
NOTHING_LOADED = Snapshot((), (), ())
MODEL = "smollm2:135m"

Page = dict[str, list[tuple[dict[str, str], float]]]
"""Of each sample, its labels and values."""


def read_page(text: str) -> Page:
    page: Page = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            page.setdefault(sample.name, []).append((sample.labels, sample.value))
    return page


def page_of(metrics: Metrics) -> Page:
    scene = Scene(snapshot=NOTHING_LOADED, connections=3, prompts=2, prompts_bytes=5000, prompts_limit_bytes=10_000)
    return read_page(metrics.render(scene, "")[0].decode())


def value(page: Page, name: str, **labels: str) -> float:
    """The sum over all series that have these labels."""
    return sum(number for found, number in page.get(name, ()) if labels.items() <= found.items())


def account(model: str = MODEL, *, pace: Pace | None = None, **more: Any) -> Account:
    usage = Usage(prompt_tokens=30, cached_tokens=10, prompt_ns=SECOND, predicted_tokens=5, predicted_ns=2 * SECOND)
    times = {"began_ns": 0, "ready_ns": 100 * MS, "ended_ns": 4 * SECOND, "delays": Delays(), "usage": usage}
    return Account(**{**times, "model": model, "pace": pace, **more})


def paced(*arrivals_ms: int) -> Pace:
    now = iter([at * MS for at in arrivals_ms])
    pace = Pace(lambda: next(now))
    for number, _ in enumerate(arrivals_ms, 1):
        pace.hear(number)
    return pace


def exchange(route: str, status: int = 200, *, key: str = "", method: str = "POST") -> Exchange:
    return Exchange(method=method, route=route, status=status, key=key, began_ns=0, ended_ns=20 * MS)


def test_an_answer_is_counted_by_model_and_key() -> None:
    metrics = Metrics()
    metrics.answered(account(pace=paced(1500, 1510, 1535, 1560, 1760)), "ci")
    page, labels = page_of(metrics), {"model": MODEL, "key": "ci"}
    assert value(page, "llamero_answers_total", end="finished", **labels) == 1
    assert value(page, "llamero_prompt_tokens_total", **labels) == 30
    assert value(page, "llamero_cached_tokens_total", **labels) == 10
    assert value(page, "llamero_generated_tokens_total", **labels) == 5
    assert value(page, "llamero_decode_seconds_total", **labels) == 2
    assert value(page, "llamero_time_to_first_token_seconds_sum", **labels) == 1.5
    assert value(page, "llamero_inter_token_seconds_count", **labels) == 4
    assert value(page, "llamero_inter_token_seconds_sum", **labels) == pytest.approx(0.26)
    assert value(page, "llamero_inter_token_seconds_bucket", le="0.01", **labels) == 1
    assert value(page, "llamero_inter_token_seconds_bucket", le="0.03", **labels) == 3
    assert value(page, "llamero_inter_token_seconds_bucket", le="+Inf", **labels) == 4


def test_gaps_of_several_answers_add_up() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.answered(account(pace=paced(1, 11, 21)), "")
    assert value(page_of(metrics), "llamero_inter_token_seconds_count", model=MODEL) == 6


def test_texts_that_become_vectors_are_no_answers() -> None:
    metrics = Metrics()
    metrics.answered(account(), "")
    page = page_of(metrics)
    assert value(page, "llamero_prompt_tokens_total") == 30
    assert value(page, "llamero_answers_total") == value(page, "llamero_generated_tokens_total") == 0


def test_what_is_broken_off_is_told_apart() -> None:
    metrics = Metrics()
    metrics.answered(account(pace=paced(5), is_finished=False), "")
    assert value(page_of(metrics), "llamero_answers_total", end="broken") == 1


def test_speculation_and_prompts_from_disk() -> None:
    metrics = Metrics()
    usage = Usage(prompt_tokens=9, predicted_tokens=9, draft_tokens=8, accepted_tokens=6)
    metrics.answered(account(usage=usage, pace=paced(1), delays=Delays(restore_ns=7)), "")
    page = page_of(metrics)
    assert value(page, "llamero_drafted_tokens_total", model=MODEL) == 8
    assert value(page, "llamero_accepted_tokens_total", model=MODEL) == 6
    assert value(page, "llamero_prefix_cache_hits_total", model=MODEL) == 1


def test_requests_by_route_status_dialect_and_key() -> None:
    metrics = Metrics()
    metrics.leaves(exchange("/api/chat", key="ci"))
    metrics.leaves(exchange("/v1/messages", 503))
    page = page_of(metrics)
    assert value(page, "llamero_requests_total", route="/api/chat", status="200", dialect="native", key="ci") == 1
    assert value(page, "llamero_requests_total", route="/v1/messages", status="503", dialect="anthropic") == 1
    assert value(page, "llamero_request_seconds_sum") == pytest.approx(0.04)


def test_no_word_of_a_stranger_becomes_a_label() -> None:
    metrics = Metrics()
    metrics.leaves(exchange("", 404, method="HACK"))
    ((labels, _),) = page_of(metrics)["llamero_requests_total"]
    assert labels == {"route": "other", "method": "other", "dialect": "", "status": "404", "key": ""}


def test_a_client_that_left_before_there_was_a_status() -> None:
    metrics = Metrics()
    metrics.leaves(exchange("/api/chat", 0))
    assert value(page_of(metrics), "llamero_requests_total", status="499") == 1


def test_models_and_keys_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 50):
        metrics.answered(account(f"m{number}:latest", pace=paced(1, 2)), f"k{number}")
    page = page_of(metrics)
    assert len(page["llamero_answers_total"]) == MAX_SERIES + 1
    assert value(page, "llamero_answers_total", model="other", key="other") == 50
    assert value(page, "llamero_answers_total", model="m0:latest", key="k0") == 1


def test_the_scene_and_the_process() -> None:
    page = page_of(Metrics())
    assert value(page, "llamero_open_connections") == 3
    assert value(page, "llamero_prefix_cache_bytes") == 5000
    assert value(page, "llamero_queue_requests") == value(page, "llamero_models_loaded") == 0
    assert value(page, "process_resident_memory_bytes") > 2**20
    assert value(page, "process_open_fds") > 2
    assert not any(name.startswith("python_") or name.endswith("_created") for name in page)


def test_openmetrics_for_those_who_ask_for_it() -> None:
    scene = Scene(snapshot=NOTHING_LOADED, connections=0, prompts=0, prompts_bytes=0, prompts_limit_bytes=0)
    page, content_type = Metrics().render(scene, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


def test_two_servers_in_one_process_share_nothing() -> None:
    one, other = Metrics(), Metrics()
    one.leaves(exchange("/api/chat"))
    assert "llamero_requests_total" not in page_of(other)


@pytest.mark.parametrize(
    ("route", "dialect"),
    [
        ("/api/chat", "native"),
        ("/api/llamero/cache", "llamero"),
        ("/v1/chat/completions", "openai"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v2/{name}", "registry"),
        ("/metrics", ""),
    ],
)
def test_whose_api_a_route_belongs_to(route: str, dialect: str) -> None:
    assert dialect_of(route) == dialect


# --- the dashboard ---


def queries() -> Iterator[str]:
    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (text for name in ("expr", "query") if isinstance(text := node.get(name), str))
            for child in node.values():
                yield from walk(child)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    yield from walk(json.loads(DASHBOARD.read_text()))


def test_the_dashboard_asks_for_nothing_that_is_not_there() -> None:
    asked = {name for query in queries() for name in re.findall(r"\b(?:llamero|process)_\w+", query)}
    exported = Metrics().names
    assert asked <= exported
    assert len(asked) > 20


def test_the_dashboard_shows_everything_of_ours() -> None:
    text = "\n".join(queries())
    ours = {name for name in Metrics().names if name.startswith("llamero_")}
    unseen = {name for name in ours if name not in text and not name.endswith(("_sum", "_count"))}
    assert unseen == {"llamero_prefix_cache_prompts"}


@pytest.mark.parametrize("page", ["monitoring.md", "monitoring.zh-CN.md"])
def test_the_guide_lists_what_there_is(page: str) -> None:
    told = set(re.findall(r"`(llamero_\w+)`", (DOCS / page).read_text()))
    ours = {name for name in Metrics().names if name.startswith("llamero_")}
    assert told == {re.sub("_(bucket|sum|count)$", "", name) for name in ours}


# --- a real server ---

ADMIN, INFER = "admin-secret-of-the-test", "infer-secret-of-the-test"


def bearing(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def keyed(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("metrics")
    models = linked_copy(starter_models, folder / "models")
    with running(folder, models, OLLAMA_API_KEY=f"boss=admin:{ADMIN},app=infer:{INFER}") as started:
        yield started


def test_a_real_answer(keyed: Server) -> None:
    body = {"model": MODEL, "prompt": "Count to ten:", "stream": False, "options": {"num_predict": 12, "seed": 1}}
    reply = keyed.post("/api/generate", body, headers=bearing(INFER)).json()
    keyed.post("/api/generate", {**body, "model": "no-such-model"}, headers=bearing(INFER))
    page_reply = keyed.get("/metrics", headers=bearing(ADMIN))
    assert page_reply.status == 200
    page = read_page(page_reply.body.decode())
    labels = {"model": MODEL, "key": "app"}
    assert value(page, "llamero_generated_tokens_total", **labels) == reply["eval_count"] == 12
    assert value(page, "llamero_prompt_tokens_total", **labels) == reply["prompt_eval_count"]
    assert value(page, "llamero_inter_token_seconds_count", **labels) == 11
    assert 0 < value(page, "llamero_time_to_first_token_seconds_sum", **labels) < reply["total_duration"] / SECOND
    assert value(page, "llamero_model_loads_total", model=MODEL, result="ok") == 1
    assert value(page, "llamero_queue_wait_seconds_count", model=MODEL) == 1
    assert value(page, "llamero_model_memory_bytes", model=MODEL, where="ram") > 50 * 2**20
    assert value(page, "llamero_requests_total", route="/api/generate", key="app", status="404") == 1
    assert value(page, "llamero_requests_in_flight") == 1, "this request for the page"
    assert value(page, "llamero_open_connections") >= 1
    assert "no-such-model" not in page_reply.body.decode()


def test_what_a_client_leaves_in_the_middle_was_written_all_the_same(keyed: Server) -> None:
    def page() -> Page:
        return read_page(keyed.get("/metrics", headers=bearing(ADMIN)).body.decode())

    labels = {"model": MODEL, "key": "boss"}
    connection = http.client.HTTPConnection("127.0.0.1", keyed.port, timeout=60)
    body = {"model": MODEL, "prompt": "Numbers:", "options": {"grammar": ENDLESS, "num_predict": -1}}
    connection.request("POST", "/api/generate", json.dumps(body), bearing(ADMIN))
    with contextlib.closing(connection), connection.getresponse() as answer:
        for _ in range(5):
            answer.readline()
        assert value(page(), "llamero_requests_in_flight") == 2
    keyed.wait_until(lambda: value(page(), "llamero_answers_total", end="broken", **labels) == 1)
    assert value(page(), "llamero_generated_tokens_total", **labels) >= 5
    assert value(page(), "llamero_requests_in_flight") == 1


PRIVATE = ("/metrics", "/openapi.json", "/debug", "/debug/vars", "/debug/pprof/", "/docs", "/redoc")


@pytest.mark.parametrize("path", PRIVATE)
def test_x53_only_an_admin_looks_inside(keyed: Server, path: str) -> None:
    """X-53"""
    exists = path in ("/metrics", "/openapi.json")
    assert keyed.get(path).status == 401
    assert keyed.get(path, headers=bearing(INFER)).status == 403
    assert keyed.get(path, headers=bearing(ADMIN)).status == (200 if exists else 404)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key_and_is_one_word(keyed: Server, path: str) -> None:
    keyed.wait_until(lambda: keyed.get("/readyz").status == 200)
    reply = keyed.get(path)
    assert (reply.status, reply.json()) == (200, {"status": "ok"})
    head = keyed.call("HEAD", path)
    assert (head.status, head.body) == (200, b"")
