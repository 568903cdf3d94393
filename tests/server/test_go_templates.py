"""Go templates from the request to the reply: real servers, real engines, and models that say what they are told to.

Sources: modelfile-templates §2.7 to §2.11, §3.2, §3.5, §4, §6, §7; native-api §2.5, §2.7, §2.9, §3.7, §3.8.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parrot import write_parrot
from tests.running import Reply, Server, linked_copy, running
from tests.server.go_models import (
    BARE,
    CHAINED,
    FENCED,
    FIRST_TURN,
    HARMONY,
    LISTED,
    OPENED,
    TAGGED,
    WORDED,
    Answer,
    Models,
    function,
)
from tests.server.tiny_models import TEXT, make

ADD = function("add", a={"type": "integer"}, b={"type": "integer"}, required=["a", "b"])
NAMED = {"type": "function", "function": {"name": "add"}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 22}}\n</tool_call>'
ONE = ("add", {"a": 1, "b": 22})
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
THOUGHT = "<think>\nI muse on this.\n</think>\n\n"
ONLY_WHY = {"type": "object", "properties": {"x": {"enum": ["why"]}}, "required": ["x"], "additionalProperties": False}
SAMPLED = {"temperature": 1, "seed": 3, "num_predict": 300}
"""A parrot whose words are forbidden knows nothing else: any letter is as good as another then."""
HI = ({"role": "user", "content": "Hi"},)


@pytest.fixture(scope="module")
def server(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of our own: these models are for nobody else."""
    folder = tmp_path_factory.mktemp("go")
    with running(folder, linked_copy(starter_models, folder / "models"), OLLAMA_CONTEXT_LENGTH="4096") as started:
        yield started


