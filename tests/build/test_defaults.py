"""What a model file implies about talking to it (modelfile-templates §1.8, §2.11, §3.1)."""

from __future__ import annotations

import pytest

from llamero.build.defaults import detect, knows_tools
from llamero.template.builtin import TEMPLATES


@pytest.mark.parametrize(
    ("jinja", "name", "stops"),
    [
        (
            "<|start_header_id|>{{ role }}<|end_header_id|>",
            "llama3-instruct",
            ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ),
        ("<|im_start|>{{ role }}", "chatml", ("<|im_start|>", "<|im_end|>")),
        ("<start_of_turn>", "gemma3-instruct", ("<end_of_turn>",)),
        ("System role not supported<start_of_turn>", "gemma-instruct", ("<start_of_turn>", "<end_of_turn>")),
        ("[INST] <<SYS>>", "llama2-chat", ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")),
        ("[INST]", "mistral-instruct", ("[INST]", "[/INST]", "</s>")),
        ("<|START_OF_TURN_TOKEN|>", "command-r", ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>")),
        ("GPT4 Correct User", "openchat", ("<|end_of_turn|>",)),
        ("<|user|>{{ content }}<|end|>", "phi-3", ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>")),
        ("<|user|>{{ content + eos_token }}", "zephyr", ("<|system|>", "</s>", "<|user|>", "<|assistant|>")),
        ("### Instruction:", "alpaca", ("### Instruction:", "### Response")),
        ("@@ Instruction", "magicoder", ("@@ Instruction", "@@ Response")),
        ("<start_user>", "alfred", ("<start_system>", "<end_message>", "<start_user>", "<start_assistant>")),
        ("Source: {{ role }} <step>", "codellama-70b-instruct", ("Source:", "Destination:", "<step>")),
        # the first whose marks are there, wherever they stand
        ("[INST] <|im_start|>", "chatml", ("<|im_start|>", "<|im_end|>")),
    ],
)
def test_known_chat_formats(jinja: str, name: str, stops: tuple[str, ...]) -> None:
    known = detect(jinja)
    assert known is not None
    assert (known.name, known.stops, known.template) == (name, stops, TEMPLATES[name])


@pytest.mark.parametrize(
    "jinja", ["", "{{ content }}", "<|user|>{{ content }}", "Source: {{ role }}", "im_start", "### Instruction"]
)
def test_an_unknown_chat_format(jinja: str) -> None:
    assert detect(jinja) is None


def test_a_jinja_with_tools_can_do_more_than_any_built_in_template() -> None:
    assert knows_tools("{% if tools %}<|im_start|>{% endif %}")
    assert not knows_tools("<|im_start|>{{ role }}")
