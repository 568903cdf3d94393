"""pull, push and update: what the flags ask of the server, and what its answers look like (cli §3.6, §3.7, §3.16)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer

DIGEST = f"sha256:{'4f659a1e86d7' + '0' * 52}"
PULLED = [
    {"status": "pulling manifest"},
    {"status": "pulling 4f659a1e86d7", "digest": DIGEST, "total": 2000},
    {"status": "pulling 4f659a1e86d7", "digest": DIGEST, "total": 2000, "completed": 2000},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
]
PUSHED = [
    {"status": "retrieving manifest"},
    {"status": "pushing 4f659a1e86d7", "digest": DIGEST, "total": 2000, "completed": 2000},
    {"status": "pushing manifest"},
    {"status": "success"},
]


# --- pull ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ([], {}),
        (["--insecure"], {"insecure": True}),
        (["--as", "mine:v1"], {"as": "mine:v1"}),
        (["--limit-rate=5MB"], {"limit_rate": "5MB"}),
        (["--from-peer", "http://box:11434"], {"from_peer": "http://box:11434"}),
        (["--starter"], {"starter": True}),
        (["--quiet"], {}),
    ],
)
def test_the_flags_of_a_pull(ollama: Ollama, server: ScriptedServer, flags: list[str], fields: dict[str, Any]) -> None:
    server.replies["POST /api/pull"] = Reply(lines=PULLED)
    done = ollama("pull", "m", *flags)
    assert (done.status, done.out) == (0, "")
    assert server.body("POST /api/pull") == {"model": "m"} | fields


def test_a_dry_run_shows_the_layers_and_the_total(ollama: Ollama, server: ScriptedServer) -> None:
    """The first line of a layer tells its size, the second that it is here."""
    big, small = (
        {"status": "pulling x", "digest": f"sha256:{digit * 64}", "total": n}
        for digit, n in (("a", 5 * 10**9), ("b", 1500))
    )
    last = {"status": "dry run: 5000000000 of 5000001500 bytes would be fetched"}
    lines = [{"status": "pulling manifest"}, big, small, small | {"completed": 1500}, last, {"status": "success"}]
    server.replies["POST /api/pull"] = Reply(lines=lines)
    done = ollama("pull", "m", "--dry-run")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "LAYER           SIZE      STATE    \n"
        "aaaaaaaaaaaa    5 GB      to fetch    \n"
        "bbbbbbbbbbbb    1.5 KB    here        \n"
        "5 GB of 5.0 GB would be fetched\n"
    )
    assert server.body("POST /api/pull") == {"model": "m", "dry_run": True}


def test_what_a_pull_says_off_a_terminal(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/pull"] = Reply(lines=PULLED)
    assert ollama("pull", "m").err.splitlines() == [
        "pulling manifest",
        "pulling 4f659a1e86d7: 100% 2 KB/2 KB",
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]


def test_several_models_are_pulled_in_turn_up_to_the_first_failure(ollama: Ollama, server: ScriptedServer) -> None:
    refused = [PULLED[0], {"error": "pull model manifest: file does not exist"}]
    server.replies["POST /api/pull"] = [Reply(lines=PULLED), Reply(lines=refused), Reply(lines=PULLED)]
    done = ollama("pull", "a", "b", "c")
    assert (done.status, done.err.splitlines()[-1]) == (1, "Error: pull model manifest: file does not exist")
    assert [body["model"] for body in server.bodies("POST /api/pull")] == ["a", "b"]


def test_one_name_for_several_models_is_refused(ollama: Ollama, server: ScriptedServer) -> None:
    done = ollama("pull", "a", "b", "--as", "c")
    assert (done.status, done.err) == (1, "Error: --as names one model, and several are to be pulled\n")
    assert server.routes == []


def test_progress_as_json_goes_to_stdout(ollama: Ollama, server: ScriptedServer) -> None:
    refused = [*PULLED[:2], {"error": "digest mismatch"}]
    server.replies["POST /api/pull"] = [Reply(lines=PULLED), Reply(lines=refused)]
    done = ollama("pull", "m", "n", "--json")
    assert [json.loads(line) for line in done.out.splitlines()] == PULLED + PULLED[:2]
    assert (done.status, done.err) == (1, "Error: digest mismatch\n")


def test_what_a_strangers_registry_says_cannot_steer_the_terminal(ollama: Ollama, server: ScriptedServer) -> None:
    hostile = "\x1b[2J\x1b]0;owned\x07\x9b31m"
    lines = [{"status": f"pulling {hostile}"}, {"status": hostile, "digest": hostile, "total": 2, "completed": 1}]
    for end in ({"error": f"500: {hostile}"}, {"status": "success"}):
        server.replies["POST /api/pull"] = server.replies["POST /api/push"] = Reply(lines=[*lines, end])
        for command in (["pull", "m"], ["push", "m"], ["pull", "m", "--json"]):
            done = ollama(*command)
            assert not any(character in done.out + done.err for character in hostile if not character.isprintable())


def test_a_stream_that_just_ends_is_a_failure(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/pull"] = Reply(lines=PULLED[:3])
    done = ollama("pull", "m")
    assert (done.status, done.err.splitlines()[-1]) == (
        1,
        "Error: the server closed the connection before it was done (last: pulling 4f659a1e86d7)",
    )


def test_warnings_of_the_server_are_shown(ollama: Ollama, server: ScriptedServer) -> None:
    warned = {"Llamero-Warning": "field 'x' is unknown and has no effect"}
    server.replies["POST /api/pull"] = Reply(lines=PULLED, headers=warned)
    assert "field 'x' is unknown and has no effect" in ollama("pull", "m").err


# --- push ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("me/m", "https://ollama.com/me/m"),
        ("me/m:latest", "https://ollama.com/me/m"),
        ("me/m:v1", "https://ollama.com/me/m:v1"),
        ("registry.ollama.ai/me/m", "https://ollama.com/me/m"),
        ("box:5000/me/m", "box:5000/me/m:latest"),
        ("http://box:5000/me/m:v1", "box:5000/me/m:v1"),
    ],
)
def test_l68_where_a_pushed_model_is(ollama: Ollama, server: ScriptedServer, name: str, place: str) -> None:
    """L-68"""
    server.replies["POST /api/push"] = Reply(lines=PUSHED)
    done = ollama("push", name)
    assert (done.status, done.out) == (0, f"\nYou can find your model at:\n\n\t{place}\n")
    assert done.err.splitlines() == [
        "retrieving manifest",
        "pushing 4f659a1e86d7 100% 2 KB/2 KB",
        "pushing manifest",
        "success",
    ]
    assert server.body("POST /api/push") == {"model": name}


def test_the_flags_of_a_push(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/push"] = Reply(lines=PUSHED)
    assert ollama("push", "me/m", "--insecure", "--limit-rate", "500KB", "--quiet").status == 0
    assert server.body("POST /api/push") == {"model": "me/m", "insecure": True, "limit_rate": "500KB"}


@pytest.mark.parametrize(
    "said", ["unauthorized: access denied", "403: Access Denied to namespace", "401: Unauthorized"]
)
def test_l69_a_namespace_of_somebody_else(ollama: Ollama, server: ScriptedServer, said: str) -> None:
    """L-69"""
    server.replies["POST /api/push"] = Reply(lines=[*PUSHED[:2], {"error": said}])
    done = ollama("push", "me/m")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[-1] == (
        "Error: you are not authorized to push to this namespace, create the model under a namespace you own"
    )


LINK = "https://ollama.com/connect?name=box&key=abc"
NOBODY = Reply(401, json={"error": "unauthorized", "signin_url": LINK})
REFUSED = Reply(lines=[*PUSHED[:2], {"error": "unauthorized: access denied"}])
SIGN_IN = (
    "You need to be signed in to push models to ollama.com.\n\n"
    f"If your browser did not open, navigate to:\n    {LINK}\n\n"
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("me/m", SIGN_IN),
        ("registry.ollama.ai/me/m", SIGN_IN),
        ("Registry.Ollama.AI/me/m:v1", SIGN_IN),
        ("ollama.com/me/m", SIGN_IN),
        ("box:5000/me/m", ""),
        ("notollama.com/me/m", ""),
        ("ollama.com.evil.test/me/m", ""),
    ],
)
def test_a_refused_push_to_ollama_shows_where_to_sign_in(
    ollama: Ollama, server: ScriptedServer, name: str, said: str
) -> None:
    """After the refusal, which is an error all the same; another registry has no such place."""
    server.replies |= {"POST /api/push": REFUSED, "POST /api/me": NOBODY}
    done = ollama("push", name)
    assert (done.status, done.out) == (1, said)
    assert "Error: you are not authorized to push to this namespace" in done.err
    assert server.routes == ["POST /api/push", "POST /api/me"][: 1 + bool(said)]


@pytest.mark.parametrize(
    "me",
    [
        pytest.param(Reply(json={"name": "ann"}), id="signed in"),
        pytest.param(Reply(500, json={"error": "error getting authorization details"}), id="no key"),
        pytest.param(Reply(404, text="404 page not found"), id="an older server"),
    ],
)
def test_a_refusal_is_told_alone_when_there_is_no_link(ollama: Ollama, server: ScriptedServer, me: Reply) -> None:
    server.replies |= {"POST /api/push": REFUSED, "POST /api/me": me}
    done = ollama("push", "me/m")
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith(
        "Error: you are not authorized to push to this namespace, create the model under a namespace you own\n"
    )


def test_several_models_are_pushed_in_turn_up_to_the_first_failure(ollama: Ollama, server: ScriptedServer) -> None:
    missing = Reply(lines=[PUSHED[0], {"error": "model 'b' not found"}])
    server.replies["POST /api/push"] = [Reply(lines=PUSHED), missing, Reply(lines=PUSHED)]
    done = ollama("push", "me/a", "me/b", "me/c")
    assert (done.status, done.err.splitlines()[-1]) == (1, "Error: model 'b' not found")
    assert done.out == "\nYou can find your model at:\n\n\thttps://ollama.com/me/a\n"
    assert [body["model"] for body in server.bodies("POST /api/push")] == ["me/a", "me/b"]
    assert ollama("push").err == "Error: accepts 1 arg(s), received 0\n"


def test_other_failures_of_a_push_are_told_as_they_are(ollama: Ollama, server: ScriptedServer) -> None:
    for reply, text in (
        (Reply(lines=[PUSHED[0], {"error": "model 'm' not found"}]), "model 'm' not found"),
        (Reply(401, json={"error": "unauthorized"}), "unauthorized: set OLLAMA_API_KEY to a key of this server"),
    ):
        server.replies["POST /api/push"] = reply
        done = ollama("push", "me/m")
        assert (done.status, done.out, done.err.splitlines()[-1]) == (1, "", f"Error: {text}")


# --- update --------------------------------------------------------------------------------------------------------


def found(subject: str, status: str, level: str = "ok", **more: str) -> dict[str, str]:
    return {"status": status, "subject": subject, "level": level} | more


def test_an_update_of_everything(ollama: Ollama, server: ScriptedServer) -> None:
    lines = [
        {"status": "reading manifests"},
        found("m:latest", "up to date"),
        PULLED[2],
        found("longer:v1", "updated: 1 new layer, 2 KB"),
        {"status": "success"},
    ]
    server.replies["POST /api/llamero/update"] = Reply(lines=lines)
    for command in (["update"], ["pull", "--all"]):
        done = ollama(*command)
        assert done.status == 0
        assert done.out == "ok    m:latest   up to date\nok    longer:v1  updated: 1 new layer, 2 KB\n"
        assert "pulling 4f659a1e86d7 100% 2 KB/2 KB\n" in done.err
    bodies = server.bodies("POST /api/llamero/update")
    assert [body.get("models") or [] for body in bodies] == [[], []]


def test_update_can_only_look(ollama: Ollama, server: ScriptedServer) -> None:
    lines = [found("m:latest", "has an update: 1 new layer, 2 KB", "warn", advice="ollama update m:latest")]
    server.replies["POST /api/llamero/update"] = Reply(lines=[*lines, {"status": "success"}])
    done = ollama("update", "--check", "m")
    assert (done.status, done.out) == (
        0,
        "warn  m:latest  has an update: 1 new layer, 2 KB (ollama update m:latest)\n",
    )
    assert server.body("POST /api/llamero/update") == {"models": ["m"], "check": True}


def test_an_update_that_fails_for_one_is_a_failure_at_its_end(ollama: Ollama, server: ScriptedServer) -> None:
    lines = [found("a:latest", "cannot be updated: timed out", "fail"), found("b:latest", "up to date")]
    server.replies["POST /api/llamero/update"] = Reply(lines=[*lines, {"status": "success"}])
    done = ollama("update")
    assert done.out == "fail  a:latest  cannot be updated: timed out\nok    b:latest  up to date\n"
    assert (done.status, done.err.splitlines()[-1]) == (1, "Error: 1 of 2 models could not be updated")
