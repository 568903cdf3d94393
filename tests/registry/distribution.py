"""The CNCF distribution, a plain OCI registry, as a child process on a free loopback port with storage of its own.

The program is Debian's package `docker-registry`. Where it is not installed, the tests that need it are skipped.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAM = "docker-registry"
START_TIMEOUT_S = 20


@dataclass(frozen=True)
class Distribution:
    host: str
    """`127.0.0.1:<port>`."""
    storage: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def data_of(self, digest: str) -> Path:
        """Where the registry keeps a blob, `sha256:<hex>`."""
        hex_digits = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / hex_digits[:2] / hex_digits / "data"


@contextmanager
def distribution(folder: Path, http: Mapping[str, Any] = {}, **sections: Any) -> Iterator[Distribution]:
    """Run a registry that keeps its files in `folder`.

    `http` joins that section of its configuration (`relativeurls=True`, say); other sections are given by name.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        pytest.skip(f"the program {PROGRAM} is not installed (Debian: apt-get install {PROGRAM})")
    folder.mkdir(parents=True, exist_ok=True)
    storage, log, config = folder / "storage", folder / "registry.log", folder / "config.yml"
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", **http},
        **sections,
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    with log.open("wb") as output:
        child = subprocess.Popen([program, "serve", config], stdout=output, stderr=output, env={})
    try:
        yield Distribution(_host(child, log), storage, log)
    finally:
        child.terminate()
        child.wait(10)


def _host(child: subprocess.Popen[bytes], log: Path) -> str:
    """The registry chooses a free port and tells it to its log."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        assert child.poll() is None, log.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{PROGRAM} did not start: {log.read_text()}")
