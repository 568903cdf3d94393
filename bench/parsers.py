"""What reading a model's raw text costs per token: thinking, tool calls and text, by every kind of parser.

    python -m bench.parsers [rounds]

Microseconds of CPU per token. The goal for everything that we do to a streamed token is 50 microseconds; the parsers
shall take less than 10 of them.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from llamero.chat.parsers import choose_parsers
from llamero.chat.pipeline import Reader, Tags
from llamero.messages import Done, Logprob, Text, Usage

from .alone import alone
from .effort import Effort
from .figures import Figure

GOAL_US = 10.0
TOKENS = 2_000
ROUNDS = 15
TOKEN_CHARACTERS = 4
TOOLS = [{"type": "function", "function": {"name": f"get_thing_{number}", "parameters": {}}} for number in range(20)]
TAGS = Tags("<think>", "</think>", "<tool_call>")
WORDS = "the model says that a < b and {x} is [y] while it thinks\nabout \"quotes\", code() and 'more'".split(" ")


def measure(effort: Effort) -> list[Figure]:
    prose = words(TOKENS * TOKEN_CHARACTERS)
    half = len(prose) // 2
    thinking = f"<think>\n{prose[:half]}\n</think>\n\n{prose[half:]}"
    arguments = json.dumps({"text": prose[:half], "list": list(range(500))})
    call = f'<tool_call>\n{{"name": "get_thing_3", "arguments": {arguments}}}\n</tool_call>'
    rows: list[tuple[str, str, dict[str, Any]]] = [
        ("no parser", prose, {}),
        ("generic, prose", prose, {"think": True, "tools": TOOLS}),
        ("generic, half of it thinking", thinking, {"think": True, "tools": TOOLS}),
        ("generic, thinking and one large call", f"{thinking[:half]}</think>{call}", {"think": True, "tools": TOOLS}),
        ("qwen3-thinking", thinking, {"named": "qwen3-thinking", "think": True, "tools": TOOLS}),
        ("harmony", f"<|channel|>final<|message|>{prose}", {"named": "harmony", "tools": TOOLS}),
    ]
    figures = []
    for name, text, settings in rows:
        for has_logprobs in (False, True):
            label = f"parsers per token: {name}" + (", log-probabilities" if has_logprobs else "")
            costs_us = cost_us(text, settings, has_logprobs, effort.rounds_of(ROUNDS))
            figures.append(Figure(label, costs_us, "µs", goal=GOAL_US, better="less"))
    return figures


def words(characters: int) -> str:
    """Text with beginnings of tags and objects strewn in, as code and mathematics have them."""
    dice = random.Random(1)
    return " ".join(dice.choices(WORDS, k=characters))[:characters]


def cost_us(text: str, settings: dict[str, Any], has_logprobs: bool, rounds: int) -> tuple[float, ...]:
    """Per token, in each round."""
    pieces = [text[at : at + TOKEN_CHARACTERS] for at in range(0, len(text), TOKEN_CHARACTERS)]
    events = [Text(piece, (Logprob(piece, -0.5),) if has_logprobs else ()) for piece in pieces]
    return tuple(seconds(lambda: read(events, settings)) / len(events) * 1e6 for _ in range(rounds))


def read(events: Sequence[Text], settings: dict[str, Any]) -> None:
    reader = Reader(*choose_parsers(TAGS, "", new_id=lambda: "call_12345678", **settings))
    for event in events:
        reader.feed(event)
    reader.feed(Done("stop", Usage()))


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    alone(measure, __doc__)
