"""Wheels for tests, whole or wrong."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

DIST = "tiny_starter"
REQUIREMENT = "tiny-starter==1.0"


def build_wheel(folder: Path, members: Mapping[str | zipfile.ZipInfo, bytes]) -> Path:
    """`tiny-starter` 1.0 with these members beside what every wheel has."""
    info = f"{DIST}-1.0.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{DIST}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        # a dependency that is nowhere to be had: nobody wants it
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-starter\nVersion: 1.0\nRequires-Dist: none-such\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path
