"""Models that think, call tools and answer as a test wants it, so that the official examples run to their end.

Parrots: what one says depends on how its prompts end, which is with the number of tool results in the conversation if
there are any, or else with the level of thinking.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from tests.parrot import write_parrot
from tests.running import Server
from tests.server.tiny_models import make

Way = Literal["go", "jinja"]
"""Who renders the prompts and reads the answers: Llamero, or the engine."""

WAYS: tuple[Way, ...] = ("go", "jinja")

GO = """\
{{- $results := "" }}
{{- if .Tools }}Tools: {{ .Tools }}
{{ end }}
{{- range .Messages }}
{{- if eq .Role "tool" }}{{ $results = printf "%s|" $results }}{{ end }}<|{{ .Role }}|>
{{- if .Thinking }}
<think>{{ .Thinking }}</think>
{{ end }}
{{- .Content }}
{{- if .ToolCalls }}<tool_call>
{{- range .ToolCalls }}
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{- end }}
</tool_call>
{{- end }}
{{- if .ToolName }} ({{ .ToolName }}){{ end }}
{{ end }}<|assistant|>
{{- if $results }}{{ len $results }}{{ else }}{{ .ThinkLevel }}{{ end }}"""

JINJA = """\
{%- if tools %}Tools: {{ tools | tojson }}
{% endif %}
{%- for message in messages %}<|{{ message.role }}|>
{%- if message.reasoning_content %}
<think>
{{ message.reasoning_content }}
</think>
{% endif %}
{{- message.content }}
{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{%- if message.name %} ({{ message.name }}){% endif %}
{% endfor %}
{%- set results = messages | selectattr('role', 'equalto', 'tool') | list | length %}
{%- if add_generation_prompt %}<|assistant|>{{ results or reasoning_effort or '' }}{% endif %}"""


def call(name: str, /, **arguments: Any) -> str:
    """A call, as both templates have it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def thought(text: str, answer: str) -> str:
    return f"<think>\n{text}\n</think>\n\n{answer}"


def make_speaker(server: Server, folder: Path, way: Way, name: str, first: str, **after: str) -> str:
    """A model that says what comes `first`, or something else `after` so many tool results (`after_2`) or at a level
    of thinking (`at_high`); gives its name back.
    """
    name = f"{name}-{way}"
    behind = {condition[-1]: text for condition, text in after.items()}
    path = write_parrot(folder / f"{name}.gguf", first, behind=behind, jinja=JINJA if way == "jinja" else "")
    return make(server, name, [path], **({"template": GO} if way == "go" else {}))
