"""Templates run as Go runs them: every case of go_templates.json, whose answers Go gave (modelfile-templates §2)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import TemplateError
from llamero.messages import Message, ToolCall
from llamero.template import exposed
from llamero.template.execute import Program
from llamero.template.functions import NAMES, Context
from llamero.template.meter import Meter
from llamero.template.parse import parse
from llamero.template.quoting import from_bytes, to_bytes
from llamero.template.values import Value, from_json
from tests.template.conversations import TODAY

TABLE = json.loads((Path(__file__).parents[1] / "data" / "go_templates.json").read_text(encoding="utf-8"))

DIFFERENCES = {
    # §2.6 [+]: whole numbers from JSON print as integers
    "{{ .Big }}": "1000000",
    # published templates print a tool's function as it is, for models that were trained on its JSON
    "{{ (index .Tools 2).Function }}": (
        '{"name":"now","description":"no parameters","parameters":{"type":"","properties":null}}'
    ),
    # dot in a loop over anything: Go names the list's type, we the item's own, which says more
    "{{ range .L }}{{ .Foo }}{{ end }}": (
        'template: :1:17: executing "" at <.Foo>: can\'t evaluate field Foo in type float64'
    ),
    # §2.3: `len` of nothing. Go shows a panic of its own there
    "{{ len (index .L 2) }}": (
        'template: :1:3: executing "" at <len (index .L 2)>: error calling len: len of nil pointer'
    ),
    # the place that Go names is the value before the pipe, which is not where the mistake is
    "{{ 1 | (len) }}": 'template: :1:7: executing "" at <(len)>: can\'t give argument to non-function len',
    # `call` cannot be used, as there are no function values; Go also writes the argument as it stands in the source
    "{{ call .L 3 }}": (
        'template: :1:3: executing "" at <call .L 3>: error calling call: non-function of type []interface {}'
    ),
}


def message(data: dict[str, Any]) -> Message:
    calls = (
        ToolCall(call["function"]["name"], call["function"]["arguments"], call.get("id", ""), call["function"]["index"])
        for call in data.get("tool_calls", ())
    )
    return Message(
        data["role"],
        data["content"],
        data.get("thinking", ""),
        tuple(map(base64.b64decode, data.get("images", ()))),
        tuple(calls),
        data.get("tool_name", ""),
        data.get("tool_call_id", ""),
    )


def values(data: dict[str, Any]) -> Value:
    if "messages" not in data:
        return from_json(data)
    return exposed.request(list(map(message, data["messages"])), data.get("tools", ()), data.get("think"))


def outcome(text: str, data: Value) -> str:
    out: list[str] = []
    try:
        Program(parse(text, NAMES)).run(data, Context(Meter(), TODAY), out)
    except TemplateError as error:
        return str(error)
    # as in the file, bytes that are no text are U+FFFD each
    return from_bytes(to_bytes("".join(out))).translate(dict.fromkeys(range(0xDC80, 0xDD00), "\ufffd"))


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: f"{case['with']}: {case['template'][:60]!r}")
def test_as_go(case: dict[str, str]) -> None:
    expected = DIFFERENCES.get(case["template"], case["out"] if "out" in case else case["error"])
    if case["template"] in ("{{$}}", "{{.}}{{$.System}}"):
        expected = expected.replace("1e+06", "1000000")
    assert outcome(case["template"], values(TABLE["values"][case["with"]])) == expected


def test_every_difference_is_still_one() -> None:
    by_template = {case["template"]: case for case in TABLE["cases"]}
    for template, ours in DIFFERENCES.items():
        case = by_template[template]
        assert ours != case.get("out", case.get("error"))


def test_a_variable_of_one_branch_is_none_of_the_other() -> None:
    text = "{{ $x := 1 }}{{ with .Nope }}{{ $x := 2 }}{{ else }}{{ $x }}{{ end }}"
    assert outcome(text, {}) == "1"


def test_a_program_can_be_run_again() -> None:
    program = Program(parse("{{ $x := .A }}{{ $x }}{{ $x = 3 }}{{ $x }}", NAMES))
    for value in ("a", "b"):
        out: list[str] = []
        program.run({"A": value}, Context(Meter(), TODAY), out)
        assert "".join(out) == f"{value}3"
