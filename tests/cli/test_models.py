"""list, ps, stop, cp, rm and pull off a terminal (cli §3.5 to §3.11)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from llamero.cli.models import processor, until
from llamero.client import RunningModel
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer, shown

NOW = datetime.now(UTC)
UNLOADED = Reply(json={"model": "m", "response": "", "done": True, "done_reason": "unload"})


def listed(name: str, **fields: object) -> dict[str, object]:
    modified_at = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    return {
        "name": name,
        "digest": "a80c4f17acd5" + "0" * 52,
        "size": 2_000_000_000,
        "modified_at": modified_at,
    } | fields


def running(name: str, **fields: object) -> dict[str, object]:
    expires_at = (datetime.now(UTC) + timedelta(minutes=4, seconds=30)).isoformat()
    return {"name": name, "digest": "b" * 64, "size": 100, "size_vram": 52, "expires_at": expires_at} | fields


# --- list ----------------------------------------------------------------------------------------------------------


def test_an_empty_list_is_its_header(ollama: Ollama, server: ScriptedServer) -> None:
    """L-27"""
    server.replies["GET /api/tags"] = Reply(json={"models": []})
    assert ollama("list").out == ollama("ls").out == "NAME    ID    SIZE    MODIFIED \n"


def test_a_list_byte_for_byte(ollama: Ollama, server: ScriptedServer) -> None:
    """L-28"""
    yesterday, before = (NOW - timedelta(hours=24)).isoformat(), (NOW - timedelta(days=2)).isoformat()
    models = [listed("model1", size=1024, modified_at=yesterday), listed("model2", size=2048, modified_at=before)]
    server.replies["GET /api/tags"] = Reply(json={"models": models})
    assert ollama("list").out == (
        "NAME      ID              SIZE      MODIFIED     \n"
        "model1    a80c4f17acd5    1.0 KB    24 hours ago    \n"
        "model2    a80c4f17acd5    2.0 KB    2 days ago      \n"
    )


def test_a_remote_model_has_no_size(ollama: Ollama, server: ScriptedServer) -> None:
    """L-30"""
    server.replies["GET /api/tags"] = Reply(json={"models": [listed("m", remote_model="x", remote_host="y")]})
    assert ollama("list").out.splitlines()[1] == "m       a80c4f17acd5    -       2 hours ago    "


def test_the_filter_of_list_ignores_case(ollama: Ollama, server: ScriptedServer) -> None:
    """partly L-29"""
    server.replies["GET /api/tags"] = Reply(json={"models": [listed("model1"), listed("Model1b"), listed("other")]})
    lines = ollama("list", "MODEL1", "ignored").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "model1", "Model1b"]


def test_a_wide_list_has_more_columns_at_the_right(ollama: Ollama, server: ScriptedServer) -> None:
    """Cells without blanks and a table whose left part is the usual one: scripts go on cutting columns."""
    details = {"parameter_size": "135M", "quantization_level": "Q4_1", "family": "llama", "context_length": 8192}
    told = listed("m:latest", details=details, capabilities=["completion", "tools", "insert", "thinking", "vision"])
    server.replies["GET /api/tags"] = Reply(json={"models": [told, listed("remote")]})
    usual, wide = ollama("list").out.splitlines(), ollama("list", "--wide").out.splitlines()
    assert len(wide) == 3
    assert all(line.startswith(short.rstrip()) for line, short in zip(wide, usual, strict=True))
    assert wide[0].split()[4:] == ["PARAMETERS", "QUANT", "FAMILY", "CONTEXT", "CAPABILITIES"]
    assert wide[1].split()[7:] == ["135M", "Q4_1", "llama", "8192", "completion,tools,insert,thinking,vision"]
    assert wide[2].split() == usual[2].split()  # what a server does not tell is left empty


@pytest.mark.parametrize("command", [("list", "/api/tags"), ("ps", "/api/ps")])
def test_json_is_the_servers_body(ollama: Ollama, server: ScriptedServer, command: tuple[str, str]) -> None:
    body = {"models": [listed("m")], "queue": [{"position": 1}]}
    server.replies[f"GET {command[1]}"] = Reply(json=body)
    assert ollama(command[0], "--json").out == json.dumps(body) + "\n"


# --- ps ------------------------------------------------------------------------------------------------------------


def test_ps_byte_for_byte(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["GET /api/ps"] = Reply(json={"models": [running("m:latest", context_length=4096)]})
    assert ollama("ps").out == (
        "NAME        ID              SIZE     PROCESSOR          CONTEXT    UNTIL              \n"
        "m:latest    bbbbbbbbbbbb    100 B    48%/52% CPU/GPU    4096       4 minutes from now    \n"
    )


def test_a_wide_ps_shows_how_much_of_the_context_is_used(ollama: Ollama, server: ScriptedServer) -> None:
    details = {"parameter_size": "135M", "quantization_level": "Q4_1"}
    answered = running("a:1", context_length=4096, context_used=1030, details=details)
    server.replies["GET /api/ps"] = Reply(json={"models": [answered, running("b:2", context_length=4096)]})
    usual, wide = ollama("ps").out.splitlines(), ollama("ps", "--wide").out.splitlines()
    assert all(line.startswith(short.rstrip()) for line, short in zip(wide, usual, strict=True))
    assert wide[0].endswith("UNTIL                 USED    ON GPU    PARAMETERS    QUANT ")
    assert wide[1].split()[-5:] == ["25%", "52", "B", "135M", "Q4_1"]
    assert wide[2].split()[-3:] == ["-", "52", "B"]


def test_the_filter_of_ps_heeds_case(ollama: Ollama, server: ScriptedServer) -> None:
    """L-29, together with the filter of list above"""
    server.replies["GET /api/ps"] = Reply(json={"models": [running("model1"), running("Model1")]})
    assert [line.split()[0] for line in ollama("ps", "Mod").out.splitlines()] == ["NAME", "Model1"]


@pytest.mark.parametrize(
    ("size", "vram", "text"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (100, 52, "48%/52% CPU/GPU"),
        (100, 120, "Unknown"),
        (0, 0, "100% CPU"),
        (0, 1, "Unknown"),
        (200, 1, "100%/0% CPU/GPU"),
        (1000, 995, "1%/99% CPU/GPU"),
    ],
)
def test_where_a_model_is(size: int, vram: int, text: str) -> None:
    """L-31"""
    assert processor(RunningModel("m", "", size, vram, 0, NOW)) == text


@pytest.mark.parametrize(
    ("expires_at", "text"),
    [
        (NOW - timedelta(seconds=1), "Stopping..."),
        (NOW + timedelta(days=365 * 200), "Forever"),
        (datetime(1, 1, 1, tzinfo=UTC), "Never"),
        (NOW + timedelta(minutes=4), "4 minutes from now"),
    ],
)
def test_until_when_it_stays(expires_at: datetime, text: str) -> None:
    """L-32"""
    assert until(expires_at, NOW) == text


# --- stop, cp, rm --------------------------------------------------------------------------------------------------


def test_stop_is_silent(ollama: Ollama, server: ScriptedServer) -> None:
    """partly L-76"""
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": UNLOADED}
    outcome = ollama("stop", "m")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert server.body("POST /api/generate") == {"model": "m", "keep_alive": "0s"}


def test_stop_of_something_unknown(ollama: Ollama, server: ScriptedServer) -> None:
    """L-76, together with the silence above"""
    server.replies["POST /api/show"] = Reply(404, json={"error": "model 'missing' not found"})
    outcome = ollama("stop", "missing")
    assert (outcome.status, outcome.err) == (1, 'Error: couldn\'t find model "missing" to stop\n')


def test_stop_takes_several(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": UNLOADED}
    assert ollama("stop", "a", "b").status == 0
    assert [body["model"] for body in server.bodies("POST /api/generate")] == ["a", "b"]
    assert ollama("stop").err == "Error: accepts 1 arg(s), received 0\n"


def test_stop_all(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["GET /api/ps"] = Reply(json={"models": [running("a"), running("b")]})
    server.replies["POST /api/generate"] = UNLOADED
    outcome = ollama("stop", "--all")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert server.bodies("POST /api/generate") == [
        {"model": "a", "keep_alive": "0s"},
        {"model": "b", "keep_alive": "0s"},
    ]
    assert ollama("stop", "--all", "a").err == "Error: accepts 0 arg(s), received 1\n"


def test_cp(ollama: Ollama, server: ScriptedServer) -> None:
    """L-75"""
    server.replies["POST /api/copy"] = Reply()
    outcome = ollama("cp", "a", "b")
    assert (outcome.status, outcome.out) == (0, "copied 'a' to 'b'\n")
    server.replies["POST /api/copy"] = Reply(404, json={"error": 'model "a" not found'})
    assert ollama("cp", "a", "b").err == 'Error: model "a" not found\n'


def test_rm_unloads_then_deletes_each(ollama: Ollama, server: ScriptedServer) -> None:
    """partly L-74"""
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": UNLOADED, "DELETE /api/delete": Reply()}
    outcome = ollama("rm", "a", "b")
    assert (outcome.status, outcome.out, outcome.err) == (0, "deleted 'a'\ndeleted 'b'\n", "")
    assert server.routes == ["POST /api/show", "POST /api/generate", "DELETE /api/delete"] * 2
    assert server.bodies("POST /api/generate")[1] == {"model": "b", "keep_alive": "0s"}
    assert server.bodies("DELETE /api/delete") == [{"model": "a"}, {"model": "b"}]


def test_rm_stops_at_the_first_unknown_model(ollama: Ollama, server: ScriptedServer) -> None:
    """L-74, together with the order above"""
    missing = Reply(404, json={"error": "model 'x' not found"})
    server.replies |= {"POST /api/show": [shown(), missing], "POST /api/generate": UNLOADED}
    server.replies["DELETE /api/delete"] = [Reply(), missing]
    outcome = ollama("rm", "a", "x", "b")
    assert (outcome.status, outcome.out, outcome.err) == (1, "deleted 'a'\n", "Error: model 'x' not found\n")


def test_rm_deletes_even_what_it_could_not_stop(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies |= {"POST /api/show": Reply(500, json={"error": "broken"}), "DELETE /api/delete": Reply()}
    outcome = ollama("rm", "a")
    assert (outcome.status, outcome.out, outcome.err) == (0, "deleted 'a'\n", "Warning: unable to stop model 'a'\n")


# --- pull ----------------------------------------------------------------------------------------------------------


def bar(completed: int) -> dict[str, object]:
    line = {"status": "pulling aabbccddeeff", "digest": "sha256:aabbccddeeff0011", "total": 1000}
    return line | ({"completed": completed} if completed else {})


PULL = [
    {"status": "pulling manifest"},
    bar(0),
    *(bar(done) for done in range(20, 1001, 20)),
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
]


def test_pull_off_a_terminal_writes_plain_lines(ollama: Ollama, server: ScriptedServer) -> None:
    """L-66, L-67"""
    server.replies["POST /api/pull"] = Reply(lines=PULL)
    outcome = ollama("pull", "m", "--insecure")
    assert (outcome.status, outcome.out) == (0, "")
    assert outcome.err.splitlines() == [
        "pulling manifest",
        "pulling aabbccddeeff: 2% 20 B/1 KB",
        *(f"pulling aabbccddeeff: {tenth}0% {tenth}00 B/1 KB" for tenth in range(1, 10)),
        "pulling aabbccddeeff: 100% 1 KB/1 KB",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert server.body("POST /api/pull") == {"model": "m", "insecure": True}


def test_pull_of_something_unknown(ollama: Ollama, server: ScriptedServer) -> None:
    error = {"error": "pull model manifest: file does not exist"}
    server.replies["POST /api/pull"] = Reply(lines=[{"status": "pulling manifest"}, error])
    outcome = ollama("pull", "nope")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "pulling manifest\nError: pull model manifest: file does not exist\n"
