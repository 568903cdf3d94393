"""Bodies that are attacks: what stands in them is refused, or never gets as far as the engine. security §3, §5."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.fake_llama_server import install
from tests.running import Server
from tests.server.puppet import ABLE, CHAT, COMPLETION, Puppet

USER = {"role": "user", "content": "hi"}
PROMPT: dict[str, dict[str, Any]] = {
    "/api/chat": {"messages": [USER], "stream": False},
    "/api/generate": {"prompt": "hi", "stream": False},
    "/v1/chat/completions": {"messages": [USER]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [USER], "max_tokens": 9},
}
"""Every route that generates, and the least that it takes besides the model."""

ROUTES = list(PROMPT)


def body(route: str, **more: Any) -> dict[str, Any]:
    return {"model": ABLE, **PROMPT[route], **more}


def status(puppet: Puppet, route: str, data: dict[str, Any] | bytes) -> int:
    return puppet.server.post(route, data).status


# --- what never reaches the engine -----------------------------------------------------------------------------------

TRICKS: dict[str, Any] = {
    "n_discard": -5,
    "chat_parser": "X-TRICK",
    "lora": [{"id": 0, "scale": 77.5}],
    "id_slot": 7,
    "slot_id": 7,
    "samplers": ["X-TRICK"],
    "cache_prompt": "X-TRICK",
    "grammar": 'root ::= "X-TRICK"',
    "json_schema": {"const": "X-TRICK"},
    "n_probs": 77,
    "n_keep": -77,
    "t_max_predict_ms": 77,
    "return_tokens": "X-TRICK",
    "response_fields": ["X-TRICK"],
    "chat_template": "X-TRICK",
    "chat_template_kwargs": {"X-TRICK": True},
    "preserved_tokens": ["X-TRICK"],
    "parse_tool_calls": "X-TRICK",
    "reasoning_format": "X-TRICK",
    "speculative.n_max": 77,
    "timings_per_token": "X-TRICK",
    "post_sampling_probs": "X-TRICK",
    "image_data": [{"data": "X-TRICK", "id": 7}],
    "filename": "X-TRICK",
    "action": "X-TRICK",
}
NOT_OPTIONS = {name: value for name, value in TRICKS.items() if name != "grammar"}
"""`grammar` is one, and checked."""
OURS = {"n_discard", "chat_parser", "lora", "slot_id", "samplers", "chat_template", "image_data", "filename", "action"}
"""None of these ever stands in a request of ours without adapters."""


@pytest.mark.parametrize("route", ROUTES)
def test_x66_fields_of_the_engine_never_reach_it(puppet: Puppet, route: str) -> None:
    """X-66: at the top, and among the options; nothing changes what the engine is asked."""
    puppet.forget()
    plain = puppet.server.post(route, body(route))
    tricky = puppet.server.post(route, body(route, **TRICKS, options=NOT_OPTIONS))
    assert (plain.status, tricky.status) == (200, 200), tricky.body
    heard = puppet.heard(CHAT) + puppet.heard(COMPLETION)
    assert len(heard) == 2
    for asked in heard:
        assert "X-TRICK" not in json.dumps(asked)
        assert not {77, -77, -5, 7, 77.5} & {value for value in asked.values() if isinstance(value, int | float)}
        assert not OURS & set(asked)
    before, after = ({name: value for name, value in asked.items() if name != "seed"} for asked in heard)
    assert after == before


@pytest.mark.parametrize("place", ["messages", "tools"])
def test_x66_nor_do_they_within_messages(puppet: Puppet, place: str) -> None:
    """X-66: a message keeps what a message has. Tools are schemas, which go to the template whole, as tools."""
    puppet.forget()
    inner = {**USER, **TRICKS} if place == "messages" else {"type": "function", "function": {"name": "f"}, **TRICKS}
    assert status(puppet, "/api/chat", body("/api/chat", **{place: [inner]})) == 200
    (asked,) = puppet.heard()
    assert not OURS & set(asked)
    assert "X-TRICK" not in json.dumps({name: value for name, value in asked.items() if name != "tools"})


@pytest.mark.parametrize(
    ("grammar", "fault"),
    [
        ('root ::= "a" | root "b"', "left-recursive"),
        ("root ::= " + "(" * 33 + '"a"' + ")" * 33, "deep"),
        ('root ::= "a"{1001}', "1000"),
        ("root ::= " + '"a" ' * 20_000, "64 KiB"),
        ('start ::= "a"', "root"),
    ],
)
def test_x66_a_grammar_of_ours_is_checked_first(puppet: Puppet, grammar: str, fault: str) -> None:
    """X-66: and what is refused starts nothing."""
    puppet.forget()
    reply = puppet.server.post("/api/chat", body("/api/chat", options={"grammar": grammar}))
    assert reply.status == 400
    assert fault in reply.error
    assert puppet.record("request") == []


# --- floods and bombs of JSON ----------------------------------------------------------------------------------------


def raw(route: str, **more: str) -> bytes:
    """A body with members as they are written, behind the sound ones."""
    sound = json.dumps(body(route))[:-1]
    return (sound + "".join(f',"{name}":{value}' for name, value in more.items()) + "}").encode()


DEEP = "[" * 3_000 + "]" * 3_000


@pytest.mark.parametrize("route", ROUTES)
def test_x62_json_bombs_are_bad_requests(puppet: Puppet, route: str) -> None:
    """X-62"""
    puppet.forget()
    many = json.dumps([USER])[:-1] + ',{"role":"user","content":"x"}' * 1_000_000 + "]"
    field = {"/api/generate": "images", "/v1/completions": "prompt", "/v1/responses": "input"}.get(route, "messages")
    bombs = {
        "depth": raw(route, tools=DEEP),
        "depth where nobody looks": raw(route, x=DEEP),
        "depth that is not closed": raw(route, tools="[" * 3_000),
        "a million messages": raw(route, **{field: many}),
        "another model": raw(route, model='"other"'),
        "another model in capitals": raw(route, MODEL='"other"'),
        "NaN": raw(route, temperature="NaN"),
        "Infinity": raw(route, temperature="Infinity"),
        "a number beyond all numbers": raw(route, temperature="1e999"),
        "half a body": raw(route)[:-5],
        "bytes that are no text": raw(route, x='"\xff').replace(b"\xc3\xbf", b"\xff"),
    }
    assert {name: status(puppet, route, bomb) for name, bomb in bombs.items()} == dict.fromkeys(bombs, 400)
    assert puppet.record("request") == []


# --- schemas ---------------------------------------------------------------------------------------------------------

BAD_PATTERNS = [
    "(" * 200,
    "(" * 17 + ")" * 17,
    "((a{100}){100}){100}",
    "a" * 513,
    "(?=a)b",
    "a**",
    r"(a)\1",
    "a{",
    "[z-a]",
]


def formats(route: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A schema where the route has it."""
    named = {"name": "x", "schema": schema, "strict": True}
    match route:
        case "/v1/chat/completions":
            return body(route, response_format={"type": "json_schema", "json_schema": named})
        case "/v1/responses":
            return body(route, text={"format": {"type": "json_schema", **named}})
        case "/v1/messages":
            return body(route, output_config={"format": {"type": "json_schema", "schema": schema}})
    return body(route, format=schema)


