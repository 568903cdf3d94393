"""A parsed template made ready to run, and run: nodes become closures once, values become text often.

Closures are several times faster than walking the nodes: a conversation is rendered anew for every request.
Source: modelfile-templates §2.2, §2.5; limits: `meter`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from ..errors import TemplateError
from .evaluate import Evaluate, Evaluator, Frame, Place, last_evaluated
from .functions import Context
from .meter import MAX_DEPTH
from .nodes import Action, Branch, Call, Jump, Node, Nodes, Pipe, Text, Tree
from .printing import default, printed
from .values import NOTHING, Value

Signal = Literal["break", "continue"] | None
Statement = Callable[[Frame, Value], Signal]

_CALL_STEPS = 4
"""Beginning another template takes as long as so many other steps."""

_Templates = dict[str, tuple[Statement, int]]
"""By name: the body, and how many variables it has."""


class Program:
    """A template ready to run. Running it changes nothing in it."""

    def __init__(self, tree: Tree) -> None:
        templates: _Templates = {}
        for name, nodes in tree.defined.items():
            templates[name] = _Compiler(Place(tree.source, name), templates).template(nodes)
        self._main, self._variables = _Compiler(Place(tree.source, ""), templates).template(tree.nodes)

    def run(self, data: Value, context: Context, out: list[str]) -> None:
        """Append the text to `out`. Raises TemplateError; what was written until then stays."""
        try:
            self._main(Frame(context, out, 1, [data, *[NOTHING] * (self._variables - 1)]), data)
        except RecursionError:
            # blocks and templates inside each other use the stack together; the caller's part is unknown here
            raise TemplateError("template: nested too deeply") from None


class _Compiler:
    """Makes the closures of one template."""

    def __init__(self, place: Place, templates: _Templates) -> None:
        self._place = place
        self._templates = templates
        self._evaluator = Evaluator(place)

    def template(self, nodes: Nodes) -> tuple[Statement, int]:
        body = self._block(nodes)
        return body, self._evaluator.scope.count

    def _block(self, nodes: Nodes) -> Statement:
        """The nodes of a list, one after the other. What they surely cost is paid at once."""
        mark = self._evaluator.scope.mark()
        statements = [self._statement(node) for node in nodes]
        self._evaluator.scope.leave(mark)
        steps = sum(map(_cost, nodes))
        chars = sum(len(node.text) for node in nodes if isinstance(node, Text))

        def run(frame: Frame, dot: Value) -> Signal:
            frame.context.meter.spend(steps, chars)
            for statement in statements:
                signal = statement(frame, dot)
                if signal is not None:
                    return signal
            return None

        return run

    def _statement(self, node: Node) -> Statement:
        match node:
            case Text():
                return self._text(node)
            case Action():
                return self._action(node)
            case Branch(word="range"):
                return self._scoped(node, self._range)
            case Branch():
                return self._scoped(node, self._condition)
            case Jump(word=word):
                return lambda frame, dot: word
            case Call():
                return self._call(node)

    def _scoped(self, node: Branch, compile_: Callable[[Branch], Statement]) -> Statement:
        mark = self._evaluator.scope.mark()
        statement = compile_(node)
        self._evaluator.scope.leave(mark)
        return statement

    def _text(self, node: Text) -> Statement:
        text = node.text

        def write(frame: Frame, dot: Value) -> Signal:
            frame.out.append(text)
            return None

        return write

    def _action(self, node: Action) -> Statement:
        evaluate = self._evaluator.pipeline(node.pipe)

        def assign(frame: Frame, dot: Value) -> Signal:
            evaluate(frame, dot)
            return None

        def write(frame: Frame, dot: Value) -> Signal:
            value = evaluate(frame, dot)
            meter = frame.context.meter
            text = value if type(value) is str else printed(value, meter)
            meter.spend(0, len(text))
            frame.out.append(text)
            return None

        return assign if node.pipe.variables else write

    def _condition(self, node: Branch) -> Statement:
        evaluate = self._evaluator.pipeline(node.pipe)
        body, otherwise = self._block(node.body), self._block(node.otherwise)
        if node.word == "if":
            return lambda frame, dot: (body if evaluate(frame, dot) else otherwise)(frame, dot)

        def with_(frame: Frame, dot: Value) -> Signal:
            value = evaluate(frame, dot)
            return body(frame, value) if value else otherwise(frame, dot)

        return with_

    def _range(self, node: Branch) -> Statement:
        pipe = node.pipe
        evaluate, slots = self._range_source(pipe)
        body, otherwise = self._block(node.body), self._block(node.otherwise)

        def run(frame: Frame, dot: Value) -> Signal:
            value = evaluate(frame, dot)
            meter = frame.context.meter
            empty = True
            for key, item in self._items(value, pipe, frame):
                empty = False
                meter.spend(1)
                if slots:
                    frame.variables[slots[0]] = key
                    frame.variables[slots[-1]] = item
                if body(frame, item) == "break":
                    break
            return otherwise(frame, dot) if empty else None

        return run

    def _range_source(self, pipe: Pipe) -> tuple[Evaluate, tuple[int, ...]]:
        """What is ranged over, and the slots of `$key, $item` or `$item`."""
        evaluate = self._evaluator.pipeline(pipe)
        return evaluate, tuple(
            slot for name in pipe.variables if (slot := self._evaluator.scope.find(name)) is not None
        )

    def _items(self, value: Value, pipe: Pipe, frame: Frame) -> Iterable[tuple[Value, Value]]:
        if isinstance(value, (list, bytes)):
            return enumerate(value)
        if isinstance(value, dict):
            frame.context.meter.spend(len(value))
            return [(name, value[name]) for name in sorted(value)]
        if value is NOTHING:
            return ()
        where = last_evaluated(pipe)
        if isinstance(value, int) and not isinstance(value, bool):
            if len(pipe.variables) > 1:
                message = f"can't use {value} to iterate over more than one variable"
                raise self._place.error(where, where.at, message)
            return ((number, number) for number in range(value))
        message = f"range can't iterate over {default(value, frame.context.meter)}"
        raise self._place.error(where, where.at, message)

    def _call(self, node: Call) -> Statement:
        evaluate = None if node.pipe is None else self._evaluator.pipeline(node.pipe)
        templates = self._templates  # not complete yet: a template may be defined further down

        def call(frame: Frame, dot: Value) -> Signal:
            if node.name not in templates:
                raise self._place.error(node, node.at, f"template {node.quoted} not defined")
            if frame.depth >= MAX_DEPTH:
                raise self._place.error(node, node.at, f"exceeded maximum template depth ({MAX_DEPTH})")
            body, count = templates[node.name]
            value = NOTHING if evaluate is None else evaluate(frame, dot)
            body(Frame(frame.context, frame.out, frame.depth + 1, [value, *[NOTHING] * (count - 1)]), value)
            return None

        return call


def _cost(node: Node) -> int:
    """Steps that a node costs whenever its list is run: itself, and the operands of its pipeline."""
    match node:
        case Action(pipe=pipe) | Branch(pipe=pipe):
            return 1 + _operands(pipe)
        case Call(pipe=pipe):
            return _CALL_STEPS + (0 if pipe is None else _operands(pipe))
        case _:
            return 1


def _operands(pipe: Pipe) -> int:
    inside = (arg for command in pipe.commands for arg in command.args if isinstance(arg, Pipe))
    return sum(len(command.args) for command in pipe.commands) + sum(map(_operands, inside))
