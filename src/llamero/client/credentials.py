"""Secrets as they go out in headers: which of a setting's keys is sent, and names with passwords."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote

from ..config import HostUrl
from ..errors import ClientError


def authorization(host: HostUrl, api_key: str) -> dict[str, str]:
    """The headers that let a request in. ClientError for a key that no header can carry."""
    secret = bearer(api_key)
    if not (secret.isascii() and secret.isprintable()):  # http.client's own words would repeat it
        raise ClientError("OLLAMA_API_KEY holds characters that no request can carry")
    if host.user_info:
        # a name and a password are for a proxy in front of our server, which takes its key from here just as well
        return {"Authorization": basic(host.user_info)} | ({"x-api-key": secret} if secret else {})
    return {"Authorization": f"Bearer {secret}"} if secret else {}


def bearer(api_key: str) -> str:
    """The secret to send out of OLLAMA_API_KEY: of several entries the first admin secret (security §6.1)."""
    secrets = [_role_and_secret(entry.strip()) for entry in api_key.split(",") if entry.strip()]
    admins = [secret for role, secret in secrets if role == "admin"]
    return (admins or [secret for _, secret in secrets] or [""])[0]


def _role_and_secret(entry: str) -> tuple[str, str]:
    """Of `NAME=admin:SECRET` or `infer:SECRET`; any other entry is as a whole the secret of an admin."""
    match = re.fullmatch(r"(?:[A-Za-z0-9_-]{1,32}=)?(admin|infer):(.*)", entry)
    return (match[1], match[2]) if match else ("admin", entry)


def basic(user_info: str) -> str:
    return "Basic " + base64.b64encode(unquote(user_info).encode()).decode()
