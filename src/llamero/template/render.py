"""A model's TEMPLATE: parsed, completed, and rendered with a conversation, in one of three modes.

1. A prompt and a suffix are there: the template is run once with both, to fill in the middle.
2. It mentions `.Messages`: it is run once with all of them.
3. Else it is run once for each exchange (`legacy`).

What a conversation consists of is decided before (`chat.prompt`). Source: modelfile-templates §2.7 to §2.10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from ..errors import TemplateError
from ..messages import Message, Think
from . import exposed, legacy
from .execute import Program
from .functions import NAMES, Context
from .meter import Meter
from .nodes import Action, Branch, Call, Command, Field, Nodes, Pipe, Tree
from .parse import parse
from .quoting import FIRST_LONE_BYTE, LAST_LONE_BYTE, whole
from .scan import identifiers
from .values import Value

_LONE_BYTE = re.compile(f"[{FIRST_LONE_BYTE}-{LAST_LONE_BYTE}]")


@dataclass(frozen=True, slots=True)
class Template:
    """A template ready to render; made by `Template.parse`, and worth keeping: parsing takes longer than rendering."""

    tree: Tree
    identifiers: frozenset[str]
    """What it mentions, in lower case (`scan`)."""
    program: Program
    last_exchange: Program
    """The template up to the place where the answer begins."""

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises TemplateError with Go's text."""
        tree = parse(text, NAMES)
        for nodes in (tree.nodes, *tree.defined.values()):
            _refuse_bare_calls(nodes)
        if not identifiers(tree) & {"messages", "response"}:
            tree = _with_response(tree)
        mentioned, program = identifiers(tree), Program(tree)
        return cls(tree, mentioned, program, program if "messages" in mentioned else Program(legacy.cut(tree)))

    @property
    def takes_messages(self) -> bool:
        return "messages" in self.identifiers


def _refuse_bare_calls(nodes: Nodes) -> None:
    """Ollama's rule, not Go's: `template "name"` needs an argument."""
    for node in nodes:
        if isinstance(node, Call) and node.pipe is None:
            raise TemplateError("undefined template specified")
        if isinstance(node, Branch):
            _refuse_bare_calls(node.body)
            _refuse_bare_calls(node.otherwise)


def _with_response(tree: Tree) -> Tree:
    """`{{ .Response }}` at the end of a template that says nowhere where the answer goes."""
    at = len(tree.source)
    response = Action(at, Pipe(at, (Command(at, (Field(at, ("Response",)),)),)))
    return replace(tree, nodes=(*tree.nodes, response))


def render(
    template: Template,
    conversation: Sequence[Message] = (),
    *,
    today: date,
    tools: Sequence[Mapping[str, Any]] = (),
    prompt: str = "",
    suffix: str = "",
    think: Think = None,
) -> str:
    """The prompt text. `prompt` and `suffix` count only together; `today` is the user's local date.

    Raises TemplateError when the template refuses the values or reaches a limit of `meter`.
    """
    context = Context(Meter(), today)
    out: list[str] = []
    if prompt and suffix:
        data = {"Prompt": prompt, "Suffix": suffix, "Response": "", **exposed.thinking(think)}
        template.program.run(data, context, out)
    elif template.takes_messages:
        template.program.run(exposed.request(merged(conversation), tools, think), context, out)
    else:
        _render_exchanges(template, merged(conversation), exposed.thinking(think), context, out)
    text = "".join(out)
    # halves of characters come together again here; what is left is no text
    return _LONE_BYTE.sub("\ufffd", whole(text)) if _LONE_BYTE.search(text) else text


def _render_exchanges(
    template: Template, conversation: Iterable[Message], thinking: dict[str, Value], context: Context, out: list[str]
) -> None:
    *finished, last = legacy.exchanges(conversation)
    for program, exchange in (*((template.program, exchange) for exchange in finished), (template.last_exchange, last)):
        data = {"System": exchange.system, "Prompt": exchange.prompt, "Response": exchange.response, **thinking}
        program.run(data, context, out)


def merged(conversation: Iterable[Message]) -> list[Message]:
    """Neighbouring messages of one role as one, tool results excepted. Nothing of the second is lost (§2.9 [+])."""
    messages: list[Message] = []
    for message in conversation:
        if messages and messages[-1].role == message.role != "tool":
            messages[-1] = _joined(messages[-1], message)
        else:
            messages.append(message)
    return messages


def _joined(first: Message, second: Message) -> Message:
    return replace(
        first,
        content=f"{first.content}\n\n{second.content}",
        thinking="\n\n".join(filter(None, (first.thinking, second.thinking))),
        images=first.images + second.images,
        tool_calls=first.tool_calls + second.tool_calls,
    )
