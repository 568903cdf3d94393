"""What a client sees of each family's raw output, whoever reads it: the engine or we. modelfile-templates §8.3, §9.

Each model is a parrot that names its family's renderer and parser and brings no Jinja, so one of ours renders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import Server, running
from tests.server.go_models import Models, function

ADD = function(
    "add",
    a={"type": "integer"},
    b={"type": "string"},
    f={"type": "number"},
    l={"type": "array"},
    t={"type": "boolean"},
    required=["a"],
)
GLM_ADD = function("add", a={"type": "integer"}, b={"type": "string"}, required=["a"])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder: Path = tmp_path_factory.mktemp("families")
    with running(folder, folder / "models", OLLAMA_CONTEXT_LENGTH="4096") as server:
        yield Models(server, folder)


def heard(server: Server, model: str, *, stream: bool, tools: Any, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    options = {"temperature": 0, "num_predict": 400}
    body = {"model": model, "messages": messages, "tools": tools, "options": options, "stream": stream, **body}
    lines = server.post("/api/chat", body).lines()
    said = [line["message"] for line in lines]
    calls = [call["function"] for message in said for call in message.get("tool_calls", [])]
    return {
        "thinking": "".join(message.get("thinking", "") for message in said).strip(),
        "content": "".join(message["content"] for message in said).strip(),
        "calls": [(call["index"], call["arguments"]) for call in calls if call["name"] == "add"],
    }


def xml(**arguments: str) -> str:
    values = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in arguments.items())
    return f"<tool_call>\n<function=add>\n{values}</function>\n</tool_call>"


def deepseek(*calls: str) -> str:
    inside = "".join(f"<｜tool▁call▁begin｜>add<｜tool▁sep｜>{call}<｜tool▁call▁end｜>" for call in calls)
    return f"<｜tool▁calls▁begin｜>{inside}<｜tool▁calls▁end｜>"


TYPED = {"a": 3, "b": "x<y & z", "f": 2, "l": [1, 2], "t": True}


@pytest.mark.parametrize(
    ("renderer", "parser", "script", "think", "thinking", "content", "calls"),
    [
        pytest.param(
            "qwen3-coder",
            "qwen3-coder",
            xml(a="3", b="x<y & z", f="2.0", l="[1,2]", t="true"),  # the engine lets nobody write `True`
            None,
            "",
            "",
            [TYPED],
            id="T-92",
        ),
        pytest.param("qwen3.5", "qwen3.5", "hm</think>\n\nok " + xml(a="1"), None, "hm", "ok", [{"a": 1}], id="T-93"),
        pytest.param("qwen3.5", "qwen3.5", "hm " + xml(a="1"), None, "hm", "", [{"a": 1}], id="T-93 unclosed"),
        pytest.param(
            "deepseek3.1",
            "deepseek3",
            "thought</think>ans" + deepseek('{"a":1}', '{"a":2}'),
            True,
            "thought",
            "ans",
            [{"a": 1}, {"a": 2}],
            id="T-94",
        ),
        pytest.param(
            "gemma4",
            "gemma4",
            '<|channel>thought\nhm<channel|>Answer<|tool_call>call:add{a:1,b:<|"|>x y<|"|>,l:[1,<|"|>q<|"|>],t:true}'
            "<tool_call|>",
            True,
            "hm",
            "Answer",
            [{"a": 1, "b": "x y", "l": [1, "q"], "t": True}],
            id="T-96",
        ),
        pytest.param(
            "gemma4",
            "gemma4",
            "<|channel>thought\nhm<channel|>Answer",
            False,
            "",
            "Answer",
            [],
            id="T-96 without thinking",
        ),
        pytest.param(
            "glm-4.7",
            "glm-4.7",
            "hm</think>ok<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key>"
            "<arg_value>x & <y></arg_value></tool_call>",
            None,
            "hm",
            "ok",
            [{"a": 1, "b": "x & <y>"}],
            id="T-97",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_families(
    models: Models,
    renderer: str,
    parser: str,
    script: str,
    think: bool | None,
    thinking: str,
    content: str,
    calls: list[Any],
    stream: bool,
) -> None:
    model = models.saying(script, "", create={"renderer": renderer, "parser": parser})
    tools = [GLM_ADD if parser.startswith("glm") else ADD]
    body = {} if think is None else {"think": think}
    told = heard(models.server, model, stream=stream, tools=tools, **body)
    assert told == {"thinking": thinking, "content": content, "calls": list(enumerate(calls))}
