"""Several requests on one engine: slots, one KV cache for all of them, and turns. Source: scheduler §4.7, §9.5."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from llamero.scheduler.loop import SAVE_IDLE_S
from tests.conftest import StartServer
from tests.running import Server

M = "smollm2:135m"
ONE_WINDOW = 8192
"""SmolLM2's longest window: the pool holds it once."""


def answer(server: Server, prompt: str, **more: Any) -> tuple[float, float, list[dict[str, Any]]]:
    """When its first token and its end arrived, and all lines."""
    options = {"temperature": 0, "num_ctx": ONE_WINDOW, **more.pop("options", {})}
    body = {"model": M, "messages": [{"role": "user", "content": prompt}], "options": options}
    arrivals, lines = [], []
    with server.streaming("/api/chat", body | more) as response:
        for line in response:
            arrivals.append(time.monotonic())
            lines.append(json.loads(line))
    assert lines[-1].get("done"), lines[-1]
    return arrivals[0], arrivals[-1], lines


def together(server: Server, prompts: list[str], **more: Any) -> list[tuple[float, float, list[dict[str, Any]]]]:
    with ThreadPoolExecutor(len(prompts)) as threads:
        return list(threads.map(lambda prompt: answer(server, prompt, **more), prompts))


@pytest.fixture(scope="module")
def loaded(server: Server) -> Server:
    answer(server, "Hi", options={"num_predict": 1})
    return server


def test_r73_open_ended_requests_beyond_the_pool_run_one_after_the_other(loaded: Server) -> None:
    """R-73: none fails; a lone one has all slots and the whole pool to itself (bench/parallel.py measures it)."""
    spans = sorted((first, last) for first, last, _ in together(loaded, ["Say hello.", "Say hi.", "Say bye."]))
    for (_, end), (begin, _) in pairwise(spans):
        assert begin >= end - 0.05, "one began before another had ended"


def test_r73_short_bounded_requests_run_together(loaded: Server) -> None:
    prompts = ["Count to a hundred.", "Tell a story.", "Name animals.", "What is a tree?"]
    spans = together(loaded, prompts, options={"num_predict": 40})
    begun = max(first for first, _, _ in spans)
    ended = min(last for _, last, _ in spans)
    assert begun < ended, "all had begun before one ended"


def test_a_text_is_the_same_beside_others_and_alone(loaded: Server) -> None:
    """Greedy, and as long as no two tokens are nearly alike: a batch sums in another order."""
    alone = answer(loaded, "What is two and two?", options={"num_predict": 12})[2]
    beside = together(loaded, ["What is two and two?", "Name a colour.", "Name a city."], options={"num_predict": 12})[
        0
    ][2]
    text, other = ("".join(line["message"]["content"] for line in lines) for lines in (alone, beside))
    assert text[:20] == other[:20]


@pytest.mark.heavy
def test_requests_that_fill_the_pool_together_all_get_their_answer(loaded: Server) -> None:
    """Each may fill a third of the pool and a bit: a fourth at a time would make the engine fail all of them."""
    spans = together(loaded, [f"{number}: go on." for number in range(5)], options={"num_predict": 2500, "stop": [","]})
    assert len(spans) == 5


@pytest.mark.heavy
def test_what_nobody_came_back_to_is_cleared_away_for_whoever_writes(loaded: Server) -> None:
    """It would slow every token down. Whoever comes back later has the prompt read again, and the same answer."""
    prompts = ["Name five animals.", "Name five colours.", "Name five cities."]
    options = {"num_predict": 40}

    def cached(prompt: str) -> int:
        return int(answer(loaded, prompt, options=options, timings=True)[2][-1]["timings"]["cached_tokens"])

    together(loaded, prompts, options=options)
    together(loaded, prompts, options=options)
    at_once = min(cached(prompt) for prompt in prompts)
    time.sleep(SAVE_IDLE_S + 0.5)
    answer(loaded, "What is the capital of France, and how many people live there?", options=options)
    later = min(cached(prompt) for prompt in prompts)
    assert later < at_once


@pytest.mark.heavy
def test_two_conversations_in_turns_each_keep_their_prompt(loaded: Server) -> None:
    def ask(messages: list[dict[str, str]]) -> tuple[str, int]:
        body = {"model": M, "messages": messages, "max_tokens": 4, "temperature": 0, "options": {"num_ctx": ONE_WINDOW}}
        reply = loaded.post("/v1/chat/completions", body).json()
        return reply["choices"][0]["message"]["content"], reply["usage"]["prompt_tokens_details"]["cached_tokens"]

    talks = [[{"role": "user", "content": f"{word} " * 200}] for word in ("apple", "bridge", "cloud")]
    for messages in talks:
        content, _ = ask(messages)
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": "Go on."}]
    for messages in talks:
        _, cached = ask(messages)
        assert cached > 150


@pytest.mark.heavy
def test_a_seeds_text_does_not_depend_on_what_other_slots_hold(loaded: Server) -> None:
    """Partly R-76: also in a cache that is shared."""

    def seeded() -> str:
        lines = answer(loaded, "Tell a story.", options={"seed": 7, "temperature": 0.8, "num_predict": 40})[2]
        return "".join(line["message"]["content"] for line in lines)

    texts = set()
    for between in ("Name a colour.", "Name a city.", "Name three rivers."):
        texts.add(seeded())
        answer(loaded, between, options={"num_predict": 20})
    assert len(texts) == 1


@pytest.mark.heavy
def test_several_answers_are_the_texts_of_their_seeds_where_nothing_is_computed_together(
    start_server: StartServer,
) -> None:
    """Side by side they are not: a batch sums in another order, and what is drawn soon differs."""
    server = start_server(OLLAMA_NUM_PARALLEL="1")

    def choices(seed: int, n: int = 1) -> list[str]:
        said = {"messages": [{"role": "user", "content": "Tell a story."}], "temperature": 0.8, "max_tokens": 40}
        reply = server.post("/v1/chat/completions", {"model": M, **said, "seed": seed, "n": n}).json()
        return [each["message"]["content"] for each in reply["choices"]]

    alone = [text for seed in (7, 8, 9) for text in choices(seed)]
    assert choices(7, n=3) == alone
    assert len(set(alone)) == 3


def test_r74_batch_requests_give_way(start_server: StartServer) -> None:
    """Partly R-74: the thirty seconds are in tests/scheduler/test_line.py."""
    server = start_server(OLLAMA_NUM_PARALLEL="1")
    answer(server, "Hi", options={"num_predict": 1})
    order: list[str] = []

    def ask(name: str, **headers: str) -> None:
        body = {"model": M, "prompt": name, "stream": False, "options": {"num_predict": 30, "num_ctx": ONE_WINDOW}}
        assert server.post("/api/generate", body, headers=headers).status == 200
        order.append(name)

    def ask_flex(name: str) -> None:
        body = {"model": M, "prompt": name, "max_tokens": 4, "options": {"num_ctx": ONE_WINDOW}, "service_tier": "flex"}
        assert server.post("/v1/completions", body).status == 200
        order.append(name)

    with ThreadPoolExecutor(5) as threads:
        for work in (
            lambda: ask("first"),
            lambda: ask("batch", **{"Llamero-Priority": "batch"}),
            lambda: ask_flex("flex"),
            lambda: ask("person"),
            lambda: ask("other person"),
        ):
            threads.submit(work)
            time.sleep(0.02)
    assert order == ["first", "person", "other person", "batch", "flex"]
