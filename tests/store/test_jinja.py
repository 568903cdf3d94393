"""Our own Jinja templates, in the engine that renders them: its prompts, and its reading of the answers (§8.3)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llamero.chat.jinja import thinking_arguments
from llamero.engines.llamacpp import LlamaCpp
from llamero.messages import Done, Text, Think, Thinking, ToolCall
from llamero.store import jinja
from llamero.store.jinja import bundled_jinja, gemma4_renderer
from tests.engines.starting import real_engine
from tests.parrot import write_parrot
from tests.store.jinja_families import CHATML, FAMILIES, Family

pytestmark = pytest.mark.engine
in_engine = pytest.mark.asyncio(loop_scope="module")
"""For tests that share an engine per family, one after the other."""

TYPES = {"a": "integer", "b": "string", "f": "number", "l": "array", "t": "boolean"}


def tool(name: str, **types: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in types.items()}
    parameters = {"type": "object", "properties": properties, "required": []}
    return {"type": "function", "function": {"name": name, "description": f"Can {name}.", "parameters": parameters}}


TOOLS = [tool("add", **TYPES), tool("get", q="string")]

HELLO = [{"role": "user", "content": "Hi"}]


def called(name: str, arguments: str, number: int = 0) -> dict[str, Any]:
    return {"id": f"call{number:05}", "type": "function", "function": {"name": name, "arguments": arguments}}


def result(content: str, name: str, number: int = 0) -> dict[str, Any]:
    return {"role": "tool", "content": content, "name": name, "tool_call_id": f"call{number:05}"}


ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add."},
    {
        "role": "assistant",
        "content": "",
        "reasoning_content": "hm",
        "tool_calls": [called("add", '{"a":1,"b":"x y"}')],
    },
    result("42", "add"),
]
THANKED = [*ASKED, {"role": "assistant", "content": "It is 42."}, {"role": "user", "content": "Thanks."}]


def merged(events: Sequence[Any]) -> list[Any]:
    """An answer's thinking, text and calls, each run of text as one, and calls as (index, name, arguments)."""
    whole: list[Any] = []
    for event in events:
        match event:
            case ToolCall():
                whole.append((event.index, event.name, event.arguments))
            case Text() | Thinking() if whole and type(whole[-1]) is type(event):
                whole[-1] = type(event)(whole[-1].text + event.text)
            case Text() | Thinking() if event.text:
                whole.append(type(event)(event.text))
    return whole


@dataclass(frozen=True, slots=True)
class Started:
    family: Family
    engine: LlamaCpp
    template: str

    async def prompt(self, messages: list[Any], think: Think, **body: Any) -> str:
        return await self.engine.wire.apply_template(self._body(messages, think, body))

    async def answer(self, think: Think = True, **body: Any) -> list[Any]:
        whole = {"temperature": 0, "n_predict": 400, "stream": True, **self._body(HELLO, think, body)}
        events = [event async for event in self.engine.wire.chat(whole)]
        assert isinstance(events[-1], Done)
        assert events[-1].reason == "stop"
        return merged(events)

    def _body(self, messages: list[Any], think: Think, body: dict[str, Any]) -> dict[str, Any]:
        return {"messages": messages, "chat_template_kwargs": thinking_arguments(think, self.template), **body}


@asynccontextmanager
async def speaking(folder: Path, name: str, script: str) -> AsyncIterator[Started]:
    """An engine of one's own, with another script."""
    template = bundled_jinja(renderer=name, parser="", family="")
    model = write_parrot(folder / "model.gguf", script)
    async with real_engine(model, chat_template=template, ctx_tokens=4096) as engine:
        yield Started(Family(name, "", "", "", script, []), engine, template)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=FAMILIES, ids=lambda family: family.name)
async def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Started]:
    """An engine for each family, which says its script to every prompt."""
    family: Family = request.param
    model = tmp_path_factory.mktemp("parrot") / "model.gguf"
    write_parrot(model, family.script or "unused", specials=family.specials)
    template = bundled_jinja(renderer=family.name, parser="", family="")
    async with real_engine(model, chat_template=template, ctx_tokens=4096) as engine:
        yield Started(family, engine, template)


@in_engine
async def test_thinking_is_a_matter_of_the_prompt(started: Started) -> None:
    family = started.family
    prompt = await started.prompt(HELLO, True)
    assert prompt.endswith(family.hello) if family.name == "harmony" else prompt == family.hello
    quiet = await started.prompt(HELLO, False)
    assert quiet.endswith(family.quiet) if family.name == "harmony" else quiet == family.quiet


