"""A program that takes llama-server's flags and speaks its HTTP, and does whatever a test wants to see survived.

It holds no model. `install` puts a start script for it into a folder; what it shall do is one JSON object, every field
of it optional:

    prints            lines of output at the start; a number among them is a pause in seconds
    dies              exit status, after those lines, instead of listening
    fits              flags of which one must be given: else it says that memory is short, and dies
    listens           false: it prints, and then does nothing for ever
    loading           answers to /health that say that the model is loading, before the first `ok`; -1: all of them
    reads_mib         while loading it reads so much every 50 ms, in silence, and is ready after 20 times
    spawns            true: it starts a child that outlives it, and prints `child <pid>`
    replies           by path: an object {"status": .., "body": ..}, or the steps of a stream (below)
                      by path and ` whole`: what is said instead to requests that ask for no stream
    ignores_closing   true: a stream goes on when its reader has gone, until its last step

A request may bring its own reply, in a field `reply` of its body. A step of a stream is one of

    {"send": event}   one server-sent event                {"hold": true}    wait until the reader is gone
    {"raw": text}     a piece of the stream as it is       {"cut": true}     end without the body's last chunk
    {"hex": digits}   the same for bytes that are no text  {"die": status}   end the process; negative: by a signal
    {"fill": n}       an event of n bytes                  {"pause": s}      seconds of silence
    {"print": line}   a line of output

Without a script it answers like a tiny model. Every start, request and broken connection is written to the file
`record`, one JSON object per line, which `read_record` gives back.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

FLAGS = {
    **dict.fromkeys(
        "--model --host --port --log-verbosity -c -np -b -ub --cache-ram --flash-attn --keep --cache-type-k "
        "--cache-type-v -ngl -t --device --fit --fit-target --split-mode --main-gpu --load-mode "
        "--mmproj --lora --slot-save-path --kv-unified-per-slot --slot-prompt-similarity --chat-template "
        "--image-min-tokens --spec-type --spec-draft-n-max --spec-draft-model --spec-draft-ngl "
        "--spec-ngram-simple-size-n --spec-ngram-simple-size-m".split(),
        1,
    ),
    **dict.fromkeys(
        "--no-webui --offline --no-warmup --no-slots --no-log-prefix --no-log-timestamps --embedding --kv-unified "
        "--context-shift --no-mmproj-offload --no-jinja --jinja --reranking --no-cache-idle-slots "
        "--spec-draft-backend-sampling".split(),
        0,
    ),
}
"""Flag -> number of values. Like the real one, the program refuses every other."""

GPU_VARIABLES = frozenset(
    "CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL GGML_VK_VISIBLE_DEVICES".split()
)

TIMINGS = {"cache_n": 2, "prompt_n": 3, "prompt_ms": 1.5, "predicted_n": 2, "predicted_ms": 2.25}

DEFAULT_LINES = ["load_tensors:          CPU model buffer size =     1.00 MiB"]

DEFAULT_REPLIES: dict[str, Any] = {
    "/completion": [
        {"send": {"content": "Hello"}},
        {"send": {"content": " there"}},
        {"send": {"content": "", "stop": True, "stop_type": "eos", "timings": TIMINGS}},
    ],
    "/v1/chat/completions": [
        {"send": {"choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": None}]}},
        {"send": {"choices": [{"delta": {"content": "Hello"}, "finish_reason": None}]}},
        {"send": {"choices": [{"delta": {"content": " there"}, "finish_reason": None}]}},
        {"send": {"choices": [{"delta": {}, "finish_reason": "stop"}], "timings": TIMINGS}},
        {"raw": "data: [DONE]\n\n"},
    ],
    "/apply-template": {"body": {"prompt": "<user>Hi<assistant>"}},
    "/tokenize": {"body": {"tokens": [1, 2, 3]}},
    "/detokenize": {"body": {"content": "text"}},
    "/v1/embeddings": {"body": {"data": [{"embedding": [0.5, -0.5], "index": 0}], "usage": {"prompt_tokens": 4}}},
}


# --- for tests -----------------------------------------------------------------------------------------------------


def install(folder: Path, script: dict[str, Any] | None = None) -> Path:
    """Write a program into `folder` that starts the fake with this script; it records into `folder/record`."""
    (folder / "script.json").write_text(json.dumps({"record": str(folder / "record")} | (script or {})))
    words = [sys.executable, "-I", "-S", __file__]
    program = folder / "llama-server"
    program.write_text(
        f"#!/bin/sh\nFAKE_LLAMA_SCRIPT={shlex.quote(str(folder / 'script.json'))}\n"
        f'export FAKE_LLAMA_SCRIPT\nexec {shlex.join(words)} "$@"\n'
    )
    program.chmod(0o755)
    return program


def read_record(folder: Path, kind: str) -> list[Any]:
    """What was recorded so far: `argv` of starts and the `gpus` that they may see, `request` (path, body, headers),
    paths of `closed` and `finished`."""
    with contextlib.suppress(FileNotFoundError):
        entries = [json.loads(line) for line in (folder / "record").read_text().splitlines()]
        return [entry[kind] for entry in entries if kind in entry]
    return []


# --- the program ---------------------------------------------------------------------------------------------------


class Fake:
    def __init__(self, script: dict[str, Any], argv: list[str]) -> None:
        self.script = script
        self.loading = script.get("loading", 0)
        self.options = parse(argv)
        self.record(argv=argv)
        self.record(gpus={name: value for name, value in os.environ.items() if name in GPU_VARIABLES})

    def record(self, **entry: Any) -> None:
        if path := self.script.get("record"):
            with open(path, "a") as file:  # one write per line: threads do not mix
                file.write(json.dumps(entry) + "\n")

    def run(self) -> None:
        if self.script.get("spawns"):
            child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
            say(f"child {child.pid}")
        for line in self.script.get("prints", DEFAULT_LINES):
            if isinstance(line, str):
                say(line)
            else:
                time.sleep(line)
        given = f" {' '.join(sys.argv)} "
        if not any(f" {flags}" in given for flags in self.script.get("fits", [""])):
            say("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9.00 MiB: cudaMalloc failed: out of memory")
            die(1)
        if "dies" in self.script:
            die(self.script["dies"])
        while not self.script.get("listens", True):
            time.sleep(600)
        listening = self.listen()
        if mib := self.script.get("reads_mib"):
            self.loading = -1
            threading.Thread(target=self.read, args=(mib,), daemon=True).start()
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def listen(self) -> socket.socket:
        host = self.options["--host"]
        if host.endswith(".sock"):
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(host)
        else:
            listening = socket.create_server((host, int(self.options["--port"])))
        listening.listen(64)
        return listening

    def read(self, mib: int) -> None:
        with open("/dev/zero", "rb", buffering=0) as file:
            for _ in range(20):
                file.read(mib * 2**20)
                time.sleep(0.05)
        self.loading = 0

    def serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            path, headers, body = read_request(connection)
            if path == "/health":
                self.answer(connection, *self.health())
                return
            secret = os.environ.get("LLAMA_API_KEY")
            if secret and headers.get("authorization") != f"Bearer {secret}":
                self.answer(connection, 401, failure(401, "Invalid API Key", "authentication_error"))
                return
            asked = json.loads(body) if body else {}
            self.record(request={"path": path, "body": asked, "headers": headers})
            replies = {**DEFAULT_REPLIES, **self.script.get("replies", {})}
            whole = None if asked.get("stream") else replies.get(f"{path} whole")
            reply = asked.get("reply", whole or replies.get(path))
            if reply is None:
                self.answer(connection, 404, failure(404, "File Not Found", "not_found_error"))
            elif isinstance(reply, dict):
                self.answer(connection, reply.get("status", 200), reply["body"])
            else:
                self.stream(connection, path, reply)

    def health(self) -> tuple[int, Any]:
        if self.loading == 0:
            return 200, {"status": "ok"}
        self.loading -= self.loading > 0
        return 503, failure(503, "Loading model", "unavailable_error")

    def answer(self, connection: socket.socket, status: int, body: Any) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode())
        connection.sendall(data)

    def stream(self, connection: socket.socket, path: str, steps: list[dict[str, Any]]) -> None:
        body = Chunks(connection)
        try:
            for step in steps:
                try:
                    if self.take(body, step):
                        return
                except OSError:
                    if not self.script.get("ignores_closing"):
                        raise
            body.end()
        except OSError:
            self.record(closed=path)
            raise
        finally:
            self.record(finished=path)

    def take(self, body: Chunks, step: dict[str, Any]) -> bool:
        """Do one step; true: the stream is to end here and now."""
        ((kind, value),) = step.items()
        match kind:
            case "send":
                body.write(f"data: {json.dumps(value)}\n\n".encode())
            case "raw":
                body.write(value.encode())
            case "hex":
                body.write(bytes.fromhex(value))
            case "fill":
                body.write(b"data: " + b"x" * (value - 6) + b"\n\n")
            case "pause":
                time.sleep(value)
            case "print":
                say(value)
            case "hold":
                body.wait_closed()
            case "die":
                die(value)
        return kind == "cut"


class Chunks:
    """A chunked body. Its head goes out with the first chunk, as llama-server's does."""

    HEAD = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.unsent = self.HEAD

    def write(self, data: bytes) -> None:
        self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self) -> None:
        self.send(b"0\r\n\r\n")

    def send(self, data: bytes) -> None:
        self.connection.sendall(self.unsent + data)
        self.unsent = b""

    def wait_closed(self) -> None:
        select.select([self.connection], [], [])
        raise ConnectionResetError


def parse(argv: list[str]) -> dict[str, str]:
    options = {}
    words = iter(argv)
    for flag in words:
        if flag not in FLAGS:
            say(f"error: invalid argument: {flag}")
            die(1)
        options[flag] = next(words) if FLAGS[flag] else ""
    return options


def read_request(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionResetError
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return first.split()[1], headers, body


def failure(status: int, message: str, kind: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "type": kind}}


def say(line: str) -> None:
    os.write(2, line.encode() + b"\n")


def die(status: int) -> None:
    if status >= 0:
        os._exit(status)
    os.kill(os.getpid(), -status)
    time.sleep(600)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # whoever ends an engine must not depend on its consent
    script_path = os.environ.get("FAKE_LLAMA_SCRIPT")
    Fake(json.loads(Path(script_path).read_text()) if script_path else {}, sys.argv[1:]).run()
