"""Chat templates that do not come to an end with what somebody said: the engine ends, the request does, others go on.

Those that already do so when their model is loaded: test_hostile_templates.py. Source: security §5 (template bombs).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llamero.engines import wire
from llamero.engines.llamacpp import LlamaCpp
from llamero.errors import TemplateStuck
from llamero.messages import Event, Message, Text
from llamero.server import engine_chat
from llamero.server.dialogue import Asked, Talk, Window
from llamero.server.engine_chat import EngineChat
from tests.engines.starting import eventually, fake_engine, gone
from tests.fake_llama_server import read_record
from tests.running import Reply, running
from tests.server.go_models import Models

CHAT, TEMPLATE = "/v1/chat/completions", "/apply-template"
HOLD = [{"hold": True}]
STUCK = "the model's chat template takes longer than 0.1 s on this conversation"

fast = pytest.mark.skipif(sys.platform == "win32", reason="the fake is started by a shell script")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(wire, "TEMPLATE_S", 0.1)
    monkeypatch.setattr(engine_chat, "QUIET_S", 0.1)


def answer(engine: LlamaCpp) -> Any:
    """The events of an answer, which are a list when it is over."""

    async def told() -> list[Event]:
        chat = EngineChat(engine.wire, Window(512), Talk((Message("user", "Hi"),), think=True), "<think></think>")
        async with contextlib.aclosing(chat.answer(Asked({"n_predict": 9}))) as events:
            return [event async for event in events]

    return told()


def asked(folder: Path) -> list[str]:
    return [each["path"] for each in read_record(folder, "request")]


@fast
@pytest.mark.usefixtures("soon")
async def test_a_rendering_that_does_not_end_is_the_end_of_its_engine(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"replies": {TEMPLATE: HOLD}}) as engine:
        with pytest.raises(TemplateStuck, match=STUCK):
            await engine.wire.apply_template({})
        await gone(engine.pid)


@fast
@pytest.mark.usefixtures("soon")
async def test_so_is_one_that_nobody_waits_for(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"replies": {TEMPLATE: HOLD}}) as engine:
        waiting = asyncio.create_task(engine.wire.apply_template({}))
        await eventually(lambda: asked(tmp_path))
        waiting.cancel()
        await gone(engine.pid)


@fast
@pytest.mark.usefixtures("soon")
async def test_an_answer_that_is_stuck_in_its_template(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"replies": {CHAT: HOLD, TEMPLATE: HOLD}}) as engine:
        with pytest.raises(TemplateStuck, match=STUCK):
            await answer(engine)
        await gone(engine.pid)


@fast
@pytest.mark.usefixtures("soon")
async def test_an_answer_that_is_stuck_when_its_client_leaves(tmp_path: Path) -> None:
    async with fake_engine(tmp_path, {"replies": {CHAT: HOLD, TEMPLATE: HOLD}}) as engine:
        waiting = asyncio.create_task(answer(engine))
        await eventually(lambda: asked(tmp_path))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await gone(engine.pid)


@fast
async def test_a_prompt_that_is_long_to_read_is_none_the_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_chat, "QUIET_S", 0.1)
    said = [{"choices": [{"delta": {"content": "Hello"}}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
    reply = [{"pause": 0.5}, *({"send": each} for each in said)]
    async with fake_engine(tmp_path, {"replies": {CHAT: reply}}) as engine:
        assert Text("Hello") in await answer(engine)
        assert asked(tmp_path) == [CHAT, TEMPLATE]


@fast
async def test_nothing_is_tried_where_the_answer_comes_at_once(tmp_path: Path) -> None:
    async with fake_engine(tmp_path) as engine:
        assert Text("Hello") in await answer(engine)
        assert asked(tmp_path) == [CHAT]


# --- for real --------------------------------------------------------------------------------------------------------

FUSE = "boom"
BOMB = (
    "{% for message in messages %}{{ message.content }}"
    "{% if message.content == '" + FUSE + "' %}"
    "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}"
    "{% endif %}{% endfor %}"
)
"""Harmless when it is tried out, and with most of what people say."""
LIMIT_S = 10.0
"""TEMPLATE_S of a server as it is, whose QUIET_S is half of that."""


@pytest.mark.heavy
@pytest.mark.engine
def test_a_template_with_a_fuse(tmp_path: Path) -> None:
    """Whichever way the prompt goes: an error in time, another engine for whoever comes next, others undisturbed."""
    with running(tmp_path, tmp_path / "models", OLLAMA_CONTEXT_LENGTH="512") as server:
        models = Models(server, tmp_path)
        bomb = models.saying("Hello there.", "", jinja=BOMB)
        sound = models.saying("Hello there.", "", jinja="{% for m in messages %}{{ m.content }}{% endfor %}")

        def ask(model: str, content: str, way: str, **more: Any) -> Reply:
            said = {"messages": [{"role": "user", "content": content}]} if way == "chat" else {"prompt": content}
            return server.post(f"/api/{way}", {"model": model, **said, "stream": False, **more})

        def answers(model: str) -> bool:
            return bool(ask(model, "Hi", "chat").json()["message"]["content"] == "Hello there.")

        assert answers(sound)
        for way, more, limit_s in (
            ("chat", {}, 1.5 * LIMIT_S),
            ("chat", {"_debug_render_only": True}, LIMIT_S),
            ("generate", {}, LIMIT_S),
        ):
            assert answers(bomb)
            began = time.monotonic()
            reply = ask(bomb, FUSE, way, **more)
            assert reply.status == 500, reply.body
            assert reply.error == "the model's chat template takes longer than 10 s on this conversation"
            assert LIMIT_S - 1 < time.monotonic() - began < limit_s + 2
            assert answers(sound)
            server.wait_until(lambda: len(server.engines()) == 1)
