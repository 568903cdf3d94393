"""The routes that keep the models folder tidy, on a real server beside a real registry (cli §3.16, store GAP-11)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from llamero.names import Digest
from llamero.sizes import human_bytes
from tests import model_folders as folder
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, free_port, running

WEIGHTS = tiny_llama()
OTHER = tiny_llama({"general.name": "another"})
OLD_S = 2 * folder.HOUR_S


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another machine of ours that shares its models; tests add theirs under names of their own."""
    place = tmp_path_factory.mktemp("registry")
    with running(place, place / "models", LLAMERO_SHARE="1") as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("ours")
    with running(place, place / "models") as server:
        yield server


@pytest.fixture
def server(shared_server: Server) -> Server:
    """The same process for all tests, with an empty folder for each."""
    for model in shared_server.get("/api/tags").json()["models"]:
        assert shared_server.call("DELETE", "/api/delete", {"model": model["name"]}).status == 200
    for stray in folder.blobs(shared_server.models):
        (shared_server.models / "blobs" / stray).unlink()
    return shared_server


def ask(server: Server, route: str, **body: Any) -> Reply:
    return server.post(f"/api/llamero/{route}", body)


def pull(server: Server, registry: Server, name: str, *, as_: str = "") -> str:
    """The name under which the model is then here."""
    source = f"{registry.url}/library/{name}"
    reply = server.post("/api/pull", {"model": source, "insecure": True, "as": as_})
    assert reply.lines()[-1] == {"status": "success"}, reply.body
    return as_ or source.removeprefix("http://") + ("" if ":" in name else ":latest")


def findings(reply: Reply) -> dict[str, tuple[str, str]]:
    """Level and text by subject. The last line says that it is over."""
    assert reply.lines()[-1] == {"status": "success"}, reply.body
    return {line["subject"]: (line["level"], line["status"]) for line in reply.lines() if "subject" in line}


def advice(reply: Reply) -> list[str]:
    return [line["advice"] for line in reply.lines() if "advice" in line]


def blob(root: Path, content: bytes) -> Path:
    return root / "blobs" / Digest.of(content).file_name


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


class Log:
    """What a server is asked from now on."""

    def __init__(self, server: Server) -> None:
        self._path = server.log
        self._begin = self._path.stat().st_size

    def blobs(self) -> set[str]:
        text = self._path.read_bytes()[self._begin :].decode()
        return set(re.findall(r'GET +"/v2/[^ ]*/blobs/(sha256:[0-9a-f]{64})', text))


# --- usage ---------------------------------------------------------------------------------------------------------


def test_usage(server: Server) -> None:
    for name in ("a", "b"):
        folder.add(server.models, name, WEIGHTS, system=f"only {name}")
    folder.blob(server.models, b"of no model")
    size = len(WEIGHTS) + len("only a") + len("{}")
    rows = [
        {"name": f"{one}:latest", "size": size, "own": len("only a"), "shared_with": [f"{other}:latest"]}
        for one, other in ("ab", "ba")
    ]
    assert ask(server, "usage", without=["B", "a"]).json() == {
        "models": rows,
        "models_size": 2 * size,
        "disk_size": size + len("only b"),
        "saved": size - len("only b"),
        "unused": len(b"of no model"),
        "freed": size + len("only b"),
        "without": rows[::-1],
    }
    assert ask(server, "usage", without=["a"]).json()["freed"] == len("only a")


def test_usage_of_nothing_and_of_unknown_names(server: Server) -> None:
    assert server.post("/api/llamero/usage").json()["models"] == []
    missing = ask(server, "usage", without=["nope"])
    assert (missing.status, missing.error) == (404, "model 'nope' not found")
    assert ask(server, "usage", without=["../x"]).status == 400


def test_where_the_models_are(server: Server) -> None:
    assert server.get("/api/llamero/store").json() == {"models": str(server.models)}


# --- prune ---------------------------------------------------------------------------------------------------------


def test_prune(server: Server) -> None:
    folder.add(server.models, "m", WEIGHTS)
    kept = folder.blobs(server.models)
    unused = folder.blob(server.models, b"unused", age_s=OLD_S).replace(":", "-")
    told = {"files": [unused], "freed": len(b"unused")}
    assert ask(server, "prune", dry_run=True).json() == told
    assert folder.blobs(server.models) == kept | {unused}
    assert ask(server, "prune").json() == told
    assert folder.blobs(server.models) == kept
    assert ask(server, "prune").json() == {"files": [], "freed": 0}


