"""Models whose chat template the engine cannot use: they answer all the same (modelfile-templates §3.5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import Reply, Server, running
from tests.server.go_models import TAGGED, Answer, Models, function

BROKEN = "{# tools <think></think> #}{% for message in messages %}{{ message.content | frobnicate }}{% endfor %}"
UNCLOSED = "{% for message in messages %}{{ message.content }}"
REFUSING = "{{ raise_exception('out of memory, it says') }}"
HI = ({"role": "user", "content": "Hi"},)
ADD = function("add", a={"type": "integer"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("refused")
    with running(folder, folder / "models", OLLAMA_CONTEXT_LENGTH="4096") as started:
        yield started


@pytest.fixture
def models(server: Server, tmp_path: Path) -> Models:
    return Models(server, tmp_path)


def chat(server: Server, model: str, **body: Any) -> Reply:
    return server.post("/api/chat", {"model": model, "messages": list(HI), "options": {"temperature": 0}, **body})


def rendered(server: Server, model: str, **body: Any) -> str:
    return str(chat(server, model, _debug_render_only=True, **body).json()["_debug_info"]["rendered_template"])


@pytest.mark.parametrize("jinja", [BROKEN, UNCLOSED, REFUSING])
def test_without_any_other_template_it_is_chatml(models: Models, jinja: str) -> None:
    model = models.saying("The answer.", "", jinja=jinja)
    answer = Answer(chat(models.server, model))
    assert answer.content == "The answer."
    assert "ChatML" in answer.last["warnings"][0]
    assert rendered(models.server, model) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_of_the_model_counts_first(models: Models) -> None:
    """One that create recognised steps back behind a Jinja that works."""
    jinja = BROKEN.replace("tools", "<|im_start|>")
    model = models.saying("The answer.", "", jinja=jinja, create={"renderer": "qwen3-coder"})
    answer = Answer(chat(models.server, model))
    assert answer.content == "The answer."
    assert "its TEMPLATE" in answer.last["warnings"][0]
    assert rendered(models.server, model) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_users_template_does_not_miss_it(models: Models) -> None:
    model = models.saying("The answer.", TAGGED, jinja=BROKEN)
    assert "warnings" not in Answer(chat(models.server, model, tools=[ADD])).last
    assert "add" in rendered(models.server, model, tools=[ADD])


def test_the_template_of_the_family_is_next(models: Models) -> None:
    model = models.saying("The answer.", "", jinja=BROKEN, create={"renderer": "qwen3-coder", "parser": "qwen3-coder"})
    answer = Answer(chat(models.server, model, tools=[ADD]))
    assert answer.content == "The answer."
    assert "template of its family" in answer.last["warnings"][0]
    assert "<name>add</name>" in rendered(models.server, model, tools=[ADD])


def test_what_the_refused_template_promised_is_not_ignored(models: Models) -> None:
    model = models.saying("The answer.", "", jinja=BROKEN)
    assert "tools" in models.server.post("/api/show", {"model": model}).json()["capabilities"]
    reply = chat(models.server, model, tools=[ADD])
    assert reply.status == 400
    assert reply.error.endswith("does not support tools")


def test_it_is_logged_once_and_tried_once(models: Models) -> None:
    model = models.saying("The answer.", "", jinja=BROKEN + "{# another file #}")
    before = models.server.log.read_text()
    for _ in range(3):
        models.server.unload_all()
        assert chat(models.server, model, stream=False).json()["message"]["content"] == "The answer."
    after = models.server.log.read_text().removeprefix(before)
    assert after.count("another takes its place") == 1
    assert after.count("engine started") == 3


def test_prompts_without_a_template_do_not_miss_it(models: Models) -> None:
    model = models.saying("The answer.", "", jinja=BROKEN)
    raw = models.server.post("/api/generate", {"model": model, "prompt": "Hi", "raw": True, "stream": False}).json()
    assert raw["response"] == "The answer."
