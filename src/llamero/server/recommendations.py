"""Models worth a try, for programs that ask the server which to offer. A list of ours, that needs no network.

Source: native-api §3.20. A model stands here when its weights load in our engine as the registry has them; context
lengths are those of their files.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..dialects.gojson import encode
from .answers import JSON
from .routes import Route


class Recommendation(msgspec.Struct, frozen=True):
    model: str
    description: str
    context_length: int
    """Tokens."""


class RecommendationsReply(msgspec.Struct):
    recommendations: tuple[Recommendation, ...]


RECOMMENDED = (
    Recommendation("qwen3:8b", "8B parameters; chat and tools, thinks before it answers", 40_960),
    Recommendation("llama3.2:3b", "3B parameters; chat and tools on a modest machine", 131_072),
    Recommendation("qwen2.5-coder:7b", "7B parameters; writes, completes and explains code", 32_768),
    Recommendation("smollm2:135m", "135M parameters; for trying things out, needs no registry", 8_192),
    Recommendation("all-minilm:22m", "Embeddings for search, no chat; needs no registry", 512),
)
"""The best first: programs offer the first one."""


async def recommend(request: Request, body: bytes) -> Response:
    return Response(encode(RecommendationsReply(RECOMMENDED)), media_type=JSON)


def routes() -> list[Route]:
    path = "/api/experimental/model-recommendations"
    return [Route("GET", path, recommend, "Models worth a try", "infer", reply=RecommendationsReply)]
