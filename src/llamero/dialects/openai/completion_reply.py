"""The answers to a completion, written whole or as a stream. Source: compat-api §6.2, §6.3, §2.4.

Thinking has no place in this form: it counts in the usage only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ...errors import LlameroError
from ...messages import Finished, Logprob, Started, Text, Thinking, ToolCall
from .. import sse
from .completions import Completion
from .errors import write_error
from .reply import Head, UsageReply, by_likelihood, finite, system_fingerprint, usage_of

Part = Text | Thinking | ToolCall
Answer = tuple[Sequence[Part], Finished]

OBJECT = "text_completion"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Echo:
    """A prompt as it stands in front of its answers."""

    text: str
    logprobs: tuple[Logprob, ...] = ()
    """Of its tokens, where they were asked for. What the first one holds is not told: nothing stood before it."""


class LogprobsReply(msgspec.Struct):
    """Four lists of one length, an entry for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]
    """In characters, from the start of the choice's text."""

    def extend(self, more: LogprobsReply) -> None:
        self.tokens += more.tokens
        self.token_logprobs += more.token_logprobs
        self.top_logprobs += more.top_logprobs
        self.text_offset += more.text_offset


class ChoiceReply(msgspec.Struct):
    text: str
    index: int
    logprobs: LogprobsReply | None
    finish_reason: Literal["stop", "length"] | None


class CompletionReply(msgspec.Struct):
    """The whole reply, or a chunk of a stream."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChoiceReply]
    usage: UsageReply | UnsetType | None = UNSET


def write_completion(head: Head, asked: Completion, answers: Sequence[Answer], echoes: Sequence[Echo] = ()) -> bytes:
    """The whole reply; `answers` to `asked.requests()`, of which the best are chosen, and an echo for each prompt."""
    choices: list[ChoiceReply] = []
    for number in range(len(asked.prompts)):
        echo = echoes[number] if echoes else Echo("")
        made = answers[number * asked.best_of : (number + 1) * asked.best_of]
        choices += [_choice(len(choices) + k, asked, echo, answer) for k, answer in enumerate(_best(made, asked.n))]
    finished = [end for _, end in answers]
    return _encode(
        CompletionReply(
            head.id,
            OBJECT,
            head.created_s,
            head.model,
            system_fingerprint(finished[0].fingerprint),
            choices,
            usage_of(finished, asked.best_of),
        )
    )


def _choice(index: int, asked: Completion, echo: Echo, answer: Answer) -> ChoiceReply:
    parts, finished = answer
    texts = [part for part in parts if isinstance(part, Text)]
    logprobs = None
    if asked.logprobs:
        logprobs = _logprobs(echo.logprobs, 0, is_echo=True)
        logprobs.extend(_logprobs([entry for text in texts for entry in text.logprobs], len(echo.text)))
    return ChoiceReply(echo.text + "".join(text.text for text in texts), index, logprobs, finished.reason)


def _best(answers: Sequence[Answer], n: int) -> Sequence[Answer]:
    """The `n` likeliest by the mean logprob of their tokens; in the order in which they were made if all are wanted."""
    if len(answers) == n:
        return answers
    return sorted(answers, key=_mean_logprob, reverse=True)[:n]


def _mean_logprob(answer: Answer) -> float:
    values = [finite(entry) for part in answer[0] if not isinstance(part, ToolCall) for entry in part.logprobs]
    return math.fsum(values) / len(values) if values else -math.inf


@dataclass(slots=True)
class CompletionStream:
    """Writes the chunks of a stream; several choices may come in any order and mixed."""

    head: Head
    asked: Completion
    echoes: Sequence[Echo] = ()
    """One for each prompt, or none."""
    _fingerprint: str = ""
    _chars: dict[int, int] = field(default_factory=dict)
    """How much of each choice has been written."""

    def begin(self, started: Started) -> bytes:
        self._fingerprint = system_fingerprint(started.fingerprint)
        return b""

    def part(self, part: Part, choice: int = 0) -> bytes:
        if not isinstance(part, Text) or not (part.text or part.logprobs):
            return b""
        return self._echo(choice) + self._chunk(choice, part.text, part.logprobs)

    def finish(self, finished: Finished, choice: int = 0) -> bytes:
        return self._echo(choice) + self._frame([ChoiceReply("", choice, None, finished.reason)])

    def end(self, finished: Sequence[Finished]) -> bytes:
        usage = b""
        if self.asked.include_usage:
            usage = self._frame([], usage_of(finished, self.asked.n))
        return usage + sse.DONE

    def failed(self, error: LlameroError) -> bytes:
        return sse.frame(write_error(error, prompt="prompt")) + sse.DONE

    def idle(self) -> bytes:
        return sse.KEEP_ALIVE

    def _echo(self, choice: int) -> bytes:
        """The prompt, before a choice says its first word."""
        if choice in self._chars:
            return b""
        self._chars[choice] = 0
        if not self.echoes:
            return b""
        echo = self.echoes[choice // self.asked.n]
        return self._chunk(choice, echo.text, echo.logprobs, is_echo=True)

    def _chunk(self, choice: int, text: str, entries: Sequence[Logprob], *, is_echo: bool = False) -> bytes:
        logprobs = _logprobs(entries, self._chars[choice], is_echo=is_echo) if self.asked.logprobs else None
        self._chars[choice] += len(text)
        return self._frame([ChoiceReply(text, choice, logprobs, None)])

    def _frame(self, choices: list[ChoiceReply], usage: UsageReply | None = None) -> bytes:
        head = self.head
        return sse.frame(
            _encode(
                CompletionReply(
                    head.id,
                    OBJECT,
                    head.created_s,
                    head.model,
                    self._fingerprint,
                    choices,
                    usage if self.asked.include_usage else UNSET,
                )
            )
        )


def _logprobs(entries: Sequence[Logprob], offset: int, *, is_echo: bool = False) -> LogprobsReply:
    """`offset` is where the first token begins."""
    written = LogprobsReply([], [], [], [])
    for entry in entries:
        is_first = is_echo and not written.tokens
        written.tokens.append(entry.token)
        written.token_logprobs.append(None if is_first else finite(entry))
        written.top_logprobs.append(None if is_first else _likeliest(entry))
        written.text_offset.append(offset)
        offset += len(entry.token)
    return written


def _likeliest(entry: Logprob) -> dict[str, float]:
    """The likeliest tokens at a place, the one that was taken always among them."""
    likeliest: dict[str, float] = {}
    for each in (*by_likelihood(entry.top), entry):
        likeliest.setdefault(each.token, finite(each))  # of two tokens that read the same the likelier one is told
    return likeliest
