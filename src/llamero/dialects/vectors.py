"""Vectors as JSON: numbers, or their bytes in base64. Pure.

Both are made row by row: as Python's numbers all rows of a reply together would take eight times their own size.
Source: native-api §3.9, compat-api §7.
"""

from __future__ import annotations

import base64
import sys
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from ..messages import Vector

Numbers = Annotated[Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "number"}})]


def numbers(vector: Vector) -> Raw:
    """In the digits of 64 bits: read back and made single again they are the same."""
    return Raw(msgspec.json.encode(vector.tolist()))


def packed(vector: Vector) -> Raw:
    """IEEE-754 single precision, little endian."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return Raw(b'"%b"' % base64.b64encode(vector))
