"""Jinja templates in the shapes that published models have, small ones of our own: the engine recognises each form."""

from __future__ import annotations

HERMES = """\
{%- if tools %}<|im_start|>system
Call tools so: <tool_call>{"name": ..., "arguments": ...}</tool_call>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ 'user' if message.role == 'tool' else message.role }}
{% if message.role == 'tool' -%}
<tool_response of="{{ message.name }}" to="{{ message.tool_call_id }}">{{ message.content }}</tool_response>
{%- else -%}
{%- if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}
{{- message.content }}
{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{%- endif %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant{{ ending }}{% endif %}"""
"""Calls are JSON in tags, and the model begins its thinking by itself."""

THINKING = HERMES.replace(
    "{{ ending }}", "{% if enable_thinking is defined and not enable_thinking %}\n<think>\n\n</think>\n\n{% endif %}"
)
"""The same, and thinking can be switched off: then the prompt ends with a line's end, else with `t`."""

OPENED = HERMES.replace("{{ ending }}", "\n<think>\n")
"""The prompt begins the thinking, whatever it is told."""

LLAMA = """\
{%- for message in messages %}<|header|>{{ message.role }}

{% if message.tool_calls %}{"name": "{{ message.tool_calls[0].function.name }}", {{ '' -}}
"parameters": {{ message.tool_calls[0].function.arguments | tojson }}}
{%- else %}
{%- if loop.first and tools %}Answer with {"name": function, "parameters": object}. Functions:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
{% endif %}{{ message.content }}
{%- endif %}<|eot|>
{%- endfor %}
{%- if add_generation_prompt %}<|header|>assistant

{% endif %}"""
"""Calls are JSON and nothing else."""

FORMLESS = """\
{%- for tool in tools %}You have: {{ tool | tojson }}
{% endfor %}
{%- for message in messages %}{{ message.role }}: {{ message.content }}
{% endfor %}
{%- if add_generation_prompt %}assistant: {% endif %}"""
"""It names its tools and shows no calls."""

HARMONY = """\
{%- if tools %}<|start|>developer<|message|>namespace functions { {{ tools | tojson }} }<|end|>{% endif %}
{%- for message in messages %}<|start|>{{ message.role }}
{%- if message.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ message.content }}<|end|>
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""
"""Every part of an answer names its channel."""

XML = OPENED.replace(
    '{"name": ..., "arguments": ...}', "<function=name><parameter=name>value</parameter></function>"
).replace(
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n',
    """<function={{ call.function.name }}>
{%- for name, value in call.function.arguments | items %}
<parameter={{ name }}>
{{ value }}
</parameter>
{%- endfor %}
</function>
""",
)
"""Calls are XML in tags, behind thinking that the prompt begins."""

NINE = """\
{%- if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
{%- for message in messages %}
{%- for call in message.tool_calls or [message] if (call.id or message.tool_call_id or '123456789') | length != 9 %}
{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}
{%- endfor %}
{%- if message.role == 'user' %}[INST]{{ message.content }}[/INST]
{%- elif message.role == 'tool' %}[TOOL_RESULTS]{"content": {{ message.content | tojson }}, {{ '' -}}
"call_id": "{{ message.tool_call_id }}"}[/TOOL_RESULTS]
{%- elif message.tool_calls %}[TOOL_CALLS][
{%- for call in message.tool_calls %}{"name": "{{ call.function.name }}", {{ '' -}}
"arguments": {{ call.function.arguments | tojson }}, "id": "{{ call.id }}"}{% endfor %}]</s>
{%- else %}{{ message.content }}</s>
{%- endif %}
{%- endfor %}"""
"""A list of calls behind its tag, and ids of nine characters, as Mistral's."""

ASKED = (
    """\
{%- if messages | selectattr('role', 'equalto', 'user') | list | length == 0 %}{{ raise_exception('No question') }}
{%- endif %}
"""
    + HERMES
)
"""It refuses a conversation without words of the user, as Qwen's newer ones."""

ALTERNATING = """\
{%- set told = messages | rejectattr('role', 'equalto', 'system') | list %}
{%- for message in told %}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif -%}
<{{ message.role }}>{{ message.content }}</{{ message.role }}>
{%- endfor %}<assistant>"""
"""Turn by turn, and the first one is the user's, as Gemma's and Mistral's."""

STRICT = """\
{%- for message in messages %}
{%- if message.role == 'system' and not loop.first %}{{ raise_exception('System goes first') }}{% endif %}
{%- if message.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('Unknown role') }}{% endif -%}
<{{ message.role }}>{{ message.content }}</{{ message.role }}>
{%- endfor %}<assistant>"""
"""It refuses what it was not made for."""
