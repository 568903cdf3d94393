"""How long our Go template interpreter takes: a template of 5 KiB, 200 messages, tools; beside it the mere joining.

python -m bench.template [rounds]

No engine is started: this is the time that a request spends in the server before the engine hears of it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

from llamero.messages import Message, ToolCall
from llamero.template.render import Template, render

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


def milliseconds(work: Callable[[], Any], rounds: int) -> float:
    """The median of so many runs."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    messages = conversation()
    template = Template.parse(SOURCE)
    text = render(template, messages, today=date.min, tools=[TOOL])
    rendering = milliseconds(lambda: render(template, messages, today=date.min, tools=[TOOL]), rounds)
    parsing = milliseconds(lambda: Template.parse(SOURCE), rounds)
    joining = milliseconds(lambda: "".join(f"<|{m.role}|>{m.content}" for m in messages), rounds)
    print(f"template of {len(SOURCE)} characters, {len(messages)} messages, {len(text)} characters of prompt")
    print(f"parse {parsing:.2f} ms; render {rendering:.2f} ms (limit {LIMIT_MS:.0f}); joining alone {joining:.3f} ms")


if __name__ == "__main__":
    main()
