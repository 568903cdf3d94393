"""Pydantic AI: OpenAI's chat and Responses models, its Ollama provider; agents that call tools and answer in types."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_ai import Agent, BinaryContent, NativeOutput, ToolOutput
from pydantic_ai.messages import ThinkingPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider
from scene import CLERK, EYES, KEY, QUESTION, SMALL, THINKER, V1, WITH_TOOLS, png, tell, weather


class Animal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    legs: int = Field(ge=2, le=8)
    furry: bool


openai, ollama = OpenAIProvider(base_url=V1, api_key=KEY), OllamaProvider(base_url=V1)
MAKERS = {
    "chat": lambda name: OpenAIChatModel(name, provider=openai),
    "ollama": lambda name: OpenAIChatModel(name, provider=ollama),
    "responses": lambda name: OpenAIResponsesModel(name, provider=openai),
}


def agent(kind: str, name: str, limit: int = 60, **more: Any) -> Agent[None, Any]:
    return Agent(MAKERS[kind](name), model_settings={"max_tokens": limit, "temperature": 0}, **more)


async def get_weather(city: str) -> str:
    """The weather in a city"""
    return weather(city)


async def talk(kind: str) -> bool:
    small = agent(kind, SMALL)
    whole = (await small.run(QUESTION)).output
    async with small.run_stream(QUESTION) as streamed:
        parts = [part async for part in streamed.stream_text(delta=True, debounce_by=None)]
    return "".join(parts) == whole != "" and len(parts) > 1


async def call_and_answer(kind: str) -> list[Any]:
    run = await agent(kind, CLERK, tools=[get_weather]).run(QUESTION)
    return [run.output, run.usage.tool_calls]


async def stream_call(kind: str) -> str:
    async with agent(kind, CLERK, tools=[get_weather]).run_stream(QUESTION) as streamed:
        return await streamed.get_output()


async def structured(kind: str) -> list[str]:
    outputs = (ToolOutput(Animal), NativeOutput(Animal))
    agents = [agent(kind, WITH_TOOLS, 200, output_type=output) for output in outputs]
    return [type((await each.run("Describe a dog.")).output).__name__ for each in agents]


async def think(kind: str) -> list[str]:
    run = await agent(kind, THINKER).run(QUESTION)
    parts = [part for message in run.all_messages() for part in message.parts]
    return [*(part.content.strip() for part in parts if isinstance(part, ThinkingPart)), run.output]


async def see(kind: str) -> bool:
    eyes, picture = agent(kind, EYES, 4), BinaryContent(base64.b64decode(png(10, 10, 200)), media_type="image/png")
    prompts = (["What is this?"], ["What is this?", picture])
    blind, seeing = [(await eyes.run(prompt)).usage.input_tokens for prompt in prompts]
    return seeing > blind + 4


async def main() -> None:
    tell(
        streams={kind: await talk(kind) for kind in MAKERS},
        calls={kind: await call_and_answer(kind) for kind in MAKERS},
        streamed_calls={kind: await stream_call(kind) for kind in MAKERS},
        structured={kind: await structured(kind) for kind in MAKERS},
        thinking={kind: await think(kind) for kind in MAKERS},
        sees={kind: await see(kind) for kind in MAKERS},
    )


asyncio.run(main())
