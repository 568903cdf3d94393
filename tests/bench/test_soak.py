"""The soak program: what it makes of what it saw, and one small run of all of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.visitors import Tally, Unwanted, quantile


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.99, 5), (1.0, 5)])
def test_a_share_of_all(share: float, value: float) -> None:
    assert quantile([5, 1, 4, 2, 3], share) == value


async def test_what_became_of_requests() -> None:
    tally = Tally()

    async def answered() -> None:
        await asyncio.sleep(0)

    async def refused() -> None:
        raise Unwanted("500")

    for request in (answered(), refused(), answered()):
        await tally.count(request)
    failed, median, slowest = tally.figures("questions")
    assert (failed.name, failed.values, failed.met) == ("questions: failed of 3", (1.0,), False)
    assert (median.unit, slowest.unit) == ("s", "s")
    assert tally.errors == ["Unwanted: 500"]


async def test_a_mistake_of_ours_is_no_result() -> None:
    async def wrong() -> None:
        raise TypeError("ours")

    with pytest.raises(TypeError):
        await Tally().count(wrong())


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_a_small_soak_meets_every_goal(tmp_path: Path) -> None:
    """Idle and active connections, slow readers and writers, small requests, clients that vanish, a restart."""
    argv = [sys.executable, "-m", "bench.soak", "--quick", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert {figure["met"] for figure in figures if figure["goal"] is not None} == {True}
    assert len([figure for figure in figures if figure["goal"] is not None]) >= 9
    assert all(figure["name"] in done.stdout for figure in figures)
