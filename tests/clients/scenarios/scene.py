"""What every Python scenario has in common. It runs in the client's own environment: only the standard library here."""

from __future__ import annotations

import base64
import json
import struct
import sys
import zlib
from typing import Any

URL = sys.argv[1]
V1 = f"{URL}/v1"
KEY = "any"
"""No server of a test has keys; the clients want one all the same."""

SMALL = "smollm2:135m"
WITH_TOOLS = "smol-tools"
"""The same weights with a Go template that knows tools."""
CLERK = "clerk"
"""Calls get_weather for Paris, and answers when it has the result."""
THINKER = "thinker"
TELLER = "teller"
"""Says that a dog has four legs and fur, in JSON."""
EYES = "tiny-vision"
EMBEDDER = "all-minilm:22m"

QUESTION = "How is the weather in Paris?"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]

WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Name of the city"}},
    "required": ["city"],
}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city", "parameters": WEATHER_SCHEMA},
}

ANIMAL = {
    "type": "object",
    "properties": {"legs": {"type": "integer", "minimum": 2, "maximum": 8}, "furry": {"type": "boolean"}},
    "required": ["legs", "furry"],
    "additionalProperties": False,
}


def is_animal(text: str) -> bool:
    """Whether a text is JSON of the schema above."""
    value = json.loads(text)
    return sorted(value) == ["furry", "legs"] and 2 <= value["legs"] <= 8 and isinstance(value["furry"], bool)


def png(red: int, green: int, blue: int, side: int = 32) -> str:
    """A picture of one colour, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes((red, green, blue)) * side) * side
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(content).decode()


def weather(city: str) -> str:
    return f"rain in {city}"


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return float(dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5)


def is_sensible(vectors: list[list[float]]) -> bool:
    """Whether these are the vectors of `KITTENS`, and of no other texts."""
    cat, kitten, tax = vectors
    return len(cat) == 384 and cosine(cat, kitten) > 0.5 > cosine(cat, tax)


KITTENS = ["A cat sleeps on the sofa.", "A kitten is asleep on the couch.", "Taxes are due in May."]


def tell(**facts: Any) -> None:
    """What the test compares, as one line of JSON at the end of the output."""
    print(json.dumps(facts))
