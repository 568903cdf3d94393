"""What a model can do, and which way its prompts are made: decided from its config, templates and headers alone.

Pure: values in, values out. Source: modelfile-templates §3.3, §3.5, §5, §8.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ..errors import TemplateError
from ..gguf import Gguf
from ..template.cache import MAX_KEPT_CHARS, parsed, tags_of

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
_INFILL_TOKENS = (("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle"))
"""What a GGUF calls the tokens before, between and behind the texts around a gap."""
HARMONY_FAMILIES = ("gptoss", "gpt-oss")

_CANNOT: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("safetensors", "gemma4"): ("vision", "audio"),
    ("safetensors", "gemma4-small"): ("vision", "audio"),
    ("safetensors", "gemma4-large"): ("vision", "audio"),
    ("safetensors", "glimmer"): ("audio",),
    ("safetensors", "nemotron-3-nano"): ("vision", "audio"),
}
"""By format and renderer: what its files promise, and no engine does (5.8)."""

MAX_TRAITS = 512
"""Go templates whose traits are remembered: those of a large store, each with a text of some thousand characters."""


# --- the way of a prompt -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """All that a model's prompts could be made with."""

    go: str = ""
    """The TEMPLATE layer; empty when there is none."""
    is_users: bool = False
    """Whether the user gave it, and no publisher or program."""
    jinja: str = ""
    """The chat template inside the weights."""
    bundled: str = ""
    """Ours for the model's renderer or family, if its weights have none."""
    setting: bool | None = None
    """OLLAMA_GO_TEMPLATE: true always takes the TEMPLATE layer, false never does."""

    @property
    def path(self) -> PromptPath:
        """Which way prompts are made (§3.5; numbers as there). A request's own template or suffix is always "go"."""
        if self.go and self.setting is not False:
            if self.setting:  # 1
                return "go"
            if self.is_users and not (self.in_jinja and self.go.strip() == DEFAULT_TEMPLATE):  # 2
                return "go"
            if self.jinja and traits_of(self.go).round_trip and not _jinja_round_trip(self.jinja):  # exception of 3
                return "go"
            if not self.in_jinja:  # 5
                return "go"
        return "jinja" if self.in_jinja else "chatml"  # 3, 4, 6

    @property
    def in_jinja(self) -> str:
        """The chat template that would be given to the engine."""
        return self.jinja or self.bundled

    @property
    def in_force(self) -> str:
        """The one to show. Clients look there for `.Suffix`: that request takes the TEMPLATE layer on every path."""
        if self.path == "jinja" and not (self.go and traits_of(self.go).insert):
            return self.in_jinja
        return self.go or DEFAULT_TEMPLATE


def parser_of(*, named: str, family: str, go: str) -> str:
    """The PARSER of a model: the one its config names, or harmony, which is known by its TEMPLATE (§3.3)."""
    is_harmony = family in HARMONY_FAMILIES and "<|start|>" in go and "<|end|>" in go
    return named or ("harmony" if is_harmony else "")


# --- what it can do ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Traits:
    """What a Go template says about its model."""

    tools: bool = False
    insert: bool = False
    thinking: bool = False
    round_trip: bool = False
    """Whether it shows calls to the model and takes their results back (§3.3)."""


def traits_of(template: str) -> Traits:
    """One that does not parse says nothing: another program stored it, and only rendering fails."""
    return _remembered_traits(template) if len(template) <= MAX_KEPT_CHARS else _read_traits(template)


def _read_traits(text: str) -> Traits:
    try:
        template = parsed(text)
    except TemplateError:
        return Traits()
    mentioned = template.identifiers
    opening, closing, _ = tags_of(template)
    results = ('eq .Role "tool"', "tool_response", "TOOL_RESULTS")
    return Traits(
        tools="tools" in mentioned,
        insert="suffix" in mentioned,
        thinking=bool(opening and closing),
        round_trip={"tools", "toolcalls"} <= mentioned and any(mark in text for mark in results),
    )


_remembered_traits = lru_cache(MAX_TRAITS)(_read_traits)


def capabilities(
    templates: Templates,
    *,
    stored: tuple[str, ...] = (),
    parser: str = "",
    renderer: str = "",
    family: str = "",
    format: str = "gguf",
    weights: Gguf | None = None,
    projectors: tuple[Gguf | None, ...] = (),
) -> tuple[str, ...]:
    """The capabilities in the order of §5, which numbers the steps. An unreadable projector is None."""
    path, known = templates.path, PARSERS.get(parser)
    found = [*stored]  # 5.1
    if path == "jinja" and (templates.jinja or not known):  # ours serves models of different abilities
        found += _of_jinja(templates.in_jinja)  # 5.2
    if weights is not None:
        found += _of_weights(weights)  # 5.3
    if projectors:  # 5.4
        found.append("vision")
        if any(projector is not None and _hears(projector) for projector in projectors):
            found.append("audio")
    traits = traits_of(templates.go)  # 5.5
    if path == "go":
        found += _named(tools=traits.tools, thinking=traits.thinking)
    found += _named(insert=traits.insert)  # a request with a suffix takes the Go template on every path (§3.5, 1)
    if known:  # 5.6
        found += _named(tools=known.tools, thinking=known.thinking)
    if family in HARMONY_FAMILIES:  # 5.7
        found.append("thinking")
    cannot = _CANNOT.get((format, renderer), ()) + (("audio",) if family == "nemotron_h_omni" else ())  # 5.8
    return tuple(name for name in dict.fromkeys(found) if name not in cannot)


def _named(**can: bool) -> list[str]:
    return [name for name, is_so in can.items() if is_so]


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
    if infill_tokens(weights):
        found.append("insert")
    return found


def infill_tokens(weights: Gguf) -> tuple[int, int, int] | None:
    """The tokens that stand before the text, before the text behind the gap, and before what belongs into the gap."""
    for names in _INFILL_TOKENS:
        pre, suf, mid = (weights.get_int(f"tokenizer.ggml.{name}_token_id", -1) for name in names)
        if min(pre, suf, mid) >= 0:
            return pre, suf, mid
    return None


def beginning_token(weights: Gguf) -> int | None:
    """The token that stands before all text. Models that were trained without one begin behind the end of another."""
    for name in ("bos", "eos"):
        token = weights.get_int(f"tokenizer.ggml.{name}_token_id", -1)
        if 0 <= token < weights.vocabulary:
            return token
    return None


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