def test_prune_says_what_keeps_it_from_its_work(server: Server) -> None:
    broken = folder.write(server.models, "broken", b"{")
    folder.blob(server.models, b"unused", age_s=OLD_S)
    try:
        reply = ask(server, "prune")
        assert (reply.status, folder.blobs(server.models)) == (500, {Digest.of(b"unused").file_name})
        assert reply.error.startswith("nothing is removed while a manifest cannot be read: model 'broken:latest'")
    finally:
        broken.unlink()


# --- move ----------------------------------------------------------------------------------------------------------


def test_move(server: Server) -> None:
    raw = folder.add(server.models, "m", WEIGHTS).read_bytes()
    assert ask(server, "move", source="M", destination="n:1").json() == {"model": "n:1"}
    assert folder.manifest_path(server.models, "n:1").read_bytes() == raw
    assert [model["name"] for model in server.get("/api/tags").json()["models"]] == ["n:1"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"source": "gone", "destination": "n"}, 404, "model 'gone' not found"),
        ({"source": "m", "destination": "../n"}, 400, "invalid model name"),
        ({"source": "", "destination": "n"}, 400, "invalid model name"),
        ({}, 400, "invalid model name"),
    ],
)
def test_moves_that_cannot_be(server: Server, body: Mapping[str, str], status: int, error: str) -> None:
    reply = server.post("/api/llamero/move", body)
    assert (reply.status, reply.error) == (status, error)


# --- doctor --------------------------------------------------------------------------------------------------------


def test_a_sound_store(server: Server) -> None:
    folder.add(server.models, "m", WEIGHTS)
    reply = ask(server, "doctor")
    assert reply.lines()[0] == {"status": "reading manifests"}
    total = len(WEIGHTS) + len("{}")
    progress = [line for line in reply.lines() if line.get("digest")]
    assert progress[-1] == {
        "status": "verifying blobs",
        "digest": "sha256:store",
        "total": total,
        "completed": total,
    }
    assert findings(reply) == {"m:latest": ("ok", f"2 blobs, {human_bytes(total)}")}
    assert ask(server, "doctor", stream=False).json() == {"status": "success"}


def test_s108_a_zeroed_blob_is_found_and_it_alone_is_fetched_again(server: Server, registry: Server) -> None:
    """S-108"""
    folder.add(registry.models, "s108", WEIGHTS, system="sound", license="sound too")
    name = pull(server, registry, "s108")
    zero(blob(server.models, WEIGHTS))
    found = ask(server, "doctor")
    assert findings(found)[name][0] == "fail"
    assert Digest.of(WEIGHTS).short in findings(found)[name][1]
    assert advice(found) == ["ollama doctor --store --repair"]
    assert blob(server.models, WEIGHTS).read_bytes() == bytes(len(WEIGHTS))

    asked = Log(registry)
    before = folder.manifest_path(server.models, name).read_bytes()
    assert findings(ask(server, "doctor", repair=True)) == {
        name: ("ok", f"repaired: {Digest.of(WEIGHTS).short} fetched again")
    }
    assert asked.blobs() == {str(Digest.of(WEIGHTS))}
    assert blob(server.models, WEIGHTS).read_bytes() == WEIGHTS
    assert folder.manifest_path(server.models, name).read_bytes() == before
    assert findings(ask(server, "doctor"))[name][0] == "ok"


def test_a_blob_of_two_models_is_fetched_once(server: Server, registry: Server) -> None:
    folder.add(registry.models, "one", WEIGHTS, system="1")
    folder.add(registry.models, "two", WEIGHTS, system="2")
    pulled = [pull(server, registry, name) for name in ("one", "two")]
    blob(server.models, WEIGHTS).unlink()
    repaired = findings(ask(server, "doctor", repair=True))
    assert [repaired[name][0] for name in pulled] == ["ok", "ok"]
    assert sum(text.startswith("repaired: ") for _, text in repaired.values()) == 1


def test_a_model_with_another_name_is_repaired_from_where_it_came(server: Server, registry: Server) -> None:
    folder.add(registry.models, "origin", WEIGHTS)
    pull(server, registry, "origin", as_="mine:1")
    assert ask(server, "move", source="mine:1", destination="ours:2").status == 200
    zero(blob(server.models, WEIGHTS))
    assert findings(ask(server, "doctor", repair=True))["ours:2"][0] == "ok"
    assert [model["name"] for model in server.get("/api/tags").json()["models"]] == ["ours:2"]


