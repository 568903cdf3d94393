"""Work that goes on while no client waits for it, and responses that are made so. compat-api §8.9."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import Busy, RateLimited
from llamero.server.background import MAX_AT_ONCE, Background, to_its_end
from tests.conftest import StartServer
from tests.fake_llama_server import install
from tests.running import Server
from tests.server.puppet import ABLE, CHAT, Puppet, delta
from tests.server.responder import ask, kept, plain, refused, respond
from tests.server.tiny_models import make

S = "smollm2:135m"


class Work:
    """It goes on until it may end; when it is cancelled, it has something to put away first."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.is_cancelled = asyncio.Event()
        self.may_leave = asyncio.Event()
        self.has_put_away = False

    async def run(self) -> None:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.is_cancelled.set()
            await self.may_leave.wait()
            self.has_put_away = True


async def test_what_has_ended_is_gone() -> None:
    background, work = Background(), Work()
    background.start("a", work.run())
    assert "a" in background
    work.may_end.set()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert "a" not in background
    assert not work.is_cancelled.is_set()
    await background.end("a")


async def test_each_party_has_so_much_of_it() -> None:
    background, work = Background(most_each=2), Work()
    for id_ in "ab":
        background.start(id_, work.run(), "alice")
    with pytest.raises(RateLimited):
        background.start("c", work.run(), "alice")
    background.start("d", work.run(), "bob")
    work.may_end.set()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    background.start("e", work.run(), "alice")
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})


async def test_whoever_ends_it_waits_until_it_has_put_its_things_away() -> None:
    background, work, other = Background(), Work(), Work()
    background.start("a", work.run())
    background.start("b", other.run())
    await asyncio.sleep(0)
    enders = [asyncio.create_task(background.end("a")) for _ in range(2)]
    await work.is_cancelled.wait()
    assert not any(ender.done() for ender in enders)
    enders[0].cancel()
    work.may_leave.set()
    _, ended = await asyncio.gather(*enders, return_exceptions=True)
    assert ended is None
    assert work.has_put_away, "it was disturbed a second time, by the other or by one that gave up waiting"
    assert "a" not in background
    assert not other.is_cancelled.is_set()
    other.may_leave.set()
    await background.end("nobody")
    await background.close()
    assert other.has_put_away


async def test_there_is_no_room_for_any_number() -> None:
    background, work = Background(max_at_once=1), Work()
    background.start("a", work.run())
    with pytest.raises(Busy):
        background.start("b", Work().run())
    await background.close()
    with pytest.raises(Busy):
        background.start("c", Work().run())


async def test_what_cannot_be_stopped_halfway_has_ended_when_its_caller_has() -> None:
    goes_on, may_end = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        goes_on.set()
        await may_end.wait()
        done.append("work")
        return "result"

    async def caller() -> str:
        try:
            return await to_its_end(work())
        finally:
            done.append("caller")

    done: list[str] = []
    cancelled = asyncio.create_task(caller())
    await goes_on.wait()
    cancelled.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert done == ["work", "caller"]
    assert await caller() == "result"


# --- responses -------------------------------------------------------------------------------------------------------


def detached(server: Server, model: str, input: Any = "Say hi.", **more: Any) -> str:
    """The id of a response that is being made."""
    reply = ask(server, model, input, background=True, **more)
    body = reply.json()
    assert (reply.status, body["status"], body["background"], body["output"]) == (200, "queued", True, []), reply.body
    return str(body["id"])


def ended(server: Server, id_: str) -> dict[str, Any]:
    server.wait_until(lambda: kept(server, id_).json()["status"] not in ("queued", "in_progress"))
    return dict(kept(server, id_).json())


def cancel(server: Server, id_: str) -> dict[str, Any]:
    reply = server.post(f"/v1/responses/{id_}/cancel")
    assert reply.status == 200, reply.body
    return dict(reply.json())


def test_a_response_in_the_background_is_made_while_nobody_waits(server: Server) -> None:
    id_ = detached(server, S, temperature=0, metadata={"a": "b"})
    body = ended(server, id_)
    assert (body["status"], body["metadata"]) == ("completed", {"a": "b"})
    meant = respond(server, S, temperature=0)
    assert plain(body["output"]) == plain(meant.output)
    assert [*body] == [*meant.body]
    after = respond(server, S, "And?", previous_response_id=id_, max_output_tokens=2)
    assert after.usage["input_tokens"] > meant.usage["total_tokens"]
    assert cancel(server, id_) == body, "it has ended"
    listed = server.get(f"/v1/responses/{id_}/input_items").json()["data"]
    assert listed[0]["content"] == [{"type": "input_text", "text": "Say hi."}]
    cut = ended(server, detached(server, S, max_output_tokens=2))
    assert cut["status"] == "incomplete"


