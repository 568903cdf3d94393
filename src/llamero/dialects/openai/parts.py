"""The parts of a message's content: texts, pictures, sounds, text files. Source: compat-api §5.2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import InvalidField
from .. import images
from ..fields import Fields

INVALID = "invalid message format"


@dataclass(frozen=True, slots=True)
class Content:
    text: str = ""
    media: tuple[bytes, ...] = ()
    """Pictures and sounds, in their order."""


def read_parts(parts: list[Fields], fetched: Mapping[str, bytes]) -> Content:
    """The parts as one content: texts on lines of their own, everything else beside them."""
    texts: list[str] = []
    media: list[bytes] = []
    for part in parts:
        match part.text("type"):
            case "text":
                texts.append(_required(part, "text"))
            case "refusal":
                texts.append(_required(part, "refusal"))
            case "image_url":
                media.append(images.read(_url(part), part.at("image_url"), fetched))
            case "input_audio":
                media.append(_sound(part))
            case "file":
                texts.append(read_file(_file(part)))
            case _:
                raise part.invalid("type", INVALID)
    return Content("\n".join(texts), tuple(media))


def read_file(file: Fields) -> str:
    """The text of an attached file, whose `file_data` is a data URI. Raises InvalidField for all that is no text."""
    data = file.text("file_data")
    if data is None:
        raise InvalidField("files are only supported as file_data, not by id or URL", file.path)
    scheme, _, rest = data.partition(":")
    head, comma, encoded = rest.partition(",")
    kind, *parameters = (word.strip().lower() for word in head.split(";"))
    if scheme.lower() != "data" or not comma or "base64" not in parameters:
        raise file.invalid("file_data", "file_data must be a base64 data URI")
    if not kind.startswith("text/") and kind != "application/json":
        raise file.invalid("file_data", f"files of type {kind[:100]!r} are not supported, only texts")
    content = images.decode_base64(encoded)
    if content is None:
        raise file.invalid("file_data", "file_data is not valid base64")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise file.invalid("file_data", "file_data is not UTF-8 text") from None


def _required(part: Fields, name: str) -> str:
    value = part.raw(name)
    if not isinstance(value, str):
        raise part.invalid(name, INVALID)
    return value


def _url(part: Fields) -> str:
    """`image_url` is an object with a `url`, or the URL itself."""
    value = part.raw("image_url")
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str):
        raise part.invalid("image_url", INVALID)
    return url


def _file(part: Fields) -> Fields:
    file = part.object("file")
    if file is None:
        raise part.invalid("file", INVALID)
    return file


def _sound(part: Fields) -> bytes:
    sound = part.raw("input_audio")
    if not isinstance(sound, dict):
        raise part.invalid("input_audio", "invalid input_audio format")
    data = sound.get("data")
    if not isinstance(data, str) or not data:
        raise part.invalid("input_audio", "invalid input_audio format: missing data")
    decoded = images.decode_base64(data)
    if decoded is None:
        raise part.invalid("input_audio", "invalid input_audio base64 data: illegal characters or length")
    return decoded
