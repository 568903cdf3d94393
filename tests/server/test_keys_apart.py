"""What one key has made is not for another: prompts that were read, answers that are kept, turns in a queue.

Source: security §6.3, scheduler §4.7 no. 7 and §9.6, compat-api §8.9.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import model_folders
from tests.parrot import write_parrot
from tests.running import is_running, running
from tests.server.keyed import Keyed, keyed_server, write_keys

LIST = " ".join(f"Item {number} costs {3 * number} coins." for number in range(1, 30))
WHOLE = 600
"""Fewer tokens than the list has in bytes, which are the parrot's tokens."""
NEXT_TO_NOTHING = 16
"""Tokens that all questions begin with."""
TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"


@pytest.fixture(scope="module")
def one_seat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """A real engine with a single slot, which all keys share."""
    folder = tmp_path_factory.mktemp("apart")
    parrot = write_parrot(folder / "parrot.gguf", "Twenty one coins.").read_bytes()
    model_folders.add(folder / "models", "parrot", parrot, template=TEMPLATE)
    write_keys(folder / "home")
    with running(folder, folder / "models", OLLAMA_NUM_PARALLEL="1") as server:
        yield Keyed(server, folder)


def cached_tokens(keyed: Keyed, key: str, text: str = LIST) -> int:
    """Ask the one question. Returns how much of it had been read before."""
    body = {
        "model": "parrot",
        "messages": [{"role": "user", "content": f"{text} How much is item 7?"}],
        "stream": False,
        "timings": True,
        "options": {"temperature": 0, "num_predict": 10, "num_ctx": 4096},
    }
    reply = keyed.post(key, "/api/chat", body)
    assert reply.status == 200, reply.body
    assert reply.json()["prompt_eval_count"] > WHOLE
    return int(reply.json()["timings"]["cached_tokens"])


def unload(keyed: Keyed) -> list[Path]:
    """Let the engine go, and wait for its end. Returns the files of what was saved."""
    engines = keyed.server.engines()
    assert keyed.post("root", "/api/generate", {"model": "parrot", "keep_alive": 0}).status == 200
    keyed.server.wait_until(lambda: not any(map(is_running, engines)))
    folder = keyed.server.models / ".llamero" / "prefixes"
    return [path for path in folder.glob("*") if len(path.name) == 64]


def test_x101_no_key_learns_what_another_has_asked(one_seat: Keyed) -> None:
    """X-101: neither in memory nor from disk; each goes on from what is its own."""
    assert cached_tokens(one_seat, "alice") == 0
    assert cached_tokens(one_seat, "alice") > WHOLE
    assert cached_tokens(one_seat, "bob") == 0, "what was in the slot is alice's"
    assert cached_tokens(one_seat, "bob") > WHOLE
    (file,) = unload(one_seat)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert cached_tokens(one_seat, "alice") == 0, "what is on disk is bob's"
    assert cached_tokens(one_seat, "bob") > WHOLE
    assert len(unload(one_seat)) == 1
    assert cached_tokens(one_seat, "crowd") == 0
    assert len(unload(one_seat)) == 2


def test_x101_nor_does_one_who_has_asked_something_else_before(one_seat: Keyed) -> None:
    """partly X-101: the slot holds a text of its own then, and is gone on from. An engine with old prompts in memory
    would look for one that is more alike, whoever's it was.
    """
    unload(one_seat)
    secret_text = LIST.replace("coins", "pearls")
    assert cached_tokens(one_seat, "alice", secret_text) < NEXT_TO_NOTHING
    assert cached_tokens(one_seat, "bob", secret_text[::-1]) < NEXT_TO_NOTHING
    assert cached_tokens(one_seat, "bob", secret_text) < NEXT_TO_NOTHING, "alice has asked this"
    unload(one_seat)
    assert one_seat.call("root", "DELETE", "/api/llamero/cache").status == 200


# --- kept responses ------------------------------------------------------------------------------------------------

RESPONSES = "/v1/responses"


def test_a_kept_response_is_its_keys_own(keyed: Keyed) -> None:
    keyed.plays()
    made = keyed.post("alice", RESPONSES, {"model": "m", "input": "Hi"}).json()
    own = f"{RESPONSES}/{made['id']}"
    item = made["output"][0]["id"]
    for key in ("bob", "root"):
        for method, path in (
            ("GET", own),
            ("GET", f"{own}/input_items"),
            ("DELETE", own),
            ("POST", f"{own}/cancel"),
        ):
            assert keyed.call(key, method, path).status == 404, (key, method, path)
        goes_on = {"model": "m", "input": "And?", "previous_response_id": made["id"]}
        assert keyed.post(key, RESPONSES, goes_on).status in (400, 404)
        refers = {"model": "m", "input": [{"type": "item_reference", "id": item}]}
        assert keyed.post(key, RESPONSES, refers).status in (400, 404)
    assert keyed.get("alice", own).json()["id"] == made["id"]
    goes_on = {"model": "m", "input": "And?", "previous_response_id": made["id"]}
    assert keyed.post("alice", RESPONSES, goes_on).status == 200
    assert keyed.call("alice", "DELETE", own).status == 200


def test_work_in_the_background_is_its_keys_own(keyed: Keyed) -> None:
    steps = [{"send": {"choices": [{"delta": {"content": "a"}, "finish_reason": None}]}}, {"hold": True}]
    keyed.plays(**{"v1/chat/completions": steps, "completion": [{"send": {"content": "a"}}, {"hold": True}]})
    body = {"model": "m", "input": "Hi", "background": True}
    own = f"{RESPONSES}/{keyed.post('alice', RESPONSES, body).json()['id']}"
    for method, path in (("GET", own), ("POST", f"{own}/cancel"), ("DELETE", own)):
        assert keyed.call("bob", method, path).status == 404
    assert keyed.get("alice", own).json()["status"] in ("queued", "in_progress")
    assert keyed.post("alice", f"{own}/cancel").json()["status"] == "cancelled"
    keyed.plays()


# --- turns ---------------------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_keys_take_turns_though_they_come_from_one_address(tmp_path: Path) -> None:
    """An infer key sees its own requests in the queue and no others."""
    done: list[str] = []

    def ask(key: str) -> None:
        body = {"model": "m", "prompt": "Hi", "raw": True, "stream": False}
        assert keyed.post(key, "/api/generate", body).status == 200
        done.append(key)

    def queue(key: str) -> list[dict[str, Any]]:
        waiting: list[dict[str, Any]] = keyed.get(key, "/api/ps").json().get("queue", [])
        return waiting

    with keyed_server(tmp_path, OLLAMA_NUM_PARALLEL="1") as keyed, ThreadPoolExecutor(5) as pool:
        said = {"content": "", "stop": True, "stop_type": "eos", "timings": {"prompt_n": 1, "predicted_n": 1}}
        keyed.plays(completion=[{"send": {"content": "a"}}, {"pause": 0.3}, {"send": said}])
        asked = [pool.submit(ask, "alice") for _ in range(4)]
        keyed.server.wait_until(lambda: len(queue("root")) == 3)
        asked.append(pool.submit(ask, "bob"))
        keyed.server.wait_until(lambda: len(queue("bob")) == 1)
        assert len(queue("alice")) >= 2
        assert {entry["model"] for entry in queue("bob")} == {"m:latest"}
        for each in asked:
            each.result()
    assert done.index("bob") <= 2, done
