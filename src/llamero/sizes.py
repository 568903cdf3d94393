"""Bytes as people read them, in decimal units. Sizes that people write are read by `config.parse_size`.

Source: cli §4.1. They stand on the floor of words because the store's findings and the command line both tell sizes.
"""

from __future__ import annotations

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def human_bytes(n: int) -> str:
    """At most three digits and no more than one decimal: `999 B`, `1.5 KB`, `4.7 GB`, `42 GB`."""
    for unit, name in _UNITS:
        if n >= unit:
            return f"{n / unit:.1f} {name}" if n < 10 * unit and n % unit else f"{n // unit} {name}"
    return f"{n} B"
