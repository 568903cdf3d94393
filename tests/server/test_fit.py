"""`/api/llamero/fit` of a real server: models that are here, and models that are only at a registry (cli §3.16)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llamero.build.quantize.mixture import LEVELS
from tests import model_folders
from tests.build.quantizable import llama
from tests.conftest import StartServer
from tests.registry.model_registry import Answer, ModelRegistry
from tests.running import Server, running

NOWHERE = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
"""Nobody listens there: no test leaves this machine."""

MIB = 2**20
WEIGHTS = llama("F16", n_layers=2, metadata={"general.description": "x" * (3 * MIB // 2)}) + bytes(64 * MIB)
"""A head of more than a mebibyte, and a long file behind it."""


def config(level: str, size: str = "1B") -> bytes:
    return json.dumps({"model_format": "gguf", "model_type": size, "file_type": level}).encode()


@pytest.fixture(scope="module")
def registry() -> Iterator[ModelRegistry]:
    with ModelRegistry() as started:
        started.add("library/m:1b-fp16", WEIGHTS, config=config("F16"))
        started.add("library/m:1b-q8_0", WEIGHTS[: 40 * MIB], config=config("Q8_0"), system="Be kind.")
        started.add("library/m:7b-q8_0", WEIGHTS[: 50 * MIB], config=config("Q8_0", "7B"))
        started.add("library/m:bare", WEIGHTS)
        started.add("library/bad:latest", b"GGUF" + bytes(100), config=config("F16"))
        started.add("library/cut:latest", WEIGHTS[:MIB], config=config("F16"))
        started.add("library/tensors:latest", b"x" * 100, kind="tensor", config=b'{"model_format":"safetensors"}')
        tags = {"name": "library/m", "tags": ["1b-fp16", "1b-q8_0", "7b-q8_0", "bare", "gone-q4_0", 7]}
        started.answers["/v2/library/m/tags/list"] = Answer(200, json.dumps(tags).encode())
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fit")
    model_folders.add(folder / "models", "here", llama("F16"))
    with running(folder, folder / "models", **NOWHERE) as started:
        yield started


def fit(server: Server, model: str, **fields: Any) -> dict[str, Any]:
    reply = server.post("/api/llamero/fit", {"model": model} | fields)
    assert reply.status == 200, reply.body
    return dict(reply.json())


def error(server: Server, model: str, **fields: Any) -> tuple[int, str]:
    reply = server.post("/api/llamero/fit", {"model": model} | fields)
    return reply.status, reply.error


def test_a_model_that_is_here(server: Server) -> None:
    report = fit(server, "HERE")
    assert (report["source"], report["has_gpu"]) == ("local", False)
    assert report["bandwidth"] > 10**9
    rows = {row["quant"]: row for row in report["rows"]}
    assert set(rows) == set(LEVELS)
    assert rows["F16"]["name"] == "here:latest"
    assert {row["fits"] for row in rows.values()} == {"yes"}
    assert {row["basis"] for row in rows.values()} == {"bandwidth"}
    assert [row["size"] for row in report["rows"]] == sorted(row["size"] for row in rows.values())
    assert not server.loaded(), "nothing was loaded for it"


def test_a_model_at_a_registry_is_judged_before_it_is_fetched(server: Server, registry: ModelRegistry) -> None:
    sent_before = registry.sent_bytes
    report = fit(server, f"http://{registry.host}/library/m:1b-fp16")
    rows = {row["quant"]: row for row in report["rows"]}
    assert report["source"] == "registry"
    assert rows["F16"]["size"] == len(WEIGHTS) + len(config("F16"))
    assert rows["Q8_0"]["size"] == 40 * MIB + len(config("Q8_0")) + len("Be kind.")
    assert rows["Q8_0"]["name"] == f"{registry.host}/library/m:1b-q8_0"
    assert not rows["Q8_0"]["is_computed"]
    assert rows["Q4_K_M"]["is_computed"]
    assert registry.sent_bytes - sent_before < len(WEIGHTS) / 2, "of the weights only the head was read"
    assert not list((server.models / "blobs").glob("*partial*"))
    assert len(server.get("/api/tags").json()["models"]) == 1


def test_another_size_of_the_model_is_no_quantization_of_it(server: Server, registry: ModelRegistry) -> None:
    names = {row["name"] for row in fit(server, f"http://{registry.host}/library/m:bare")["rows"]}
    assert names == {f"{registry.host}/library/m:bare", ""}


@pytest.mark.parametrize(
    ("model", "status", "text"),
    [
        ("library/none", 404, "is neither here nor at its registry"),
        ("library/bad", 400, "invalid model file: "),
        ("library/cut", 400, "invalid model file: "),
        ("library/tensors", 400, "is stored as safetensors, which cannot be run"),
    ],
)
def test_what_cannot_be_judged_says_why(
    server: Server, registry: ModelRegistry, model: str, status: int, text: str
) -> None:
    found_status, found = error(server, f"http://{registry.host}/{model}")
    assert found_status == status
    assert text in found


def test_names_that_are_none(server: Server) -> None:
    assert error(server, "") == (400, "model is required")
    assert error(server, "a//b") == (400, "invalid model name")
    assert error(server, "m:cloud") == (400, "'m:cloud' does not run here")
    assert error(server, "nowhere:local") == (404, "model 'nowhere:local' not found")


def test_without_a_registry_that_is_said(server: Server) -> None:
    status, text = error(server, "nobody-has-this")
    assert status == 502
    assert text.startswith("model 'nobody-has-this:latest' is not here, and its registry cannot tell: pull model")
    assert text.endswith(": connection refused")


def test_a_registry_that_is_out_of_order_is_not_our_own_failure(server: Server, registry: ModelRegistry) -> None:
    registry.answers["/v2/library/broken/manifests/latest"] = Answer(500, b"")
    status, text = error(server, f"http://{registry.host}/library/broken")
    assert (status, "its registry cannot tell" in text) == (502, True)


@pytest.mark.heavy
def test_a_model_that_has_answered_tells_its_speed(start_server: StartServer) -> None:
    server = start_server()
    body = {"model": "smollm2:135m", "prompt": "Count.", "options": {"num_predict": 64, "temperature": 0}}
    last = server.post("/api/generate", body).lines()[-1]
    rows = {row["quant"]: row for row in fit(server, "smollm2:135m")["rows"]}
    measured = last["eval_count"] / last["eval_duration"] * 1e9
    assert rows["Q4_1"]["basis"] == "measured"
    assert rows["Q4_1"]["tokens_per_s"] == pytest.approx(measured, abs=0.06)
    assert rows["F16"]["basis"] == "scaled"
    assert rows["F16"]["tokens_per_s"] < measured
