"""Steps carried out for real, or only told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from llamero.cli.service.perform import follow, perform
from llamero.cli.service.plan import Remove, Run, Write
from llamero.cli.terminal import Terminal
from llamero.errors import LlameroError


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(io.StringIO(), io.StringIO(), io.StringIO())


def said(terminal: Terminal) -> str:
    assert isinstance(terminal.stdout, io.StringIO)
    return terminal.stdout.getvalue()


def test_files_come_and_go_with_their_folder(tmp_path: Path, terminal: Terminal) -> None:
    path = tmp_path / "a" / "llamero.service.d" / "gpu.conf"
    perform([Write(path, "one\n"), Write(path, "two\n", mode=0o600)], terminal)
    assert path.read_text() == "two\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["gpu.conf"], "no draft stays behind"
    perform([Remove(path), Remove(path)], terminal)
    assert [each.name for each in path.parents[1].iterdir()] == []
    other = tmp_path / "units" / "llamero.service"
    perform([Write(other, "x"), Remove(other)], terminal)
    assert other.parent.is_dir(), "a folder that is not ours stays"


def test_a_file_may_be_in_the_encoding_that_its_reader_wants(tmp_path: Path, terminal: Terminal) -> None:
    perform([Write(tmp_path / "t.xml", "<Task/>", encoding="utf-16")], terminal)
    assert (tmp_path / "t.xml").read_bytes().startswith((b"\xff\xfe", b"\xfe\xff"))


def test_commands_run_in_their_order_and_a_failure_ends_it(tmp_path: Path, terminal: Terminal) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(LlameroError, match=r"`sh -c 'echo no >&2; exit 3'` failed with status 3: no"):
        perform([Run(("sh", "-c", "echo no >&2; exit 3")), Run(("touch", str(mark)))], terminal)
    assert not mark.exists()
    perform([Run(("false",), may_fail=True), Run(("touch", str(mark)))], terminal)
    assert mark.exists()


def test_what_is_not_installed_is_said(terminal: Terminal) -> None:
    for act in (lambda: perform([Run(("no-such-manager",))], terminal), lambda: follow(Run(("no-such-manager",)))):
        with pytest.raises(LlameroError, match="no-such-manager is not installed here"):
            act()


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LlameroError, match="file/unit: file exists"):
        perform([Write(tmp_path / "file" / "unit", "")], terminal)


def test_a_dry_run_tells_and_touches_nothing(tmp_path: Path, terminal: Terminal) -> None:
    path = tmp_path / "unit"
    perform(
        [Write(path, "[Unit]\n\nA=1\n"), Remove(tmp_path / "x"), Run(("false", "two words"))], terminal, dry_run=True
    )
    assert said(terminal) == (
        f"write {path}:\n\n    [Unit]\n\n    A=1\n\nremove {tmp_path / 'x'}\nrun false 'two words'\n"
    )
    assert not path.exists()
