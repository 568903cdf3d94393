"""Families of models: prompts as their templates must make them, and answers as the engine must read them.

Written down from modelfile-templates §8.3 and the checks T-91 to T-98, for the tests of our own Jinja templates. The
sentences that explain tools are ours and stand in no expected text. Each round trip is: system text, `Add.`, a call
of `add` with thinking before it, its result `42`, the answer `It is 42.`, and `Thanks.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llamero.messages import Text, Thinking


@dataclass(frozen=True, slots=True)
class Family:
    """Of one family: prompts, an answer in its own form, and what the engine must read out of it."""

    name: str
    hello: str
    """The prompt for a user's `Hi`, thinking."""
    quiet: str
    """The same, told not to think."""
    call: str
    """What the round trip has behind the user's question: the call, its result and what follows."""
    script: str
    read: list[Any]
    specials: tuple[str, ...] = ()
    knows_tools: bool = True
    parts: tuple[str, ...] = ("Be brief.", "add", "Can add.", "boolean", "get")
    """What a system text and tools must have left in the prompt."""


CHATML = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
CHATML_TOLD = "<|im_start|>user\nThanks.<|im_end|>\n<|im_start|>assistant\n"
XML_CALL = (
    "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n"
    "<parameter=b>\nx y\n</parameter>\n</function>\n</tool_call>"
)
XML_CALLS = (
    "<tool_call>\n<function=add>\n<parameter=a>\n3\n</parameter>\n<parameter=b>\nx<y & z\n</parameter>\n"
    "<parameter=f>\n2.0\n</parameter>\n<parameter=l>\n[1,2]\n</parameter>\n<parameter=t>\ntrue\n</parameter>\n"
    "</function>\n</tool_call>\n<tool_call>\n<function=get>\n<parameter=q>\n5\n</parameter>\n</function>\n</tool_call>"
)
XML_READ = [(0, "add", {"a": 3, "b": "x<y & z", "f": 2.0, "l": [1, 2], "t": True}), (1, "get", {"q": "5"})]
JSON_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "x y"}}\n</tool_call>'
JSON_ROUND = (
    f"Add.<|im_end|>\n<|im_start|>assistant\n{JSON_CALL}<|im_end|>\n"
    "<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n"
    "<|im_start|>assistant\nIt is 42.<|im_end|>\n" + CHATML_TOLD
)
XML_ROUND = (
    f"Add.<|im_end|>\n<|im_start|>assistant\n{XML_CALL}<|im_end|>\n"
    "<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n"
    f"<|im_start|>assistant\nIt is 42.<|im_end|>\n{CHATML_TOLD}<think>\n"
)
NEMOTRON_ROUND = (
    f"Add.<|im_end|>\n<|im_start|>assistant\n<think></think>\n{XML_CALL}\n<|im_end|>\n"
    "<|im_start|>user\n<tool_response>\n42\n</tool_response>\n<|im_end|>\n"
    f"<|im_start|>assistant\n<think></think>It is 42.<|im_end|>\n{CHATML_TOLD}<think>\n"
)
GEMMA4_ROUND = (
    "Add.<turn|>\n<|turn>model\n<|channel>thought\nhm\n<channel|>"
    '<|tool_call>call:add{a:1,b:<|"|>x y<|"|>}<tool_call|>'
    '<|tool_response>response:add{value:<|"|>42<|"|>}<tool_response|>It is 42.<turn|>\n'
    "<|turn>user\nThanks.<turn|>\n<|turn>model\n"
)
GEMMA4_SCRIPT = (
    "<|channel>thought\nhm<channel|>Answer"
    '<|tool_call>call:add{a:1,b:<|"|>x y<|"|>,l:[1,<|"|>q<|"|>],t:true}<tool_call|>'
)
GEMMA4_READ = [Thinking("hm"), Text("Answer"), (0, "add", {"a": 1, "b": "x y", "l": [1, "q"], "t": True})]
LFM2_ROUND = (
    'Add.<|im_end|>\n<|im_start|>assistant\n<|tool_call_start|>[add(a=1, b="x y")]<|tool_call_end|><|im_end|>\n'
    "<|im_start|>tool\n<|tool_response_start|>42<|tool_response_end|><|im_end|>\n"
    "<|im_start|>assistant\nIt is 42.<|im_end|>\n" + CHATML_TOLD
)
OLMO_SYSTEM = "<|im_start|>system\nYou are Olmo, a helpful AI assistant built by Ai2{}.<|im_end|>\n"
COGITO = "You are Cogito, an AI assistant created by Deep Cogito, an AI research lab based in San Francisco."
COHERE = (
    "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|START_TEXT|># Available Tools\n```json\n[\n\n\n\n]\n```<|END_TEXT|>"
    "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|USER_TOKEN|><|START_TEXT|>Hi<|END_TEXT|><|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>"
)
GLIMMER = (
    "<|begin_of_text|><|start|>system<|message|>You are a helpful AI assistant.\n\nReasoning strength: {}.\n\n"
    '# Valid recipients: "self", "user".<|eot|><|start|>user<|message|>Hi<|eot|><|start|>assistant'
)
PAIRS = "<arg_key>a</arg_key>{0}<arg_value>1</arg_value>{0}<arg_key>b</arg_key>{0}<arg_value>{1}</arg_value>{0}"
THINK_OFF = "<think>\n\n</think>\n\n"

