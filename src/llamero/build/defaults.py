"""What a model file implies about talking to it: renderer and parser by architecture, stops by chat template.

Pure tables and their lookup. Source: modelfile-templates §1.8, §2.11, §3.1 (the marker rule).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    renderer: str
    parser: str
    stops: tuple[str, ...] = ()


_NEMOTRON = Dialect("nemotron-3-nano", "nemotron-3-nano")

BY_ARCHITECTURE: Mapping[str, Dialect] = {
    "gemma4": Dialect("gemma4", "gemma4", ("<turn|>",)),
    "laguna": Dialect("laguna", "laguna"),
    "nemotron_h": _NEMOTRON,
    "nemotron_h_moe": _NEMOTRON,
    "nemotron_h_omni": _NEMOTRON,
}
"""Set where neither the request nor the base model says otherwise."""


@dataclass(frozen=True, slots=True)
class _Known:
    name: str
    marks: tuple[str, ...]
    """All of them stand in the Jinja."""
    stops: tuple[str, ...]


_KNOWN = (
    _Known("llama3-instruct", ("<|start_header_id|>",), ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    _Known("chatml", ("<|im_start|>",), ("<|im_start|>", "<|im_end|>")),
    _Known("gemma-instruct", ("<start_of_turn>", "System role not supported"), ("<start_of_turn>", "<end_of_turn>")),
    _Known("gemma3-instruct", ("<start_of_turn>",), ("<end_of_turn>",)),
    _Known("llama2-chat", ("<<SYS>>",), ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")),
    _Known("mistral-instruct", ("[INST]",), ("[INST]", "[/INST]", "</s>")),
    _Known("command-r", ("<|START_OF_TURN_TOKEN|>",), ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>")),
    _Known("openchat", ("GPT4 Correct",), ("<|end_of_turn|>",)),
    _Known("phi-3", ("<|user|>", "<|end|>"), ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")),
    _Known("zephyr", ("<|user|>", "eos_token"), ("<|system|>", "</s>", "<|user|>", "<|assistant|>")),
    _Known("alpaca", ("### Instruction:",), ("###Instruction:", "###Response")),
    _Known("magicoder", ("@@ Instruction",), ("@@Instruction", "@@Response")),
    _Known("alfred", ("<start_user>",), ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>")),
    _Known("codellama-70b-instruct", ("Source:", "<step>"), ("Source:", "Destination:", "<step>")),
)
"""The first whose marks all occur is the one."""


def stops_of(jinja: str) -> tuple[str, ...]:
    """The texts that end an answer under a known chat template; none for an unknown one.

    Only the stops are taken over: the Jinja itself renders the prompts (modelfile-templates §3.5).
    """
    return next((known.stops for known in _KNOWN if all(mark in jinja for mark in known.marks)), ())
