"""Who is next: turns of parties, interactive before batch, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from llamero.scheduler.line import BATCH_PATIENCE_S, MAX_PARTIES_REMEMBERED, Line


@dataclass(eq=False)
class Waiter:
    name: str
    party: str = ""
    is_batch: bool = False
    asked_at_s: float = 0.0


def waiters(words: str) -> list[Waiter]:
    """`a1 b1 a2~`: parties a and b, and the last one is batch."""
    return [Waiter(word, word[0], word.endswith("~")) for word in words.split()]


def line_of(words: str) -> Line[Waiter]:
    line: Line[Waiter] = Line()
    for waiter in waiters(words):
        line.add(waiter)
    return line


def served(line: Line[Waiter], now_s: float = 1.0) -> str:
    names = []
    while (waiter := line.first(now_s)) is not None:
        line.serve(waiter)
        names.append(waiter.name)
    return " ".join(names)


@pytest.mark.parametrize(
    ("arrived", "now_s", "order"),
    [
        pytest.param("", 1, "", id="empty"),
        pytest.param("a1 a2 a3", 1, "a1 a2 a3", id="one party: in order"),
        pytest.param("a1 a2 a3 b1", 1, "a1 b1 a2 a3", id="R-74 parties take turns"),
        pytest.param("a1 a2 b1 b2 c1", 1, "a1 b1 c1 a2 b2", id="three parties"),
        pytest.param("a1~ a2 b1~ b2", 1, "a2 b2 a1~ b1~", id="R-74 batch behind interactive"),
        pytest.param("a1~ a2 b1", BATCH_PATIENCE_S, "a1~ b1 a2", id="R-74 batch that has waited counts as interactive"),
        pytest.param("a1~ a2~ b1~", 1, "a1~ b1~ a2~", id="batch takes turns too"),
    ],
)
def test_r74_the_order_of_a_line(arrived: str, now_s: float, order: str) -> None:
    line = line_of(arrived)
    assert " ".join(waiter.name for waiter in line.in_order(now_s)) == order, "looked at"
    assert len(line) == len(arrived.split()), "looking changes nothing"
    assert served(line, now_s) == order, "served"


def test_r74_one_who_asks_again_and_again_does_not_overtake_fifty_of_another() -> None:
    line = line_of(" ".join(f"a{number}" for number in range(50)))
    order = []
    for number in range(6):
        line.add(Waiter(f"b{number}", "b"))
        for _ in range(2):
            waiter = line.first(1)
            assert waiter is not None
            line.serve(waiter)
            order.append(waiter.party)
    assert order == ["a", "b"] * 6


def test_a_turn_is_remembered_when_nobody_of_the_party_waits() -> None:
    line = line_of("a1")
    served(line)
    for waiter in waiters("a2 b1"):
        line.add(waiter)
    assert served(line) == "b1 a2"


def test_those_put_back_stand_before_all_others() -> None:
    line = line_of("a1 b1")
    line.put_back(waiters("c1 c2~ c3"))
    line.put_back(waiters("d1"))
    assert served(line) == "d1 c1 c3 c2~ a1 b1"


def test_who_leaves_is_not_served_and_takes_nobodys_turn() -> None:
    line = line_of("a1 a2 b1")
    line.remove(next(iter(line)))
    assert served(line) == "a2 b1"


def test_parties_without_number_are_not_remembered_without_end() -> None:
    line: Line[Waiter] = Line()
    for number in range(MAX_PARTIES_REMEMBERED + 100):
        line.add(Waiter("x", str(number)))
        served(line)
    assert len(line._turns) == MAX_PARTIES_REMEMBERED
