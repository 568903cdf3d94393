"""Rerank requests read, replies written (native-api §3.22)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.rerank import MAX_DOCUMENTS, Rerank, read_rerank, read_v1_rerank, write_rerank, write_v1_rerank
from llamero.errors import BadRequest, InvalidField
from llamero.messages import Ranked, Reranked, RerankRequest, Usage

BODY: dict[str, Any] = {"model": "m", "query": "q", "documents": ["a", {"text": "b"}]}
REQUEST = RerankRequest(model="m", query="q", documents=("a", "b"))
FOUND = Reranked((Ranked(1, 0.75), Ranked(0, 0.25)), Usage(prompt_tokens=9))

READERS = [pytest.param(read_rerank, id="native"), pytest.param(read_v1_rerank, id="v1")]


def body(**changes: Any) -> bytes:
    return json.dumps(BODY | changes).encode()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Rerank(REQUEST)),
        ({"top_n": None, "return_documents": None, "options": None}, Rerank(REQUEST)),
        ({"return_documents": True}, Rerank(REQUEST, returns_documents=True)),
        ({"documents": [""]}, Rerank(RerankRequest(model="m", query="q", documents=("",)))),
        ({"documents": [{"text": "b", "id": 5}]}, Rerank(RerankRequest(model="m", query="q", documents=("b",)))),
        (
            {"top_n": 5, "options": {"num_ctx": 64}, "keep_alive": "1s"},
            Rerank(
                RerankRequest(
                    model="m",
                    query="q",
                    documents=("a", "b"),
                    top_n=5,
                    options={"num_ctx": 64},
                    keep_alive_ns=1_000_000_000,
                )
            ),
        ),
    ],
)
def test_requests(read: Any, changes: dict[str, Any], expected: Rerank) -> None:
    assert read(body(**changes)) == expected


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"model": ""}, "model", "model is required"),
        ({"query": ""}, "query", "query is required"),
        ({"query": None}, "query", "query is required"),
        ({"documents": None}, "documents", "documents is required"),
        ({"documents": []}, "documents", "documents is required"),
        ({"documents": "a"}, "documents", "documents must be an array"),
        ({"documents": ["a"] * (MAX_DOCUMENTS + 1)}, "documents", "documents: at most 2048 are accepted"),
        *[
            (
                {"documents": ["a", wrong]},
                "documents[1]",
                "'documents[1]' must be a string, or an object with a text",
            )
            for wrong in (5, None, [], {}, {"text": None}, {"text": 5}, {"image": "x"})
        ],
        ({"top_n": 0}, "top_n", "top_n must be at least 1"),
    ],
)
def test_requests_that_are_refused_by_the_name_of_the_field(
    read: Any, changes: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(InvalidField) as caught:
        read(body(**changes))
    assert (caught.value.param, str(caught.value)) == (param, message)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("wrong", [b"", b"{", b"[]", body(top_n="5"), body(query=5), body(return_documents="yes")])
def test_what_is_no_such_request(read: Any, wrong: bytes) -> None:
    with pytest.raises(BadRequest):
        read(wrong)


def test_fields_that_mean_nothing_are_named() -> None:
    assert read_rerank(body(priority=1)).request.warnings == ("field 'priority' is unknown and has no effect",)
    assert read_v1_rerank(body(max_tokens_per_doc=5, think=True)).request.warnings == (
        "field 'max_tokens_per_doc' is unknown and has no effect",
        "field 'think' has no effect",
    )


def test_the_reply_that_difys_plugin_reads() -> None:
    assert json.loads(write_rerank(Rerank(REQUEST), FOUND)) == {
        "model": "m",
        "results": [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.25}],
        "usage": {"total_tokens": 9},
    }


@pytest.mark.parametrize("version", ["native", "v1"])
def test_documents_come_back_when_asked_for(version: str) -> None:
    asked = Rerank(REQUEST, returns_documents=True)
    reply = write_rerank(asked, FOUND) if version == "native" else write_v1_rerank(asked, FOUND, "r-1")
    assert [result["document"] for result in json.loads(reply)["results"]] == [{"text": "b"}, {"text": "a"}]


def test_the_reply_that_readers_of_jina_and_cohere_read() -> None:
    reply = json.loads(write_v1_rerank(Rerank(REQUEST), FOUND, "rerank-1"))
    assert reply == {
        "id": "rerank-1",
        "model": "m",
        "results": [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.25}],
        "usage": {"total_tokens": 9},
        "meta": {"tokens": {"input_tokens": 9, "output_tokens": 0}, "api_version": {"version": "2"}},
    }


def test_coheres_readers_find_the_warnings_in_the_reply_too() -> None:
    found = Reranked(FOUND.ranking, FOUND.usage, ("document 0 is too long",))
    assert json.loads(write_v1_rerank(Rerank(REQUEST), found, "r"))["meta"]["warnings"] == ["document 0 is too long"]