@in_engine
async def test_system_text_and_tools(started: Started) -> None:
    prompt = await started.prompt([ASKED[0], *HELLO], True, tools=TOOLS)
    for part in started.family.parts:
        assert part in prompt
    if started.family.knows_tools:
        assert prompt.index("add") < prompt.index("get")


@in_engine
async def test_a_round_trip_of_a_tool(started: Started) -> None:
    prompt = await started.prompt(THANKED, True, tools=TOOLS[:1])
    assert prompt[prompt.rindex("Add.") :] == started.family.call


@in_engine
async def test_two_calls_and_a_conversation_in_disorder(started: Started) -> None:
    """Several system texts, a call beside text, an argument of every kind, results without names: nothing is lost."""
    calls = [called("add", '{"l":[1,{"k":null}],"t":false,"b":"<&\\"ü"}'), called("get", '{"q":"zzz"}', 1)]
    results = [{"role": "tool", "content": text, "tool_call_id": f"call{n:05}"} for n, text in enumerate(("R0", "R1"))]
    conversation = [
        *ASKED[:2],
        {"role": "system", "content": "Later."},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        *results,
    ]
    prompt = await started.prompt(conversation, True, tools=TOOLS)
    expected = ["Let me see.", "zzz", "R0", "R1"] if started.family.knows_tools else ["Let me see.", "R0", "R1"]
    places = [prompt.index(word, prompt.index("Add.")) for word in expected]
    assert places == sorted(places)
    if started.family.knows_tools:
        assert "ü" in prompt
    assert "Later." in prompt


@in_engine
async def test_the_engine_reads_the_answer(started: Started) -> None:
    if started.family.script:
        assert await started.answer(tools=TOOLS, parallel_tool_calls=True) == started.family.read


@pytest.mark.parametrize(
    ("name", "think", "script", "read"),
    [
        pytest.param("qwen3.5", True, "hm</think>\n\nok", [Thinking("hm"), Text("ok")], id="partly T-93"),
        pytest.param("qwen3.5", False, "ok", [Text("ok")], id="it was told not to think"),
        pytest.param("deepseek3.1", False, "thought</think>ans", [Text("thought</think>ans")], id="partly T-94"),
        pytest.param("cogito", True, "hm\n</think>\nok", [Thinking("hm\n"), Text("ok")], id="cogito thinks"),
        pytest.param(
            "harmony",
            True,
            "<|channel|>analysis<|message|>think<|end|><|start|>assistant<|channel|>final<|message|>Hello",
            [Thinking("think"), Text("Hello")],
            id="partly T-95",
        ),
        pytest.param("functiongemma", None, "Just text", [Text("Just text")], id="functiongemma without tools"),
        pytest.param(
            "cohere", True, "hm<|END_THINKING|><|START_TEXT|>ok", [Thinking("hm"), Text("ok")], id="cohere thinks"
        ),
        pytest.param("cohere", False, "<|START_TEXT|>ok", [Text("ok")], id="cohere does not"),
        pytest.param(
            "glimmer",
            True,
            " to=self<|message|>hm<|eom|><|start|>assistant to=user<|message|>ok",
            [Thinking("hm"), Text("ok")],
            id="glimmer thinks",
        ),
    ],
)
async def test_answers_without_tools(tmp_path: Path, name: str, think: Think, script: str, read: list[Any]) -> None:
    async with speaking(tmp_path, name, script) as started:
        assert await started.answer(think) == read


@pytest.mark.parametrize(("name", "before"), [("qwen3.5", ""), ("ornith", "<think>\nhm\n</think>\n\n")])
async def test_which_of_two_with_one_template_is_told_its_old_thoughts(tmp_path: Path, name: str, before: str) -> None:
    answered = {"role": "assistant", "content": "Hello.", "reasoning_content": "hm"}
    async with speaking(tmp_path, name, "unused") as started:
        prompt = await started.prompt([*HELLO, answered, *HELLO], True)
        assert f"<|im_start|>assistant\n{before}Hello.<|im_end|>" in prompt