@pytest.fixture(scope="module")
def models(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(server, tmp_path_factory.mktemp("parrots"))


def chat(models: Models, model: str, messages: Any = HI, **body: Any) -> Reply:
    options = {"temperature": 0, "num_predict": 200, **body.pop("options", {})}
    body = {"model": model, "messages": list(messages), "options": options, **body}
    return models.server.post("/api/chat", body)


def generate(models: Models, model: str, prompt: str = "Hi", **body: Any) -> Reply:
    options = {"temperature": 0, "num_predict": 200, **body.pop("options", {})}
    return models.server.post("/api/generate", {"model": model, "prompt": prompt, "options": options, **body})


def answered(models: Models, model: str, messages: Any = HI, **body: Any) -> Answer:
    return Answer(chat(models, model, messages, **body))


def shown(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return str(reply.json()["_debug_info"]["rendered_template"])


def rendered(models: Models, model: str, messages: Any = HI, **body: Any) -> str:
    return shown(chat(models, model, messages, _debug_render_only=True, **body))


def turn(role: str, content: str = "", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tagged(models: Models) -> str:
    return models.smollm(
        TAGGED, system="Be kind.", messages=[turn("user", "stored question"), turn("assistant", "stored answer")]
    )


def test_n63_n64_n66_only_to_look_at_a_prompt(models: Models, tagged: str) -> None:
    """N-63, N-64, N-66 where the prompt is made by us; also when a stream is asked for."""
    for stream in (True, False):
        reply = generate(models, tagged, "Hello", stream=stream, _debug_render_only=True)
        assert reply.content_type == "application/json; charset=utf-8"
        assert (reply.json()["done"], reply.json()["response"]) == (False, "")
        assert shown(reply).endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert shown(generate(models, tagged, "Hello", raw=True, _debug_render_only=True)) == "Hello"
    bare = models.smollm("{{ .Prompt }}")
    shorter = generate(models, bare, "Hello", template="PROMPT: {{ .Prompt }}", _debug_render_only=True)
    assert shown(shorter) == "PROMPT: Hello"


STORED = "<|im_start|>user\nstored question<|im_end|>\n<|im_start|>assistant\nstored answer<|im_end|>\n"


def test_t65_n88_n89_system_and_stored_messages_stand_in_front(models: Models, tagged: str) -> None:
    """T-65, N-88 roles in any case, N-89."""
    kind, other = ("<|im_start|>system\n" + text + "<|im_end|>\n" for text in ("Be kind.", "Other."))
    asked = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert rendered(models, tagged, [turn("USER", "Hi")]) == kind + STORED + asked
    assert rendered(models, tagged, [turn("System", "Other."), turn("user", "Hi")]) == other + STORED + asked
    late = rendered(models, tagged, [turn("user", "Hi"), turn("system", "Other."), turn("user", "Ho")])
    assert late.startswith("<|im_start|>system\nBe kind.\n\nOther.<|im_end|>\n"), "a later one suppresses nothing"


def test_generate_takes_system_and_stored_messages_too_but_not_behind_a_context(models: Models, tagged: str) -> None:
    look: dict[str, Any] = {"_debug_render_only": True}
    assert STORED in shown(generate(models, tagged, **look))
    replaced = shown(generate(models, tagged, system="Mine.", **look))
    assert replaced.startswith("<|im_start|>system\nMine.<|im_end|>\n" + STORED)
    behind = shown(generate(models, tagged, context=[198], **look))
    assert behind == "\n<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("think", "level"),
    [(None, "medium"), (True, "medium"), (False, "/no_think"), ("low", "low"), ("high", "high"), ("max", "max")],
)
def test_t57_templates_learn_how_much_to_think(models: Models, think: Any, level: str) -> None:
    template = (
        "{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}|{{ end }}"
        "{{ if and .IsThinkSet (not .Think) }}/no_think{{ else }}{{ .ThinkLevel }}{{ end }}"
    )
    model = make(models.server, "levels", from_="smollm2:135m", template=template)
    assert rendered(models, model, think=think) == f"Hi|{level}"


def test_n98_calls_and_results_are_matched(models: Models, tagged: str) -> None:
    """N-98, partly T-100: whatever of name and id is missing is filled in; earlier thinking is there."""
    calls: list[Any] = [{"function": {"name": "add", "arguments": {"z": 1, "a": [2]}}}, {"function": {"name": "mul"}}]
    history = [
        turn("user", "x"),
        turn("assistant", thinking="hm", tool_calls=calls),
        turn("tool", "six", tool_name="mul"),
        turn("tool", "three"),
    ]
    prompt = rendered(models, tagged, history, tools=[ADD])
    assert "<think>\nhm\n</think>\n<tool_call>\n" in prompt
    assert '{"name": "add", "arguments": {"a":[2],"z":1}}\n{"name": "mul", "arguments": {}}\n</tool_call>' in prompt
    results = re.findall(r"<result of=(\w+) id=(\w+)>(\w+)</result>", prompt)
    assert [(name, text) for name, _, text in results] == [("mul", "six"), ("add", "three")]
    ids = [id_ for _, id_, _ in results]
    assert len(set(ids)) == 2
    history[1]["tool_calls"] = [{**call, "id": f"call_{number}"} for number, call in enumerate(calls)]
    history[2:] = [turn("tool", "six", tool_call_id="call_1"), turn("tool", "three", tool_call_id="call_0")]
    prompt = rendered(models, tagged, history, tools=[ADD])
    assert "of=mul id=call_1>six<" in prompt
    assert "of=add id=call_0>three<" in prompt
    assert chat(models, tagged, history, tools=[ADD], options={"num_predict": 1}).status == 200


def test_only_known_keywords_of_tools_and_sorted_properties(models: Models, tagged: str) -> None:
    """Partly N-99: Jinja templates get the whole schema."""
    odd = function("f", z={"type": "integer", "default": 5, "minimum": 1}, a={"type": "string", "format": "date"})
    assert '"properties":{"a":{"type":"string"},"z":{"type":"integer"}}' in rendered(models, tagged, tools=[odd])


def test_old_thinking_is_cut_out_for_deepseek_r1(models: Models) -> None:
    make(models.server, "deepseek-r1", from_="smollm2:135m", template=FIRST_TURN)
    history = [turn("user", "a"), turn("assistant", "<think>hm</think>\nyo"), turn("user", "b")]
    prompt = rendered(models, "deepseek-r1", history)
    assert "<start_of_turn>model\nyo<end_of_turn>" in prompt
    kept = make(models.server, "another", from_="smollm2:135m", template=FIRST_TURN)
    assert "<think>hm</think>" in rendered(models, kept, history)


def test_the_beginning_token_of_a_template_is_not_doubled(models: Models) -> None:
    """§4.2: the engine adds its own."""
    counts = set()
    for template in ("<s>Q: {{ .Prompt }}", "Q: {{ .Prompt }}"):
        model = make(models.server, "beginning", [TEXT], template=template)
        counts.add(generate(models, model, stream=False, options={"num_predict": 1}).json()["prompt_eval_count"])
    assert len(counts) == 1


# --- filling in ------------------------------------------------------------------------------------------------------


def test_n62_a_suffix_by_the_template_or_by_the_models_own_tokens(models: Models, tmp_path: Path) -> None:
    """N-62: a model that inserts by either answers; another refuses."""
    asked: dict[str, Any] = {"suffix": "\n\nprint(1)", "stream": False}
    by_template = models.saying("return a + b")
    assert generate(models, by_template, "def f(a, b):", **asked).json()["response"] == "return a + b"
    look = generate(models, by_template, "def f(a, b):", system="S", _debug_render_only=True, **asked)
    assert shown(look) == "def f(a, b):<hole>\n\nprint(1)"

    models.server.unload_all()
    file = write_parrot(tmp_path / "fim.gguf", "return a * b", infill=("<PRE>", "<SUF>", "<MID>"))
    by_tokens = make(models.server, "fim", [file])
    assert "insert" in models.server.post("/api/show", {"model": by_tokens}).json()["capabilities"]
    reply = generate(models, by_tokens, "def f(a, b):", **asked).json()
    assert (reply["response"], reply["done_reason"]) == ("return a * b", "stop")
    look = generate(models, by_tokens, "def f(a, b):", _debug_render_only=True, **asked)
    assert shown(look) == "<PRE>def f(a, b):<SUF>\n\nprint(1)<MID>"

    never = make(models.server, "never", from_="smollm2:135m", template=FIRST_TURN)
    refused = generate(models, never, "def f(a, b):", **asked)
    assert (refused.status, refused.error) == (
        400,
        f"registry.ollama.ai/library/{never}:latest does not support insert",
    )


# --- too long for the context ----------------------------------------------------------------------------------------

SHORT = "{{ range .Messages }}<{{ .Role }}>{{ .Content }};{{ end }}<assistant>"
MANY = [turn("system", "S1"), *(turn(("user", "assistant")[n % 2], f"word{n} " * 10) for n in range(9))]
MANY.insert(4, turn("system", "S2"))
LONG = [turn("user", "word " * 300)]
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)


@pytest.fixture(scope="module")
def short(models: Models) -> str:
    return models.smollm(SHORT, parameters={"num_ctx": 64})


def test_n100_the_oldest_messages_go_and_the_reply_says_so(models: Models, short: str) -> None:
    before, last = (message["content"] for message in MANY[-2:])
    reply = chat(models, short, MANY, _debug_render_only=True)
    assert shown(reply) == f"<system>S1\n\nS2;<assistant>{before};<user>{last};<assistant>"
    said = "the conversation is longer than the context: 7 oldest messages left out"
    assert reply.headers["Llamero-Warning"] == said
    reply = chat(models, short, MANY, stream=False, options={"num_predict": 1})
    assert (reply.json()["warnings"], reply.headers["Llamero-Warning"]) == ([said], said)


def test_replies_without_an_answer_tell_what_they_ignored_too(models: Models, short: str) -> None:
    nobody: tuple[Any, ...] = ()
    for messages in (nobody, HI):
        reply = chat(models, short, messages, _debug_render_only=True, options={"mirostat": 1})
        assert "mirostat" in reply.headers["Llamero-Warning"]


def test_t69_without_truncation_all_is_rendered_and_n101_the_engine_refuses(models: Models, short: str) -> None:
    """T-69, N-101."""
    whole = rendered(models, short, MANY, truncate=False)
    assert all(message["content"] in whole for message in MANY)
    for messages in (MANY, LONG):
        refused = chat(models, short, messages, truncate=False)
        assert refused.status == 400
        assert "exceeds the available context size" in refused.error
    assert generate(models, short, LONG[0]["content"], truncate=False).status == 400


def test_one_message_that_is_too_long_is_cut_and_counted(models: Models, short: str) -> None:
    said = ["the prompt is longer than the context: 274 of 308 tokens left out"]
    for reply in (
        chat(models, short, LONG, stream=False, options={"num_predict": 3}),
        generate(models, short, LONG[0]["content"], stream=False, options={"num_predict": 3}),
    ):
        assert (reply.status, reply.json()["warnings"]) == (200, said)
        assert reply.json()["prompt_eval_count"] == 34, "the first four tokens, and half of the other places"


def test_without_shift_a_long_prompt_is_refused(models: Models, short: str) -> None:
    for refused in (
        chat(models, short, LONG, shift=False),
        generate(models, short, LONG[0]["content"], shift=False),
        generate(models, short, LONG[0]["content"], shift=False, raw=True),
    ):
        assert (refused.status, refused.error) == (400, TOO_LONG)


def test_n70_a_context_goes_back_and_forth(models: Models) -> None:
    """N-70, twice in a row: nothing is lost and nothing doubled."""
    model = models.smollm("{{ if .Prompt }}U:{{ .Prompt }} {{ end }}A:{{ .Response }}\n")
    context: list[int] = []
    spoken = ""
    for prompt in ("one", "two", "three"):
        look = generate(models, model, prompt, context=context, _debug_render_only=True)
        assert shown(look) == f"{spoken}U:{prompt} A:"
        reply = generate(models, model, prompt, context=context, stream=False, options={"num_predict": 5}).json()
        spoken = f"{spoken}U:{prompt} A:{reply['response']}"
        assert reply["context"][: len(context)] == context
        context = reply["context"]
    for wrong in (["a"], [10**9], [-1]):
        assert generate(models, model, context=wrong).status == 400


# --- thinking --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def thinker(models: Models) -> str:
    """Thinks, and heeds when it is told not to."""
    return models.saying("why not?\n</think>\n\nSo it is.", OPENED, behind={"#": "Just so."})


@pytest.mark.parametrize("think", [None, True, "low", "max"])
def test_n93_n94_t89_thinking_comes_first_and_apart(models: Models, thinker: str, think: Any) -> None:
    """N-93, N-94; T-89: the prompt has opened the tag."""
    assert rendered(models, thinker, think=think).endswith("<think>\n")
    reply = answered(models, thinker, think=think)
    assert reply.parts == ("why not?\n", "So it is.", [])
    kinds = ["thinking" in message for message in reply.messages[:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert all(message["content"] == "" for message in reply.messages if "thinking" in message)
    whole = chat(models, thinker, think=think, stream=False).json()["message"]
    assert whole == {"role": "assistant", "content": "So it is.", "thinking": "why not?\n"}
    assert Answer(generate(models, thinker, think=think)).parts == reply.parts


def test_n93_without_thinking_the_key_is_absent(models: Models, thinker: str) -> None:
    reply = chat(models, thinker, think=False, stream=False).json()
    assert reply["message"] == {"role": "assistant", "content": "Just so."}
    assert "thinking" not in generate(models, thinker, think=False, stream=False).json()


def test_n95_the_answer_conforms_and_the_thinking_is_free(models: Models, thinker: str) -> None:
    """N-95; the counts are those of the run that gave the answer (native-api §2.5)."""
    free = answered(models, thinker)
    for ask in (chat, generate):
        reply = Answer(ask(models, thinker, format=ONLY_WHY, options=SAMPLED))
        assert reply.thinking == free.thinking
        assert json.loads(reply.content) == {"x": "why"}
        assert reply.last["prompt_eval_count"] > free.last["prompt_eval_count"], "it goes on behind the thinking"
    single = answered(models, thinker, format=ONLY_WHY, think=False, options=SAMPLED)
    assert (single.thinking, json.loads(single.content)) == ("", {"x": "why"})
    assert single.last["prompt_eval_count"] < free.last["prompt_eval_count"]


def test_the_timeline_is_that_of_all_runs(models: Models, thinker: str) -> None:
    """`timings` tells where the time went: the prompt once, and every token that was written (native-api §2.10)."""
    free = answered(models, thinker)
    last = answered(models, thinker, format=ONLY_WHY, options=SAMPLED, timings=True).last
    assert last["timings"]["prompt_tokens"] == free.last["prompt_eval_count"] < last["prompt_eval_count"]
    assert last["timings"]["predicted_tokens"] > last["eval_count"]
    assert last["timings"]["decode_ms"] > last["eval_duration"] / 1e6


def test_an_answer_that_never_came_is_made_to_conform(models: Models) -> None:
    """The model closes its thinking and stops, or says nothing at all."""
    for script in ("hm</think>", ""):
        reply = answered(models, models.saying(script, OPENED), format=ONLY_WHY, options=SAMPLED)
        assert json.loads(reply.content) == {"x": "why"}


@pytest.mark.parametrize(("piece_chars", "specials"), [*((size, ()) for size in range(3, 10)), (4, TAGS), (9, TAGS)])
def test_however_a_stream_is_cut_the_events_are_the_same(
    models: Models, piece_chars: int, specials: tuple[str, ...]
) -> None:
    """Partly N-97, partly N-94: thinking, text and two calls, told apart in pieces of any size."""
    script = f"{THOUGHT}Let me see: {CALL}{CALL.replace('22', '4')} and <b> done"
    model = models.saying(script, piece_chars=piece_chars, specials=specials)
    reply = answered(models, model, tools=[ADD])
    assert reply.parts == ("I muse on this.\n", "Let me see: ", [ONE, ("add", {"a": 1, "b": 4})])


# --- tool calls ------------------------------------------------------------------------------------------------------


def test_n96_n97_a_call_arrives_once_and_complete(models: Models) -> None:
    """N-96, N-97; partly T-83: in a line of its own, with an id of ours."""
    model = models.saying(f"Well. {CALL}{CALL.replace('22', '4')} done")
    reply = answered(models, model, tools=[ADD])
    lines = [message for message in reply.messages if "tool_calls" in message]
    assert [len(message["tool_calls"]) for message in lines] == [1, 1]
    assert all(message["content"] == "" for message in lines)
    assert "tool_calls" not in reply.messages[-1]
    assert reply.content == "Well. "
    assert (reply.last["done"], reply.last["done_reason"]) == (True, "stop")
    for number, call in enumerate(reply.raw_calls):
        assert set(call) == {"id", "function"}
        assert re.fullmatch("call_[a-z0-9]{8}", call["id"])
        assert call["function"] == {"index": number, "name": "add", "arguments": reply.calls[number][1]}
    assert len({call["id"] for call in reply.raw_calls}) == 2
    whole = chat(models, model, tools=[ADD], stream=False).json()["message"]
    assert [call["function"]["index"] for call in whole["tool_calls"]] == [0, 1]
    assert answered(models, model).content.count("<tool_call>") == 2, "nothing is looked for without tools"


WRONG = '{"name": "add", "arguments": {"a": "one", "b": [22]}}'
SPECIAL = {"specials": ("<tool_call>", "</tool_call>")}


@pytest.mark.parametrize(
    ("template", "script", "parrot"),
    [
        (TAGGED, f"<tool_call>\n{WRONG}\n</tool_call>", {}),
        (TAGGED, f"<tool_call>\n{WRONG}\n</tool_call>", SPECIAL),
        (BARE, WRONG.replace("arguments", "parameters"), {}),
        (LISTED, f"[TOOL_CALLS] [{WRONG}]", {"specials": ["[TOOL_CALLS]"]}),
        (LISTED, f"[TOOL_CALLS][{WRONG}]", {"specials": ["[TOOL_CALLS]"]}),
        (FENCED, 'Action: ```json\n[\n    {\n        "tool_name": "add",\n        "parameters": {"a": "x"}}]```', {}),
        (CHAINED, '<|tools|><|tool|>function<|sep|>add\n```json\n{"a": "x"}\n```', {}),
        (CHAINED, '<|tools|><|tool|>function<|sep|>add\n```json\n{"a": "x"}', {"specials": ["<|tools|>", "<|sep|>"]}),
        (WORDED, f"functools[{WRONG}]", {}),
    ],
    ids=["tagged", "special-tag", "bare", "listed", "no-blank", "fenced", "chained", "chained-special", "worded"],
)
def test_a_call_that_has_begun_must_fit_its_tool(
    models: Models, template: str, script: str, parrot: dict[str, Any]
) -> None:
    """The model wants to say something else; it cannot."""
    model = models.saying(script, template, **parrot)
    reply = answered(models, model, tools=[ADD], parallel_tool_calls=False, think=None, options=SAMPLED)
    assert (reply.thinking, reply.content) == ("", "")
    [(name, arguments)] = reply.calls
    assert (name, set(arguments)) == ("add", {"a", "b"})
    assert {type(value) for value in arguments.values()} == {int}


@pytest.mark.heavy
def test_smollm2_is_held_to_the_schema_of_the_call_that_it_copies(models: Models) -> None:
    """What it has seen three times is wrong by the schema; the tool is not shown, or it would not call at all."""
    model = models.smollm(TAGGED.replace("{{ .Function }}\n", ""))
    weather = function("weather", city={"type": "string"}, unit={"enum": ["K", "F"]}, required=["city", "unit"])
    history = []
    for city in ("Paris", "Oslo", "Lima"):
        call = {"function": {"name": "weather", "arguments": {"city": city, "unit": "Celsius"}}}
        history += [turn("user", f"Weather in {city}?"), turn("assistant", tool_calls=[call])]
        history += [turn("tool", "sunny"), turn("assistant", "sunny")]
    history.append(turn("user", "Weather in Rome?"))
    body = {"think": False, "options": {"num_predict": 60}}
    assert '"unit":"Celsius"' in answered(models, model, history, **body).content
    [(name, arguments)] = answered(models, model, history, tools=[weather], **body).calls
    assert (name, arguments["city"]) == ("weather", "Rome")
    assert arguments["unit"] in ("K", "F")


@pytest.mark.parametrize(
    ("template", "script", "options"),
    [
        (TAGGED, "Ok. <tool_call>no JSON here</tool_call>", {}),
        (TAGGED, f"Ok. {CALL}", {"num_predict": 10}),
        (TAGGED, f"Ok. {CALL}", {"stop": ['"b":']}),
        (BARE, '{"name": "sub", "parameters": {"a": 1}}', {}),
        (BARE, '{"name": "Bob", "age": 4} and more', {}),
        (BARE, 'Sure: {"name": "add", "parameters": {"a": 1, "b": 2}}', {}),
        (BARE, '{"name": "add", "parameters": {"a": 1, "b": 2}}', {"num_predict": 8}),
        (LISTED, '[{"name": "add", "arguments": {"a": 1, "b": 2}}]', {}),
    ],
    ids=["no-json", "cut-off", "stopped", "unknown", "other-json", "prose-first", "bare-cut-off", "no-tag"],
)
def test_what_is_no_call_is_text_to_the_last_letter(
    models: Models, template: str, script: str, options: dict[str, Any]
) -> None:
    model = models.saying(script, template)
    reply = answered(models, model, tools=[ADD], options=options)
    free = answered(models, model, options=options)
    assert (reply.calls, reply.content) == ([], free.content)


def test_an_engine_that_cannot_hold_a_call_to_its_shape_is_asked_to_go_on_without(models: Models) -> None:
    """A token that ends the tag goes on with what no call has: the grammar of the engine has no way out of there."""
    for pieces in (['<tool_call>{"foo', '": 1}</tool_call>'], ["<tool", '_call>{"foo', '": 1}</tool_call>']):
        model = models.saying(pieces)
        reply = answered(models, model, tools=[ADD])
        assert reply.calls == []
        assert reply.content.endswith('<tool_call>{"foo": 1}</tool_call>')
        [said] = reply.last["warnings"]
        assert "was not held to the parameters" in said


def test_stop_strings_end_calls_too_and_special_tokens_are_stop_strings(models: Models) -> None:
    model = models.saying(f"Ok. {CALL} more")
    stopped = answered(models, model, tools=[ADD], options={"stop": ["</tool_call>"]})
    assert (stopped.content, stopped.calls) == ("Ok. ", [ONE])
    assert answered(models, model, tools=[ADD], options={"stop": ["<tool_call>"]}).parts == ("", "Ok. ", [])
    model = models.saying("Hello there<|turn|>more words", specials=["<|turn|>"])
    assert answered(models, model).content == "Hello theremore words"
    reply = answered(models, model, options={"stop": ["<|turn|>"]})
    assert (reply.content, reply.last["done_reason"]) == ("Hello there", "stop")


def test_every_token_of_thinking_and_calls_has_its_log_probability(models: Models) -> None:
    """Partly N-104: text that is held back holds no log-probability back."""
    script = f"{THOUGHT}Ok. {CALL}"
    reply = answered(models, models.saying(script), tools=[ADD], logprobs=True)
    assert reply.parts == ("I muse on this.\n", "Ok. ", [ONE])
    assert "".join(entry["token"] for entry in reply.logprobs) == script
    assert len(reply.logprobs) - reply.last["eval_count"] in (0, -1), "the last token is the end itself"


# --- tool_choice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("think", [True, False])
def test_a_call_that_must_come_comes(models: Models, choice: Any, think: bool) -> None:
    """The model would rather answer; with thinking it may think first."""
    one = function("add", a={"enum": [1]}, required=["a"])
    model = models.saying(f"{THOUGHT}It is seven.")
    reply = answered(models, model, tools=[one], tool_choice=choice, think=think, options=SAMPLED)
    assert reply.parts == ("I muse on this.\n" if think else "", "", [("add", {"a": 1})])


def test_tools_that_must_not_be_called_are_not_shown(models: Models) -> None:
    model = models.saying(f"Ok. {CALL}")
    assert '"name":"add"' in rendered(models, model, tools=[ADD])
    assert '"name":"add"' not in rendered(models, model, tools=[ADD], tool_choice="none")
    assert answered(models, model, tools=[ADD], tool_choice="none").content == f"Ok. {CALL}"
    only = rendered(models, model, tools=[ADD, function("mul")], tool_choice=NAMED)
    assert '"name":"mul"' not in only
    assert answered(models, model, tools=[ADD], tool_choice="auto").calls == [ONE]


def test_without_parallel_calls_the_first_one_ends_the_answer(models: Models) -> None:
    model = models.saying(f"Ok. {CALL}{CALL.replace('22', '4')} bye")
    assert len(answered(models, model, tools=[ADD]).calls) == 2
    reply = answered(models, model, tools=[ADD], parallel_tool_calls=False)
    assert reply.parts == ("", "Ok. ", [ONE])
    assert reply.last["done_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"tool_choice": "bogus"}, "invalid tool_choice: must be"),
        ({"tool_choice": {"type": "function", "function": {"name": "sub"}}}, '"sub" is not among the tools'),
        ({"tool_choice": "required", "tools": []}, "invalid tool_choice: the request has no tools"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
    ],
)
def test_choices_that_make_no_sense(models: Models, tagged: str, body: dict[str, Any], said: str) -> None:
    refused = chat(models, tagged, **{"tools": [ADD], **body})
    assert refused.status == 400
    assert said in refused.error


def test_with_a_format_and_tools_there_is_a_call_or_a_conforming_answer(models: Models) -> None:
    model = models.saying(f"{THOUGHT}{CALL}")
    reply = answered(models, model, tools=[ADD], format=ONLY_WHY)
    assert reply.parts == ("I muse on this.\n", "", [ONE])
    model = models.saying(f"{THOUGHT}It is seven, or {CALL}")
    reply = answered(models, model, tools=[ADD], format=ONLY_WHY, options=SAMPLED)
    assert (reply.thinking, json.loads(reply.content), reply.calls) == ("I muse on this.\n", {"x": "why"}, [])


# --- tools of all kinds ----------------------------------------------------------------------------------------------

STOPS = {
    "type": "function",
    "function": {
        "name": "plan",
        "parameters": {
            "type": "object",
            "$defs": {
                "stop": {
                    "type": "object",
                    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "nights": {"type": "integer", "minimum": 1}},
                    "required": ["city", "nights"],
                }
            },
            "properties": {"stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}, "minItems": 1, "maxItems": 2}},
            "required": ["stops"],
        },
    },
}
FLAG = {"type": "object", "properties": {"c": {"type": "boolean"}}, "required": ["c"], "additionalProperties": False}


def _is_stop(value: Any) -> bool:
    return value["city"] in ("Rome", "Oslo") and isinstance(value["nights"], int) and value["nights"] >= 1


@pytest.mark.parametrize(
    ("tool", "fits"),
    [
        (STOPS, lambda given: 1 <= len(given["stops"]) <= 2 and all(map(_is_stop, given["stops"]))),
        (function("deep", a=FLAG, required=["a"]), lambda given: given["a"]["c"] in (True, False)),
        (function("now"), lambda given: given == {}),
        ({"type": "function", "function": {"name": "now"}}, lambda given: given == {}),
        (function('v2.get-größe/"x"', a={"enum": ["é", '"']}, required=["a"]), lambda given: given["a"] in ("é", '"')),
    ],
    ids=["refs", "nested", "empty", "none", "odd-name"],
)
def test_calls_of_smollm2_fit_any_schema(models: Models, tagged: str, tool: dict[str, Any], fits: Any) -> None:
    options = {"temperature": 0.8, "seed": 1, "num_predict": 120}
    body = {"tools": [tool], "think": False, "options": options}
    reply = answered(models, tagged, [turn("user", "Please use the tool.")], tool_choice="required", **body)
    [(name, arguments)] = reply.calls
    assert (name, reply.content, fits(arguments)) == (tool["function"]["name"], "", True)


def test_a_schema_that_nothing_fits_is_refused_where_a_call_must_come(models: Models, tagged: str) -> None:
    never = function("never", a={"type": "integer", "minimum": 5, "maximum": 1}, required=["a"])
    fault = 'invalid parameters of tool "never": /properties/a/minimum: no number is between 5 and 1'
    refused = chat(models, tagged, tools=[never], tool_choice="required")
    assert (refused.status, refused.error) == (400, fault)
    reply = chat(models, tagged, tools=[never], think=False, stream=False, options={"num_predict": 2})
    assert (reply.status, reply.json()["warnings"]) == (200, [f"{fault}; its arguments are not constrained"])


def test_a_hundred_tools(models: Models) -> None:
    tools = [function(f"tool_{n}", a={"enum": [n]}, required=["a"]) for n in range(100)]
    names = TAGGED.replace("{{ .Function }}", "{{ .Function.Name }}")
    model = models.saying('Ok. <tool_call>{"name": "tool_42", "arguments": {"a": 42}}</tool_call>', names)
    assert answered(models, model, tools=tools).calls == [("tool_42", {"a": 42})]
    others = answered(models, model, tools=[*tools[:42], *tools[43:]], options=SAMPLED)
    assert "tool_42" not in dict(others.calls)


# --- shapes of published templates -----------------------------------------------------------------------------------

SHAPES = [
    (TAGGED, CALL, '<tool_call>\n{"name": "add", "arguments": {"a":1,"b":22}}\n</tool_call>'),
    (BARE, '{"name": "add", "parameters": {"a": 1, "b": 22}}', '{"name": "add", "parameters": {"a":1,"b":22}}'),
    (
        LISTED,
        '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "b": 22}}]',
        '[TOOL_CALLS] [{"name": "add", "arguments": {"a":1,"b":22}}]',
    ),
    (
        FENCED,
        'Action: ```json\n[\n    {\n        "tool_name": "add",\n        "parameters": {"a": 1, "b": 22}\n    }\n]```',
        'Action: ```json\n[\n    {\n        "tool_name": "add",\n        "parameters": {"a":1,"b":22}\n    }\n]```',
    ),
    (
        CHAINED,
        '<|tools|><|tool|>function<|sep|>add\n```json\n{"a": 1, "b": 22}\n```<|end_tool|><|end_tools|>',
        '<|tools|><|tool|>function<|sep|>add\n```json\n{"a":1,"b":22}\n```<|end_tool|><|end_tools|>',
    ),
    (
        WORDED,
        'functools[{"name": "add", "arguments": {"a": 1, "b": 22}}]',
        'functools[{"name": "add", "arguments": {"a":1,"b":22}}]',
    ),
]


@pytest.mark.parametrize(
    ("template", "script", "written"), SHAPES, ids=["tagged", "bare", "listed", "fenced", "chained", "worded"]
)
@pytest.mark.parametrize("piece_chars", [3, 9])
def test_calls_are_read_as_the_template_writes_them(
    models: Models, template: str, script: str, written: str, piece_chars: int
) -> None:
    """What a template shows as an earlier call is what its model writes for the next one."""
    model = models.saying(script, template, piece_chars=piece_chars)
    reply = answered(models, model, tools=[ADD])
    assert reply.parts == ("", "", [ONE])
    history = [*HI, turn("assistant", tool_calls=reply.raw_calls), turn("tool", "23"), turn("user", "Thanks")]
    assert written in rendered(models, model, history, tools=[ADD])


def test_a_system_text_without_a_turn_of_its_own(models: Models) -> None:
    model = models.smollm(FIRST_TURN)
    prompt = rendered(models, model, [turn("system", "Be kind."), turn("user", "Hi")])
    assert prompt == "<start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n"
    assert chat(models, model, tools=[ADD]).status == 400, "the template knows no tools"


# --- named families --------------------------------------------------------------------------------------------------

PLAIN = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}{{ .Tools }}<assistant>"
DEEPSEEK_CALL = (
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
)


@pytest.mark.parametrize(
    ("parser", "script", "parts"),
    [
        ("qwen3", 'Hi <tool_call>\n{"name":"add","arguments":{"a":1}}\n</tool_call>\nbye', ("", "Hibye", {"a": 1})),
        (
            "qwen3-coder",
            "<tool_call>\n<function=add>\n<parameter=a>\n3\n</parameter>\n</function>\n</tool_call>",
            ("", "", {"a": 3}),
        ),
        ("qwen3-thinking", "hm</think>ok", ("hm", "ok", None)),
        ("deepseek3", f"hm</think>ok{DEEPSEEK_CALL}", ("hm", "ok", {"a": 1})),
        (
            "glm-4.7",
            "hm</think>ok<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
            ("hm", "ok", {"a": 1}),
        ),
        ("ministral", 'Ok[TOOL_CALLS]add[ARGS]{"a": 1}', ("", "Ok", {"a": 1})),
        ("ministral", "[TOOL_CALLS]nope[ARGS]{}", ("", "[TOOL_CALLS]nope[ARGS]{}", None)),
        ("gemma4", "<|channel>thought\nhm<channel|>ok<|tool_call>call:add{a:1}<tool_call|>", ("hm", "ok", {"a": 1})),
        ("passthrough", f"ok {CALL}", ("", f"ok {CALL}", None)),
        ("no-such-parser", f"ok {CALL.replace('<tool_call>', '').replace('</tool_call>', '')}", None),
    ],
)
def test_a_named_parser_reads_the_answer_to_a_go_template(models: Models, parser: str, script: str, parts: Any) -> None:
    """Partly T-64: PARSER counts where we render; an unknown one gives way to the generic parsers."""
    model = models.saying(script, PLAIN, create={"parser": parser})
    reply = answered(models, model, tools=[] if parser == "qwen3-thinking" else [ADD])
    thinking, content, arguments = parts or ("", script, None)
    assert reply.parts == (thinking, content, [] if arguments is None else [("add", arguments)])


HARMONIOUS = [{"create": {"parser": "harmony"}}, {"create": {"info": {"model_family": "gptoss"}}}]


@pytest.mark.parametrize("how", HARMONIOUS, ids=["named", "family"])
def test_harmony_by_its_name_or_by_family_and_template(models: Models, how: Any) -> None:
    """Partly T-64: a family needs no PARSER. What it thinks and says, for T-95."""
    script = "<|channel|>analysis<|message|>think<|end|><|start|>assistant<|channel|>final<|message|>Hello"
    model = models.saying(script, HARMONY, **how)
    assert "thinking" in models.server.post("/api/show", {"model": model}).json()["capabilities"]
    for think in (None, False, "low"):
        assert answered(models, model, think=think).parts == ("think", "Hello", []), "it cannot be switched off"
    assert "Reasoning: high<" in rendered(models, model, think="max")
    reply = answered(models, model, format=ONLY_WHY, options=SAMPLED)
    assert (reply.thinking, json.loads(reply.content)) == ("think", {"x": "why"})


@pytest.mark.parametrize("how", HARMONIOUS, ids=["named", "family"])
def test_t95_harmony_has_its_own_names_for_tools(models: Models, how: Any) -> None:
    """T-95: the prompt says names that are identifiers, the reply those of the request; calls come at the end."""
    script = (
        "<|channel|>analysis<|message|>I must call.<|end|>"
        '<|start|>assistant<|channel|>commentary to=functions.get_weather_2 <|constrain|>json<|message|>{"a": 4}'
    )
    model = models.saying(script, HARMONY, **how)
    names = ["get-weather", "get weather", "browser.search", "9lives"]
    tools = [function(name, a={"type": "integer"}) for name in names]
    prompt = rendered(models, model, tools=tools)
    assert re.findall(r"type (\S+) =", prompt) == ["get_weather", "get_weather_2", "browser.search", "_9lives"]
    reply = answered(models, model, tools=tools)
    assert reply.parts == ("I must call.", "", [("get weather", {"a": 4})])
    history = [*HI, turn("assistant", thinking="hm", tool_calls=reply.raw_calls), turn("tool", "sun")]
    prompt = rendered(models, model, history, tools=tools)
    assert 'to=functions.get_weather_2 <|constrain|>json<|message|>{"a":4}<|call|>' in prompt
    assert "<|start|>functions.get_weather_2 to=assistant<|channel|>commentary<|message|>sun<|end|>" in prompt


# --- hostile templates -----------------------------------------------------------------------------------------------

DOUBLED = '{{ $x = printf "%s%s" $x $x }}' * 60
HOSTILE = {
    "recursion": '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}{{ range .Messages }}{{ end }}',
    "doubling": '{{ $x := "aaaa" }}{{ range .Messages }}' + DOUBLED + "{{ $x }}{{ end }}",
    "loops": "{{ range .Messages }}" + "{{ range $.Messages }}" * 6 + "x" + "{{ end }}" * 7,
    "nothing": "{{ range .Messages }}{{ end }}{{ .Nope.X }}",
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_template_ends_soon_and_holds_nobody_up(models: Models, template: str) -> None:
    model = make(models.server, "hostile", from_="smollm2:135m", template=template)
    messages = [turn(("user", "assistant")[n % 2], "word") for n in range(60)]
    chat(models, model, [])  # loaded
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(chat(models, model, messages)))
    began = time.monotonic()
    asking.start()
    waits = []
    while asking.is_alive():
        asked = time.monotonic()
        assert models.server.get("/api/version").status == 200
        waits.append(time.monotonic() - asked)
    asking.join()
    assert replies[0].status == 500
    assert replies[0].error.startswith("template: ")
    assert time.monotonic() - began < 10
    assert max(waits) < 1
