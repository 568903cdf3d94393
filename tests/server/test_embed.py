"""Embeddings on the real engine and all-MiniLM-L6-v2 (native-api §3.9, §3.10)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.running import Reply, Server

E = "all-minilm:22m"
REFERENCE = Path(__file__).parents[1] / "data" / "minilm_reference.json"


def embed(server: Server, **body: Any) -> Reply:
    return server.post("/api/embed", {"model": E, **body})


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def test_vectors_are_those_of_the_original_model(server: Server) -> None:
    """The converted checkpoint against the original's own vectors: cosine of at least 0.999 for every text."""
    cases = json.loads(REFERENCE.read_text())["cases"]
    ours = embed(server, input=[case["text"] for case in cases], options={"num_ctx": 256}).json()["embeddings"]
    assert min(cosine(row, case["embedding"]) for row, case in zip(ours, cases, strict=True)) >= 0.999


def test_n106_partly_r65_r66_rows_in_order(server: Server) -> None:
    """N-106, R-66, and partly R-65."""
    texts = ["one", "two words", "three short words"]
    together = embed(server, input=texts).json()
    alone = [embed(server, input=text).json() for text in texts]
    assert len(together["embeddings"]) == 3
    for row, single in zip(together["embeddings"], alone, strict=True):
        assert len(single["embeddings"]) == 1
        assert abs(math.hypot(*row) - 1) < 1e-6
        assert cosine(row, single["embeddings"][0]) > 0.9999
    assert together["prompt_eval_count"] == sum(single["prompt_eval_count"] for single in alone) > 0


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": ""}, {"input": []}])
def test_n107_no_input_loads_the_model(server: Server, body: dict[str, Any]) -> None:
    assert embed(server, **body).json() == {"model": E, "embeddings": []}
    assert E in server.loaded()


@pytest.mark.parametrize("value", [5, {}, ["a", 1]])
def test_n108_inputs_of_another_type(server: Server, value: Any) -> None:
    for model in (E, "nope"):
        reply = server.post("/api/embed", {"model": model, "input": value})
        assert (reply.status, reply.error) == (400, "invalid input type")


def test_n109_dimensions(server: Server) -> None:
    short = embed(server, input="hello", dimensions=8).json()["embeddings"][0]
    assert len(short) == 8
    assert abs(math.hypot(*short) - 1) < 1e-6
    assert len(embed(server, input="hello", dimensions=9999).json()["embeddings"][0]) == 384


def test_n110_long_inputs_are_cut_or_refused(server: Server) -> None:
    long = "word " * 2000
    cut = embed(server, input=["short", long])
    assert cut.status == 200
    assert "input 1" in cut.headers["Llamero-Warning"]
    assert "input 1" in cut.json()["warnings"][0]
    for value in (long, ["short", long]):
        refused = embed(server, input=value, truncate=False)
        assert (refused.status, refused.error) == (400, "the input length exceeds the context length")


def test_an_input_of_nothing_has_a_vector(server: Server) -> None:
    assert len(embed(server, input=[""]).json()["embeddings"][0]) == 384


def test_n111_the_older_endpoint(server: Server) -> None:
    reply = server.post("/api/embeddings", {"model": E, "prompt": "hello"})
    assert set(reply.json()) == {"embedding"}
    assert len(reply.json()["embedding"]) == 384
    assert server.post("/api/embeddings", {"model": E}).json() == {"embedding": []}


def test_generating_models_do_not_embed(server: Server) -> None:
    reply = server.post("/api/embed", {"model": "smollm2:135m", "input": "x"})
    assert reply.status == 501
    assert "does not support embeddings" in reply.error
