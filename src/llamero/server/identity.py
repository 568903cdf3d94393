"""The ed25519 key pair of the registry protocol, shared with stock Ollama. It signs nothing here.

Source: store-registry §2.6, cli §3.1. An existing pair is never rewritten.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import StorageError


def ensure_key_pair(home: Path) -> str | None:
    """Make `id_ed25519` and its `.pub` unless the private key is there. Returns the new public key, or None.

    The private file is created with mode 0600 from the start, and only by us: two servers that start at once cannot
    overwrite each other's. Raises StorageError when the folder cannot be written.
    """
    path = home / "id_ed25519"
    if path.exists():
        return None
    # imported here because it costs megabytes that a server with a key pair never needs
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o755)
        _write_new(path, private, 0o600)
        _write_new(path.with_name("id_ed25519.pub"), public, 0o644, replace=True)
    except FileExistsError:
        return None
    except OSError as error:
        raise StorageError(f"could not write the key pair in {home}: {error.strerror}") from error
    return public.decode()


def _write_new(path: Path, data: bytes, mode: int, *, replace: bool = False) -> None:
    if replace:
        path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
