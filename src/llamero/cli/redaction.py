"""What must not stand in a log, taken out of it: secrets of the environment, logins in URLs, credentials of requests.

The last line of defence: whoever writes a log line keeps secrets out of it in the first place. Source: security §9.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ..config import is_secret

REDACTED = "[redacted]"

MIN_SECRET_CHARS = 8
"""A shorter value is more likely to stand in a line by chance."""

_PLACES = ("FILE", "FILES", "PATH", "DIR", "SOCK", "XAUTHORITY")
"""How variables end that say where a secret lies, not what it is."""

_CREDENTIALS = ("_HEADERS", "_COOKIE")
"""How others end that hold some without saying so: OpenTelemetry's OTEL_EXPORTER_OTLP_HEADERS."""

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{1,15}://[^\s\"'<>]+")
_LOGIN_IN_URL = re.compile(r"(?<=://)[^/?#]*@")
_QUERY_VALUE = re.compile(r"(?<==)[^&#]+")
_LOGIN = re.compile(r"(?<![\w/.:-])[^\s/:@\"'=]{1,64}:[^\s/:@\"']{1,256}@(?!sha256[:-])(?=[\w[])")
"""`user:password@host` without a scheme; a name with a tag may have a digest behind its @."""
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|x-api-key|(?:set-)?cookie)(\\?[\"']?\s*[:=]\s*\\?[\"']?)[^\"'\r\n]+", re.IGNORECASE
)
_SCHEME = re.compile(r"\b([Bb]earer|[Bb]asic)\s+(?=\S*[0-9A-Z=+/_-])[\w.~+/=-]{8,}")
_VARIABLE = re.compile(r"\b([A-Z][A-Z0-9_]*)=([^\s,;\"']+)")


class Redaction:
    """`secrets` are values that are known to be some."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        if not any(mark in text for mark in ":= "):
            return text  # a word is no login and no header
        text = _URL.sub(_without_login, text)
        text = _LOGIN.sub(f"{REDACTED}@", text)
        text = _HEADER.sub(rf"\1\2{REDACTED}", text)
        text = _SCHEME.sub(rf"\1 {REDACTED}", text)
        return _VARIABLE.sub(_without_value, text)


def secrets_of(env: Mapping[str, str]) -> Iterator[str]:
    """The values of all variables that by their names hold secrets, whosever they are."""
    for name, value in env.items():
        if (is_secret(name) or name.upper().endswith(_CREDENTIALS)) and not name.upper().endswith(_PLACES):
            yield value
            for entry in value.split(","):  # OLLAMA_API_KEY may list several, each with a name and a role
                yield entry
                yield entry.rpartition(":")[2]


def _without_login(url: re.Match[str]) -> str:
    text = _LOGIN_IN_URL.sub(f"{REDACTED}@", url[0])
    before, mark, query = text.partition("?")
    return before + mark + _QUERY_VALUE.sub(REDACTED, query)


def _without_value(assignment: re.Match[str]) -> str:
    name, value = assignment.groups()
    return f"{name}={REDACTED}" if is_secret(name) and not value.startswith("[") else assignment[0]
