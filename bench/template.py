"""How long our Go template interpreter takes: a template of 5 KiB, 200 messages, tools; beside it the mere joining.

    python -m bench.template [rounds]

No engine is started: this is the time that a request spends in the server before the engine hears of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date
from typing import Any

from llamero.messages import Message, ToolCall
from llamero.template.render import Template, render

from .alone import alone
from .effort import Effort
from .figures import Figure

ROUNDS = 50
MESSAGES = 200
LIMIT_MS = 10.0

TURNS = """{{- $lastUser := -1 }}
{{- range $i, $m := .Messages }}{{ if eq $m.Role "user" }}{{ $lastUser = $i }}{{ end }}{{ end }}
{{- if or .System .Tools }}<|im_start|>system
{{ if .System }}{{ .System }}

{{ end }}
{{- if .Tools }}<tools>
{{- range .Tools }}
{"type": "function", "function": {{ json .Function }}}
{{- end }}
</tools>
{{- range .Tools }}
{{ .Function.Name }}(
{{- range $name, $item := .Function.Parameters.Properties }}{{ $name }}: {{ toTypeScriptType $item }}, {{ end }})
{{- end }}
{{- end }}<|im_end|>
{{ end }}
{{- range $i, $m := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "system" }}{{ continue }}{{ end }}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}
{{- if and $.IsThinkSet (eq $i $lastUser) }}{{ if $.Think }} /think{{ else }} /no_think{{ end }}{{ end }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if and .Thinking (or $last (gt $i $lastUser)) }}<think>{{ .Thinking }}</think>
{{ end }}
{{- if .Content }}{{ .Content }}
{{- else if .ToolCalls }}<tool_call>
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}</tool_call>
{{- end }}{{ if not $last }}<|im_end|>
{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}"""

FEW_SHOT = '{{ if and .System (eq .ThinkLevel "high") }}\nQ: {{ printf "%s-%d" "example" 1 }}\nA: an answer\n{{ end }}'
SOURCE = FEW_SHOT * ((5 * 1024 - len(TURNS)) // len(FEW_SHOT)) + TURNS

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "description": "Name"}, "days": {"type": ["integer", "null"]}},
        },
    },
}


def conversation() -> list[Message]:
    messages = [Message("system", "Answer briefly.")]
    while len(messages) < MESSAGES:
        call = ToolCall("get_weather", {"city": "Paris", "days": 3})
        messages += [
            Message("user", "How is the weather in Paris? " * 8),
            Message("assistant", tool_calls=(call,)),
            Message("tool", "21 degrees, sunny", tool_name="get_weather"),
            Message("assistant", "It is sunny. " * 20, thinking="The tool says so."),
        ]
    return messages[:MESSAGES]


def milliseconds(work: Callable[[], Any], rounds: int) -> tuple[float, ...]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return tuple(times)


def measure(effort: Effort) -> list[Figure]:
    rounds = effort.rounds_of(ROUNDS)
    messages = conversation()
    template = Template.parse(SOURCE)
    rendering = milliseconds(lambda: render(template, messages, today=date.min, tools=[TOOL]), rounds)
    parsing = milliseconds(lambda: Template.parse(SOURCE), rounds)
    joining = milliseconds(lambda: "".join(f"<|{m.role}|>{m.content}" for m in messages), rounds)
    what = f"a template of {len(SOURCE)} characters"
    return [
        Figure(f"rendering {what}, {len(messages)} messages", rendering, "ms", goal=LIMIT_MS, better="less"),
        Figure(f"parsing {what}", parsing, "ms", better="less"),
        Figure("joining the messages alone", joining, "ms", better="less"),
    ]


if __name__ == "__main__":
    alone(measure, __doc__)
