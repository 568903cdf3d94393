"""No release with a known hole may be installed: our floors stand at the fixes, or above them (partly X-96)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]

FIXED = {
    "aiohttp": ("3.13.4", "CVE-2025-69229, CVE-2026-22815: chunks and trailers that cost too much"),
    "h11": ("0.16.0", "CVE-2025-43859: chunks read leniently"),
    "pillow": ("12.1.1", "CVE-2026-25990: PSD tiles written out of bounds"),
    "starlette": ("0.49.1", "CVE-2025-62727: ranges in quadratic time; CVE-2025-54121"),
    "cryptography": ("46.0.5", "CVE-2026-26007: points of small subgroups"),
    "uvicorn": ("0.11.7", "CVE-2020-7695: line breaks in headers"),
    "pip": ("26.0", "CVE-2026-1703, CVE-2025-8869: wheels and links that leave their folder"),
}
"""The first release without the hole."""

DEPENDENCIES = [
    Requirement(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if re.match(r"[\w.-]+==", line)
)


def floor(specifiers: SpecifierSet) -> Version:
    """The lowest version that may be installed."""
    return max(Version(each.version) for each in specifiers if each.operator in (">=", "==", "~="))


@pytest.mark.parametrize(("name", "fixed"), [(name, fixed) for name, (fixed, _) in FIXED.items()])
def test_no_release_with_a_known_hole_can_be_installed(name: str, fixed: str) -> None:
    """Partly X-96: the floor of each parser of what strangers send."""
    (ours,) = (each for each in DEPENDENCIES if each.name == name)
    assert floor(ours.specifier) >= Version(fixed)
    assert Version(PINS[name]) >= Version(fixed)


def test_every_dependency_has_a_floor_and_its_pin_is_allowed() -> None:
    """Partly X-96: and the versions that CI installs lie within what users may get."""
    for each in DEPENDENCIES:
        assert floor(each.specifier)
        assert each.specifier.contains(PINS[each.name.replace("_", "-")], prereleases=True), each


NOT_TOLD = "could not be audited"


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("pip-audit") is None, reason="pip-audit is not installed")
def test_no_advisory_names_a_version_that_ci_installs() -> None:
    """Partly X-96: it needs `pip-audit`, and a package index that knows the advisories."""
    words = ["pip-audit", "--disable-pip", "--no-deps", "--progress-spinner=off", "--requirement", "constraints.txt"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100)
    if NOT_TOLD in done.stdout:
        pytest.skip("the package index does not tell advisories")
    assert done.returncode == 0, done.stdout + done.stderr
