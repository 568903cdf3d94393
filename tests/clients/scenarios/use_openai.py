"""OpenAI's own client: a round through everything it has here. The depth is in the tests of the dialects."""

from __future__ import annotations

import json

import openai
from pydantic import BaseModel, ConfigDict, Field
from scene import (
    CLERK,
    EMBEDDER,
    EYES,
    KEY,
    KITTENS,
    MESSAGES,
    SMALL,
    THINKER,
    V1,
    WEATHER,
    WEATHER_SCHEMA,
    WITH_TOOLS,
    is_sensible,
    png,
    tell,
    weather,
)


class Animal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    legs: int = Field(ge=2, le=8)
    furry: bool


client = openai.OpenAI(base_url=V1, api_key=KEY)
chat = client.chat.completions


def call_and_answer() -> list[object]:
    first = chat.create(model=CLERK, messages=MESSAGES, tools=[WEATHER]).choices[0]
    (call,) = first.message.tool_calls
    arguments = json.loads(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": weather(**arguments)}
    last = chat.create(model=CLERK, messages=[*MESSAGES, first.message, result], tools=[WEATHER])
    return [first.finish_reason, call.function.name, arguments, last.choices[0].message.content]


def respond_and_answer() -> list[object]:
    """The same through Responses, which keeps the conversation."""
    tool = {"type": "function", "name": "get_weather", "parameters": WEATHER_SCHEMA, "strict": False}
    first = client.responses.create(model=CLERK, input=MESSAGES, tools=[tool])
    (call,) = [item for item in first.output if item.type == "function_call"]
    arguments = json.loads(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": weather(**arguments)}
    last = client.responses.create(model=CLERK, input=[result], tools=[tool], previous_response_id=first.id)
    return [call.name, arguments, last.output_text]


def streamed() -> list[object]:
    with chat.stream(model=THINKER, messages=MESSAGES) as events:
        kinds = {event.type for event in events}
        whole = events.get_final_completion()
    with client.responses.stream(model=SMALL, input=MESSAGES, max_output_tokens=16) as events:
        more = {event.type for event in events}
    return [
        "content.delta" in kinds,
        whole.choices[0].message.content,
        {"response.output_text.delta", "response.incomplete"} <= more,
    ]


def see() -> bool:
    text = {"type": "text", "text": "What is this?"}
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(9, 99, 199)}"}}
    asks = [[{"role": "user", "content": parts}] for parts in ([text], [text, picture])]
    blind, seeing = (chat.create(model=EYES, messages=ask, max_tokens=2).usage.prompt_tokens for ask in asks)
    return seeing > blind + 4


def refused() -> list[object]:
    try:
        chat.create(model="nobody", messages=MESSAGES)
    except openai.NotFoundError as error:
        return [error.status_code, error.code, error.param]
    return []


thinking = chat.create(model=THINKER, messages=MESSAGES).choices[0].message
parsed = chat.parse(model=WITH_TOOLS, messages=MESSAGES, response_format=Animal, max_tokens=200)
respond = client.responses.parse(model=WITH_TOOLS, input=MESSAGES, text_format=Animal, max_output_tokens=200)

tell(
    calls=call_and_answer(),
    responses=respond_and_answer(),
    streamed=streamed(),
    parsed=[type(parsed.choices[0].message.parsed).__name__, type(respond.output_parsed).__name__],
    thinking=[thinking.reasoning.strip(), thinking.content],
    sees=see(),
    completes=client.completions.create(
        model=SMALL, prompt="Once upon", max_tokens=4, temperature=0
    ).usage.completion_tokens,
    embedded=is_sensible([each.embedding for each in client.embeddings.create(model=EMBEDDER, input=KITTENS).data]),
    models={SMALL, EMBEDDER} <= {model.id for model in client.models.list()},
    model=client.models.retrieve(SMALL).id,
    refused=refused(),
)
