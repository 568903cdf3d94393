"""Pictures in requests of `/v1`: data URIs are read here, other URLs are named for somebody who may fetch them. Pure.

What the bytes really hold is looked at later, by `chat.media`, together with those of native requests.
Source: compat-api §5.2, security §8 and §11.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import InvalidField

NO_REMOTE = "image URLs are not currently supported, please use base64 encoded data instead"
INVALID = "invalid image input"

_TYPES = frozenset({"", "image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif", "image/bmp"})
"""In lower case; empty is a URI that does not say."""

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
_REMOTE = re.compile(r"https?://", re.IGNORECASE)
_LISTS = ("messages", "input", "content", "output")
"""Where lists of messages, items and parts stand. Tools and arguments of calls may hold anything, and no picture."""

_SPACES = re.compile(r"\s+")


def read(url: str, param: str, fetched: Mapping[str, bytes] = {}) -> bytes:
    """The bytes of a picture. `fetched` has those of http(s) URLs that were fetched before.

    Raises InvalidField for `param`, the path of the part or field.
    """
    if _REMOTE.match(url):
        if url not in fetched:
            raise InvalidField(NO_REMOTE, param)
        data = fetched[url]
    else:
        data = _from_data_uri(url, param)
    if not _is_picture(data):
        raise InvalidField(INVALID, param)
    return data


def _from_data_uri(url: str, param: str) -> bytes:
    scheme, _, rest = url.partition(":")
    head, comma, text = rest.partition(",")
    kind, *parameters = (part.strip().lower() for part in head.split(";"))
    if scheme.lower() != "data" or not comma or kind not in _TYPES or parameters[-1:] != ["base64"]:
        raise InvalidField(INVALID, param)
    data = decode_base64(text)
    if data is None:
        raise InvalidField(INVALID, param)
    return data


def decode_base64(text: str) -> bytes | None:
    """Standard alphabet; white space anywhere and missing padding are forgiven. None for anything else."""
    plain = _SPACES.sub("", text).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_picture(data: bytes) -> bool:
    return data.startswith(_BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def remote_urls(body: Any) -> dict[str, str]:
    """Every http(s) URL of a picture in a decoded request body of any dialect, in their order, and where it stands."""
    found: dict[str, str] = {}
    for url, path in _remote(body):
        found.setdefault(url, path)
    return found


def _remote(body: Any) -> Iterator[tuple[str, str]]:
    waiting = [(body, "")]
    while waiting:
        node, path = waiting.pop()
        if not isinstance(node, dict):
            continue
        url, name = _url(node)
        if isinstance(url, str) and _REMOTE.match(url):
            yield url, f"{path}.{name}"
        prefix = f"{path}." if path else ""
        waiting += reversed(
            [
                (item, f"{prefix}{key}[{index}]")
                for key in _LISTS
                if isinstance(node.get(key), list)
                for index, item in enumerate(node[key])
            ]
        )


def _url(part: dict[str, Any]) -> tuple[Any, str]:
    """The URL of a part and the name of its field."""
    match part:
        case {"type": "image_url" | "input_image", "image_url": {"url": url} | str(url)}:
            return url, "image_url"
        case {"type": "image", "source": {"type": "url", "url": url}}:
            return url, "source.url"
    return None, ""
