"""What a reply tells of its tokens and times, and how an answer ends, on the real engine and SmolLM2.

Everything here holds for chats, for prompts and for raw prompts, streamed or not (native-api §2.3, §2.8 to §2.10;
scheduler §12 to §14).
"""

from __future__ import annotations

import itertools
import re
import threading
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.running import ENDLESS, Reply, Server

pytestmark = pytest.mark.heavy
"""A minute and more: every case is asked of the real model in several ways."""

M = "smollm2:135m"
KINDS = ("chat", "generate", "raw")
NUMBERS = " five six seven eight nine ten"
EMOJI = "😀😃😄😁😆 😀😃😄😁😆 😀😃😄"
"""What follows is more of them, and each is two or three tokens of this model."""

TIMINGS = (
    "queued_ms",
    "load_ms",
    "restore_ms",
    "prompt_tokens",
    "cached_tokens",
    "prefill_ms",
    "predicted_tokens",
    "decode_ms",
    "draft_tokens",
    "accepted_tokens",
)

kinds = pytest.mark.parametrize("kind", KINDS)
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "object"])


def ask(server: Server, kind: str, text: str = "Count: one two three four", **body: Any) -> Reply:
    options = {"temperature": 0, "num_predict": 12, **body.pop("options", {})}
    body = {"model": M, "options": options, **body}
    if kind == "chat":
        return server.post("/api/chat", {"messages": [{"role": "user", "content": text}], **body}, timeout_s=300)
    return server.post("/api/generate", {"prompt": text, "raw": kind == "raw", **body}, timeout_s=300)


def say(server: Server, kind: str, text: str, **body: Any) -> Reply:
    """Let the model write just this."""
    options = {"grammar": f'root ::= "{text}"', "num_predict": 40, **body.pop("options", {})}
    return ask(server, kind, options=options, **body)


