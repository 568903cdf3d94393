"""Pipelines to closures: `closure(frame, dot)` gives a pipeline's value. What can be known before is looked up once.

Statements are the business of `execute`. Source: modelfile-templates §2.3 to §2.5; error texts are Go's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from ..errors import TemplateError
from .functions import FUNCTIONS, CallError, Context, Function
from .nodes import Chain, Command, Constant, Dot, Field, Nil, Operand, Pipe, Variable
from .nodes import Function as FunctionNode
from .numerals import MAX_INT
from .quoting import to_bytes
from .values import NOTHING, Record, Value, field_of, type_name


@final
class Frame:
    """One run of one template: its variables, and what all templates of a rendering share."""

    __slots__ = ("context", "depth", "out", "variables")

    def __init__(self, context: Context, out: list[str], depth: int, variables: list[Value]) -> None:
        self.context = context
        self.out = out
        self.depth = depth
        """Templates that are running, this one included."""
        self.variables = variables


Evaluate = Callable[[Frame, Value], Value]
Stage = Callable[[Frame, Value, Value], Value]
"""A command behind `|`; the last argument is the value that comes through."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where errors are: a template of a source."""

    source: str
    name: str
    """Empty for the main template."""

    def error(self, node: object, at: int, message: str) -> TemplateError:
        line_start = self.source.rfind("\n", 0, at) + 1
        line = self.source.count("\n", 0, at) + 1
        column = len(to_bytes(self.source[line_start:at]))
        return TemplateError(f'template: :{line}:{column}: executing "{self.name}" at <{node}>: {message}')


class Scope:
    """The variables that can be seen at a point of a template, and how many there are in all of it."""

    def __init__(self) -> None:
        self._visible = [("$", 0)]
        self.count = 1

    def declare(self, name: str) -> int:
        self._visible.append((name, self.count))
        self.count += 1
        return self.count - 1

    def find(self, name: str) -> int | None:
        return next((slot for known, slot in reversed(self._visible) if known == name), None)

    def mark(self) -> int:
        return len(self._visible)

    def leave(self, mark: int) -> None:
        del self._visible[mark:]


