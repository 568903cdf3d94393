"""Prompts that outlive their engine and their server: the prompt cache on disk (scheduler §9.6)."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.parrot import write_parrot
from tests.running import Server, is_running, running
from tests.server.tiny_models import make
from tests.small_disk import full, small_disk

LIST = " ".join(f"Item {number} costs {3 * number} coins." for number in range(1, 30))
QUESTION = {"role": "user", "content": f"{LIST} How much is item 7?"}
FOLLOW_UP = {"role": "user", "content": "And item 9?"}
TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
JINJA = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"

CACHE = "/api/llamero/cache"

WHOLE = 600
"""Fewer tokens than the list has in bytes, which are the parrot's tokens."""


def restart(folder: Path, **env: str) -> Any:
    return running(folder, folder / "models", **env)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("prefixes")
    with restart(folder) as started:
        make_parrots(started, folder)
        yield started


@pytest.fixture
def server(shared: Server) -> Server:
    """One whose cache, on disk and in memory, is empty."""
    unload(shared)
    assert shared.call("DELETE", CACHE).status == 200
    return shared


def make_parrots(server: Server, folder: Path) -> None:
    """The same tiny model twice: `go` has a TEMPLATE, `jinja` its own in the file."""
    make(server, "go", [write_parrot(folder / "go.gguf", "Twenty one coins.")], template=TEMPLATE)
    make(server, "jinja", [write_parrot(folder / "jinja.gguf", "Twenty one coins.", jinja=JINJA)])


def ask(server: Server, model: str = "go", *messages: dict[str, str], **more: Any) -> tuple[str, int]:
    """What is answered, and how much of the prompt had been read before."""
    options = {"temperature": 0, "num_predict": 10, "num_ctx": 4096} | more.pop("options", {})
    body = {"model": model, "messages": messages or [QUESTION], "stream": False, "timings": True, "options": options}
    reply = server.post("/api/chat", body | more)
    assert reply.status == 200, reply.body
    return reply.json()["message"]["content"], reply.json()["timings"]["cached_tokens"]


def follow(server: Server, model: str, answer: str, **more: Any) -> tuple[str, int]:
    return ask(server, model, QUESTION, {"role": "assistant", "content": answer}, FOLLOW_UP, **more)


def unload(server: Server) -> None:
    """Let the model go, and wait for the end of its process: what it had is saved by then."""
    engines = server.engines()
    server.unload_all()
    server.wait_until(lambda: not any(map(is_running, engines)))


def saved(server: Server) -> list[Path]:
    folder = server.models / ".llamero" / "prefixes"
    return sorted(path for path in folder.glob("*") if len(path.name) == 64)


@pytest.mark.parametrize("model", ["go", "jinja"])
def test_a_conversation_goes_on_after_unload(server: Server, model: str) -> None:
    """partly R-75: on both ways of rendering."""
    answer, cached = ask(server, model)
    assert cached == 0
    unload(server)
    again, cached = follow(server, model, answer)
    assert again == answer
    assert cached > WHOLE


def test_a_conversation_goes_on_after_a_restart_and_with_its_own_type_of_cache_only(tmp_path: Path) -> None:
    """partly R-75."""
    with restart(tmp_path) as server:
        make_parrots(server, tmp_path)
        answer, _ = ask(server)
    with restart(tmp_path, OLLAMA_KV_CACHE_TYPE="bf16") as server:
        assert follow(server, "go", answer) == (answer, 0)
    with restart(tmp_path) as server:
        again, cached = follow(server, "go", answer)
        assert again == answer
        assert cached > WHOLE


def test_another_prompt_and_raw_text(server: Server) -> None:
    def generate(prompt: str) -> int:
        options = {"num_predict": 5, "num_ctx": 4096}
        body = {"model": "go", "prompt": prompt, "raw": True, "timings": True, "stream": False, "options": options}
        return int(server.post("/api/generate", body).json()["timings"]["cached_tokens"])

    assert generate(LIST) == 0
    unload(server)
    assert generate(LIST[::-1]) < 64
    assert generate(f"{LIST} And so on.") > WHOLE