def text_of(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return "".join(line["message"]["content"] if "message" in line else line["response"] for line in reply.lines())


def last_of(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.body
    return dict(reply.lines()[-1])


def entries_of(reply: Reply) -> list[dict[str, Any]]:
    return [entry for line in reply.lines() for entry in line.get("logprobs", [])]


# --- log-probabilities -----------------------------------------------------------------------------------------------


@both_ways
@kinds
def test_n104_one_entry_per_token_also_of_parts_of_characters(server: Server, kind: str, stream: bool) -> None:
    """N-104. `bytes` are those of the token; `token` is their text, where they are any."""
    for temperature in (0, 1.0):
        options = {"temperature": temperature, "seed": 3, "num_predict": 14}
        reply = ask(server, kind, EMOJI, stream=stream, logprobs=True, options=options)
        entries = entries_of(reply)
        assert abs(len(entries) - last_of(reply)["eval_count"]) <= 2
        assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == text_of(reply)
        for entry in entries:
            assert set(entry) == {"token", "logprob", "bytes"}
            assert entry["logprob"] <= 0
            assert bytes(entry["bytes"]).decode(errors="replace") == entry["token"]
        assert "warnings" not in last_of(reply)


@kinds
def test_n104_entries_travel_with_their_text(server: Server, kind: str) -> None:
    lines = ask(server, kind, logprobs=True).lines()
    for line in lines[:-1]:
        text = line["message"]["content"] if kind == "chat" else line["response"]
        assert "".join(entry["token"] for entry in line["logprobs"]) == text


@both_ways
@kinds
def test_n104_entries_of_text_that_a_stop_string_holds_back_or_cuts_off(
    server: Server, kind: str, stream: bool
) -> None:
    reply = say(server, kind, NUMBERS, stream=stream, logprobs=True, options={"stop": [" five six zzz", "eight nine"]})
    assert text_of(reply) == " five six seven "
    assert "".join(entry["token"] for entry in entries_of(reply)) == " five six seven eight nine"
    assert abs(len(entries_of(reply)) - last_of(reply)["eval_count"]) <= 2


@kinds
@pytest.mark.parametrize("top", [1, 20])
def test_n105_alternatives_begin_with_the_likeliest(server: Server, kind: str, top: int) -> None:
    """N-105. A greedy answer takes the first."""
    entries = entries_of(ask(server, kind, EMOJI, logprobs=True, top_logprobs=top))
    assert entries
    for entry in entries:
        values = [other["logprob"] for other in entry["top_logprobs"]]
        assert len(values) == top
        assert values == sorted(values, reverse=True)
        assert entry["top_logprobs"][0]["bytes"] == entry["bytes"]
    none = entries_of(ask(server, kind, logprobs=True, top_logprobs=0))
    assert none
    assert not any("top_logprobs" in entry for entry in none)


# --- how an answer ends ----------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize(
    ("stops", "text"),
    [
        pytest.param(["even"], " five six s", id="inside a token"),
        pytest.param(["seven eight"], " five six ", id="over two tokens"),
        pytest.param([" six seven eight nine ten"], " five", id="over five tokens"),
        pytest.param(["six eight", "ix seven"], " five s", id="one begins where another fails"),
        pytest.param(["n e", "en ei"], " five six sev", id="the earlier of two"),
        pytest.param([" five"], "", id="at once"),
        pytest.param(["nothing", "nine zzz"], NUMBERS, id="never"),
        pytest.param([f"{number} zzz" for number in range(63)] + [" ten"], " five six seven eight nine", id="the most"),
    ],
)
def test_n68_stop_strings(server: Server, kind: str, stops: list[str], text: str) -> None:
    """N-68, also where one is spread over several tokens."""
    for stream in (True, False):
        reply = say(server, kind, NUMBERS, stream=stream, options={"stop": stops})
        assert (text_of(reply), last_of(reply)["done_reason"]) == (text, "stop")


@both_ways
@kinds
def test_text_that_might_have_begun_a_stop_string_is_there_at_the_limit(
    server: Server, kind: str, stream: bool
) -> None:
    whole = say(server, kind, NUMBERS, options={"num_predict": 4})
    reply = say(server, kind, NUMBERS, stream=stream, options={"num_predict": 4, "stop": [f"{NUMBERS} zzz"]})
    assert text_of(reply) == text_of(whole) != ""
    assert last_of(reply)["done_reason"] == "length"


def test_an_empty_stop_string_is_named_and_ends_nothing(server: Server) -> None:
    reply = say(server, "raw", " five six", options={"stop": ["", " six"]})
    assert text_of(reply) == " five"
    assert last_of(reply)["warnings"] == ["option 'stop': an empty text has no effect"]
    assert "stop" in reply.headers["Llamero-Warning"]


@both_ways
@kinds
def test_characters_arrive_whole(server: Server, kind: str, stream: bool) -> None:
    """Whatever the limit cuts in the middle."""
    texts = [text_of(ask(server, kind, EMOJI, stream=stream, options={"num_predict": limit})) for limit in range(1, 6)]
    assert not any("\ufffd" in text for text in texts)
    assert all(longer.startswith(shorter) for shorter, longer in itertools.pairwise(texts))
    assert texts[-1] == text_of(ask(server, kind, EMOJI, stream=not stream, options={"num_predict": 5}))


@kinds
@pytest.mark.parametrize("limit", [0, -1, -2, 2**70])
def test_limits_that_are_none(server: Server, kind: str, limit: int) -> None:
    reply = say(server, kind, "yes", options={"num_predict": limit})
    assert (text_of(reply), last_of(reply)["done_reason"]) == ("yes", "stop")


@both_ways
@kinds
@pytest.mark.parametrize("limit", [1, 5])
def test_n67_a_limit_is_a_number_of_tokens(server: Server, kind: str, stream: bool, limit: int) -> None:
    """N-67."""
    last = last_of(ask(server, kind, stream=stream, options={"num_predict": limit, "grammar": ENDLESS}))
    assert (last["eval_count"], last["done_reason"]) == (limit, "length")


@pytest.mark.parametrize(
    ("option", "value"),
    [("repeat_last_n", -1), ("repeat_last_n", 10**12), ("num_keep", -5), ("num_keep", 10**12), ("top_k", 10**12)],
)
def test_numbers_beyond_the_engines_own_bounds_mean_what_they_say(server: Server, option: str, value: int) -> None:
    assert text_of(ask(server, "raw", options={option: value}))


# --- the window ------------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize(("keep", "kept", "stream"), [(4, 4, True), (0, 0, False), (1000, 60, True)])
def test_an_answer_that_outgrows_its_window_goes_on_and_says_what_was_discarded(
    server: Server, kind: str, keep: int, kept: int, stream: bool
) -> None:
    """Native-api §2.9, step 3; the numbers themselves stand in tests/chat/test_shift.py."""
    options = {"num_ctx": 64, "num_predict": 100, "grammar": ENDLESS, "num_keep": keep}
    last = last_of(ask(server, kind, "Hi", stream=stream, options=options))
    assert (last["eval_count"], last["done_reason"]) == (100, "length")
    (warning,) = last["warnings"]
    said = re.fullmatch(r"the answer outgrew the context: (\d+) tokens after the first (\d+) were discarded", warning)
    assert said is not None
    assert int(said[2]) == kept
    assert last["prompt_eval_count"] + 100 - int(said[1]) <= 64, "the rest fits"


@kinds
def test_without_shift_an_answer_ends_where_its_window_does(server: Server, kind: str) -> None:
    """Also where the window is no multiple of what the engine would round it up to."""
    for window in (64, 100):
        options = {"num_ctx": window, "num_predict": 1000, "grammar": ENDLESS}
        last = last_of(ask(server, kind, "Hi", shift=False, options=options))
        assert last["prompt_eval_count"] + last["eval_count"] == window
        assert last["done_reason"] == "length"
        assert "warnings" not in last


def test_an_answer_without_end_is_ended_after_ten_windows(server: Server) -> None:
    for limit in (-1, 10**6):
        options = {"num_ctx": 4, "num_predict": limit, "grammar": ENDLESS}
        last = last_of(ask(server, "raw", "Hi", options=options))
        assert (last["eval_count"], last["done_reason"]) == (40, "length")
        assert "the answer was ended after 40 tokens, 10 times the context" in last["warnings"]


LONG = " ".join(f"word{number}" for number in range(300))
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@both_ways
@pytest.mark.parametrize("kind", ["generate", "raw"])
def test_r64_long_prompts_lose_their_middle(server: Server, kind: str, stream: bool) -> None:
    """R-64; native-api §2.9, step 2, with `truncate` and `shift`."""
    body = {"stream": stream, "options": {"num_ctx": 128}}
    reply = ask(server, kind, LONG, **body)
    last = last_of(reply)
    assert last["prompt_eval_count"] == 128 - (128 - 4) // 2
    (warning,) = last["warnings"]
    assert reply.headers["Llamero-Warning"] == warning
    said = re.fullmatch(r"the prompt is longer than the context: (\d+) of (\d+) tokens left out", warning)
    assert said is not None
    assert int(said[2]) - int(said[1]) == last["prompt_eval_count"]
    refused = ask(server, kind, LONG, shift=False, **body)
    assert (refused.status, refused.error) == (400, TOO_LONG)


@kinds
@pytest.mark.parametrize("shift", [True, False])
def test_n101_nothing_is_cut_that_must_not_be(server: Server, kind: str, shift: bool) -> None:
    """N-101: without `truncate` the engine's own refusal is passed on."""
    refused = ask(server, kind, LONG, truncate=False, shift=shift, options={"num_ctx": 128})
    assert refused.status == 400
    assert "exceeds the available context size (128 tokens)" in refused.error


def test_n70_a_context_of_tokens_that_do_not_exist_is_refused(server: Server) -> None:
    """Partly N-70."""
    for context in ([99_999_999], [-1], [2**40]):
        refused = ask(server, "generate", context=context)
        assert (refused.status, refused.error) == (400, f"context: {context[0]} is not a token of this model")


# --- the same again --------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_n69_r76_the_same_seed_gives_the_same_text(server: Server, kind: str, temperature: float) -> None:
    """R-76, N-69: five times, then behind another prompt, after a reload, and with a prompt of several batches."""
    options = {"seed": 42, "temperature": temperature, "num_predict": 8}

    def answer(text: str = "Tell me a story.", **body: Any) -> str:
        return text_of(ask(server, kind, text, options=options, **body))

    answers = {answer() for _ in range(5)}
    ask(server, kind, "Tell me a story about a hen and a fox.", options={"num_predict": 1})
    answers.add(answer(stream=False))
    server.unload_all()
    answers.add(answer())
    assert len(answers) == 1
    if temperature and kind == "raw":
        assert len({answer("The quick brown fox jumps. " * 90) for _ in range(2)}) == 1


def test_different_seeds_give_different_texts(server: Server) -> None:
    def answer(seed: int) -> str:
        return text_of(ask(server, "raw", "Once upon a time", options={"seed": seed, "temperature": 1.2}))

    assert len({answer(seed) for seed in range(4)}) > 1
    assert answer(2**32 - 1) == answer(2**32 - 1), "the engine's own word for a random seed"


# --- figures ---------------------------------------------------------------------------------------------------------


@both_ways
@kinds
def test_r59_a_repeated_prompt_counts_in_full_and_comes_from_the_cache(server: Server, kind: str, stream: bool) -> None:
    """R-59, R-60 and `timings` of native-api §2.10: in the final object only."""
    text = f"{kind} {stream} " + "Tell me about the sea. " * 20
    first, again = (ask(server, kind, text, stream=stream, timings=True) for _ in range(2))
    assert all("timings" not in line for line in again.lines()[:-1])
    before, after = last_of(first), last_of(again)
    for last in (before, after):
        timings = last["timings"]
        assert tuple(timings) == TIMINGS
        assert all(isinstance(value, int | float) and value >= 0 for value in timings.values())
        assert timings["prompt_tokens"] == last["prompt_eval_count"]
        assert timings["predicted_tokens"] == last["eval_count"] == 12
        assert timings["prefill_ms"] == pytest.approx(last["prompt_eval_duration"] / 1e6, abs=0.001)
        assert timings["decode_ms"] == pytest.approx(last["eval_duration"] / 1e6, abs=0.001)
        stages = last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"]
        assert stages <= last["total_duration"]
        assert timings["restore_ms"] == timings["draft_tokens"] == timings["accepted_tokens"] == 0
    assert after["prompt_eval_count"] == before["prompt_eval_count"]
    assert after["timings"]["cached_tokens"] >= before["prompt_eval_count"] - 1
    assert before["timings"]["cached_tokens"] < 40
    assert after["prompt_eval_duration"] <= before["prompt_eval_duration"]


@kinds
def test_figures_are_told_when_they_are_asked_for(server: Server, kind: str) -> None:
    for body in ({}, {"timings": False}, {"timings": None}):
        assert "timings" not in last_of(ask(server, kind, **body))
    assert ask(server, kind, timings=1).status == 400


def test_r61_a_load_shows_in_the_figures(server: Server) -> None:
    """R-61: large on the first request, small afterwards."""
    server.unload_all()
    cold, warm = (last_of(ask(server, "chat", timings=True)) for _ in range(2))
    assert 50 < cold["timings"]["load_ms"] <= cold["load_duration"] / 1e6 <= cold["total_duration"] / 1e6
    assert warm["timings"]["load_ms"] == 0
    assert 0 < warm["load_duration"] < cold["load_duration"]


def test_waiting_for_a_slot_shows_in_the_figures(start_server: StartServer) -> None:
    server = start_server(OLLAMA_NUM_PARALLEL="1")
    ask(server, "raw")
    waited: list[dict[str, Any]] = []

    def wait() -> None:
        waited.append(last_of(ask(server, "raw", timings=True)))

    body = {"model": M, "prompt": "Hi", "raw": True, "options": {"num_predict": 5000, "grammar": ENDLESS}}
    with server.streaming("/api/generate", body) as response:
        assert response.readline()
        second = threading.Thread(target=wait)
        second.start()
        for _ in range(20):
            assert response.readline()
    second.join()
    (last,) = waited
    assert last["timings"]["queued_ms"] > 20
    assert last["timings"]["load_ms"] == 0
    assert last["timings"]["queued_ms"] <= last["load_duration"] / 1e6


def test_figures_of_an_embedding(server: Server) -> None:
    body = {"model": "all-minilm:22m", "input": ["one", "two words"]}
    assert "timings" not in server.post("/api/embed", body).json()
    reply = server.post("/api/embed", {**body, "timings": True}).json()
    timings = reply["timings"]
    assert tuple(timings) == TIMINGS
    assert timings["prompt_tokens"] == reply["prompt_eval_count"] > 0
    assert 0 < timings["prefill_ms"] <= reply["total_duration"] / 1e6
    assert timings["predicted_tokens"] == timings["decode_ms"] == 0
    only_loaded = server.post("/api/embed", {"model": "all-minilm:22m", "timings": True}).json()
    assert set(only_loaded) == {"model", "embeddings", "timings"}
    assert set(only_loaded["timings"]) == set(TIMINGS)


# --- long prompts ----------------------------------------------------------------------------------------------------


EIGHT_THOUSAND = "The sea is wide and blue. " * 1142
"""Seven tokens each time."""


@pytest.mark.heavy
@pytest.mark.timeout(600)
@kinds
def test_a_prompt_of_8000_tokens_is_read_whole(server: Server, kind: str) -> None:
    """In the model's full window; it takes half a minute the first time."""
    last = last_of(ask(server, kind, EIGHT_THOUSAND, options={"num_ctx": 8192, "num_predict": 4}))
    assert 7_990 < last["prompt_eval_count"] < 8_100
    assert last["eval_count"] == 4
    assert "warnings" not in last


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_prompt_of_8000_tokens_in_the_default_window_is_cut_and_named(server: Server) -> None:
    for kind in ("generate", "raw"):
        last = last_of(ask(server, kind, EIGHT_THOUSAND))
        assert last["prompt_eval_count"] == 4096 - (4096 - 4) // 2
        (warning,) = last["warnings"]
        assert warning.startswith("the prompt is longer than the context: ")
    refused = ask(server, "chat", EIGHT_THOUSAND)  # a message is never cut
    assert refused.status == 400
    assert "exceeds the available context size" in refused.error
