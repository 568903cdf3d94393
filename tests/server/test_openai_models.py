"""Models as OpenAI's and Anthropic's clients list, show and remove them (compat-api §4)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.running import Server, linked_copy, running
from tests.server.tiny_models import make

S = "smollm2:135m"
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def stocked(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with names of every kind."""
    folder = tmp_path_factory.mktemp("stocked")
    with running(folder, linked_copy(starter_models, folder / "models")) as server:
        for name in ("plain", "ns/m:tag", "host.example/ns/m:tag"):
            make(server, name, from_=S)
        yield server


def test_c18_the_list(stocked: Server) -> None:
    """C-18; its `created` is that of the native list in whole seconds."""
    native = stocked.get("/api/tags").json()["models"]
    reply = stocked.get("/v1/models").json()
    assert reply["object"] == "list"
    assert [model["id"] for model in reply["data"]] == [model["model"] for model in native]
    owners = {model["id"]: model["owned_by"] for model in reply["data"]}
    assert owners == {
        "host.example/ns/m:tag": "ns",
        "ns/m:tag": "ns",
        "plain:latest": "library",
        S: "library",
        "all-minilm:22m": "library",
    }
    for model, there in zip(reply["data"], native, strict=True):
        assert sorted(model) == ["created", "id", "object", "owned_by"]
        assert model["object"] == "model"
        assert model["created"] == int(datetime.fromisoformat(there["modified_at"]).timestamp())


def test_c19_no_models(empty_server: Server) -> None:
    assert empty_server.get("/v1/models").body == b'{"object":"list","data":[]}'
    page = empty_server.get("/v1/models", headers=VERSION).json()
    assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        pytest.param("plain", "plain", id="C-20"),
        ("plain:latest", "plain:latest"),
        pytest.param("ns/m:tag", "ns/m:tag", id="C-21 raw"),
        pytest.param("ns%2Fm:tag", "ns/m:tag", id="C-21 escaped"),
        ("ns%2fm%3Atag", "ns/m:tag"),
        ("host.example/ns/m:tag", "host.example/ns/m:tag"),
        ("host.example%2Fns%2Fm:tag", "host.example/ns/m:tag"),
    ],
)
def test_one_model(stocked: Server, path: str, id_: str) -> None:
    """C-20, C-21: under the name that was asked for."""
    listed = {model["id"]: model for model in stocked.get("/v1/models").json()["data"]}
    shown = stocked.get(f"/v1/models/{path}").json()
    assert shown == {**listed["plain:latest" if id_ == "plain" else id_], "id": id_}


def test_names_that_are_none_and_models_that_are_not_there(server: Server) -> None:
    unknown = server.get("/v1/models/nope")
    assert (unknown.status, unknown.json()["error"]) == (
        404,
        {
            "message": "model 'nope:latest' not found",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        },
    )
    for path in ("a%20b", "..%2f..%2fetc%2fpasswd", "%2e%2e", "a:b:c", "%00", "a%2Fb%2Fc%2Fd"):
        invalid = server.get(f"/v1/models/{path}")
        assert (invalid.status, invalid.json()["error"]["param"]) == (400, "model"), path
    assert server.get("/v1/models/a/b/c/d").status == 404


def test_c23_removing_one(stocked: Server) -> None:
    """Partly C-23: by raw HTTP."""
    make(stocked, "old", from_=S)
    make(stocked, "ns/old:tag", from_=S)
    for path, id_ in (("old", "old"), ("ns%2Fold:tag", "ns/old:tag")):
        assert stocked.call("DELETE", f"/v1/models/{path}").json() == {"id": id_, "object": "model", "deleted": True}
        again = stocked.call("DELETE", f"/v1/models/{path}")
        assert (again.status, again.json()["error"]["code"]) == (404, "model_not_found")
    assert not {"old:latest", "ns/old:tag"} & {model["id"] for model in stocked.get("/v1/models").json()["data"]}


def test_c22_page_by_page(stocked: Server) -> None:
    """Partly C-22: the client's own paging is in `tests/clients`."""

    def page(query: str = "") -> dict[str, Any]:
        reply = stocked.get(f"/v1/models{query}", headers=VERSION)
        assert reply.status == 200, reply.body
        return dict(reply.json())

    ids = [model["id"] for model in stocked.get("/v1/models").json()["data"]]
    whole = page()
    assert [model["id"] for model in whole["data"]] == ids
    assert (whole["has_more"], whole["first_id"], whole["last_id"]) == (False, ids[0], ids[-1])
    small = next(model for model in whole["data"] if model["id"] == S)
    assert (small["type"], small["display_name"], small["lifecycle"]) == ("model", S, "active")
    assert small["max_input_tokens"] == 8192
    assert datetime.fromisoformat(small["created_at"])
    seen: list[str] = []
    step = page("?limit=2")
    while True:
        seen += [model["id"] for model in step["data"]]
        if not step["has_more"]:
            break
        step = page(f"?limit=2&after_id={step['last_id']}")
    assert seen == ids
    before = page(f"?limit=2&before_id={ids[3]}")
    assert ([model["id"] for model in before["data"]], before["has_more"]) == (ids[1:3], True)


def test_errors_in_the_words_of_who_asks(server: Server) -> None:
    for path in ("/v1/models/nope", "/v1/models?limit=0", "/v1/models?after_id=nope"):
        reply = server.get(path, headers=VERSION)
        body = reply.json()
        assert body["type"] == "error"
        assert body["request_id"] == reply.headers["request-id"]
        assert body["error"]["type"] == ("not_found_error" if reply.status == 404 else "invalid_request_error")
    one = server.get(f"/v1/models/{S}", headers=VERSION).json()
    assert (one["type"], one["id"]) == ("model", S)
