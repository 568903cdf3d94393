"""The key pair of the registry protocol."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_public_key,
)

from llamero.errors import RegistryError
from llamero.registry import auth
from llamero.registry.identity import Identity, ensure_key_pair

TOKEN_URL = (
    "https://registry.example.com/v2/token?nonce=AAAAAAAAAAAAAAAAAAAAAA"
    "&scope=repository%3Alibrary%2Fm%3Apull&service=registry&ts=1700000000"
)
SIGNED = (
    "AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4:"
    "5TZlCSsaKeJH0zfD4XP83n2JUNIPu+xTGNWZxWxhS2rVFoyYbE9A+KNqqcu1fRHg2LB1oFEftK4b+afWHpTiCg=="
)


def openssh(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def test_the_signature_of_the_vector(tmp_path: Path) -> None:
    """Partly S-46: Appendix A."""
    (tmp_path / "id_ed25519").write_bytes(openssh(Ed25519PrivateKey.from_private_bytes(bytes(range(32)))))
    assert Identity.load(tmp_path).authorization(auth.payload(TOKEN_URL)) == SIGNED


def test_the_link_that_registers_a_key(tmp_path: Path) -> None:
    """The key of Appendix A: its whole public line in base64url, without padding, and any host name that there is."""
    (tmp_path / "id_ed25519").write_bytes(openssh(Ed25519PrivateKey.from_private_bytes(bytes(range(32)))))
    assert Identity.load(tmp_path).signin_url("Ann's box/1&2") == (
        "https://ollama.com/connect?name=Ann%27s%20box%2F1%262&key=c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSUFP"
        "aEI3L3p6aEMrSFhEZEdPZEx3SmxuNU5Zd202VU5YeDNjaG1RU1ZURzQ"
    )


def test_s25_a_new_pair_is_in_openssh_form_and_never_rewritten(tmp_path: Path) -> None:
    home = tmp_path / "new" / ".ollama"
    line = ensure_key_pair(home)
    private, public = home / "id_ed25519", home / "id_ed25519.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert private.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert public.read_text() == line
    written = private.read_bytes()
    assert ensure_key_pair(home) is None
    assert private.read_bytes() == written

    identity = Identity.load(home)
    assert line == f"ssh-ed25519 {identity.public_key}\n"
    load_ssh_public_key(line.encode()).verify(identity.sign(b"payload"), b"payload")  # type: ignore[union-attr,call-arg]


def test_keys_that_cannot_sign_say_so_and_show_nothing(tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    with pytest.raises(RegistryError, match="cannot read the key id_ed25519: No such file"):
        Identity.load(tmp_path)
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    for content, problem in (
        (b"", "no OpenSSH private key"),
        (b"sesame, open", "no OpenSSH private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nc2VzYW1l\n-----END OPENSSH PRIVATE KEY-----\n", "no OpenSSH private"),
        (openssh(Ed25519PrivateKey.generate())[:200], "no OpenSSH private key"),
        (other, "no ed25519 key"),
    ):
        key.write_bytes(content)
        with pytest.raises(RegistryError, match=problem) as refused:
            Identity.load(tmp_path)
        assert "sesame" not in str(refused.value)
