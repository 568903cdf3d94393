"""What a model file implies about talking to it: renderer and parser by architecture, template and stops by Jinja.

Pure tables and their lookup. Source: modelfile-templates §1.8, §2.11, §3.1 (the marker rule).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..template.builtin import TEMPLATES


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
class Format:
    """A chat format that is known by name."""

    name: str
    marks: tuple[str, ...]
    """All of them stand in its Jinja."""
    stops: tuple[str, ...]
    """Texts that end an answer."""

    @property
    def template(self) -> str:
        """The same in Go's language."""
        return TEMPLATES[self.name]


_FORMATS = (
    Format("llama3-instruct", ("<|start_header_id|>",), ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    Format("chatml", ("<|im_start|>",), ("<|im_start|>", "<|im_end|>")),
    Format("gemma-instruct", ("<start_of_turn>", "System role not supported"), ("<start_of_turn>", "<end_of_turn>")),
    Format("gemma3-instruct", ("<start_of_turn>",), ("<end_of_turn>",)),
    Format("llama2-chat", ("<<SYS>>",), ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")),
    Format("mistral-instruct", ("[INST]",), ("[INST]", "[/INST]", "</s>")),
    Format("command-r", ("<|START_OF_TURN_TOKEN|>",), ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>")),
    Format("openchat", ("GPT4 Correct",), ("<|end_of_turn|>",)),
    Format("phi-3", ("<|user|>", "<|end|>"), ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")),
    Format("zephyr", ("<|user|>", "eos_token"), ("<|system|>", "</s>", "<|user|>", "<|assistant|>")),
    Format("alpaca", ("### Instruction:",), ("### Instruction:", "### Response")),
    Format("magicoder", ("@@ Instruction",), ("@@ Instruction", "@@ Response")),
    Format("alfred", ("<start_user>",), ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>")),
    Format("codellama-70b-instruct", ("Source:", "<step>"), ("Source:", "Destination:", "<step>")),
)
"""The first whose marks all occur is the one."""


def detect(jinja: str) -> Format | None:
    """The format of a file's chat template; None for an unknown one."""
    return next((known for known in _FORMATS if all(mark in jinja for mark in known.marks)), None)


def knows_tools(jinja: str) -> bool:
    """Whether a chat template can do more than the Go template of its format, which must not be put beside it."""
    return "tools" in jinja
