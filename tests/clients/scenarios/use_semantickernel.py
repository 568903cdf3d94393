"""Semantic Kernel: its Ollama and OpenAI connectors, and a plugin that the kernel calls by itself."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import ollama
import openai
from pydantic import BaseModel, ConfigDict, Field
from scene import CLERK, EMBEDDER, KEY, KITTENS, QUESTION, SMALL, URL, V1, WITH_TOOLS, is_sensible, tell, weather
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.ollama import OllamaChatCompletion, OllamaTextCompletion, OllamaTextEmbedding
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAITextEmbedding
from semantic_kernel.contents import ChatHistory
from semantic_kernel.functions import kernel_function


class Animal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    legs: int = Field(ge=2, le=8)
    furry: bool


class Weather:
    @kernel_function(name="get_weather", description="The weather in a city")
    def get_weather(self, city: Annotated[str, "Name of the city"]) -> str:
        return weather(city)


def openai_client() -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=V1, api_key=KEY)


MAKERS = {
    "ollama": lambda name: OllamaChatCompletion(ai_model_id=name, client=ollama.AsyncClient(URL)),
    "openai": lambda name: OpenAIChatCompletion(ai_model_id=name, async_client=openai_client()),
}


def asked() -> ChatHistory:
    history = ChatHistory()
    history.add_user_message(QUESTION)
    return history


def settings(kind: str, service: Any, limit: int, **more: Any) -> Any:
    form = service.get_prompt_execution_settings_class()
    if kind == "ollama":
        return form(options={"num_predict": limit, "temperature": 0}, **more)
    return form(max_tokens=limit, temperature=0, **more)


async def talk(kind: str) -> bool:
    service = MAKERS[kind](SMALL)
    calm = settings(kind, service, 12)
    whole = str(await service.get_chat_message_content(asked(), calm))
    parts = [str(part) async for part in service.get_streaming_chat_message_content(asked(), calm)]
    return "".join(parts) == whole != ""


async def call_and_answer(kind: str) -> list[str]:
    """Whole, and streamed."""
    service, kernel = MAKERS[kind](CLERK), Kernel()
    kernel.add_plugin(Weather(), "sky")
    calm = settings(kind, service, 60, function_choice_behavior=FunctionChoiceBehavior.Auto())
    whole = str(await service.get_chat_message_content(asked(), calm, kernel=kernel))
    parts = [str(part) async for part in service.get_streaming_chat_message_content(asked(), calm, kernel=kernel)]
    return [whole, "".join(parts)]


async def main() -> None:
    chat = MAKERS["openai"](WITH_TOOLS)
    animal = await chat.get_chat_message_content(asked(), settings("openai", chat, 100, response_format=Animal))
    story = OllamaTextCompletion(ai_model_id=SMALL, client=ollama.AsyncClient(URL))
    embedders = [
        OllamaTextEmbedding(ai_model_id=EMBEDDER, client=ollama.AsyncClient(URL)),
        OpenAITextEmbedding(ai_model_id=EMBEDDER, async_client=openai_client()),
    ]
    tell(
        streams={kind: await talk(kind) for kind in MAKERS},
        calls={kind: await call_and_answer(kind) for kind in MAKERS},
        structured=type(Animal.model_validate_json(str(animal))).__name__,
        completes=bool(str(await story.get_text_content("Once upon", settings("ollama", story, 12)))),
        embedded=[
            is_sensible([list(map(float, each)) for each in await embedder.generate_embeddings(KITTENS)])
            for embedder in embedders
        ],
    )


asyncio.run(main())
