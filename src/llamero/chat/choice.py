"""Which tools a model may or must call, and what makes it do so: `tool_choice` and `parallel_tool_calls` as data. Pure.

Source: compat-api §5.3, native-api §2.7. Where the engine renders the template it constrains calls by itself, see
`for_chat`. On the Go-template path a call that must come is a schema for the whole answer (`must_call`), and one that
may come is a grammar that waits for the tag of calls, or for an answer that begins as a call (`may_call`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import BadRequest
from .schema import SchemaRefused, as_meant, check_grammar, check_schema, for_completion, for_engine, readable
from .schema.gbnf import GrammarWriter, json_literal, literal
from .schema.subschemas import schemas_in
from .tools import BARE_TAGS, clean_tag, visible_tokens

Tool = Mapping[str, Any]

_SAY_MORE = {"additionalProperties", "patternProperties", "$ref", "allOf", "anyOf", "oneOf", "required"}
"""Keywords that make parameters without `properties` more than no parameters."""

TRIGGER_WORD = 1
"""The `type` of a grammar trigger that is a text, in a `/completion` body (llama-server, `grammar_triggers`)."""
TRIGGER_ANSWER = 3
"""The `type` of one that is a pattern for all of the answer so far; the grammar begins with its group."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    mode: Literal["auto", "none", "required"] = "auto"
    names: frozenset[str] | None = None
    """The tools that may be called; None: all of them."""
    is_parallel: bool = True
    """Whether one answer may hold several calls."""

    @property
    def max_calls(self) -> int | None:
        return None if self.is_parallel else 1

    def offered(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """The tools that the model is told of, and may call."""
        if self.mode == "none":
            return ()
        return tuple(tool for tool in tools if self.names is None or name_of(tool) in self.names)

    def for_chat(self, tools: Sequence[Tool]) -> dict[str, Any]:
        """The part of a `/v1/chat/completions` body that speaks of tools."""
        offered = self.offered(tools)
        if not offered:
            return {}
        body: dict[str, Any] = {"tools": list(offered), "parallel_tool_calls": self.is_parallel}
        if self.mode == "required":
            body["tool_choice"] = "required"
        return body


def name_of(tool: Tool) -> str:
    """Empty for a tool that is no function."""
    return _name_in(tool) or ""


def parse_choice(choice: Any, parallel: Any, tools: Sequence[Tool]) -> ToolChoice:
    """What a request's `tool_choice` and `parallel_tool_calls` say, in OpenAI's words. Raises BadRequest."""
    if not (parallel is None or isinstance(parallel, bool)):
        raise BadRequest("invalid parallel_tool_calls: must be true or false")
    parsed = _parse(choice, is_parallel=parallel is not False)
    if (parsed.mode == "required" or parsed.names) and not tools:
        raise BadRequest("invalid tool_choice: the request has no tools")
    unknown = (parsed.names or frozenset()).difference(map(name_of, tools))
    if unknown:
        raise BadRequest(f'invalid tool_choice: "{min(unknown)}" is not among the tools')
    return parsed


def _parse(choice: Any, *, is_parallel: bool) -> ToolChoice:
    match choice:
        case None:
            return ToolChoice(is_parallel=is_parallel)
        case "auto" | "none" | "required":
            return ToolChoice(choice, is_parallel=is_parallel)
        case "any" | {"type": "any"}:  # Mistral's and Anthropic's word
            return ToolChoice("required", is_parallel=is_parallel)
        case {"type": "auto" | "none" | "required" as mode}:
            return ToolChoice(mode, is_parallel=is_parallel)
        case {"type": "function"} if name := _name_in(choice):
            return ToolChoice("required", frozenset({name}), is_parallel=False)
        case {"type": "allowed_tools"}:
            allowed = choice.get("allowed_tools", choice)  # the Responses API has no level between
            if isinstance(allowed, dict) and allowed.get("mode") in ("auto", "required"):
                names = _names_in(allowed.get("tools"))
                if names:
                    return ToolChoice(allowed["mode"], names, is_parallel)
    raise BadRequest('invalid tool_choice: must be "auto", "none", "required", or name a function or allowed_tools')


def _names_in(tools: Any) -> frozenset[str]:
    """Nothing when one of them has no name."""
    names = [_name_in(tool) if isinstance(tool, dict) else None for tool in tools] if isinstance(tools, list) else []
    return frozenset(name for name in names if name) if all(names) else frozenset()


def _name_in(tool: Mapping[str, Any]) -> str | None:
    """Of `{"type": "function", "function": {"name": ..}}`; the Responses API has no level between."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def for_jinja(choice: ToolChoice, tools: Sequence[Tool]) -> tuple[tuple[Tool, ...], list[str]]:
    """The offered tools as the engine can read them, and what it does not enforce of their schemas.

    It refuses a whole request for one tool that it stumbles over. Raises BadRequest where a call must come and cannot
    be constrained.
    """
    read, warnings = [], []
    for tool in choice.offered(tools):
        if choice.mode == "required":
            _arguments(tool)
        made, notes = _readable(tool)
        read.append(made)
        warnings += [f'tool "{name_of(tool)}": {note}' for note in notes]
    return tuple(read), warnings


def _readable(tool: Tool) -> tuple[Tool, list[str]]:
    function = tool.get("function", tool) or {}
    parameters = as_meant(function.get("parameters") or {})
    if isinstance(parameters, dict):
        schema, notes = readable(parameters)
    else:
        schema, notes = {}, ["its parameters are no JSON Schema object"]
    said = {key: value for key, value in function.items() if value is not None}
    return {**tool, "type": "function", "function": {**said, "name": name_of(tool), "parameters": schema}}, notes


# --- the Go-template path ---


@dataclass(frozen=True, slots=True)
class MustCall:
    """The whole answer is one call or a list of them."""

    schema: dict[str, Any]
    prefix: str
    """What is to be appended to the prompt: models call better behind the tag that they know."""
    tag: str
    """What `ToolParser` then looks for."""
    warnings: tuple[str, ...] = ()

    def for_completion(self) -> dict[str, Any]:
        return for_completion(self.schema)


@dataclass(frozen=True, slots=True)
class MayCall:
    """From where calls begin they have the shape that the tools ask for; in front of it nothing is constrained."""

    grammar: str
    trigger: str
    """A text; with `begins_answer` a pattern for an answer that begins as a call."""
    begins_answer: bool = False
    warnings: tuple[str, ...] = ()

    def for_completion(self) -> dict[str, Any]:
        kind = TRIGGER_ANSWER if self.begins_answer else TRIGGER_WORD
        body = {
            "grammar": self.grammar,
            "grammar_lazy": True,
            "grammar_triggers": [{"type": kind, "value": self.trigger}],
        }
        if not self.begins_answer:  # the engine refuses a trigger that is one token and is not shown
            body["preserved_tokens"] = [self.trigger]
        return body


def must_call(choice: ToolChoice, tools: Sequence[Tool], tag: str) -> MustCall:
    """The constraint for `required`; `tag` as inferred from the template. Raises BadRequest for what cannot be called.

    Where the template writes calls as a list, so does the schema; otherwise the answer is a single call.
    """
    calls: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    warnings: list[str] = []
    extra: dict[str, Any] = {}
    for number, tool in enumerate(choice.offered(tools)):
        arguments, notes = _arguments(tool)
        prefix = f"{number}."
        definitions |= {prefix + key: _renamed(part, prefix) for key, part in arguments.pop("$defs", {}).items()}
        if "x-guidance" in arguments:
            extra["x-guidance"] = arguments.pop("x-guidance")
        calls.append(_call(name_of(tool), _renamed(arguments, prefix)))
        warnings += notes
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    tag = clean_tag(tag)
    is_list = tag.endswith("[")
    if is_list:
        schema = {"type": "array", "items": schema, "minItems": 1}
        if not choice.is_parallel:
            schema["maxItems"] = 1
    if definitions:
        schema = {**schema, "$defs": definitions}
    return MustCall({**schema, **extra}, tag.rstrip("[{ \n"), "[" if is_list else "{", tuple(warnings))


def may_call(choice: ToolChoice, tools: Sequence[Tool], tag: str) -> MayCall | None:
    """The constraint for `auto`; None where no call may come.

    It waits for the special token that the tag begins with, else for the tag. A token that ends a mere text may go on
    with something that the grammar forbids; the engine then breaks the answer off, and must be asked to go on without.
    """
    offered = choice.offered(tools)
    if choice.mode != "auto" or not offered:
        return None
    schemas: dict[str, dict[str, Any]] = {}
    warnings = []
    for tool in offered:
        schemas[name_of(tool)] = {"type": "object"}
        try:
            schemas[name_of(tool)], notes = _arguments(tool)
        except BadRequest as error:
            notes = [f"{error}; its arguments are not constrained"]
        warnings += notes
    tag = clean_tag(tag)
    grammar = _grammar(tag, schemas, is_parallel=choice.is_parallel)
    try:
        check_grammar(grammar)
    except BadRequest:
        grammar = _grammar(tag, {name: {"type": "object"} for name in schemas}, is_parallel=choice.is_parallel)
        warnings = ["the parameters of the tools are too much for a grammar; arguments are not constrained"]
    if tag in BARE_TAGS:
        return MayCall(grammar, _beginning(tag, schemas), begins_answer=True, warnings=tuple(warnings))
    return MayCall(grammar, _trigger(tag), warnings=tuple(warnings))


def _trigger(tag: str) -> str:
    """What of a tag the engine waits for: a special token is found without looking at the text again and again."""
    return next((token for token in visible_tokens(tag) if tag.startswith(token)), tag)


def _beginning(tag: str, names: Iterable[str]) -> str:
    """A pattern for the beginning of an answer that is JSON and names a tool, so that it cannot be anything but a call.

    Its white space is that of the grammar. Any other answer in JSON stays free.
    """
    space = r"(?: ?|\n[ \t]{0,20})"
    opening = rf"\[{space}" if tag == "[" else ""
    either = "|".join(re.escape(json.dumps(name, ensure_ascii=False)) for name in names)
    return rf'\s*({opening}\{{{space}"name"{space}:{space}(?:{either}))[\s\S]*'


def _grammar(tag: str, schemas: Mapping[str, dict[str, Any]], *, is_parallel: bool) -> str:
    """The tag, then calls with anything but a brace around them: every template closes its calls differently."""
    writer = GrammarWriter()
    calls = []
    naming, key = r'("\"name\"" | "\"tool_name\"")', r'("\"arguments\"" | "\"parameters\"")'
    for name, schema in schemas.items():
        arguments = writer.schema(schema)
        calls.append(
            rf'"{{" space {naming} space ":" space {json_literal(name)} space "," space'
            rf' {key} space ":" space {arguments} space "}}"'
        )
        # add({..}), add[ARGS]{..}, and the name before a fence with the language
        calls.append(f'{literal(name)} [^{{a-z]{{0,8}} ("json" [^{{a-z]{{0,4}})? {arguments}')
    call = writer.rule(" | ".join(calls))
    words = writer.rule("[^{]*")
    times = "*" if is_parallel else "?"
    if tag not in BARE_TAGS:
        return writer.text(f"{literal(tag)} {words} ({call} {words}){times}")
    begin = f"{literal(tag)} space " if tag == "[" else ""
    more = f" ({call} {words})*" if is_parallel else ""
    return writer.text(f"{begin}{call} {words}{more}")


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _arguments(tool: Tool) -> tuple[dict[str, Any], list[str]]:
    """The schema of a tool's arguments for the engine, and what the engine does not enforce of it."""
    name = name_of(tool)
    parameters = as_meant(tool.get("function", tool).get("parameters") or {})
    if not isinstance(parameters, dict):
        raise BadRequest(f'invalid parameters of tool "{name}": must be a JSON Schema object')
    types = parameters.get("type", "object")
    if "object" not in (types if isinstance(types, list) else [types]):
        raise BadRequest(f'invalid parameters of tool "{name}": /type: arguments are always an object')
    schema = {**parameters, "type": "object"}
    if not parameters.get("properties") and all(parameters.get(keyword) in (None, []) for keyword in _SAY_MORE):
        schema["additionalProperties"] = False  # a tool without parameters, as OpenAI means it
    try:
        check_schema(schema)
    except SchemaRefused as error:
        raise BadRequest(f'invalid parameters of tool "{name}": {error.fault}') from error
    enforced, notes = for_engine(schema)
    return enforced, [f'tool "{name}": {note}' for note in notes]


def _renamed(schema: Any, prefix: str) -> Any:
    """A schema of `for_engine` with other names for the definitions that it refers to."""
    if not isinstance(schema, dict):
        return schema
    renamed = {}
    for keyword, value in schema.items():
        if keyword == "$ref":
            renamed[keyword] = value.replace("#/$defs/", f"#/$defs/{prefix}", 1)
            continue
        parts = {key: _renamed(part, prefix) for key, part in schemas_in(keyword, value)}
        renamed[keyword] = (
            parts.get(None, list(parts.values()) if isinstance(value, list) else parts) if parts else value
        )
    return renamed
