"""What reports contain, and the files that they become."""

from __future__ import annotations

import csv
import io
import os
import stat
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from PIL import Image

from llamero.cli.benchmark import charts
from llamero.cli.benchmark.benchstat import benchstat, short_csv
from llamero.cli.benchmark.compare import comparison_json, comparison_page, comparison_table
from llamero.cli.benchmark.pages import Bars, Chart, model_table, plain_lines, report_page, task_table
from llamero.cli.benchmark.records import ModelResult, Report, TaskResult, decode, encode
from llamero.cli.benchmark.writers import (
    ENDINGS,
    html,
    markdown,
    png,
    report_files,
    rounds_csv,
    table_csv,
    write_file,
)
from llamero.errors import BadRequest
from tests.cli.benchmark.reports import FAILED, model, one, report

HOSTILE = "=x|<b>`_1_`"
NAMES = ("before", "after")

SMALL = report(
    model("a:1b", greeting=[one(40), one(50)], coding=[one(30, verdict="wrong"), FAILED]),
    ModelResult(name="vectors", skipped="turns texts into vectors and answers no question"),
    ModelResult(name="broken", failure="out of memory"),
    notes=["models cannot be unloaded here"],
)


# --- JSON ----------------------------------------------------------------------------------------------------------


def test_json_there_and_back() -> None:
    assert decode(encode(SMALL), "x.json") == SMALL


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff", b'{"format": 1}', encode(SMALL).replace(b'"models": [', b'"models": [5, ')],
)
def test_a_file_that_is_no_report(data: bytes) -> None:
    with pytest.raises(BadRequest, match=r"x\.json is no report of this tool"):
        decode(data, "x.json")


def test_a_report_of_another_format() -> None:
    with pytest.raises(BadRequest, match="format 2; this version reads format 1"):
        decode(encode(msgspec.structs.replace(SMALL, format=2)), "x.json")


# --- tables --------------------------------------------------------------------------------------------------------


def test_the_table_of_tasks() -> None:
    assert task_table(SMALL).rows == [
        ("a:1b", "greeting", "100 ms", "400", "45.0", "700 ms", "40", "2/2", "0/2"),
        ("a:1b", "coding", "100 ms", "400", "30.0", "700 ms", "20", "0/1", "1/2"),
    ]


def test_the_table_of_models() -> None:
    assert model_table(SMALL).rows == [("a:1b", "1B Q4_0", "1.50 s", "2 GB", "1 GB", "400", "40.0", "60", "2/3", "1/4")]


def test_notes_say_what_was_left_out_and_what_failed() -> None:
    lacking = model("b:1")
    lacking = msgspec.structs.replace(lacking, tasks=[TaskResult(task="tool-call", skipped="the model has no tools")])
    notes = report_page(msgspec.structs.replace(SMALL, models=[*SMALL.models, lacking])).notes
    assert notes == [
        "models cannot be unloaded here",
        "a:1b, coding failed 1x: out of memory",
        "vectors was left out: it turns texts into vectors and answers no question",
        "broken failed: out of memory",
        "b:1, tool-call was left out: the model has no tools",
    ]


def test_plain_tables_have_no_control_codes() -> None:
    text = "\n".join(plain_lines(task_table(report(model("\x1b[31mred", greeting=[one()])))))
    assert "\x1b" not in text
    assert "[31mred" in text


def test_one_model_is_charted_by_task_and_several_by_model() -> None:
    assert [bars.label for bars in report_page(SMALL).charts[0].bars] == ["greeting", "coding"]
    several = report(model("a", greeting=[one(40)]), model("b", greeting=[one(20)]))
    chart = report_page(several).charts[0]
    assert [(bars.label, [round(value or 0) for value in bars.values]) for bars in chart.bars] == [
        ("a", [40]),
        ("b", [20]),
    ]


def test_a_report_of_nothing_is_still_one() -> None:
    page = report_page(report())
    assert (page.charts, page.notes) == ([], [])
    assert markdown(page).startswith("# Benchmark of http://box:11434\n")
    assert "<svg" not in html(page)
    assert Image.open(io.BytesIO(png(page))).width == charts.WIDTH * charts.PNG_SCALE


# --- two reports ---------------------------------------------------------------------------------------------------

BEFORE = report(model("a", greeting=[one(40)], coding=[one(10)]), model("gone", greeting=[one()]))
AFTER = report(model("a", greeting=[one(80, ttft_s=0.2)], coding=[FAILED], json=[one()]), server="https://other:443")


def test_how_many_times_as_fast() -> None:
    assert comparison_table(BEFORE, AFTER).rows == [
        ("a", "greeting", "40.0", "80.0", "2.00x", "400", "400", "1.00x", "100 ms", "200 ms", "0.50x"),
        ("a", "coding", "10.0", "–", "–", "400", "–", "–", "100 ms", "–", "–"),
        ("all", "(geometric mean)", "", "", "2.00x", "", "", "1.00x", "", "", "0.50x"),
    ]


def test_what_makes_a_comparison_doubtful_is_said() -> None:
    other = msgspec.structs.replace(
        AFTER,
        conditions=msgspec.structs.replace(AFTER.conditions, max_tokens=1),
        models=[msgspec.structs.replace(AFTER.models[0], digest="cd" * 32)],
    )
    assert comparison_page(BEFORE, other, NAMES).notes == [
        "the two were measured under different conditions",
        "a is not the same model in both",
        "gone was measured in one of the two only",
        "after: a, coding failed 1x: out of memory",
    ]


