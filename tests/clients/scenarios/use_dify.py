"""Dify's Ollama provider, its own code, from the folder that the second argument names."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

sys.path.insert(0, sys.argv[2])

from dify_plugin.entities.model.message import (
    AssistantPromptMessage,
    ImagePromptMessageContent,
    PromptMessageTool,
    TextPromptMessageContent,
    ToolPromptMessage,
    UserPromptMessage,
)
from dify_plugin.errors.model import CredentialsValidateFailedError
from models.llm.llm import OllamaLargeLanguageModel
from models.rerank.rerank import OllamaRerankModel
from models.text_embedding.text_embedding import OllamaEmbeddingModel
from scene import EMBEDDER, KITTENS, QUESTION, SMALL, URL, WEATHER_SCHEMA, is_sensible, png, tell, weather

CLERK, THINKER, TELLER, EYES, RANKER = "dify-clerk-go", "dify-thinker-go", "dify-teller", "dify-eyes", "dify-ranker"

language = OllamaLargeLanguageModel(model_schemas=[])
embedder = OllamaEmbeddingModel(model_schemas=[])
ranker = OllamaRerankModel(model_schemas=[])
for model in (language, embedder):  # it fetches GPT-2's vocabulary to guess at numbers of tokens
    model._get_num_tokens_by_gpt2 = lambda text: len(text) // 4

TOOL = PromptMessageTool(name="get_weather", description="The weather in a city", parameters=WEATHER_SCHEMA)
ASKED = UserPromptMessage(content=QUESTION)


def credentials(mode: str = "chat") -> dict[str, str]:
    """What a user fills in."""
    return {
        "base_url": URL,
        "mode": mode,
        "context_size": "2048",
        "max_tokens": "2048",
        "vision_support": "true",
        "function_call_support": "true",
    }


def chunks(
    model: str, messages: list[Any], *, stream: bool, tools: Any = None, mode: str = "chat", **parameters: Any
) -> list[Any]:
    """What arrives: the message and the usage of each piece."""
    told = language.invoke(model, credentials(mode), messages, parameters, tools=tools, stream=stream)
    return [chunk.delta for chunk in told]


def ask(model: str, messages: list[Any], **more: Any) -> Any:
    """An answer that is not streamed comes as one piece."""
    (whole,) = chunks(model, messages, stream=False, **more)
    return whole


def accepts(kind: str) -> bool:
    match kind:
        case "embedding":
            embedder.validate_credentials(EMBEDDER, credentials())
        case "rerank":
            ranker.validate_credentials(RANKER, credentials())
        case mode:
            language.validate_credentials(SMALL, credentials(mode))
    return True


def refuses() -> bool:
    try:
        language.validate_credentials("no-such", credentials())
    except CredentialsValidateFailedError as error:
        return "model 'no-such' not found" in str(error)
    return False


def call_and_answer() -> list[Any]:
    first = ask(CLERK, [ASKED], tools=[TOOL]).message
    (call,) = first.tool_calls
    arguments = json.loads(call.function.arguments)
    result = ToolPromptMessage(content=weather(**arguments), tool_call_id=call.id)
    last = ask(CLERK, [ASKED, first, result], tools=[TOOL]).message
    return [call.function.name, arguments, last.content]


def streamed_calls() -> list[Any]:
    calls = [call for part in chunks(CLERK, [ASKED], stream=True, tools=[TOOL]) for call in part.message.tool_calls]
    return [[call.function.name, json.loads(call.function.arguments)] for call in calls]


def streamed(messages: list[Any], model: str = SMALL, **more: Any) -> tuple[str, Any]:
    parts = chunks(model, messages, stream=True, **more)
    return "".join(part.message.content for part in parts), parts[-1].usage


def sees() -> bool:
    text = TextPromptMessageContent(data="What is this?")
    picture = ImagePromptMessageContent(format="png", base64_data=png(200, 10, 10), mime_type="image/png")
    blind, seeing = (
        ask(EYES, [UserPromptMessage(content=parts)], num_predict=2).usage.prompt_tokens
        for parts in ([text], [text, picture])
    )
    return bool(seeing > blind + 4)


calm = {"num_predict": 8, "temperature": 0}
whole = ask(SMALL, [ASKED], **calm)
text, usage = streamed([ASKED], **calm)
thoughtful = ask(THINKER, [ASKED], think=True).message.content
opening, thinking, answer = re.fullmatch(r"(<think>)\n+(.*?)\n+</think>\n*(.*)", thoughtful, re.DOTALL).groups()
again = AssistantPromptMessage(content=thoughtful)
animal = ask(TELLER, [ASKED], json_schema=json.dumps({"type": "object"})).message.content
completed = ask(SMALL, [UserPromptMessage(content="Once upon")], mode="completion", num_predict=8)
ranking = ranker.invoke(RANKER, credentials(), "who", ["bad", "good good", "plain"], top_n=2)

tell(
    accepted=[kind for kind in ("chat", "completion", "embedding", "rerank") if accepts(kind)],
    refused=refuses(),
    streams=text == whole.message.content != "",
    usage=[whole.usage.completion_tokens, usage.completion_tokens],
    calls=call_and_answer(),
    streamed_calls=streamed_calls(),
    thinking=[opening, thinking, answer],
    streamed_thinking=streamed([ASKED, again, ASKED], THINKER, think_level="high")[0].startswith("<think>"),
    animal=json.loads(animal) == {"legs": 4, "furry": True},
    sees=sees(),
    completes=bool(
        ask(SMALL, [UserPromptMessage(content="Once upon")], mode="completion", num_predict=8).message.content
    ),
    embedded=is_sensible(embedder.invoke(EMBEDDER, credentials(), KITTENS).embeddings),
    ranked=[document.index for document in ranking.docs],
)
