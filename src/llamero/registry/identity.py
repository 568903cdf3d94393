"""The ed25519 key pair of the registry protocol, shared with stock Ollama: its files, and what it signs.

Source: store-registry §2.6 and §3.7, cli §3.1. An existing pair is never rewritten.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import RegistryError, StorageError
from ..store.files import open_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# `cryptography` is imported inside functions: it costs megabytes that a server which signs nothing never needs.

KEY_NAME = "id_ed25519"
SIGNIN_URL = "https://ollama.com/connect"
"""Given to people; nothing of ours opens it."""
MAX_KEY_BYTES = 16 * 2**10
"""An ed25519 key file has some 400 bytes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this machine is to a registry. Works with any ed25519 key that has no passphrase."""

    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, home: Path) -> Identity:
        """Read `<home>/id_ed25519`. Raises RegistryError, naming the file and nothing of what it holds."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_ssh_private_key

        try:
            with open_regular(home / KEY_NAME) as file:
                key = load_ssh_private_key(file.read(MAX_KEY_BYTES), None)
        except OSError as error:
            raise RegistryError(f"cannot read the key {KEY_NAME}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RegistryError(f"{KEY_NAME} is no OpenSSH private key without a passphrase") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise RegistryError(f"{KEY_NAME} is no ed25519 key")
        return cls(key)

    @property
    def public_key(self) -> str:
        """The second field of the `.pub` line: base64 of the key's SSH wire form."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        line = self._key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return line.split()[1].decode()

    def signin_url(self, machine: str) -> str:
        """Where a person allows this key to act for his account, under the machine's name (native-api §3.17)."""
        line = f"ssh-ed25519 {self.public_key}"  # stock Ollama sends the whole line, and ollama.com reads it as one
        key = base64.urlsafe_b64encode(line.encode()).decode().rstrip("=")
        return f"{SIGNIN_URL}?name={quote(machine, safe='')}&key={key}"

    def sign(self, payload: bytes) -> bytes:
        """The raw signature, 64 bytes."""
        return self._key.sign(payload)

    def authorization(self, payload: bytes) -> str:
        """`<public key>:<signature>`, both in base64: a whole Authorization header (store-registry §3.7 no. 5)."""
        return f"{self.public_key}:{base64.b64encode(self.sign(payload)).decode()}"


def ensure_key_pair(home: Path) -> str | None:
    """Make `id_ed25519` and its `.pub` unless the private key is there. Returns the new public key, or None.

    The private file is created with mode 0600 from the start, and only by us: two servers that start at once cannot
    overwrite each other's. Raises StorageError when the folder cannot be written.
    """
    path = home / KEY_NAME
    if path.exists():
        return None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o755)
        _write_new(path, private, 0o600)
        _write_new(path.with_name(f"{KEY_NAME}.pub"), public, 0o644, replace=True)
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
