"""The built-in templates (modelfile-templates §2.11): what each makes of three conversations."""

from __future__ import annotations

import pytest

from llamero.messages import Message
from llamero.template.builtin import TEMPLATES, is_builtin
from llamero.template.render import Template
from tests.template.conversations import CONV, rendered

LATE = (*CONV[1:3], Message("system", "S2"), CONV[3])

TABLE = {
    "alfred": (
        "<start_system>Be kind<end_message><start_user>hi<end_message><start_assistant>yo<end_message>"
        "<start_user>bye<end_message><start_assistant>"
    ),
    "alpaca": "Be kind\n\n### Instruction:\nhi\n\n### Response:\nyo\n\n### Instruction:\nbye\n\n### Response:\n",
    "chatml": (
        "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
        "<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n"
    ),
    "chatqa": "System: Be kind\n\nUser: hi\n\nAssistant: yo\n\nUser: bye\n\nAssistant:",
    "codellama-70b-instruct": (
        "Source: system\n\n Be kind <step> Source: user\n\n hi <step> Source: assistant\n\n yo <step> "
        "Source: user\n\n bye <step> Source: assistant\nDestination: user\n\n "
    ),
    "command-r": (
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be kind<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>hi<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>yo<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>bye<|END_OF_TURN_TOKEN|>"
        "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>\n"
    ),
    "falcon-instruct": "System: Be kind\nUser:\nhi\nFalcon:\nyo\nUser:\nbye\nFalcon:\n",
    "gemma-instruct": (
        "<start_of_turn>user\nBe kind\nhi<end_of_turn>\n<start_of_turn>model\nyo<end_of_turn>\n"
        "<start_of_turn>user\nbye<end_of_turn>\n<start_of_turn>model\n"
    ),
    "gemma3-instruct": (
        "<start_of_turn>user\nBe kind\n\nhi<end_of_turn>\n<start_of_turn>model\nyo<end_of_turn>\n"
        "<start_of_turn>user\nbye<end_of_turn>\n<start_of_turn>model\n\n"
    ),
    "granite-instruct": "System:\nBe kind\n\nQuestion:\nhi\n\nAnswer:\nyo\n\nQuestion:\nbye\n\nAnswer:\n",
    "llama2-chat": (
        "[INST] <<SYS>>\nBe kind\n<</SYS>>\n\nhi [/INST] yo</s><s>[INST] <<SYS>><</SYS>>\n\nbye [/INST]"
    ),
    "llama3-instruct": (
        "<|start_header_id|>system<|end_header_id|>\n\nBe kind<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nyo<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nbye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "magicoder": "Be kind\n\n@@ Instruction\nhi\n\n@@ Response\nyo\n\n@@ Instruction\nbye\n\n@@ Response\n",
    "mistral-instruct": "[INST] Be kind\n\nhi[/INST] yo</s>[INST] bye[/INST]",
    "openchat": (
        "GPT4 Correct System: Be kind<|end_of_turn|>GPT4 Correct User: hi<|end_of_turn|>"
        "GPT4 Correct Assistant: yo<|end_of_turn|>GPT4 Correct User: bye<|end_of_turn|>GPT4 Correct Assistant:"
    ),
    "phi-3": (
        "<|system|>\nBe kind<|end|>\n<|user|>\nhi<|end|>\n<|assistant|>\nyo<|end|>\n"
        "<|user|>\nbye<|end|>\n<|assistant|>\n"
    ),
    "solar-instruct": (
        "### System:\nBe kind\n\n### User:\nhi\n\n### Assistant:\nyo</s>\n\n### User:\nbye\n\n### Assistant:\n"
    ),
    "starcoder2-instruct": (
        "Be kind\n\n### Instruction\nhi\n\n### Response\nyo<|endoftext|>\n\n### Instruction\nbye\n\n### Response\n"
    ),
    "vicuna": "Be kind\n\nUSER: hi\nASSISTANT: yo</s>\nUSER: bye\nASSISTANT:",
    "zephyr": "<|system|>\nBe kind</s>\n<|user|>\nhi</s>\n<|assistant|>\nyo</s>\n<|user|>\nbye</s>\n<|assistant|>\n",
}  # fmt: skip

assert len(TABLE) == 20


def test_there_are_no_others() -> None:
    assert set(TEMPLATES) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_t60_shapes(name: str) -> None:
    assert rendered(TEMPLATES[name], CONV) == TABLE[name]


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("alpaca", "### Instruction:\nhi\n\n### Response:\nyo\n\nS2\n\n### Instruction:\nbye\n\n### Response:\n"),
        ("llama2-chat", "[INST] <<SYS>><</SYS>>\n\nhi [/INST] yo</s><s>[INST] <<SYS>>\nS2\n<</SYS>>\n\nbye [/INST]"),
        ("mistral-instruct", "[INST] hi[/INST] yo</s>[INST] S2\n\nbye[/INST]"),
        ("gemma-instruct", "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nyo<end_of_turn>\n"
                           "<start_of_turn>user\nS2\nbye<end_of_turn>\n<start_of_turn>model\n"),
        ("gemma3-instruct", "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nyo<end_of_turn>\n"
                            "<start_of_turn>user\nbye<end_of_turn>\n<start_of_turn>model\n\n"),
    ],
)  # fmt: skip
def test_a_late_system_text_waits_for_its_user(name: str, prompt: str) -> None:
    assert rendered(TEMPLATES[name], LATE) == prompt


def test_mistral_continues_after_an_assistant() -> None:
    assert rendered(TEMPLATES["mistral-instruct"], CONV[:3]) == "[INST] Be kind\n\nhi[/INST] yo</s>[INST] "


def test_command_r_tells_of_tools() -> None:
    tool = {"function": {"name": "f", "description": "d", "parameters": {"properties": {"a": {"type": "string"}}}}}
    prompt = rendered(TEMPLATES["command-r"], CONV, tools=[tool])
    assert "Be kind\n\n## Available Tools\n\n```python\ndef f(a: string, ) -> List[Dict]:\n    '''d\n" in prompt


def test_only_command_r_takes_tools() -> None:
    """So the others are written only for models whose chat format knows no tools."""
    taking = {name for name, text in TEMPLATES.items() if "tools" in Template.parse(text).identifiers}
    assert taking == {"command-r"}


def test_what_a_program_wrote_is_told_from_what_a_user_wrote() -> None:
    assert all(map(is_builtin, TEMPLATES.values()))
    assert not is_builtin("{{ .Prompt }}")
    assert not is_builtin(TEMPLATES["chatml"] + " ")
