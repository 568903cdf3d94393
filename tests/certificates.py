"""Certificates for tests: authorities, and what they sign, written as the PEM files that people have."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path

    @property
    def der(self) -> bytes:
        """As a TLS client gets it."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_bytes(Encoding.DER)

    def copy_to(self, other: Pair) -> None:
        """Take another pair's place, as a renewal does."""
        for source, target in ((self.certificate, other.certificate), (self.key, other.key)):
            target.write_bytes(source.read_bytes())


class Authority:
    """One that signs; its own certificate is `file`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = _common_name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        certificate = (
            _builder(self._name, self._name, self._key, days=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *names: str, days: float = 30, password: bytes = b"") -> Pair:
        """A certificate for `names`, hosts and addresses; `name` is that of its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_common_name(name), self._name, key, days)
            .add_extension(_alternatives(names or NAMES), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        _write(pair, certificate, key, password)
        return pair


def self_signed(pair: Pair, *names: str) -> Pair:
    """Write a certificate for `names` that nobody has signed but itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name("self")
    certificate = (
        _builder(name, name, key, days=1).add_extension(_alternatives(names), critical=False).sign(key, hashes.SHA256())
    )
    _write(pair, certificate, key)
    return pair


def _write(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> None:
    pair.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    how: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    pair.key.touch(0o600)
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))


def _alternatives(names: Iterable[str]) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([_general_name(each) for each in names])


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=60),
        not_valid_after=now + timedelta(days=days),
    )