@pytest.mark.parametrize("route", [route for route in ROUTES if route != "/v1/completions"])
def test_x64_pattern_bombs_are_bad_requests(puppet: Puppet, route: str) -> None:
    """X-64, the first half."""
    puppet.forget()
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert status(puppet, route, formats(route, schema)) == 200
    puppet.forget()
    for pattern in BAD_PATTERNS:
        schema["properties"]["a"]["pattern"] = pattern
        assert status(puppet, route, formats(route, schema)) == 400, pattern
    assert puppet.record("request") == []


@pytest.mark.engine
@pytest.mark.parametrize("pattern", ["^[b-d]{3}-[0-9]{2}$", "^(yes|no)$", r"^\d{3}\.\d$"])
def test_x64_valid_patterns_work(server: Server, pattern: str) -> None:
    """X-64, the second half: the engine keeps to them."""
    asked = {"model": "smollm2:135m", **PROMPT["/api/chat"], "format": {"type": "string", "pattern": pattern}}
    reply = server.post("/api/chat", {**asked, "options": {"num_predict": 32}}).json()
    assert re.fullmatch(pattern, json.loads(reply["message"]["content"]))


MANY_SCHEMAS = 10_000
KIB = 1 << 10


def memory_kib(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


def on_disk(*folders: Path) -> tuple[int, int]:
    """Files, and their bytes."""
    sizes = [
        Path(place, name).lstat().st_size for folder in folders for place, _, names in os.walk(folder) for name in names
    ]
    return len(sizes), sum(sizes)


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_x65_distinct_schemas_leave_nothing_behind(start_server: StartServer, tmp_path: Path) -> None:
    """X-65: memory and disk are flat from the second thousand on."""
    scripted = install(tmp_path, {"record": ""})
    server = start_server(LLAMERO_LLAMA_SERVER=str(scripted))

    def ask(numbers: range) -> Iterator[int]:
        for number in numbers:
            schema = {"type": "object", "properties": {f"key{number}": {"type": "string", "pattern": f"^{number}$"}}}
            yield server.post("/api/chat", {**body("/api/chat", format=schema), "model": "smollm2:135m"}).status

    assert set(ask(range(MANY_SCHEMAS // 5))) == {200}
    warm_kib, warm_files = memory_kib(server.process.pid), on_disk(server.models)
    assert set(ask(range(MANY_SCHEMAS // 5, MANY_SCHEMAS))) == {200}
    assert memory_kib(server.process.pid) < warm_kib + 16 * KIB
    assert on_disk(server.models) == warm_files


# --- numbers that cost ------------------------------------------------------------------------------------------------

HUGE = (1 << 31, 1 << 62, 1 << 63, 10**30, -(10**30))


@pytest.mark.parametrize(
    ("route", "field", "values"),
    [
        ("/v1/chat/completions", "n", (0, -1, 9, 1_000_000, 1.5, "2", *HUGE)),
        ("/v1/completions", "n", (0, -1, 9, 1_000_000, 1.5, "2", *HUGE)),
        ("/v1/completions", "best_of", (0, -1, 9, 1_000_000, *HUGE)),
        ("/v1/completions", "logprobs", (-1, 21, *HUGE)),
        ("/v1/chat/completions", "top_logprobs", (-1, 21, *HUGE)),
        ("/v1/responses", "top_logprobs", (-1, 21, *HUGE)),
        ("/api/chat", "top_logprobs", (-1, 21, *HUGE)),
        ("/api/generate", "top_logprobs", (-1, 21, *HUGE)),
        ("/v1/chat/completions", "max_tokens", (0, 1 << 63, 10**30)),
        ("/v1/chat/completions", "max_completion_tokens", (0, 1 << 63, 10**30)),
        ("/v1/completions", "max_tokens", (0, 1 << 63, 10**30)),
        ("/v1/messages", "max_tokens", (0, -1, 1 << 63, 10**30)),
    ],
)
def test_x69_extremes_are_bad_requests(puppet: Puppet, route: str, field: str, values: tuple[Any, ...]) -> None:
    """X-69, with the next."""
    puppet.forget()
    flag = {"logprobs": True} if field == "top_logprobs" and route != "/v1/responses" else {}
    assert {value: status(puppet, route, body(route, **flag, **{field: value})) for value in values} == dict.fromkeys(
        values, 400
    )
    assert puppet.record("request") == []


@pytest.mark.parametrize(
    ("route", "limit"),
    [
        *(
            (route, {"max_tokens": (1 << 63) - 1})
            for route in ROUTES
            if route.startswith("/v1/") and "resp" not in route
        ),
        ("/v1/responses", {"max_output_tokens": (1 << 63) - 1}),
        *(("/api/chat", {"options": {"num_predict": value}}) for value in (*HUGE, -1, -2)),
        ("/api/generate", {"options": {"num_predict": 10**30}}),
    ],
)
def test_x69_no_answer_is_longer_than_ten_contexts(puppet: Puppet, route: str, limit: dict[str, Any]) -> None:
    """X-69: what is too much is clamped before the engine hears it."""
    puppet.forget()
    assert status(puppet, route, body(route, **limit)) == 200
    (asked,) = puppet.heard(CHAT) + puppet.heard(COMPLETION)
    (loaded,) = (each for each in puppet.server.get("/api/ps").json()["models"] if each["name"].startswith(ABLE))
    told = asked.get("n_predict", asked.get("max_tokens"))
    assert told is not None
    assert 0 < told <= 10 * loaded["context_length"]
