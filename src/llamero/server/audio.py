"""OpenAI's audio route: speech written down by a model that hears. Source: compat-api §11."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from ..config import Settings
from ..dialects.openai import transcription as dialect
from ..messages import ChatRequest, Finished, Step
from .answers import BARE_JSON
from .inference import Inference
from .openai import errors_about
from .replies import reply, side_by_side
from .routes import Route

TEXT = "text/plain; charset=utf-8"


def routes(inference: Inference, settings: Settings) -> list[Route]:
    async def transcriptions(request: Request, body: bytes) -> Response:
        asked = dialect.read_transcription(body, request.headers.get("content-type", ""))
        return await reply(
            request,
            side_by_side([_transcribed(inference, asked.request)]),
            writer=dialect.TranscriptionStream() if asked.request.stream else None,
            whole=lambda answers: dialect.write_transcription(asked, *answers[0]),
            content_type=TEXT if asked.format == "text" else BARE_JSON,
        )

    return [
        Route(
            "POST",
            "/v1/audio/transcriptions",
            transcriptions,
            "Write down what is said in a recording, in OpenAI's form",
            "infer",
            reply=dialect.TranscriptionReply,
            body_limit_bytes=settings.max_body_bytes,  # a recording may be smaller: whoever sends more is told
            errors=errors_about("file"),
        )
    ]


async def _transcribed(inference: Inference, request: ChatRequest) -> AsyncGenerator[Step, None]:
    """The steps of an answer; one that is cut short says so."""
    async with aclosing(inference.chat(request)) as steps:
        async for step in steps:
            if isinstance(step, Finished) and step.reason == "length":
                step = replace(step, warnings=(*step.warnings, dialect.CUT))
            yield step
