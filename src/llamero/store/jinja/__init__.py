"""Jinja templates of our own, for families whose files lack a usable one. The engine renders them, never we.

Each is written so that the engine recognises the family and reads the model's answers as well: some marks of a file are
what the engine's handlers look for, and stay as they are. They take the variables of modelfile-templates §8.2; prompts
are those of §8.3. Source: modelfile-templates §3.5 rule 4, §8.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["bundled_jinja", "gemma4_renderer"]

GEMMA4_SIZES = {"e2b": "small", "e4b": "small", "12b": "large", "26b": "large", "31b": "large"}
GEMMA4_LARGE_PARAMETERS = 12_000_000_000
"""From here on a Gemma 4 is large whose name does not tell (modelfile-templates §8.3)."""

_FILES: Mapping[str, tuple[str, str]] = {
    # name of a renderer, a parser or a family -> file, and what is set in front of it
    "qwen3": ("qwen3", ""),
    "qwen3-thinking": ("qwen3-thinking", ""),
    "qwen3-vl-instruct": ("qwen3", ""),
    "qwen3-vl-thinking": ("qwen3-thinking", ""),
    "qwen3-coder": ("qwen3-coder", ""),
    "qwen3.5": ("qwen3.5", ""),
    "ornith": ("qwen3.5", "{%- set keeps_thoughts = true -%}"),
    "qwen3.8": ("qwen3.8", ""),
    "deepseek3.1": ("deepseek3.1", ""),
    "deepseek3": ("deepseek3.1", ""),
    "cogito": ("cogito", ""),
    "harmony": ("harmony", ""),
    "gptoss": ("harmony", ""),
    "gpt-oss": ("harmony", ""),
    "gemma4": ("gemma4", ""),
    "gemma4-no-thinking": ("gemma4", ""),
    "gemma4-small": ("gemma4", ""),
    "gemma4-large": ("gemma4", "{%- set is_large = true -%}"),
    "functiongemma": ("functiongemma", ""),
    "glm-4.7": ("glm-4.7", ""),
    "glm-ocr": ("glm-ocr", ""),
    "nemotron-3-nano": ("nemotron-3-nano", "{%- set has_switches = true -%}"),
    "nemotron-3.5-nano": ("nemotron-3-nano", ""),
    "olmo3": ("olmo3", ""),
    "olmo3.1": ("olmo3", ""),
    "olmo3-think": ("olmo3-think", ""),
    "olmo3-32b-think": ("olmo3-think", ""),
    "lfm2": ("lfm2", ""),
    "lfm2-thinking": ("lfm2", "{%- set thought_tags = ['<think>', '</think>'] -%}"),
    "laguna": ("laguna", ""),
    "poolside-v1": ("laguna", "{%- set is_dense = true -%}"),
    "cohere": ("cohere", ""),
    "ministral": ("ministral", ""),
    "glimmer": ("glimmer", ""),
}


def bundled_jinja(*, renderer: str, parser: str, family: str) -> str:
    """The template of the first of these names that has one; empty when none has."""
    return next((_text(*_FILES[name]) for name in (renderer, parser, family) if name in _FILES), "")


def gemma4_renderer(name: str, parameters: int) -> str:
    """Which of the two a model means that names its renderer just `gemma4`: by its own name, else by its size."""
    by_count = "large" if parameters >= GEMMA4_LARGE_PARAMETERS else "small"
    size = next((size for mark, size in GEMMA4_SIZES.items() if mark in name.lower()), by_count)
    return f"gemma4-{size}"


@cache
def _text(file: str, settings: str) -> str:
    return settings + files(__name__).joinpath(f"{file}.jinja").read_text("utf-8")
