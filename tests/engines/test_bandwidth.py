"""How quickly memory is read here."""

from __future__ import annotations

from llamero.engines.bandwidth import BLOCK_BYTES, MAX_SHARE, measure_bandwidth


def test_it_is_that_of_a_computer() -> None:
    """Between a tenth and a hundredfold of what desktops have."""
    assert 1e9 < measure_bandwidth(1, 1 << 40) < 5e12


def test_scarce_memory_is_left_alone() -> None:
    assert measure_bandwidth(2, 2 * BLOCK_BYTES * MAX_SHARE - 1) == 0
