"""What the models are asked, and how an answer is judged. Pure.

Every question begins with a mark that no question had before, so that no server can take its prompt from a cache: what
is measured is reading it. The judgements are coarse on purpose. They tell a model that works from one that does not.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .records import Verdict

if TYPE_CHECKING:
    from ...messages import ToolCall

DEFAULT_PROMPT_TOKENS = 2000
"""Long enough to measure, short enough for a window of 4096, which is what a server has that was told nothing."""
WINDOW_SHARE = 2
"""A model with a smaller window gets a long text of one half of it: question and answer need room too."""


@dataclass(frozen=True, slots=True)
class Answer:
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    name: str
    question: Callable[[int], str]
    """The text to send, given how many tokens a long text shall have."""
    is_right: Callable[[Answer], bool] | None = None
    """None where any answer will do."""
    format: Any = None
    tools: Sequence[Mapping[str, Any]] = ()
    images: Sequence[bytes] = field(default=(), repr=False)
    needs: str = ""
    """A capability, as `ollama show` lists them."""

    def judge(self, answer: Answer) -> Verdict:
        if self.is_right is None:
            return "unchecked"
        return "right" if self.is_right(answer) else "wrong"


def marked(question: str, mark: str) -> str:
    """The question as it is sent; `mark` is new each time."""
    return f"[{mark}] {question}"


def long_tokens(wanted: int, window_tokens: int) -> int:
    """Tokens of a long text for a model whose window is known (0: it is not)."""
    return min(wanted, window_tokens // WINDOW_SHARE) if window_tokens else wanted


# --- the long text -------------------------------------------------------------------------------------------------

TOKENS_PER_LINE = 20
"""Of the lines below, measured with SmolLM2, which has a token for each digit; larger vocabularies take fewer."""
_PEOPLE = "baker miller weaver potter smith painter gardener printer".split()
_TOWNS = "Lund Ghent Porto Graz Turku Delft Siena Cork Brno Arles".split()
SECRET = "4172"


def long_text(tokens: int) -> str:
    """About so many tokens of little news, and in the middle of them a number to be found."""
    lines = []
    for day in range(1, max(2, tokens // TOKENS_PER_LINE) + 1):
        person, town = _PEOPLE[day % len(_PEOPLE)], _TOWNS[day % len(_TOWNS)]
        lines.append(f"On day {day} the {person} of {town} sold {day * 7 % 83 + 2} baskets at the market.")
    lines.insert(len(lines) // 2, f"The number of the old tower is {SECRET}.")
    return "\n".join(lines)


# --- judging -------------------------------------------------------------------------------------------------------

_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"\d+")


def defines_function(text: str, name: str) -> bool:
    """Whether it holds Python that parses and defines `name`. Nothing of it is run."""
    for block in [*_FENCED.findall(text), text]:
        try:
            tree = ast.parse(block)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree)):
            return True
    return False


def last_number(text: str) -> str:
    return next(reversed(_NUMBER.findall(text)), "")


def is_person(text: str) -> bool:
    try:
        person = json.loads(text)
    except ValueError:
        return False
    return isinstance(person, dict) and isinstance(person.get("name"), str) and type(person.get("age")) is int


def _asks_for_paris(answer: Answer) -> bool:
    return any(
        call.name == "get_weather" and "paris" in str(call.arguments.get("city", "")).lower()
        for call in answer.tool_calls
    )


_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city, now",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
_ARTICLE = (
    "The town library has a new roof after two winters of leaks. The work took seven weeks longer than planned, "
    "because the beams under the old tiles had to be replaced as well. Readers used a tent in the park meanwhile, and "
    "many liked it so much that the library will put it up again next summer for concerts and evening readings."
)


def _fixed(text: str) -> Callable[[int], str]:
    return lambda tokens: text


TASKS = (
    Task(
        name="greeting",
        question=_fixed("Hello! Please introduce yourself in one or two short sentences."),
        is_right=lambda answer: bool(answer.text.strip()),
    ),
    Task(
        name="coding",
        question=_fixed(
            "Write a Python function is_palindrome(text) that ignores case and blanks. Answer with the code alone."
        ),
        is_right=lambda answer: defines_function(answer.text, "is_palindrome"),
    ),
    Task(
        name="reasoning",
        question=_fixed(
            "Anna has three boxes with four apples in each. She eats two apples and gives none away. How many apples "
            "are left? Think in one sentence and end with the number."
        ),
        is_right=lambda answer: last_number(answer.text) == "10",
    ),
    Task(
        name="summarising",
        question=_fixed(f"Summarise this in one sentence:\n\n{_ARTICLE}"),
        is_right=lambda answer: 0 < len(answer.text.strip()) < len(_ARTICLE),
    ),
    Task(
        name="translation",
        question=_fixed("Translate into French, and write nothing else: The library opens at nine."),
        is_right=lambda answer: "bibliothèque" in answer.text.lower(),
    ),
    Task(
        name="long-context",
        question=lambda tokens: f"{long_text(tokens)}\n\nWhat is the number of the old tower? Answer with the number.",
        is_right=lambda answer: SECRET in answer.text,
    ),
    Task(
        name="json",
        question=_fixed("Describe an invented person as a JSON object with the fields name and age."),
        is_right=lambda answer: is_person(answer.text),
        format=_PERSON,
    ),
    Task(
        name="tool-call",
        question=_fixed("What is the weather in Paris now? Use the tool."),
        is_right=_asks_for_paris,
        tools=(_WEATHER,),
        needs="tools",
    ),
)
BY_NAME = {task.name: task for task in TASKS}

STORY = "Write a story about a lighthouse keeper who learns to play the cello. Tell it in detail."


def prompt_task(text: str, *, is_long: bool, images: Sequence[bytes] = ()) -> Task:
    """The one question of whoever brings a prompt of their own; `is_long` makes it as long as wanted."""

    def question(tokens: int) -> str:
        return f"{long_text(tokens)}\n\n{text or STORY}" if is_long else text or STORY

    return Task(name="prompt", question=question, images=images, needs="vision" if images else "")
