"""How the fuzzers of this folder run: a moment with every test run, the same inputs each time; `-m heavy` for longer.

What a fuzzer finds becomes a test of its own, beside the module that it was found in.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

T = TypeVar("T")

BUDGET_S = 30.0
"""Of one fuzzer in a longer run."""

MOMENT = settings(
    max_examples=25,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
ROUND = settings(MOMENT, max_examples=500)


def fuzz(inputs: st.SearchStrategy[T], check: Callable[[T], None], budget_s: float = 0.0) -> None:
    """One moment, or rounds of other inputs until the time is spent. Fails with the smallest input that fails."""
    profile, start = (ROUND, random.SystemRandom().randrange(1 << 32)) if budget_s else (MOMENT, 0)
    ends = time.monotonic() + budget_s
    while True:
        test = given(inputs)(check)
        seed(start)(profile(test))()
        start += 1
        if time.monotonic() >= ends:
            return


# --- inputs ----------------------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1 << 31, 1 << 63, -(1 << 63) - 1, 10**400, 1e308, -0.0])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON, where something else is meant."""


def like(example: Any) -> st.SearchStrategy[Any]:
    """JSON of the example's shape, with parts left out, given several times or replaced by junk."""
    kept: st.SearchStrategy[Any]
    if isinstance(example, dict):
        kept = st.fixed_dictionaries({}, optional={name: like(value) for name, value in example.items()})
    elif isinstance(example, list) and example:
        kept = st.lists(st.one_of(*map(like, example)), max_size=3)
    else:
        kept = st.just(example)
    return st.integers(0, 7).flatmap(lambda dice: kept if dice else JUNK)


def as_body(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """The same bytes with one to four places cut out, doubled or overwritten."""

    def damage(dice: random.Random) -> bytes:
        hurt = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(hurt) + 1)
            end = min(len(hurt), at + dice.choice((1, 1, 2, 4, 8, 64)))
            filler = dice.choice((b"", b"\0", b"\xff", b"\xff" * 8, b"\0" * 7 + b"\x80", dice.randbytes(end - at)))
            hurt[at:end] = dice.choice((filler, filler[: end - at].ljust(end - at, b"\0"), hurt[at:end] * 2))
        return bytes(hurt)

    return st.randoms(use_true_random=False).map(damage)


def bodies(example: Any) -> st.SearchStrategy[bytes]:
    """Request bodies: mostly sound JSON that says something odd."""
    sound = like(example).map(as_body)
    return st.integers(0, 3).flatmap(lambda dice: sound if dice else sound.flatmap(damaged))


def words(*vocabulary: str) -> st.SearchStrategy[str]:
    """Texts of these words and a few others."""
    return st.lists(st.sampled_from(vocabulary) | st.text(max_size=4), max_size=24).map("".join)
