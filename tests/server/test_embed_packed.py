"""Many texts in one request: read together, they have the vectors that each has alone (scheduler §16).

On the real engine; where the engine has to misbehave, on a scripted one.
"""

from __future__ import annotations

import base64
import math
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamero.build.convert.conversion import convert
from llamero.build.rewrite import Source, rewrite
from llamero.engines import POOLING_CALLS
from llamero.scheduler.slots import POOLING_SLOTS
from tests.build.convert.tiny_decoder import DATA
from tests.rank_models import GOODNESS, write_ranker
from tests.running import Reply, Server
from tests.server.puppet import Puppet
from tests.server.test_embed import E, cosine
from tests.server.tiny_models import make

MEAN, LAST = 1, 3
"""llama.cpp's numbers for kinds of pooling."""
WINDOW = 512
"""Of all-MiniLM, in tokens, and its batch."""

WORDS = "boats drift past seven quiet harbours while an old clock strikes and nobody comes home before dawn".split()


def text(words: int, at: int = 0) -> str:
    return " ".join(WORDS[(at + 5 * place + place // 7) % len(WORDS)] for place in range(words))


UNEQUAL = [text(words, at) for at, words in enumerate([1, 320, 2, 5, 64, 1, 200, 11, 3, 130, 30, 2, 17, 90, 1, 7])]

Make = Callable[[Server, Path], str]


def quantized(level: str) -> Make:
    return lambda server, folder: make(server, f"minilm-{level}", from_=E, quantize=level)


def causal(pooling: int) -> Make:
    """A tiny model with a K/V cache, which takes the last or the mean of what its texts are."""

    def create(server: Server, folder: Path) -> str:
        plain, path = folder / "plain.gguf", folder / f"causal-{pooling}.gguf"
        convert(DATA / "hf-tiny" / "qwen3", plain)
        with plain.open("rb") as file, path.open("wb") as target:
            source = Source(file)
            target.writelines(rewrite(source, source.parts, {"qwen3.pooling_type": pooling}))
        return make(server, f"causal-{pooling}", [path])

    return create


@pytest.fixture(scope="module")
def good(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny encoder that knows six words."""
    path = write_ranker(tmp_path_factory.mktemp("good") / "good.gguf", pooling=MEAN)
    return make(server, "good", [path])


def embed(server: Server, model: str, given: Any, **more: Any) -> Reply:
    reply = server.post("/api/embed", {"model": model, "input": given} | more)
    assert reply.status == 200, reply.body
    return reply


def vectors(reply: Reply) -> list[list[float]]:
    found: list[list[float]] = reply.json()["embeddings"]
    return found


@pytest.mark.parametrize(
    ("create", "least"),
    [
        pytest.param(lambda server, folder: E, 0.9999, id="F16", marks=pytest.mark.heavy),
        pytest.param(quantized("q8_0"), 0.999, id="Q8_0", marks=pytest.mark.heavy),
        pytest.param(quantized("q4_0"), 0.999, id="Q4_0"),
        pytest.param(causal(LAST), 0.9999, id="last token, with a cache"),
        pytest.param(causal(MEAN), 0.9999, id="mean, with a cache"),
    ],
)
def test_r25_r65_a_text_has_one_vector_in_any_company(
    server: Server, tmp_path: Path, create: Make, least: float
) -> None:
    """R-25, together with `tests/scheduler/test_plan.py`; partly R-65."""
    model = create(server, tmp_path)
    together = embed(server, model, UNEQUAL)
    alone = [embed(server, model, each) for each in UNEQUAL]
    assert min(cosine(row, vectors(each)[0]) for row, each in zip(vectors(together), alone, strict=True)) >= least
    assert together.json()["prompt_eval_count"] == sum(each.json()["prompt_eval_count"] for each in alone)
    assert all(abs(math.hypot(*row) - 1) < 1e-6 for row in vectors(together))


def test_two_thousand_texts_in_their_order(server: Server, good: str) -> None:
    texts = random.Random(1).choices(list(GOODNESS), k=2048)
    truth = {each: vectors(embed(server, good, each))[0] for each in GOODNESS}
    native = embed(server, good, texts)
    v1 = server.post("/v1/embeddings", {"model": good, "input": texts})
    packed = server.post("/v1/embeddings", {"model": good, "input": texts, "encoding_format": "base64"})
    forms = [
        vectors(native),
        [each["embedding"] for each in v1.json()["data"]],
        [struct.unpack("<8f", base64.b64decode(each["embedding"])) for each in packed.json()["data"]],
    ]
    for rows in forms:
        assert len(rows) == 2048
        assert all(row == pytest.approx(truth[each], abs=1e-5) for row, each in zip(rows, texts, strict=True))
    tokens = 3 * 2048
    assert native.json()["prompt_eval_count"] == tokens
    assert v1.json()["usage"] == packed.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert [each["index"] for each in v1.json()["data"]] == list(range(2048))
    one_more = server.post("/api/embed", {"model": good, "input": [*texts, "good"]})
    assert (one_more.status, one_more.error) == (400, "input: at most 2048 items are accepted")


@pytest.mark.heavy
def test_two_thousand_real_texts_of_unequal_lengths(server: Server) -> None:
    texts = [f"{place} {text(1 + place * place % 37, place)}" for place in range(2048)]
    reply = server.post("/api/embed", {"model": E, "input": texts}, timeout_s=300)
    rows = vectors(reply)
    assert len(rows) == 2048
    for place in range(0, 2048, 128):
        assert cosine(rows[place], vectors(embed(server, E, texts[place]))[0]) >= 0.9999


def test_c65_both_forms_are_the_same_to_the_last_bit(server: Server) -> None:
    """Partly C-65."""
    plain, packed = (
        server.post("/v1/embeddings", {"model": E, "input": "hello", "encoding_format": form}).json()["data"][0]
        for form in ("float", "base64")
    )
    assert struct.pack("<384f", *plain["embedding"]) == base64.b64decode(packed["embedding"])
    native = vectors(embed(server, E, "hello"))[0]
    assert native == plain["embedding"]


def test_r65_the_parts_of_vectors_have_unit_length(server: Server) -> None:
    """Partly R-65: of every text, and what is left of a vector points where it did."""
    whole, parts = vectors(embed(server, E, UNEQUAL)), vectors(embed(server, E, UNEQUAL, dimensions=100))
    for row, part in zip(whole, parts, strict=True):
        assert len(part) == 100
        assert abs(math.hypot(*part) - 1) < 1e-6
        assert cosine(part, row[:100]) == pytest.approx(1, abs=1e-5)


def test_r65_what_was_cut_off_is_told_to_the_token(server: Server) -> None:
    """Partly R-65: the text that is left fills the window, and ends as every text of this model does."""
    room = WINDOW - 2
    long = " ".join(["boats", *["dawn"] * 999])
    reply = embed(server, E, ["dawn", long, "dawn dawn dawn", long + " home"])
    assert reply.json()["warnings"] == [
        f"input 1 is longer than the context: {1000 - room} tokens left out",
        f"input 3 is longer than the context: {1001 - room} tokens left out",
    ]
    assert reply.json()["prompt_eval_count"] == 3 + 2 * WINDOW + 5
    (left,) = vectors(embed(server, E, " ".join(long.split()[:room])))
    assert cosine(vectors(reply)[1], left) > 0.9999
    for given in (long, ["dawn", long]):
        refused = server.post("/api/embed", {"model": E, "input": given, "truncate": False})
        assert (refused.status, refused.error) == (400, "the input length exceeds the context length")
    assert embed(server, E, " ".join(long.split()[:room]), truncate=False).json().get("warnings") is None


@pytest.mark.parametrize(("pooling", "room"), [(LAST, 2047), (MEAN, 64)])
def test_a_window_larger_than_a_batch(server: Server, tmp_path: Path, pooling: int, room: int) -> None:
    """A text may be read in pieces where its last token has seen them all; else a batch is all that can be had."""
    model = causal(pooling)(server, tmp_path)
    options = {"num_ctx": 2048, "num_batch": 64}
    long = "a" * 4000
    tokens = len(server.post("/api/tokenize", {"model": model, "text": long, "add_special": True}).json()["tokens"])
    assert tokens > room
    reply = embed(server, model, ["b", long, "c"], options=options)
    assert reply.json()["warnings"] == [f"input 1 is longer than the context: {tokens - room} tokens left out"]
    assert len(vectors(reply)) == 3


def test_r65_vectors_that_are_none(server: Server, tmp_path: Path) -> None:
    """R-65, together with the tests above: one broken row in the model's own table of words."""
    path = write_ranker(tmp_path / "broken.gguf", pooling=MEAN)
    row = struct.pack("<8f", -1, 1, 1, -1, 1, -1, 1, -1)
    content = path.read_bytes()
    assert content.count(row) == 1, "of the word `bad`"
    path.write_bytes(content.replace(row, struct.pack("<8f", math.nan, 1, 1, -1, 1, -1, 1, -1)))
    model = make(server, "broken", [path])
    assert embed(server, model, ["good", "fine"]).status == 200
    for given in ("bad", ["good", "bad"]):
        native = server.post("/api/embed", {"model": model, "input": given})
        assert (native.status, native.error) == (400, "embedding contains NaN or Inf values")
        for form in ("float", "base64"):
            v1 = server.post("/v1/embeddings", {"model": model, "input": given, "encoding_format": form})
            error = v1.json()["error"]
            assert (v1.status, error["type"]) == (500, "server_error")
            assert error["message"] == "embedding contains NaN or Inf values"
            assert v1.headers["x-should-retry"] == "false"


# --- on a scripted engine ---


def test_texts_travel_in_calls_of_one_batch_and_not_all_at_once(puppet: Puppet) -> None:
    """Whoever hangs up ends them all, and the model is free for the next."""
    puppet.plays(**{"v1/embeddings": [{"hold": True}], "tokenize": {"body": {"tokens": [101, 102]}}})
    texts = [f"{number:04} {'x' * (number % 50)}" for number in range(2048)]
    puppet.server.post("/api/embed", {"model": E})
    with puppet.server.streaming_unread("/api/embed", {"model": E, "input": texts}):
        puppet.server.wait_until(lambda: len(puppet.heard("/v1/embeddings")) == POOLING_CALLS)
        time.sleep(0.1)  # more would have come by now
        calls = [body["input"] for body in puppet.heard("/v1/embeddings")]
    puppet.server.wait_until(lambda: puppet.record("closed") == ["/v1/embeddings"] * POOLING_CALLS)
    assert len(calls) == POOLING_CALLS
    calls.sort()
    assert [each for call in calls for each in call] == texts[: sum(map(len, calls))]
    for call in calls:
        assert WINDOW - 60 < sum(len(each) + 3 for each in call) <= WINDOW
    (argv,) = puppet.record("argv")
    assert argv[argv.index("-np") + 1] == str(POOLING_SLOTS)
    puppet.server.unload_all()


TOO_LARGE = {
    "status": 500,
    "body": {"error": {"message": "input (9 tokens) is too large to process. increase the physical batch size"}},
}


def test_an_engine_that_takes_less_than_it_should(puppet: Puppet) -> None:
    """It is asked once more, with texts that have been counted; where nothing may be cut, or can be, that is told."""
    puppet.plays(**{"v1/embeddings": TOO_LARGE, "tokenize": {"body": {"tokens": [101, 102]}}})
    for more, calls, error in (
        ({"truncate": False}, 1, "the input length exceeds the context length"),
        ({}, 2, "input exceeds maximum context length and cannot be truncated further"),
    ):
        puppet.forget()
        reply = puppet.server.post("/api/embed", {"model": E, "input": "x"} | more)
        assert (reply.status, reply.error) == (400, error)
        assert len(puppet.heard("/v1/embeddings")) == calls


def test_an_engine_that_dies_meanwhile(puppet: Puppet) -> None:
    puppet.plays(**{"v1/embeddings": [{"die": 1}], "tokenize": {"body": {"tokens": [101, 102]}}})
    reply = puppet.server.post("/api/embed", {"model": E, "input": ["x" * 400] * 9})
    assert reply.status == 500
    assert reply.error.startswith("model runner has unexpectedly stopped") or "error was encountered" in reply.error
    puppet.plays()
    assert puppet.server.post("/api/embed", {"model": E, "input": "x"}).status == 200
