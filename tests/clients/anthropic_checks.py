"""What Anthropic's client must find, check by check. Each runs with any of its major versions (`checking.py`).

A scene is told {"url": .., "puppet": .., "caller": .., "thinker": ..}: servers, `puppet` with a scripted engine, and
models: `caller` calls a tool behind some thinking, and `thinker` thinks first. Nothing of ours is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
from pydantic import BaseModel

SMALL = "smollm2:135m"
ABLE = "able"
HI: Any = [{"role": "user", "content": "Hi"}]
THINKING: Any = {"type": "enabled", "budget_tokens": 1024}
COLD: Any = {"extra_body": {"temperature": 0}}
TOOLS: Any = [
    {
        "name": "get_weather",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


class Animal(BaseModel):
    legs: int
    furry: bool


class Scene:
    def __init__(self, told: dict[str, str]) -> None:
        self.told = told
        self.client = anthropic.Anthropic(base_url=told["url"], api_key="any", max_retries=0)
        self.puppet = anthropic.Anthropic(base_url=told["puppet"], api_key="any", max_retries=0)

    def close(self) -> None:
        self.client.close()
        self.puppet.close()


def raised(kind: type[anthropic.APIStatusError], ask: Callable[[], object]) -> Any:
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def input_tokens(usage: Any) -> int:
    return int(usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens)


def blocks_of(message: Any) -> list[dict[str, Any]]:
    """Without what is new every time."""
    return [block.model_dump(exclude={"id", "citations", "parsed_output"}) for block in message.content]


def a_message(scene: Scene) -> None:
    message = scene.client.messages.create(model=SMALL, messages=HI, max_tokens=64, system="Be brief.", **COLD)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", SMALL)
    assert [block.type for block in message.content] == ["text"]
    assert message.stop_reason in ("end_turn", "max_tokens")
    assert message.stop_sequence is None
    assert message.usage.output_tokens > 0
    stopped = scene.client.messages.create(
        model=SMALL,
        messages=HI,
        max_tokens=64,
        stop_sequences=[message.content[0].text[5:8]],
        system="Be brief.",
        **COLD,
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", message.content[0].text[5:8])


def a_stream_is_the_message(scene: Scene) -> None:
    for model, more in (
        (SMALL, {"max_tokens": 24}),
        (scene.told["caller"], {"max_tokens": 200, "tools": TOOLS, "thinking": THINKING}),
        (scene.told["thinker"], {"max_tokens": 200, "thinking": THINKING}),
    ):
        whole = scene.client.messages.create(model=model, messages=HI, **more, **COLD)
        with scene.client.messages.stream(model=model, messages=HI, **more, **COLD) as events:
            told = list(events)
            streamed = events.get_final_message()
        assert blocks_of(whole) == blocks_of(streamed)
        assert whole.stop_reason == streamed.stop_reason
        assert whole.usage.output_tokens == streamed.usage.output_tokens
        assert input_tokens(whole.usage) == input_tokens(streamed.usage)
        assert (told[0].type, told[-1].type) == ("message_start", "message_stop")
        inputs: dict[int, str] = {}
        for event in told:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                inputs[event.index] = inputs.get(event.index, "") + event.delta.partial_json
        assert {index: json.loads(text) for index, text in inputs.items()} == {
            index: block.input for index, block in enumerate(streamed.content) if block.type == "tool_use"
        }


def a_call_and_its_result(scene: Scene) -> None:
    create, caller = scene.client.messages.create, scene.told["caller"]
    called = create(model=caller, messages=HI, max_tokens=200, tools=TOOLS, thinking=THINKING)
    thinking, use = called.content
    assert (called.stop_reason, thinking.type, use.type) == ("tool_use", "thinking", "tool_use")
    assert thinking.signature
    assert (use.name, use.input) == ("get_weather", {"city": "Paris"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
    turns: Any = [*HI, {"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    told = create(model=caller, messages=turns, max_tokens=200, tools=TOOLS, thinking=THINKING)
    assert (told.content[-1].text, told.stop_reason) == ("It rains in Paris.", "end_turn")


def prompts_are_counted(scene: Scene) -> None:
    client = scene.client
    for model, more in ((SMALL, {}), (scene.told["caller"], {"tools": TOOLS})):
        counted = client.messages.count_tokens(model=model, messages=HI, **more).input_tokens
        assert isinstance(counted, int)
        assert input_tokens(client.messages.create(model=model, messages=HI, max_tokens=1, **more).usage) == counted
        with client.messages.stream(model=model, messages=HI, max_tokens=1, **more) as events:
            (start,) = [event.message.usage for event in events if event.type == "message_start"]
            assert input_tokens(start) == counted


def a_parsed_answer(scene: Scene) -> None:
    answer = scene.client.messages.parse(model=SMALL, messages=HI, max_tokens=200, output_format=Animal)
    assert isinstance(answer.parsed_output, Animal)


def errors_are_the_clients_own(scene: Scene) -> None:
    def ask(**more: Any) -> None:
        scene.client.messages.create(**{"model": SMALL, "messages": HI, "max_tokens": 1, **more})

    for kind, more in (
        (anthropic.BadRequestError, {"max_tokens": 0}),
        (anthropic.NotFoundError, {"model": "nope"}),
        (anthropic.BadRequestError, {"tools": TOOLS}),
    ):
        error = raised(kind, lambda more=more: ask(**more))
        assert error.body["error"]["message"] in str(error)
        assert error.request_id.startswith("req_")


def an_answer_in_any_order(scene: Scene) -> None:
    """The engine thinks, speaks, thinks, speaks and calls."""
    with scene.puppet.messages.stream(model=ABLE, messages=HI, max_tokens=99, tools=TOOLS, thinking=THINKING) as events:
        message = events.get_final_message()
    told = [
        getattr(block, "thinking", getattr(block, "text", getattr(block, "input", None))) for block in message.content
    ]
    assert told == ["a", "b", "c", "d", {"city": "Paris"}]
    assert message.stop_reason == "tool_use"


CHECKS: tuple[Callable[[Scene], None], ...] = (
    a_message,
    a_stream_is_the_message,
    a_call_and_its_result,
    prompts_are_counted,
    a_parsed_answer,
    errors_are_the_clients_own,
)
SCRIPTED: tuple[Callable[[Scene], None], ...] = (an_answer_in_any_order,)
"""It needs its words in the engine's mouth."""
