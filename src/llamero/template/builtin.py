"""The Go templates that a model is given when its chat format is recognised, by name.

Which of them fits a file, and its stops, is said by `build.defaults`; here are only the texts, in our own words: what
they make of a conversation is what is specified. Source: modelfile-templates §2.11, §3.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def _tagged(before_role: str, after_role: str, after_content: str, tail: str) -> str:
    """Every message alike, with its role in a tag."""
    return (
        f"{{{{ range .Messages }}}}{before_role}{{{{ .Role }}}}{after_role}{{{{ .Content }}}}{after_content}"
        f"{{{{ end }}}}{tail}"
    )


def _labelled(system: str, user: str, assistant: str, tail: str) -> str:
    """Each role with a text of its own, in which `{}` is the content."""
    system, user, assistant = (text.replace("{}", "{{ .Content }}") for text in (system, user, assistant))
    return (
        '{{ range .Messages }}{{ if eq .Role "system" }}' + system + '{{ else if eq .Role "user" }}' + user
        + '{{ else if eq .Role "assistant" }}' + assistant + "{{ end }}{{ end }}" + tail
    )  # fmt: skip


def _deferred(before: str, system: str, user: str, assistant: str, tail: str) -> str:
    """The system text waits for the next user turn, is written into it as `system`, and forgotten; `{}` is the text."""
    return (
        '{{ $system := "" }}{{ range .Messages }}{{ if eq .Role "system" }}{{ $system = .Content }}'
        '{{ else if eq .Role "user" }}' + before + "{{ if $system }}" + system.replace("{}", "{{ $system }}")
        + '{{ $system = "" }}{{ end }}' + user.replace("{}", "{{ .Content }}")
        + '{{ else if eq .Role "assistant" }}' + assistant.replace("{}", "{{ .Content }}") + "{{ end }}{{ end }}" + tail
    )  # fmt: skip


_GEMMA_3 = """\
{{ range $i, $message := .Messages }}{{ if eq .Role "user" }}<start_of_turn>user
{{ if and (eq $i 1) $.System }}{{ $.System }}

