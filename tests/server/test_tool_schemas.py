"""Tools with parameters as clients really write them: nobody is refused, on either way, for what constrains less."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.speakers import WAYS, call, make_speaker
from tests.running import Server


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


NULL = {"type": "null"}
SOUND = {
    "any value": of(a=True),
    "a closed tuple": of(a={"type": "array", "prefixItems": [{"type": "integer"}], "items": False}),
    "a union of the official Python client": of(a={"type": "string, integer", "description": ""}),
    "null of a client in Go": {
        "type": "object",
        "properties": {"a": {"type": "integer", "enum": None}},
        "required": None,
    },
    "no parameters at all": None,
    "no properties": {"type": "object", "properties": None},
    "a schema of zod's": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "additionalProperties": False,
        **of(a={}),
    },
    "references": {**of(a={"$ref": "#/$defs/A"}), "$defs": {"A": of(next={"anyOf": [{"$ref": "#/$defs/A"}, NULL]})}},
}
ODD = {
    "a type of Python's": of(a={"type": "int"}),
    "capitals": of(a={"type": "INTEGER"}),
    "a reference to nowhere": of(a={"$ref": "#/nowhere"}),
    "a bound that is text": of(a={"type": "integer", "minimum": "3"}),
    "no values": of(a={"enum": []}),
}


@pytest.fixture(scope="module", params=WAYS)
def caller(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("caller")
    return make_speaker(server, folder, request.param, "tool-schemas", call("stir"))


def ask(server: Server, model: str, parameters: Any, **more: Any) -> dict[str, Any]:
    tools = [
        {"type": "function", "function": {"name": "stir", "description": None, "parameters": {}}},
        {"function": {"name": "odd", "parameters": parameters}},
    ]
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "tools": tools, "stream": False, **more}
    reply = server.post("/api/chat", body)
    assert reply.status == 200, reply.body
    return dict(reply.json())


@pytest.mark.parametrize("parameters", SOUND.values(), ids=SOUND)
def test_what_a_client_means_is_understood(server: Server, caller: str, parameters: Any) -> None:
    reply = ask(server, caller, parameters)
    assert [made["function"]["name"] for made in reply["message"]["tool_calls"]] == ["stir"]
    assert "warnings" not in reply


@pytest.mark.parametrize("parameters", ODD.values(), ids=ODD)
def test_what_cannot_be_enforced_is_warned_of(server: Server, caller: str, parameters: Any) -> None:
    reply = ask(server, caller, parameters)
    assert [made["function"]["name"] for made in reply["message"]["tool_calls"]] == ["stir"]
    (warning,) = reply["warnings"]
    assert 'tool "odd": /properties/a/' in warning


def test_a_call_that_must_come_needs_a_sound_schema(server: Server, caller: str) -> None:
    tool = {"type": "function", "function": {"name": "odd", "parameters": ODD["no values"]}}
    body = {
        "model": caller,
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [tool],
        "tool_choice": "required",
    }
    reply = server.post("/api/chat", body)
    assert reply.status == 400
    assert reply.error.startswith('invalid parameters of tool "odd": /properties/a/enum: ')
