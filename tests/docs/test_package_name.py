"""Nobody is told to install us by our bare name: on a public index that may be somebody else's program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BY_NAME = re.compile(r"""(?:pip|pipx|uv tool|uv pip) install (?:-\S+ )*["'\\]*llamero\b""")


def told() -> Iterator[tuple[str, str]]:
    """Each text that a user may read, with the line breaks of a source taken out."""
    for pattern in ("src/**/*.py", "docs/*.md", "*.md", "deploy/**/*"):
        for path in ROOT.glob(pattern):
            if path.is_file():
                yield str(path.relative_to(ROOT)), re.sub(r'"\s*\n\s*f?"', "", path.read_text("utf-8"))


def test_no_text_of_ours_installs_by_the_name_alone() -> None:
    texts = dict(told())
    assert "docs/install.md" in texts
    assert [(path, found[0]) for path, text in texts.items() if (found := BY_NAME.search(text))] == []


def test_what_would_be_found() -> None:
    for text in (
        "pip install llamero",
        "pip install 'llamero[otel]'",
        "pipx install llamero",
        "pip install -U llamero",
    ):
        assert BY_NAME.search(text)
    for text in ("pip install .", "pip install '.[otel]'", "uv tool uninstall llamero"):
        assert not BY_NAME.search(text)
