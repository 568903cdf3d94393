"""Embeddings in OpenAI's form on real servers (compat-api §7)."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import pytest

from tests.running import Reply, Server
from tests.server.puppet import Puppet

E = "all-minilm:22m"
HELLO = [101, 7592, 2088, 102]
"""`hello world` as this model's tokenizer has it, its marks for beginning and end included."""


def post(server: Server, input: Any = "x", **body: Any) -> Reply:
    return server.post("/v1/embeddings", {"model": E, "input": input, **body})


def vectors(server: Server, input: Any = "x", **body: Any) -> list[list[float]]:
    reply = post(server, input, **body)
    assert reply.status == 200, reply.body
    data = reply.json()["data"]
    assert [each["index"] for each in data] == list(range(len(data)))
    return [each["embedding"] for each in data]


def refused(server: Server, input: Any = "x", **body: Any) -> tuple[str, str | None]:
    reply = post(server, input, **body)
    assert reply.status == 400, reply.body
    error = reply.json()["error"]
    return error["message"], error["param"]


def length(vector: list[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in vector))


def test_c65_two_ways_to_write_a_vector(server: Server) -> None:
    """Partly C-65: the client's default is in `tests/clients`."""
    (plain,) = vectors(server)
    (packed,) = vectors(server, encoding_format="base64")
    unpacked = list(struct.unpack("<384f", base64.b64decode(str(packed))))
    assert plain == pytest.approx(unpacked, abs=1e-6)
    assert length(plain) == pytest.approx(1, abs=1e-6)


def test_c66_several_texts(server: Server) -> None:
    given = ["one", "two words", "and three words"]
    reply = post(server, given).json()
    assert (reply["object"], reply["model"]) == ("list", E)
    assert {each["object"] for each in reply["data"]} == {"embedding"}
    together, alone = vectors(server, given), [vectors(server, text)[0] for text in given]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    counts = [post(server, text).json()["usage"]["prompt_tokens"] for text in given]
    assert reply["usage"] == {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    assert sum(counts) == 3 + 4 + 5


def test_c67_shorter_vectors(server: Server) -> None:
    (whole,), (short,) = vectors(server), vectors(server, dimensions=64)
    assert len(short) == 64
    assert length(short) == pytest.approx(1, abs=1e-6)
    assert short == pytest.approx([value / length(whole[:64]) for value in whole[:64]], abs=1e-6)
    assert vectors(server, dimensions=384) == vectors(server)
    for dimensions in (385, 0, -1):
        assert refused(server, dimensions=dimensions)[1] == "dimensions"


def test_c68_what_may_be_asked(server: Server) -> None:
    said = "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64']."
    assert refused(server, encoding_format="hex") == (said, "encoding_format")
    assert isinstance(vectors(server, encoding_format="BASE64")[0], str)
    assert refused(server, []) == refused(server, None) == ("invalid input", "input")
    assert len(vectors(server, "")) == 1
    for wrong in ([1, "a"], {"a": 1}, 5, [None]):
        assert refused(server, wrong) == ("invalid input type", "input")
    assert refused(server, ["x"] * 2049)[1] == "input"


def test_c69_texts_in_tokens(server: Server) -> None:
    (said,) = vectors(server, "hello world")
    assert vectors(server, HELLO)[0] == pytest.approx(said, abs=1e-6)
    one, other = vectors(server, [HELLO, [101, 2028, 102]])
    assert one == pytest.approx(said, abs=1e-4)
    assert other == pytest.approx(vectors(server, "one")[0], abs=1e-4)
    for wrong in ([30522], [HELLO, [-1]]):
        message, param = refused(server, wrong)
        assert message.endswith("is not a token of this model")
        assert param == "input"


@pytest.mark.parametrize("input", [["short", "long " * 600], [[101, 102], [101] * 600]], ids=["texts", "tokens"])
def test_texts_that_are_too_long(server: Server, input: Any) -> None:
    """Cut, which the reply says; with the extension `truncate: false` refused."""
    reply = post(server, input)
    assert reply.status == 200
    assert reply.headers["Llamero-Warning"].startswith("input 1 is longer than the context")
    refusal = post(server, input, truncate=False).json()["error"]
    assert (refusal["message"], refusal["param"], refusal["code"]) == (
        "the input length exceeds the context length",
        "input",
        "context_length_exceeded",
    )


def test_a_vector_that_is_none_is_the_servers_fault(puppet: Puppet) -> None:
    """§7: the reference blames the request, and so do we where it speaks."""
    broken = {"body": {"data": [{"embedding": [0.5, None], "index": 0}], "usage": {"prompt_tokens": 4}}}
    puppet.plays(**{"v1/embeddings": broken})
    reply = post(puppet.server)
    assert (reply.status, reply.json()["error"]["message"]) == (500, "embedding contains NaN or Inf values")
    assert reply.headers["x-should-retry"] == "false"
    assert puppet.server.post("/api/embed", {"model": E, "input": "x"}).status == 400


def test_native_settings_and_labels(puppet: Puppet) -> None:
    reply = post(puppet.server, options={"num_ctx": 128}, keep_alive=0, user="me", zzz=1)
    assert reply.status == 200
    assert reply.headers.get_all("Llamero-Warning") == ["field 'zzz' is unknown and has no effect"]
    (argv,) = puppet.record("argv")
    assert argv[argv.index("-c") + 1].isdigit()
    puppet.server.wait_until(lambda: not puppet.server.loaded())
