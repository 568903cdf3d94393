"""Sizes as people read them (cli §4.1)."""

from __future__ import annotations

import pytest

from llamero.sizes import human_bytes


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 KB"),
        (1500, "1.5 KB"),
        (9_990, "10.0 KB"),
        (10_900, "10 KB"),
        (999_999, "999 KB"),
        (4_700_000_000, "4.7 GB"),
        (42_000_000_000, "42 GB"),
        (1_999_999_999_999, "2.0 TB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_bytes(n: int, text: str) -> None:
    """L-23"""
    assert human_bytes(n) == text
