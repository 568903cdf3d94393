"""The type of a file by its first bytes, as far as the command line must tell one from another. Pure."""

from __future__ import annotations

SNIFFED_BYTES = 512

TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"
ZIP = "application/zip"

_TEXT_CONTROLS = b"\t\n\x0c\r\x1b"


def content_type(head: bytes) -> str:
    """The type of a file that begins with `head`; TEXT or BINARY where nothing more is known."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"RIFF") and head[8:14] == b"WEBPVP":
        return "image/webp"
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "audio/wave"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "image/bmp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1"):
        return "image/heic"
    if head.startswith(b"PK\x03\x04"):
        return ZIP
    return TEXT if all(byte >= 0x20 or byte in _TEXT_CONTROLS for byte in head) else BINARY
