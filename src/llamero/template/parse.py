"""Tokens to nodes: the grammar of Go templates. What names mean is not looked at, except that they must exist.

Source: modelfile-templates §2.1 to §2.5; every error text was compared with Go's (tests/data/go_templates.json).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Literal, NoReturn

from ..errors import TemplateError
from .lex import Kind, Token, tokens
from .nodes import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Function,
    Jump,
    Nil,
    Node,
    Nodes,
    Operand,
    Pipe,
    Text,
    Tree,
    Variable,
)
from .numerals import number
from .quoting import quote, unquote

MAX_SOURCE_CHARS = 1 << 20
"""Templates of models have up to 20 thousand characters; a few-shot prompt may be longer."""

MAX_TOKENS = 60_000
"""A template of 20 thousand characters has some 6,000. Reading this many takes a third of a second."""

MAX_NESTING = 64
"""Blocks and parentheses inside each other, also the links of an `else if` chain: each costs Python stack."""

MAX_VARIABLES = 500
"""Variables that can be seen at one place. Templates have up to ten; each use looks through them."""

_STARTS_OPERAND: frozenset[Kind] = frozenset(
    ("bool", "character", "dot", "field", "identifier", "number", "nil", "raw string", "string", "variable", "(")
)
_CONSTANTS = (Constant, Nil, Dot)


def parse(source: str, functions: Collection[str]) -> Tree:
    """Parse a template that may call `functions`. Raises TemplateError with Go's text: `template: :LINE: MESSAGE`."""
    if len(source) > MAX_SOURCE_CHARS:
        raise TemplateError(f"template: too long (limit {MAX_SOURCE_CHARS} characters)")
    return _Parser(source, functions).tree()


