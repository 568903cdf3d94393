"""What OpenAI's client must find, check by check. Each runs with any of its major versions (`checking.py`).

A scene is told {"url": .., "puppet": .., "caller": .., "thinker": .., "old": ..}: two servers, `puppet` with a scripted
engine, and models: `caller` calls two tools, `thinker` thinks first, `old` may be removed. Nothing of ours is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
from pydantic import BaseModel

SMALL = "smollm2:135m"
EMBEDDER = "all-minilm:22m"
ABLE = "able"
LEVELS = "levels"
HI: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {argument: {"type": "string"}}}},
    }
    for name, argument in (("get_weather", "city"), ("get_time", "zone"))
]


class Animal(BaseModel):
    legs: int
    furry: bool


class Scene:
    def __init__(self, told: dict[str, str]) -> None:
        self.told = told
        self.client = openai.OpenAI(base_url=f"{told['url']}/v1", api_key="any", max_retries=0)
        self.puppet = openai.OpenAI(base_url=f"{told['puppet']}/v1", api_key="any", max_retries=0)

    def close(self) -> None:
        self.client.close()
        self.puppet.close()


def raised(kind: type[openai.APIError], ask: Callable[[], object]) -> Any:
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


# --- models and errors -----------------------------------------------------------------------------------------------


def models_that_are_not_there(scene: Scene) -> None:
    client = scene.client
    for ask in (
        lambda: client.chat.completions.create(model="nope", messages=HI),
        lambda: client.completions.create(model="nope", prompt="x"),
        lambda: client.responses.create(model="nope", input="x"),
        lambda: client.embeddings.create(model="nope", input="x"),
        lambda: client.models.retrieve("nope"),
    ):
        error = raised(openai.NotFoundError, ask)
        assert (error.code, error.param) == ("model_not_found", "model")
        assert "nope" in str(error)
        assert error.request_id.startswith("req_")


def requests_have_ids(scene: Scene) -> None:
    first, second = (
        scene.client.chat.completions.create(model=SMALL, messages=HI, max_tokens=1)._request_id for _ in range(2)
    )
    assert first
    assert second
    assert first != second


def endpoints_that_are_not_there(scene: Scene) -> None:
    client = scene.client
    for ask in (
        lambda: client.images.generate(prompt="a cat", model="x"),
        lambda: client.moderations.create(input="x"),
        lambda: list(client.files.list()),
    ):
        error = raised(openai.NotFoundError, ask)
        assert error.code == "unknown_url"
        assert error.type == "invalid_request_error"


def listing_and_removing(scene: Scene) -> None:
    client, old = scene.client, scene.told["old"]
    listed = {model.id: model for model in client.models.list()}
    assert {SMALL, EMBEDDER, old} <= set(listed)
    assert all(model.object == "model" and isinstance(model.created, int) for model in listed.values())
    assert (listed[SMALL].owned_by, listed[old].owned_by) == ("library", old.partition("/")[0])
    assert client.models.retrieve(SMALL).created == listed[SMALL].created
    assert client.models.retrieve(old).id == old
    assert client.models.delete(old).deleted is True
    assert old not in {model.id for model in client.models.list()}
    raised(openai.NotFoundError, lambda: client.models.delete(old))


# --- chat ------------------------------------------------------------------------------------------------------------


def a_chat(scene: Scene) -> None:
    chat = scene.client.chat.completions
    asked: dict[str, Any] = {"model": SMALL, "messages": HI, "max_tokens": 8, "temperature": 0, "seed": 1}
    whole = chat.create(**asked)
    (only,) = whole.choices
    assert (whole.object, whole.model, only.index, only.message.role) == ("chat.completion", SMALL, 0, "assistant")
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.completion_tokens_details is not None
    assert only.finish_reason == "length"
    with chat.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        read = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in read[:-1]) == only.message.content
    assert read[-1].usage is not None
    assert read[-1].usage.completion_tokens == 8


def thinking_is_apart(scene: Scene) -> None:
    whole = scene.client.chat.completions.create(model=scene.told["thinker"], messages=HI)
    message = whole.choices[0].message
    assert (message.model_extra or {})["reasoning"].strip() == "Thirty and three."
    assert message.content == "It is 33."


def a_parsed_answer(scene: Scene) -> None:
    parsed = scene.client.chat.completions.parse(model=SMALL, messages=HI, response_format=Animal, max_tokens=200)
    animal = parsed.choices[0].message.parsed
    assert isinstance(animal, Animal)


def calls_and_their_results(scene: Scene) -> None:
    chat, caller = scene.client.chat.completions, scene.told["caller"]
    first = chat.create(model=caller, messages=HI, tools=TOOLS).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.content is None
    calls = first.message.tool_calls or []
    assert [(call.type, call.function.name) for call in calls] == [
        ("function", "get_weather"),
        ("function", "get_time"),
    ]
    assert json.loads(calls[0].function.arguments) == {"city": "Paris"}
    assert len({call.id for call in calls}) == 2
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
    again = chat.create(model=caller, messages=[*HI, first.message, *results], tools=TOOLS)
    assert again.choices[0].message.content == "So it rains."


def several_answers_with_logprobs(scene: Scene) -> None:
    whole = scene.client.chat.completions.create(
        model=SMALL, messages=HI, n=3, max_tokens=2, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    for choice in whole.choices:
        assert choice.logprobs is not None
        entries = choice.logprobs.content or []
        assert len(entries) == 2
        assert all(entry.bytes and len(entry.top_logprobs) == 2 for entry in entries)


def native_settings_in_extra_body(scene: Scene) -> None:
    extra = {"options": {"num_ctx": 512, "num_predict": 2}, "keep_alive": "1m", "zzz": 1}
    raw = scene.client.chat.completions.with_raw_response.create(model=SMALL, messages=HI, extra_body=extra)
    assert "'zzz'" in raw.headers["Llamero-Warning"]
    usage = raw.parse().usage
    assert usage is not None
    assert usage.completion_tokens <= 2


# --- completions and embeddings --------------------------------------------------------------------------------------


def completions(scene: Scene) -> None:
    client = scene.client
    whole = client.completions.create(model=SMALL, prompt=["a", "b"], max_tokens=2, logprobs=2, echo=False)
    assert (whole.object, len(whole.choices)) == ("text_completion", 2)
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.tokens or []) == len(logprobs.top_logprobs or []) == 2
    with client.completions.create(model=SMALL, prompt="a", max_tokens=2, temperature=0, stream=True) as stream:
        read = list(stream)
    assert [chunk.choices[0].finish_reason for chunk in read][-1] == "length"
    echo = client.completions.create(model=SMALL, prompt=[28120, 905], max_tokens=0, echo=True)
    assert echo.choices[0].text == "hello world"


def embeddings(scene: Scene) -> None:
    create = scene.client.embeddings.create
    (default,), (plain,) = (
        create(model=EMBEDDER, input="x", **more).data for more in ({}, {"encoding_format": "float"})
    )
    assert len(default.embedding) == 384
    assert max(abs(a - b) for a, b in zip(default.embedding, plain.embedding, strict=True)) < 1e-6
    assert abs(sum(value * value for value in default.embedding) - 1) < 1e-5
    assert len(create(model=EMBEDDER, input=[[101, 102], [101, 7592, 102]], dimensions=8).data[1].embedding) == 8


# --- a scripted engine -----------------------------------------------------------------------------------------------


def a_stream_that_fails(scene: Scene) -> None:
    """The engine says two words and then that it can no more."""
    client = scene.puppet
    for ask in (
        lambda: list(client.chat.completions.create(model=ABLE, messages=HI, stream=True)),
        lambda: list(client.completions.create(model=LEVELS, prompt="x", stream=True)),
    ):
        error = raised(openai.APIError, ask)
        assert error.message == "no more"
    with client.responses.create(model=ABLE, input="x", stream=True) as stream:
        *_, last = stream
    assert last.type == "response.failed"
    assert "no more" in last.response.error.message


def streamed_calls(scene: Scene) -> None:
    """The engine calls two functions, one of them with long arguments."""
    with scene.puppet.chat.completions.stream(model=ABLE, messages=HI, tools=TOOLS) as stream:
        pieces = [event for event in stream if event.type == "tool_calls.function.arguments.delta"]
        (choice,) = stream.get_final_completion().choices
    calls = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "Llanfair" * 40}),
        ("get_time", {}),
    ]
    assert len({call.id for call in calls}) == 2
    assert len([piece for piece in pieces if piece.index == 0]) > 2


CHECKS: tuple[Callable[[Scene], None], ...] = (
    models_that_are_not_there,
    requests_have_ids,
    endpoints_that_are_not_there,
    listing_and_removing,
    a_chat,
    thinking_is_apart,
    a_parsed_answer,
    calls_and_their_results,
    several_answers_with_logprobs,
    native_settings_in_extra_body,
    completions,
    embeddings,
)
SCRIPTED: tuple[Callable[[Scene], None], ...] = (a_stream_that_fails, streamed_calls)
"""Each needs its own words in the engine's mouth."""
