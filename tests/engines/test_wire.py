"""llama-server's HTTP as events, and everything that can go wrong on the way (scheduler §11 to §13)."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llamero.chat.prompt import logprob_fields, sampling
from llamero.dialects.native import ChatWriter
from llamero.engines import Endpoint, MemoryUse
from llamero.engines.events import BROKE
from llamero.engines.ledger import IMPOSSIBLE
from llamero.engines.wire import (
    DIED,
    MAX_ERROR_BYTES,
    MAX_EVENT_BYTES,
    MAX_REPEATS,
    STUCK,
    TOO_LONG,
    UNFINISHED,
    Wire,
)
from llamero.errors import ContextTooLong, EngineDied, EngineError, LlameroError, RanOutOfMemory
from llamero.messages import Done, Event, Finished, Logprob, Text, Thinking, ToolCall, Usage
from llamero.options import merge_options
from tests.engines.starting import eventually, fake_engine, real_engine
from tests.fake_llama_server import install, read_record
from tests.running import free_port

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="the fake is started by a shell script"),
    pytest.mark.asyncio(loop_scope="module"),
]

CHAT, COMPLETION = "/v1/chat/completions", "/completion"

QUICK_S = 1.0
"""What is to happen at once."""


async def answer(wire: Wire, path: str, reply: Any, **more: Any) -> list[Event]:
    """The events of one scripted answer."""
    return await read(ask(wire, path, {"reply": reply}, **more))


async def read(events: AsyncGenerator[Event, None]) -> list[Event]:
    async with aclosing(events):
        return [event async for event in events]


def ask(wire: Wire, path: str, body: dict[str, Any] | None = None, **more: Any) -> AsyncGenerator[Event, None]:
    return (wire.chat if path == CHAT else wire.complete)(body or {}, **more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """To an engine that gives each request the reply that it brings along."""
    async with fake_engine(tmp_path_factory.mktemp("wire")) as engine:
        yield engine.wire


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"send": {"choices": [{"delta": fields, "finish_reason": finish}]}}


def call(index: int, name: str | None = None, arguments: str | None = None, **more: str) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return delta(tool_calls=[{"index": index, "function": function, **more}])


def text(content: str, **more: Any) -> dict[str, Any]:
    return {"send": {"content": content, **more}}


STOP = delta("stop")
LAST = text("", stop=True)
DONE = Done("stop", Usage())


# --- what a stream means -------------------------------------------------------------------------------------------


async def test_an_answer_through_both_endpoints(tmp_path: Path) -> None:
    usage = Usage(prompt_tokens=5, cached_tokens=2, prompt_ns=1_500_000, predicted_tokens=2, predicted_ns=2_250_000)
    async with fake_engine(tmp_path) as engine:
        for path in (CHAT, COMPLETION):
            assert await read(ask(engine.wire, path)) == [Text("Hello"), Text(" there"), Done("stop", usage)]
        await eventually(lambda: len(read_record(tmp_path, "finished")) == 2)
    assert read_record(tmp_path, "closed") == [], "a stream is read to its end before the answer is called done"


@pytest.mark.parametrize(
    ("path", "last"),
    [
        (CHAT, {"choices": [{"delta": {}, "finish_reason": "length"}]}),
        (COMPLETION, {"stop": True, "stop_type": "limit"}),
    ],
)
async def test_r59_counts_and_durations(wire: Wire, path: str, last: dict[str, Any]) -> None:
    """R-59: tokens from the cache are prompt tokens too; durations are whole nanoseconds; a limit is `length`."""
    timings = {
        "cache_n": 7,
        "prompt_n": 4,
        "prompt_ms": 12.3456789,
        "predicted_n": 9,
        "predicted_ms": 0.1,
        "draft_n": 6,
        "draft_n_accepted": 5,
        "predicted_per_second": None,
    }
    (done,) = await answer(wire, path, [{"send": {**last, "timings": timings}}])
    assert done == Done("length", Usage(11, 7, 12_345_678, 9, 100_000, 6, 5))
    written = json.loads(ChatWriter("m", lambda: 0).end(Finished(done.reason, done.usage, 1, 1)))
    assert (written["done_reason"], written["prompt_eval_count"], written["eval_count"]) == ("length", 11, 9)
    assert (written["prompt_eval_duration"], written["eval_duration"]) == (12_345_678, 100_000)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            [delta(reasoning_content="Hm"), delta(reasoning_content="m."), delta(content="Yes"), STOP],
            [Thinking("Hm"), Thinking("m."), Text("Yes"), DONE],
            id="thinking",
        ),
        pytest.param(
            [delta(reasoning_content="Hm", content="Yes"), STOP], [Thinking("Hm"), Text("Yes"), DONE], id="both at once"
        ),
        pytest.param(
            [delta(role="assistant", content=None), delta(), delta(content=""), STOP], [DONE], id="nothing in them"
        ),
        pytest.param([delta("stop", content="all")], [Text("all"), DONE], id="text in the last event"),
        pytest.param([delta(content="a"), delta("tool_calls")], [Text("a"), DONE], id="any other reason is stop"),
        pytest.param(
            [STOP, {"send": {"choices": [], "timings": {"prompt_n": 3}}}],
            [Done("stop", Usage(prompt_tokens=3))],
            id="figures after the end",
        ),
        pytest.param(
            [{"raw": ": ping\n\nevent: x\nid: 1\n\ndata: [DONE]\n\n"}, delta(content="a"), STOP],
            [Text("a"), DONE],
            id="comments and other fields",
        ),
        pytest.param(
            [{"send": {"object": "x", "choices": [{"index": 0, "delta": {"content": "a", "new": {}}}]}}, STOP],
            [Text("a"), DONE],
            id="fields that nobody asked for",
        ),
    ],
)
async def test_chat_events(wire: Wire, steps: list[Any], expected: list[Event]) -> None:
    assert await answer(wire, CHAT, steps) == expected


async def test_a_stream_that_arrives_byte_by_byte(wire: Wire) -> None:
    lines = "".join(
        f"data: {json.dumps(step['send'])}\n\n" for step in (text("He said:\n"), text('"x" \U0001f600'), LAST)
    )
    steps = [{"raw": character} for character in lines]
    assert await answer(wire, COMPLETION, steps) == [Text("He said:\n"), Text('"x" \U0001f600'), DONE]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            [call(0, "add", "", id="c1"), call(0, arguments='{"a":'), call(0, arguments="1}"), STOP],
            [ToolCall("add", {"a": 1}, "c1", 0)],
            id="partly R-72 fragments joined",
        ),
        pytest.param(
            [call(0, "ad", '{"a"'), call(0, "d", ":1}"), STOP], [ToolCall("add", {"a": 1})], id="a name in fragments"
        ),
        pytest.param(
            [call(0, "a", "{"), call(1, "b", "{"), call(1, arguments='"y":2}'), STOP],
            [Text("a{"), ToolCall("b", {"y": 2}, "", 1)],
            id="partly R-72 joined by index",
        ),
        pytest.param(
            [call(0, "a", "{}"), delta(content="so"), call(1, "b", "{}"), STOP],
            [ToolCall("a", {}), Text("so"), ToolCall("b", {}, "", 1)],
            id="partly R-72 other content ends a call",
        ),
        pytest.param(
            [delta(tool_calls=[{"index": n, "function": {"name": name}} for n, name in enumerate("ab")]), STOP],
            [ToolCall("a", {}), ToolCall("b", {}, "", 1)],
            id="two in one event, without arguments",
        ),
        pytest.param([call(0, "a", "{bad"), STOP], [Text("a{bad")], id="partly R-72 bad JSON is shown"),
        pytest.param([call(0, "a", "[1]"), STOP], [Text("a[1]")], id="partly R-72 no object is shown"),
        pytest.param([call(0, "a", "[" * 100_000), STOP], [Text("a" + "[" * 100_000)], id="nested without end"),
    ],
)
async def test_tool_calls(wire: Wire, steps: list[Any], expected: list[Event]) -> None:
    assert await answer(wire, CHAT, steps) == [*expected, DONE]


async def test_a_tool_call_leaves_as_soon_as_the_next_begins(wire: Wire) -> None:
    """Partly R-72: the client may run the first while the model still writes the second."""
    steps = [call(0, "first", "{}"), call(1, "second"), {"hold": True}]
    async with aclosing(wire.chat({"reply": steps})) as events:
        assert await anext(events) == ToolCall("first", {})


TOKEN = {
    "token": "a",
    "logprob": -0.5,
    "bytes": [97],
    "top_logprobs": [{"token": "b", "logprob": -0.25, "bytes": [98]}],
}
B = Logprob("b", -0.25, (98,))


@pytest.mark.parametrize(
    ("token", "top", "expected"),
    [
        pytest.param(TOKEN, 1, Logprob("a", -0.5, (97,), (B,)), id="partly R-57 alternatives when asked for"),
        pytest.param(TOKEN, 0, Logprob("a", -0.5, (97,)), id="partly R-57 none otherwise"),
        pytest.param(
            TOKEN | {"top_logprobs": TOKEN["top_logprobs"] * 3}, 2, Logprob("a", -0.5, (97,), (B, B)), id="not more"
        ),
        pytest.param(
            {"token": "a", "prob": 0.5, "top_probs": [{"token": "b", "prob": 0.25}]},
            1,
            Logprob("a", math.log(0.5), (), (Logprob("b", math.log(0.25)),)),
            id="given as probabilities",
        ),
        pytest.param({"token": "a", "logprob": None}, 0, Logprob("a", IMPOSSIBLE), id="an impossible token"),
        pytest.param(
            {"token": "", "logprob": -1, "bytes": [240, 159]}, 0, Logprob("\ufffd", -1.0, (240, 159)), id="half"
        ),
    ],
)
async def test_log_probabilities(wire: Wire, token: dict[str, Any], top: int, expected: Logprob) -> None:
    chat = {"choices": [{"delta": {"content": "x"}, "logprobs": {"content": [token]}}]}
    for path, steps in (
        (CHAT, [{"send": chat}, STOP]),
        (COMPLETION, [text("x", completion_probabilities=[token]), LAST]),
    ):
        assert await answer(wire, path, steps, top_logprobs=top) == [Text("x", (expected,)), DONE]


async def test_a_token_whose_text_is_held_back_still_counts(wire: Wire) -> None:
    """Half a character has a log-probability, but no text yet."""
    half = {"token": "", "logprob": -1.0}
    for path, steps in (
        (CHAT, [{"send": {"choices": [{"delta": {}, "logprobs": {"content": [half]}}]}}, STOP]),
        (COMPLETION, [text("", completion_probabilities=[half]), LAST]),
    ):
        assert await answer(wire, path, steps) == [Text("", (Logprob("", -1.0),)), DONE]


async def test_the_log_probabilities_of_thinking_stay_with_it(wire: Wire) -> None:
    chat = {
        "choices": [{"delta": {"reasoning_content": "x"}, "logprobs": {"content": [{"token": "x", "logprob": -1}]}}]
    }
    assert await answer(wire, CHAT, [{"send": chat}, STOP]) == [Thinking("x", (Logprob("x", -1.0),)), DONE]


@pytest.mark.parametrize(
    ("pieces", "seen"),
    [
        pytest.param(["a"] * 100, MAX_REPEATS + 1, id="more than 30 alike in a row"),
        pytest.param([" a", "a\n"] * 50, MAX_REPEATS + 1, id="alike but for white space"),
        pytest.param([" ", "\n"] * 50, MAX_REPEATS + 1, id="white space without end"),
        pytest.param([*["a"] * MAX_REPEATS, "b"] * 2, 2 * MAX_REPEATS + 2, id="30 alike are fine"),
        pytest.param([*["a"] * 20, "", *["a"] * 20], MAX_REPEATS + 1, id="a token held back does not interrupt"),
        pytest.param(["x", *[""] * 100], 1, id="nor does holding back count"),
    ],
)
async def test_a_completion_that_repeats_itself_is_ended(wire: Wire, pieces: list[str], seen: int) -> None:
    events = await answer(wire, COMPLETION, [*map(text, pieces), LAST])
    assert len(events) == seen + 1
    assert isinstance(events[-1], Done)
    assert events[-1].reason == "stop"
    assert events[-1].is_stuck is (seen == MAX_REPEATS + 1)
    assert events[-1].warnings == ((STUCK,) if events[-1].is_stuck else ())


# --- what is asked -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sent", "left_out"),
    [
        ({}, {"n_keep": 4, "typical_p": 1.0, "seed": -1, "temperature": 0.8}, {"stop"}),
        (
            dict.fromkeys(
                "num_keep typical_p temperature top_k top_p min_p repeat_penalty repeat_last_n frequency_penalty "
                "presence_penalty seed".split(),
                0,
            )
            | {"stop": []},
            dict.fromkeys(
                "temperature top_k top_p min_p repeat_penalty repeat_last_n frequency_penalty presence_penalty "
                "seed".split(),
                0,
            ),
            {"n_keep", "typical_p", "stop"},
        ),
        ({"stop": ["\n", "é"]}, {"stop": ["\n", "é"]}, set()),
    ],
    ids=["defaults", "all zero", "stop"],
)
async def test_r54_the_body_of_a_completion(
    tmp_path: Path, options: dict[str, Any], sent: dict[str, Any], left_out: set[str]
) -> None:
    """R-54: zeros are sent, since absent means the engine's own default; what stands for nothing is left out."""
    async with fake_engine(tmp_path) as engine:
        await read(engine.wire.complete({"prompt": "p", **sampling(merge_options(options), 512)}))
    ((body),) = [request["body"] for request in read_record(tmp_path, "request")]
    assert {name: body.get(name, "missing") for name in sent} == sent
    assert not left_out & set(body)
    assert (body["prompt"], body["stream"], body["n_predict"]) == ("p", True, 5120)


