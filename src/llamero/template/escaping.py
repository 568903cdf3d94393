"""Go's escapers for text inside HTML, JavaScript and URLs. Source: modelfile-templates §2.3."""

from __future__ import annotations

import re
import urllib.parse

from .quoting import to_bytes

_HTML = str.maketrans({"\0": "\ufffd", '"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;"})
_SCRIPT = {"\\": "\\\\", "'": "\\'", '"': '\\"'}
_SCRIPT_SPECIAL = re.compile(r"[\\'\"<>&=\x00-\x1f]|[^\x00-\x7f]")


def html(text: str) -> str:
    return text.translate(_HTML)


def js(text: str) -> str:
    return _SCRIPT_SPECIAL.sub(_for_script, text)


def _for_script(found: re.Match[str]) -> str:
    character = found.group()
    if character in _SCRIPT:
        return _SCRIPT[character]
    if character > "\x7f" and character.isprintable():
        return character
    return f"\\u{ord(character):04X}"


def urlquery(text: str) -> str:
    return urllib.parse.quote_plus(to_bytes(text), safe="-_.~")