def test_what_cannot_be_repaired_stays_as_it_is(server: Server, registry: Server) -> None:
    folder.add(registry.models, "withdrawn", WEIGHTS)
    pulled = pull(server, registry, "withdrawn")
    folder.manifest_path(registry.models, "withdrawn").unlink()
    folder.add(server.models, "made", OTHER, newline=True)
    for content in (WEIGHTS, OTHER):
        zero(blob(server.models, content))
    before = folder.tree(server.models / "blobs")
    reply = ask(server, "doctor", repair=True)
    assert findings(reply)[pulled][0] == findings(reply)["made:latest"][0] == "fail"
    assert "; not repaired: pull model manifest: " in findings(reply)[pulled][1]
    assert "create it again" in advice(reply)
    assert folder.tree(server.models / "blobs") == before


# --- update --------------------------------------------------------------------------------------------------------


def test_only_what_changed_is_fetched(server: Server, registry: Server) -> None:
    folder.add(registry.models, "grows", WEIGHTS, system="old")
    name = pull(server, registry, "grows")
    assert findings(ask(server, "update")) == {name: ("ok", "up to date")}

    newest = folder.add(registry.models, "grows", WEIGHTS, system="newer").read_bytes()
    check = ask(server, "update", check=True)
    assert findings(check) == {name: ("warn", "has an update: 1 new layer, 5 B")}
    assert advice(check) == [f"ollama update {name}"]
    assert not blob(server.models, b"newer").exists()

    asked = Log(registry)
    assert findings(ask(server, "update", models=[name.upper()])) == {name: ("ok", "updated: 1 new layer, 5 B")}
    assert asked.blobs() == {str(Digest.of(b"newer"))}
    assert folder.manifest_path(server.models, name).read_bytes() == newest
    assert not blob(server.models, b"old").exists()


def test_what_a_new_name_is_updated_from(server: Server, registry: Server) -> None:
    folder.add(registry.models, "renamed", WEIGHTS, system="old")
    pull(server, registry, "renamed", as_="mine:1")
    server.post("/api/copy", {"source": "mine:1", "destination": "copy:1"})
    folder.add(registry.models, "renamed", WEIGHTS, system="newest")
    assert set(findings(ask(server, "update")).values()) == {("ok", "updated: 1 new layer, 6 B")}
    assert {model["name"] for model in server.get("/api/tags").json()["models"]} == {"mine:1", "copy:1"}
    assert server.post("/api/show", {"model": "copy:1"}).json()["system"] == "newest"


def test_one_that_fails_does_not_stop_the_others(server: Server, registry: Server, tmp_path: Path) -> None:
    gone = free_port()
    place = tmp_path / "short-lived"
    folder.add(place / "models", "a", OTHER)
    with running(place, place / "models", port=gone, LLAMERO_SHARE="1") as short_lived:
        unreachable = pull(server, short_lived, "a")
    folder.add(registry.models, "b", WEIGHTS)
    folder.add(registry.models, "c", WEIGHTS, system="old")
    withdrawn, changed = pull(server, registry, "b"), pull(server, registry, "c")
    folder.manifest_path(registry.models, "b").unlink()
    folder.add(registry.models, "c", WEIGHTS, system="new")
    folder.add(server.models, "d", WEIGHTS, newline=True)

    told = findings(ask(server, "update"))
    assert told.pop(unreachable)[0] == "fail"
    assert told == {
        withdrawn: ("ok", "not at its registry"),
        changed: ("ok", "updated: 1 new layer, 3 B"),
        "d:latest": ("ok", "made here"),
    }


def test_an_unknown_name_is_said_before_anything_is_done(server: Server) -> None:
    reply = ask(server, "update", models=["nope"])
    assert (reply.status, reply.error) == (404, "model 'nope' not found")


def test_the_remote_stub_is_made_here(server: Server) -> None:
    folder.add(server.models, "stub", config={"remote_host": "https://ollama.com", "remote_model": "x"}, newline=True)
    assert findings(ask(server, "update")) == {"stub:latest": ("ok", "made here")}


def test_bodies_that_are_no_json(server: Server) -> None:
    for route in ("usage", "prune", "move", "doctor", "update"):
        assert server.post(f"/api/llamero/{route}", b"{").status == 400
    assert json.loads(server.post("/api/llamero/usage", b"").body)["models"] == []
