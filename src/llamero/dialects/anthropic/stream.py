"""An answer as a stream of events. Source: compat-api §9.7, §2.4 for errors, §1.4 for silence.

One block is open at a time. It is stopped before another kind begins, and before the message ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...errors import LlameroError
from ...messages import Finished, Started, Text, Thinking, ToolCall
from .. import sse
from .errors import write_error
from .reply import Frame, Part, input_usage, stop_of, usage_of


def _event(name: str, **fields: Any) -> bytes:
    return sse.frame(msgspec.json.encode({"type": name, **fields}), name)


_PING = _event("ping")


class StreamWriter:
    def __init__(self, frame: Frame, request_id: str) -> None:
        self._frame = frame
        self._request_id = request_id
        self._index = -1
        """Of the block that is open, or was last."""
        self._open: type[Text] | type[Thinking] | None = None
        """What is in the block that is open."""
        self._thoughts: list[str] = []
        """What the open block of thinking holds, to be signed."""
        self._calls: set[str] = set()

    def begin(self, started: Started) -> bytes:
        usage = {**input_usage(started.prompt_tokens or 0, started.cached_tokens or 0), "output_tokens": 0}
        message = self._frame.message([], {"stop_reason": None, "stop_sequence": None}, usage)
        return _event("message_start", message=message) + _PING

    def part(self, part: Part, choice: int = 0) -> bytes:
        if not self._frame.visible(part):
            return b""
        if isinstance(part, ToolCall):
            return self._tool_use(part)
        change = b"" if self._open is type(part) else self._close() + self._begin_block(type(part))
        if isinstance(part, Text):
            return change + self._delta("text_delta", text=part.text)
        self._thoughts.append(part.text)
        if self._frame.display == "omitted":
            return change
        return change + self._delta("thinking_delta", thinking=part.text)

    def finish(self, finished: Finished, choice: int = 0) -> bytes:
        stop = stop_of(finished, self._frame.max_tokens, has_calls=bool(self._calls))
        return self._close() + _event("message_delta", delta=stop, usage=usage_of(finished))

    def end(self, finished: Sequence[Finished]) -> bytes:
        return _event("message_stop")

    def failed(self, error: LlameroError) -> bytes:
        return sse.frame(write_error(error, self._request_id), "error")

    def idle(self) -> bytes:
        return _PING

    def _tool_use(self, call: ToolCall) -> bytes:
        """A call comes whole; the first of its two fragments is empty, for clients that take it as the beginning."""
        id_ = self._frame.tool_id(call)
        if id_ in self._calls:
            return b""
        self._calls.add(id_)
        before = self._close()
        arguments = msgspec.json.encode(call.arguments).decode()
        return b"".join(
            (
                before,
                self._start({"type": "tool_use", "id": id_, "name": call.name, "input": {}}),
                self._delta("input_json_delta", partial_json=""),
                self._delta("input_json_delta", partial_json=arguments),
                self._stop(),
            )
        )

    def _begin_block(self, kind: type[Text] | type[Thinking]) -> bytes:
        self._open = kind
        if kind is Text:
            return self._start({"type": "text", "text": ""})
        return self._start({"type": "thinking", "thinking": "", "signature": ""})

    def _close(self) -> bytes:
        """Stop the block of text or thinking that is open, if there is one."""
        kind, self._open = self._open, None
        if kind is None:
            return b""
        if kind is Text:
            return self._stop()
        signature = self._frame.sign("".join(self._thoughts))
        self._thoughts.clear()
        return self._delta("signature_delta", signature=signature) + self._stop()

    def _start(self, block: dict[str, Any]) -> bytes:
        self._index += 1
        return _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, name: str, **fields: str) -> bytes:
        return _event("content_block_delta", index=self._index, delta={"type": name, **fields})

    def _stop(self) -> bytes:
        return _event("content_block_stop", index=self._index)
