"""Reranking on the real engine, by a tiny model that likes good words (native-api §3.22)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.rank_models import CONTEXT, score, write_ranker
from tests.running import Reply, Server
from tests.server.tiny_models import make

DOCUMENTS = ["bad bad", "good good", "plain", "fine good poor", "", "poor"]


@pytest.fixture(scope="module")
def ranker(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(server, "ranker", [write_ranker(tmp_path_factory.mktemp("ranker") / "ranker.gguf")])


def rerank(
    server: Server, model: str, documents: list[Any] = DOCUMENTS, path: str = "/api/rerank", **more: Any
) -> Reply:
    return server.post(path, {"model": model, "query": "who", "documents": documents} | more)


def results(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json()["results"]
    return found


def relevance(document: str) -> float:
    return 1 / (1 + math.exp(-score("who", document)))


@pytest.mark.parametrize("path", ["/api/rerank", "/v1/rerank"])
def test_the_best_come_first_with_the_models_own_scores(server: Server, ranker: str, path: str) -> None:
    reply = rerank(server, ranker, path=path)
    truth = sorted(range(len(DOCUMENTS)), key=lambda index: -relevance(DOCUMENTS[index]))
    assert [result["index"] for result in results(reply)] == truth
    for result in results(reply):
        assert set(result) == {"index", "relevance_score"}
        assert result["relevance_score"] == pytest.approx(relevance(DOCUMENTS[result["index"]]), abs=2e-3)
    words = sum(len(document.split()) for document in DOCUMENTS)
    assert reply.json()["usage"] == {"total_tokens": words + 3 * len(DOCUMENTS)}
    assert reply.json()["model"] == ranker
    assert "Llamero-Warning" not in reply.headers


def test_a_document_has_the_same_score_in_any_company(server: Server, ranker: str) -> None:
    together = {result["index"]: result["relevance_score"] for result in results(rerank(server, ranker))}
    for index, document in enumerate(DOCUMENTS):
        (alone,) = results(rerank(server, ranker, [document]))
        assert alone["relevance_score"] == pytest.approx(together[index], abs=1e-6)


def test_equals_stay_in_their_order(server: Server, ranker: str) -> None:
    found = results(rerank(server, ranker, ["plain", "good", "plain", "good", "plain"]))
    assert [result["index"] for result in found] == [1, 3, 0, 2, 4]


@pytest.mark.parametrize("path", ["/api/rerank", "/v1/rerank"])
def test_documents_as_objects_and_the_best_of_them_given_back(server: Server, ranker: str, path: str) -> None:
    documents = [{"text": "bad"}, "good", {"text": "fine", "title": "x"}]
    found = results(rerank(server, ranker, documents, path, top_n=2, return_documents=True))
    assert [(result["index"], result["document"]) for result in found] == [(1, {"text": "good"}), (2, {"text": "fine"})]
    assert len(results(rerank(server, ranker, documents, path, top_n=99))) == 3


def test_v1_has_what_readers_of_jina_and_cohere_look_for(server: Server, ranker: str) -> None:
    reply = rerank(server, ranker, path="/v1/rerank")
    assert reply.json()["id"]
    assert reply.json()["meta"]["tokens"]["input_tokens"] == reply.json()["usage"]["total_tokens"]
    assert reply.headers["x-request-id"]


def test_a_document_that_is_too_long_is_cut_and_named(server: Server, ranker: str) -> None:
    """What is left of it fills the window to the last token."""
    room = CONTEXT - len(["[CLS]", "who", "[SEP]"])
    begin = ["good"] * room
    for rest in (0, 1, 500):
        reply = rerank(server, ranker, ["bad", " ".join([*begin, *["bad"] * rest])])
        best, _ = results(reply)
        assert best["index"] == 1
        assert best["relevance_score"] == pytest.approx(relevance(" ".join(begin)), abs=2e-3)
        named = f"document 1 is longer than the context: {rest} tokens left out"
        assert reply.headers["Llamero-Warning"] == (named if rest else None)
    v1 = rerank(server, ranker, ["bad " * 99], "/v1/rerank")
    assert v1.json()["meta"]["warnings"] == ["document 0 is longer than the context: 38 tokens left out"]


def test_a_query_that_is_too_long_is_refused(server: Server, ranker: str) -> None:
    for query in ("who " * (CONTEXT - 2), "who " * 999):
        reply = rerank(server, ranker, ["good"], query=query)
        assert (reply.status, reply.error) == (400, "the input length exceeds the context length")
        v1 = rerank(server, ranker, ["good"], "/v1/rerank", query=query)
        assert (v1.status, v1.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert v1.json()["error"]["param"] == "query"


def test_two_thousand_documents(server: Server, ranker: str) -> None:
    words = ["good", "bad"]
    found = results(rerank(server, ranker, [words[index % 2] for index in range(2048)], top_n=1025))
    assert [result["index"] for result in found] == [*range(0, 2048, 2), 1]
    refused = rerank(server, ranker, ["good"] * 2049)
    assert (refused.status, refused.error) == (400, "documents: at most 2048 are accepted")


@pytest.mark.parametrize("model", ["smollm2:135m", "all-minilm:22m"])
def test_models_that_are_not_made_for_it(server: Server, model: str) -> None:
    server.unload_all()
    reply = rerank(server, model)
    assert (reply.status, reply.error) == (400, f'"{model}" does not support rerank')
    v1 = rerank(server, model, path="/v1/rerank")
    assert (v1.status, v1.json()["error"]["message"]) == (400, f'"{model}" does not support rerank')
    assert server.loaded() == []


def test_a_model_that_ranks_does_nothing_else(server: Server, ranker: str) -> None:
    assert server.post("/api/embed", {"model": ranker, "input": "good"}).status == 501
    chat = server.post("/api/chat", {"model": ranker, "messages": [{"role": "user", "content": "good"}]})
    assert (chat.status, chat.error) == (400, f'"{ranker}" does not support chat')


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"model": "nope", "query": "q", "documents": ["a"]}, 404, "model 'nope' not found"),
        ({"query": "q", "documents": ["a"]}, 400, "model is required"),
        ({"model": "ranker", "documents": ["a"]}, 400, "query is required"),
        ({"model": "ranker", "query": "q"}, 400, "documents is required"),
        ({"model": "ranker", "query": "q", "documents": [{}]}, 400, "'documents[0]' must be a string, or an object"),
    ],
)
def test_errors_have_the_shape_of_their_route(
    server: Server, ranker: str, body: dict[str, Any], status: int, error: str
) -> None:
    native, v1 = server.post("/api/rerank", body), server.post("/v1/rerank", body)
    assert (native.status, v1.status) == (status, status)
    assert native.error.startswith(error)
    assert v1.json()["error"]["message"].startswith(error)
    assert v1.json()["error"]["type"] == "invalid_request_error"


def test_options_decide_how_it_is_loaded(server: Server, ranker: str) -> None:
    """A smaller window leaves less of a document."""
    reply = rerank(server, ranker, ["good " * 61], options={"num_ctx": 32}, keep_alive=0)
    assert reply.headers["Llamero-Warning"] == "document 0 is longer than the context: 32 tokens left out"
    server.wait_until(lambda: ranker not in " ".join(server.loaded()))


def test_it_stands_in_the_description_of_the_api(server: Server) -> None:
    paths = json.loads(server.get("/openapi.json").body)["paths"]
    assert {"/api/rerank", "/v1/rerank", "/api/tokenize", "/api/detokenize", "/v1/audio/transcriptions"} <= paths.keys()
    schema = paths["/api/rerank"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["$ref"].endswith("/RerankBody")
