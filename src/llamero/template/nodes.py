"""The nodes of a parsed template. They know how they are written and nothing of what they mean.

`str(node)` is the node as Go writes it into its error texts; `at` is an offset in the source, in characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .quoting import quote

# --- operands ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dot:
    at: int

    def __str__(self) -> str:
        return "."


@dataclass(frozen=True, slots=True)
class Nil:
    at: int

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Constant:
    """A bool, a number, a character (an int) or a text, with its spelling in the source."""

    at: int
    value: bool | int | float | str
    source: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class Field:
    """`.A.B`, looked up from dot."""

    at: int
    names: tuple[str, ...]

    def __str__(self) -> str:
        return _dotted(self.names)


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x` or `$x.A.B`; the name includes its dollar."""

    at: int
    name: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name + _dotted(self.names)


@dataclass(frozen=True, slots=True)
class Function:
    at: int
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Chain:
    """`(pipeline).A.B`."""

    at: int
    base: Operand
    names: tuple[str, ...]

    def __str__(self) -> str:
        return _argument(self.base) + _dotted(self.names)


@dataclass(frozen=True, slots=True)
class Command:
    """An operand, or a function with its arguments."""

    at: int
    args: tuple[Operand, ...]

    def __str__(self) -> str:
        return " ".join(map(_argument, self.args))


@dataclass(frozen=True, slots=True)
class Pipe:
    at: int
    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    """Declared (`:=`) or assigned (`=`) by this pipeline, with their dollars."""
    assigns: bool = False

    def __str__(self) -> str:
        operator = " = " if self.assigns else " := "
        target = ", ".join(self.variables) + operator if self.variables else ""
        return target + " | ".join(map(str, self.commands))


Operand = Dot | Nil | Constant | Field | Variable | Function | Chain | Pipe


def _dotted(names: tuple[str, ...]) -> str:
    return "".join(f".{name}" for name in names)


def _argument(operand: Operand) -> str:
    return f"({operand})" if isinstance(operand, Pipe) else str(operand)


# --- statements ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    at: int
    text: str

    def __str__(self) -> str:
        # a brace before an action would be read as the action's own
        return f'{self.text[:-1]}{{{{"{{"}}}}' if self.text.endswith("{") else self.text


@dataclass(frozen=True, slots=True)
class Action:
    """Prints a pipeline's value, unless the pipeline sets variables."""

    at: int
    pipe: Pipe

    def __str__(self) -> str:
        return f"{{{{{self.pipe}}}}}"


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range`. An `else if` is one Branch alone in `otherwise`."""

    at: int
    word: Literal["if", "with", "range"]
    pipe: Pipe
    body: Nodes
    otherwise: Nodes = ()

    def __str__(self) -> str:
        otherwise = f"{{{{else}}}}{written(self.otherwise)}" if self.otherwise else ""
        return f"{{{{{self.word} {self.pipe}}}}}{written(self.body)}{otherwise}{{{{end}}}}"


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    at: int
    word: Literal["break", "continue"]

    def __str__(self) -> str:
        return f"{{{{{self.word}}}}}"


@dataclass(frozen=True, slots=True)
class Call:
    """`template "name" pipeline`; `quoted` is the name as the source spells it."""

    at: int
    name: str
    quoted: str
    pipe: Pipe | None

    def __str__(self) -> str:
        argument = "" if self.pipe is None else f" {self.pipe}"
        return f"{{{{template {self.quoted}{argument}}}}}"


Node = Text | Action | Branch | Jump | Call
Nodes = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed template: its own nodes, and those of the templates that it defines, by name."""

    source: str
    nodes: Nodes
    defined: dict[str, Nodes]

    def __str__(self) -> str:
        definitions = (
            f"{{{{define {quote(name)}}}}}{written(nodes)}{{{{end}}}}" for name, nodes in self.defined.items()
        )
        return written(self.nodes) + "".join(definitions)


def written(nodes: Nodes) -> str:
    return "".join(map(str, nodes))
