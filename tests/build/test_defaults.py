"""What a model file implies about talking to it (modelfile-templates §1.8, §3.1)."""

from __future__ import annotations

import pytest

from llamero.build.defaults import stops_of


@pytest.mark.parametrize(
    ("jinja", "stops"),
    [
        ("<|start_header_id|>{{ role }}<|end_header_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
        ("<|im_start|>{{ role }}", ("<|im_start|>", "<|im_end|>")),
        ("<start_of_turn>", ("<end_of_turn>",)),
        ("System role not supported<start_of_turn>", ("<start_of_turn>", "<end_of_turn>")),
        ("[INST] <<SYS>>", ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")),
        ("[INST]", ("[INST]", "[/INST]", "</s>")),
        ("<|user|>{{ content }}<|end|>", ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")),
        ("<|user|>{{ content + eos_token }}", ("<|system|>", "</s>", "<|user|>", "<|assistant|>")),
        ("<|user|>{{ content }}", ()),
        ("Source: {{ role }} <step>", ("Source:", "Destination:", "<step>")),
        ("Source: {{ role }}", ()),
        ("{{ content }}", ()),
        ("", ()),
    ],
)
def test_stops_of_known_chat_templates(jinja: str, stops: tuple[str, ...]) -> None:
    """Partly S-77: the Go template itself is not written."""
    assert stops_of(jinja) == stops
