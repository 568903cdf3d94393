"""Which server the greeting and the benchmark tool talk to, and what is wrong when it does not answer.

Source: cli §10.2 and §13. Both tools work against any Ollama-compatible server, so this knows the typed client only.
Settings come from the environment, else from a `.env` file in the working directory, else from config.toml. A password
never gets into a text: `HostUrl` keeps it apart, and what cannot be read is not repeated.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from ..client import Certificates, Client, ListedModel, Proxies
from ..client.tls import is_about_own
from ..config import NO_FILE, ConfigFile, HostUrl, parse_host
from ..errors import BadRequest, ClientError, NotFound, ServerAnswered, ServerRefused

DEFAULT_URL = "http://localhost:11434"
DEFAULT_GREETING_TIMEOUT_S = 120
_GATEWAY_STATUSES = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Target:
    """One server and how to reach it."""

    host: HostUrl
    named_by: str
    """What the user has to change to reach another one."""
    env: Mapping[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """Without the password."""
        return self.host.for_clients.url

    def client(self, *, warn: Callable[[str], None], answer_limit_s: float | None = None) -> Client:
        """A client that waits for any reply as long as for a whole answer."""
        return Client(
            self.host,
            self.env.get("OLLAMA_API_KEY", "").strip(),
            proxies=Proxies.from_env(self.env),
            warn=warn,
            timeout_s=answer_limit_s,
            answer_limit_s=answer_limit_s,
            certificates=Certificates.from_env(self.env),
        )

    def at(self, url: str) -> Target:
        """Another server, for whatever else the environment says."""
        return Target(read_url(url, "the address"), "the address", self.env)


def environment(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """`env` over what `.env` in `folder` says. BadRequest when there is one that cannot be read."""
    import dotenv

    file = folder / ".env"
    logging.getLogger("dotenv.main").disabled = True  # it would write to stderr what is said better here
    try:
        # without interpolation: a password may hold anything
        found = dotenv.dotenv_values(file, interpolate=False, encoding="utf-8")
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadRequest(f".env: {cause}") from None
    return {name: value for name, value in found.items() if value is not None} | dict(env)


def find_target(env: Mapping[str, str], folder: Path, file: ConfigFile = NO_FILE) -> Target:
    """OLLAMA_BASE_URL, else OLLAMA_HOST, else this machine. BadRequest for an address that cannot be one."""
    settings = file.under(environment(env, folder))
    for name in ("OLLAMA_BASE_URL", "OLLAMA_HOST"):
        if text := settings.get(name, "").strip("\"' \t\r\n"):
            # a server listens at several addresses, a client talks to the first
            first = text.split(",")[0] if name == "OLLAMA_HOST" else text
            return Target(read_url(first, name), name, settings)
    return Target(read_url(DEFAULT_URL, "default"), "OLLAMA_BASE_URL", settings)


def read_url(text: str, name: str) -> HostUrl:
    """An address as `name` has it, `user:password@` and https included. BadRequest without any of its words."""
    host, warnings = parse_host(text)
    if warnings or not host.host or "@" in host.path or any(not char.isprintable() or char == " " for char in text):
        raise BadRequest(
            f"{name} is not an address like https://user:password@host:port; write @ : / # ? and % in a password as "
            "%40 %3A %2F %23 %3F and %25"
        )
    if host.scheme not in ("http", "https", "unix"):
        raise BadRequest(f"{name}: {host.scheme}:// is not spoken here; use http://, https:// or unix://")
    return host


def greeting_timeout_s(env: Mapping[str, str]) -> int:
    """GREETING_TIMEOUT_SECONDS, which bounds one model's greeting, loading included."""
    text = env.get("GREETING_TIMEOUT_SECONDS", "").strip()
    if not text:
        return DEFAULT_GREETING_TIMEOUT_S
    if not (text.isascii() and text.isdigit() and int(text)):
        raise BadRequest("GREETING_TIMEOUT_SECONDS is not a whole number of seconds above 0")
    return int(text)