def test_a_prompt_in_tokens(server: Server) -> None:
    tokens = server.post("/api/tokenize", {"model": "go", "content": LIST}).json()["tokens"]
    body = {"model": "go", "prompt": tokens, "max_tokens": 5, "options": {"num_ctx": 4096}}

    def cached() -> int:
        reply = server.post("/v1/completions", body).json()
        return int(reply["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert cached() == 0
    unload(server)
    assert cached() > WHOLE


def test_what_was_restored_is_told(server: Server) -> None:
    ask(server)
    unload(server)
    body = {"model": "go", "messages": [QUESTION], "stream": False, "timings": True, "options": {"num_predict": 5}}
    reply = server.post("/api/chat", body | {"options": {"num_ctx": 4096, "num_predict": 5}}).json()
    assert reply["timings"]["restore_ms"] > 0
    assert reply["timings"]["cached_tokens"] > WHOLE
    assert reply["prompt_eval_count"] > reply["timings"]["cached_tokens"]


def test_files_are_for_us_alone_and_tell_no_text(server: Server) -> None:
    """partly X-101."""
    ask(server)
    unload(server)
    (file,) = saved(server)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "coins" not in server.log.read_text()
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([file.name, "engines", "index.sqlite"])
    server.wait_until(lambda: list((file.parent / "engines").iterdir()) == [])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 0xFF
    path.write_bytes(data)


def replace(path: Path) -> None:
    path.write_bytes(b"something else entirely" * 1000)


@pytest.mark.parametrize("damage", [cut, spoil, replace, Path.unlink])
def test_a_damaged_file_costs_a_prefill_and_nothing_else(server: Server, damage: Callable[[Path], None]) -> None:
    """partly R-75: an engine that were given it might end."""
    answer, _ = ask(server)
    unload(server)
    damage(saved(server)[0])
    damaged = server.get(CACHE).json()["damaged"]
    warned = server.log.read_text().count("cannot be used and is removed")
    assert ask(server) == (answer, 0)
    assert saved(server) == []
    assert server.log.read_text().count("cannot be used and is removed") == warned + 1
    assert server.get(CACHE).json()["damaged"] == damaged + 1
    assert "engine died" not in server.log.read_text()


def test_seeded_sampling_is_neither_quickened_nor_changed(server: Server) -> None:
    """A prompt that is taken up again gives other last bits (scheduler §12.1)."""
    ask(server)
    unload(server)
    assert ask(server, options={"seed": 7, "temperature": 0.8})[1] == 0


def test_a_conversation_does_not_pay_for_another_ones_seed(server: Server) -> None:
    """A text that must come out the same each time empties all idle slots; what is worth it is saved before."""
    answer, _ = ask(server)
    ask(server, "go", {"role": "user", "content": "Hi"}, options={"seed": 7, "temperature": 0.8})
    again, cached = follow(server, "go", answer)
    assert again == answer
    assert cached > WHOLE


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with restart(tmp_path, LLAMERO_PREFIX_CACHE="0") as server:
        make_parrots(server, tmp_path)
        for _ in range(2):
            assert ask(server)[1] == 0
            unload(server)
        assert not (server.models / ".llamero" / "prefixes").exists()


def test_a_full_disk_costs_the_file_and_nothing_else(tmp_path: Path) -> None:
    with small_disk(tmp_path / "models", 16 << 20) as disk, restart(tmp_path, LLAMERO_PREFIX_CACHE="8M") as server:
        make_parrots(server, tmp_path)
        answer, _ = ask(server)
        with full(disk):
            unload(server)
            assert saved(server) == []
            assert ask(server) == (answer, 0)
        assert server.log.read_text().count("no room to save a prompt") == 1
        unload(server)
        assert len(saved(server)) == 1


def test_it_is_listed_and_cleared(server: Server) -> None:
    assert server.get(CACHE).json()["prompts"] == []
    ask(server, "go")
    ask(server, "jinja")
    unload(server)
    reply = server.get(CACHE).json()
    assert {each["model"] for each in reply["prompts"]} == {"go:latest", "jinja:latest"}
    assert all(each["tokens"] > WHOLE and each["used_at"] for each in reply["prompts"])
    assert reply["size"] == sum(each["size"] for each in reply["prompts"]) <= reply["limit"]
    size = next(each["size"] for each in reply["prompts"] if each["model"] == "go:latest")
    assert server.call("DELETE", CACHE, {"model": "GO"}).json() == {"freed": size}
    assert [each["model"] for each in server.get(CACHE).json()["prompts"]] == ["jinja:latest"]
    assert server.call("DELETE", CACHE, {"model": "../x"}).status == 400
    assert server.call("DELETE", CACHE).json()["freed"] > 0
    assert server.get(CACHE).json()["prompts"] == saved(server) == []


@pytest.mark.heavy
def test_a_long_prompt_is_saved_when_it_stays_idle(tmp_path: Path) -> None:
    """scheduler §9.6: 10 s after a prefill of 512 tokens; a killed server has it then."""
    with restart(tmp_path) as server:
        make_parrots(server, tmp_path)
        ask(server)
        assert saved(server) == []
        server.wait_until(lambda: saved(server), timeout_s=15)
        server.process.kill()
        server.process.wait()
    with restart(tmp_path) as server:
        assert ask(server)[1] > WHOLE


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_r75_greedy_answers_are_the_same_with_and_without(start_server: StartServer) -> None:
    """R-75: a real model, kept in memory, restored after unload, after a restart, from a damaged file, with another
    type of cache. What is restored is what was in memory, bit for bit; so is what is said."""
    model = "smollm2:135m"
    facts = " ".join(f"The {number}th house in the street is number {number}." for number in range(1, 110))
    first = {"role": "user", "content": f"{facts} What is the capital of France?"}

    def chat(server: Server, *messages: dict[str, str]) -> tuple[str, int]:
        return ask(server, model, *messages, options={"num_predict": 30, "num_ctx": 8192})

    server = start_server()
    answer, cached = chat(server, first)
    assert cached == 0
    talk = (first, {"role": "assistant", "content": answer}, {"role": "user", "content": "Which country is that in?"})
    in_memory, cached = chat(server, *talk)
    assert cached > 1000
    unload(server)
    for path in saved(server):
        path.unlink()  # it holds the follow-up already
    assert chat(server, first)[0] == answer
    unload(server)
    assert chat(server, *talk) == (in_memory, cached)  # restored
    server.stop()

    server = start_server()
    began_s = time.monotonic()
    assert chat(server, *talk)[0] == in_memory  # restored after a restart
    restored_s = time.monotonic() - began_s
    unload(server)
    for path in saved(server):
        cut(path)
    began_s = time.monotonic()
    prefilled, cached = chat(server, *talk)
    assert cached == 0
    assert prefilled == in_memory
    assert restored_s < (time.monotonic() - began_s) / 2
    server.stop()

    server = start_server(OLLAMA_KV_CACHE_TYPE="q8_0")
    assert chat(server, *talk)[1] == 0
