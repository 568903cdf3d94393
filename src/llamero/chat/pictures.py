"""Where the pictures and sounds of a conversation stand in its prompt. Pure.

Marks stand for them while the prompt is rendered, and the engine's own markers after it. A mark is Ollama's `[img-0]`,
`[img-1]`, … as long as no text of the conversation says `[img-`; else it is one that no text says, and is shown as
Ollama's. So whatever users, tools and tool results write is text and moves no picture.
Source: modelfile-templates §4.3, native-api §2.6, scheduler §12.2.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from ..messages import Message
from .media import Media

TOKENS = 768
"""What a picture counts when messages are dropped to fit the context (native-api §2.9)."""

PLACE = "[img]"
"""Where a text wants its next picture."""
Rest = Literal["front", "spaced", "behind"]
"""Where the pictures stand that a text gives no place: before it, as Go templates get them; before it and a blank, as
named renderers do; behind it, as the engine's chat does."""
_SAID = re.compile(r"\[img([0-9]*)-")
"""Beginnings of marks. The digits tell kinds of marks apart; Ollama's has none."""
_BREAK = "\N{WORD JOINER}"
"""Put into the engine's own marker where a text holds it: invisible, and the engine takes the text for text."""

_END = "\n"
"""Behind a picture that nothing follows: the engine answers from a token, and ends itself when there is none."""


@dataclass(frozen=True, slots=True)
class EnginePrompt:
    """A rendered prompt as `/completion` takes it."""

    pieces: tuple[str, ...]
    """The text before, between and behind the pictures."""
    shown: tuple[Media, ...] = ()
    marker: str = ""
    """What stands for a picture."""
    left_out: int = 0
    """Pictures that the template did not print."""

    @property
    def prompt(self) -> str | dict[str, Any]:
        """The body's `prompt`: plain text when it shows no picture."""
        text = self.marker.join(self.pieces)
        if not self.shown:
            return text
        return {"prompt_string": text, "multimodal_data": [base64.b64encode(each.data).decode() for each in self.shown]}

    @property
    def warnings(self) -> tuple[str, ...]:
        if not self.left_out:
            return ()
        return (f"the model's template has no place for {self.left_out} of the images, which were left out",)


@dataclass(frozen=True, slots=True)
class Marked:
    """A conversation with a mark in its texts for every picture, and which picture each mark means."""

    messages: tuple[Message, ...]
    pictures: tuple[bytes, ...] = ()
    """By number."""
    kind: str = ""
    """The digits of the marks: `[img<kind>-<number>]`."""

    @property
    def texts(self) -> tuple[Message, ...]:
        """The messages without their pictures, which only the marks in their texts stand for."""
        return tuple(
            dataclasses.replace(message, images=()) if message.images else message for message in self.messages
        )

    def shown(self, text: str) -> str:
        """A rendered prompt for people to read: every mark is Ollama's."""
        return text.replace(f"[img{self.kind}-", "[img-") if self.kind else text

    def engine_prompt(self, text: str, media: Mapping[bytes, Media], media_marker: str) -> EnginePrompt:
        """A rendered prompt for the engine: markers in the text, data in the order of the markers.

        A mark that a template prints twice is the picture once, and then text. `media_marker` is the engine's own.
        """
        pieces, shown, at = [], list[Media](), 0
        waiting = dict(enumerate(self.pictures))
        for mark in re.finditer(rf"\[img{self.kind}-([0-9]{{1,9}})\]", text):
            picture = waiting.pop(int(mark[1]), None)
            if picture is not None:
                pieces.append(text[at : mark.start()])
                shown.append(media[picture])
                at = mark.end()
        if not shown:
            return EnginePrompt((self.shown(text),), left_out=len(waiting))
        harmless = tuple(_harmless(self.shown(piece), media_marker) for piece in (*pieces, text[at:] or _END))
        return EnginePrompt(harmless, tuple(shown), media_marker, len(waiting))


def marked(messages: Sequence[Message], besides: Iterable[str] = (), *, rest: Rest = "front") -> Marked:
    """Give every picture its mark, numbered over all messages.

    Each takes the next literal `[img]` of its message, and `rest` says where those left over stand. `besides` are other
    texts that get into the prompt: tools, a context.
    """
    pictures = tuple(picture for message in messages for picture in message.images)
    if not pictures:
        return Marked(tuple(messages))
    kind = _unsaid(itertools.chain(besides, *map(_texts, messages)))
    marks = (f"[img{kind}-{number}]" for number in itertools.count())
    return Marked(tuple(_placed(message, marks, rest) for message in messages), pictures, kind)


def marked_prompt(prompt: str, images: Sequence[bytes]) -> Marked:
    """A prompt that is text already, as one message: its own `[img-N]` are marks, the other pictures as always."""
    named = {int(number) for number in re.findall(r"\[img-([0-9]{1,9})\]", prompt)}
    others = [number for number in range(len(images)) if number not in named]
    message = Message("user", prompt, images=tuple(images[number] for number in others))
    placed = _placed(message, (f"[img-{number}]" for number in others), "front")
    return Marked((dataclasses.replace(placed, images=tuple(images)),), tuple(images))


def without_marker(messages: Iterable[Message], media_marker: str) -> tuple[Message, ...]:
    """A conversation for the engine's chat, which would take its own marker in a text for one picture more."""
    return tuple(
        dataclasses.replace(message, content=_harmless(message.content, media_marker))
        if media_marker in message.content
        else message
        for message in messages
    )


def image_tokens(messages: Iterable[Message], *, has_projector: bool) -> int:
    """What the pictures of a conversation count; nothing for a model that cannot look at them (T-67)."""
    return TOKENS * sum(len(message.images) for message in messages) if has_projector else 0


def _harmless(text: str, media_marker: str) -> str:
    return text.replace(media_marker, media_marker[:1] + _BREAK + media_marker[1:])


def _placed(message: Message, marks: Iterator[str], rest: Rest) -> Message:
    """The message with the next mark for each of its pictures, in one pass over its text."""
    if not message.images:
        return message
    mine = list(itertools.islice(marks, len(message.images)))
    first, *others = message.content.split(PLACE, len(mine))
    text = first + "".join(mark + piece for mark, piece in zip(mine, others, strict=False))
    left = "".join(mine[len(others) :])
    if rest == "behind":
        text += left
    else:
        text = left + (" " if rest == "spaced" and left and text and not text[0].isspace() else "") + text
    return dataclasses.replace(message, content=text)


def _texts(message: Message) -> Iterator[str]:
    yield from (message.role, message.content, message.thinking, message.tool_name, message.tool_call_id)
    yield from (msgspec.json.encode(call).decode() for call in message.tool_calls)


def _unsaid(texts: Iterable[str]) -> str:
    """A kind of mark that none of the texts says."""
    said = {digits for text in texts for digits in _SAID.findall(text)}
    return next(kind for kind in itertools.chain([""], map(str, itertools.count(1))) if kind not in said)
