"""Room for as many connections as there may be: each is an open file."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging, resource, sys
from llamero.server import descriptors
logging.basicConfig(format="%(message)s", stream=sys.stdout)
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
descriptors.provide(connections)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "said"),
    [
        pytest.param(64, 900, 400, "656 900\n", id="as many as wanted"),
        pytest.param(900, 900, 400, "900 900\n", id="enough already"),
        pytest.param(
            64,
            500,
            400,
            "only 500 files may be open at once: about 244 connections can be served "
            "(raise ulimit -n, or LimitNOFILE=)\n"
            "500 500\n",
            id="as many as there are",
        ),
    ],
)
def test_a_process_takes_what_it_needs(soft: int, hard: int, connections: int, said: str) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(soft), str(hard), str(connections)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == said
