"""LangChain: its Ollama and its OpenAI models; the latter through chat completions and through Responses."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from pydantic import BaseModel, ConfigDict, Field
from scene import (
    CLERK,
    EMBEDDER,
    EYES,
    KEY,
    KITTENS,
    QUESTION,
    SMALL,
    THINKER,
    URL,
    V1,
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


@tool
def get_weather(city: str) -> str:
    """The weather in a city"""
    return weather(city)


def ollama(model: str, **more: Any) -> BaseChatModel:
    return ChatOllama(model=model, base_url=URL, num_predict=more.pop("limit", 60), **more)


def openai(model: str, **more: Any) -> BaseChatModel:
    return ChatOpenAI(
        model=model, base_url=V1, api_key=KEY, max_tokens=more.pop("limit", 60), stream_usage=True, **more
    )


def responses(model: str, **more: Any) -> BaseChatModel:
    return openai(model, use_responses_api=True, **more)


MAKERS = {"ollama": ollama, "openai": openai, "responses": responses}


def talk(kind: str) -> dict[str, Any]:
    model = MAKERS[kind](SMALL, limit=16, temperature=0)
    whole = model.invoke(QUESTION)
    parts = list(model.stream(QUESTION))
    return {
        "streams": "".join(part.text for part in parts) == whole.text != "",
        "usage": whole.usage_metadata["output_tokens"],
        "streamed_usage": sum(part.usage_metadata["output_tokens"] for part in parts if part.usage_metadata),
    }


def call_and_answer(kind: str) -> list[Any]:
    model = MAKERS[kind](CLERK).bind_tools([get_weather])
    first = model.invoke(QUESTION)
    results: list[ToolMessage] = [get_weather.invoke(call) for call in first.tool_calls]
    calls = [[call["name"], call["args"]] for call in first.tool_calls]
    return [*calls, model.invoke([HumanMessage(QUESTION), first, *results]).text]


def stream_call(kind: str) -> list[Any]:
    whole = None
    for part in MAKERS[kind](CLERK).bind_tools([get_weather]).stream(QUESTION):
        whole = part if whole is None else whole + part
    return [[call["name"], call["args"]] for call in whole.tool_calls]


def forced_call(kind: str) -> list[str]:
    model = MAKERS[kind](WITH_TOOLS, limit=200).bind_tools([get_weather], tool_choice="get_weather")
    return [call["name"] for call in model.invoke(QUESTION).tool_calls]


def structured(kind: str, methods: list[str]) -> list[str]:
    models = [MAKERS[kind](WITH_TOOLS, limit=200).with_structured_output(Animal, method=method) for method in methods]
    return [type(model.invoke("Describe a dog.")).__name__ for model in models]


def see(kind: str, part: Any) -> bool:
    """Whether the picture is in the prompt."""
    model = MAKERS[kind](EYES, limit=4)
    text = {"type": "text", "text": "What is this?"}
    blind, seeing = (model.invoke([HumanMessage(parts)]).usage_metadata for parts in ([text], [text, part]))
    return seeing["input_tokens"] > blind["input_tokens"] + 4


def think(kind: str, **more: Any) -> list[str]:
    said = MAKERS[kind](THINKER, limit=400, **more).invoke(QUESTION)
    thoughts = [block["reasoning"].strip() for block in said.content_blocks if block["type"] == "reasoning"]
    return [*thoughts, said.text]


picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(200, 10, 10)}"}}
embedders = [
    OllamaEmbeddings(model=EMBEDDER, base_url=URL),
    OpenAIEmbeddings(model=EMBEDDER, base_url=V1, api_key=KEY, check_embedding_ctx_length=False),
]

tell(
    **{kind: talk(kind) for kind in MAKERS},
    calls={kind: call_and_answer(kind) for kind in MAKERS},
    streamed_calls={kind: stream_call(kind) for kind in MAKERS},
    forced={kind: forced_call(kind) for kind in ("openai", "responses")},
    structured={
        "ollama": structured("ollama", ["json_schema"]),
        "openai": structured("openai", ["json_schema", "function_calling"]),
        "responses": structured("responses", ["json_schema", "function_calling"]),
    },
    thinking={
        "ollama": think("ollama", reasoning=True),
        "responses": think("responses", reasoning={"effort": "low", "summary": "auto"}),
    },
    sees={kind: see(kind, picture) for kind in MAKERS},
    completes=[
        bool(OllamaLLM(model=SMALL, base_url=URL, num_predict=8).invoke("Once upon")),
        bool(OpenAI(model=SMALL, base_url=V1, api_key=KEY, max_tokens=8).invoke("Once upon")),
    ],
    embedded=[is_sensible(embedder.embed_documents(KITTENS)) for embedder in embedders],
)
