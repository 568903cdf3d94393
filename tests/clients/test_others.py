"""Clients of other people, each in an environment of its own, against a server of ours: `scenarios/` has what they do.

The first run fetches them from the package indexes; later ones find them in `.cache`. `docs/clients.md` tells what
passed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.cast import make_cast
from tests.clients.older import python_with
from tests.conftest import CACHE
from tests.running import OLLAMA, Server, clean_environment

pytestmark = pytest.mark.heavy

SCENARIOS = Path(__file__).with_name("scenarios")
DOCUMENT = Path(__file__).parents[2] / "docs" / "clients.md"

RUN_TIMEOUT_S = 300
NODE = "node@^24"
"""The newest packages want a newer Node.js than distributions have; this package is the program itself."""

ANSWER = "It rains in Paris."
CALL = ["get_weather", {"city": "Paris"}]
THOUGHT = ["Thirty and three.", "It is 33."]
TYPE = "Animal"


@dataclass(frozen=True)
class Client:
    """A client, the versions of it that are tried, and what its scenario must tell."""

    script: str
    packages: tuple[str, ...]
    told: dict[str, Any]


def of_each(names: str, told: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), told)


LITELLM = {"streams": True, "usage": 8, "animal": True}
LANGCHAIN = {"streams": True, "usage": 16, "streamed_usage": 16}
OPENAI = {
    "calls": ["tool_calls", *CALL, ANSWER],
    "responses": [*CALL, ANSWER],
    "streamed": [True, THOUGHT[1], True],
    "parsed": [TYPE, TYPE],
    "thinking": THOUGHT,
    "sees": True,
    "completes": 4,
    "embedded": True,
    "models": True,
    "model": "smollm2:135m",
    "refused": [404, "model_not_found", "model"],
}
ANTHROPIC = {
    "calls": ["tool_use", *CALL, ANSWER, "end_turn"],
    "forced": [CALL[0]],
    "streamed": [THOUGHT[1], ["thinking", "text"], THOUGHT[0], "end_turn"],
    "sees": True,
    "counted": True,
    "models": True,
    "refused": [404, "not_found_error"],
}

PYTHON = [
    Client("openai", ("openai>=3,<4",), OPENAI),
    Client("openai", ("openai>=2,<3",), OPENAI),
    Client("anthropic", ("anthropic>=2,<3",), ANTHROPIC),
    Client("anthropic", ("anthropic>=1,<2",), ANTHROPIC),
    Client(
        "litellm",
        ("litellm>=1.106,<2", "mcp"),  # it imports the latter as soon as there are tools
        {
            **of_each("ollama ollama_chat openai anthropic", LITELLM),
            "ends": of_each("ollama_chat openai anthropic", ["length", "length"]),
            "calls": of_each("ollama_chat openai anthropic", ["tool_calls", *CALL, ANSWER]),
            "streamed_calls": of_each("ollama_chat openai anthropic", [CALL]),
            "thinking": of_each("ollama ollama_chat openai anthropic", THOUGHT),
            "embedded": [True, True],
        },
    ),
    Client(
        "langchain",
        ("langchain-ollama>=1.1,<2", "langchain-openai>=1.7,<2"),
        {
            **of_each("ollama openai responses", LANGCHAIN),
            "calls": of_each("ollama openai responses", [CALL, ANSWER]),
            "streamed_calls": of_each("ollama openai responses", [CALL]),
            "forced": of_each("openai responses", [CALL[0]]),
            "structured": {"ollama": [TYPE], **of_each("openai responses", [TYPE, TYPE])},
            "thinking": of_each("ollama responses", THOUGHT),
            "sees": of_each("ollama openai responses", True),
            "completes": [True, True],
            "embedded": [True, True],
        },
    ),
    Client(
        "llamaindex",
        ("llama-index-llms-ollama>=0.11,<0.12", "llama-index-embeddings-ollama>=0.10,<0.11"),
        {
            "streams": True,
            "waits": True,
            "completes": True,
            "calls": [*CALL, ANSWER],
            "streamed_calls": [CALL],
            "called": "rain in Paris",
            "structured": TYPE,
            "thinking": THOUGHT[:1],
            "sees": True,
            "embedded": [True, True],
        },
    ),
    Client(
        "pydanticai",
        ("pydantic-ai-slim[openai]>=2.68,<3",),
        {
            "streams": of_each("chat ollama responses", True),
            "calls": of_each("chat ollama responses", [ANSWER, 1]),
            "streamed_calls": of_each("chat ollama responses", ANSWER),
            "structured": of_each("chat ollama responses", [TYPE, TYPE]),
            "thinking": of_each("chat ollama responses", THOUGHT),
            "sees": of_each("chat ollama responses", True),
        },
    ),
    Client(
        "instructor",
        ("instructor[anthropic]>=1.17,<2",),
        {"openai": [TYPE, TYPE, TYPE], "anthropic": [TYPE, TYPE], "partial": True},
    ),
    Client(
        "semantickernel",
        ("semantic-kernel[ollama]>=1.45,<2",),
        {
            "streams": of_each("ollama openai", True),
            "calls": of_each("ollama openai", [ANSWER, ANSWER]),
            "structured": TYPE,
            "completes": True,
            "embedded": [True, True],
        },
    ),
]

NPM = [
    Client(
        "ollama",
        ("ollama@^0.6",),
        {
            "streams": True,
            "calls": [*CALL, ANSWER],
            "thinking": THOUGHT,
            "animal": True,
            "sees": True,
            "embedded": True,
            "models": True,
        },
    ),
    Client(
        "openai",
        ("openai@^7",),
        {
            "streams": True,
            "calls": [[*CALL, ANSWER], [*CALL, ANSWER]],
            "responses": [CALL[0], ANSWER],
            "animal": True,
            "embedded": True,
            "refused": ["NotFoundError", "model_not_found"],
        },
    ),
    Client(
        "langchain",
        ("@langchain/ollama@^1.3", "@langchain/core@^1", "zod@^4"),
        {
            "streams": True,
            "calls": [*CALL, True, ANSWER],
            "streamedCalls": [CALL],
            "animal": True,
            "thinking": THOUGHT,
            "sees": True,
            "embedded": True,
        },
    ),
    Client(
        "ai",
        ("ollama-ai-provider-v2@^4", "ai@^7", "zod@^4"),
        {
            "streams": True,
            "calls": [CALL[1], "rain in Paris", ANSWER],
            "streamed": ANSWER,
            "animal": True,
            "thinking": THOUGHT,
            "sees": True,
            "embedded": True,
        },
    ),
    Client(
        "codex",
        ("@openai/codex@^0.169",),
        {
            "hi": {
                "thinking": THOUGHT[:1],
                "said": THOUGHT[1:],
                "commands": [],
                "last": "turn.completed",
                "written": "",
            },
            "writes": {
                "thinking": [],
                "said": ["It is written."],
                "commands": [0],
                "last": "turn.completed",
                "written": "forty-two\n",
            },
        },
    ),
    Client(
        "claude",
        ("@anthropic-ai/claude-code@^2.1",),
        {
            "hi": {"result": THOUGHT[1], "turns": 1, "is_error": False, "written": ""},
            "writes": {"result": "It is written.", "turns": 2, "is_error": False, "written": "forty-two\n"},
        },
    ),
]


@pytest.fixture(scope="module")
def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server with every model that a scenario knows."""
    make_cast(server, tmp_path_factory.mktemp("cast"))
    return server


