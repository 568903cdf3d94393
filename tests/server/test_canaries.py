"""Secrets and prompts of a real server, and hostile words sent to it: where they must not turn up.

The server is told to log everything that it can, and to keep nothing back.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import Server, children, linked_copy, running

MODEL = "smollm2:135m"
KEY = "canary-of-the-admin-key"
WRONG_KEY = "canary-of-a-wrong-key"

ENVIRONMENT = {
    "OLLAMA_API_KEY": f"boss=admin:{KEY},app=infer:canary-of-the-infer-key",
    "HF_TOKEN": "canary-of-the-hub-token",
    "AWS_SECRET_ACCESS_KEY": "canary-of-the-cloud-key",
    "GGML_API_TOKEN": "canary-of-a-token-with-an-engines-name",
    "HTTPS_PROXY": "http://user:canary-of-the-proxy@127.0.0.1:9",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=canary-of-the-collector",
    "OLLAMA_DEBUG": "2",
}
CANARY = "canary"

PICTURE = base64.b64encode(b"canary of a picture").decode()
TOOL = {"type": "function", "function": {"name": "canary_tool", "parameters": {"type": "canary-type"}}}
MESSAGES = [{"role": "user", "content": "canary of a chat"}]
BRIEF = {"model": MODEL, "stream": False, "options": {"num_predict": 2}}

REQUESTS: dict[str, tuple[str, Any]] = {
    "a prompt": ("/api/generate", {**BRIEF, "prompt": "canary of a prompt", "system": "canary of a system text"}),
    "a chat": ("/api/chat", {**BRIEF, "messages": MESSAGES}),
    "thinking where there is none": ("/api/chat", {**BRIEF, "messages": MESSAGES, "think": True}),
    "a broken picture": ("/api/chat", {**BRIEF, "messages": [{**MESSAGES[0], "images": [PICTURE]}]}),
    "a tool": ("/api/chat", {**BRIEF, "messages": MESSAGES, "tools": [TOOL]}),
    "a broken schema": ("/api/chat", {**BRIEF, "messages": MESSAGES, "format": {"$ref": "#/canary"}}),
    "a broken template": ("/api/generate", {**BRIEF, "prompt": "canary", "template": '{{ printf "%d" "canary" }}'}),
    "OpenAI's chat": ("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}),
    "Anthropic's": ("/v1/messages", {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}),
    "a response": ("/v1/responses", {"model": MODEL, "input": "canary of a response", "max_output_tokens": 16}),
    "a rerank": ("/api/rerank", {"model": MODEL, "query": "canary", "documents": ["canary"]}),
    "vectors": ("/api/embed", {"model": "all-minilm:22m", "input": ["canary of a text"]}),
    "tokens": ("/api/tokenize", {"model": MODEL, "text": "canary of a text"}),
    "JSON that breaks off": ("/api/chat", b'{"messages": [{"content": "canary'),
    "JSON of a wrong type": ("/api/chat", {"model": MODEL, "messages": "canary"}),
    "a pull with a login": (
        "/api/pull",
        {"model": "https://user:canary@127.0.0.1:9/x/y?token=canary", "stream": False},
    ),
    "a pull that fails": ("/api/pull", {"model": "127.0.0.1:9/x/y", "stream": False, "insecure": True}),
}
TOLD = ("JSON of a wrong type", "a tool", "a broken schema", "a broken template")
"""Whose own words an error may repeat to the client that sent them."""


@pytest.fixture(scope="module")
def server(starter_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("canaries")
    with running(folder, linked_copy(starter_models, folder / "models"), **ENVIRONMENT) as started:
        yield started


def ask(server: Server, path: str, body: Any, secret: str = KEY) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {secret}", "Cookie": "session=canary", "User-Agent": "canary"}
    reply = server.post(f"{path}?key=canary", body, headers=headers)
    return reply.status, reply.body.decode()


@pytest.mark.parametrize("name", REQUESTS)
def test_partly_x89_no_error_repeats_a_prompt(server: Server, name: str) -> None:
    """Nor a key, whether it is right or wrong."""
    path, body = REQUESTS[name]
    status, said = ask(server, path, body)
    if status >= 400 and name not in TOLD:
        assert CANARY not in said
    status, said = ask(server, path, body, WRONG_KEY)
    assert status in (401, 429)  # after ten of them
    assert CANARY not in said


def process_file(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")


def test_x89_no_log_process_list_engine_or_core_holds_a_secret(server: Server) -> None:
    """X-89, with the errors of the test before."""
    for path, body in REQUESTS.values():
        ask(server, path, body)
        ask(server, path, body, WRONG_KEY)
    ask(server, "/api/generate", {**BRIEF, "prompt": "canary once more"})  # whatever came last, this one is loaded
    engines = server.engines()
    assert engines

    log = server.log.read_text()
    assert "[GIN]" in log
    assert "level=DEBUG" in log
    assert CANARY not in log
    for file in (server.home / ".ollama" / "llamero").glob("audit.log*"):
        assert CANARY not in file.read_text()

    for pid in [server.process.pid, *children(server.process.pid)]:
        assert CANARY not in process_file(pid, "cmdline")
    for pid in engines:
        assert CANARY not in process_file(pid, "environ")
        limits = process_file(pid, "limits").splitlines()
        (core,) = [line for line in limits if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]


HOSTILE = {
    "line breaks": b"x%0D%0A[GIN]%20forged",
    "terminal": b"\x1b[2J\x9b31m\x07",
    "right to left": "\u202egnp\u202c\u2066".encode(),
    "separators": "\u2028\u2029\x85".encode(),
    "quotes": b'" | 200 | "\\" \\',
    "very long": b"n" * 30_000,
}


def raw(server: Server, target: bytes, agent: bytes) -> bytes:
    """Bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = b"GET /" + target + b" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + agent
        connection.sendall(head + b"\r\nConnection: close\r\n\r\n")
        return connection.makefile("rb").read()


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_x88_requests_cannot_forge_a_line_of_the_log(server: Server, words: bytes) -> None:
    """X-88, with the records of `cli/test_logs.py`."""
    already = len(server.log.read_bytes())
    raw(server, words.replace(b" ", b"%20"), words)
    names = [words.decode("latin-1"), "n" * 2**20]
    for name in names:
        for path in ("/api/show", "/api/pull", "/api/chat"):
            ask(server, path, {"model": name, "messages": MESSAGES, "stream": False})

    def written() -> list[str]:
        return server.log.read_bytes()[already:].decode().split("\n")  # which is UTF-8

    def answered() -> int:
        return sum("[GIN]" in line and "/api/" in line for line in written()[:-1])

    server.wait_until(lambda: answered() >= 3 * len(names))
    *lines, last = written()
    assert (answered(), last) == (3 * len(names), "")
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert line.startswith(("[GIN] 20", "time=20"))
        assert len(line) < 8 * 2**10


def test_a_log_in_json(starter_models: Path, tmp_path: Path) -> None:
    with running(tmp_path, linked_copy(starter_models, tmp_path / "models"), LLAMERO_LOG_FORMAT="json") as server:
        server.get("/api/tags")
        server.wait_until(lambda: "/api/tags" in server.log.read_text())
        lines = [line for line in server.log.read_text().splitlines() if line.startswith("{")]
        records = [json.loads(line) for line in lines]
    assert any(record["msg"].startswith("Listening on ") for record in records)
    (request,) = [record for record in records if record.get("path") == "/api/tags"]
    assert {name: request[name] for name in ("msg", "status", "method", "client", "key")} == {
        "msg": "request",
        "status": 200,
        "method": "GET",
        "client": "127.0.0.1",
        "key": "",
    }
    assert 0 < request["seconds"] < 5
