"""TLS from a client's side: whom it trusts, who it says it is, and why no connection came about, in words."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from ..config.words import clean
from ..errors import ClientError

TRUSTED, CERTIFICATE, KEY = "SSL_CERT_FILE", "LLAMERO_CLIENT_CERT", "LLAMERO_CLIENT_KEY"

MAX_FILE_BYTES = 2**20
"""A chain and its key have some ten kilobytes."""

_NAME_MISMATCH, _IP_MISMATCH, _HAS_EXPIRED = 62, 64, 10
"""Of OpenSSL's X509_V_ERR numbers."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files, each a path or empty."""

    trusted: str = ""
    """Trusted as well as what the system trusts."""
    own: str = ""
    """Shown to a server that asks who we are."""
    key: str = ""
    """Of `own`; empty: it stands in the same file."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Certificates:
        return cls(*(os.path.expanduser(clean(env.get(name, ""))) for name in (TRUSTED, CERTIFICATE, KEY)))

    def context(self) -> ssl.SSLContext | None:
        """For a connection; None: the usual one will do. ClientError names the variable whose file cannot be used."""
        if not (self.trusted or self.own or self.key):
            return None
        context = ssl.create_default_context()
        if self.trusted:
            try:
                context.load_verify_locations(self.trusted)
            except OSError:  # ssl's own errors are among them
                raise ClientError(f"{TRUSTED}: no certificates can be read from {self.trusted}") from None
        if self.own or self.key:
            self._show_own(context)
        return context

    def _show_own(self, context: ssl.SSLContext) -> None:
        if not self.own:
            raise ClientError(f"{KEY} is set without {CERTIFICATE}: the certificate of that key is needed too")
        if b"CERTIFICATE-----" not in _content(CERTIFICATE, self.own):
            raise ClientError(f"{CERTIFICATE}: {self.own}: there is no certificate in PEM form in it")
        variable, file = (KEY, self.key) if self.key else (CERTIFICATE, self.own)
        if b"PRIVATE KEY-----" not in _content(variable, file):
            hint = "" if self.key else f"; set {KEY} to the file that has it"
            raise ClientError(f"{variable}: {file}: there is no private key in PEM form in it{hint}")

        def refuse_password() -> NoReturn:
            raise ClientError(f"{variable}: {file}: the key has a passphrase, which nobody is asked for")

        try:
            context.load_cert_chain(self.own, file, password=refuse_password)
        except ssl.SSLError as error:
            fits = "MISMATCH" not in (error.reason or "")
            why = "one of them is damaged" if fits else "the key is not that of the certificate"
            raise ClientError(f"{CERTIFICATE} and {KEY}: {self.own} and {file}: {why}") from None


def _content(variable: str, file: str) -> bytes:
    """Of a file that has to be there: OpenSSL would not say which of two is not."""
    try:
        with open(file, "rb") as opened:
            return opened.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ClientError(f"{variable}: {file}: {(error.strerror or 'it cannot be read').lower()}") from None


def tls_trouble(error: Exception, certificates: Certificates) -> tuple[str, str] | None:
    """In words: why no TLS connection came about, and what to do; None when something else is the matter."""
    if isinstance(error, ssl.SSLCertVerificationError):
        hint = f"if that server is yours, set {TRUSTED} to a file with its certificate, or that of its authority"
        if error.verify_code in (_NAME_MISMATCH, _IP_MISMATCH):
            hint = "write the name in OLLAMA_HOST that is in the server's certificate"
        elif error.verify_code == _HAS_EXPIRED:
            hint = "the server needs a new one"
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}", f"; {hint}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
            return "no TLS is spoken there", "; try http:// in OLLAMA_HOST"
        if is_about_own(reason):
            return _of_own(reason, certificates.own)
        return f"TLS failed: {reason.lower().replace('_', ' ') or 'no reason given'}", ""
    return None


def is_about_own(reason: str) -> bool:
    """Whether a reason of OpenSSL's is the server's word about the certificate that it was shown, or was not."""
    return "_ALERT_" in reason and ("CERTIFICATE" in reason or reason.endswith("UNKNOWN_CA"))


def _of_own(reason: str, own: str) -> tuple[str, str]:
    if not own:
        return "the server asks for a client certificate", f"; set {CERTIFICATE} and {KEY} to one and its key"
    alert = reason.partition("_ALERT_")[2]
    why = {
        "UNKNOWN_CA": "it is not of the authority that the server trusts",
        "CERTIFICATE_EXPIRED": "it has expired",
        "CERTIFICATE_REVOKED": "it has been revoked",
    }.get(alert, alert.lower().replace("_", " "))
    return f"the server does not accept the client certificate in {own}: {why}", f"; see {CERTIFICATE}"