def test_a_comparison_as_json_has_both_reports() -> None:
    found = msgspec.json.decode(comparison_json(BEFORE, AFTER, NAMES))
    assert msgspec.convert(found["sides"][1]["report"], Report) == AFTER
    assert found["ratios"][0] == {
        "model": "a",
        "task": "greeting",
        "decode": pytest.approx(2),
        "prefill": pytest.approx(1),
        "ttft": pytest.approx(0.5),
    }


# --- files ---------------------------------------------------------------------------------------------------------


def test_csv_has_every_answer() -> None:
    rows = list(csv.DictReader(io.StringIO(rounds_csv(SMALL))))
    assert len(rows) == 4
    assert {key: rows[1][key] for key in ("model", "task", "round", "decode_tokens_per_s", "verdict")} == {
        "model": "a:1b",
        "task": "greeting",
        "round": "2",
        "decode_tokens_per_s": "50.0",
        "verdict": "right",
    }
    assert (rows[3]["failure"], rows[3]["ttft_s"]) == ("out of memory", "")


def test_a_name_is_no_formula_no_markup_and_no_code() -> None:
    page = report_page(report(model(HOSTILE, greeting=[one()]), model("b", greeting=[one()])))
    assert f"'{HOSTILE}" in table_csv(page.tables[0])
    assert "| =x\\|\\<b\\>\\`\\_1\\_\\` |" in markdown(page)
    assert "<b>" not in html(page)
    assert "=x|&lt;b&gt;`_1_`" in html(page)


def test_html_loads_and_runs_nothing() -> None:
    text = html(report_page(SMALL))
    assert "default-src 'none'" in text
    assert not any(word in text for word in ("<script", "src=", "href=", "@import", "url("))
    assert text.count("<svg") == 5


def test_charts_are_sound_svg() -> None:
    chart = Chart("A & B", [Bars("<x>", (1.0, None)), Bars("y", (0.5, 2.0))], str, ("one", "two"))
    root = ElementTree.fromstring(charts.svg(charts.lay_out(chart)))
    space = "{http://www.w3.org/2000/svg}"
    bars = [float(box.attrib["width"]) for box in root.iter(f"{space}rect")][2:]  # the first two are the legend
    assert bars[2] == 2 * bars[0] == 4 * bars[1]
    texts = [text.text for text in root.iter(f"{space}text")]
    assert texts[0] == "A & B"
    assert {"<x>", "one", "two", "None"} <= set(texts)


def test_png_shows_the_bars() -> None:
    image = Image.open(io.BytesIO(png(report_page(SMALL)))).convert("RGB")
    colours = {colour for _, colour in image.getcolors(2**20) or []}
    assert (0x2F, 0x6F, 0x8F) in colours


@pytest.mark.parametrize(("text", "short"), [("abcdef", "abcdef"), ("abcdefg", "ab…efg"), ("x" * 100, "xx…xxx")])
def test_long_names_lose_their_middle(text: str, short: str) -> None:
    assert charts.shortened(text, 6) == short


def test_a_name_without_an_ending_is_all_five(tmp_path: Path) -> None:
    files = report_files([f"{tmp_path}/run.1", f"{tmp_path}/x.HTML"])
    assert [(ending, path.name) for ending, path in files] == [
        *((ending, f"run.1.{ending}") for ending in ENDINGS),
        ("html", "x.HTML"),
    ]


@pytest.mark.parametrize(("name", "why"), [("none/x.md", "there is no folder"), ("folder.md", "is a folder")])
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(BadRequest, match=why):
        report_files([str(tmp_path / name)])


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.md"
    path.write_text("old")
    write_file(path, b"new")
    assert path.read_text() == "new"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    (tmp_path / "d").mkdir()
    with pytest.raises(BadRequest, match="cannot be written"):
        write_file(tmp_path / "d", b"new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["d", "x.md"]


# --- the reference's formats (cli §3.15) ---------------------------------------------------------------------------

PROMPTED = report(model("a:1b", prompt=[one(40), FAILED]))


def test_benchstat() -> None:
    assert benchstat(PROMPTED).splitlines() == [
        "# Model: a:1b | Params: 1B | Quant: Q4_0 | Family: llama | Size: 2 GB | VRAM: 1 GB",
        "BenchmarkModel/name=a:1b/step=prefill 1 2500000.00 ns/token 400.00 token/sec",
        "BenchmarkModel/name=a:1b/step=generate 1 25000000.00 ns/token 40.00 token/sec",
        "BenchmarkModel/name=a:1b/step=ttft 1 100000000 ns/op",
        "BenchmarkModel/name=a:1b/step=load 1 1000000 ns/op",
        "BenchmarkModel/name=a:1b/step=total 1 700000000 ns/op",
    ]


def test_short_csv() -> None:
    assert short_csv(PROMPTED).splitlines() == [
        "NAME,STEP,COUNT,NS_PER_COUNT,TOKEN_PER_SEC",
        "# Model: a:1b | Params: 1B | Quant: Q4_0 | Family: llama | Size: 2 GB | VRAM: 1 GB",
        "a:1b,prefill,40,2500000.00,400.00",
        "a:1b,generate,20,25000000.00,40.00",
        "a:1b,ttft,1,100000000,0",
        "a:1b,load,1,1000000,0",
        "a:1b,total,1,700000000,0",
    ]


def test_tasks_are_named_where_there_are_several() -> None:
    assert "BenchmarkModel/name=a:1b/task=greeting/step=ttft 1 100000000 ns/op" in benchstat(SMALL).splitlines()
    assert "a:1b/greeting,ttft,1,100000000,0" in short_csv(SMALL).splitlines()
