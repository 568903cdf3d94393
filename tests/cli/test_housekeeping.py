"""du, prune, doctor, mv, rm with its previews, update and list --sort (cli §3.8, §3.11, §3.16, §13)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.cli.conftest import Ollama, Outcome
from tests.cli.scripted_server import Reply, ScriptedServer, shown
from tests.cli.terminals import TerminalProgram
from tests.gguf_files import tiny_llama
from tests.running import free_port

GB = 10**9
USAGE = "POST /api/llamero/usage"
DOCTOR = "POST /api/llamero/doctor"
UPDATE = "POST /api/llamero/update"
SUCCESS = {"status": "success"}


def used(name: str, size: int, own: int, *shared_with: str) -> dict[str, Any]:
    return {"name": name, "size": size, "own": own, "shared_with": list(shared_with)}


def found(level: str, subject: str, text: str, advice: str = "") -> dict[str, Any]:
    return {"status": text, "subject": subject, "level": level} | ({"advice": advice} if advice else {})


def usage(*models: Mapping[str, Any], without: list[Mapping[str, Any]] | None = None, freed: int = 0) -> Reply:
    totals = {"models_size": 9_400_000_000, "disk_size": 4_800_000_000, "saved": 4_600_000_000, "unused": 120}
    return Reply(json={"models": list(models), "without": without or [], "freed": freed} | totals)


# --- du ------------------------------------------------------------------------------------------------------------


def test_du_byte_for_byte(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[USAGE] = usage(
        used("big:latest", 4_700_000_000, 100_000_000, "copy:latest", "other:1"),
        used("copy:latest", 4_700_000_000, 0, "big:latest"),
        used("all-minilm:22m", 46_220_478, 46_220_478),
    )
    assert ollama("du").out == (
        "NAME              SIZE      OWN       SHARED WITH            \n"
        "big:latest        4.7 GB    100 MB    copy:latest and 1 more    \n"
        "copy:latest       4.7 GB    0 B       big:latest                \n"
        "all-minilm:22m    46 MB     46 MB     -                         \n"
        "all models 9.4 GB, on disk 4.8 GB, saved by sharing 4.6 GB, unused files 120 B\n"
    )


def test_du_of_nothing(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[USAGE] = Reply(json={"models": []})
    assert ollama("du").out == (
        "NAME    SIZE    OWN    SHARED WITH \nall models 0 B, on disk 0 B, saved by sharing 0 B, unused files 0 B\n"
    )


# --- prune ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "files", "text"),
    [
        ((), ["sha256-1", "x"], "sha256-1\nx\n2 files, 1.5 KB freed\n"),
        (("--dry-run",), ["x"], "x\n1 file, 1.5 KB would be freed\n"),
        ((), [], "nothing to remove: what no model uses goes when it is an hour old\n"),
    ],
)
def test_prune(ollama: Ollama, server: ScriptedServer, argv: tuple[str, ...], files: list[str], text: str) -> None:
    server.replies["POST /api/llamero/prune"] = Reply(json={"files": files, "freed": 1500})
    assert ollama("prune", *argv).out == text
    assert server.body("POST /api/llamero/prune") == {"dry_run": bool(argv)}


def test_prune_of_interrupted_downloads(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/llamero/prune"] = Reply(json={"files": [], "freed": 0})
    assert ollama("prune", "--downloads").status == 0
    assert server.body("POST /api/llamero/prune") == {"dry_run": False, "downloads": True}


# --- doctor --------------------------------------------------------------------------------------------------------


EXAMINED = [
    {"status": "reading manifests"},
    {"status": "verifying blobs", "digest": "sha256:store", "total": 2 * GB, "completed": GB},
    found("ok", "m:latest", "2 blobs, 2 GB"),
    found("warn", "blob 0123456789ab", "no model uses it, 5 B", "ollama prune removes it"),
]
DAMAGED = found("fail", "bad:latest", "blob ab is damaged", "ollama doctor --store --repair")


def test_doctor_without_a_failure(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[DOCTOR] = Reply(lines=[*EXAMINED, SUCCESS])
    ran = ollama("doctor", "--store")
    assert (ran.status, ran.err) == (0, "reading manifests\nverifying blobs 50% 1 GB/2 GB\n")
    assert ran.out == (
        "ok    m:latest           2 blobs, 2 GB\n"
        "warn  blob 0123456789ab  no model uses it, 5 B (ollama prune removes it)\n"
    )
    assert server.body(DOCTOR) == {"repair": False}


def test_doctor_with_a_failure(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[DOCTOR] = Reply(lines=[*EXAMINED, DAMAGED, SUCCESS])
    ran = ollama("doctor", "--store", "--repair", "--quiet")
    assert (ran.status, ran.err.splitlines()[-1]) == (1, "Error: 1 of 3 checks failed")
    assert ran.out.splitlines()[-1] == "fail  bad:latest         blob ab is damaged (ollama doctor --store --repair)"
    assert server.body(DOCTOR) == {"repair": True}


def test_on_a_terminal_the_results_are_all_that_stays(server: ScriptedServer, tmp_path: Path) -> None:
    server.replies[DOCTOR] = Reply(lines=[*EXAMINED, DAMAGED, SUCCESS])
    env = {"OLLAMA_HOST": server.address, "HOME": str(tmp_path)}
    with TerminalProgram(("doctor", "--store"), env) as program:
        assert program.wait() == 1
        before, _, after = program.output.partition("ok    m:latest")
        assert before.endswith("\x1b[2K\x1b[1G") or "verifying" not in before
        assert after.rstrip().endswith("Error: 1 of 3 checks failed")
        assert "verifying" not in after


def test_a_long_subject_does_not_push_the_others_away_and_commands_nothing(
    ollama: Ollama, server: ScriptedServer
) -> None:
    long = "file " + "x" * 200
    lines = [found("ok", "m:latest", "fine"), found("fail", f"{long}\x1b[2J", "is no\nblob"), SUCCESS]
    server.replies[DOCTOR] = Reply(lines=lines)
    assert ollama("doctor", "--store").out == f"ok    m:latest  fine\nfail  {long}[2J  is no blob\n"


def test_a_store_is_examined_without_a_server(ollama: Ollama, tmp_path: Path) -> None:
    root = tmp_path / "models"
    model_folders.add(root, "m", tiny_llama())
    env = {"OLLAMA_HOST": f"127.0.0.1:{free_port()}", "OLLAMA_MODELS": str(root)}
    ran = ollama("doctor", "--store", env=env)
    assert (ran.status, ran.out) == (0, "ok    m:latest  2 blobs, 77 KB\n")
    assert ran.err == f"no server answers, examining {root}\n"

    model_folders.manifest_path(root, "m").write_bytes(b"{")
    ran = ollama("doctor", "--store", env=env)
    assert ran.status == 1
    assert ran.out.startswith("fail  manifest           model 'm:latest': ")

    repair = ollama("doctor", "--store", "--repair", env=env)
    assert (repair.status, repair.out) == (1, "")
    assert "could not connect to ollama server" in repair.err


def test_doctor_as_json(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[DOCTOR] = Reply(lines=[*EXAMINED, DAMAGED, SUCCESS])
    ran = ollama("doctor", "--store", "--json", "--quiet")
    assert ran.status == 1
    found = json.loads(ran.out)
    assert found["failed"] == 1
    assert found["checks"][-1] == {
        "level": "fail",
        "subject": "bad:latest",
        "finding": "blob ab is damaged",
        "advice": "ollama doctor --store --repair",
    }


def test_only_a_store_is_repaired(ollama: Ollama) -> None:
    ran = ollama("doctor", "--repair")
    assert (ran.status, ran.out, ran.err) == (1, "", "Error: --repair goes with --store\n")


# --- mv ------------------------------------------------------------------------------------------------------------


def test_mv(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/llamero/move"] = Reply(json={"model": "B:latest"})
    assert ollama("mv", "a", "b").out == "moved 'a' to 'B:latest'\n"
    assert server.body("POST /api/llamero/move") == {"source": "a", "destination": "b"}
    server.replies["POST /api/llamero/move"] = Reply(404, json={"error": "model 'a' not found"})
    ran = ollama("mv", "a", "b")
    assert (ran.status, ran.err) == (1, "Error: model 'a' not found\n")


# --- rm ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def removing(server: ScriptedServer) -> ScriptedServer:
    tags = [{"name": name} for name in ("Qwen3:4b", "qwen3:8b", "llama:latest")]
    server.replies |= {
        "GET /api/tags": Reply(json={"models": tags}),
        "POST /api/show": shown(),
        "POST /api/generate": Reply(json={"done": True, "done_reason": "unload", "response": ""}),
        "DELETE /api/delete": Reply(),
        USAGE: usage(without=[used("Qwen3:4b", 2 * GB, GB), used("qwen3:8b", 5 * GB, 4 * GB)], freed=6 * GB),
    }
    return server


PREVIEW = "NAME        SIZE    OWN  \nQwen3:4b    2 GB    1 GB    \nqwen3:8b    5 GB    4 GB    \n"


def deleted(server: ScriptedServer) -> list[str]:
    return [body["model"] for body in server.bodies("DELETE /api/delete")]


@pytest.mark.parametrize(
    ("patterns", "gone"),
    [
        (("qwen3*",), ["Qwen3:4b", "qwen3:8b"]),
        (("QWEN3:?b", "llama"), ["Qwen3:4b", "qwen3:8b", "llama"]),
        (("qwen3:8b", "qwen3*"), ["qwen3:8b", "Qwen3:4b"]),
        (("*:[0-9]b",), ["Qwen3:4b", "qwen3:8b"]),
    ],
)
def test_patterns_match_in_any_case_and_each_model_goes_once(
    ollama: Ollama, removing: ScriptedServer, patterns: tuple[str, ...], gone: list[str]
) -> None:
    ran = ollama("rm", *patterns)
    assert (ran.status, deleted(removing)) == (0, gone)
    assert ran.out == "".join(f"deleted '{name}'\n" for name in gone)


def test_a_pattern_that_matches_nothing_removes_nothing(ollama: Ollama, removing: ScriptedServer) -> None:
    ran = ollama("rm", "llama:latest", "gemma*")
    assert (ran.status, ran.err) == (1, "Error: no model matches 'gemma*'\n")
    assert deleted(removing) == []


def test_a_dry_run_shows_what_would_be_freed(ollama: Ollama, removing: ScriptedServer) -> None:
    ran = ollama("rm", "--dry-run", "qwen3*")
    assert (ran.status, ran.out) == (0, f"{PREVIEW}2 models, 6 GB would be freed\n")
    assert removing.body(USAGE) == {"without": ["Qwen3:4b", "qwen3:8b"]}
    assert deleted(removing) == []


@pytest.mark.parametrize(
    ("answer", "removes"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("yellow\n", False), ("", False)],
    ids=["y", "YES", "n", "return", "another word", "end of input"],
)
def test_it_asks_first(ollama: Ollama, removing: ScriptedServer, answer: str, removes: bool) -> None:
    ran = ollama("rm", "-i", "qwen3*", stdin=answer)
    assert ran.out.startswith(f"{PREVIEW}2 models, 6 GB would be freed\n")
    assert ran.err == "Remove them? [y/N] " + ("" if answer else "\n")
    assert deleted(removing) == (["Qwen3:4b", "qwen3:8b"] if removes else [])
    assert ran.status == 0


def test_one_is_it(ollama: Ollama, removing: ScriptedServer) -> None:
    removing.replies[USAGE] = usage(without=[used("llama:latest", GB, GB)], freed=GB)
    ran = ollama("rm", "-i", "llama")
    assert (ran.out.splitlines()[-1], ran.err) == ("1 model, 1 GB would be freed", "Remove it? [y/N] \n")


def test_the_first_failure_stops_it(ollama: Ollama, removing: ScriptedServer) -> None:
    removing.replies["DELETE /api/delete"] = [Reply(), Reply(500, json={"error": "disk trouble"})]
    ran = ollama("rm", "qwen3*", "llama")
    assert (ran.status, ran.out, ran.err) == (1, "deleted 'Qwen3:4b'\n", "Error: disk trouble\n")
    assert deleted(removing) == ["Qwen3:4b", "qwen3:8b"]


# --- update --------------------------------------------------------------------------------------------------------


UPDATED = [
    {"status": "reading manifests"},
    found("ok", "a:latest", "up to date"),
    {"status": "pulling 0123456789ab", "digest": "sha256:0123456789ab", "total": GB, "completed": GB},
    found("ok", "long-name:latest", "updated: 1 new layer, 1 GB"),
]


@pytest.mark.parametrize(
    ("argv", "body"),
    [
        (("update",), {"models": [], "check": False}),
        (("update", "a", "b"), {"models": ["a", "b"], "check": False}),
        (("update", "--check"), {"models": [], "check": True}),
        (("pull", "--all"), {"models": [], "check": False}),
    ],
)
def test_update(ollama: Ollama, server: ScriptedServer, argv: tuple[str, ...], body: Mapping[str, Any]) -> None:
    server.replies[UPDATE] = Reply(lines=[*UPDATED, SUCCESS])
    ran = ollama(*argv)
    assert (ran.status, ran.err) == (0, "reading manifests\npulling 0123456789ab 100% 1 GB/1 GB\n")
    assert ran.out == "ok    a:latest          up to date\nok    long-name:latest  updated: 1 new layer, 1 GB\n"
    assert server.body(UPDATE) == body


def test_an_update_that_fails_for_one(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[UPDATE] = Reply(lines=[found("fail", "z", "cannot be updated: no such host"), *UPDATED, SUCCESS])
    ran = ollama("update")
    assert (ran.status, len(ran.out.splitlines())) == (1, 3)
    assert ran.err.splitlines()[-1] == "Error: 1 of 3 models could not be updated"


def test_an_update_that_is_cut_off(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[UPDATE] = Reply(lines=UPDATED)
    ran = ollama("update")
    assert ran.status == 1
    assert "Error: the server closed the connection before it was done" in ran.err


# --- list --sort ---------------------------------------------------------------------------------------------------


@pytest.fixture
def three(server: ScriptedServer) -> ScriptedServer:
    models = [
        {"name": "b", "digest": "1", "size": 2, "modified_at": "2026-01-03T00:00:00Z"},
        {"name": "C", "digest": "2", "size": 3, "modified_at": "2026-01-01T00:00:00Z"},
        {"name": "a", "digest": "3", "size": 1, "modified_at": "2026-01-02T00:00:00Z"},
    ]
    server.replies["GET /api/tags"] = Reply(json={"models": models})
    return server


def listed(ran: Outcome) -> list[str]:
    return [line.split()[0] for line in ran.out.splitlines()[1:]]


@pytest.mark.parametrize(
    ("argv", "order"),
    [
        ((), ["b", "C", "a"]),
        (("--sort", "name"), ["a", "b", "C"]),
        (("--sort", "size"), ["C", "b", "a"]),
        (("--sort=modified",), ["b", "a", "C"]),
        (("c", "--sort", "size"), ["C"]),
    ],
)
def test_the_order_of_a_list(ollama: Ollama, three: ScriptedServer, argv: tuple[str, ...], order: list[str]) -> None:
    assert listed(ollama("list", *argv)) == order


def test_an_order_that_does_not_exist(ollama: Ollama, three: ScriptedServer) -> None:
    ran = ollama("list", "--sort", "colour")
    assert (ran.status, ran.err) == (1, "Error: --sort must be one of name, size, modified\n")
