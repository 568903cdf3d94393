"""LiteLLM: the same work through its four providers that can point at a server of ours."""

from __future__ import annotations

import json
from typing import Any

import litellm
from scene import (
    ANIMAL,
    CLERK,
    EMBEDDER,
    KEY,
    KITTENS,
    MESSAGES,
    SMALL,
    THINKER,
    URL,
    V1,
    WEATHER,
    WITH_TOOLS,
    is_animal,
    is_sensible,
    tell,
    weather,
)

litellm.telemetry = False
BASES = {"ollama": URL, "ollama_chat": URL, "openai": V1, "anthropic": URL}
FORMAT = {"type": "json_schema", "json_schema": {"name": "animal", "schema": ANIMAL, "strict": True}}


def ask(provider: str, model: str, **more: Any) -> Any:
    more.setdefault("messages", MESSAGES)
    more.setdefault("max_tokens", 60)
    return litellm.completion(f"{provider}/{model}", api_base=BASES[provider], api_key=KEY, **more)


def use(provider: str) -> dict[str, Any]:
    whole = ask(provider, SMALL, max_tokens=8, temperature=0)
    parts = list(ask(provider, SMALL, max_tokens=8, temperature=0, stream=True))
    said = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    animal = ask(provider, WITH_TOOLS, response_format=FORMAT)
    return {
        "streams": said.strip() == whole.choices[0].message.content.strip() != "",
        "usage": whole.usage.completion_tokens,
        "animal": is_animal(animal.choices[0].message.content),
    }


def ends(provider: str) -> list[str]:
    whole = ask(provider, SMALL, max_tokens=8, temperature=0)
    *_, last = ask(provider, SMALL, max_tokens=8, temperature=0, stream=True)
    return [whole.choices[0].finish_reason, last.choices[0].finish_reason]


def call_and_answer(provider: str) -> list[Any]:
    first = ask(provider, CLERK, tools=[WEATHER]).choices[0]
    call = first.message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": weather(**arguments)}
    messages = [*MESSAGES, first.message.model_dump(), result]
    last = ask(provider, CLERK, tools=[WEATHER], messages=messages)
    return [first.finish_reason, call.function.name, arguments, last.choices[0].message.content]


def stream_call(provider: str) -> list[Any]:
    whole = litellm.stream_chunk_builder(list(ask(provider, CLERK, tools=[WEATHER], stream=True)))
    return [(call.function.name, json.loads(call.function.arguments)) for call in whole.choices[0].message.tool_calls]


def think(provider: str) -> list[str]:
    # LiteLLM knows who can think at Anthropic, and nobody else
    asks = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "allowed_openai_params": ["thinking"]}
    if provider != "anthropic":
        asks = {"reasoning_effort": "low"}
    message = ask(provider, THINKER, max_tokens=2000, **asks).choices[0].message
    return [message.reasoning_content.strip(), message.content.strip()]


def embed(provider: str) -> bool:
    base = BASES[provider]
    found = litellm.embedding(f"{provider}/{EMBEDDER}", input=KITTENS, api_base=base, api_key=KEY)
    return is_sensible([each["embedding"] for each in found.data])


CHATS = ("ollama_chat", "openai", "anthropic")
"""`ollama` has no calls of its own, and for it every answer ends with `stop`."""

tell(
    **{provider: use(provider) for provider in BASES},
    ends={provider: ends(provider) for provider in CHATS},
    calls={provider: call_and_answer(provider) for provider in CHATS},
    streamed_calls={provider: stream_call(provider) for provider in CHATS},
    thinking={provider: think(provider) for provider in BASES},
    embedded=[embed(provider) for provider in ("ollama", "openai")],
)
