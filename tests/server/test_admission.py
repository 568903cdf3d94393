"""Who makes too many requests, in all or at once, is told when to come again (security §6.6)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from llamero.durations import SECOND
from llamero.errors import BadRequest, RateLimited
from llamero.server.admission import Admission, open_admission
from llamero.server.rates import Rate
from tests.server.keyed import AT_ONCE, Keyed


class Clock:
    now_ns = 10**18

    def __call__(self) -> int:
        return self.now_ns


def ask(admission: Admission, party: str, own: Rate | None = None) -> int:
    """Make one short request. Returns the seconds to wait for it, 0 when it was let in."""
    try:
        with admission.of(party, own):
            return 0
    except RateLimited as error:
        return error.retry_after_s


def test_nothing_is_limited_by_itself() -> None:
    admission = open_admission("", 0)
    assert [ask(admission, "alice") for _ in range(10_000)] == [0] * 10_000


def test_a_rate_is_each_partys_own_and_a_keys_own_comes_first() -> None:
    clock = Clock()
    admission = Admission(Rate(2, "m"), clock=clock)
    assert [ask(admission, "127.0.0.1") for _ in range(3)] == [0, 0, 30]
    assert ask(admission, "192.168.0.7") == 0
    assert [ask(admission, "slow", Rate(1, "h")) for _ in range(2)] == [0, 3600]
    assert [ask(admission, "quick", Rate(100, "s")) for _ in range(101)] == [0] * 100 + [1]
    clock.now_ns += 30 * SECOND
    assert [ask(admission, "127.0.0.1") for _ in range(2)] == [0, 30]


def test_who_does_much_at_once_pays_nothing_for_what_is_refused() -> None:
    admission = Admission(Rate(4, "h"), 2, Clock())
    with ExitStack() as going_on:
        for _ in range(2):
            going_on.enter_context(admission.of("alice"))
        assert ask(admission, "alice") == 1
        assert ask(admission, "bob") == 0
    assert [ask(admission, "alice") for _ in range(3)] == [0, 0, 900]


def test_a_rate_that_is_none_ends_the_start() -> None:
    with pytest.raises(BadRequest, match="LLAMERO_RATE_LIMIT: '60' is not a rate"):
        open_admission("60", 0)


# --- over HTTP -----------------------------------------------------------------------------------------------------

BODY = {"model": "none", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


def test_x55_a_keys_rate(keyed: Keyed) -> None:
    """X-55, with the test below: what is open to all and other keys do not count, and each family has its errors."""
    for path in ("/", "/api/version", "/healthz"):
        assert keyed.get("quick", path).status == 200
    assert [keyed.get("quick", "/api/tags").status for _ in range(3)] == [200] * 3
    native = keyed.get("quick", "/api/tags")
    openai = keyed.post("quick", "/v1/chat/completions", BODY)
    anthropic = keyed.post("quick", "/v1/messages", BODY)
    models = keyed.get("quick", "/v1/models", **{"anthropic-version": "2023-06-01"})
    share = keyed.get("quick", "/v2/_catalog")
    for reply in (native, openai, anthropic, models, share):
        assert reply.status == 429
        assert 1100 < int(reply.headers["Retry-After"]) <= 1200
    assert native.json() == {"error": "too many requests: 3/h are allowed"}
    error = openai.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    for reply in (anthropic, models):
        assert reply.json()["error"]["type"] == "rate_limit_error"
        assert reply.json()["request_id"] == reply.headers["request-id"]
    assert share.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert keyed.get("quick", "/api/version").status == 200
    assert keyed.get("alice", "/api/tags").status == 200


def test_x55_requests_at_once(keyed: Keyed) -> None:
    """X-55: as long as their answers go on, and each key for itself."""
    keyed.plays(completion=[{"send": {"content": "a"}}, {"hold": True}])
    body: dict[str, Any] = {"model": "m", "prompt": "Hi", "raw": True}
    with ExitStack() as going_on:
        for _ in range(AT_ONCE):
            going_on.enter_context(keyed.streaming("crowd", "/api/generate", body)).readline()
        refused = keyed.get("crowd", "/api/tags")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert refused.error == f"too many requests at once: {AT_ONCE} may run; let one end first"
        assert keyed.get("crowd", "/healthz").status == 200
        assert keyed.get("alice", "/api/tags").status == 200
    keyed.server.wait_until(lambda: keyed.get("crowd", "/api/tags").status == 200)
    keyed.plays()


def test_who_waits_for_each_answer_is_never_one_too_many(keyed: Keyed) -> None:
    """An answer has ended as soon as its client can know of it."""

    def ask_in_turn(number: int) -> set[int]:
        return {keyed.get("crowd", "/api/tags").status for _ in range(30)}

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert set().union(*pool.map(ask_in_turn, range(AT_ONCE))) == {200}
