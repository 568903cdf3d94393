"""The list of models worth a try (native-api §3.20)."""

from __future__ import annotations

from pathlib import Path

from llamero.names import ModelName
from llamero.registry.starters import STARTERS
from llamero.store import Store
from tests.running import Server

PATH = "/api/experimental/model-recommendations"


def test_n125_models_worth_a_try(server: Server) -> None:
    """N-125"""
    reply = server.get(PATH)
    assert (reply.status, reply.content_type, list(reply.json())) == (
        200,
        "application/json; charset=utf-8",
        ["recommendations"],
    )
    listed = reply.json()["recommendations"]
    assert listed
    for each in listed:
        assert isinstance(each["description"], str)
        assert each["description"]
        assert ModelName.parse(each["model"]).display == each["model"]
        assert not each["model"].endswith("cloud")


def test_starters_are_among_them_with_what_their_files_say(server: Server, starter_models: Path) -> None:
    listed = {each["model"]: each["context_length"] for each in server.get(PATH).json()["recommendations"]}
    stored = {summary.name: summary.context_length for summary in Store(starter_models).list()}
    for starter in STARTERS:
        assert listed[starter.name.display] == stored[starter.name]


def test_whoever_may_use_models_may_ask(server: Server) -> None:
    assert server.get(PATH, headers={"X-Forwarded-For": "203.0.113.9"}).status == 200
    assert server.call("HEAD", PATH).headers["Allow"] == "GET"
