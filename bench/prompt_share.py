"""What a chat costs us around the engine, as a share of its decoding at 100 tokens per second.

    python -m bench.prompt_share [rounds]

One request of a conversation with tools on the way of Go templates: the values for the template, its rendering, the
grammar for calls, and then the answer of so many tokens taken apart into thinking, text and a call. No engine is
started: an engine's token is 10 ms at that speed, and ours shall take 1 % of it at most, rendering included.
"""

from __future__ import annotations

import time
from datetime import date

from llamero.chat.choice import ToolChoice, may_call
from llamero.chat.parsers import choose_parsers
from llamero.chat.pipeline import Reader, Tags
from llamero.messages import Done, Text, Usage
from llamero.template.cache import parsed, tags_of
from llamero.template.render import render

from .alone import alone
from .effort import Effort
from .figures import Figure
from .template import SOURCE, TOOL, conversation

ROUNDS = 50
TOKENS = 128
TOKEN_S = 0.01
LIMIT = 0.01
ANSWER = (
    "<think>The user wants to know the weather, and there is a tool for it. Paris it is. </think>\n\n"
    "Let me look that up for you; it takes a moment only.\n<tool_call>\n"
    '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}\n</tool_call>'
)


def pieces() -> list[str]:
    """The answer in as many tokens as were promised: the text before the call is repeated to fill them."""
    thought, rest = ANSWER.split(" </think>")
    text = thought * 4 + " </think>" + rest
    size = -(-len(text) // TOKENS)
    return [text[at : at + size] for at in range(0, len(text), size)]


def request(messages: int, tokens: list[str]) -> tuple[float, float]:
    """Seconds of CPU before the engine is asked, and while its answer streams."""
    talk = conversation()[: messages - 1] + conversation()[1:2]
    started = time.process_time()
    template = parsed(SOURCE)
    tags = Tags(*tags_of(template))
    prompt = render(template, talk, today=date.min, tools=[TOOL], think=True)
    call = may_call(ToolChoice(), [TOOL], tags.call)
    reader = Reader(*choose_parsers(tags, prompt, new_id=lambda: "call_00000000", tools=[TOOL], think=True))
    asked = time.process_time()
    events = [event for token in tokens for event in reader.feed(Text(token))]
    events += reader.feed(Done("stop", Usage()))
    ended = time.process_time()
    assert call is not None
    assert len(events) > len(tokens) / 4
    return asked - started, ended - asked


def measure(effort: Effort) -> list[Figure]:
    tokens = pieces()
    decoding_s = len(tokens) * TOKEN_S
    figures = []
    for messages in (2, 20, 200):
        spent = [request(messages, tokens) for _ in range(effort.rounds_of(ROUNDS))]
        shares = tuple((before_s + during_s) / decoding_s for before_s, during_s in spent)
        name = f"one chat of {messages} messages around the engine / decoding {len(tokens)} tokens at 100 per second"
        figures.append(Figure(name, shares, goal=LIMIT, better="less"))
    return figures


if __name__ == "__main__":
    alone(measure, __doc__)
