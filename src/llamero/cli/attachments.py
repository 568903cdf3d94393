"""Pictures and sounds that a prompt names by path, for models that take them (cli §3.4.7)."""

from __future__ import annotations

import json
import os
import re

from ..errors import BadRequest
from .sniff import SNIFFED_BYTES, content_type
from .terminal import Terminal

MAX_FILE_BYTES = 100 * 2**20

_PATH = re.compile(r"(?:[a-z]:)?(?:\./|/|\\)[\S ]+?\.(?:jpe?g|png|webp|wav)\b", re.IGNORECASE)
_ESCAPE = re.compile(r"\\([ ()\[\]{}$&;'\\*?~])")


def paths_in(text: str) -> list[str]:
    """What looks like the path of a picture or a sound, as it was typed."""
    return _PATH.findall(text)


def take_attachments(prompt: str, terminal: Terminal) -> tuple[str, list[bytes]]:
    """The prompt without the paths of existing files, and what is in them.

    A path to nothing stays in the prompt as text. Raises BadRequest for a file that no model could read.
    """
    files = []
    for path in paths_in(prompt):
        name = _ESCAPE.sub(r"\1", path)
        if not os.path.isfile(name):
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


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"open {name}: {error.strerror}") from error
    kind = content_type(data[:SNIFFED_BYTES])
    if kind not in ("image/jpeg", "image/png", "image/webp", "audio/wave"):
        raise BadRequest(f"invalid file type: {kind}")
    if len(data) > MAX_FILE_BYTES:
        raise BadRequest("file size exceeds maximum limit (100MB)")
    return data
