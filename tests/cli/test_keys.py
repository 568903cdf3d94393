"""`key new`, `key list`, `key revoke` (security §6.1, cli §3.16)."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from llamero.server import key_file
from llamero.server.keys import Keys, KeyStore
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import free_port

LIST = "GET /api/llamero/keys"
NEW = "POST /api/llamero/keys"
REVOKE = "DELETE /api/llamero/keys"


def test_the_secret_alone_goes_to_stdout(ollama: Ollama, server: ScriptedServer) -> None:
    made = {"name": "phone", "role": "infer", "models": ["a", "b:7b"], "expires_at": "2031-02-03T04:05:06Z"}
    server.replies[NEW] = Reply(json=made | {"rate": "60/m", "source": "file", "secret": "s" * 43})
    flags = ("--role", "infer", "--models", "a, b:7b", "--expires", "30d", "--rate=60/m")
    ran = ollama("key", "new", "phone", *flags)
    assert (ran.status, ran.out) == (0, f"{'s' * 43}\n")
    assert ran.err == (
        "infer key phone, for a, b:7b only, until 2031-02-03 04:05 UTC, at most 60/m. Keep the secret: it is not shown "
        "again. Clients send it as OLLAMA_API_KEY.\n"
    )
    asked = {"name": "phone", "role": "infer", "models": ["a", "b:7b"], "expires": "30d", "rate": "60/m"}
    assert server.body(NEW) == asked


def test_what_nobody_said_is_left_to_the_server(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[NEW] = Reply(json={"name": "x", "role": "infer", "secret": "t" * 43})
    assert ollama("key", "new", "x").status == 0
    assert server.body(NEW) == {"name": "x"}


KEYS = [
    {"name": "house", "role": "admin", "source": "OLLAMA_API_KEY"},
    {"name": "phone", "role": "infer", "models": ["m"], "rate": "60/m", "source": "file"},
    {"name": "old", "role": "infer", "expires_at": "2020-01-01T00:00:00Z", "is_expired": True, "source": "file"},
]


def test_list_byte_for_byte(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[LIST] = Reply(json={"keys": KEYS})
    assert ollama("key", "list").out.splitlines() == [
        "NAME     ROLE     MODELS    EXPIRES    RATE    SOURCE         ",
        "house    admin    all       never      -       OLLAMA_API_KEY    ",
        "phone    infer    m         never      60/m    file              ",
        "old      infer    all       expired    -       file              ",
    ]


def test_list_as_json(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[LIST] = Reply(json={"keys": KEYS})
    first, _, last = json.loads(ollama("key", "list", "--json").out)["keys"]
    assert (first["name"], first["models"], first["expires_at"]) == ("house", [], None)
    assert (last["expires_at"], last["is_expired"]) == ("2020-01-01T00:00:00+00:00", True)
    assert "secret" not in first


def test_revoke(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[REVOKE] = Reply(headers={"Llamero-Warning": "no admin key is left"})
    ran = ollama("key", "revoke", "phone")
    assert (ran.status, ran.out, ran.err) == (0, "revoked phone\n", "Warning: no admin key is left\n")
    assert server.body(REVOKE) == {"name": "phone"}


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("new",),
        ("new", "a", "b"),
        ("revoke",),
        ("list", "a"),
        ("show", "a"),
        ("list", "--role", "admin"),
        ("revoke", "a", "--rate", "1/s"),
        ("new", "a", "--json"),
    ],
)
def test_other_words_are_refused(ollama: Ollama, server: ScriptedServer, argv: tuple[str, ...]) -> None:
    ran = ollama("key", *argv)
    assert (ran.status, ran.out, server.requests) == (1, "", [])
    assert "key new NAME" in ran.err


def test_a_server_that_refuses_is_not_passed_over(ollama: Ollama, server: ScriptedServer, tmp_path: Path) -> None:
    server.replies[NEW] = Reply(status=403, json={"error": "forbidden"})
    assert ollama("key", "new", "x").err == "Error: forbidden\n"
    assert not (tmp_path / ".ollama" / "llamero").exists()


def test_without_a_server_it_is_the_file(ollama: Ollama, tmp_path: Path) -> None:
    env = {"OLLAMA_HOST": f"127.0.0.1:{free_port()}"}
    file = tmp_path / ".ollama" / "llamero" / "keys"
    guest = ollama("key", "new", "guest", "--models", "m", env=env)
    assert "No server runs" in guest.err
    assert "no admin key" in guest.err
    root = ollama("key", "new", "root", "--role", "admin", env=env)
    assert "no admin key" not in root.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    keys = Keys(key_file.listed(file))
    found = [keys.find(ran.out.strip().encode(), 0.0) for ran in (guest, root)]
    assert [key and (key.name, key.role, key.models) for key in found] == [
        ("guest", "infer", ("m",)),
        ("root", "admin", ()),
    ]
    assert [line.split()[0] for line in ollama("key", "list", env=env).out.splitlines()] == ["NAME", "guest", "root"]
    again = ollama("key", "new", "root", env=env)
    assert (again.status, again.out) == (1, "")
    assert ollama("key", "revoke", "root", env=env).out == "revoked root\n"
    assert ollama("key", "revoke", "root", env=env).status == 1
    assert [key.name for key in key_file.listed(file)] == ["guest"]


def test_without_a_server_what_is_left_is_told(ollama: Ollama, tmp_path: Path) -> None:
    env = {"OLLAMA_HOST": f"127.0.0.1:{free_port()}"}
    file = tmp_path / ".ollama" / "llamero" / "keys"
    nobody_asked = ollama("key", "list", env=env)
    assert "serves whoever may connect" in nobody_asked.err
    for role in ("admin", "infer"):
        ollama("key", "new", role, "--role", role, env=env)
    assert "Warning" not in ollama("key", "list", env=env).err
    assert "no admin key" in ollama("key", "revoke", "admin", env=env).err
    assert "serves nobody" in ollama("key", "revoke", "infer", env=env).err
    assert "serves nobody" in ollama("key", "list", env=env).err
    store = KeyStore("", file)
    assert store.keys.required, "and so it is"
    file.unlink()
    assert not KeyStore("", file).keys.required


def test_the_file_may_have_another_place(ollama: Ollama, tmp_path: Path) -> None:
    env = {"OLLAMA_HOST": f"127.0.0.1:{free_port()}", "LLAMERO_API_KEYS_FILE": str(tmp_path / "elsewhere" / "keys")}
    assert ollama("key", "new", "root", "--role", "admin", env=env).status == 0
    assert [key.name for key in key_file.listed(tmp_path / "elsewhere" / "keys")] == ["root"]


def test_another_machines_server_is_not_replaced_by_a_file_here(ollama: Ollama, tmp_path: Path) -> None:
    ran = ollama("key", "new", "x", env={"OLLAMA_HOST": "192.0.2.1.invalid:1"})
    assert ran.status == 1
    assert not (tmp_path / ".ollama" / "llamero").exists()
