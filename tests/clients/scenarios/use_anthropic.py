"""Anthropic's own client: a round through everything it has here. The depth is in the tests of the dialect."""

from __future__ import annotations

import anthropic
from scene import CLERK, EYES, KEY, MESSAGES, SMALL, THINKER, URL, WEATHER_SCHEMA, WITH_TOOLS, png, tell, weather

client = anthropic.Anthropic(base_url=URL, api_key=KEY)
TOOL = {"name": "get_weather", "description": "The weather in a city", "input_schema": WEATHER_SCHEMA}


def call_and_answer() -> list[object]:
    first = client.messages.create(model=CLERK, messages=MESSAGES, tools=[TOOL], max_tokens=200)
    (call,) = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)}
    turns = [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    last = client.messages.create(model=CLERK, messages=[*MESSAGES, *turns], tools=[TOOL], max_tokens=200)
    return [first.stop_reason, call.name, call.input, last.content[0].text, last.stop_reason]


def forced() -> list[str]:
    choice = {"type": "tool", "name": "get_weather"}
    said = client.messages.create(model=WITH_TOOLS, messages=MESSAGES, tools=[TOOL], tool_choice=choice, max_tokens=200)
    return [block.name for block in said.content if block.type == "tool_use"]


def streamed() -> list[object]:
    with client.messages.stream(model=THINKER, messages=MESSAGES, max_tokens=400, thinking=THINKING) as events:
        text = "".join(events.text_stream)
        whole = events.get_final_message()
    return [text, [block.type for block in whole.content], whole.content[0].thinking.strip(), whole.stop_reason]


def see() -> bool:
    text = {"type": "text", "text": "What is this?"}
    source = {"type": "base64", "media_type": "image/png", "data": png(9, 99, 199)}
    asks = [[{"role": "user", "content": parts}] for parts in ([text], [text, {"type": "image", "source": source}])]
    blind, seeing = (client.messages.create(model=EYES, messages=ask, max_tokens=2).usage for ask in asks)
    return seeing.input_tokens + (seeing.cache_read_input_tokens or 0) > blind.input_tokens + 4


def counted() -> bool:
    said = client.messages.create(model=SMALL, messages=MESSAGES, max_tokens=2).usage
    counted = client.messages.count_tokens(model=SMALL, messages=MESSAGES).input_tokens
    return counted == said.input_tokens + (said.cache_read_input_tokens or 0)


def refused() -> list[object]:
    try:
        client.messages.create(model="nobody", messages=MESSAGES, max_tokens=2)
    except anthropic.NotFoundError as error:
        return [error.status_code, error.body["error"]["type"]]
    return []


THINKING = {"type": "enabled", "budget_tokens": 1024}

tell(
    calls=call_and_answer(),
    forced=forced(),
    streamed=streamed(),
    sees=see(),
    counted=counted(),
    models=SMALL in {model.id for model in client.models.list()},
    refused=refused(),
)
