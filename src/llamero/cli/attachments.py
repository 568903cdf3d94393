"""Pictures and sounds that a prompt names by path, for models that take them (cli §3.4.7)."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

from ..errors import BadRequest
from .sniff import SNIFFED_BYTES, content_type
from .terminal import Terminal

MAX_FILE_BYTES = 100 * 2**20

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".wav", ".gif", ".bmp", ".heic")

_ENDING = rf"\.(?:{'|'.join(ending.removeprefix('.') for ending in ENDINGS)})\b"
_PATH = re.compile(
    rf"(?<!\w)@(?:\\.|[^\s\\])+?{_ENDING}|(?:file://|[a-z]:)?(?:~/|\.{{0,2}}/|\\)[\S ]+?{_ENDING}", re.IGNORECASE
)
_ESCAPE = re.compile(r"\\([ ()\[\]{}$&;'\\*?~])")
_AS_THEY_ARE = ("image/jpeg", "image/png", "image/webp", "audio/wave")
_CONVERTED = ("image/gif", "image/bmp", "image/heic")


def paths_in(text: str) -> list[str]:
    """What looks like the path of a picture or a sound, as it was typed."""
    return _PATH.findall(text)


def take_attachments(prompt: str, terminal: Terminal) -> tuple[str, list[bytes]]:
    """The prompt without the paths of existing files, and what is in them.

    A path to nothing stays in the prompt as text. Raises BadRequest for a file that no model could read.
    """
    files = []
    for path in paths_in(prompt):
        name = _file_name(path)
        if not os.path.isfile(name):
            if "://" not in path:  # a web address has an end that looks like a path
                terminal.err(f"Warning: there is no file '{name}', so it is sent as text\n")
            continue
        try:
            files.append(_read(name))
        except BadRequest as error:
            terminal.err(f"Couldn't process file: {json.dumps(str(error), ensure_ascii=False)}\n")
            raise
        terminal.err(f"Added {'audio' if name.lower().endswith('.wav') else 'image'} '{name}'\n")
        for spelling in (f"'{name}'", f"'{path}'", path):
            prompt = prompt.replace(spelling, "")
    return (prompt.strip() if files else prompt), files


def read_images(names: Iterable[str]) -> list[bytes]:
    """The files that a flag names. Raises BadRequest for one that is not there, or that no model could read."""
    return [_read(os.path.expanduser(name)) for name in names]


def _file_name(path: str) -> str:
    if path.lower().startswith("file://"):
        return unquote(path[len("file://") :])
    return os.path.expanduser(_ESCAPE.sub(r"\1", path.removeprefix("@")))


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"open {name}: {error.strerror}") from error
    kind = content_type(data[:SNIFFED_BYTES])
    if kind not in (*_AS_THEY_ARE, *_CONVERTED):
        raise BadRequest(f"invalid file type: {kind}")
    if len(data) > MAX_FILE_BYTES:
        raise BadRequest("file size exceeds maximum limit (100MB)")
    return data if kind in _AS_THEY_ARE else _as_png(name, data)


def _as_png(name: str, data: bytes) -> bytes:
    """A picture that engines do not read, or the first one of a film, in a form that they do."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            png = io.BytesIO()
            picture.convert("RGBA").save(png, "PNG")
            return png.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadRequest(f"{name} cannot be read; save it as PNG or JPEG") from error
