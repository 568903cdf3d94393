"""What stands between the tags of a call, family by family: text in, name and arguments out.

Each function raises ValueError for what is no call. Source: modelfile-templates §8.3, §8.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .declared import Declared
from .literals import Literals

Call = tuple[str, dict[str, Any]]


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _call(name: Any, arguments: Any) -> Call:
    if isinstance(arguments, str):
        arguments = _decoded(arguments)
    if not (isinstance(name, str) and name and isinstance(arguments, dict)):
        raise ValueError("a call needs a name and arguments")
    return name, arguments


def json_object(body: str, declared: Declared) -> list[Call]:
    """`{"name": .., "arguments": {..}}` (qwen3)."""
    value = _decoded(body)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return [_call(value.get("name"), value.get("arguments", {}))]


def json_list(body: str, declared: Declared) -> list[Call]:
    """`[{"tool_name": .., "parameters": {..}}]` (cohere)."""
    value = _decoded(body)
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, dict) for item in items):
        raise ValueError("not a list of objects")
    return [_call(item.get("tool_name"), item.get("parameters")) for item in items]


def functions(body: str, declared: Declared) -> list[Call]:
    """`<function=f><parameter=p>value</parameter></function>` (qwen3-coder)."""
    name, inner = _tagged(body, "<function=", ">", "</function>")
    arguments = {
        key: declared.value(name, key, value) for key, value in _all_tagged(inner, "<parameter=", ">", "</parameter>")
    }
    return [_call(name, arguments)]


def argument_pairs(body: str, declared: Declared) -> list[Call]:
    """`f<arg_key>a</arg_key><arg_value>1</arg_value>` (glm, laguna)."""
    name, key_tag, rest = body.partition("<arg_key>")
    name = name.strip()
    arguments = {}
    for key, inner in _all_tagged(key_tag + rest, "<arg_key>", "</arg_key>", "</arg_value>"):
        _, tag, value = inner.partition("<arg_value>")
        if not tag:
            raise ValueError(f"{key} has no value")
        arguments[key.strip()] = declared.value(name, key.strip(), value)
    return [_call(name, arguments)]


def separated(body: str, declared: Declared) -> list[Call]:
    """`f<｜tool▁sep｜>{..}` (deepseek), or with `function` in front and the JSON in a code block (cogito)."""
    name, _, arguments = body.partition("<｜tool▁sep｜>")
    if name.strip() == "function" and "```json" in arguments:
        name, _, arguments = arguments.partition("```json")
        arguments = arguments.strip().removesuffix("```")
    return [_call(name.strip(), _decoded(arguments))]


def bracketed(body: str, declared: Declared) -> list[Call]:
    """`f[ARGS]{..}` (ministral), of a tool that there is."""
    name, _, arguments = body.partition("[ARGS]")
    if name.strip() not in declared:
        raise ValueError(f"tool '{name.strip()}' not found")
    return [_call(name.strip(), _decoded(arguments))]


def python(body: str, declared: Declared) -> list[Call]:
    """`f(a=1, b="x")`, one or several, as lines or as a list (olmo3, lfm2)."""
    reader = Literals(body)
    calls: list[Call] = []
    is_list = reader.accept("[")
    while not reader.is_at_end and not (is_list and reader.accept("]")):
        if is_list and calls:
            reader.expect(",")
        name = reader.name()
        reader.expect("(")
        calls.append((name, reader.members(")", "=")))
    if not calls or not reader.is_at_end:
        raise ValueError("no calls")
    return calls


def gemma(body: str, declared: Declared) -> list[Call]:
    """`call:f{a:1,b:<|"|>x<|"|>}`; functiongemma's quote is `<escape>`."""
    reader = Literals(body, quotes=('<|"|>', "<escape>", '"'))
    reader.expect("call:")
    name = reader.name()
    reader.expect("{")
    arguments = reader.members("}", ":")
    if not reader.is_at_end:
        raise ValueError("something behind the arguments")
    return [(name, arguments)]


def _tagged(text: str, opening: str, opened: str, closing: str) -> tuple[str, str]:
    """The name within the first tag, and what stands behind it."""
    for found in _all_tagged(text, opening, opened, closing):
        return found
    raise ValueError(f"no {opening}")


def _all_tagged(text: str, opening: str, opened: str, closing: str) -> Iterator[tuple[str, str]]:
    """One tag after the other; each must be closed. The text is never cut: an answer may have very many (X-76)."""
    at = 0
    while (found := text.find(opening, at)) >= 0:
        start = found + len(opening)
        name_end = text.find(opened, start)
        end = text.find(closing, name_end + len(opened)) if name_end >= 0 else -1
        if end < 0:
            raise ValueError(f"{opening} is not closed")
        yield text[start:name_end], text[name_end + len(opened) : end]
        at = end + len(closing)
