"""Dialogues with pictures on the real engine: what they cost in a window, and what cannot move them.

Source: modelfile-templates §4.1, native-api §2.9, security X-68.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import pytest

from llamero.chat.pipeline import Tags
from llamero.engines.wire import Wire
from llamero.messages import Done, Message
from llamero.server.dialogue import Asked, Dialogue, Talk, Window
from llamero.server.engine_chat import EngineChat
from llamero.server.rendered_chat import Manner, RenderedChat
from llamero.template.render import Template, render
from tests.engines.starting import real_engine
from tests.server.tiny_models import EYES, TEXT, picture

LIMIT_TOKENS = 64
TEMPLATE = Template.parse("{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}")
WIDE = Window(2048, has_projector=True)
SAMPLING = {"temperature": 0, "n_predict": 1, "cache_prompt": False, "stream": True}
RED = picture("red")
OLD, NEW = b"an old picture", b"a new picture"
TALK = (Message("user", "a", images=(OLD,)), Message("assistant", "b"), Message("user", "c", images=(NEW,)))


async def rendered(messages: Sequence[Message]) -> str:
    return render(TEMPLATE, messages, today=date(2026, 1, 1))


@pytest.mark.parametrize("has_projector", [True, False])
async def test_t67_an_older_picture_is_dropped_and_the_kept_one_renumbered(has_projector: bool) -> None:
    """T-67: the text fits well into 64 tokens; two pictures fit only where they cost nothing."""
    window = Window(LIMIT_TOKENS + 1, has_projector=has_projector)
    async with real_engine(TEXT, projectors=(EYES,) if has_projector else ()) as engine:
        dialogue = RenderedChat(engine.wire, window, Talk(TALK), Manner(rendered, Tags()))
        assert await dialogue.fit() is has_projector
        shown = await dialogue.shown()
    if has_projector:
        assert (shown, dialogue.image_count) == ("user: [img-0]c\n", 1)
        assert dialogue.warnings == ["the conversation is longer than the context: 2 oldest messages left out"]
    else:
        assert (shown, dialogue.image_count) == ("user: [img-0]a\nassistant: b\nuser: [img-1]c\n", 2)


async def test_markers_are_not_in_the_counted_text() -> None:
    """A text that fits to the last token still fits with its pictures' markers, where pictures cost nothing."""
    async with real_engine(TEXT) as engine:
        exactly = len(await engine.wire.tokenize(await rendered([Message("user", "a" * 40)] * 2), add_special=True))
        talk = tuple(Message("user", "a" * 40, images=(NEW,)) for _ in range(2))
        dialogue = RenderedChat(engine.wire, Window(exactly + 1), Talk(talk), Manner(rendered, Tags()))
        assert not await dialogue.fit()
        tight = RenderedChat(engine.wire, Window(exactly), Talk(talk), Manner(rendered, Tags()))
        assert await tight.fit()


def rendered_chat(wire: Wire, talk: Talk) -> Dialogue:
    return RenderedChat(wire, WIDE, talk, Manner(rendered, Tags()))


def engine_chat(wire: Wire, talk: Talk) -> Dialogue:
    return EngineChat(wire, WIDE, talk, "")


@pytest.mark.parametrize("dialogue", [rendered_chat, engine_chat])
async def test_x68_whoever_knows_the_engines_own_marker_moves_nothing(dialogue: Callable[..., Dialogue]) -> None:
    """X-68: it is random here, but older engines have a fixed one."""
    async with real_engine(TEXT, projectors=(EYES,), ctx_tokens=2048) as engine:

        async def prompt_tokens(content: str) -> int:
            asked = dialogue(engine.wire, Talk((Message("user", content, images=(RED,)),)))
            await asked.read_media()
            events = [event async for event in asked.answer(Asked(SAMPLING))]
            assert isinstance(events[-1], Done)
            return events[-1].usage.prompt_tokens

        marker = await engine.wire.media_marker()
        harmless = f"{marker[:1]}\u2060{marker[1:]}"
        assert await prompt_tokens(f"{marker} [img] {marker}") == await prompt_tokens(f"{harmless} [img] {harmless}")
