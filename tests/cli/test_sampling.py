"""The flags of `run` that set options, and the rest of what only our `run` knows (cli G-02, G-11, G-28, G-30)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer, generated, shown

PNG = b"\x89PNG\r\n\x1a\n rest"


@pytest.fixture(autouse=True)
def model(server: ScriptedServer) -> None:
    server.replies |= {"POST /api/show": shown(), "POST /api/generate": generated("Hello")}


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (["--temperature", "0.5"], {"temperature": 0.5}),
        (["--seed=7", "--num-ctx", "2048"], {"seed": 7, "num_ctx": 2048}),
        (["--top-k", "1", "--top-p", "0.9", "--min-p", "0.1"], {"top_k": 1, "top_p": 0.9, "min_p": 0.1}),
        (["--num-predict", "-1", "--repeat-penalty", "1.1"], {"num_predict": -1, "repeat_penalty": 1.1}),
        (["--param", "stop=a", "--param", "stop=b=c"], {"stop": ["a", "b=c"]}),
        (["--param", "use_mmap=false"], {"use_mmap": False}),
        (["--param", "seed=1", "--seed", "2"], {"seed": 2}),
    ],
)  # fmt: skip
def test_options_are_sent(ollama: Ollama, server: ScriptedServer, flags: list[str], options: dict[str, Any]) -> None:
    assert ollama("run", "m", "hi", *flags).status == 0
    assert server.body("POST /api/generate")["options"] == options


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--temperature", "hot"], "--temperature: invalid float value [hot]"),
        (["--seed", "1.5"], "--seed: invalid int value [1.5]"),
        (["--param", "seed"], 'invalid argument "seed" for "--param" flag: it must be NAME=VALUE'),
        (["--param", "top_z=1"], "--param top_z: unknown parameter 'top_z'; there are draft_num_predict,"),
        (["--thinking", "loud"], 'invalid value for --thinking: "loud" (must be stdout, stderr, or off)'),
        (["-i"], "-i needs a terminal to talk at"),
        (["--image", "x.png"], "m takes neither pictures nor sounds; 'ollama show m' lists what it can do"),
    ],
)
def test_what_cannot_be_is_one_line(ollama: Ollama, server: ScriptedServer, flags: list[str], error: str) -> None:
    outcome = ollama("run", "m", "hi", *flags)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(f"Error: {error}")
    assert outcome.err.count("\n") == 1
    assert "POST /api/generate" not in server.routes


def test_a_system_message_and_a_template(ollama: Ollama, server: ScriptedServer) -> None:
    ollama("run", "m", "hi", "--system", "Be kind.", "--template", "{{ .Prompt }}")
    body = server.body("POST /api/generate")
    assert (body["system"], body["template"]) == ("Be kind.", "{{ .Prompt }}")


def test_a_picture_by_flag(ollama: Ollama, server: ScriptedServer, tmp_path: Path) -> None:
    server.replies["POST /api/show"] = shown(capabilities=["completion", "vision"])
    (tmp_path / "cat").write_bytes(PNG)
    ollama("run", "m", "what?", "--image", str(tmp_path / "cat"))
    assert server.body("POST /api/generate")["images"] == [base64.b64encode(PNG).decode()]
    missing = ollama("run", "m", "what?", "--image", f"{tmp_path}/no.png")
    assert missing.err == f"Error: open {tmp_path}/no.png: No such file or directory\n"


@pytest.mark.parametrize(
    ("where", "out", "err"),
    [
        ("stdout", "Thinking...\nhm\n...done thinking.\n\nYes\n\n", ""),
        ("stderr", "Yes\n\n", "Thinking...\nhm\n...done thinking.\n\n"),
        ("off", "Yes\n\n", ""),
    ],
)
def test_where_thinking_is_shown(ollama: Ollama, server: ScriptedServer, where: str, out: str, err: str) -> None:
    server.replies["POST /api/generate"] = Reply(lines=[{"thinking": "hm"}, {"response": "Yes"}, {"done": True}])
    outcome = ollama("run", "m", "hi", "--thinking", where)
    assert (outcome.out, outcome.err) == (out, err)


def test_markdown_is_never_rendered_off_a_terminal(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/generate"] = generated("# A **b**")
    assert ollama("run", "m", "hi", "--markdown").out == "# A **b**\n\n"


def test_one_embedding_per_line(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/show"] = shown(capabilities=["embedding"])
    server.replies["POST /api/embed"] = Reply(json={"embeddings": [[0.5], [0.25]]})
    assert ollama("run", "m", "--jsonl", stdin="one\n\ntwo\n").out == "[0.5]\n[0.25]\n"
    assert server.body("POST /api/embed")["input"] == ["one", "two"]


def test_a_transcript_grows(ollama: Ollama, tmp_path: Path) -> None:
    for question in ("one", "two"):
        ollama("run", "m", question, "--transcript", f"{tmp_path}/log.md")
    text = (tmp_path / "log.md").read_text()
    assert text == "".join(f"## You\n\n{question}\n\n## m\n\nHello\n\n" for question in ("one", "two"))
