"""What people, programs and eyes get to see of the figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.contest import Contest, Run
from bench.figures import Figure, failed
from bench.machine import Machine
from bench.picture import Bar, bars, draw
from bench.report import Report, table

QUIET = Machine("A fast one", 2, 24 << 30, "Linux 6", 0.1, {"Python": "3.11.7"})
DECODE = Figure("decode, ours / bare engine", (1.0, 1.1, 0.9), goal=0.98)
COLD = Figure("cold start", (1.0,), "s", goal=0.5, better="less")
LOST = Figure("pull", goal=0.7, error="ValueError: a | b\nc")
CONTEST = Contest.of("decode", "tokens/s", "more", "http://other", [Run(10), Run(12)], [Run(5), Run(6)])
BROKEN = Contest.of("embed", "per s", "more", "http://other", [Run(10)], [Run(None, "404: no such model")])
REPORT = Report(date="2026-11-21", machine=QUIET, figures=(DECODE, COLD, LOST))


def test_a_table_has_a_row_for_each_figure_and_words_cannot_break_it() -> None:
    assert table(REPORT.figures).splitlines() == [
        "| what | goal | measured | met |",
        "| --- | --- | --- | --- |",
        "| decode, ours / bare engine | >= 0.98 | 1.000 (0.900 to 1.100, n=3) | yes |",
        "| cold start | <= 0.5 s | 1.000 s | no |",
        "| pull | >= 0.7 | ValueError: a \\| b c | no |",
    ]


def test_the_head_names_date_machine_and_versions() -> None:
    head = REPORT.markdown().partition("\n\n")[0]
    assert head.startswith("2026-11-21. A fast one, 2 cores, 24 GiB, Linux 6; Python 3.11.7.")


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        (replace(REPORT, is_quick=True), "quick: smallest sizes, not to be kept"),
        (replace(REPORT, machine=replace(QUIET, load=2.34)), "other work was going on: load average 2.3"),
    ],
)
def test_figures_that_are_worth_less_say_so(changed: Report, warning: str) -> None:
    assert REPORT.warnings == []
    assert warning in changed.markdown()
    assert warning in json.loads(changed.json())["warnings"][0]


def test_json_has_every_value() -> None:
    content = json.loads(replace(REPORT, contests=(CONTEST, BROKEN), sides={"http://other": "version 1"}).json())
    assert content["machine"]["versions"] == {"Python": "3.11.7"}
    assert content["figures"][0] == {
        "name": "decode, ours / bare engine",
        "unit": "",
        "goal": 0.98,
        "better": "more",
        "met": True,
        "median": 1.0,
        "values": [1.0, 1.1, 0.9],
        "error": "",
    }
    assert content["figures"][2]["median"] is None
    assert content["contests"][0]["ratio"]["values"] == [2.0, 2.0]
    assert content["contests"][1]["theirs"]["error"] == "404: no such model"
    assert content["sides"] == {"http://other": "version 1"}


def test_a_comparison_is_a_table_of_its_own() -> None:
    lines = replace(REPORT, figures=(), contests=(CONTEST, BROKEN), sides={"ours": "version 1"}).markdown().splitlines()
    assert "* ours: version 1" in lines
    assert lines[-2:] == [
        "| decode | 11.0 tokens/s (10.0 to 12.0, n=2) | http://other: 5.500 tokens/s (5.000 to 6.000, n=2) "
        "| 2.000 (2.000 to 2.000, n=2), more is better |",
        "| embed | 10.0 per s | http://other: 404: no such model |  |",
    ]


def test_a_bar_is_longer_than_one_when_the_goal_is_kept() -> None:
    slower = Contest.of("first token", "s", "less", "http://other", [Run(4)], [Run(2)])
    report = replace(REPORT, figures=(DECODE, COLD, LOST, failed("x", "y")), contests=(CONTEST, slower, BROKEN))
    assert [(bar.label.partition("\n")[0], round(bar.score, 2)) for bar in bars(report)] == [
        ("decode, ours / bare engine", 1.02),
        ("cold start", 0.5),
        ("decode", 2.0),
        ("first token", 0.5),
    ]
    assert bars(report)[0] == Bar(
        "decode, ours / bare engine\n1.000 (0.900 to 1.100, n=3)", 1 / 0.98, 0.9 / 0.98, 1.1 / 0.98
    )


def test_noise_below_zero_can_be_drawn() -> None:
    odd = Figure("CPU time per token", (-3.0,), "µs", goal=50, better="less")
    assert bars(replace(REPORT, figures=(odd,)))[0].score == 1000


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    draw(replace(REPORT, contests=(CONTEST,)), tmp_path / f"figures.{ending}")
    assert (tmp_path / f"figures.{ending}").read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(replace(REPORT, figures=(LOST,)), tmp_path / "nothing.png")
