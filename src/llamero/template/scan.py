"""What a parsed template says about the model that it was written for: what it mentions, and which tags it writes.

Source: modelfile-templates §2.7 (mentions), §6.1 (tag of tool calls), §7.2 (tags of thinking).
"""

from __future__ import annotations

from collections.abc import Iterator

from .nodes import Branch, Chain, Field, Jump, Node, Nodes, Operand, Pipe, Text, Tree, Variable

NO_TAG = "{"
"""Stands for the tag of tool calls where a template writes none: then a call begins with its JSON."""


def identifiers(tree: Tree) -> frozenset[str]:
    """Every name in field and variable chains, in lower case. Fields behind parentheses are not seen."""
    lists = (tree.nodes, *tree.defined.values())
    return frozenset(name.lower() for nodes in lists for node in _all(nodes) for name in _names(_pipe(node)))


def _all(nodes: Nodes) -> Iterator[Node]:
    for node in nodes:
        yield node
        if isinstance(node, Branch):
            yield from _all(node.body)
            yield from _all(node.otherwise)


def _pipe(node: Node) -> Pipe | None:
    return None if isinstance(node, (Text, Jump)) else node.pipe


def _operands(pipe: Pipe | None) -> Iterator[Operand]:
    """Everything in a pipeline, also what stands in parentheses."""
    for command in pipe.commands if pipe else ():
        for operand in command.args:
            yield operand
            if isinstance(operand, Chain):
                operand = operand.base
            if isinstance(operand, Pipe):
                yield from _operands(operand)


def _names(pipe: Pipe | None) -> Iterator[str]:
    for operand in _operands(pipe):
        if isinstance(operand, Variable):
            yield operand.name
        if isinstance(operand, (Field, Variable)):
            yield from operand.names


# --- tool calls ----------------------------------------------------------------------------------------------------


def tool_call_tag(tree: Tree) -> str:
    """The text that a model writes before its tool calls, as the template writes it for earlier calls."""
    branch = next(filter(_is_about_calls, _all(tree.nodes)), None)
    text = _first_text(branch.body) if isinstance(branch, Branch) else None
    if text is None:
        return NO_TAG
    return text.replace("\r\n", "\n").partition("{")[0].strip() or NO_TAG


def _is_about_calls(node: Node) -> bool:
    """An `if` with `.ToolCalls` as a direct argument of a command."""
    if not isinstance(node, Branch) or node.word != "if":
        return False
    arguments = (operand for command in node.pipe.commands for operand in command.args)
    return any(isinstance(operand, Field) and "ToolCalls" in operand.names for operand in arguments)


def _first_text(nodes: Nodes) -> str | None:
    """The first text that is not blank, unless something is printed or set before it."""
    for node in nodes:
        if isinstance(node, Text):
            if node.text.strip():
                return node.text
        elif isinstance(node, Branch):
            return _first_text(node.body)
        else:
            return None
    return None


# --- thinking ------------------------------------------------------------------------------------------------------


def thinking_tags(tree: Tree) -> tuple[str, str]:
    """The texts around `.Thinking` in a loop over `.Messages`; empty where there is none.

    Both must be there for a template to support thinking. Named templates are not looked into.
    """
    opening = closing = ""
    for nodes in _lists_with_thinking(tree.nodes, in_messages=False):
        first, last = nodes[0], nodes[-1]
        opening = first.text.strip() if isinstance(first, Text) else opening
        closing = last.text.strip() if isinstance(last, Text) else closing
    return opening, closing


def _lists_with_thinking(nodes: Nodes, *, in_messages: bool) -> Iterator[Nodes]:
    """For each `.Thinking` in a loop over messages, in order, the list of nodes that it is in."""
    for node in nodes:
        if in_messages:
            for operand in _operands(_pipe(node)):
                if isinstance(operand, Field) and operand.names[0] == "Thinking":
                    yield nodes
        if isinstance(node, Branch):
            inside = _over_messages(node.pipe) if node.word == "range" else in_messages
            yield from _lists_with_thinking(node.body, in_messages=inside)
            yield from _lists_with_thinking(node.otherwise, in_messages=inside)


def _over_messages(pipe: Pipe) -> bool:
    return any(isinstance(operand, Field) and operand.names[0] == "Messages" for operand in _operands(pipe))
