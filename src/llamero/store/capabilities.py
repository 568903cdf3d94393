"""What a model can do, and which way its prompts are made: decided from its config, templates and headers alone.

Pure: values in, values out. Source: modelfile-templates §3.3, §3.5, §5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..gguf import Gguf

PromptPath = Literal["jinja", "go", "chatml"]

DEFAULT_TEMPLATE = "{{ .Prompt }}"
"""The Go template of a model that has none."""


@dataclass(frozen=True, slots=True)
class Parser:
    tools: bool
    thinking: bool


PARSERS: Mapping[str, Parser] = {
    "qwen3": Parser(tools=True, thinking=False),
    "qwen3-thinking": Parser(tools=True, thinking=True),
    "qwen3-coder": Parser(tools=True, thinking=False),
    "qwen3-vl-instruct": Parser(tools=True, thinking=False),
    "qwen3-vl-thinking": Parser(tools=True, thinking=True),
    "qwen3.5": Parser(tools=True, thinking=True),
    "ornith": Parser(tools=True, thinking=True),
    "deepseek3": Parser(tools=True, thinking=True),
    "cogito": Parser(tools=True, thinking=True),
    "harmony": Parser(tools=True, thinking=True),
    "gemma4": Parser(tools=True, thinking=True),
    "gemma4-no-thinking": Parser(tools=True, thinking=False),
    "functiongemma": Parser(tools=True, thinking=False),
    "glm-4.7": Parser(tools=True, thinking=True),
    "glm-ocr": Parser(tools=True, thinking=False),
    "nemotron-3-nano": Parser(tools=True, thinking=True),
    "nemotron-3.5-nano": Parser(tools=True, thinking=True),
    "olmo3": Parser(tools=True, thinking=False),
    "olmo3-think": Parser(tools=False, thinking=True),
    "lfm2": Parser(tools=True, thinking=False),
    "lfm2-thinking": Parser(tools=True, thinking=True),
    "ministral": Parser(tools=True, thinking=False),
    "laguna": Parser(tools=True, thinking=True),
    "poolside-v1": Parser(tools=True, thinking=True),
    "cohere": Parser(tools=True, thinking=True),
    "glimmer": Parser(tools=True, thinking=True),
}
"""The parsers that a config may name (§8.1)."""

_THINKING_MARKS = (
    "enable_thinking",
    "reasoning_effort",
    "reasoning_content",
    "<|channel|>",
    "<|channel>",
    "[THINK]",
    "<|START_THINKING|>",
)
_INFILL_KEYS = (
    ("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.fim_suf_token_id"),
    ("tokenizer.ggml.prefix_token_id", "tokenizer.ggml.suffix_token_id"),
)


def prompt_path(*, template: str | None, is_users: bool, jinja: str, go_template: bool | None) -> PromptPath:
    """Which way a model's prompts are made (§3.5; numbers as there). A request's own template or suffix is always "go".

    `go_template` is OLLAMA_GO_TEMPLATE: true always takes the TEMPLATE layer, false never does.
    """
    if template is not None and go_template is not False:
        if go_template:  # 1
            return "go"
        if is_users and not (jinja and template.strip() == DEFAULT_TEMPLATE):  # 2
            return "go"
        if not jinja or (_go_round_trip(template) and not _jinja_round_trip(jinja)):  # 5, exception of 3
            return "go"
    return "jinja" if jinja else "chatml"  # 3, 6


def capabilities(
    *,
    stored: tuple[str, ...],
    jinja: str,
    template: str | None,
    is_users: bool,
    go_template: bool | None,
    parser: str,
    family: str,
    weights: Gguf | None,
    projectors: tuple[Gguf | None, ...],
) -> tuple[str, ...]:
    """The capabilities in the order of §5, which numbers the steps. An unreadable projector is None."""
    path = prompt_path(template=template, is_users=is_users, jinja=jinja, go_template=go_template)
    found = [*stored]  # 5.1
    if path == "jinja":
        found += _of_jinja(jinja)  # 5.2
    if weights is not None:
        found += _of_weights(weights)  # 5.3
    if projectors:  # 5.4
        found.append("vision")
        if any(projector is not None and _hears(projector) for projector in projectors):
            found.append("audio")
    identifiers = go_identifiers(template or DEFAULT_TEMPLATE)  # 5.5
    if path == "go":
        found += [name for name, word in (("tools", "tools"), ("thinking", "thinking")) if word in identifiers]
    if "suffix" in identifiers:  # a request with a suffix takes the Go template whatever the path (§3.5, 1)
        found.append("insert")
    if known := PARSERS.get(parser):  # 5.6
        found += [name for name, can in (("tools", known.tools), ("thinking", known.thinking)) if can]
    if family in ("gptoss", "gpt-oss"):  # 5.7
        found.append("thinking")
    if family == "nemotron_h_omni":  # 5.8
        found = [name for name in found if name != "audio"]
    return tuple(dict.fromkeys(found))


def go_identifiers(template: str) -> frozenset[str]:
    """Lower-cased names in the field chains of a Go template's actions.

    A search for words after a dot, good enough to tell whether `.Tools` or `.Suffix` occurs. The identifier scan of the
    template parser (§2.7) replaces it, and its tag inference (§7.2) what is made of `.Thinking`.
    """
    actions = (piece.partition("}}")[0] for piece in template.split("{{")[1:])
    return frozenset(name.lower() for action in actions for name in _words_after_dots(action))


def _words_after_dots(action: str) -> list[str]:
    names = []
    for piece in action.split(".")[1:]:
        length = next((at for at, char in enumerate(piece) if not (char.isalnum() or char == "_")), len(piece))
        if length:
            names.append(piece[:length])
    return names


def _of_jinja(jinja: str) -> list[str]:
    found = []
    if "tools" in jinja or "tool_call" in jinja:
        found.append("tools")
    tagged = "<think>" in jinja and "</think>" in jinja
    split_off = ("content.split('</think>')" in jinja or 'content.split("</think>")' in jinja) and (
        "<SPECIAL_12>" not in jinja
    )
    if tagged or split_off or any(mark in jinja for mark in _THINKING_MARKS):
        found.append("thinking")
    return found


def _of_weights(weights: Gguf) -> list[str]:
    found = ["embedding" if weights.has("pooling_type") else "completion"]
    if weights.get_int("vision.block_count", 0):
        found.append("vision")
    if weights.get_int("audio.block_count", 0):
        found.append("audio")
    if any(all(weights.has(key) for key in keys) for keys in _INFILL_KEYS):
        found.append("insert")
    return found


def _hears(projector: Gguf) -> bool:
    if projector.get_str("projector_type", "") == "gemma3nv":
        return False
    return any(value is True for key, value in projector.metadata.items() if key.endswith("has_audio_encoder"))


def _jinja_round_trip(jinja: str) -> bool:
    """Whether a Jinja template shows calls to the model and takes their results back (§3.3)."""
    plain = jinja.replace('"', "'")
    results = ("tool_response", "tool_results", "ipython", "role'] == 'tool'", "message.role == 'tool'")
    return (
        ("tools" in plain or "tool_call" in plain)
        and ("tool_calls" in plain or "assistant_tool_call" in plain)
        and any(mark in plain for mark in results)
    )


def _go_round_trip(template: str) -> bool:
    results = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
    return {"tools", "toolcalls"} <= go_identifiers(template) and any(mark in template for mark in results)