@pytest.mark.parametrize("name", ["deepseek3.1", "cogito", "gemma4-small", "gemma4-large", "ministral"])
async def test_an_answer_right_behind_a_result_has_no_header(tmp_path: Path, name: str) -> None:
    """In these families the assistant's turn goes on behind the result, and the engine reads what comes."""
    async with speaking(tmp_path, name, "It is 42.") as started:
        prompt = await started.prompt(ASKED, True, tools=TOOLS)
        assert prompt.partition("42")[2] in (
            "<｜tool▁output▁end｜>",
            "<｜tool▁output▁end｜><｜tool▁outputs▁end｜>",
            '<|"|>}<tool_response|>',
            "[/TOOL_RESULTS]",
        )
        assert await started.answer(messages=ASKED, tools=TOOLS) == [Text("It is 42.")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param(
            "qwen3.8",
            {"low": "effort is set to low.", "medium": "", "high": "effort is set to xhigh.", "max": "set to xhigh."},
            id="qwen3.8: two of the three have a sentence",
        ),
        pytest.param(
            "harmony",
            {False: "Reasoning: low\n", True: "Reasoning: medium\n", "high": "Reasoning: high\n", "max": ": high\n"},
            id="harmony: there is no off",
        ),
        pytest.param(
            "glimmer",
            {False: "strength: none.", True: "strength: high.", "low": "strength: low.", "max": "strength: max."},
            id="glimmer",
        ),
        pytest.param(
            "nemotron-3.5-nano",
            {"low": "", "medium": "Hi\n\n{reasoning effort: efficient}<|im_end|>", "high": ""},
            id="nemotron: medium alone is special",
        ),
    ],
)
async def test_levels_of_thinking(tmp_path: Path, name: str, said: dict[Think, str]) -> None:
    """T-99: with the arguments that our own templates ask for, each level says what it means."""
    async with speaking(tmp_path, name, "unused") as started:
        for think, words in said.items():
            prompt = await started.prompt(HELLO, think)
            assert words in prompt
            if not words:
                assert "effort" not in prompt


async def test_words_that_switch_thinking(tmp_path: Path) -> None:
    """Nemotron 3: the last of the user's words decide, and are no part of the text."""
    async with speaking(tmp_path, "nemotron-3-nano", "unused") as started:
        for text, tail in (("Hi /no_think", "<think></think>"), ("/think Hi", "<think>\n")):
            prompt = await started.prompt([{"role": "user", "content": text}], True)
            assert prompt.endswith(CHATML + tail)


def test_t99_arguments_of_our_templates() -> None:
    """T-99"""

    def arguments(think: Think, name: str) -> dict[str, Any]:
        return thinking_arguments(think, bundled_jinja(renderer=name, parser="", family=name))

    assert arguments("high", "qwen3.8")["reasoning_effort"] == "xhigh"
    assert arguments("max", "gptoss")["reasoning_effort"] == "high"
    assert arguments(False, "glimmer")["reasoning_strength"] == "none"
    assert arguments(True, "deepseek3.1") == {"enable_thinking": True, "thinking": True}
    assert arguments("medium", "nemotron-3.5-nano") == {"enable_thinking": True, "medium_effort": True}
    assert arguments(None, "olmo3") == {}


# --- which one --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "file"),
    [
        ({"renderer": "qwen3-coder", "parser": "glm-4.7", "family": "gptoss"}, "qwen3-coder"),
        ({"renderer": "made up", "parser": "glm-4.7", "family": "gptoss"}, "glm-4.7"),
        ({"parser": "qwen3"}, "qwen3"),
        ({"parser": "qwen3-thinking"}, "qwen3-thinking"),
        ({"renderer": "qwen3-vl-thinking"}, "qwen3-thinking"),
        ({"renderer": "ornith"}, "qwen3.5"),
        ({"parser": "deepseek3"}, "deepseek3.1"),
        ({"renderer": "olmo3.1", "parser": "olmo3"}, "olmo3"),
        ({"family": "gptoss"}, "harmony"),
        ({"family": "gpt-oss"}, "harmony"),
    ],
)
def test_renderer_then_parser_then_family(names: dict[str, str], file: str) -> None:
    found = bundled_jinja(**{"renderer": "", "parser": "", "family": "", **names})
    assert found.endswith(files(jinja).joinpath(f"{file}.jinja").read_text("utf-8"))


@pytest.mark.parametrize("name", ["", "passthrough", "llama", "../qwen3", "QWEN3"])
def test_no_template(name: str) -> None:
    assert bundled_jinja(renderer=name, parser=name, family=name) == ""


def test_every_file_is_somebodys() -> None:
    present = {path.name.removesuffix(".jinja") for path in files(jinja).iterdir() if path.name.endswith(".jinja")}
    tried = {family.name for family in FAMILIES}
    assert present <= tried | {"deepseek3.1", "gemma4"}


@pytest.mark.parametrize(
    ("name", "parameters", "renderer"),
    [
        ("gemma4:e2b", 99 * 10**9, "gemma4-small"),
        ("me/Gemma4-E4B-it", 0, "gemma4-small"),
        ("gemma4:26b-a4b", 0, "gemma4-large"),
        ("mine", 12 * 10**9, "gemma4-large"),
        ("mine", 12 * 10**9 - 1, "gemma4-small"),
    ],
)
def test_gemma4_small_or_large(name: str, parameters: int, renderer: str) -> None:
    assert gemma4_renderer(name, parameters) == renderer
