"""Lists of models, in both shapes that clients ask for (compat-api §4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.dialects.openai.model_pages import Page, read_page, write_info, write_page
from llamero.dialects.openai.models import KnownModel, write_deleted, write_model, write_models
from llamero.errors import InvalidField
from llamero.names import ModelName

NS = 10**9


def model(name: str, modified_s: int = 1_700_000_000, context_tokens: int = 0) -> KnownModel:
    return KnownModel(ModelName.parse(name), modified_s * NS + 5, context_tokens)


def test_a_list_keeps_its_order_and_names_owners() -> None:
    """partly C-18"""
    listed = write_models([model("llama3.2", 1_700_000_001), model("mattw/tiny:1b"), model("host.example/ns/m:tag")])
    assert json.loads(listed) == {
        "object": "list",
        "data": [
            {"id": "llama3.2:latest", "object": "model", "created": 1_700_000_001, "owned_by": "library"},
            {"id": "mattw/tiny:1b", "object": "model", "created": 1_700_000_000, "owned_by": "mattw"},
            {"id": "host.example/ns/m:tag", "object": "model", "created": 1_700_000_000, "owned_by": "ns"},
        ],
    }


def test_no_models_are_an_empty_list() -> None:
    """partly C-19"""
    assert write_models([]) == b'{"object":"list","data":[]}'


def test_one_model_has_the_name_that_was_asked_for() -> None:
    """partly C-20"""
    assert json.loads(write_model("llama3.2", model("llama3.2")))["id"] == "llama3.2"


def test_a_deleted_model() -> None:
    """partly C-23"""
    assert write_deleted("m:1b") == b'{"id":"m:1b","object":"model","deleted":true}'


# --- as Anthropic's clients list them ---

MODELS = [model(f"m{number}:1b") for number in range(5)]


def page(**query: str) -> dict[str, Any]:
    return dict(json.loads(write_page(MODELS, read_page(query))))


def ids(reply: dict[str, Any]) -> list[str]:
    return [each["id"] for each in reply["data"]]


def test_what_a_page_says_of_a_model() -> None:
    """partly C-22"""
    assert json.loads(write_info("m0", model("m0:1b", context_tokens=4096))) == {
        "type": "model",
        "id": "m0",
        "display_name": "m0",
        "created_at": "2023-11-14T22:13:20.000000005Z",
        "lifecycle": "active",
        "max_input_tokens": 4096,
        "max_tokens": 4096,
    }
    assert page(limit="1")["data"][0]["max_tokens"] is None


def test_pages_lead_through_all_models_once() -> None:
    """partly C-22"""
    seen, query = [], {"limit": "2"}
    while True:
        reply = page(**query)
        seen += ids(reply)
        assert (reply["first_id"], reply["last_id"]) == (ids(reply)[0], ids(reply)[-1])
        if not reply["has_more"]:
            break
        query["after_id"] = reply["last_id"]
    assert seen == [each.name.display for each in MODELS]


def test_pages_backwards_end_at_the_first_model() -> None:
    reply = page(limit="3", before_id="m4:1b")
    assert (ids(reply), reply["has_more"]) == (["m1:1b", "m2:1b", "m3:1b"], True)
    reply = page(limit="3", before_id="m1:1b")
    assert (ids(reply), reply["has_more"]) == (["m0:1b"], False)


def test_an_empty_page_has_no_ids() -> None:
    assert json.loads(write_page([], Page())) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"after_id": "nobody"}, "after_id"),
        ({"before_id": "nobody"}, "before_id"),
        ({"before_id": "m1:1b", "after_id": "m2:1b"}, "before_id"),
    ],
)
def test_pages_that_do_not_exist(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidField) as caught:
        page(**query)
    assert caught.value.param == param
