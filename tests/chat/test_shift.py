"""What the engine throws away when an answer outgrows its window, foretold (native-api §2.9, step 3)."""

from __future__ import annotations

import pytest

from llamero.chat.shift import discarded, losses
from llamero.messages import Done, Usage
from llamero.options import merge_options


@pytest.mark.parametrize(
    ("window", "keep", "asked", "answered", "bos", "lost"),
    [
        pytest.param(64, 4, 30, 34, False, (0, 0), id="just full"),
        pytest.param(64, 4, 30, 35, False, (4, 29), id="one token more"),
        # the rest is what the engine's log said of real answers: `n_keep` and the sum of `n_discard`
        pytest.param(64, 4, 30, 300, False, (4, 290), id="ten shifts"),
        pytest.param(256, 4, 30, 300, False, (4, 125), id="one shift"),
        pytest.param(256, 4, 30, 400, False, (4, 250), id="two shifts"),
        pytest.param(256, -1, 30, 400, False, (30, 224), id="the whole prompt kept"),
        pytest.param(4, 4, 2, 5, False, (0, 3), id="the smallest window keeps nothing"),
        pytest.param(64, 1000, 31, 200, False, (60, 167), id="as much kept as fits"),
        pytest.param(64, 4, 30, 300, True, (5, 290), id="a first token of the model's own"),
    ],
)
def test_discarded(window: int, keep: int, asked: int, answered: int, bos: bool, lost: tuple[int, int]) -> None:
    assert discarded(window, keep, asked, answered, adds_bos=bos) == lost


def said(predicted: int, *, shifts: bool = True, reason: str = "length", **options: int) -> list[str]:
    done = Done("length" if reason == "length" else "stop", Usage(prompt_tokens=10, predicted_tokens=predicted))
    return losses(done, 64, merge_options(options), shifts=shifts, adds_bos=False)


def test_an_answer_that_fits_loses_nothing() -> None:
    assert said(20) == []


def test_what_is_discarded_is_named() -> None:
    assert said(100) == ["the answer outgrew the context: 58 tokens after the first 4 were discarded"]
    assert said(100, shifts=False) == [], "without a shift nothing is discarded: the answer ends"


@pytest.mark.parametrize("asked", [-1, -2, 0, 10**9])
def test_an_answer_that_is_ended_at_ten_windows_says_so(asked: int) -> None:
    limit = "the answer was ended after 640 tokens, 10 times the context"
    assert said(640, num_predict=asked)[1:] == [limit]
    assert said(640, num_predict=asked, reason="stop")[1:] == [], "it ended by itself"
    assert said(640, num_predict=640)[1:] == [], "as asked"