@pytest.mark.parametrize(("top", "asked"), [(0, 1), (1, 1), (20, 20)])
async def test_log_probabilities_are_asked_for(tmp_path: Path, top: int, asked: int) -> None:
    """Partly R-57."""
    async with fake_engine(tmp_path) as engine:
        await read(engine.wire.complete(logprob_fields(wanted=True, top=top)))
        await read(engine.wire.chat(logprob_fields(wanted=True, top=top)))
    completion, chat = [request["body"] for request in read_record(tmp_path, "request")]
    assert completion == chat == {"n_probs": asked}


async def test_every_request_carries_the_secret_and_has_a_connection_of_its_own(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine:
        await engine.wire.tokenize("a")
        await engine.wire.tokenize("b")
        headers = [request["headers"] for request in read_record(tmp_path, "request")]
    assert [each["authorization"] for each in headers] == [f"Bearer {engine.endpoint.secret}"] * 2
    assert {each["connection"] for each in headers} == {"close"}
    assert {each["accept-encoding"] for each in headers} == {"identity"}


async def test_questions_with_one_answer(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine:
        assert await engine.wire.apply_template({"messages": []}) == "<user>Hi<assistant>"
        assert await engine.wire.tokenize("Hé", add_special=True) == [1, 2, 3]
        assert await engine.wire.detokenize((7, 8)) == "text"
        assert await engine.wire.embed(["a"], embd_normalize=-1) == ([array("f", [0.5, -0.5])], 4)
    assert [(request["path"], request["body"]) for request in read_record(tmp_path, "request")] == [
        ("/apply-template", {"messages": []}),
        ("/tokenize", {"content": "Hé", "add_special": True, "parse_special": True}),
        ("/detokenize", {"tokens": [7, 8]}),
        ("/v1/embeddings", {"input": ["a"], "encoding_format": "base64", "embd_normalize": -1}),
    ]


async def test_a_second_look_is_taken_with_the_same_adapters(tmp_path: Path) -> None:
    """Of a character in two tokens the engine tells the last one only; what the first was, the same model must say."""
    last = {"id": 7, "token": "\ufffd", "bytes": [0xA9], "logprob": -1.0}
    told = {"id": 7, "token": "é", "bytes": [0xC3, 0xA9], "logprob": -1.0, "top_logprobs": [last]}
    first = {"id": 6, "token": "\ufffd", "bytes": [0xC3], "logprob": -2.0}
    replies = {COMPLETION: {"body": {"completion_probabilities": [{"id": 6, "top_logprobs": [first]}]}}}
    stream = [
        {"send": {"content": "é", "tokens_predicted": 2, "completion_probabilities": [told]}},
        {"send": {"stop": True, "stop_type": "eos"}},
    ]
    lora = [{"id": 0, "scale": 0.5}]
    async with fake_engine(tmp_path, {"replies": replies}) as engine:
        events = await read(engine.wire.complete({"prompt": [1, 2], "n_probs": 1, "lora": lora, "reply": stream}))
    assert [entry.bytes for event in events if isinstance(event, Text) for entry in event.logprobs] == [
        (0xC3,),
        (0xA9,),
    ]
    answer, second_look = [request["body"] for request in read_record(tmp_path, "request")]
    assert answer["lora"] == second_look["lora"] == lora


async def test_scores_come_in_the_order_of_their_documents(tmp_path: Path) -> None:
    results = [{"index": 1, "relevance_score": 2.5}, {"index": 0, "relevance_score": -1.0}]
    replies = {"/v1/rerank": {"body": {"results": results, "usage": {"prompt_tokens": 9}}}}
    async with fake_engine(tmp_path, {"replies": replies}) as engine:
        assert await engine.wire.rerank("q", ("a", "b")) == ([-1.0, 2.5], 9)
        for documents in (["a"], ["a", "b", "c"]):
            with pytest.raises(EngineError, match=f"2 scores for {len(documents)} documents"):
                await engine.wire.rerank("q", documents)
    assert read_record(tmp_path, "request")[0]["body"] == {"query": "q", "documents": ["a", "b"]}


async def test_a_text_that_must_be_read_at_once_and_is_too_long_is_too_long(tmp_path: Path) -> None:
    message = "input (73 tokens) is too large to process. increase the physical batch size (current batch size: 64)"
    replies = {"/v1/rerank": {"status": 500, "body": {"error": {"message": message, "type": "server_error"}}}}
    async with fake_engine(tmp_path, {"replies": replies}) as engine:
        with pytest.raises(ContextTooLong):
            await engine.wire.rerank("q", ["a"])


async def test_embeddings_come_in_the_order_of_their_texts(tmp_path: Path) -> None:
    """In base64, or from an engine that does not know that in numbers, with null for what is none."""
    rows = [{"embedding": [2.0, None], "index": 1}, {"embedding": "AACAPwAAAL8=", "index": 0}]
    async with fake_engine(tmp_path, {"replies": {"/v1/embeddings": {"body": {"data": rows}}}}) as engine:
        (one, other), tokens = await engine.wire.embed(["a", "b"])
        assert (one.tolist(), other[0], math.isnan(other[1]), tokens) == ([1.0, -0.5], 2.0, True, 0)
        with pytest.raises(EngineError, match="2 embeddings for 3 inputs"):
            await engine.wire.embed(["a", "b", "c"])


@pytest.mark.parametrize("embedding", ["AACAPw", "AAA=", "!"], ids=["unpadded", "cut", "not base64"])
async def test_vectors_that_make_no_sense_are_the_engines_fault(tmp_path: Path, embedding: str) -> None:
    replies = {"/v1/embeddings": {"body": {"data": [{"embedding": embedding}]}}}
    async with fake_engine(tmp_path, {"replies": replies}) as engine:
        with pytest.raises(EngineError, match="an embedding makes no sense"):
            await engine.wire.embed(["a"])


@dataclass
class Listening:
    """An engine that somebody else started."""

    endpoint: Endpoint
    pid: int = 0
    alive: bool = True
    memory: MemoryUse = field(default_factory=MemoryUse)
    last_error: str = ""
    exited: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def wire(self) -> Wire:
        raise AssertionError("this is about another wire")

    async def stop(self) -> None:
        raise AssertionError("nobody asked for this")


async def test_an_engine_behind_a_port(tmp_path: Path) -> None:
    """As on systems without unix sockets."""
    endpoint = Endpoint("secret", port=free_port())
    env = {"LLAMA_API_KEY": endpoint.secret}
    argv = [install(tmp_path, {}), "--host", "127.0.0.1", "--port", str(endpoint.port)]
    process = await asyncio.create_subprocess_exec(*argv, env=env, stdin=subprocess.DEVNULL)
    wire = Wire(Listening(endpoint))
    try:
        while await wire.health(QUICK_S) != "ok":
            assert process.returncode is None
            await asyncio.sleep(0.01)
        assert await wire.tokenize("a") == [1, 2, 3]
        assert (await read(wire.chat({})))[0] == Text("Hello")
    finally:
        await wire.close()
        process.kill()
        await process.wait()


# --- what goes wrong -----------------------------------------------------------------------------------------------


def refusal(status: int, body: Any) -> dict[str, Any]:
    return {"status": status, "body": body}


SENSELESS = f"{BROKE}: an event of its stream makes no sense"
TOO_BIG = "llama-server response stream event exceeded 8 MB limit"
CONTEXT = {"message": "too long", "type": "exceed_context_size_error", "n_ctx": 512}


def failing(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
@pytest.mark.parametrize(
    ("reply", "kind", "status", "message"),
    [
        pytest.param(refusal(400, failing("bad grammar")), EngineError, 400, "bad grammar", id="envelope"),
        pytest.param(refusal(501, failing("no", code=400)), EngineError, 501, "no", id="the real status counts"),
        pytest.param(refusal(400, {"error": CONTEXT}), ContextTooLong, 400, "too long", id="context"),
        pytest.param(refusal(503, "<html>busy"), EngineError, 503, "<html>busy", id="no envelope"),
        pytest.param(refusal(500, {"error": {}}), EngineError, 500, '{"error": {}}', id="empty envelope"),
        pytest.param(refusal(500, ""), EngineError, 500, BROKE, id="empty"),
        pytest.param(refusal(500, "[" * 60_000), EngineError, 500, "[" * 60_000, id="nested without end"),
        pytest.param(
            refusal(500, "x" * (MAX_ERROR_BYTES + 1)),
            EngineError,
            500,
            "llama-server reply exceeded its size limit",
            id="without end",
        ),
        pytest.param([{"send": failing("full", code=500)}], EngineError, 500, "full", id="in the stream"),
        pytest.param([{"raw": 'error: {"message":"m","code":400}\n\n'}], EngineError, 400, "m", id="older engines"),
        pytest.param([{"send": failing("m", code=99999)}], EngineError, 500, "m", id="no such status"),
        pytest.param([{"raw": "data: {bad\n\n"}, STOP, LAST], EngineError, 500, SENSELESS, id="garbage"),
        pytest.param([{"raw": "data: \n\n"}, STOP, LAST], EngineError, 500, SENSELESS, id="an empty event"),
        pytest.param([{"hex": b"data: \xff\n\n".hex()}, STOP, LAST], EngineError, 500, SENSELESS, id="no UTF-8"),
        pytest.param([{"send": [1]}], EngineError, 500, SENSELESS, id="not an object"),
        pytest.param([{"raw": f'data: {{"x":{"[" * 100_000}\n\n'}], EngineError, 500, SENSELESS, id="a nested event"),
        pytest.param([], EngineDied, 500, UNFINISHED, id="nothing at all"),
        pytest.param([{"raw": "data: [DONE]\n\n"}], EngineDied, 500, UNFINISHED, id="no last event"),
        pytest.param([{"fill": MAX_EVENT_BYTES + 1}], EngineError, 500, TOO_BIG, id="a little too long an event"),
        pytest.param([{"fill": 2 * MAX_EVENT_BYTES}, {"hold": True}], EngineError, 500, TOO_BIG, id="much too long"),
    ],
)
async def test_errors(wire: Wire, path: str, reply: Any, kind: type, status: int, message: str) -> None:
    with pytest.raises(LlameroError) as caught:
        await answer(wire, path, reply)
    assert (type(caught.value), caught.value.status, str(caught.value)) == (kind, status, message)


async def test_a_long_event_is_fine(wire: Wire) -> None:
    """So is a long request."""
    content = "x" * (MAX_EVENT_BYTES // 4)
    assert await answer(wire, COMPLETION, [text(content), LAST]) == [Text(content), DONE]


@pytest.mark.parametrize(
    "reply",
    [{"body": {"tokens": "x"}}, {"body": "gar"}, {"body": "[" * 100_000}, {"body": {}}],
    ids=["another type", "garbage", "nested without end", "empty"],
)
async def test_an_answer_that_makes_no_sense(tmp_path: Path, reply: Any) -> None:
    async with fake_engine(tmp_path, {"replies": {"/tokenize": reply}}) as engine:
        with pytest.raises(EngineError, match="the answer to /tokenize makes no sense"):
            await engine.wire.tokenize("x")


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
async def test_an_engine_that_dies_before_answering(tmp_path: Path, path: str) -> None:
    """Partly R-53: the text of scheduler §11, with the engine's last words."""
    async with fake_engine(tmp_path) as engine:
        with pytest.raises(EngineDied) as caught:
            await answer(engine.wire, path, [{"print": "CUDA error: an illegal access"}, {"die": 1}])
    assert str(caught.value) == f"{DIED}: CUDA error: an illegal access"
    assert caught.value.status == 500


@pytest.mark.parametrize(
    ("path", "step", "died"),
    [
        pytest.param(CHAT, {"die": -signal.SIGKILL}, "signal: killed", id="killed"),
        pytest.param(COMPLETION, {"die": -signal.SIGSEGV}, "signal: segmentation fault", id="crashed"),
        pytest.param(COMPLETION, {"die": 7}, "exit status 7", id="gave up"),
    ],
)
async def test_an_engine_that_dies_midway(tmp_path: Path, path: str, step: Any, died: str) -> None:
    """Partly R-53: what was said until then is delivered, then the error comes."""
    steps = [delta(content="a") if path == CHAT else text("a"), step]
    async with fake_engine(tmp_path) as engine, aclosing(ask(engine.wire, path, {"reply": steps})) as events:
        assert await anext(events) == Text("a")
        with pytest.raises(EngineDied) as caught:
            await anext(events)
    assert str(caught.value) == f"{BROKE}: {died}"


async def test_an_answer_that_is_no_stream_breaks_off(tmp_path: Path) -> None:
    """Partly R-53."""
    for path, steps in (("/tokenize", [{"raw": '{"tok'}, {"die": 7}]), ("/detokenize", [{"die": 7}])):
        async with fake_engine(tmp_path, {"replies": {path: steps}}) as engine:
            with pytest.raises(EngineDied) as caught:
                await (engine.wire.tokenize("x") if path == "/tokenize" else engine.wire.detokenize([1]))
        assert str(caught.value) == f"{BROKE if path == '/tokenize' else DIED}: exit status 7"
        assert caught.value.status == 500


async def test_an_engine_that_cuts_an_answer_off_is_ended(tmp_path: Path) -> None:
    """It lives on, but is not to be trusted: the next request gets a fresh one (scheduler §11)."""
    async with fake_engine(tmp_path) as engine:
        with pytest.raises(EngineDied, match=BROKE):
            await answer(engine.wire, CHAT, [delta(content="a"), {"cut": True}])
        assert not engine.alive


async def test_other_answers_go_on_while_one_request_is_refused(wire: Wire) -> None:
    async with aclosing(wire.chat({"reply": [delta(content="a"), {"pause": 0.2}, STOP]})) as events:
        assert await anext(events) == Text("a")
        with pytest.raises(EngineError, match="no"):
            await answer(wire, COMPLETION, refusal(400, failing("no")))
        assert await anext(events) == DONE


async def test_an_engine_that_ran_out_of_memory_says_so(tmp_path: Path) -> None:
    """The refusal alone does not tell why; a client's own mistake has nothing to do with it (scheduler §11)."""
    oom = {"print": "ggml_cuda: cudaMalloc failed: out of memory"}
    async with fake_engine(tmp_path) as engine:
        with pytest.raises(RanOutOfMemory, match=r"^Compute error\.: ggml_cuda: cudaMalloc failed: out of memory$"):
            await answer(engine.wire, CHAT, [oom, {"pause": 0.1}, {"send": failing("Compute error.")}])
        with pytest.raises(EngineError, match=r"^bad grammar$"):
            await answer(engine.wire, COMPLETION, refusal(400, failing("bad grammar")))


@pytest.mark.parametrize("steps", [[{"hold": True}], [delta(content="a"), {"hold": True}]], ids=["silent", "midway"])
async def test_a_request_that_takes_too_long(tmp_path: Path, steps: list[Any]) -> None:
    async with fake_engine(tmp_path, request_timeout_s=0.3) as engine:
        with pytest.raises(EngineError) as caught:
            await answer(engine.wire, CHAT, steps)
        assert str(caught.value) == TOO_LONG
        assert engine.alive


async def test_a_stopped_engine_is_a_dead_one(tmp_path: Path) -> None:
    """A request may ask several questions; the engine may be gone between two of them."""
    async with fake_engine(tmp_path) as engine:
        await engine.stop()
        with pytest.raises(EngineDied, match=DIED):
            await engine.wire.tokenize("x")
        with pytest.raises(EngineDied, match=DIED):
            await read(engine.wire.chat({}))


# --- clients that leave --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
async def test_closing_the_events_closes_the_connection(tmp_path: Path, path: str) -> None:
    """Partly R-23: the engine is told at once."""
    steps = [delta(content="a") if path == CHAT else text("a"), {"hold": True}]
    async with fake_engine(tmp_path) as engine:
        events = ask(engine.wire, path, {"reply": steps})
        assert await anext(events) == Text("a")
        started = time.monotonic()
        await events.aclose()
        await eventually(lambda: read_record(tmp_path, "closed") == [path])
        assert time.monotonic() - started < QUICK_S
        assert engine.alive


async def test_a_cancelled_reader_closes_the_connection(tmp_path: Path) -> None:
    """Partly R-23: also while the prompt is still being read and nothing has come back."""
    async with fake_engine(tmp_path) as engine:
        reader = asyncio.create_task(answer(engine.wire, CHAT, [{"hold": True}]))
        await eventually(lambda: read_record(tmp_path, "request"))
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await eventually(lambda: read_record(tmp_path, "closed") == [CHAT])
        assert await engine.wire.tokenize("next") == [1, 2, 3]


async def test_an_engine_that_ignores_the_closing_does_not_hold_its_reader(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"ignores_closing": True}) as engine:
        events = engine.wire.chat({"reply": [delta(content="a"), {"pause": 600}]})
        await anext(events)
        started = time.monotonic()
        await events.aclose()
        assert time.monotonic() - started < QUICK_S


# --- the real engine -----------------------------------------------------------------------------------------------

STORY = {"messages": [{"role": "user", "content": "Tell me a very long story."}], "stream": True, "n_predict": 4000}


@pytest.mark.engine
async def test_the_real_engine_answers(smollm2_gguf: Path) -> None:
    async with real_engine(smollm2_gguf) as engine:
        body = {**STORY, "n_predict": 6, "n_probs": 2, "temperature": 0}
        *texts, done = await read(engine.wire.chat(body, top_logprobs=2))
        tokens = [item for event in texts if isinstance(event, Text) for item in event.logprobs]
        assert isinstance(done, Done)
        assert (done.reason, done.usage.predicted_tokens, len(tokens)) == ("length", 6, 6)
        assert done.usage.predicted_ns > 0
        assert all(len(token.top) == 2 and token.logprob <= 0 for token in tokens)

        prompt = await engine.wire.apply_template(STORY)
        ids = await engine.wire.tokenize(prompt)
        assert done.usage.prompt_tokens == len(ids)
        assert await engine.wire.detokenize(ids) == prompt

        completion = {"prompt": prompt, "stream": True, "n_predict": 6, "temperature": 0, "n_probs": 1}
        *again, last = await read(engine.wire.complete(completion))
        assert "".join(each.text for each in again) == "".join(each.text for each in texts)
        assert isinstance(last, Done)
        assert last.usage.cached_tokens > 0
        assert last.usage.prompt_tokens == len(ids), "a prompt from the cache counts as before"

        with pytest.raises(ContextTooLong, match="exceeds the available context size"):
            await read(engine.wire.complete({"prompt": "word " * 1000, "stream": True}))
        with pytest.raises(EngineError, match="failed to parse grammar") as caught:
            await read(engine.wire.complete({"prompt": "x", "grammar": "root ::= missing", "stream": True}))
        assert caught.value.status == 400
        with pytest.raises(EngineError) as caught:
            await engine.wire.embed(["x"])
        assert caught.value.status == 501


@pytest.mark.engine
async def test_a_reader_that_leaves_frees_the_slot(smollm2_gguf: Path) -> None:
    """Partly R-23: the only slot serves the next request long before the first story would be told."""
    async with real_engine(smollm2_gguf, ctx_tokens=4096) as engine:
        events = engine.wire.chat(STORY)
        for _ in range(3):
            await anext(events)
        started = time.monotonic()
        await events.aclose()
        async with aclosing(engine.wire.chat({**STORY, "n_predict": 1})) as others:
            assert isinstance(await anext(others), Text)
        assert time.monotonic() - started < QUICK_S


@pytest.mark.engine
async def test_the_real_engine_is_killed_midway(smollm2_gguf: Path) -> None:
    """Partly R-53."""
    async with real_engine(smollm2_gguf) as engine:
        events = engine.wire.chat(STORY)
        await anext(events)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match=f"{BROKE}: signal: killed"):
            await read(events)
