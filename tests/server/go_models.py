"""Go templates in the shapes that published models have, and models that speak through them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.parrot import write_parrot
from tests.running import Reply, Server
from tests.server.tiny_models import make

TAGGED = """\
{{- if .Suffix }}{{ .Prompt }}<hole>{{ .Suffix }}
{{- else }}
{{- if or .System .Tools }}<|im_start|>system
{{ .System }}
{{- range .Tools }}
{{ .Function }}
{{- end }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if .Thinking }}<think>
{{ .Thinking }}
</think>
{{ end }}{{ .Content }}
{{- if .ToolCalls }}<tool_call>
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}</tool_call>
{{- end }}{{ if ne (len (slice $.Messages $i)) 1 }}<|im_end|>
{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<result of={{ .ToolName }} id={{ .ToolCallID }}>{{ .Content }}</result><|im_end|>
{{ end }}
{{- end }}<|im_start|>assistant
{{ end }}"""
"""Everything at once: ChatML with thinking, calls in tags, and a hole to fill."""

OPENED = """\
{{ range .Messages }}
{{- if eq .Role "assistant" }}<a>{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{- else }}<u>{{ .Content }}{{ end }}
{{- end }}<a>
{{- if and .IsThinkSet .Think }}<think>
{{ else }}#{{ end }}"""
"""The prompt begins the thinking, or ends with `#`."""

BARE = """\
{{ range .Messages }}<|{{ .Role }}|>
{{ if .ToolCalls }}
{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "parameters": {{ .Function.Arguments }}}{{ end }}
{{- else }}{{ .Content }}{{ end }}<|end|>
{{ end }}
{{- range .Tools }}{{ . }}
{{ end }}<|assistant|>
"""
"""Calls are JSON and nothing else, as Llama 3 writes them."""

LISTED = """\
{{ range $i, $_ := .Messages }}
{{- if eq .Role "user" }}
{{- if and $.Tools (eq (len (slice $.Messages $i)) 1) }}[AVAILABLE_TOOLS] {{ $.Tools }}[/AVAILABLE_TOOLS]{{ end -}}
[INST] {{ .Content }}[/INST]
{{- else if eq .Role "assistant" }}
{{- if .Content }} {{ .Content }}</s>
{{- else if .ToolCalls }}[TOOL_CALLS] [
{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}]</s>
{{- end }}
{{- else if eq .Role "tool" }}[TOOL_RESULTS] {"content": {{ .Content }}}[/TOOL_RESULTS]
{{- end }}
{{- end }}"""
"""A list of calls behind a special token, as Mistral's."""

FENCED = """\
{{ if .Tools }}<|SYSTEM|>{{ .System }}
{{ range .Tools }}{{ .Function.Name }}: {{ .Function.Description }}
{{ end }}{{ end }}
{{- range .Messages }}
{{- if eq .Role "user" }}<|USER|>{{ .Content }}
{{- else if eq .Role "assistant" }}<|BOT|>
{{- if .ToolCalls }}Action: ```json
[
{{- range .ToolCalls }}
    {
        "tool_name": "{{ .Function.Name }}",
        "parameters": {{ .Function.Arguments }}
    }
{{- end }}
]```
{{- else }}{{ .Content }}{{ end }}
{{- else if eq .Role "tool" }}<|SYSTEM|><results>{{ .Content }}</results>
{{- end }}
{{- end }}<|BOT|>"""
"""Calls in a fence, with keys of their own, as Command R's."""

CHAINED = """\
{{ if .Tools }}{{ .System }}{{ range .Tools }}{{ . }}{{ end }}{{ end }}
{{- range .Messages }}
{{- if eq .Role "user" }}<|User|>{{ .Content }}
{{- else if eq .Role "assistant" }}<|Assistant|>{{ .Content }}
{{- if .ToolCalls }}<|tools|>
{{- range .ToolCalls }}<|tool|>function<|sep|>{{ .Function.Name }}
```json
{{ .Function.Arguments }}
```<|end_tool|>
{{- end }}<|end_tools|>
{{- end }}
{{- end }}
{{- end }}<|Assistant|>"""
"""Several special tokens in a row, and the name before its fence, as DeepSeek's."""

WORDED = """\
{{ range .Messages }}<|{{ .Role }}|>
{{- if .ToolCalls }}functools[
{{- range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}{{ end }}]
{{- else }}{{ .Content }}{{ end }}<|end|>{{ end }}
{{- if .Tools }}<|tool|>{{ .Tools }}<|/tool|>{{ end }}<|assistant|>"""
"""A plain word before the list, as Phi's."""

HARMONY = """\
<|start|>system<|message|>Reasoning: {{ .ThinkLevel }}<|end|>
{{- if .Tools }}<|start|>developer<|message|>namespace functions {
{{- range .Tools }}
type {{ .Function.Name }} = (_: {
{{- range $name, $property := .Function.Parameters.Properties }}
  {{ $name }}: {{ toTypeScriptType $property }},
{{- end }}
}) => any;
{{- end }}
}<|end|>
{{- end }}
{{- range .Messages }}
{{- if eq .Role "user" }}<|start|>user<|message|>{{ .Content }}<|end|>
{{- else if eq .Role "assistant" }}
{{- if .Thinking }}<|start|>assistant<|channel|>analysis<|message|>{{ .Thinking }}<|end|>{{ end }}
{{- range .ToolCalls }}<|start|>assistant<|channel|>commentary to=functions.{{ .Function.Name }} {{ "" -}}
<|constrain|>json<|message|>{{ .Function.Arguments }}<|call|>{{ end }}
{{- if .Content }}<|start|>assistant<|channel|>final<|message|>{{ .Content }}<|end|>{{ end }}
{{- else if eq .Role "tool" }}<|start|>functions.{{ .ToolName }} to=assistant<|channel|>commentary{{ "" -}}
<|message|>{{ .Content }}<|end|>
{{- end }}
{{- end }}<|start|>assistant"""

FIRST_TURN = """\
{{ range $i, $_ := .Messages }}
{{- if eq .Role "user" }}<start_of_turn>user
{{ if and (eq $i 1) $.System }}{{ $.System }}

{{ end }}{{ .Content }}<end_of_turn>
{{ else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}<end_of_turn>
{{ end }}
{{- end }}<start_of_turn>model
"""
"""No turn for the system's words, as Gemma's."""


def function(name: str, *, required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    """A tool."""
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}}


