"""LlamaIndex: its Ollama model and embeddings."""

from __future__ import annotations

import asyncio
import base64

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel, ConfigDict, Field
from scene import (
    CLERK,
    EMBEDDER,
    EYES,
    KITTENS,
    QUESTION,
    SMALL,
    THINKER,
    URL,
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


def get_weather(city: str) -> str:
    """The weather in a city"""
    return weather(city)


def model(name: str, limit: int = 12, **more: object) -> Ollama:
    return Ollama(name, base_url=URL, request_timeout=60, additional_kwargs={"num_predict": limit}, **more)


def call_and_answer() -> list[object]:
    clerk, tool = model(CLERK, 100), FunctionTool.from_defaults(get_weather)
    history = [ChatMessage(QUESTION)]
    first = clerk.chat_with_tools([tool], chat_history=history)
    (call,) = clerk.get_tool_calls_from_response(first)
    result = ChatMessage(tool(**call.tool_kwargs).content, role=MessageRole.TOOL, tool_call_id=call.tool_id)
    last = clerk.chat([*history, first.message, result])
    return [call.tool_name, call.tool_kwargs, last.message.content]


def stream_call() -> list[object]:
    clerk = model(CLERK, 100)
    *_, last = clerk.stream_chat_with_tools(
        [FunctionTool.from_defaults(get_weather)], chat_history=[ChatMessage(QUESTION)]
    )
    return [[call.tool_name, call.tool_kwargs] for call in clerk.get_tool_calls_from_response(last)]


def predict_and_call() -> str:
    """As its agents do it: the tool is called by the library."""
    return str(model(CLERK, 100).predict_and_call([FunctionTool.from_defaults(get_weather)], QUESTION))


def see() -> bool:
    eyes, text = model(EYES, 4), TextBlock(text="What is this?")
    picture = ImageBlock(image=base64.b64decode(png(10, 200, 10)))
    messages = [ChatMessage(blocks=[text]), ChatMessage(blocks=[text, picture])]
    blind, seeing = (eyes.chat([message]).raw["prompt_eval_count"] for message in messages)
    return seeing > blind + 4


question = [ChatMessage(QUESTION)]
small = model(SMALL, temperature=0)
whole = small.chat(question).message.content
thoughts = model(THINKER, 400, thinking=True).chat(question).message
embedder = OllamaEmbedding(EMBEDDER, base_url=URL)

tell(
    streams="".join(part.delta or "" for part in small.stream_chat(question)) == whole != "",
    waits=asyncio.run(small.achat(question)).message.content == whole,
    completes=bool(small.complete("Once upon").text),
    calls=call_and_answer(),
    streamed_calls=stream_call(),
    called=predict_and_call(),
    structured=type(
        model(WITH_TOOLS, 200).structured_predict(Animal, PromptTemplate("Describe a {animal}."), animal="dog")
    ).__name__,
    thinking=[block.content.strip() for block in thoughts.blocks if block.block_type == "thinking"],
    sees=see(),
    embedded=[
        is_sensible(embedder.get_text_embedding_batch(KITTENS)),
        is_sensible(asyncio.run(embedder.aget_text_embedding_batch(KITTENS))),
    ],
)
