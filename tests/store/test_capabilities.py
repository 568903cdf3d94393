"""What a model can do and which way its prompts go (modelfile-templates §3.5, §5)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from llamero.gguf import Gguf, read_header
from llamero.store.capabilities import PARSERS, capabilities, go_identifiers, prompt_path
from tests.gguf_files import gguf_file

TOOL_JINJA = "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{% if m['role'] == 'tool' %}{{ m.tool_calls }}"
PLAIN_JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"
TOOL_GO = '{{ range .Messages }}{{ if eq .Role "tool" }}{{ .Content }}{{ end }}{{ .ToolCalls }}{{ end }}{{ .Tools }}'
PLAIN_GO = "{{ .System }} {{ .Prompt }}"
BARE_GO = "{{ .Prompt }}"


@pytest.mark.parametrize(
    ("template", "is_users", "jinja", "go_template", "path"),
    [
        # OLLAMA_GO_TEMPLATE decides first: 1 takes the layer, 0 never does
        (PLAIN_GO, False, PLAIN_JINJA, True, "go"),
        (BARE_GO, True, PLAIN_JINJA, True, "go"),
        (None, False, PLAIN_JINJA, True, "jinja"),
        (None, False, "", True, "chatml"),
        (PLAIN_GO, True, PLAIN_JINJA, False, "jinja"),
        (PLAIN_GO, True, "", False, "chatml"),
        # the user's own text is never overridden
        (PLAIN_GO, True, PLAIN_JINJA, None, "go"),
        (PLAIN_GO, True, TOOL_JINJA, None, "go"),
        (BARE_GO, True, PLAIN_JINJA, None, "jinja"),
        (f" {BARE_GO}\n", True, PLAIN_JINJA, None, "jinja"),
        (BARE_GO, True, "", None, "go"),
        # otherwise Jinja, unless only the Go template can hand tool results back
        (PLAIN_GO, False, PLAIN_JINJA, None, "jinja"),
        (TOOL_GO, False, PLAIN_JINJA, None, "go"),
        (TOOL_GO, False, TOOL_JINJA, None, "jinja"),
        (TOOL_GO, False, "{{ tools }}<think></think>", None, "go"),
        # no Jinja
        (PLAIN_GO, False, "", None, "go"),
        (None, False, "", None, "chatml"),
    ],
)
def test_prompt_path(template: str | None, is_users: bool, jinja: str, go_template: bool | None, path: str) -> None:
    """Partly T-62, partly T-63: the rendering belongs to others."""
    assert prompt_path(template=template, is_users=is_users, jinja=jinja, go_template=go_template) == path


@pytest.mark.parametrize(
    "result",
    [
        "m['role'] == 'tool'",
        'm["role"] == "tool"',
        'message.role == "tool"',
        "ipython",
        "tool_response",
        "tool_results",
    ],
)
def test_a_jinja_tool_round_trip_is_known_in_every_spelling(result: str) -> None:
    jinja = "{% if tool_call %}{{ tool_calls }}{% if " + result + " %}"
    assert prompt_path(template=TOOL_GO, is_users=False, jinja=jinja, go_template=None) == "jinja"
    half = jinja.replace("tool_calls", "").replace(result, "x")
    assert prompt_path(template=TOOL_GO, is_users=False, jinja=half, go_template=None) == "go"


def header(**keys: Any) -> Gguf:
    return read_header(gguf_file({"general.architecture": "a", **keys}))


def found(**changes: Any) -> tuple[str, ...]:
    plain: dict[str, Any] = {
        "stored": (),
        "jinja": "",
        "template": None,
        "is_users": False,
        "go_template": None,
        "parser": "",
        "family": "a",
        "weights": None,
        "projectors": (),
    }
    return capabilities(**plain | changes)


CLIP = {"general.architecture": "clip"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ()),
        ({"stored": ("image", "tools")}, ("image", "tools")),
        ({"weights": header()}, ("completion",)),
        ({"weights": header(**{"a.pooling_type": 1})}, ("embedding",)),
        (
            {"weights": header(**{"a.vision.block_count": 2, "a.audio.block_count": 3})},
            ("completion", "vision", "audio"),
        ),
        ({"weights": header(**{"a.vision.block_count": 0})}, ("completion",)),
        (
            {"weights": header(**{"tokenizer.ggml.fim_pre_token_id": 1, "tokenizer.ggml.fim_suf_token_id": 2})},
            ("completion", "insert"),
        ),
        ({"weights": header(**{"tokenizer.ggml.fim_pre_token_id": 1})}, ("completion",)),
        ({"jinja": "{{ tools }}"}, ("tools",)),
        ({"jinja": "{{ tool_call }}"}, ("tools",)),
        ({"jinja": "<think></think>"}, ("thinking",)),
        ({"jinja": "<think>"}, ()),
        ({"jinja": "{{ content.split('</think>')[-1] }}"}, ("thinking",)),
        ({"jinja": '{{ content.split("</think>")[-1] }}'}, ("thinking",)),
        ({"jinja": "{{ content.split('</think>')[-1] }}<SPECIAL_12>"}, ()),
        ({"jinja": "{% if enable_thinking %}"}, ("thinking",)),
        ({"jinja": "<|channel|>analysis"}, ("thinking",)),
        ({"jinja": "[THINK]"}, ("thinking",)),
        # the Jinja counts only where it is used
        ({"jinja": "{{ tools }}", "template": PLAIN_GO, "is_users": True}, ()),
        ({"jinja": "{{ tools }}", "template": PLAIN_GO, "is_users": True, "go_template": False}, ("tools",)),
        ({"template": TOOL_GO}, ("tools",)),
        ({"template": "<think>{{ .Thinking }}</think>{{ .Content }}"}, ("thinking",)),
        ({"template": "{{ .Prompt }}<fim>{{ .Suffix }}"}, ("insert",)),
        ({"template": "{{ .Prompt }}{{ .Suffix }}", "jinja": PLAIN_JINJA}, ("insert",)),
        ({"template": "tools and suffix in plain text {{ .Prompt }}"}, ()),
        ({"projectors": (header(**CLIP),)}, ("vision",)),
        ({"projectors": (None,)}, ("vision",)),
        ({"projectors": (header(**CLIP, **{"clip.has_audio_encoder": True}),)}, ("vision", "audio")),
        ({"projectors": (header(**CLIP, has_audio_encoder=True),)}, ("vision", "audio")),
        ({"projectors": (header(**CLIP, **{"clip.has_audio_encoder": False}),)}, ("vision",)),
        (
            {"projectors": (header(**CLIP, **{"clip.has_audio_encoder": True, "clip.projector_type": "gemma3nv"}),)},
            ("vision",),
        ),
        ({"parser": "qwen3-thinking"}, ("tools", "thinking")),
        ({"parser": "olmo3-think"}, ("thinking",)),
        ({"parser": "passthrough"}, ()),
        ({"parser": "who knows"}, ()),
        ({"family": "gptoss"}, ("thinking",)),
        ({"family": "gpt-oss"}, ("thinking",)),
        ({"family": "nemotron_h_omni", "weights": header(**{"a.audio.block_count": 3})}, ("completion",)),
        (
            {"stored": ("vision",), "parser": "qwen3", "jinja": "{{ tools }}", "weights": header()},
            ("vision", "tools", "completion"),
        ),
    ],
)
def test_capabilities(given: dict[str, Any], expected: tuple[str, ...]) -> None:
    """T-71, and the other steps of §5."""
    assert found(**given) == expected


def test_every_parser_of_the_table_adds_something() -> None:
    assert all(found(parser=name) for name in PARSERS)


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{{ .Prompt }}", {"prompt"}),
        ("{{- range $i, $m := $.Messages }}{{ $m.Content.Text }}{{- end -}}", {"messages", "content", "text"}),
        ("{{ if and .Tools (eq .Role `x`) }}.Not{{ end }} .Nor", {"tools", "role"}),
        ("no actions .Here", set()),
        ("{{ . }}{{ .. }}{{ unclosed .A", {"a"}),
    ],
)
def test_identifiers_of_a_go_template(template: str, names: set[str]) -> None:
    assert go_identifiers(template) == names


def test_hostile_templates_take_linear_time() -> None:
    start = time.thread_time()
    for text in ("{{" * 500_000, "{{ " + "." * 1_000_000, "{{ ." + "a" * 1_000_000):
        go_identifiers(text)
    assert time.thread_time() - start < 5
