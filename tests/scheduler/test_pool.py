"""The slots of an engine: who gets which, and how much of the cache may be promised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.scheduler.pool import Pool, Seat, common


def seated(pool: Pool, tokens: int = 10, owner: str = "", trail: tuple[int, ...] = (), now_s: float = 1.0) -> Seat:
    assert pool.has_room(tokens)
    return pool.take(tokens, owner, trail, now_s)


def test_reservations_never_exceed_the_cache() -> None:
    pool = Pool(tokens=100, seats=4)
    first = seated(pool, 60)
    assert not pool.has_room(41)
    assert pool.has_room(40)
    pool.settle(first, 20)
    assert pool.has_room(80)
    second = seated(pool, 80)
    assert not pool.has_room(1)
    pool.give_back(second, 2)
    assert pool.has_room(80)


def test_a_request_that_is_alone_always_has_room() -> None:
    """The engine itself holds it to its window."""
    assert Pool(tokens=100, seats=1).has_room(1000)


def test_slots_are_the_other_bound() -> None:
    pool = Pool(tokens=100, seats=2)
    seats = [seated(pool) for _ in range(2)]
    assert not pool.has_room(1)
    assert {seat.slot.index for seat in seats} == {0, 1}
    pool.give_back(seats[0], 2)
    pool.give_back(seats[0], 3)
    assert pool.free_seats == 1, "given back twice, counted once"


def test_a_conversation_comes_back_to_its_slot() -> None:
    pool = Pool(tokens=100, seats=3)
    talks = {name: tuple(hash((name, block)) for block in range(4)) for name in "abc"}
    for now_s, name in enumerate("abc"):
        pool.give_back(seated(pool, trail=talks[name][:2], now_s=now_s), now_s)
    for name, index in (("b", 1), ("a", 0), ("c", 2)):
        seat = seated(pool, trail=talks[name])
        assert (seat.slot.index, seat.common_blocks) == (index, 2)
        pool.give_back(seat, 9)


def test_a_new_conversation_takes_an_empty_slot_else_the_longest_unused() -> None:
    pool = Pool(tokens=100, seats=2)
    pool.give_back(seated(pool, trail=(1,), now_s=1), 1)
    other = seated(pool, trail=(2,), now_s=2)
    assert other.slot.index == 1
    pool.give_back(other, 3)
    third = seated(pool, trail=(3,), now_s=4)
    assert (third.slot.index, third.common_blocks) == (0, 0)


def answered(pool: Pool, tokens: int, now_s: float, **more: Any) -> int:
    """A request that leaves so much behind in its slot, whose number this is."""
    seat = seated(pool, now_s=now_s, **more)
    seat.slot.tokens = tokens
    pool.give_back(seat, now_s)
    return seat.slot.index


def test_one_short_question_after_another_takes_one_slot() -> None:
    """Else what they leave in the cache that all share would slow down whoever asks them."""
    pool = Pool(tokens=1000, seats=3, short_tokens=100)
    assert [answered(pool, 80, now_s) for now_s in (1, 2, 3)] == [0, 0, 0]
    assert answered(pool, 300, 4) == 0
    assert [answered(pool, 80, now_s) for now_s in (5, 6)] == [1, 1], "what is long stays as long as there is room"
    assert answered(pool, 80, 7, owner="bert") == 2, "and what others have"


def test_without_a_copy_elsewhere_every_text_stays_as_long_as_there_is_room() -> None:
    pool = Pool(tokens=1000, seats=3)
    assert [answered(pool, 80, now_s) for now_s in (1, 2, 3, 4)] == [0, 1, 2, 0]


def test_an_emptied_slot_is_taken_first() -> None:
    pool = Pool(tokens=1000, seats=2)
    assert [answered(pool, 80, now_s) for now_s in (1, 2)] == [0, 1]
    (emptied,) = (slot for slot in pool.idle if slot.index == 1)
    emptied.empty()
    assert (emptied.tokens, emptied.fresh_tokens, emptied.trail, emptied.holding) == (0, 0, (), None)
    assert answered(pool, 80, 3) == 1


def test_x101_what_one_owner_left_is_not_for_another() -> None:
    """Partly X-101: the rest is the prompt cache's."""
    pool = Pool(tokens=100, seats=1)
    first = seated(pool, owner="anna", trail=(1, 2))
    assert first.is_shared, "an empty slot is everybody's"
    pool.give_back(first, 1)
    other = seated(pool, owner="bert", trail=(1, 2))
    assert (other.is_shared, other.common_blocks) == (False, 0)
    pool.give_back(other, 2)
    again = seated(pool, owner="bert", trail=(1, 2))
    assert (again.is_shared, again.common_blocks) == (True, 2)


def test_an_owner_prefers_slots_of_its_own_over_a_longer_trail_elsewhere() -> None:
    pool = Pool(tokens=100, seats=2)
    seats = [seated(pool, owner=owner, trail=trail) for owner, trail in (("anna", (1, 2, 3)), ("bert", (1,)))]
    for seat in seats:
        pool.give_back(seat, 1)
    assert seated(pool, owner="bert", trail=(1, 2, 3)).slot.index == 1


@pytest.mark.parametrize(
    ("one", "other", "blocks"),
    [((), (), 0), ((1,), (), 0), ((1, 2), (1, 2), 2), ((1, 2, 3), (1, 2, 4, 5), 2)],
    ids=["nothing", "one of none", "alike", "beginning"],
)
def test_how_much_two_trails_share(one: tuple[int, ...], other: tuple[int, ...], blocks: int) -> None:
    assert common(one, other) == blocks


@given(st.lists(st.integers(0, 99), max_size=40), st.integers(0, 40))
def test_chained_trails_share_exactly_their_common_beginning(text: list[int], length: int) -> None:
    def trail(blocks: list[int]) -> list[int]:
        chained, links = 0, []
        for block in blocks:
            chained = hash((chained, block))
            links.append(chained)
        return links

    other = text[:length] + [100] * max(0, len(text) - length)
    assert common(trail(text), trail(other)) == min(length, len(text))