FAMILIES = [
    Family(
        "qwen3",
        CHATML,
        CHATML,
        JSON_ROUND,
        # partly T-91: the engine leaves the blank, and lets nothing follow a call
        'Hi <tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
        [Text("Hi "), (0, "add", {"a": 1})],
    ),
    Family(
        "qwen3-thinking",
        CHATML + "<think>\n",
        CHATML + THINK_OFF,
        JSON_ROUND + "<think>\n",
        'hm</think>\n\nok<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
        [Thinking("hm"), Text("ok"), (0, "add", {"a": 1})],
    ),
    Family(
        "qwen3-coder",
        CHATML,
        CHATML,
        XML_ROUND.replace("</tool_response>", "</tool_response>\n").removesuffix("<think>\n"),
        "Hi" + XML_CALLS,  # partly T-92
        [Text("Hi"), *XML_READ],
    ),
    Family(
        "qwen3.5",
        CHATML + "<think>\n",
        CHATML + THINK_OFF,
        XML_ROUND,
        "hm</think>\n\nok" + XML_CALLS,  # partly T-93
        [Thinking("hm"), Text("ok"), *XML_READ],
    ),
    Family(
        "qwen3.8",
        CHATML + "<think>\n",
        CHATML + THINK_OFF,
        XML_ROUND.replace("<tool_call>", "<think>\nhm\n</think>\n\n<tool_call>").replace("It is", THINK_OFF + "It is"),
        "hm" + XML_CALLS,  # partly T-93
        [Thinking("hm"), *XML_READ],
    ),
    Family(
        "deepseek3.1",
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>",
        "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>",
        "Add.<｜Assistant｜></think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>"
        '{"a": 1, "b": "x y"}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>'
        "<｜tool▁output▁begin｜>42<｜tool▁output▁end｜>It is 42.<｜end▁of▁sentence｜>"
        "<｜User｜>Thanks.<｜Assistant｜><think>",
        # partly T-94
        'thought</think>ans<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>'
        '<｜tool▁call▁begin｜>get<｜tool▁sep｜>{"q": "z"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        [Thinking("thought"), Text("ans"), (0, "add", {"a": 1}), (1, "get", {"q": "z"})],
    ),
    Family(
        "cogito",
        f"<｜begin▁of▁sentence｜>Enable deep thinking subroutine.\n\n{COGITO}<｜User｜>Hi<｜Assistant｜><think>\n",
        f"<｜begin▁of▁sentence｜>{COGITO}<｜User｜>Hi<｜Assistant｜>",
        "Add.<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
        '{"a": 1, "b": "x y"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>'
        "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>42<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
        "It is 42.<｜end▁of▁sentence｜><｜User｜>Thanks.<｜Assistant｜>",
        "ans<｜tool▁calls▁begin｜>"
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a": 1}\n```<｜tool▁call▁end｜>\n'
        '<｜tool▁call▁begin｜>function<｜tool▁sep｜>get\n```json\n{"q": "z"}\n```<｜tool▁call▁end｜>'
        "<｜tool▁calls▁end｜>",
        [Text("ans"), (0, "add", {"a": 1}), (1, "get", {"q": "z"})],
    ),
    Family(
        "harmony",
        "<|start|>user<|message|>Hi<|end|><|start|>assistant",
        "<|start|>user<|message|>Hi<|end|><|start|>assistant",
        "Add.<|end|><|start|>assistant to=functions.add<|channel|>commentary <|constrain|>json<|message|>"
        '{"a": 1, "b": "x y"}<|call|><|start|>functions.add to=assistant<|channel|>commentary<|message|>42<|end|>'
        "<|start|>assistant<|channel|>final<|message|>It is 42.<|end|>"
        "<|start|>user<|message|>Thanks.<|end|><|start|>assistant",
        "<|channel|>analysis<|message|>think<|end|><|start|>assistant"
        '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}',
        [Thinking("think"), (0, "add", {"a": 1})],
        parts=("# Instructions\n\nBe brief.", "// Can add.\ntype add = (_: {", "l?: any[],\nt?: boolean,\n}) => any;"),
    ),
    Family(
        "gemma4-small",
        "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n",
        "<bos><|turn>user\nHi<turn|>\n<|turn>model\n",
        GEMMA4_ROUND,
        GEMMA4_SCRIPT,  # partly T-96
        GEMMA4_READ,
        specials=("<|tool_call>", "<|channel>"),
        parts=("Be brief.<|tool>declaration:add{", '<|"|>Can add.<|"|>', 't:{type:<|"|>BOOLEAN<|"|>}', "tion:get{"),
    ),
    Family(
        "gemma4-large",
        "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\n",
        "<bos><|turn>user\nHi<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
        GEMMA4_ROUND,
        GEMMA4_SCRIPT,
        GEMMA4_READ,
        specials=("<|tool_call>", "<|channel>"),
        parts=("Be brief.<|tool>declaration:add{",),
    ),
    Family(
        "functiongemma",
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        "Add.<end_of_turn>\n<start_of_turn>model\n"
        "<start_function_call>call:add{a:1,b:<escape>x y<escape>}<end_function_call>"
        "<start_function_response>response:add{<escape>42<escape>}<end_function_response>It is 42.<end_of_turn>\n"
        "<start_of_turn>user\nThanks.<end_of_turn>\n<start_of_turn>model\n",
        "",  # the engine does not understand its answers
        [],
        parts=(
            "developer\nBe brief.",
            "declaration:add{",
            "<escape>Can add.<escape>",
            "t:{type:<escape>BOOLEAN<escape>}",
        ),
    ),
    Family(
        "glm-4.7",
        "[gMASK]<sop><|user|>Hi<|assistant|><think>",
        "[gMASK]<sop><|user|>Hi<|assistant|></think>",
        f"Add.<|assistant|></think><tool_call>add{PAIRS.format('', 'x y')}</tool_call>"
        "<|observation|><tool_response>42</tool_response>"
        "<|assistant|></think>It is 42.<|user|>Thanks.<|assistant|><think>",
        # partly T-97
        f"hm</think>ok<tool_call>add{PAIRS.format('', 'x & <y>')}</tool_call>"
        "<tool_call>get<arg_key>q</arg_key><arg_value>z</arg_value></tool_call>",
        [Thinking("hm"), Text("ok"), (0, "add", {"a": 1, "b": "x & <y>"}), (1, "get", {"q": "z"})],
    ),
    Family(
        "glm-ocr",
        "[gMASK]<sop><|user|>\nHi<|assistant|>\n",
        "[gMASK]<sop><|user|>\nHi/nothink<|assistant|>\n<think></think>\n",
        "Add.<|assistant|>\n<think>hm</think>\n<tool_call>add\n" + PAIRS.format("\n", "x y") + "</tool_call>"
        "<|observation|>\n<tool_response>\n42\n</tool_response>"
        "<|assistant|>\nIt is 42.<|user|>\nThanks.<|assistant|>\n",
        "ok<tool_call>add\n" + PAIRS.format("\n", "z") + "</tool_call>",
        [Text("ok"), (0, "add", {"a": 1, "b": "z"})],
    ),
    Family(
        "nemotron-3-nano",
        f"<|im_start|>system\n<|im_end|>\n{CHATML}<think>\n",
        f"<|im_start|>system\n<|im_end|>\n{CHATML}<think></think>",
        NEMOTRON_ROUND,
        "hm</think>ok" + XML_CALL,
        [Thinking("hm"), Text("ok"), (0, "add", {"a": 1, "b": "x y"})],
    ),
    Family(
        "nemotron-3.5-nano",
        f"<|im_start|>system\n<|im_end|>\n{CHATML}<think>\n",
        f"<|im_start|>system\n<|im_end|>\n{CHATML}<think></think>",
        NEMOTRON_ROUND,
        "hm</think>ok",
        [Thinking("hm"), Text("ok")],
    ),
    Family(
        "olmo3",
        OLMO_SYSTEM.format(", who can call functions") + CHATML,
        OLMO_SYSTEM.format(", who can call functions") + CHATML,
        'Add.<|im_end|>\n<|im_start|>assistant\n<function_calls>add(a=1, b="x y")</function_calls><|im_end|>\n'
        "<|im_start|>environment\n42<|im_end|>\n<|im_start|>assistant\nIt is 42.<|im_end|>\n" + CHATML_TOLD,
        "ok",  # partly T-98: the engine takes its calls for something else
        [Text("ok")],
        parts=('Be brief.<functions>[{"', '"name": "add"', '"name": "get"', "]</functions><|im_end|>"),
    ),
    Family(
        "olmo3-think",
        OLMO_SYSTEM.format("") + CHATML + "<think>",
        OLMO_SYSTEM.format("") + CHATML + "<think>",
        "Add.<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>environment\n42<|im_end|>\n"
        f"<|im_start|>assistant\nIt is 42.<|im_end|>\n{CHATML_TOLD}<think>",
        "hm</think>ok",
        [Thinking("hm"), Text("ok")],
        knows_tools=False,
        parts=("Be brief.",),
    ),
    Family(
        "lfm2",
        "<|startoftext|>" + CHATML,
        "<|startoftext|>" + CHATML,
        LFM2_ROUND,
        'ok<|tool_call_start|>[add(a=1, b="x"), get(q="z")]<|tool_call_end|>',
        [Text("ok"), (0, "add", {"a": 1, "b": "x"}), (1, "get", {"q": "z"})],
        parts=('Be brief.\nList of tools: <|tool_list_start|>[{"name": "add"', '{"name": "get"', "]<|tool_list_end|>"),
    ),
    Family(
        "lfm2-thinking",
        "<|startoftext|>" + CHATML,
        "<|startoftext|>" + CHATML,
        LFM2_ROUND.replace("<|tool_call_start|>", "<think>hm</think><|tool_call_start|>"),
        '<think>hm</think>ok<|tool_call_start|>[get(q="z")]<|tool_call_end|>',
        [Thinking("hm"), Text("ok"), (0, "get", {"q": "z"})],
    ),
    Family(
        "laguna",
        "〈|EOS|〉<user>\nHi\n</user>\n<assistant>\n<think>",
        "〈|EOS|〉<user>\nHi\n</user>\n<assistant>\n</think>",
        "Add.\n</user>\n<assistant>\n<think>\nhm\n</think>\n<tool_call>add\n"
        + PAIRS.format("\n", "x y")
        + "</tool_call>\n</assistant>\n<tool_response>\n42\n</tool_response>\n"
        "<assistant>\n</think>\nIt is 42.\n</assistant>\n"
        "<user>\nThanks.\n</user>\n<assistant>\n<think>",
        "hm</think>ok<tool_call>add\n" + PAIRS.format("\n", "x") + "</tool_call>"
        "<tool_call>get\n<arg_key>q</arg_key>\n<arg_value>z</arg_value>\n</tool_call>",
        [Thinking("hm"), Text("ok"), (0, "add", {"a": 1, "b": "x"}), (1, "get", {"q": "z"})],
    ),
    Family(
        "poolside-v1",
        "〈|EOS|〉<user>Hi</user>\n<assistant><think>",
        "〈|EOS|〉<user>Hi</user>\n<assistant></think>",
        f"Add.</user>\n<assistant><think>hm</think><tool_call>add{PAIRS.format('', 'x y')}</tool_call>"
        "</assistant>\n<tool_response>42</tool_response>\n<assistant><think></think>It is 42.</assistant>\n"
        "<user>Thanks.</user>\n<assistant><think>",
        f"hm</think>ok<tool_call>add{PAIRS.format('', 'x')}</tool_call>",
        [Thinking("hm"), Text("ok"), (0, "add", {"a": 1, "b": "x"})],
    ),
    Family(
        "cohere",
        COHERE,
        COHERE + "<|END_THINKING|>",
        "Add.<|END_TEXT|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_ACTION|>[\n"
        '\n    {"tool_call_id": "0", "tool_name": "add", "parameters": {"a": 1, "b": "x y"}}\n'
        "\n]<|END_ACTION|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|START_TOOL_RESULT|>[\n"
        '    {\n        "tool_call_id": "0",\n        "results": {\n\n            \n'
        '            "0": {"content": "42"}\n\n        },\n        "is_error": null\n    }\n'
        "\n]<|END_TOOL_RESULT|><|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
        "<|START_TEXT|>It is 42.<|END_TEXT|><|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|><|START_TEXT|>Thanks.<|END_TEXT|><|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>",
        'hm<|END_THINKING|><|START_ACTION|>[{"tool_call_id": "0", "tool_name": "add", "parameters": {"a": 1}}, '
        '{"tool_call_id": "1", "tool_name": "get", "parameters": {"q": "z"}}]<|END_ACTION|>',
        [Thinking("hm"), (0, "add", {"a": 1}), (1, "get", {"q": "z"})],
    ),
    Family(
        "ministral",
        "<s>[INST]Hi[/INST]",
        "<s>[INST]Hi[/INST]",
        'Add.[/INST][THINK]hm[/THINK][TOOL_CALLS]add[ARGS]{"a": 1, "b": "x y"}</s>[TOOL_RESULTS]42[/TOOL_RESULTS]'
        "It is 42.</s>[INST]Thanks.[/INST]",
        '[THINK]hm[/THINK]ok[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]get[ARGS]{"q": "z"}',
        [Thinking("hm"), Text("ok"), (0, "add", {"a": 1}), (1, "get", {"q": "z"})],
    ),
    Family(
        "glimmer",
        GLIMMER.format("high"),
        GLIMMER.format("none"),
        "Add.<|eot|><|start|>assistant to=self<|message|>hm<|eom|><|start|>assistant to=add<|message|>"
        '<atem:function_calls>\n<atem:invoke name="add">\n<atem:parameter name="a">1</atem:parameter>\n'
        '<atem:parameter name="b">x y</atem:parameter>\n</atem:invoke>\n</atem:function_calls><|eot|>'
        '<|start|>tool add<|message|><tool_output name="add">\n42\n</tool_output><|eot|>'
        "<|start|>assistant to=user<|message|>It is 42.<|eot|><|start|>user<|message|>Thanks.<|eot|><|start|>assistant",
        " to=self<|message|>hm<|eom|><|start|>assistant to=add<|message|><atem:function_calls>\n"
        '<atem:invoke name="add">\n<atem:parameter name="a">1</atem:parameter>\n</atem:invoke>\n</atem:function_calls>',
        [Thinking("hm"), (0, "add", {"a": 1})],
        parts=("Be brief.", '"name": "add"', '# Valid recipients: "self", "add", "get", "user".'),
    ),
]
