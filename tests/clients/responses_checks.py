"""What OpenAI's client must find at `/v1/responses`. Each check runs with any of its major versions (`checking.py`).

A scene is told {"url": .., "puppet": .., "caller": .., "thinker": ..}: servers, `puppet` with a scripted engine, and
models: `caller` calls a tool behind some thinking, and `thinker` thinks first. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import openai
from pydantic import BaseModel

SMALL = "smollm2:135m"
ABLE = "able"
PATIENCE_S = 30.0
TOOLS: Any = [
    {
        "type": "function",
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": False,
    }
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


def raised(kind: type[openai.APIStatusError], ask: Callable[[], object]) -> Any:
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def a_response(scene: Scene) -> None:
    response = scene.client.responses.create(model=SMALL, input="hi", temperature=0)
    assert (response.object, response.status, response.error) == ("response", "completed", None)
    assert response.id.startswith("resp_")
    assert response.output_text
    assert response.output[-1].content[0].annotations == []
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def a_stream_is_the_response(scene: Scene) -> None:
    for model, more in (
        (SMALL, {"max_output_tokens": 200}),
        (scene.told["thinker"], {}),
        (scene.told["caller"], {"tools": TOOLS}),
    ):
        create = scene.client.responses.create
        whole = create(model=model, input="Hi", temperature=0, **more)
        with scene.client.responses.stream(model=model, input="Hi", temperature=0, **more) as stream:
            events = list(stream)
            final = stream.get_final_response() if events[-1].type == "response.completed" else events[-1].response
        assert [event.sequence_number for event in events] == [*range(len(events))]
        said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert said == final.output_text == whole.output_text
        assert [item.type for item in final.output] == [item.type for item in whole.output]


def an_answer_that_is_cut_off(scene: Scene) -> None:
    cut = scene.client.responses.create(model=SMALL, input="hi", max_output_tokens=3)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    with scene.client.responses.create(model=SMALL, input="hi", max_output_tokens=3, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds[-1] == "response.incomplete"
    assert "response.completed" not in kinds


def a_parsed_answer(scene: Scene) -> None:
    parse = scene.client.responses.parse
    answer = parse(model=SMALL, input="An animal.", text_format=Animal, max_output_tokens=200)
    assert isinstance(answer.output_parsed, Animal)


def a_conversation_that_is_kept(scene: Scene) -> None:
    responses = scene.client.responses
    first = responses.create(model=SMALL, input="Say one.", max_output_tokens=4, store=True)
    second = responses.create(model=SMALL, input="Go on.", max_output_tokens=4, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.total_tokens
    assert responses.retrieve(first.id).output_text == first.output_text
    items = list(responses.input_items.list(second.id, order="asc", limit=2))
    assert [item.role for item in items] == ["user", "assistant", "user"]
    responses.delete(first.id)
    assert raised(openai.NotFoundError, lambda: responses.retrieve(first.id)).status_code == 404
    gone = raised(
        openai.BadRequestError, lambda: responses.create(model=SMALL, input="x", previous_response_id=first.id)
    )
    assert (gone.code, gone.param) == ("previous_response_not_found", "previous_response_id")
    unkept = responses.create(model=SMALL, input="x", max_output_tokens=1, store=False)
    raised(openai.NotFoundError, lambda: responses.retrieve(unkept.id))


def calls_and_their_results(scene: Scene) -> None:
    create, caller = scene.client.responses.create, scene.told["caller"]
    called = create(model=caller, input="Hi", tools=TOOLS, include=["reasoning.encrypted_content"], store=False)
    reasoning, call = called.output
    assert (reasoning.type, call.type) == ("reasoning", "function_call")
    assert reasoning.encrypted_content
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    told = create(model=caller, input=[{"role": "user", "content": "Hi"}, *called.output, result], tools=TOOLS)
    assert told.output_text == "It rains in Paris."


def a_response_in_the_background(scene: Scene) -> None:
    responses = scene.client.responses
    queued = responses.create(model=SMALL, input="hi", background=True, max_output_tokens=4)
    assert (queued.status, queued.background) == ("queued", True)
    deadline = time.monotonic() + PATIENCE_S
    while (now := responses.retrieve(queued.id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert now.status in ("completed", "incomplete")
    assert now.output_text
    assert responses.cancel(queued.id).status == now.status


def text_and_then_a_call(scene: Scene) -> None:
    """The engine speaks, and then calls a function."""
    with scene.puppet.responses.stream(model=ABLE, input="Hi", tools=TOOLS) as stream:
        final = stream.get_final_response()
    whole = scene.puppet.responses.create(model=ABLE, input="Hi", tools=TOOLS)
    for response in (final, whole):
        assert [item.type for item in response.output] == ["message", "function_call"]
        assert response.output_text == "Let me see."


CHECKS: tuple[Callable[[Scene], None], ...] = (
    a_response,
    a_stream_is_the_response,
    an_answer_that_is_cut_off,
    a_parsed_answer,
    a_conversation_that_is_kept,
    calls_and_their_results,
    a_response_in_the_background,
)
SCRIPTED: tuple[Callable[[Scene], None], ...] = (text_and_then_a_call,)
"""It needs its words in the engine's mouth."""
