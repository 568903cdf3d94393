"""`fit`: the table of what would run, and what its figures rest on (cli §3.16)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.build.quantizable import llama
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer

FIT = "POST /api/llamero/fit"


def row(quant: str, size: int, **fields: Any) -> dict[str, Any]:
    return {"quant": quant, "size": size, "memory": size + 10**9, "fits": "yes", "is_computed": False} | fields


def report(*rows: dict[str, Any], **fields: Any) -> Reply:
    known = {"model": "m:latest", "source": "registry", "context": 4096, "free": 8_000_000_000, "has_gpu": False}
    return Reply(json=known | {"bandwidth": 20_000_000_000, "rows": rows} | fields)


def test_the_table_byte_for_byte(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[FIT] = report(
        row("Q4_K_M", 2_000_000_000, tokens_per_s=9.96, basis="measured", name="m:latest"),
        row("Q8_0", 3_400_000_000, tokens_per_s=4.4, basis="scaled", name="m:q8_0"),
        row("F16", 64_000_000_000, fits="no", is_computed=True),
    )
    ran = ollama("fit", "m", "--insecure")
    assert ran.out == (
        "QUANT     SIZE      MEMORY     FITS    TOKENS/S \n"
        "Q4_K_M    2 GB      ~3 GB      yes     10.0        \n"
        "Q8_0      3.4 GB    ~4.4 GB    yes     ~4.4        \n"
        "F16       ~64 GB    ~65 GB     no      -           \n"
    )
    assert ran.err.splitlines() == [
        "for a context of 4096 tokens; 8 GB of memory can be had",
        "~sizes are computed: nobody is known to offer these, or they have not been looked for",
        "speeds without a mark were measured here",
        "~speeds are guessed from the answers of models that have run here",
    ]
    assert server.body(FIT) == {"model": "m", "insecure": True}


def test_a_speed_that_only_memory_bounds(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[FIT] = report(row("Q8_0", 10**9, tokens_per_s=20.4, basis="bandwidth"))
    ran = ollama("fit", "m")
    assert ran.out.splitlines()[1].split()[-1] == "<20"
    assert ran.err.splitlines()[-1] == (
        "speeds behind < are the most that memory allows, which is read at 20 GB/s: most answers are slower"
    )


def test_a_speed_that_nobody_knows(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[FIT] = report(row("Q8_0", 10**9, name="m"), has_gpu=True, free=24_000_000_000)
    assert ollama("fit", "m").err.splitlines() == [
        "for a context of 4096 tokens; 24 GB of GPU memory can be had",
        "how fast it would be, nobody knows here before a model has answered",
    ]


def test_json_has_the_same(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[FIT] = report(row("Q8_0", 10**9, name="m", tokens_per_s=3.5, basis="measured"))
    ran = ollama("fit", "--json", "m")
    assert ran.err == ""
    assert json.loads(ran.out)["rows"] == [row("Q8_0", 10**9, name="m", tokens_per_s=3.5, basis="measured")]


def test_an_error_of_the_server(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[FIT] = Reply(404, json={"error": "model 'x' is neither here nor at its registry"})
    ran = ollama("fit", "x")
    assert (ran.status, ran.out, ran.err) == (1, "", "Error: model 'x' is neither here nor at its registry\n")


def test_a_reply_of_another_program(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[FIT] = Reply(json={"rows": 5})
    ran = ollama("fit", "x")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("Error: the server's reply is none of ours: ")


def test_a_file_needs_no_server(ollama: Ollama, server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(llama("F16"))
    ran = ollama("fit", "--json", str(path))
    found = json.loads(ran.out)
    assert (found["source"], found["model"]) == ("file", str(path))
    own = next(each for each in found["rows"] if each["quant"] == "F16")
    assert (own["size"], own["is_computed"], own["fits"]) == (path.stat().st_size, False, "yes")
    assert server.requests == []


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model at all"])
def test_a_file_that_is_no_model(ollama: Ollama, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    ran = ollama("fit", str(path))
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("Error: invalid model file: ")
