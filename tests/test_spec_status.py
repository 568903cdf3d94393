"""The page that says which behaviours of the specification are shown: docs/spec_status.py.

The numbers and tests' names of this file are put together at run time, so that they claim nothing themselves.
"""

from collections import defaultdict
from pathlib import Path

import pytest

from docs import spec_status
from docs.spec_status import Mistake, main, read_behaviours, read_claims, read_differences

S01, S02, N01, UNKNOWN = (
    f"{letter}-{number}" for letter, number in (("S", "01"), ("S", "02"), ("N", "01"), ("S", "99"))
)
KNOWN = {S01, S02, N01}
DEF = "def"


@pytest.mark.parametrize(
    ("source", "complete", "partial"),
    [
        (f'"""{S01}: names."""', {S01}, set()),
        (f"pytest.param(1, id='{S01}, {N01} a|b')", {S01, N01}, set()),
        (f"# partly {S01}, {S02}", {S02}, {S01}),
        (f'"""Partly\n    {S01}"""', set(), {S01}),
        (f"x{S01} {S01}x UTF-16 CVE-2025-1234", set(), set()),
        (f"{DEF} test_s01_and_n01_hold() -> None:", {S01, N01}, set()),
        (f"async {DEF} test_partly_s01(): ...", set(), {S01}),
        (f"{DEF} test_s1_s99_cs01_s010(): s01 = helper_s02()", set(), set()),
    ],
)
def test_what_a_test_claims(source: str, complete: set[str], partial: set[str]) -> None:
    claims = read_claims([("tests/test_a.py", source)], KNOWN)
    assert (set(claims.complete), set(claims.partial)) == (complete, partial)


def test_a_number_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(Mistake, match=rf"tests/test_a\.py: there is no behaviour {UNKNOWN}"):
        read_claims([("tests/test_a.py", UNKNOWN)], KNOWN)


@pytest.mark.parametrize("text", [f'{UNKNOWN} = "why"', f'{S01} = " "', f"{S01} = 1"])
def test_a_difference_needs_a_number_and_a_reason(text: str) -> None:
    with pytest.raises(Mistake, match=r"differences\.toml"):
        read_differences(text, KNOWN)


def test_a_behaviour_has_one_line() -> None:
    with pytest.raises(Mistake, match="more than once"):
        read_behaviours(f"id\ttags\ttext\n{S01}\t-\ta\n{S01}\t-\tb\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests/store").mkdir(parents=True)
    rows = [f"{N01}\t-\tanswers", f"{S01}\tnames\ta | b", f"{S02}\tnames\tc"]
    (tmp_path / "docs/behaviours.tsv").write_text("\n".join(["id\ttags\ttext", *rows]) + "\n")
    (tmp_path / "docs/differences.toml").write_text(f'{S02} = "no need"\n')
    (tmp_path / "tests/test_a.py").write_text(f"# partly {S01}")
    (tmp_path / "tests/store/test_b.py").write_text(f'"""{S01} {S02}"""')
    return tmp_path


def test_the_page_has_counts_and_a_table_for_each_family(project: Path) -> None:
    assert main([], project) == 0
    page = (project / "docs/spec-status.md").read_text()
    assert "| N | Native HTTP API | 1 | 0 | 0 | 0 | 1 |\n" in page
    assert "| S | Store and registry | 2 | 1 | 0 | 1 | 0 |\n" in page
    assert "|  | Together | 3 | 1 | 0 | 1 | 1 |\n" in page
    assert f"| {N01} | answers | open |  |\n" in page
    links = "[store/test_b.py](../tests/store/test_b.py), [test_a.py](../tests/test_a.py)"
    assert f"| {S01} | a \\| b | done | {links} |\n" in page
    assert f"| {S02} | c | differs: no need | [store/test_b.py](../tests/store/test_b.py) |\n" in page


def test_check_tells_a_page_that_is_out_of_date(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"], project) == 1
    main([], project)
    assert main(["--check"], project) == 0
    (project / "tests/store/test_b.py").unlink()
    capsys.readouterr()
    assert main(["--check"], project) == 1
    assert "python docs/spec_status.py" in capsys.readouterr().err
    assert f"| {S01} | a \\| b | done |" in (project / "docs/spec-status.md").read_text()


def test_a_mistake_is_reported_and_nothing_is_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "docs/differences.toml").write_text(f'{UNKNOWN} = "why"')
    assert main([], project) == 1
    assert "there is no behaviour" in capsys.readouterr().err
    assert not (project / "docs/spec-status.md").exists()


def test_the_list_of_behaviours_is_complete() -> None:
    numbers = defaultdict(list)
    for each in read_behaviours((spec_status.ROOT / "docs/behaviours.tsv").read_text("utf-8")):
        numbers[each.family].append(int(each.id[2:]))
        assert 0 < len(each.text) <= 110, each.id
        assert each.tags, each.id
    last = {"N": 125, "C": 105, "L": 104, "T": 100, "S": 109, "R": 76, "X": 102}
    assert numbers == {family: list(range(1, number + 1)) for family, number in last.items()}