class _Parser:
    def __init__(self, source: str, functions: Collection[str]) -> None:
        self._source = source
        self._functions = functions
        self._tokens = tokens(source)
        self._ahead: deque[Token] = deque()
        self._count = 0
        self._last = Token("eof", "", 0)  # the one read last: where errors are
        self._opened: int | None = None  # where the present action began
        self._nesting = 0
        self._ranges = 0
        self._variables = ["$"]
        self._defined: dict[str, Nodes] = {}

    # --- tokens

    def _peek(self, distance: int = 0) -> Token:
        while len(self._ahead) <= distance:
            self._count += 1
            if self._count > MAX_TOKENS:
                self._fail(f"too many tokens (limit {MAX_TOKENS})")
            self._last = next(self._tokens, self._last)  # an error token is found again and again
            self._ahead.append(self._last)
        return self._ahead[distance]

    def _next(self) -> Token:
        self._peek()
        return self._ahead.popleft()

    def _peek_solid(self) -> Token:
        """The next token that is not space."""
        while self._peek().kind == "space":
            self._ahead.popleft()
        return self._ahead[0]

    def _next_solid(self) -> Token:
        self._peek_solid()
        return self._ahead.popleft()

    def _expect(self, kind: Kind, context: str) -> Token:
        token = self._next_solid()
        if token.kind != kind:
            self._unexpected(token, context)
        return token

    # --- errors

    def _fail(self, message: str) -> NoReturn:
        raise TemplateError(f"template: :{self._line(self._last.at)}: {message}")

    def _line(self, at: int) -> int:
        return self._source.count("\n", 0, at) + 1

    def _unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind != "error":
            self._fail(f"unexpected {_shown(token)} in {context}")
        line = self._line(token.at)
        started = line if self._opened is None else self._line(self._opened)
        if started == line:
            self._fail(token.text)
        where = f" started at :{started}"
        self._fail(token.text + (where if token.text.endswith(" action") else f" in action{where}"))

    def _enter(self) -> None:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            self._fail(f"nested too deeply (limit {MAX_NESTING})")

    # --- statements

    def tree(self) -> Tree:
        nodes: list[Node] = []
        while self._peek().kind != "eof":
            if self._peek().kind == "{{":
                self._peek(1)
                if self._definition():
                    continue
            node = self._statement()
            if isinstance(node, Token):
                self._fail(f"unexpected {{{{{node.text}}}}}")
            nodes.append(node)
        return Tree(self._source, tuple(nodes), self._defined)

    def _statement(self) -> Node | Token:
        """A node, or the `end` or `else` that ends a list of them."""
        token = self._next_solid()
        if token.kind == "text":
            return Text(token.at, token.text)
        if token.kind != "{{":
            self._unexpected(token, "input")
        self._opened = token.at
        word = self._peek_solid()
        node = self._keyword_statement(word) if word.kind == "keyword" else Action(word.at, self._pipeline("command"))
        self._opened = None
        return node

    def _keyword_statement(self, word: Token) -> Node | Token:
        match word.text:
            case "if" | "with" | "range":
                self._next_solid()
                return self._branch(word.at, word.text)
            case "template":
                self._next_solid()
                return self._call()
            case "block":
                self._next_solid()
                return self._block()
            case "break" | "continue":
                self._next_solid()
                return self._jump(word)
            case "end":
                self._next_solid()
                self._expect("}}", "end")
                return word
            case "else":
                self._next_solid()
                following = self._peek_solid()
                if not (following.kind == "keyword" and following.text in ("if", "with")):
                    self._expect("}}", "else")
                return word
            case _:  # `define` is known at the top only
                return Action(word.at, self._pipeline("command"))

    def _list(self) -> tuple[Nodes, Token]:
        """Nodes up to `end` or `else`, and which of the two it was."""
        nodes: list[Node] = []
        while True:
            if self._peek_solid().kind == "eof":
                self._fail("unexpected EOF")
            node = self._statement()
            if isinstance(node, Token):
                return tuple(nodes), node
            nodes.append(node)

    def _branch(self, at: int, word: Literal["if", "with", "range"]) -> Branch:
        self._enter()
        visible = len(self._variables)
        pipe = self._pipeline(word)
        self._ranges += word == "range"
        body, ending = self._list()
        self._ranges -= word == "range"
        otherwise: Nodes = ()
        if ending.text == "else":
            following = self._peek()
            if following.kind == "keyword" and following.text == word:
                self._next()
                otherwise = (self._branch(following.at, word),)
            else:
                otherwise, ending = self._list()
                if ending.text != "end":
                    self._fail(f"expected end; found {{{{{ending.text}}}}}")
        del self._variables[visible:]
        self._nesting -= 1
        return Branch(at, word, pipe, body, otherwise)

    def _jump(self, word: Token) -> Jump:
        token = self._next_solid()
        if token.kind != "}}":
            self._unexpected(token, f"{{{{{word.text}}}}}")
        if not self._ranges:
            self._fail(f"{{{{{word.text}}}}} outside {{{{range}}}}")
        return Jump(word.at, "break" if word.text == "break" else "continue")

    def _call(self) -> Call:
        name = self._name("template clause")
        pipe = None
        if self._peek_solid().kind == "}}":
            self._next()
        else:
            pipe = self._pipeline("template clause")
        return Call(name.at, self._unquoted(name), name.text, pipe)

    def _definition(self) -> bool:
        """Whether a `define` stands here; if so it is read."""
        distance = 2 if self._ahead[1].kind == "space" else 1
        word = self._peek(distance)
        if word.text != "define" or word.kind != "keyword":
            return False
        self._next()
        self._next_solid()
        name = self._name("define clause")
        self._expect("}}", "define clause")
        self._named(self._unquoted(name), "define clause")
        return True

    def _block(self) -> Call:
        name = self._name("block clause")
        pipe = self._pipeline("block clause")
        self._named(self._unquoted(name), "block clause")
        return Call(name.at, self._unquoted(name), name.text, pipe)

    def _named(self, name: str, context: str) -> None:
        """The body of a named template, which sees neither the variables nor the loops around it."""
        outer = self._variables, self._ranges
        self._variables, self._ranges = ["$"], 0
        self._enter()
        nodes, ending = self._list()
        if ending.text != "end":
            self._fail(f"unexpected {{{{{ending.text}}}}} in {context}")
        self._nesting -= 1
        self._variables, self._ranges = outer
        if _blank(self._defined.get(name, ())):
            self._defined[name] = nodes
        elif not _blank(nodes):
            self._fail(f"template: multiple definition of template {quote(name)}")

    def _name(self, context: str) -> Token:
        token = self._next_solid()
        if token.kind not in ("string", "raw string"):
            self._unexpected(token, context)
        return token

    # --- pipelines

    def _pipeline(self, context: str, end: Kind = "}}") -> Pipe:
        at = self._peek_solid().at
        variables, assigns = self._targets(context)
        commands: list[Command] = []
        while (token := self._peek_solid()).kind != end:
            if token.kind not in _STARTS_OPERAND:
                self._unexpected(token, context)
            commands.append(self._command())
        self._next()
        if not commands:
            self._fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], _CONSTANTS):
                self._fail(f"non executable command in pipeline stage {stage}")
        return Pipe(at, tuple(commands), variables, assigns)

    def _targets(self, context: str) -> tuple[tuple[str, ...], bool]:
        """The variables before `:=` or `=`, and whether it was `=`. They are visible from here on."""
        names: list[str] = []
        while self._peek_solid().kind == "variable":
            distance = 2 if self._peek(1).kind == "space" else 1
            operator = self._peek(distance)
            if operator.kind not in (":=", "=") and operator.text != ",":
                break
            names.append(self._next().text)
            self._next_solid()
            self._variables.append(names[-1])
            if len(self._variables) > MAX_VARIABLES:
                self._fail(f"too many variables (limit {MAX_VARIABLES})")
            if operator.text != ",":
                return tuple(names), operator.kind == "="
            if context != "range" or len(names) > 1:
                self._fail(f"too many declarations in {context}")
            if self._peek_solid().kind not in ("variable", "}}", ")"):
                self._fail("range can only initialize variables")
        return tuple(names), False

    def _command(self) -> Command:
        at = self._peek_solid().at
        args: list[Operand] = []
        while self._peek_solid().kind in _STARTS_OPERAND:
            args.append(self._operand())
            token = self._peek()
            if token.kind == "|":
                self._next()
                break
            if token.kind in ("}}", ")"):
                break
            if token.kind != "space":
                self._unexpected(token, "operand")
        else:
            self._after_operands()
        return Command(at, tuple(args))

    def _after_operands(self) -> None:
        """What may follow a command's last operand and a space."""
        token = self._peek()
        if token.kind == "|":
            self._next()
        elif token.kind not in ("}}", ")"):
            self._unexpected(token, "operand")

    def _operand(self) -> Operand:
        operand = self._term()
        if self._peek().kind != "field":
            return operand
        at = self._peek().at
        names: list[str] = []
        while self._peek().kind == "field":
            names.append(self._next().text[1:])
        if isinstance(operand, Field):
            return Field(at, (*operand.names, *names))
        if isinstance(operand, Variable):
            return Variable(at, operand.name, tuple(names))
        if isinstance(operand, _CONSTANTS):
            self._fail(f"unexpected . after term {quote(str(operand))}")
        return Chain(at, operand, tuple(names))

    def _term(self) -> Operand:
        token = self._next_solid()
        match token.kind:
            case "dot":
                return Dot(token.at)
            case "nil":
                return Nil(token.at)
            case "field":
                return Field(token.at, (token.text[1:],))
            case "variable":
                if token.text not in self._variables:
                    self._fail(f"undefined variable {quote(token.text)}")
                return Variable(token.at, token.text)
            case "identifier":
                if token.text not in self._functions:
                    self._fail(f"function {quote(token.text)} not defined")
                return Function(token.at, token.text)
            case "(":
                self._enter()
                pipe = self._pipeline("parenthesized pipeline", ")")
                self._nesting -= 1
                return pipe
            case _:
                return Constant(token.at, self._constant(token), token.text)

    def _constant(self, token: Token) -> bool | int | float | str:
        match token.kind:
            case "bool":
                return token.text == "true"
            case "number":
                try:
                    return number(token.text)
                except ValueError as error:
                    self._fail(str(error))
            case "character":
                text = self._unquoted(token)
                if len(text) > 1:
                    self._fail(f"malformed character constant: {token.text}")
                if not text:
                    self._fail("invalid syntax")
                return ord(text)
            case _:
                return self._unquoted(token)

    def _unquoted(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as error:
            self._fail(str(error))


def _blank(nodes: Nodes) -> bool:
    """Whether a template counts as empty, so that another may take its name."""
    return all(isinstance(node, Text) and not node.text.strip() for node in nodes)


def _shown(token: Token) -> str:
    """A token in an error text."""
    if token.kind == "eof":
        return "EOF"
    if token.kind in ("keyword", "dot", "nil"):
        return f"<{token.text}>"
    return quote(token.text) if len(token.text) <= 10 else quote(token.text[:10]) + "..."
