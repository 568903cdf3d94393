"""native-api §2.6: pictures arrive as base64, read as strictly as Go does. The offsets come from Go's own decoder."""

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.dialects.gobase64 import decode_base64
from llamero.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("QUJD", b"ABC"),
        ("QUI=", b"AB"),
        ("QQ==", b"A"),
        ("QR==", b"A"),  # bits that belong to no byte are not looked at
        ("QU\r\nJ\nD", b"ABC"),
        ("\nQ\nQ\n=\n=\n", b"A"),
        ("+/+/", b"\xfb\xff\xbf"),
    ],
)
def test_sound_base64(text: str, data: bytes) -> None:
    assert decode_base64(text) == data


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        pytest.param("data:image/png;base64,AAAA", 4, id="partly N-26: a data URL fails at its colon"),
        pytest.param("QUJDRA", 4, id="partly N-26: unpadded"),
        ("QUJDR", 4),
        ("AAA", 0),
        ("A\n", 1),
        ("=", 0),
        ("A=", 1),
        ("AA=", 3),
        ("AA=\n", 4),
        ("AA=A", 2),
        ("AA=\nA", 3),
        ("AA==A", 4),
        ("AA==\n=", 5),
        ("AAA=A", 4),
        ("AAAA=", 4),
        ("AAAA====", 4),
        ("AA AA", 2),
        ("AA-_", 2),
        ("é", 0),
        ("AAAA\né", 5),
    ],
)
def test_broken_base64_names_the_byte(text: str, offset: int) -> None:
    with pytest.raises(BadRequest, match=re.escape(f"illegal base64 data at input byte {offset}") + "$"):
        decode_base64(text)


@given(st.binary(max_size=40), st.integers(1, 80))
def test_lines_of_any_width_are_read(data: bytes, width: int) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64("\r\n".join(text[at : at + width] for at in range(0, len(text), width))) == data
