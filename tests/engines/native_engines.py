"""Native engines as a build leaves them, without building one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from llamero.engines.native import PROGRAM, RECORD, NativeEngines, Record, wheel_version


def record(name: str = "native-avx512", **more: Any) -> Record:
    usual = {
        "name": name,
        "version": wheel_version(),
        "source": "xllamacpp-1.tar.gz",
        "features": ("avx2", "avx512"),
        "compiler": "c++ 12",
        "built_at_ns": 1_000_000_000,
        "measured_on": "smollm2:135m",
        "decode_ratio": 1.25,
        "prefill_ratio": 1.5,
        "is_faster": True,
    }
    return Record(**(usual | more))


def install(natives: NativeEngines, known: Record | None = None, *, program: str = "#!/bin/sh\nexit 1\n") -> Path:
    """Put an engine there; its program is a script. Returns the program."""
    known = known or record()
    folder = natives.folder / known.name
    folder.mkdir(parents=True)
    (folder / RECORD).write_bytes(msgspec.json.encode(known))
    (folder / PROGRAM).write_text(program)
    (folder / PROGRAM).chmod(0o755)
    return folder / PROGRAM