class Models:
    """Makes models on one server. Each is let go when the next one is made."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._numbers = itertools.count()

    def saying(
        self,
        script: str | Sequence[str],
        template: str = TAGGED,
        *,
        create: dict[str, Any] | None = None,
        **parrot: Any,
    ) -> str:
        """The name of a model that says this and nothing else."""
        self.server.unload_all()
        name = f"parrot-{next(self._numbers)}"
        path = write_parrot(self._folder / f"{name}.gguf", script, **parrot)
        return make(self.server, name, [path], template=template, **(create or {}))

    def smollm(self, template: str, **more: Any) -> str:
        """The name of a SmolLM2 with this template."""
        return make(self.server, f"smol-{next(self._numbers)}", from_="smollm2:135m", template=template, **more)


Call = tuple[str, dict[str, Any]]


class Answer:
    """A whole reply of `/api/chat` or `/api/generate`, streamed or not."""

    def __init__(self, reply: Reply) -> None:
        assert reply.status == 200, reply.body
        *self.lines, self.last = reply.lines()
        self.messages = [line.get("message", line) for line in (*self.lines, self.last)]
        self.thinking = "".join(message.get("thinking", "") for message in self.messages)
        self.content = "".join(message.get("content", message.get("response", "")) for message in self.messages)
        self.raw_calls = [call for message in self.messages for call in message.get("tool_calls", ())]
        self.calls: list[Call] = [(call["function"]["name"], call["function"]["arguments"]) for call in self.raw_calls]
        self.logprobs = [entry for line in (*self.lines, self.last) for entry in line.get("logprobs", ())]

    @property
    def parts(self) -> tuple[str, str, list[Call]]:
        return self.thinking, self.content, self.calls