def run(command: list[str | Path], home: Path, **env: str) -> Any:
    """What a scenario tells: the last line of its output."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        env=clean_environment(home, **env),
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def named(client: Client) -> str:
    return client.packages[0]


@pytest.mark.timeout(900)  # the first run installs
@pytest.mark.parametrize("client", PYTHON, ids=named)
def test_python_clients(client: Client, stage: Server, tmp_path: Path) -> None:
    python = python_with(*client.packages)
    # LiteLLM would fetch its price list otherwise
    told = run(
        [python, SCENARIOS / f"use_{client.script}.py", stage.url], tmp_path, LITELLM_LOCAL_MODEL_COST_MAP="True"
    )
    assert told == client.told


@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("client", NPM, ids=named)
def test_npm_clients(client: Client, stage: Server, tmp_path: Path) -> None:
    folder, programs = npm_folder(client)
    for script in SCENARIOS.glob("*.mjs"):  # Node.js finds packages above a script only
        shutil.copy2(script, folder)
    told = run([programs / "node", folder / f"use_{client.script}.mjs", stage.url], tmp_path, PATH=path_with(programs))
    assert told == client.told


TASK = "Write the answer to answer.txt."
AGENTS = {
    "codex": ["exec", "--sandbox", "danger-full-access", TASK],
    "claude": ["-p", TASK, "--permission-mode", "acceptEdits", "--allowedTools", "Bash(echo:*)"],
}
"""What each takes to work without a terminal."""


@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("agent", AGENTS)
def test_agents_that_launch_starts(agent: str, stage: Server, tmp_path: Path) -> None:
    """`ollama launch`, with nothing else set, in an empty repository: the model has a file written by the agent."""
    folder, programs = npm_folder(next(client for client in NPM if client.script == agent))
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    path = f"{folder / 'node_modules' / '.bin'}{os.pathsep}{path_with(programs)}"
    done = subprocess.run(
        [OLLAMA, "launch", agent, "--model", f"{agent}-coder", "--", *AGENTS[agent]],
        cwd=tmp_path,
        env=clean_environment(tmp_path, PATH=path, OLLAMA_HOST=stage.host),
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "It is written." in done.stdout
    assert (tmp_path / "answer.txt").read_text() == "forty-two\n"


def npm_folder(client: Client) -> tuple[Path, Path]:
    """Where its packages are, installed when they were not, and the programs of Node.js there."""
    folder = CACHE.with_name("test-npm-others") / "+".join(client.packages).replace("/", "-")
    programs = folder / "node_modules" / "node" / "bin"
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for packages in ([NODE], client.packages):  # the versions that npm takes depend on the Node.js that runs it
            install(folder, packages, programs)
        (folder / "ready").touch()
    return folder, programs


def install(folder: Path, packages: list[str] | tuple[str, ...], programs: Path) -> None:
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *packages]
    subprocess.run(command, check=True, env={**os.environ, "PATH": path_with(programs)})


def path_with(programs: Path) -> str:
    return f"{programs}{os.pathsep}{os.environ['PATH']}"


def test_the_document_names_every_client_and_its_versions() -> None:
    text = DOCUMENT.read_text()
    assert [package for client in (*PYTHON, *NPM) for package in client.packages if f"`{package}`" not in text] == []