def models_of(target: Target, client: Client) -> list[ListedModel]:
    """All models of the server. ClientError in a person's words when there is no server, or no model."""
    try:
        models = client.tags()
    except ClientError as error:
        raise explained(error, target) from error
    if not models:
        raise NotFound(f"no models: the server at {target.url} has none yet; fetch one with 'ollama pull smollm2:135m'")
    return models


def named_models(names: Sequence[str], listed: Sequence[ListedModel], target: Target) -> list[ListedModel]:
    """The models of these names, whose tag `latest` may be left out. NotFound for one that the server has not."""
    found = []
    for name in names:
        model = next((each for each in listed if each.name in (name, f"{name}:latest")), None)
        if model is None:
            have = ", ".join(each.name for each in listed)
            raise NotFound(f"{target.url} has no model {name}; it has {have}")
        found.append(model)
    return found


def explained(error: ClientError, target: Target) -> ClientError:
    """What is wrong with the way to `target`, in one line that says what to try.

    A server's own words about a request (no such model, out of memory) stay as they are.
    """
    url, name = target.url, target.named_by
    match error:
        case ServerRefused():
            return ServerRefused(f"refused: nothing listens at {url}; start the server ('ollama serve') or set {name}")
        case ServerAnswered(status=401):
            return ServerAnswered(_unauthorized(target), status=401)
        case ServerAnswered(status=status):
            return error if _is_own_word(error) else ServerAnswered(_foreign(status, target), status=status)
    cause = _unreachable(error.__cause__, target)
    return ClientError(cause) if cause else error


def _is_own_word(error: ServerAnswered) -> bool:
    """Whether the server itself said it, and no proxy's page of HTML."""
    return "<html" not in str(error).lower() and "page not found" not in str(error)


def _foreign(status: int, target: Target) -> str:
    """For an answer that no Ollama server gives: another program's page."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "unknown status"
    what = f"{status} {phrase}: "
    if status in _GATEWAY_STATUSES:
        return f"{what}a proxy answers at {target.url}, but the server behind it does not; is it running?"
    if status == HTTPStatus.NOT_FOUND:
        return f"{what}{target.url} is no Ollama server; {target.named_by} is its address, without /api or /v1"
    return f"{what}what answers at {target.url} is not the server itself but something in front of it"


def _unauthorized(target: Target) -> str:
    if not target.host.user_info and not target.env.get("OLLAMA_API_KEY"):
        return (
            f"401 Unauthorized: {target.url} wants to know who asks; put user:password@ before the host in "
            f"{target.named_by}, or set OLLAMA_API_KEY"
        )
    given = f"the name and password in {target.named_by}" if target.host.user_info else "the key in OLLAMA_API_KEY"
    return f"401 Unauthorized: {target.url} does not accept {given}"


def _unreachable(cause: BaseException | None, target: Target) -> str:
    """For what the system or TLS reported; empty when it says nothing that helps."""
    url, name = target.url, target.named_by
    match cause:
        case socket.gaierror():
            return f"name not found: there is no address for {target.host.host}; check {name}"
        case ssl.SSLCertVerificationError():
            return (
                f"certificate: {url} shows one that is not trusted ({cause.verify_message}); "
                "set SSL_CERT_FILE to a file with the certificate to trust"
            )
        case ssl.SSLError() if is_about_own(cause.reason or ""):
            return ""
        case ssl.SSLError():
            return f"TLS: {url} cannot be spoken to by https ({cause.reason or 'no reason given'}); check {name}"
        case TimeoutError():
            return f"timed out: {url} did not answer in time; check {name} and the firewalls in between"
        case ConnectionRefusedError():
            return f"refused: nothing listens at the proxy between here and {url}; check HTTP_PROXY and NO_PROXY"
        case OSError(strerror=str(reason)):
            return f"{url} cannot be reached: {reason}; check {name}"
    return ""
