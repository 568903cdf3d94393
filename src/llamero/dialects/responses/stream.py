"""A response as a stream of events, or whole. Source: compat-api §8.4 to §8.6, §8.8.

Every event has a name and a number; exactly one that ends the response comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from ...durations import SECOND
from ...errors import LlameroError
from ...messages import Finished, Started
from .. import sse
from ..openai.errors import SPEECHLESS
from .output import Event, NewId, Output, Part
from .reading import Asked
from .reply import ErrorReply, IncompleteDetails, ResponseObject, Status, usage_of


class ResponseWriter:
    """Writes one answer, either as a stream or by `whole`. `clock` tells nanoseconds since 1970."""

    def __init__(self, asked: Asked, new_id: NewId, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._output = Output(asked, new_id)
        self._sequence_number = 0
        self._begun = ResponseObject(
            id=new_id("resp"), created_at=clock() // SECOND, status="in_progress", **asked.echo
        )
        self.response = self._begun
        """As it is now: after the end, what can be kept."""

    def begin(self, started: Started) -> bytes:
        said = {"response": self._begun}
        return self._frames([("created", said), ("in_progress", said)])

    def part(self, part: Part, choice: int = 0) -> bytes:
        return self._frames(self._output.add(part))

    def finish(self, finished: Finished, choice: int = 0) -> bytes:
        return self._frames(self._finish(finished))

    def end(self, finished: Sequence[Finished]) -> bytes:
        return self._frames([(self.response.status, {"response": self.response})])

    def failed(self, error: LlameroError) -> bytes:
        said = ErrorReply("server_error", str(error) or SPEECHLESS)
        self.response = self._with("failed", output=self._output.items(), error=said)
        return self.end(())

    def queued(self) -> ResponseObject:
        """The response before anything is done for it."""
        return self._with("queued")

    def cancelled(self) -> None:
        """Nobody wants the rest."""
        self.response = self._with("cancelled", output=self._output.items())

    def idle(self) -> bytes:
        return sse.KEEP_ALIVE

    def whole(self, parts: Iterable[Part], finished: Finished) -> bytes:
        """The reply that is not streamed: the object that a stream of the same parts would end with."""
        for part in parts:
            list(self._output.add(part))
        self._finish(finished)
        return msgspec.json.encode(self.response)

    def _finish(self, finished: Finished) -> list[Event]:
        """The events of what is still open. The response is then what it will be."""
        is_cut = finished.reason == "length" or finished.is_stuck
        status: Literal["incomplete", "completed"] = "incomplete" if is_cut else "completed"
        events = list(self._output.end(status))
        self.response = self._with(
            status,
            output=self._output.items(),
            usage=usage_of(finished),
            incomplete_details=IncompleteDetails() if is_cut else None,
            completed_at=None if is_cut else self._clock() // SECOND,
        )
        return events

    def _with(self, status: Status, **changes: Any) -> ResponseObject:
        return msgspec.structs.replace(self._begun, status=status, **changes)

    def _frames(self, events: Iterable[Event]) -> bytes:
        return b"".join(map(self._frame, events))

    def _frame(self, event: Event) -> bytes:
        name, said = f"response.{event[0]}", event[1]
        number = self._sequence_number
        self._sequence_number += 1
        return sse.frame(msgspec.json.encode({"type": name, "sequence_number": number, **said}), name)
