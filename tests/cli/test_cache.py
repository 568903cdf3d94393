"""`cache` and `cache clear` (cli §3.16)."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero.store.prefixes import Identity, Prefixes
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer
from tests.running import free_port
from tests.slot_files import write_slot

SHOW = "GET /api/llamero/cache"
CLEAR = "DELETE /api/llamero/cache"


def test_cache_byte_for_byte(ollama: Ollama, server: ScriptedServer) -> None:
    prompts = [
        {"model": "smollm2:135m", "tokens": 1502, "size": 34_600_000, "used_at": "2020-01-01T00:00:00Z"},
        {"model": "m:latest", "tokens": 300, "size": 700, "used_at": "0001-01-01T00:00:00Z"},
    ]
    server.replies[SHOW] = Reply(json={"prompts": prompts, "size": 34_600_700, "limit": 4 << 30})
    ran = ollama("cache")
    assert ran.status == 0
    title, first, second = ran.out.splitlines()
    assert title.rstrip() == "MODEL           TOKENS    SIZE     LAST USED"
    assert first.startswith("smollm2:135m    1502      34 MB    ")
    assert first.rstrip().endswith("years ago")
    assert second.split() == ["m:latest", "300", "700", "B", "Never"]


def test_an_empty_cache_is_a_title(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies[SHOW] = Reply(json={"prompts": []})
    assert ollama("cache").out == "MODEL    TOKENS    SIZE    LAST USED \n"


@pytest.mark.parametrize(("argv", "body"), [((), {}), (("smollm2:135m",), {"model": "smollm2:135m"})])
def test_clear_says_what_it_freed(
    ollama: Ollama, server: ScriptedServer, argv: tuple[str, ...], body: dict[str, str]
) -> None:
    server.replies[CLEAR] = Reply(json={"freed": 34_600_000})
    ran = ollama("cache", "clear", *argv)
    assert (ran.status, ran.out) == (0, "freed 34 MB\n")
    assert server.body(CLEAR) == body


@pytest.mark.parametrize("argv", [("show",), ("clear", "a", "b"), ("smollm2",)])
def test_other_words_are_refused(ollama: Ollama, server: ScriptedServer, argv: tuple[str, ...]) -> None:
    ran = ollama("cache", *argv)
    assert (ran.status, ran.out) == (1, "")
    assert "cache clear" in ran.err


def test_without_a_server_it_is_the_folder_that_is_looked_at(ollama: Ollama, tmp_path: Path) -> None:
    prefixes = Prefixes(tmp_path / "models", 1 << 20)
    with prefixes.engine_folder() as folder:
        for seed, model in enumerate(("a:latest", "b:latest")):
            tokens = range(seed, seed + 400)
            prefixes.put(Identity(owner="", weights="sha256:1"), write_slot(folder / "new", tokens), model)
    env = {"OLLAMA_HOST": f"127.0.0.1:{free_port()}", "OLLAMA_MODELS": str(tmp_path / "models")}

    def models() -> list[str]:
        return [line.split()[0] for line in ollama("cache", env=env).out.splitlines()]

    assert models() == ["MODEL", "b:latest", "a:latest"]
    assert ollama("cache", "clear", "A", env=env).out == "freed 2.6 KB\n"
    assert models() == ["MODEL", "b:latest"]
    assert ollama("cache", "clear", env=env).status == 0
    assert models() == ["MODEL"]
