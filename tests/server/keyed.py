"""A real server with API keys over a scripted engine, and each of its keys at hand."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import model_folders
from tests.fake_llama_server import install, read_record
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, running

KEYS = {
    "root": "admin",
    "alice": "infer",
    "bob": "infer",
    "thrasher": "infer",
    "crowd": "infer",
    "quick": "infer",
    "only": "infer:m,own,chained,deep:v1",
}
MORE = {"quick": "rate=3/h"}
AT_ONCE = 3
"""Requests of one key."""


def secret(name: str) -> str:
    return f"secret-of-{name}-{'x' * 16}"


def write_keys(home: Path, keys: Mapping[str, str] = KEYS) -> Path:
    """Write the key file of a server that has not started yet: role by name."""
    path = home / ".ollama" / "llamero" / "keys"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text("".join(f"{name} {role} {secret(name)} {MORE.get(name, '')}\n" for name, role in keys.items()))
    return path


class Keyed:
    """`folder` holds the script of the engine."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def call(self, key: str, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """A request with a key, by its name; with none when that is empty."""
        shown = {"Authorization": f"Bearer {secret(key)}"} if key else {}
        return self.server.call(method, path, body, headers=shown | headers)

    def get(self, key: str, path: str, **headers: str) -> Reply:
        return self.call(key, "GET", path, **headers)

    def post(self, key: str, path: str, body: Any = None, **headers: str) -> Reply:
        return self.call(key, "POST", path, body, **headers)

    @contextmanager
    def streaming(self, key: str, path: str, body: Any) -> Iterator[http.client.HTTPResponse]:
        """A reply that is still coming; leaving the block hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {secret(key)}"})
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def loaded(self) -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = self.get("root", "/api/ps").json()["models"]
        return models

    def unload_all(self) -> None:
        for model in self.loaded():
            assert self.post("root", "/api/generate", {"model": model["name"], "keep_alive": 0}).status == 200
        self.server.wait_until(lambda: not self.loaded())

    def plays(self, **replies: Any) -> None:
        """Have the engine answer paths of these names (`completion`) with these steps; without any, as it likes."""
        self.unload_all()
        install(self.folder, {"replies": {f"/{path}": steps for path, steps in replies.items()}})

    def starts(self) -> list[list[str]]:
        """The arguments of every engine that was started so far."""
        return [argv for argv in read_record(self.folder, "argv") if "--model" in argv]


@contextmanager
def keyed_server(folder: Path, **env: str) -> Iterator[Keyed]:
    """With the models `m` and `n`, and with some that are made of them: `own` of the first, `chained` of the second,
    and `deep:v1` of that one."""
    models = folder / "models"
    model_folders.add(models, "m", tiny_llama(), license="MIT, of somebody")
    model_folders.add(models, "n", tiny_llama({"general.name": "other"}))
    model_folders.add(models, "own", tiny_llama(), from_name="m:latest", system="Be brief.")
    model_folders.add(models, "chained", tiny_llama({"general.name": "other"}), from_name="n:latest", newline=True)
    model_folders.add(models, "deep:v1", tiny_llama({"general.name": "other"}), from_name="chained:latest")
    write_keys(folder / "home")
    program = install(folder)
    with running(folder, models, LLAMERO_LLAMA_SERVER=str(program), **env) as server:
        yield Keyed(server, folder)
