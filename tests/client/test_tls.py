"""The files of certificates that a client is given, and what is wrong with them. Servers: tests/server/test_tls.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llamero.client import Certificates
from llamero.errors import ClientError
from tests.certificates import Authority

PASSPHRASE = "open sesame"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    authority = Authority(folder, "authority")
    mine = authority.issue("mine")
    authority.issue("other")
    authority.issue("locked", password=PASSPHRASE.encode())
    (folder / "both").write_bytes(mine.certificate.read_bytes() + mine.key.read_bytes())
    (folder / "text").write_text("x")
    lines = mine.key.read_text().splitlines()
    (folder / "damaged").write_text("\n".join([lines[0], *lines[2:]]))
    return folder


def from_env(folder: Path, **files: str) -> Certificates:
    return Certificates.from_env({name: str(folder / file) for name, file in files.items()})


@pytest.mark.parametrize(
    "files",
    [
        {"LLAMERO_CLIENT_CERT": "mine.crt", "LLAMERO_CLIENT_KEY": "mine.key"},
        {"LLAMERO_CLIENT_CERT": "both"},
        {"LLAMERO_CLIENT_CERT": "both", "LLAMERO_CLIENT_KEY": "mine.key"},
        {"SSL_CERT_FILE": "authority.pem"},
    ],
)
def test_files_that_can_be_used(folder: Path, files: dict[str, str]) -> None:
    assert from_env(folder, **files).context() is not None


def test_without_files_the_usual_context_will_do() -> None:
    assert Certificates.from_env({"SSL_CERT_FILE": "", "LLAMERO_CLIENT_CERT": ' "" '}).context() is None


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("none.crt", "mine.key", "LLAMERO_CLIENT_CERT: @/none.crt: no such file or directory"),
        ("mine.crt", "none.key", "LLAMERO_CLIENT_KEY: @/none.key: no such file or directory"),
        (".", "mine.key", "LLAMERO_CLIENT_CERT: @: is a directory"),
        ("mine.crt", ".", "LLAMERO_CLIENT_KEY: @: is a directory"),
        ("", "mine.key", "LLAMERO_CLIENT_KEY is set without LLAMERO_CLIENT_CERT"),
        (
            "mine.crt",
            "",
            "CERT: @/mine.crt: there is no private key in PEM form in it; set LLAMERO_CLIENT_KEY to",
        ),
        ("text", "mine.key", "LLAMERO_CLIENT_CERT: @/text: there is no certificate in PEM form in it"),
        ("mine.key", "mine.crt", "LLAMERO_CLIENT_CERT: @/mine.key: there is no certificate in PEM form in it"),
        ("mine.crt", "text", "LLAMERO_CLIENT_KEY: @/text: there is no private key in PEM form in it"),
        ("mine.crt", "other.key", "@/mine.crt and @/other.key: the key is not that of the certificate"),
        ("mine.crt", "damaged", "@/mine.crt and @/damaged: one of them is damaged"),
        ("locked.crt", "locked.key", "LLAMERO_CLIENT_KEY: @/locked.key: the key has a passphrase"),
    ],
)
def test_files_that_cannot_be_used(folder: Path, certificate: str, key: str, said: str) -> None:
    named = {"LLAMERO_CLIENT_CERT": certificate, "LLAMERO_CLIENT_KEY": key}
    certificates = from_env(folder, **{name: file for name, file in named.items() if file})
    with pytest.raises(ClientError) as error:
        certificates.context()
    assert said.replace("@", str(folder)) in str(error.value)
    assert PASSPHRASE not in str(error.value)


@pytest.mark.skipif(IS_ROOT, reason="root reads everything")
def test_a_key_that_somebody_else_owns(folder: Path) -> None:
    (folder / "theirs").write_bytes((folder / "mine.key").read_bytes())
    (folder / "theirs").chmod(0)
    with pytest.raises(ClientError, match=r"LLAMERO_CLIENT_KEY: .*/theirs: permission denied"):
        from_env(folder, LLAMERO_CLIENT_CERT="mine.crt", LLAMERO_CLIENT_KEY="theirs").context()


def test_certificates_to_trust_that_are_none(folder: Path) -> None:
    with pytest.raises(ClientError, match=r"SSL_CERT_FILE: no certificates can be read from .*/text"):
        from_env(folder, SSL_CERT_FILE="text").context()
