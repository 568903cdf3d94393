"""Public keys of those who may read: the file `share_keys`, and signatures made with the keys of stock clients.

Source: store-registry §3.7, GAP-12; the file's form is that of OpenSSH's authorized_keys, ssh-ed25519 lines only.
"""

from __future__ import annotations

import base64
import binascii
import errno
import logging
import os
import stat
from pathlib import Path

from ...store.files import open_regular

log = logging.getLogger(__name__)

KIND = "ssh-ed25519"
MAX_FILE_BYTES = 1 << 20
"""More than ten thousand keys."""

_WIRE_START = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


def read_key(text: str) -> bytes | None:
    """The 32 bytes of an ed25519 key in base64 of its SSH wire form; None when it is anything else."""
    wire = _decode(text)
    if wire is None or not wire.startswith(_WIRE_START) or len(wire) != len(_WIRE_START) + _KEY_BYTES:
        return None
    return wire[len(_WIRE_START) :]


def key_line(key: bytes) -> str:
    """The key as a line of `share_keys`."""
    return f"{KIND} {base64.b64encode(_WIRE_START + key).decode()}"


def is_signed(payload: str, key: bytes, signature: str) -> bool:
    """Whether a signature in base64 over some text was made with the private half of `key`."""
    raw = _decode(signature)
    if raw is None or len(raw) != _SIGNATURE_BYTES:
        return False
    # imported here because it costs megabytes that a server without such clients never needs
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(raw, payload.encode())
    except InvalidSignature:
        return False
    return True


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


class ShareKeys:
    """The listed keys, read again whenever the file changes. What is wrong with the file is logged once per change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._listed: frozenset[bytes] = frozenset()

    def listed(self) -> frozenset[bytes] | None:
        """None when there is no such file. A file that cannot be trusted lists nobody."""
        stamp: tuple[int, ...]
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            stamp = (error.errno or 0,)
        if stamp != self._stamp:
            self._listed, self._stamp = self._read(), stamp
        return self._listed

    def _read(self) -> frozenset[bytes]:
        try:
            with open_regular(self._path) as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            log.error("nobody may read the share: %s: %s", self._path, error.strerror)
            return frozenset()
        if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
            log.error("nobody may read the share: %s can be written by others, chmod 600 it", self._path)
            return frozenset()
        if len(data) > MAX_FILE_BYTES:
            log.error("nobody may read the share: %s is larger than %d bytes", self._path, MAX_FILE_BYTES)
            return frozenset()
        return frozenset(self._keys(data.decode("utf-8", "replace")))

    def _keys(self, text: str) -> list[bytes]:
        keys = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            key = read_key(words[1]) if words[0] == KIND and len(words) > 1 else None
            if key is None:
                # options before a key would limit it in ways that nothing here honours, so they are no key either
                log.error("%s, line %d: not a line of the form `%s <key> [comment]`", self._path, number, KIND)
            else:
                keys.append(key)
        return keys
