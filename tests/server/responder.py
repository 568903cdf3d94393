"""What tests ask of `/v1/responses`, and how they read its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.running import Reply, Server
from tests.server.events import Event, named_events
from tests.server.puppet import ABLE, Puppet


class Answer:
    """A response, streamed or not."""

    def __init__(self, reply: Reply) -> None:
        assert reply.status == 200, reply.body
        self.warnings: list[str] = reply.headers.get_all("Llamero-Warning") or []
        is_stream = reply.content_type == "text/event-stream"
        self.events = named_events(reply.body) if is_stream else []
        self.body: dict[str, Any] = checked(self.events) if is_stream else reply.json()
        self.id: str = self.body["id"]
        self.status: str = self.body["status"]
        self.output: list[dict[str, Any]] = self.body["output"]
        self.usage: Any = self.body["usage"]
        parts = [part for item in self.output if item["type"] == "message" for part in item["content"]]
        self.text = "".join(part["text"] for part in parts)
        calls = [item for item in self.output if item["type"] == "function_call"]
        self.calls = [(item["name"], json.loads(item["arguments"])) for item in calls]

    @property
    def kinds(self) -> list[str]:
        return [item["type"] for item in self.output]

    @property
    def names(self) -> list[str]:
        """Of the events, without what all of them begin with; deltas of one text as one."""
        names = [event["type"].removeprefix("response.") for event in self.events]
        return [name for number, name in enumerate(names) if names[number - 1 : number] != [name]]


def checked(events: Sequence[Event]) -> dict[str, Any]:
    """The response that a stream ends with, after a look at whether its events tell the same."""
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    created, in_progress, *middle, last = events
    assert [created["type"], in_progress["type"]] == ["response.created", "response.in_progress"]
    assert created["response"] == in_progress["response"]
    begun, response = created["response"], last["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    assert last["type"] == f"response.{response['status']}"
    assert (begun["id"], begun["created_at"]) == (response["id"], response["created_at"])
    told: dict[str, str] = {}
    done: list[dict[str, Any]] = []
    for event in middle:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert event["output_index"] == len(done), "one item at a time"
            told = {"id": event["item"]["id"], "text": ""}
        elif kind == "output_item.done":
            assert event["output_index"] == len(done)
            assert event["item"]["id"] == told["id"]
            done.append(event["item"])
        else:
            assert (event["output_index"], event["item_id"]) == (len(done), told["id"])
            if kind.endswith(".delta"):
                told["text"] += event["delta"]
            elif kind.endswith(("text.done", "arguments.done")):
                assert event.get("text", event.get("arguments")) == told["text"]
    if response["status"] != "failed":
        assert response["output"] == done
    return dict(response)


def ask(server: Server, model: str, input: Any = "Say hi.", **more: Any) -> Reply:
    return server.post("/v1/responses", {"model": model, "input": input, **more})


def respond(server: Server, model: str, input: Any = "Say hi.", **more: Any) -> Answer:
    return Answer(ask(server, model, input, **more))


def plain(value: Any) -> Any:
    """Without what is new every time."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in ("id", "call_id")}
    return value


def both(server: Server, model: str, input: Any = "Say hi.", **more: Any) -> Answer:
    """Not streamed and streamed: they say the same."""
    whole, streamed = (respond(server, model, input, stream=stream, temperature=0, **more) for stream in (False, True))
    assert plain(whole.output) == plain(streamed.output)
    assert whole.status == streamed.status
    assert [*whole.body] == [*streamed.body]
    for name in ("input_tokens", "output_tokens", "total_tokens", "output_tokens_details"):
        assert whole.usage[name] == streamed.usage[name]
    return streamed


def refused(reply: Reply, status: int = 400) -> tuple[str, str]:
    """Of which field an error speaks, and what it says."""
    error = reply.json()["error"]
    assert (reply.status, error["type"]) == (status, "invalid_request_error"), reply.body
    return error["param"], error["message"]


def heard(puppet: Puppet, input: Any = "Say hi.", **more: Any) -> dict[str, Any]:
    """What the engine is asked for a response."""
    puppet.forget()
    reply = ask(puppet.server, ABLE, input, **more)
    assert reply.status == 200, reply.body
    (body,) = puppet.heard()
    return body


def kept(server: Server, id_: str) -> Reply:
    return server.get(f"/v1/responses/{id_}")