def test_a_response_in_the_background_can_be_ended(puppet: Puppet) -> None:
    server = puppet.server
    puppet.plays(delta(content="a"), {"hold": True})
    id_ = detached(server, ABLE)
    server.wait_until(lambda: kept(server, id_).json()["status"] == "in_progress")
    running = kept(server, id_).json()
    assert (running["id"], running["output"], running["usage"], running["completed_at"]) == (id_, [], None, None)
    not_yet = ask(server, ABLE, "x", previous_response_id=id_)
    assert refused(not_yet)[0] == "previous_response_id"
    assert puppet.record("closed") == []
    cancelled = cancel(server, id_)
    assert (cancelled["status"], cancelled["usage"]) == ("cancelled", None)
    assert cancelled["output"][0]["content"][0]["text"] == "a"
    server.wait_until(lambda: puppet.record("closed") == [CHAT])
    assert kept(server, id_).json() == cancelled
    assert cancel(server, id_) == cancelled
    puppet.plays()
    synchronous = respond(server, ABLE)
    assert "synchronous" in refused(server.post(f"/v1/responses/{synchronous.id}/cancel"))[1]


def test_a_response_that_is_forgotten_is_not_made_any_further(puppet: Puppet) -> None:
    server = puppet.server
    puppet.plays(delta(content="a"), {"hold": True})
    id_ = detached(server, ABLE)
    server.wait_until(lambda: puppet.heard())
    assert server.call("DELETE", f"/v1/responses/{id_}").json()["deleted"] is True
    server.wait_until(lambda: puppet.record("closed") == [CHAT])
    assert kept(server, id_).status == 404


def test_what_fails_in_the_background_is_told_later(puppet: Puppet) -> None:
    puppet.plays(delta(content="a"), {"send": {"error": {"message": "no more"}}})
    body = ended(puppet.server, detached(puppet.server, ABLE))
    assert (body["status"], body["error"]) == ("failed", {"code": "server_error", "message": "no more"})
    missing = ask(puppet.server, "nope", background=True)
    assert (missing.status, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_there_is_room_for_so_many_at_once(puppet: Puppet) -> None:
    server = puppet.server
    puppet.plays(delta(content="a"), {"hold": True})
    ids = [detached(server, ABLE) for _ in range(MAX_AT_ONCE)]
    one_too_many = ask(server, ABLE, background=True)
    assert (one_too_many.status, one_too_many.headers["Retry-After"]) == (503, "1")
    assert kept(server, ids[-1]).json()["status"] == "queued"
    for id_ in ids:
        cancel(server, id_)
    cancel(server, detached(server, ABLE))


@pytest.mark.parametrize("is_killed", [False, pytest.param(True, marks=pytest.mark.heavy)], ids=["stopped", "killed"])
def test_what_is_kept_outlives_the_server_and_what_was_being_made_does_not(
    start_server: StartServer, tmp_path: Path, is_killed: bool
) -> None:
    program = str(install(tmp_path))
    first = start_server(LLAMERO_LLAMA_SERVER=program)
    make(first, ABLE, from_=S, info={"capabilities": ["tools", "thinking"]})
    puppet = Puppet(first, tmp_path)
    answer = respond(first, ABLE)
    file = first.home / ".ollama" / "llamero" / "responses.sqlite"
    assert file.stat().st_mode & 0o777 == 0o600
    puppet.plays(delta(content="a"), {"hold": True})
    id_ = detached(first, ABLE)
    first.wait_until(lambda: kept(first, id_).json()["status"] == "in_progress")
    if is_killed:
        first.process.kill()
        first.process.wait()
    else:
        assert first.stop() == 0
    install(tmp_path)
    second = start_server(LLAMERO_LLAMA_SERVER=program)
    assert kept(second, answer.id).json() == answer.body
    broken_off = kept(second, id_).json()
    assert (broken_off["status"], broken_off["error"]["code"]) == ("failed", "server_error")
    assert "stop" in broken_off["error"]["message"]
    assert cancel(second, id_) == broken_off
    for before in (answer.id, id_):
        assert respond(second, ABLE, "x", previous_response_id=before).status == "completed"
