"""Names and digests that are none: refused alike on every route, and the server never looks at the disk for them.

A hook inside the server process writes down every file that it opens, lists, makes, moves or removes. Source: security
§2 (CVE-2024-37032, CVE-2024-39722), §10.3.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests import model_folders
from tests.gguf_files import tiny_llama
from tests.running import Reply, Server, running

HOOK = """
import os, sys
_log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_events = {{"open"}} | {{"os." + each for each in (
    "listdir scandir mkdir rmdir remove rename link symlink truncate utime chmod chown".split())}}
def _hook(event, args):
    if event in _events and not isinstance(args[0], int):
        os.write(_log, f"{{event}} {{args[0]!r}}\\n".encode("utf-8", "backslashreplace"))
sys.addaudithook(_hook)
"""
"""Descriptors that are wrapped into files are no access: those were opened before."""


class Watched:
    """A server, and which files it touches."""

    def __init__(self, server: Server, log: Path) -> None:
        self.server = server
        self._log = log
        self._seen_bytes = 0

    def forget(self) -> None:
        self._seen_bytes = self._log.stat().st_size

    def touched(self) -> list[str]:
        """Every access since `forget`, but for the audit log and the look at how busy the machine is."""
        with self._log.open() as file:
            file.seek(self._seen_bytes)
            lines = file.read().splitlines()
        return [line for line in lines if "'/proc/" not in line and "/.ollama/llamero" not in line]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    place = tmp_path_factory.mktemp("watched")
    model_folders.add(place / "models", "m", tiny_llama(), config={"model_format": "gguf"})
    (place / "secret").write_bytes(b"outside")
    (place / "hook").mkdir()
    (place / "hook" / "sitecustomize.py").write_text(HOOK.format(log=str(place / "touched")))
    python_path = os.pathsep.join(filter(None, [str(place / "hook"), os.environ.get("PYTHONPATH", "")]))
    with running(place, place / "models", PYTHONPATH=python_path) as server:
        watched = Watched(server, place / "touched")
        assert watched.touched(), "the hook does not work"
        server.wait_until(lambda: "vram-based default context" in server.log.read_text())  # devices are known by now
        yield watched


# --- names ---------------------------------------------------------------------------------------------------------

THERE = "../../../../secret"
"""From where a manifest would be looked for; the next one is not there."""
NOT_THERE = "../../../../absent"

NAMES = [
    THERE, NOT_THERE, "../../etc/passwd", "../../etc/absent", "/etc/passwd", "/etc/absent", "/dev/zero", "..", ".",
    "/", "../m", "m/..", "./m", "m/", "/m", "//m", "a//b", "a/b/c/d", "a/b/c/d/e", "..\\m", "c:\\windows\\win.ini",
    "\\\\h\\s", "m\0", "\0", "m\nx", "m\r\nx", "m%00", "%2e%2e/m", "%2e%2e%2fm", "m x", "x y", "m:", ":m", "m:a:b",
    "m:/x", "m:..", "m:../x", "-m", ".m", "m@", "m@sha256:zz", "n.s/m", "ü", "Ⅷ", "m\u202e", "$(id)", "`id`", "m;id",
    "m|id", "{{m}}", "<m>", "a" * 81, "m:" + "a" * 81, "a" * 351 + "/n/m", "a" * 100_000, "file:///etc/passwd",
    "http://", "https:///n/m",
]  # fmt: skip


def post(path: str, **fields: str) -> tuple[str, str, dict[str, str]]:
    return "POST", path, fields


ROUTES: dict[str, tuple[str, str, dict[str, str]]] = {
    "show": post("/api/show", model="{}"),
    "generate": post("/api/generate", model="{}", prompt="a"),
    "chat": post("/api/chat", model="{}"),
    "embed": post("/api/embed", model="{}", input="a"),
    "embeddings": post("/api/embeddings", model="{}", prompt="a"),
    "create": post("/api/create", model="{}", **{"from": "m"}),
    "create from": post("/api/create", model="made", **{"from": "{}"}),
    "copy from": post("/api/copy", source="{}", destination="made"),
    "copy to": post("/api/copy", source="m", destination="{}"),
    "move from": post("/api/llamero/move", source="{}", destination="made"),
    "move to": post("/api/llamero/move", source="m", destination="{}"),
    "delete": ("DELETE", "/api/delete", {"model": "{}"}),
    "pull": post("/api/pull", model="{}"),
    "pull as": post("/api/pull", model="127.0.0.1:1/n/m", **{"as": "{}"}),
    "push": post("/api/push", model="{}"),
    "export": ("GET", "/api/llamero/export?model={}", {}),
    "import": post("/api/llamero/import?model={}"),
}


def ask(server: Server, route: str, name: str) -> Reply:
    method, path, fields = ROUTES[route]
    body = {key: value.replace("{}", name) for key, value in fields.items()}
    return server.call(method, path.replace("{}", quote(name, safe="")), body or None)


def words(reply: Reply) -> str:
    """The error, wherever it stands: push says its in the stream, and what is no HTTP is refused in plain text."""
    return str(reply.lines()[-1]["error"]) if reply.body.startswith(b"{") else reply.body.decode()


@pytest.mark.parametrize("route", ROUTES)
def test_x16_what_is_no_name_is_refused_alike(watched: Watched, route: str) -> None:
    """X-16, with 17 routes and 58 names. No timing can differ: nothing is looked for."""
    server = watched.server
    ask(server, route, "x y")  # what is imported late is there now
    watched.forget()
    texts = set()
    for name in NAMES:
        reply = ask(server, route, name)
        allowed = (400, 404, 431) if route != "push" else (200, 400, 404)  # 431: too long for a URL
        assert reply.status in allowed, (name, reply.status, reply.body)
        texts.add(words(reply).replace(json.dumps(name, ensure_ascii=False), "NAME").replace(name.strip(), "NAME"))
    assert not [text for text in texts if "secret" in text or "passwd" in text]
    assert words(ask(server, route, THERE)).replace("secret", "absent") == words(ask(server, route, NOT_THERE))
    manifests = f"{server.models}/manifests"  # of `made`, which the audit log tells
    assert [line for line in watched.touched() if route != "create from" or manifests not in line] == []


def test_a_long_name_costs_nothing(watched: Watched) -> None:
    began_s = time.monotonic()
    for name in ("a/" * 400_000, ":" * 900_000, "." * 900_000):
        assert watched.server.post("/api/show", {"model": name}).status == 400
    assert time.monotonic() - began_s < 2


# --- digests -------------------------------------------------------------------------------------------------------

HEX = "ab" * 32
DIGESTS = [
    "", "sha256", "sha256:", f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha256:{HEX}/..", f"sha512:{HEX}",
    f"SHA256:{HEX}", f"md5:{HEX}", HEX, f"sha256_{HEX}", f"sha256:{HEX[:-1]}g", f"sha256:{'../' * 20}secret",
    f"sha256:../../../secret{HEX}"[:71], f"sha256-{HEX}-partial", f"sha256-{HEX}.tmp", f"sha256:{HEX}\0",
    f"sha256:{HEX}\n", f"sha256:{HEX} ", f" sha256:{HEX}", f"sha256:{'%2e%2e%2f' * 7}a", "../../secret", "..",
    "/etc/passwd", "sha256:" + "/" * 64, "sha256:" + "." * 64, "sha256:" + "\uff11" * 64, f"sha256:sha256:{HEX}",
    f"sha256:{HEX},sha256:{HEX}", "sha256:" + "a" * 100_000, "latest",
]  # fmt: skip


def blob_requests(server: Server, digest: str) -> list[int]:
    """The statuses of all three calls, with the digest as it stands and percent-encoded."""
    paths = {f"/api/blobs/{quote(digest, safe='')}"}
    if digest.isascii() and digest.isprintable() and " " not in digest:
        paths.add(f"/api/blobs/{digest}")
    statuses = []
    for path in paths:
        for method, body in (("GET", None), ("HEAD", None), ("POST", b"x")):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            try:
                connection.request(method, path, body)
                statuses.append(connection.getresponse().status)
            finally:
                connection.close()
    return statuses


def create_bodies(digest: str) -> list[dict[str, Any]]:
    files = {"m.gguf": digest}
    return [{"files": files}, {"from": "m", "adapters": files}, {"from": "m", "draft_files": files}]


def test_x11_what_is_no_digest_is_refused(watched: Watched) -> None:
    """X-11: at the blobs' own routes and in a create; nothing is looked for, whatever was asked."""
    server = watched.server
    server.post("/api/create", {"model": "made", "files": {"m.gguf": "x"}})
    watched.forget()
    for digest in DIGESTS:
        # 405: nobody may GET a blob. 301, 307: a path with dots is said to be another one. 431: too long for a head
        assert set(blob_requests(server, digest)) <= {400, 404, 405, 301, 307, 431}, digest[:200]
        for body in create_bodies(digest):
            reply = server.post("/api/create", {"model": "made", **body})
            assert (reply.status, reply.error) == (400, "invalid digest format"), digest[:200]
    manifests = f"{server.models}/manifests"  # of `made`, which the audit log tells
    assert [line for line in watched.touched() if manifests not in line] == []


@pytest.mark.parametrize("where", ["layer", "config"])
def test_x11_a_stored_manifest_with_what_is_no_digest(watched: Watched, where: str) -> None:
    """Partly X-11: another program may have written it. It is an error of ours, and harms no other model."""
    server = watched.server
    folder = server.models
    for digest in [digest for digest in DIGESTS if digest]:
        sound = model_folders.layer(folder, model_folders.CONFIG, b"{}")
        bad = {**sound, "digest": digest}
        document = {"config": bad if where == "config" else sound, "layers": [bad if where == "layer" else sound]}
        path = model_folders.write(folder, "crafted", json.dumps({"schemaVersion": 2, **document}).encode())
        watched.forget()
        shown = server.post("/api/show", {"model": "crafted"})
        assert shown.status == 500
        assert "secret" not in shown.error
        assert [model["name"] for model in server.get("/api/tags").json()["models"]] == ["m:latest"]
        assert server.call("DELETE", "/api/delete", {"model": "crafted"}).status == 500
        outside = [line for line in watched.touched() if str(folder) not in line and "'.'" not in line]
        assert outside == []
        path.unlink()