{{ end }}{{ .Content }}<end_of_turn>
{{ else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}<end_of_turn>
{{ end }}{{ end }}<start_of_turn>model

"""

_COMMAND_R = """\
{{- if or .System .Tools }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>
{{- .System }}
{{- if .Tools }}
{{- if .System }}

{{ end }}## Available Tools
{{- range .Tools }}

```python
def {{ .Function.Name }}(
{{- range $name, $property := .Function.Parameters.Properties }}{{ $name }}: {{ $property.Type }}, {{ end -}}
) -> List[Dict]:
    '''{{ .Function.Description }}
{{- range $name, $property := .Function.Parameters.Properties }}
        {{ $name }} ({{ $property.Type }}): {{ $property.Description }}
{{- end }}
    '''
    pass
```
{{- end }}

To use tools, write 'Action:' and a JSON list of objects with "tool_name" and "parameters".
{{- end }}<|END_OF_TURN_TOKEN|>
{{- end }}
{{- range .Messages }}
{{- if eq .Role "system" }}{{ continue }}{{ end }}<|START_OF_TURN_TOKEN|>
{{- if eq .Role "user" }}<|USER_TOKEN|>{{ .Content }}
{{- else if eq .Role "tool" }}<|SYSTEM_TOKEN|><results>
console_output: {{ .Content }}
</results>
{{- else }}<|CHATBOT_TOKEN|>{{ .Content }}
{{- if .ToolCalls }}
Action: ```json
[
{{- range $i, $call := .ToolCalls }}{{ if $i }},{{ end }}
    {
        "tool_name": {{ json .Function.Name }},
        "parameters": {{ .Function.Arguments }}
    }
{{- end }}
]```
{{- end }}
{{- end }}<|END_OF_TURN_TOKEN|>
{{- end }}<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>
"""

TEMPLATES: Mapping[str, str] = {
    "alfred": _tagged("<start_", ">", "<end_message>", "<start_assistant>"),
    "alpaca": _deferred("", "{}\n\n", "### Instruction:\n{}\n\n", "### Response:\n{}\n\n", "### Response:\n"),
    "chatml": _tagged("<|im_start|>", "\n", "<|im_end|>\n", "<|im_start|>assistant\n"),
    "chatqa": _labelled("System: {}\n\n", "User: {}\n\n", "Assistant: {}\n\n", "Assistant:"),
    "codellama-70b-instruct": _tagged(
        "Source: ", "\n\n ", " <step> ", "Source: assistant\nDestination: user\n\n "
    ),
    "command-r": _COMMAND_R,
    "falcon-instruct": _labelled("System: {}\n", "User:\n{}\n", "Falcon:\n{}\n", "Falcon:\n"),
    "gemma-instruct": _deferred(
        "<start_of_turn>user\n",
        "{}\n",
        "{}<end_of_turn>\n",
        "<start_of_turn>model\n{}<end_of_turn>\n",
        "<start_of_turn>model\n",
    ),
    "gemma3-instruct": _GEMMA_3,
    "granite-instruct": _labelled("System:\n{}\n\n", "Question:\n{}\n\n", "Answer:\n{}\n\n", "Answer:\n"),
    "llama2-chat": "[INST] " + _deferred(
        "<<SYS>>", "\n{}\n", "<</SYS>>\n\n{} [/INST]", " {}</s><s>[INST] ", ""
    ),
    "llama3-instruct": _tagged(
        "<|start_header_id|>",
        "<|end_header_id|>\n\n",
        "<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "magicoder": _deferred("", "{}\n\n", "@@ Instruction\n{}\n\n", "@@ Response\n{}\n\n", "@@ Response\n"),
    "mistral-instruct": "[INST] " + _labelled("{}\n\n", "{}[/INST]", " {}</s>[INST] ", ""),
    "openchat": _labelled(
        "GPT4 Correct System: {}<|end_of_turn|>",
        "GPT4 Correct User: {}<|end_of_turn|>",
        "GPT4 Correct Assistant: {}<|end_of_turn|>",
        "GPT4 Correct Assistant:",
    ),
    "phi-3": _tagged("<|", "|>\n", "<|end|>\n", "<|assistant|>\n"),
    "solar-instruct": _labelled(
        "### System:\n{}\n\n", "### User:\n{}\n\n", "### Assistant:\n{}</s>\n\n", "### Assistant:\n"
    ),
    "starcoder2-instruct": _deferred(
        "", "{}\n\n", "### Instruction\n{}\n\n", "### Response\n{}<|endoftext|>\n\n", "### Response\n"
    ),
    "vicuna": _deferred("", "{}\n\n", "USER: {}\n", "ASSISTANT: {}</s>\n", "ASSISTANT:"),
    "zephyr": _tagged("<|", "|>\n", "</s>\n", "<|assistant|>\n"),
}  # fmt: skip


_REFERENCE_DIGESTS = frozenset({
    "144e31793e9ebbc833530d2e992d1fc4dcb5a221e137cc8038c4f863f89f494e",
    "1c4b2e51cf108dc8cdc6b1dc3bd11e4f3b575e7a1a961117bdb1229790a06fb2",
    "25183b8f5dc6dfacfd7e6783b7b1cd12d8d42ce8a1f965051e61ffd1924294e5",
    "2a9a67ad51b48060f9816867a0605cd1aa80b3a55c228d7596e180f762ea316d",
    "34ed3812a77d23f667b4dc1f63c7564df4ac4d02ff88cfba658debb8ca2b8059",
    "35360843d0c84fb1506952a131bbef13cd2bb4a541251f22535170c05b56e672",
    "3d8766305b70e46ec57a4e70c46402fe677b2bbe0ba23af6caf8a6b534a92e42",
    "3f74e056f96c687f67c49ed8309407e0612611e94b910464d8a3d9b60b46d7a6",
    "4ea0df93422f8340a23cbb30feb814196a03aed2e1d97382b6529fad7c541f79",
    "60851c266b6fdc5bc66b7993ba5e257e191569b02509514d6071ee10818472b9",
    "61dc7b1a77154f4015bbf548fb63b33550162cfd5d6cbf59b7e7843ece99a49e",
    "680a6206c5762f5a0915d25b2e5d85f8a1aecbc07a03a504bcbe21b5796b34ca",
    "6811aaaa5e1885891240a89af4dbe54a8fcd5259e169e88161ab596a478d3a86",
    "a212eb1556b15dc9c63813c9b91dc4a569b8a5fb248fad55b5489b07b48f1a43",
    "afb92aa3328db00d21faf8504790d8413c904b349b86fae332954bbe9c5899ca",
    "c502cd9313888317b670db1c6d5698783656a22ea75101651baa2c94d42397fb",
    "cedc23829af01ffb7ac6cc9e79b07ac5f306bf37e11bddb93ec072dd4f8fc756",
    "d6bde791ae5d61abed6d7f3535a7d081589574c6389e36cdcc70eaf098bd83de",
    "e3b2721cec511e3a627ae0993753abbf5c72cdf4cfcdbc8f5c33ce15c4c4e04b",
    "e4ef0210ea1e3e5794d5cc22e95b85f97cfa0be15c3d18ad4b20e6915dcc2266",
})  # fmt: skip
"""SHA-256 of the texts that a stock Ollama writes in the same case."""


def is_builtin(text: str) -> bool:
    """Whether a TEMPLATE was chosen by a program, ours or a stock Ollama, and so is not of the user's making (§3.5)."""
    return text in TEMPLATES.values() or hashlib.sha256(text.encode()).hexdigest() in _REFERENCE_DIGESTS
