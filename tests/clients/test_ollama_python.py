"""The official Python client, as its users use it, against a server of ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

from tests.running import Server

M = "smollm2:135m"
E = "all-minilm:22m"
HI = [{"role": "user", "content": "Why is the sky blue?"}]
SHORT = {"num_predict": 8, "temperature": 0}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[ollama.Client]:
    client = ollama.Client(server.url)
    yield client
    client._client.close()  # the library itself offers no way to close it


def test_list_and_show(client: ollama.Client) -> None:
    models = {model.model: model for model in client.list().models}
    assert {M, E} <= set(models)
    details = models[M].details
    assert details is not None
    assert (details.family, details.quantization_level) == ("llama", "Q4_1")
    shown = client.show(M)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo is not None
    assert shown.modelinfo["llama.context_length"] == 8192


def test_chat_streaming_and_not(client: ollama.Client) -> None:
    whole = client.chat(M, HI, options=SHORT)
    parts = list(client.chat(M, HI, options=SHORT, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert parts[-1].done_reason == "length"
    assert whole.eval_count == 8


def test_generate_streaming_raw_and_context(client: ollama.Client) -> None:
    whole = client.generate(M, "The sky is", options=SHORT)
    parts = client.generate(M, "The sky is", options=SHORT, stream=True)
    assert "".join(part.response for part in parts) == whole.response
    again = client.generate(M, "and then?", options=SHORT, context=whole.context)
    assert again.response
    assert client.generate(M, "The sky is", raw=True, options=SHORT).context is None


def test_structured_output(client: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"legs": {"type": "integer", "maximum": 9}}, "required": ["legs"]}
    reply = client.chat(M, [{"role": "user", "content": "A cat"}], format=schema, options={"num_predict": 60})
    assert isinstance(json.loads(reply.message.content or "")["legs"], int)


def test_embeddings(client: ollama.Client) -> None:
    rows = client.embed(E, ["one", "two"]).embeddings
    assert [len(row) for row in rows] == [384, 384]
    assert len(client.embeddings(E, "one").embedding) == 384


def test_create_copy_delete(client: ollama.Client) -> None:
    steps = [step.status for step in client.create("pirate", from_=M, system="Talk like a pirate.", stream=True)]
    assert steps[-1] == "success"
    assert client.show("pirate").modelfile is not None
    assert client.copy("pirate", "corsair").status == "success"
    assert client.delete("pirate").status == "success"
    assert client.delete("corsair").status == "success"
    with pytest.raises(ollama.ResponseError) as caught:
        client.delete("corsair")
    assert (caught.value.status_code, caught.value.error) == (404, "model 'corsair' not found")


def test_blobs_and_create_from_a_file(client: ollama.Client, tmp_path: Path) -> None:
    from tests.gguf_files import tiny_llama

    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_llama())
    digest = client.create_blob(path)
    assert client.create("tiny-from-python", files={"tiny.gguf": digest}).status == "success"
    assert client.generate("tiny-from-python", "a", raw=True, options={"num_predict": 1}, keep_alive=0).done
    client.delete("tiny-from-python")


def test_ps_and_unload(client: ollama.Client) -> None:
    client.generate(M, "", keep_alive="5m")
    (model,) = [model for model in client.ps().models if model.model == M]
    assert model.context_length == 4096
    assert client.generate(M, "", keep_alive=0).done_reason == "unload"


def test_pull_of_a_model_that_is_here(client: ollama.Client) -> None:
    statuses = [step.status for step in client.pull(M, stream=True)]
    assert (statuses[0], statuses[-1]) == ("pulling manifest", "success")


def test_errors(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat("nope", HI)
    assert (caught.value.status_code, caught.value.error) == (404, "model 'nope' not found")
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(M, HI, options={"temperature": "hot"})
    assert caught.value.status_code == 400


async def test_the_asynchronous_client(server: Server) -> None:
    client = ollama.AsyncClient(server.url)
    parts = [part async for part in await client.chat(M, HI, options=SHORT, stream=True)]
    assert parts[-1].done
    answers = await asyncio.gather(*(client.generate(M, f"Number {i}", options=SHORT) for i in range(4)))
    assert all(answer.response for answer in answers)
    await client._client.aclose()


def test_pictures(client: ollama.Client, tiny_vision: str, tmp_path: Path) -> None:
    """A model with a projector sees: two pictures give two different first tokens' probabilities."""
    from PIL import Image

    seen = []
    for color in ("red", "blue"):
        path = tmp_path / f"{color}.png"
        Image.new("RGB", (64, 64), color).save(path)
        message = {"role": "user", "content": "What is this?", "images": [path]}
        reply = client.chat(
            tiny_vision, [message], options={"num_predict": 1, "temperature": 0}, logprobs=True, top_logprobs=5
        )
        assert reply.logprobs
        seen.append([entry.logprob for entry in reply.logprobs[0].top_logprobs or []])
    assert seen[0] != seen[1]
