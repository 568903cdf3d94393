"""Templates without `.Messages`: they are run once for each exchange, and the last run ends where the answer begins.

Pure rearrangement of messages and of nodes; `render` runs them. Source: modelfile-templates §2.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..messages import Message
from .nodes import Action, Branch, Chain, Field, Node, Nodes, Operand, Pipe, Tree


@dataclass(frozen=True, slots=True)
class Exchange:
    system: str = ""
    prompt: str = ""
    response: str = ""


def exchanges(conversation: Iterable[Message]) -> Iterator[Exchange]:
    """The conversation in exchanges. The last one is the unfinished one, and may be empty."""
    now = Exchange()
    for message in conversation:
        match message.role:
            case "system":
                if now.prompt or now.response:
                    yield now
                    now = Exchange()
                now = replace(now, system=message.content)
            case "user":
                if now.response:
                    yield now
                    now = Exchange()
                now = replace(now, prompt=message.content)
            case "assistant":
                now = replace(now, response=message.content)
    yield now


def cut(tree: Tree) -> Tree:
    """The template up to its first action with `.Response`, so that the model goes on there."""
    nodes, _ = _cut(tree.nodes)
    return replace(tree, nodes=nodes)


def _cut(nodes: Nodes) -> tuple[Nodes, bool]:
    kept: list[Node] = []
    for node in nodes:
        last = _last_part(node)
        if last is not None:
            return (*kept, last), True
        kept.append(node)
    return nodes, False


def _last_part(node: Node) -> Node | None:
    """What is left of a node in which the cut falls, or None."""
    match node:
        case Action(pipe=pipe):
            for stage, command in enumerate(pipe.commands, 1):
                if any(map(_has_response, command.args)):
                    return replace(node, pipe=replace(pipe, commands=pipe.commands[:stage]))
        case Branch(body=body, otherwise=otherwise):
            shorter, found = _cut(body)
            if found:  # the reference crashes if there is an else branch: it comes after the cut, so it goes
                return replace(node, body=shorter, otherwise=())
            shorter, found = _cut(otherwise)
            if found:
                return replace(node, otherwise=shorter)
    return None


def _has_response(operand: Operand) -> bool:
    match operand:
        case Field(names=("Response",)):
            return True
        case Pipe(commands=commands):
            return any(_has_response(inner) for command in commands for inner in command.args)
        case Chain(base=base):
            return _has_response(base)
    return False
