"""What blocks say and show: text, pictures, documents and search results, as one text with pictures. Pure.

Source: compat-api §9.2, and §5.2 for the URLs of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import InvalidField
from .. import images
from ..fields import Fields


def joined(texts: Sequence[str]) -> str:
    """One text of several: each begins a line."""
    pieces: list[str] = []
    for text in filter(None, texts):
        if pieces and not (pieces[-1].endswith("\n") or text.startswith("\n")):
            pieces.append("\n")
        pieces.append(text)
    return "".join(pieces)


class Content:
    """Gathers the blocks of one message. `picture` is what an error calls a block of type `image`."""

    def __init__(self, fetched: Mapping[str, bytes], picture: str = "image") -> None:
        self._fetched = fetched
        self._picture = picture
        self._texts: list[str] = []
        self.images: list[bytes] = []

    @property
    def text(self) -> str:
        return joined(self._texts)

    def take(self, block: Fields) -> bool:
        """Whether the block is content. Raises InvalidField for content that we cannot read."""
        match block.text("type"):
            case "document":
                self._take_document(block)
            case "search_result":
                self._say(block, "title", "source")
                self._take_parts(block, ("text",))
            case _:
                return self._take_plain(block)
        return True

    def _take_plain(self, block: Fields) -> bool:
        match block.text("type"):
            case "text":
                text = block.text("text")
                if text is None:
                    raise block.invalid("text", f"'{block.at('text')}' is required")
                self._texts.append(text)
            case "image":
                self.images.append(self._read_picture(block))
            case _:
                return False
        return True

    def _take_document(self, block: Fields) -> None:
        source = block.object("source")
        kind = source.text("type") if source else None
        self._say(block, "title", "context")
        if source and kind == "text":
            self._say(source, "data")
        elif source and kind == "content":
            if isinstance(source.raw("content"), str):
                self._say(source, "content")
            else:
                self._take_parts(source, ("text", "image"))
        else:
            raise block.invalid(
                "source", f"{block.path}: document blocks with a source of type {kind!r} are not supported, send text"
            )

    def _take_parts(self, owner: Fields, kinds: Sequence[str]) -> None:
        for part in owner.objects("content"):
            if part.text("type") not in kinds:
                raise part.invalid("type", f"'{part.at('type')}' must be {' or '.join(kinds)}")
            self._take_plain(part)

    def _say(self, block: Fields, *names: str) -> None:
        self._texts += [block.text(name) or "" for name in names]

    def _read_picture(self, block: Fields) -> bytes:
        invalid = f"invalid {self._picture} source"
        if not isinstance(block.raw("source"), dict):
            raise block.invalid("source", invalid)
        source = Fields(block.raw("source"), block.at("source"))
        kind = source.text("type") or ""
        if kind == "base64":
            data = images.decode_base64(source.text("data") or "")
            if not data:
                raise source.invalid("data", "invalid base64 image data: it is empty or not in the standard alphabet")
            return data
        url = (source.text("url") or "") if kind == "url" else ""
        if url in self._fetched or url[:5].lower() == "data:":
            return images.read(url, source.at("url"), self._fetched)
        if self._picture != "image":
            raise source.invalid("type", invalid)
        raise InvalidField(f"invalid image source type: {kind}. Only base64 images are supported.", source.at("type"))
