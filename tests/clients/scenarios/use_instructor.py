"""Instructor: its modes over OpenAI's and Anthropic's own clients."""

from __future__ import annotations

import anthropic
import instructor
import openai
from instructor import Mode
from pydantic import BaseModel, ConfigDict, Field
from scene import KEY, URL, V1, WITH_TOOLS, tell


class Animal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    legs: int = Field(ge=2, le=8)
    furry: bool


DOG = {
    "model": WITH_TOOLS,
    "messages": [{"role": "user", "content": "Describe a dog: its number of legs, and whether it has fur."}],
    "response_model": Animal,
    "max_tokens": 200,
    "temperature": 0,
    "max_retries": 1,
}


def over_openai(mode: Mode) -> str:
    client = instructor.from_openai(openai.OpenAI(base_url=V1, api_key=KEY), mode=mode)
    return type(client.chat.completions.create(**DOG)).__name__


def over_anthropic(mode: Mode) -> str:
    client = instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=KEY), mode=mode)
    return type(client.messages.create(**DOG)).__name__


def partial() -> list[str]:
    """An object that grows while it is streamed."""
    client = instructor.from_openai(openai.OpenAI(base_url=V1, api_key=KEY), mode=Mode.JSON_SCHEMA)
    fields = {key: value for key, value in DOG.items() if key != "response_model"}
    return [type(each).__name__ for each in client.chat.completions.create_partial(Animal, **fields)]


tell(
    openai={mode.name: over_openai(mode) for mode in (Mode.TOOLS, Mode.JSON, Mode.JSON_SCHEMA)},
    anthropic={mode.name: over_anthropic(mode) for mode in (Mode.ANTHROPIC_TOOLS, Mode.ANTHROPIC_JSON)},
    partial=len(partial()) > 1,
)
