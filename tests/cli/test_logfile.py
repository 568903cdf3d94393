"""The log of a server in the background: files of bounded size, and a bounded number of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from llamero.cli.logfile import KEPT, MODE, log_path, open_log
from llamero.config import Settings

WRITER = """
import logging, sys
from pathlib import Path
from llamero.cli.logfile import keep_small
from llamero.cli.logs import ACCESS, log_to
log_to(sys.stderr, sys.stdout, 0)
keep_small(Path(sys.argv[1]), max_bytes=1000)
for number in range(int(sys.argv[2])):
    logging.getLogger("x").info("line %d", number)
    logging.getLogger(ACCESS).info("request %d", number)
print("not from the log", flush=True)
"""


def write(path: Path, lines: int, *, elsewhere: Path | None = None) -> None:
    """Let a process log so many lines and requests, into the file or somewhere else."""
    output = open_log(elsewhere or path)
    try:
        command = [sys.executable, "-c", WRITER, str(path), str(lines)]
        subprocess.run(command, stdout=output, stderr=output, check=True, timeout=30)
    finally:
        os.close(output)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_where_it_is() -> None:
    assert log_path(Settings.from_env({"HOME": "/h"})) == Path("/h/.ollama/logs/server.log")


def test_a_full_file_makes_way_while_the_server_runs(tmp_path: Path) -> None:
    """No line is lost or out of order, and what is printed past the log follows it."""
    path = tmp_path / "logs" / "server.log"
    write(path, 40)
    files = [path.with_name(f"server-{number}.log") for number in range(KEPT, 0, -1)] + [path]
    kept = [file for file in files if file.exists()]
    assert len(kept) > 2
    assert all(file.stat().st_size < 1200 for file in kept)
    lines = "".join(file.read_text() for file in kept).splitlines()
    told = [line.rpartition("msg=")[2].strip('"') for line in lines]
    assert told == [f"{what} {number}" for number in range(40) for what in ("line", "request")] + ["not from the log"]
    assert {file.stat().st_mode & 0o777 for file in kept} == {MODE}


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    write(path, 200)
    assert names(tmp_path) == sorted(["server.log", *(f"server-{number}.log" for number in range(1, KEPT + 1))])
    assert "request 199" in path.read_text() + path.with_name("server-1.log").read_text()


def test_output_that_goes_elsewhere_is_not_looked_after(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("another server's")
    write(tmp_path / "server.log", 100, elsewhere=tmp_path / "mine.log")
    assert names(tmp_path) == ["mine.log", "server.log"]
    assert (tmp_path / "server.log").read_text() == "another server's"


def test_a_full_file_makes_way_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("old" * 100)
    os.close(open_log(path, max_bytes=300))
    assert (path.read_text(), path.with_name("server-1.log").read_text()) == ("", "old" * 100)
    path.write_text("young")
    os.close(open_log(path, max_bytes=300))
    assert path.read_text() == "young"
