"""Clients in Go, Java and Rust, built here, against a server of ours: what they do stands in `go/`, `java/`, `rust/`.

The first run fetches them from their registries and compiles; later ones find all of it in `.cache`. `docs/clients.md`
tells what passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.cast import make_cast
from tests.conftest import CACHE
from tests.running import Server, clean_environment

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "clients.md"

RUN_TIMEOUT_S = 300
BUILD_TIMEOUT_S = 1200
"""On a small machine the first build in Rust takes six minutes."""

GO_CLIENT = "github.com/ollama/ollama@v0.32.14"
RUST_CLIENT = "ollama-rs@0.3.6"
JAVA_CLIENTS = ("io.github.ollama4j:ollama4j:1.1.6", "dev.langchain4j:langchain4j-ollama:1.18.1")

CALL = ["get_weather", {"city": "Paris"}]
ANSWER = "It rains in Paris."
THOUGHT = ["Thirty and three.", "It is 33."]


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server with every model that a scenario knows."""
    make_cast(server, tmp_path_factory.mktemp("cast"))
    return server


def folder_of(name: str, scenario: Path, place: str) -> Path:
    """Where it is built, with its newest source at its place."""
    folder = CACHE.with_name(name)
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(scenario, folder / place)
    return folder


def build(folder: Path, *command: str | Path, **env: str) -> None:
    subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, check=True, capture_output=True, timeout=BUILD_TIMEOUT_S
    )


def told(command: list[str | Path], home: Path) -> Any:
    """What a scenario tells: the last line of its output."""
    done = subprocess.run(
        command, env=clean_environment(home), capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.heavy
@pytest.mark.timeout(BUILD_TIMEOUT_S)
@pytest.mark.skipif(not shutil.which("go"), reason="needs a Go toolchain")
def test_the_official_go_client(stage: Server, tmp_path: Path) -> None:
    folder = folder_of("test-go-scenario", HERE / "go" / "scenario.go", "scenario.go")
    places = {"GOPATH": str(folder / "path"), "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod -modcacherw"}
    if not (folder / "go.mod").exists():
        build(folder, "go", "mod", "init", "scenario", **places)
        build(folder, "go", "get", GO_CLIENT, **places)
    build(folder, "go", "build", "-o", "scenario", "scenario.go", **places)
    assert told([folder / "scenario", stage.url], tmp_path) == {
        "streams": True,
        "calls": [*CALL, ANSWER],
        "streamed_calls": [*CALL, ANSWER],
        "thinking": THOUGHT,
        "animal": True,
        "sees": True,
        "embedded": True,
        "listed": [True, True, True],
        "made": ["success", "Be brief."],
        "refused": [404, "model 'nobody' not found"],
        "version": True,
    }


@pytest.mark.heavy
@pytest.mark.timeout(BUILD_TIMEOUT_S)
@pytest.mark.skipif(not (shutil.which("javac") and shutil.which("mvn")), reason="needs a JDK and Maven")
def test_java_clients(stage: Server, tmp_path: Path) -> None:
    folder = folder_of("test-java", HERE / "java" / "Scenario.java", "Scenario.java")
    if not (folder / "ready").exists():
        (folder / "pom.xml").write_text(pom(*JAVA_CLIENTS, "dev.langchain4j:langchain4j:1.18.1"))
        build(folder, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib")
        (folder / "ready").touch()
    libraries = f"{folder / 'lib' / '*'}"
    build(
        folder, "javac", "-parameters", "-cp", libraries, "Scenario.java"
    )  # tools are told by their parameters' names
    assert told(["java", "-cp", f"{libraries}{os.pathsep}{folder}", "Scenario", stage.url], tmp_path) == {
        "ollama4j": {
            "streams": True,
            "calls": [CALL[1], ANSWER],
            "thinking": THOUGHT,
            "animal": True,
            "sees": True,
            "embedded": True,
            "models": True,
            "shown": "llama",
            "running": True,
            "version": True,
            "refused": True,
        },
        "langchain4j": {
            "streams": True,
            "usage": [16, 16],
            "ends": ["LENGTH", "LENGTH"],
            "calls": [ANSWER, ["Paris"]],
            "streamed_calls": [ANSWER, ["Paris"]],
            "animal": True,
            "thinking": THOUGHT,
            "sees": True,
            "embedded": True,
            "models": True,
            "running": True,
            "shown": "llama",
            "refused": "ModelNotFoundException",
        },
    }


def pom(*artifacts: str) -> str:
    """The file that Maven wants, for artifacts as `group:name:version`."""
    wanted = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in (artifact.split(":") for artifact in artifacts)
    )
    head = "<modelVersion>4.0.0</modelVersion><groupId>of</groupId><artifactId>tests</artifactId><version>1</version>"
    return f"<project>{head}<dependencies>{wanted}</dependencies></project>"


@pytest.mark.heavy
@pytest.mark.timeout(BUILD_TIMEOUT_S)
@pytest.mark.skipif(not shutil.which("cargo"), reason="needs a Rust toolchain")
def test_ollama_rs(stage: Server, tmp_path: Path) -> None:
    folder = folder_of("test-rust", HERE / "rust" / "main.rs", "src/main.rs")
    if not (folder / "Cargo.toml").exists():
        build(folder, "cargo", "init", "--name", "scenario", "--vcs", "none")
        build(folder, "cargo", "add", RUST_CLIENT, "--features", "stream,macros")
        build(folder, "cargo", "add", "tokio@1", "--features", "macros,rt")
        build(folder, "cargo", "add", "tokio-stream@0.1", "serde_json@1", "schemars@1")
        build(folder, "cargo", "add", "serde@1", "--features", "derive")
    build(folder, "cargo", "build", "--quiet")
    assert told([folder / "target" / "debug" / "scenario", stage.url], tmp_path) == {
        "streams": True,
        "calls": ANSWER,
        "thinking": THOUGHT,
        "animal": True,
        "sees": True,
        "embedded": True,
        "logprobs": 3,
        "models": True,
        "made": ["success", "llama"],
        "refused": True,
    }


def test_the_document_names_each_of_them() -> None:
    text = DOCUMENT.read_text()
    assert [client for client in (GO_CLIENT, RUST_CLIENT, *JAVA_CLIENTS) if f"`{client}`" not in text] == []
