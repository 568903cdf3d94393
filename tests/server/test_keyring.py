"""Our own routes for API keys: made, listed and revoked while the server runs (security §6.1)."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from llamero.server import keyring
from tests.running import Reply, Server, running

KEYS = "/api/llamero/keys"
FROM_ENVIRONMENT = "environment-secret-x"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def tags(server: Server, secret: str = "") -> int:
    return server.get("/api/tags", headers=bearer(secret) if secret else {}).status


def key_file(server: Server) -> Path:
    return server.home / ".ollama" / "llamero" / "keys"


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that has no keys until a wish for one is granted."""
    folder = tmp_path_factory.mktemp("keyring")
    with running(folder, folder / "models") as server:
        yield server


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "a b", "role": "admin"},
        {"name": "a", "role": "owner"},
        {"name": "a", "role": "admin", "models": ["m"]},
        {"name": "a", "role": "admin", "rate": "fast"},
        {"name": "a", "role": "admin", "expires": "yesterday"},
        {"name": 7},
    ],
)
def test_bad_wishes(open_server: Server, body: object) -> None:
    reply: Reply = open_server.post(KEYS, body)
    assert reply.status == 400
    assert not key_file(open_server).exists()


def test_the_first_key_closes_the_server_and_has_to_be_an_admins(open_server: Server) -> None:
    server = open_server
    assert server.get(KEYS).headers["Llamero-Warning"] == keyring.NONE_NEEDED
    refused = server.post(KEYS, {"name": "phone"})
    assert (refused.status, tags(server)) == (400, 200)
    assert "add --role admin" in refused.error
    stranger = server.post(KEYS, {"name": "eve", "role": "admin"}, headers={"X-Forwarded-For": "203.0.113.9"})
    assert (stranger.status, tags(server)) == (403, 200)

    made = server.post(KEYS, {"name": "root", "role": "admin"}).json()
    root = made["secret"]
    assert made == {"name": "root", "role": "admin", "source": "file", "secret": root}
    assert (tags(server), tags(server, root), tags(server, root[:-1])) == (401, 200, 401)

    phone = {"name": "phone", "models": ["m", "n:7b"], "expires": "30d", "rate": "2/h"}
    made = server.post(KEYS, phone, headers=bearer(root)).json()
    assert (made["role"], made["models"], made["rate"]) == ("infer", ["m", "n:7b"], "2/h")
    assert [tags(server, made["secret"]) for _ in range(3)] == [200, 200, 429]
    assert server.get(KEYS, headers=bearer(made["secret"])).status == 403

    listed = server.get(KEYS, headers=bearer(root))
    (first, second) = listed.json()["keys"]
    assert (first["name"], second["name"]) == ("root", "phone")
    ends_in = datetime.fromisoformat(second["expires_at"]).timestamp() - datetime.now().timestamp()
    assert 29.9 < ends_in / 86_400 < 30
    for secret in (root, made["secret"]):
        assert secret not in listed.body.decode()
        assert secret not in key_file(server).read_text()
        assert secret not in server.log.read_text()
    assert stat.S_IMODE(key_file(server).stat().st_mode) == 0o600

    again = server.post(KEYS, {"name": "phone"}, headers=bearer(root))
    assert (again.status, again.error.split(":")[0]) == (400, "there is a key called phone already")

    assert server.call("DELETE", KEYS, {"name": "phone"}, headers=bearer(root)).status == 200
    assert tags(server, made["secret"]) == 401
    assert server.call("DELETE", KEYS, {"name": "phone"}, headers=bearer(root)).status == 404

    last = server.call("DELETE", KEYS, {"name": "root"}, headers=bearer(root))
    assert last.status == 200
    assert last.headers["Llamero-Warning"] == keyring.NO_KEY
    assert (tags(server), tags(server, root)) == (401, 401)

    key_file(server).write_text(f"root admin {FROM_ENVIRONMENT}\nguest infer {FROM_ENVIRONMENT}2\n")
    os.kill(server.process.pid, signal.SIGHUP)
    server.wait_until(lambda: tags(server, FROM_ENVIRONMENT) == 200)
    one_left = server.call("DELETE", KEYS, {"name": "root"}, headers=bearer(FROM_ENVIRONMENT))
    assert one_left.headers["Llamero-Warning"] == keyring.NO_ADMIN
    assert (tags(server), tags(server, f"{FROM_ENVIRONMENT}2")) == (401, 200)


@pytest.mark.heavy
def test_whom_the_last_keys_leave_behind(tmp_path: Path) -> None:
    """With LLAMERO_ADMIN_LOOPBACK this machine."""
    with running(tmp_path, tmp_path / "models", LLAMERO_ADMIN_LOOPBACK="1") as server:
        server.post(KEYS, {"name": "root", "role": "admin"})
        last = server.call("DELETE", KEYS, {"name": "root"})
        assert last.headers["Llamero-Warning"] == keyring.ONLY_HERE
        assert server.get(KEYS).headers["Llamero-Warning"] == keyring.ONLY_HERE
        assert tags(server) == 200
        assert server.get("/api/tags", headers={"X-Forwarded-For": "203.0.113.9"}).status == 401


def test_keys_of_the_environment_are_listed_and_revoked_there(tmp_path: Path) -> None:
    with running(tmp_path, tmp_path / "models", OLLAMA_API_KEY=f"house=admin:{FROM_ENVIRONMENT}") as server:
        root = bearer(FROM_ENVIRONMENT)
        assert server.get(KEYS, headers=root).json() == {
            "keys": [{"name": "house", "role": "admin", "source": "OLLAMA_API_KEY"}]
        }
        refused = server.call("DELETE", KEYS, {"name": "house"}, headers=root)
        assert (refused.status, "OLLAMA_API_KEY" in refused.error) == (400, True)
        assert server.post(KEYS, {"name": "house"}, headers=root).status == 400
        guest = server.post(KEYS, {"name": "guest"}, headers=root).json()["secret"]
        assert tags(server, guest) == 200

        file = key_file(server)
        kept = file.read_text()
        file.write_text("guest infer short\n")
        broken = [server.post(KEYS, {"name": "x"}, headers=root), server.get(KEYS, headers=root)]
        for reply in broken:
            assert reply.status == 500
            assert str(file) not in reply.error
        assert tags(server, guest) == 200, "what was in force stays so"
        file.write_text(kept)
        os.kill(server.process.pid, signal.SIGHUP)
        assert server.get(KEYS, headers=root).json()["keys"][1]["name"] == "guest"