class Evaluator:
    """Makes the closures of one template."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.scope = Scope()

    # --- pipelines

    def pipeline(self, pipe: Pipe) -> Evaluate:
        evaluate = self._value(pipe)
        slots = self.targets(pipe)
        if not pipe.variables:
            return evaluate
        if slots is None:
            name = next(name for name in pipe.variables if self.scope.find(name) is None)
            fail = self._failing(last_evaluated(pipe), f"undefined variable: {name}")
            return lambda frame, dot: fail(frame, evaluate(frame, dot))

        def assign(frame: Frame, dot: Value) -> Value:
            value = evaluate(frame, dot)
            for slot in slots:
                frame.variables[slot] = value
            return value

        return assign

    def targets(self, pipe: Pipe) -> tuple[int, ...] | None:
        """The slots of a pipeline's variables, which are declared now; None if one to be assigned is unknown."""
        if not pipe.assigns:
            return tuple(self.scope.declare(name) for name in pipe.variables)
        slots = tuple(slot for name in pipe.variables if (slot := self.scope.find(name)) is not None)
        return slots if len(slots) == len(pipe.variables) else None

    def _value(self, pipe: Pipe) -> Evaluate:
        first = self._first(pipe.commands[0])
        stages = [self._stage(command) for command in pipe.commands[1:]]
        if not stages:
            return lambda frame, dot: NOTHING if (value := first(frame, dot)) is None else value

        def evaluate(frame: Frame, dot: Value) -> Value:
            value = first(frame, dot)
            for stage in stages:
                value = stage(frame, dot, NOTHING if value is None else value)
            return NOTHING if value is None else value

        return evaluate

    # --- commands

    def _first(self, command: Command) -> Evaluate:
        if isinstance(command.args[0], FunctionNode):
            return self._function(command.args[0], command, command.args[1:])
        if len(command.args) > 1:
            stage = self._with_arguments(command)
            return lambda frame, dot: stage(frame, dot, NOTHING)
        if isinstance(command.args[0], Nil):
            return self._failing(command.args[0], "nil is not a command")
        return self.operand(command.args[0])

    def _stage(self, command: Command) -> Stage:
        if isinstance(command.args[0], FunctionNode):
            return self._piped_function(command.args[0], command, command.args[1:])
        return self._with_arguments(command)

    def _with_arguments(self, command: Command) -> Stage:
        """What is no function and is given arguments: an error, once it is evaluated so far."""
        node = command.args[0]
        if isinstance(node, (Field, Variable, Chain)) and node.names:
            return self._field_with_arguments(node, node.names[-1])
        where = command if isinstance(node, Pipe) else node
        error = self._failing(where, f"can't give argument to non-function {node}")
        return lambda frame, dot, final: error(frame, dot)

    def _field_with_arguments(self, node: Field | Variable | Chain, name: str) -> Stage:
        owner = self._chain(node, node.names[:-1])
        where = last_evaluated(node)

        def fail(frame: Frame, dot: Value, final: Value) -> Value:
            receiver = owner(frame, dot)
            if receiver is NOTHING:
                return NOTHING
            if isinstance(receiver, dict):
                raise self._error(where, f"{name} is not a method but has arguments")
            try:
                field_of(receiver, name, frame.context.meter)
            except LookupError as error:
                raise self._error(where, str(error)) from None
            raise self._error(where, f"{name} has arguments but cannot be invoked as function")

        return fail

    # --- functions

    def _function(self, node: FunctionNode, command: Operand | Command, args: tuple[Operand, ...]) -> Evaluate:
        name = node.name
        if name in ("and", "or"):
            return self._lazy(node, args)
        function = FUNCTIONS[name]
        wrong = self._wrong_count(node, function, len(args))
        if wrong:
            return wrong
        evaluates = [self._argument(arg, text=function.wants_text(i)) for i, arg in enumerate(args)]
        run, error = function.run, self._call_error
        if len(evaluates) == 2:  # by far the most frequent: `eq`
            first, second = evaluates

            def call_with_two(frame: Frame, dot: Value) -> Value:
                try:
                    return _counted(frame, run(frame.context, first(frame, dot), second(frame, dot)))
                except CallError as cause:
                    raise error(command, name, cause) from None

            return call_with_two

        def call(frame: Frame, dot: Value) -> Value:
            try:
                return _counted(frame, run(frame.context, *[evaluate(frame, dot) for evaluate in evaluates]))
            except CallError as cause:
                raise error(command, name, cause) from None

        return call

    def _piped_function(self, node: FunctionNode, command: Command, args: tuple[Operand, ...]) -> Stage:
        name = node.name
        if name in ("and", "or"):
            lazy = self._lazy(node, args) if args else None
            decides = name == "or"

            def choose(frame: Frame, dot: Value, final: Value) -> Value:
                value = lazy(frame, dot) if lazy else final
                return value if lazy and bool(value) == decides else final

            return choose
        function = FUNCTIONS[name]
        wrong = self._wrong_count(node, function, len(args) + 1)
        if wrong:
            return lambda frame, dot, final: wrong(frame, dot)
        evaluates = [self._argument(arg, text=function.wants_text(i)) for i, arg in enumerate(args)]
        wants_text = function.wants_text(len(args))
        last = last_evaluated(args[-1]) if args else node

        def call(frame: Frame, dot: Value, final: Value) -> Value:
            values = [evaluate(frame, dot) for evaluate in evaluates]
            if wants_text and not isinstance(final, str):
                raise self._error(last, _no_string(final))
            try:
                return _counted(frame, function.run(frame.context, *values, final))
            except CallError as cause:
                raise self._call_error(command, name, cause) from None

        return call

    def _lazy(self, node: FunctionNode, args: tuple[Operand, ...]) -> Evaluate:
        """`and` or `or`: the first argument that decides, or else the last."""
        if not args:
            return self._failing(node, f"wrong number of args for {node.name}: want at least 1 got 0")
        decides = node.name == "or"
        *first, last = [self.operand(arg) for arg in args]

        def choose(frame: Frame, dot: Value) -> Value:
            for evaluate in first:
                value = evaluate(frame, dot)
                if bool(value) == decides:
                    return value
            return last(frame, dot)

        return choose

    def _wrong_count(self, node: FunctionNode, function: Function, given: int) -> Evaluate | None:
        if given == function.fixed or (function.more and given > function.fixed):
            return None
        wanted = f"at least {function.fixed}" if function.more else str(function.fixed)
        return self._failing(node, f"wrong number of args for {node.name}: want {wanted} got {given}")

    def _argument(self, node: Operand, *, text: bool) -> Evaluate:
        evaluate = self.operand(node)
        if not text or (isinstance(node, Constant) and isinstance(node.value, str)):
            return evaluate
        if isinstance(node, Constant):
            return self._failing(node, f"expected string; found {node}")
        if isinstance(node, Nil):
            return self._failing(node, "cannot assign nil to string")

        def checked(frame: Frame, dot: Value) -> Value:
            value = evaluate(frame, dot)
            if not isinstance(value, str):
                raise self._error(last_evaluated(node), _no_string(value))
            return value

        return checked

    # --- operands

    def operand(self, node: Operand) -> Evaluate:
        match node:
            case Dot():
                return lambda frame, dot: dot
            case Nil():
                return lambda frame, dot: NOTHING
            case Constant():
                return self._constant(node)
            case Field(names=(name,)):
                return self._field(node, name)
            case Field() | Variable() | Chain():
                return self._chain(node, node.names)
            case FunctionNode():
                return self._function(node, node, ())
            case Pipe():
                return self.pipeline(node)

    def _constant(self, node: Constant) -> Evaluate:
        value = node.value
        if type(value) is int and value > MAX_INT:
            return self._failing(node, f"{node} overflows int")
        return lambda frame, dot: value

    def _variable(self, node: Variable, name: str) -> Evaluate:
        slot = self.scope.find(name)
        if slot is None:  # `{{ $x := $x }}`: known to the parser, unset here
            return self._failing(node, f"undefined variable: {name}")
        return lambda frame, dot: frame.variables[slot]

    def _field(self, node: Operand, name: str) -> Evaluate:
        """A single field of dot, the most frequent operand of all."""

        def field(frame: Frame, dot: Value) -> Value:
            try:
                if type(dot) is Record:
                    return dot.fields[name]
            except KeyError:
                pass
            try:
                return field_of(dot, name, frame.context.meter)
            except LookupError as error:
                raise self._error(node, str(error)) from None

        return field

    def _chain(self, node: Field | Variable | Chain, names: tuple[str, ...]) -> Evaluate:
        """Those names after each other, beginning with what `node` begins with."""
        base: Evaluate
        match node:
            case Field():
                base = self.operand(Dot(node.at))
            case Variable():
                base = self._variable(node, node.name)
            case Chain():
                base = self.operand(node.base)
        if not names:
            return base
        where = last_evaluated(node)

        def fields(frame: Frame, dot: Value) -> Value:
            value = base(frame, dot)
            interface = False
            try:
                for name in names:
                    container, value = value, field_of(value, name, frame.context.meter, interface=interface)
                    interface = isinstance(container, dict) and not isinstance(value, Record)
            except LookupError as error:
                raise self._error(where, str(error)) from None
            return value

        return fields

    # --- errors

    def _error(self, node: Operand | Command, message: str) -> TemplateError:
        return self._place.error(node, node.at, message)

    def _failing(self, node: Operand | Command, message: str) -> Evaluate:
        def fail(frame: Frame, dot: Value) -> Value:
            raise self._error(node, message)

        return fail

    def _call_error(self, node: Operand | Command, name: str, cause: CallError) -> TemplateError:
        return self._error(node, f"error calling {name}: {cause}")


def _counted(frame: Frame, value: Value) -> Value:
    if type(value) is str:
        frame.context.meter.spend(0, len(value))
    return value


def last_evaluated(node: Operand | Command) -> Operand | Command:
    """The operand that is evaluated last, which is where Go says that a value is wrong."""
    while True:
        match node:
            case Pipe(commands=commands):
                node = commands[-1]
            case Command(args=args):
                node = args[-1] if len(args) > 1 or isinstance(args[0], Pipe) else args[0]
            case Chain(base=base):
                node = base
            case _:
                return node


def _no_string(value: Value) -> str:
    if value is NOTHING:
        return "invalid value; expected string"
    given = "interface {}" if value is None else type_name(value)
    return f"wrong type for value; expected string; got {given}"
