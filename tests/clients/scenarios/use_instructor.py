"""Instructor: its modes over OpenAI's and Anthropic's own clients."""

from __future__ import annotations

import anthropic
import instructor
import openai
from instructor import Mode
from pydantic import BaseModel, ConfigDict, Field
from scene import KEY, TELLER, URL, V1, WITH_TOOLS, tell


class Animal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    legs: int = Field(ge=2, le=8)
    furry: bool


DOG = {
    "messages": [{"role": "user", "content": "Describe a dog: its number of legs, and whether it has fur."}],
    "response_model": Animal,
    "max_tokens": 200,
    "temperature": 0,
    "max_retries": 1,
}


def over_openai(mode: Mode, model: str = WITH_TOOLS) -> str:
    client = instructor.from_openai(openai.OpenAI(base_url=V1, api_key=KEY), mode=mode)
    return type(client.chat.completions.create(model=model, **DOG)).__name__


def over_anthropic(mode: Mode, model: str = WITH_TOOLS) -> str:
    client = instructor.from_anthropic(anthropic.Anthropic(base_url=URL, api_key=KEY), mode=mode)
    return type(client.messages.create(model=model, **DOG)).__name__


def partial() -> list[str]:
    """An object that grows while it is streamed."""
    client = instructor.from_openai(openai.OpenAI(base_url=V1, api_key=KEY), mode=Mode.JSON_SCHEMA)
    fields = {key: value for key, value in DOG.items() if key != "response_model"}
    return [type(each).__name__ for each in client.chat.completions.create_partial(Animal, model=WITH_TOOLS, **fields)]


# In the modes called JSON the schema is in the prompt only: the model is one that keeps to it.
tell(
    openai=[over_openai(Mode.TOOLS), over_openai(Mode.JSON, TELLER), over_openai(Mode.JSON_SCHEMA)],
    anthropic=[over_anthropic(Mode.ANTHROPIC_TOOLS), over_anthropic(Mode.ANTHROPIC_JSON, TELLER)],
    partial=len(partial()) > 1,
)
