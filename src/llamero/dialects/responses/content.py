"""The content of a message or of a tool's output: a text, or parts. Source: compat-api §8.2."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import InvalidField
from .. import images
from ..fields import Fields
from ..openai.parts import Content, read_file

NO_FILES = "file inputs are not currently supported"


def read_content(item: Fields, name: str, fetched: Mapping[str, bytes], warnings: list[str]) -> Content:
    """A field that is a text or an array of parts, empty when it is absent; what is left out is added to `warnings`."""
    value = item.raw(name)
    if value is None or isinstance(value, str):
        return Content(value or "")
    if not isinstance(value, list):
        raise item.invalid(name, f"'{item.at(name)}' must be a string or an array of content parts")
    texts: list[str] = []
    media: list[bytes] = []
    for part in item.objects(name):
        match part.text("type"):
            case "input_text" | "output_text":
                texts.append(_required(part, "text"))
            case "refusal":
                texts.append(_required(part, "refusal"))
            case "input_image":
                media += _picture(part, fetched, warnings)
            case "input_file":
                texts.append(_file(part))
            case kind:
                raise part.invalid("type", f"unknown content type: {(kind or '')[:100]}")
    return Content("".join(texts), tuple(media))


def _required(part: Fields, name: str) -> str:
    text = part.text(name)
    if text is None:
        raise part.invalid(name, f"'{part.at(name)}' is required")
    return text


def _picture(part: Fields, fetched: Mapping[str, bytes], warnings: list[str]) -> list[bytes]:
    """None for a picture that lies with OpenAI: nobody here has uploaded files."""
    value = part.raw("image_url")
    url = value.get("url") if isinstance(value, dict) else value
    if url is None and part.raw("file_id") is not None:
        warnings.append(f"{part.path}: pictures by file_id are not supported; it was left out")
        return []
    if not isinstance(url, str):
        raise part.invalid("image_url", images.INVALID)
    return [images.read(url, part.at("image_url"), fetched)]


def _file(part: Fields) -> str:
    try:
        return read_file(part)
    except InvalidField as error:
        raise InvalidField(f"{NO_FILES}: {error}", error.param) from error
