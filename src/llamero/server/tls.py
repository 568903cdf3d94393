"""The server's certificate: what it must look like, and how it is replaced while connections go on.

Source: security §6.6. It knows no sockets: the event loop asks `Tls.context` for each connection's handshake.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..config import Settings
from ..errors import LlameroError

log = logging.getLogger(__name__)

HANDSHAKE_S = 15
"""As long as the head of a request may take (security §5). Until then a connection is nobody's."""
GOODBYE_S = 2.0
"""For a peer to confirm the end of a connection: most never do."""

EXPIRES_SOON = timedelta(days=14)
"""Renewal programs try from 30 days before the end on; whoever comes closer has one that fails."""

MAX_CERTIFICATE_BYTES = 2**20
"""A chain has some ten kilobytes."""


class BadCertificate(LlameroError):
    """Certificate, key and authority cannot be used."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where the three are; `client_ca` when clients must have a certificate as well."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Files | None:
        """Those of the settings, None without TLS. BadCertificate when only a part of them is set."""
        match settings.tls_cert, settings.tls_key:
            case Path() as certificate, Path() as key:
                return cls(certificate, key, settings.tls_client_ca)
            case None, None if settings.tls_client_ca is None:
                return None
        raise BadCertificate("TLS needs both LLAMERO_TLS_CERT and LLAMERO_TLS_KEY, and only a part is set")


class Tls:
    """TLS for a server. Raises BadCertificate, which names the variable and what to do."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._front = _Front(ssl.PROTOCOL_TLS_SERVER)
        self._front.current = _load(files)
        self._describe("TLS certificate")

    @property
    def context(self) -> ssl.SSLContext:
        """For the event loop, once and for all: it leads to the certificate of the day."""
        return self._front

    def reload(self) -> None:
        """Read the files again, for new connections; running ones stay as they are. When the files are bad, the old
        certificate stays, and BadCertificate is raised."""
        self._front.current = _load(self._files)
        self._describe("TLS certificate read again")

    def _describe(self, event: str) -> None:
        from cryptography import x509  # it costs megabytes that a server without TLS never needs

        with self._files.certificate.open("rb") as file:
            try:
                certificate = x509.load_pem_x509_certificate(file.read(MAX_CERTIFICATE_BYTES))
            except ValueError:  # OpenSSL has taken it, so it serves; only its end cannot be told
                return
        end = certificate.not_valid_after_utc
        fields = {"subject": certificate.subject.rfc4514_string(), "until": end.isoformat()}
        log.info(event, extra=fields)
        if end - datetime.now(UTC) < EXPIRES_SOON:
            has_ended = end < datetime.now(UTC)
            log.warning("the TLS certificate %s; renew it, then send SIGHUP", "has ended" if has_ended else "ends soon")


def _load(files: Files) -> ssl.SSLContext:
    """A context for handshakes, from the files as they are now."""
    _check_mode(files.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.sslobject_class = _Handshake
    with _translated("LLAMERO_TLS_CERT and LLAMERO_TLS_KEY", files.certificate, files.key):
        context.load_cert_chain(files.certificate, files.key, password=_refuse_password)
    if files.client_ca is not None:
        with _translated("LLAMERO_TLS_CLIENT_CA", files.client_ca):
            context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_mode(key: Path) -> None:
    """Its group may read a key, such as that of a program which renews certificates; others may not."""
    with _translated("LLAMERO_TLS_KEY", key):
        mode = os.stat(key).st_mode
        key.open("rb").close()
    if sys.platform != "win32" and mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_IROTH):
        raise BadCertificate(
            f"LLAMERO_TLS_KEY: {key} has mode {stat.S_IMODE(mode):04o}, so others can read or change it: chmod 600 it"
        )


def _refuse_password() -> str:
    raise BadCertificate("LLAMERO_TLS_KEY: the key has a passphrase, which a server cannot type: store it without one")


@contextmanager
def _translated(variable: str, *files: Path) -> Iterator[None]:
    places = " and ".join(map(str, files))
    try:
        yield
    except ssl.SSLError as error:
        why = {
            "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
            "NO_CERTIFICATE_OR_CRL_FOUND": "there is no certificate in it",
        }.get(error.reason or "", "not in PEM form, or damaged")
        raise BadCertificate(f"{variable}: {places}: {why}") from error
    except OSError as error:
        raise BadCertificate(f"{variable}: {places}: {error.strerror}") from error


# --- handshakes ----------------------------------------------------------------------------------------------------

_PLAIN_HTTP = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER"))
"""How OpenSSL calls what begins like HTTP: it knows the commonest methods; others are no TLS record at all."""

_WORDS = b"this address speaks TLS: write https:// in place of http://"
_BODY = b'{"error":"%s"}' % _WORDS
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nLlamero-Warning: %s\r\n"  # it is for HEAD
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (_WORDS, len(_BODY), _BODY)


class _Front(ssl.SSLContext):
    """What the event loop holds on to. Each handshake gets the context that is current when it begins."""

    current: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        made = self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        assert isinstance(made, _Handshake)
        made.outgoing = outgoing
        return made


class _Handshake(ssl.SSLObject):
    """One connection's TLS. When it fails, the client is told why, which event loops leave out: by TLS's own alert, or
    in plain HTTP where that is what it speaks."""

    outgoing: ssl.MemoryBIO
    _has_failed = False

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if self._has_failed:
                raise
            self._has_failed = True
            if error.reason in _PLAIN_HTTP:
                self.outgoing.read()  # an alert, which nobody there understands
                self.outgoing.write(_PLAIN_ANSWER)
            if not self.outgoing.pending:
                raise
            raise ssl.SSLWantReadError from error  # so the loop sends that, and ends when the client does, or in time
