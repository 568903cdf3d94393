"""The typed client of our own HTTP API: what the command line talks through. It knows no terminal and no files.

Source: native-api §3, cli §1, §9.2 and §9.3. It is synchronous and uses the standard library alone, because a command
line starts in milliseconds or feels slow. Each request has its own connection: threads may share a client, and an
interrupted call leaves nothing open.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import platform
import re
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, unquote

from . import API_LEVEL
from .config import HostUrl, parse_host
from .durations import FOREVER, format_duration
from .errors import ClientError, ServerAnswered, ServerRefused

if TYPE_CHECKING:
    import ssl

    from .messages import Progress, Think, ToolCall

MAX_LINE_BYTES = 8_000_000
"""One line of a stream, as the reference bounds it: a chat chunk is a few hundred bytes."""
MAX_REPLY_BYTES = 256 * 2**20
"""One plain reply. `/api/show` with a whole vocabulary is the largest, some tens of megabytes."""
MAX_ERROR_BYTES = 64 * 2**10
"""An error's body; it ends on somebody's screen."""
UPLOAD_BLOCK_BYTES = 2**20
CONNECT_TIMEOUT_S = 30.0
"""To reach the address; a router on the way that drops our packets must not hold a person for minutes."""

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Go's zero time: "no time at all"."""

SILENT_ERROR = "something went wrong, please see the ollama server logs for details"
KEY_NEEDED = "unauthorized: set OLLAMA_API_KEY to a key of this server"
NOBODY_BEHIND = "a proxy answers, but the server behind it does not; is it running?"
LOGIN_NEEDED = "unauthorized: a proxy wants a name and a password; put user:password@ before the host in OLLAMA_HOST"

# --- what comes back -----------------------------------------------------------------------------------------------
# Named tuples: five dataclasses would cost a twentieth of the time in which `ollama --version` has to start and to end.


class ListedModel(NamedTuple):
    name: str
    digest: str
    size_bytes: int
    modified_at: datetime
    is_remote: bool
    details: Mapping[str, Any] = {}
    capabilities: Sequence[str] = ()


class RunningModel(NamedTuple):
    name: str
    digest: str
    size_bytes: int
    size_vram_bytes: int
    context_tokens: int
    expires_at: datetime
    used_tokens: int = 0
    """Of the context, by the conversation that was answered last."""
    details: Mapping[str, Any] = {}


class LoadingModel(NamedTuple):
    name: str
    progress: float
    """From 0 to 1."""


class WaitingRequest(NamedTuple):
    position: int
    """In its line, from 1."""
    model: str
    waiting_ms: int


class Running(NamedTuple):
    """The reply of `/api/ps`. Servers of the reference tell the first of the three."""

    models: list[RunningModel]
    loading: list[LoadingModel]
    queue: list[WaitingRequest]


class ShownModel(NamedTuple):
    """The reply of `/api/show`; texts that the model has not are empty."""

    license: str
    modelfile: str
    parameters: str
    template: str
    system: str
    requires: str
    remote_model: str
    remote_host: str
    details: Mapping[str, Any]
    model_info: Mapping[str, Any] | None
    projector_info: Mapping[str, Any]
    tensors: Sequence[Mapping[str, Any]]
    capabilities: Sequence[str]
    messages: Sequence[Mapping[str, Any]]


class ModelUsage(NamedTuple):
    name: str
    size_bytes: int
    own_bytes: int
    """What removing it frees."""
    shared_with: tuple[str, ...]


class DiskUsage(NamedTuple):
    models: list[ModelUsage]
    without: list[ModelUsage]
    """Those of them that were named, in that order."""
    models_bytes: int
    disk_bytes: int
    saved_bytes: int
    unused_bytes: int
    freed_bytes: int


class SavedPrompt(NamedTuple):
    model: str
    tokens: int
    size_bytes: int
    used_at: datetime


class ApiKey(NamedTuple):
    name: str
    role: str
    models: tuple[str, ...]
    """The only ones that it may use; none: all of them."""
    expires_at: datetime
    """The zero time: never."""
    is_expired: bool
    rate: str
    source: str
    secret: str = ""
    """Of a key that was just made."""


class Metrics(NamedTuple):
    """What an answer cost; 0 where the server said nothing."""

    total_ns: int
    load_ns: int
    prompt_tokens: int
    prompt_ns: int
    predicted_tokens: int
    predicted_ns: int


class Part(NamedTuple):
    """One step of an answer. The last one carries the metrics."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    metrics: Metrics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What generate and chat share; a field that nobody set is not sent."""

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    format: Any = None
    think: Think | str = None
    keep_alive_ns: int | None = None

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"model": self.model}
        if self.options:
            fields["options"] = dict(self.options)
        if self.format is not None:
            fields["format"] = self.format
        if self.think is not None:
            fields["think"] = self.think
        return fields | _keep_alive(self.keep_alive_ns)


# --- the way there -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proxies:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY, by the rules that Go programs follow (cli §9.3)."""

    http: str = ""
    https: str = ""
    bypass: tuple[str, ...] = ()

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Proxies:
        def read(name: str) -> str:
            return (env.get(name) or env.get(name.lower()) or "").strip()

        bypass = (part.strip().lower() for part in read("NO_PROXY").split(","))
        return cls(read("HTTP_PROXY"), read("HTTPS_PROXY"), tuple(part for part in bypass if part))

    def for_host(self, host: HostUrl) -> str:
        """The proxy to ask for `host`, or an empty text. Loopback never goes through one."""
        proxy = self.https if host.scheme == "https" else self.http
        if not proxy or host.is_loopback or any(matches(pattern, host) for pattern in self.bypass):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"


def matches(pattern: str, host: HostUrl) -> bool:
    """Whether one NO_PROXY entry means `host`: `*`, a name, `.domain`, an address, a network; most may have a port."""
    if pattern == "*":
        return True
    name, colon, port = pattern.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.endswith("]")):
        if int(port) != host.port:
            return False
        pattern = name
    pattern = pattern.strip("[]")
    asked = host.host.lower()
    try:
        return ipaddress.ip_address(asked) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        pass
    if pattern.startswith("."):
        return asked.endswith(pattern)
    return asked == pattern or asked.endswith(f".{pattern}")


class Readable(Protocol):
    """What an upload needs of a file."""

    def read(self, size: int = ..., /) -> bytes: ...


class Download:
    """A long reply that is read as it comes."""

    def __init__(self, response: http.client.HTTPResponse, size_bytes: int, start_bytes: int) -> None:
        self.size_bytes = size_bytes
        """How much there is to read here."""
        self.start_bytes = start_bytes
        """How much of the whole lies before it."""
        self._response = response
        self._left_bytes = size_bytes

    def read(self, size: int = UPLOAD_BLOCK_BYTES, /) -> bytes:
        """At most `size` bytes, and none only at the end. ClientError when the connection ends before that."""
        try:
            data = self._response.read(min(size, self._left_bytes)) if self._left_bytes else b""
        except (OSError, http.client.HTTPException) as error:
            raise ClientError(f"the connection to the server broke: {error}") from error
        if not data and self._left_bytes:
            raise ClientError(f"the server hung up with {self._left_bytes} bytes still to come; its log says why")
        self._left_bytes -= len(data)
        return data


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket: `OLLAMA_HOST=unix:///run/llamero.sock`."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Patience:
    """How long one exchange waits for bytes: each time at most `silence_s`, and in all at most `whole_s`."""

    def __init__(self, silence_s: float | None, whole_s: float | None = None) -> None:
        self._silence_s = silence_s
        self._end_s = None if whole_s is None else time.monotonic() + whole_s

    def hold(self, sock: socket.socket) -> None:
        self._sock = sock
        self._renew()

    def line(self, response: http.client.HTTPResponse) -> bytes:
        """The next line of a stream, and nothing at its end. TimeoutError when it does not come in time."""
        if self._end_s is not None and not response.isclosed():
            self._renew()
        line = response.readline(MAX_LINE_BYTES + 1)
        if len(line) > MAX_LINE_BYTES:
            raise ClientError(f"a line of the server's reply is longer than {MAX_LINE_BYTES} bytes")
        return line

    def _renew(self) -> None:
        waits_s = [] if self._silence_s is None else [self._silence_s]
        if self._end_s is not None:
            waits_s.append(self._end_s - time.monotonic())
        if waits_s and min(waits_s) <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(min(waits_s, default=None))


def _trusting(file: str) -> ssl.SSLContext:
    """The system's trust and the certificates of a PEM file. ClientError when there are none in it."""
    import ssl

    context = ssl.create_default_context()
    try:
        context.load_verify_locations(file)
    except OSError:  # ssl's own errors are among them
        raise ClientError(f"SSL_CERT_FILE: no certificates can be read from {file}") from None
    return context


_NAME_MISMATCH, _IP_MISMATCH, _HAS_EXPIRED = 62, 64, 10
"""Of OpenSSL's X509_V_ERR numbers."""


def _tls_trouble(error: Exception) -> tuple[str, str] | None:
    """In words: why no TLS connection came about, and what to do; None when something else is the matter."""
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        hint = "if that server is yours, set SSL_CERT_FILE to a file with its certificate, or that of its authority"
        if error.verify_code in (_NAME_MISMATCH, _IP_MISMATCH):
            hint = "write the name in OLLAMA_HOST that is in the server's certificate"
        elif error.verify_code == _HAS_EXPIRED:
            hint = "the server needs a new one"
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}", f"; {hint}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
            return "no TLS is spoken there", "; try http:// in OLLAMA_HOST"
        if reason.endswith("CERTIFICATE_REQUIRED"):
            return "the server asks for a client certificate", "; this command has none: go through a unix socket there"
        return f"TLS failed: {reason.lower().replace('_', ' ') or 'no reason given'}", ""
    return None


def user_agent() -> str:
    """Registries and proxies read the prefix; the rest tells an administrator who asks (cli §1)."""
    machine, system = platform.machine().lower(), platform.system().lower()
    return f"ollama/{API_LEVEL} ({machine} {system}) Python/{platform.python_version()}"


def bearer(api_key: str) -> str:
    """The secret to send out of OLLAMA_API_KEY: of several entries the first admin secret (security §6.1)."""
    secrets = [_role_and_secret(entry.strip()) for entry in api_key.split(",") if entry.strip()]
    admins = [secret for role, secret in secrets if role == "admin"]
    return (admins or [secret for _, secret in secrets] or [""])[0]


def _role_and_secret(entry: str) -> tuple[str, str]:
    """Of `NAME=admin:SECRET` or `infer:SECRET`; any other entry is as a whole the secret of an admin."""
    match = re.fullmatch(r"(?:[A-Za-z0-9_-]{1,32}=)?(admin|infer):(.*)", entry)
    return (match[1], match[2]) if match else ("admin", entry)


class Client:
    """Talks to one server. `warn` is told each `Llamero-Warning`, once per request.

    `timeout_s` bounds each wait for the server's next bytes, `answer_limit_s` a whole streamed reply, loading included;
    without them there is no bound, since a model may load for minutes before it says a word. `trusted_file` holds
    certificates that are trusted as well as the system's.
    """

    def __init__(
        self,
        host: HostUrl,
        api_key: str = "",
        *,
        proxies: Proxies | None = None,
        warn: Callable[[str], None] = lambda text: None,
        timeout_s: float | None = None,
        answer_limit_s: float | None = None,
        trusted_file: str = "",
    ) -> None:
        self.host = host.for_clients
        self._timeout_s = timeout_s
        self._answer_limit_s = answer_limit_s
        self._trusted_file = trusted_file
        self._warn = warn
        self._is_unix = host.is_unix
        self._base_path = "" if self._is_unix else quote(self.host.path, safe="/%")
        proxy = (proxies or Proxies()).for_host(self.host)
        self._proxy = _split_proxy(proxy) if proxy else None
        self._headers = {"User-Agent": user_agent(), "Content-Type": "application/json"}
        secret = bearer(api_key)
        if not (secret.isascii() and secret.isprintable()):  # http.client's own words would repeat it
            raise ClientError("OLLAMA_API_KEY holds characters that no request can carry")
        if host.user_info:
            # a name and a password are for a proxy in front of our server, which takes its key from here just as well
            self._headers["Authorization"] = _basic(host.user_info)
            if secret:
                self._headers["x-api-key"] = secret
        elif secret:
            self._headers["Authorization"] = f"Bearer {secret}"

    # Each method is one route of native-api §3. All raise ServerRefused, ServerAnswered or ClientError.

    def heartbeat(self) -> None:
        self.call("HEAD", "/")

    def version(self) -> str:
        return str(self._json("GET", "/api/version").get("version", ""))

    def tags(self) -> list[ListedModel]:
        return [
            ListedModel(
                name=str(entry.get("name", "")),
                digest=str(entry.get("digest", "")),
                size_bytes=_count(entry, "size"),
                modified_at=_time(entry.get("modified_at")),
                is_remote=bool(entry.get("remote_model")),
                details=_mapping(entry.get("details")),
                capabilities=[str(word) for word in _list(entry.get("capabilities"))],
            )
            for entry in _objects(self._json("GET", "/api/tags").get("models"))
        ]

    def ps(self) -> Running:
        reply = self._json("GET", "/api/ps")
        return Running(
            [_running(entry) for entry in _objects(reply.get("models"))],
            [
                LoadingModel(str(entry.get("model", "")), _share(entry, "progress"))
                for entry in _objects(reply.get("loading"))
            ],
            [
                WaitingRequest(_count(entry, "position"), str(entry.get("model", "")), _count(entry, "waiting_ms"))
                for entry in _objects(reply.get("queue"))
            ],
        )

    def show(
        self, model: str, *, verbose: bool = False, system: str = "", options: Mapping[str, Any] | None = None
    ) -> ShownModel:
        """`system` and `options` only change the Modelfile text of the reply: what the user has set so far."""
        body = {"model": model, "verbose": verbose, "system": system, "options": dict(options or {})}
        reply = self._json("POST", "/api/show", {key: value for key, value in body.items() if value})
        info = reply.get("model_info")
        texts = ("license", "modelfile", "parameters", "template", "system", "requires", "remote_model", "remote_host")
        return ShownModel(
            **{name: str(reply.get(name) or "") for name in texts},
            details=_mapping(reply.get("details")),
            model_info=info if isinstance(info, dict) else None,
            projector_info=_mapping(reply.get("projector_info")),
            tensors=_objects(reply.get("tensors")),
            capabilities=[str(word) for word in _list(reply.get("capabilities"))],
            messages=_objects(reply.get("messages")),
        )

    def generate(
        self, ask: Ask, prompt: str, *, images: Sequence[bytes] = (), system: str = "", template: str = ""
    ) -> Generator[Part]:
        body = ask.fields() | {"prompt": prompt} | _given({"system": system, "template": template})
        if images:
            body["images"] = [base64.b64encode(image).decode() for image in images]
        return self._answer("/api/generate", body)

    def chat(
        self, ask: Ask, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Generator[Part]:
        """`messages` and `tools` as native-api §3.8 has them, images already in base64."""
        return self._answer("/api/chat", ask.fields() | {"messages": list(messages)} | _given({"tools": list(tools)}))

    def load(self, ask: Ask) -> None:
        for _ in self._stream("/api/generate", ask.fields()):
            pass

    def unload(self, model: str) -> None:
        self.load(Ask(model=model, keep_alive_ns=0))

    def embed(
        self,
        model: str,
        text: str | Sequence[str],
        *,
        truncate: bool | None = None,
        dimensions: int = 0,
        keep_alive_ns: int | None = None,
    ) -> list[list[float]]:
        body: dict[str, Any] = {"model": model, "input": text} | _keep_alive(keep_alive_ns)
        if truncate is not None:
            body["truncate"] = truncate
        if dimensions > 0:
            body["dimensions"] = dimensions
        with self._exchange("POST", "/api/embed", _encode(body)) as response:
            reply = _object(self._read(response))
            self._warn_of(reply, _header_warnings(response))
        return _list(reply.get("embeddings"))

    def pull(self, model: str, **wanted: Any) -> Generator[Progress]:
        """`wanted` are other fields of the request (native-api §3.14 and our own); empty ones are left out."""
        return self._progress("/api/pull", {"model": model} | _given(wanted))

    def push(self, model: str, **wanted: Any) -> Generator[Progress]:
        return self._progress("/api/push", {"model": model} | _given(wanted))

    def create(self, request: Mapping[str, Any]) -> Generator[Progress]:
        """`request` is the body of native-api §3.11."""
        return self._progress("/api/create", request)

    def copy(self, source: str, destination: str) -> None:
        self.call("POST", "/api/copy", {"source": source, "destination": destination})

    def move(self, source: str, destination: str) -> str:
        """Returns the new name as it is stored."""
        reply = self._json("POST", "/api/llamero/move", {"source": source, "destination": destination})
        return str(reply.get("model", ""))

    def usage(self, without: Sequence[str] = ()) -> DiskUsage:
        """What the models take; `freed_bytes` is what removing `without`, all together, would free."""
        reply = self._json("POST", "/api/llamero/usage", {"without": list(without)})
        totals = (_count(reply, key) for key in ("models_size", "disk_size", "saved", "unused", "freed"))
        return DiskUsage(_usages(reply.get("models")), _usages(reply.get("without")), *totals)

    def models_folder(self) -> str:
        """Where the server keeps its models; only a server on this machine tells."""
        return str(self._json("GET", "/api/llamero/store").get("models", ""))

    def prune(self, *, dry_run: bool, downloads: bool = False) -> tuple[list[str], int]:
        """The files removed (or with `dry_run` to be removed), and their bytes."""
        body = {"dry_run": dry_run} | ({"downloads": True} if downloads else {})
        reply = self._json("POST", "/api/llamero/prune", body)
        return [str(name) for name in _list(reply.get("files"))], _count(reply, "freed")

    def saved_prompts(self) -> list[SavedPrompt]:
        """What the prompt cache on disk holds, the prompt used last first."""
        return [
            SavedPrompt(
                str(each.get("model", "")), _count(each, "tokens"), _count(each, "size"), _time(each.get("used_at"))
            )
            for each in _objects(self._json("GET", "/api/llamero/cache").get("prompts"))
        ]

    def clear_prompts(self, model: str) -> int:
        """Remove those of a model, or with an empty name all. Returns bytes freed."""
        return _count(self._json("DELETE", "/api/llamero/cache", {"model": model} if model else {}), "freed")

    def api_keys(self) -> list[ApiKey]:
        """Those that the server knows, without their secrets."""
        return [_api_key(each) for each in _objects(self._json("GET", "/api/llamero/keys").get("keys"))]

    def new_api_key(self, wanted: Mapping[str, Any]) -> ApiKey:
        """`wanted` has `name`, and may have `role`, `models`, `expires` and `rate`. The secret is told this once."""
        return _api_key(self._json("POST", "/api/llamero/keys", wanted))

    def revoke_api_key(self, name: str) -> None:
        self.call("DELETE", "/api/llamero/keys", {"name": name})

    def doctor(self, *, repair: bool) -> Generator[Progress]:
        """Examine the server's store: progress, and a Found for each result."""
        return self._progress("/api/llamero/doctor", {"repair": repair})

    def fit(self, model: str, *, insecure: bool = False) -> bytes:
        """Whether and how fast a model would run on the server's machine: the JSON of `scheduler.fit.Report`."""
        return self.call("POST", "/api/llamero/fit", {"model": model} | _given({"insecure": insecure}))

    def update(self, models: Sequence[str], *, only_check: bool) -> Generator[Progress]:
        """Fetch what has changed of these models, or of all; progress, and a Found for each."""
        return self._progress("/api/llamero/update", {"models": list(models), "check": only_check})

    def delete(self, model: str) -> None:
        self.call("DELETE", "/api/delete", {"model": model})

    def me(self) -> str:
        """The name of whoever is signed in to ollama.com; ServerAnswered with a `signin_url` when nobody is."""
        return str(self._json("POST", "/api/me").get("name", ""))

    def sign_out(self) -> bool:
        """Whether anybody was signed in to ollama.com."""
        with self._exchange("POST", "/api/signout", None) as response:
            if response.status == 401 and "WWW-Authenticate" not in response.headers:
                return False  # with a challenge it is the server itself that wants a key
            self._read(response)
            return True

    def has_blob(self, digest: str) -> bool:
        try:
            self.call("HEAD", f"/api/blobs/{digest}")
        except ServerAnswered as error:
            if error.status != 404:
                raise
            return False
        return True

    def upload_blob(self, digest: str, file: Readable, size_bytes: int) -> None:
        """Send `size_bytes` bytes of `file` under their digest."""
        with self._exchange("POST", f"/api/blobs/{digest}", file, {"Content-Length": str(size_bytes)}) as response:
            self._read(response)

    @contextmanager
    def export(self, model: str, *, held_bytes: int = 0, etag: str = "") -> Iterator[Download]:
        """A model's archive, to be read inside the block: what follows `held_bytes` of the one with that etag.

        When the server has another by now, or nothing is held, it is the whole. The block's own errors stay its own.
        """
        asked = {"Range": f"bytes={held_bytes}-", "If-Range": etag} if held_bytes else {}
        exchange = self._exchange("GET", f"/api/llamero/export?model={quote(model, safe='')}", None, asked)
        response = exchange.__enter__()
        try:
            if response.status >= 300:
                raise _answered(response)
            if response.length is None:
                raise ClientError("the server does not say how long the archive is; is there a proxy in between?")
            yield Download(response, response.length, held_bytes if response.status == 206 else 0)
        finally:
            exchange.__exit__(None, None, None)

    def import_manifest(self, model: str, manifest: bytes) -> str:
        """Make a model of a manifest's own bytes; its blobs are uploaded before. Returns the name as it is stored."""
        with self._exchange("POST", f"/api/llamero/import?model={quote(model, safe='')}", manifest) as response:
            return str(_object(self._read(response)).get("model", ""))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """One plain request; the reply's body as the server sent it."""
        with self._exchange(method, path, _encode(body)) as response:
            return self._read(response)

    # --- one request -----------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return _object(self.call(method, path, body))

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.status >= 300:
            raise _answered(response)
        for text in _header_warnings(response):
            self._warn(text)
        data = response.read(MAX_REPLY_BYTES + 1)
        if len(data) > MAX_REPLY_BYTES:
            raise ClientError(f"the server's reply is larger than {MAX_REPLY_BYTES} bytes")
        if (
            response.length
        ):  # of what was announced; the library takes the end of the connection for the end of the reply
            raise ClientError(f"the connection to the server ended {response.length} bytes before its reply did")
        return data

    def _stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        patience = _Patience(self._timeout_s, self._answer_limit_s)
        accepted = {"Accept": "application/x-ndjson"}
        with self._exchange("POST", path, _encode(body), accepted, patience) as response:
            if response.status >= 300:
                raise _answered(response, streaming=True)
            said = _header_warnings(response)
            for text in said:
                self._warn(text)
            while line := patience.line(response):
                entry = _object(line)
                if entry.get("error"):
                    raise ServerAnswered(str(entry["error"]))
                self._warn_of(entry, said)
                yield entry

    def _warn_of(self, entry: Mapping[str, Any], said: Sequence[str]) -> None:
        """The warnings of a final object; those that a header already carried are not said twice."""
        for text in _list(entry.get("warnings")):
            if text not in said:
                self._warn(str(text))

    def _answer(self, path: str, body: Mapping[str, Any]) -> Generator[Part]:
        done = False
        for entry in self._stream(path, body):
            done = bool(entry.get("done"))
            yield _part(entry)
        if not done:
            raise ClientError("the server closed the connection before the answer was complete")

    def _progress(self, path: str, body: Mapping[str, Any]) -> Generator[Progress]:
        status = ""
        for entry in self._stream(path, body):
            status = str(entry.get("status", ""))
            yield _step(status, entry)
        if status != "success":
            raise ClientError(f"the server closed the connection before it was done (last: {status or 'nothing'})")

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | Readable | None,
        headers: Mapping[str, str] | None = None,
        patience: _Patience | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """One connection, one request, its response; whatever happens, the connection is closed when this is left."""
        patience = patience or _Patience(self._timeout_s)
        place = self.host.url if self._is_unix else f"{self.host.scheme}://{self.host.netloc}{self._base_path}"
        url = place + path
        connection = self._connection()
        target = url if self._proxy and self.host.scheme == "http" else self._base_path + path
        all_headers = self._headers | {"Accept": "application/json"} | dict(headers or {})
        if self._proxy and self.host.scheme == "http":
            all_headers |= _proxy_headers(self._proxy)
        try:
            connection.connect()
            patience.hold(connection.sock)
            # a server that knows its answer early (a blob it has, a key it misses) does not read the rest
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body, all_headers)
            yield connection.getresponse()
        except (ConnectionRefusedError, FileNotFoundError) as error:
            if self._proxy:
                raise ClientError(self._failed(method, url, error)) from error
            raise ServerRefused(f"nothing answers at {self.host.url}") from error
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise ClientError(self._failed(method, url, error)) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._is_unix:
            return _UnixConnection(self.host.path)
        secure = self.host.scheme == "https"
        if not secure and self.host.scheme != "http":
            raise ClientError(f"OLLAMA_HOST: {self.host.scheme}:// is not spoken here; use http://, https:// or unix:")
        to = self._proxy or self.host
        how: dict[str, Any] = {"timeout": CONNECT_TIMEOUT_S, "blocksize": UPLOAD_BLOCK_BYTES}
        if secure and self._trusted_file:
            how["context"] = _trusting(self._trusted_file)
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(to.host, to.port, **how)
        if self._proxy is None:
            return connection
        if secure:
            connection.set_tunnel(self.host.host, self.host.port, _proxy_headers(self._proxy))
        return connection

    def _failed(self, method: str, url: str, error: Exception) -> str:
        """What was tried and why it failed; a proxy is named, since nobody expects one (cli G-24)."""
        through = f" through the proxy {self._proxy.netloc}" if self._proxy else ""
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        cause = " ".join(cause.split())  # some of them quote lines of the peer's
        hint = ""
        if self.host.scheme == "https" and (of_tls := _tls_trouble(error)):
            cause, hint = of_tls
        elif isinstance(error, socket.gaierror):
            hint = "; check the host name in OLLAMA_HOST"
        elif isinstance(error, TimeoutError):
            hint = "; check the address in OLLAMA_HOST and the firewalls in between"
        return f'{method.title()} "{url}"{through}: {cause}{hint}'


# --- bytes to values -----------------------------------------------------------------------------------------------


def _encode(body: Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else json.dumps(body, separators=(",", ":")).encode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise ClientError(f"the server's reply is not JSON: {data[:200].decode(errors='replace').strip()}") from None
    if not isinstance(value, dict):
        raise ClientError("the server's reply is not a JSON object")
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in _list(value) if isinstance(entry, dict)]


def _running(entry: Mapping[str, Any]) -> RunningModel:
    return RunningModel(
        name=str(entry.get("name", "")),
        digest=str(entry.get("digest", "")),
        size_bytes=_count(entry, "size"),
        size_vram_bytes=_count(entry, "size_vram"),
        context_tokens=_count(entry, "context_length"),
        expires_at=_time(entry.get("expires_at")),
        used_tokens=_count(entry, "context_used"),
        details=_mapping(entry.get("details")),
    )


def _api_key(entry: Mapping[str, Any]) -> ApiKey:
    return ApiKey(
        name=str(entry.get("name", "")),
        role=str(entry.get("role", "")),
        models=tuple(str(model) for model in _list(entry.get("models"))),
        expires_at=_time(entry.get("expires_at")),
        is_expired=entry.get("is_expired") is True,
        rate=str(entry.get("rate", "")),
        source=str(entry.get("source", "")),
        secret=str(entry.get("secret", "")),
    )


def _usages(value: Any) -> list[ModelUsage]:
    return [
        ModelUsage(
            str(each.get("name", "")),
            _count(each, "size"),
            _count(each, "own"),
            tuple(map(str, _list(each.get("shared_with")))),
        )
        for each in _objects(value)
    ]


def _header_warnings(response: http.client.HTTPResponse) -> list[str]:
    return response.headers.get_all("Llamero-Warning") or []


def _count(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    return value if isinstance(value, int) else 0


def _share(entry: Mapping[str, Any], key: str) -> float:
    """A number from 0 to 1; 0 for anything else."""
    value = entry.get(key)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else 0.0


def _time(value: Any) -> datetime:
    """A point in time with its zone; what is missing or unreadable is the zero time."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return ZERO_TIME
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _part(entry: Mapping[str, Any]) -> Part:
    """One object of a generate or chat stream: the first has its texts at the top, the second in `message`."""
    message = _mapping(entry.get("message")) or entry
    calls: tuple[ToolCall, ...] = ()
    if message.get("tool_calls"):
        from .messages import ToolCall

        functions = [_mapping(call.get("function")) for call in _objects(message["tool_calls"])]
        calls = tuple(ToolCall(str(one.get("name", "")), _mapping(one.get("arguments"))) for one in functions)
    metrics = None
    if entry.get("done"):
        metrics = Metrics(
            total_ns=_count(entry, "total_duration"),
            load_ns=_count(entry, "load_duration"),
            prompt_tokens=_count(entry, "prompt_eval_count"),
            prompt_ns=_count(entry, "prompt_eval_duration"),
            predicted_tokens=_count(entry, "eval_count"),
            predicted_ns=_count(entry, "eval_duration"),
        )
    text = message.get("response" if message is entry else "content")
    return Part(str(text or ""), str(message.get("thinking") or ""), calls, metrics)


def _step(status: str, entry: Mapping[str, Any]) -> Progress:
    from .messages import Found, Progress

    level = entry.get("level")
    if level in ("ok", "warn", "fail"):
        return Found(status, subject=str(entry.get("subject", "")), level=level, advice=str(entry.get("advice", "")))
    return Progress(status, str(entry.get("digest", "")), _count(entry, "total"), _count(entry, "completed"))


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in fields.items() if value}


def _keep_alive(ns: int | None) -> dict[str, Any]:
    """The field as native-api §2.2 reads it; every negative or endless duration is -1."""
    if ns is None:
        return {}
    return {"keep_alive": -1 if ns < 0 or ns >= FOREVER else format_duration(ns)}


def _answered(response: http.client.HTTPResponse, *, streaming: bool = False) -> ServerAnswered:
    """The error of a status from 300 up, in the words of cli §1.1. Nobody is followed: a key is for one address."""
    if response.status < 400:
        place = response.headers.get("Location", "nowhere")
        return ServerAnswered(f"{response.status}: moved to {place}; use that address", status=response.status)
    data = response.read(MAX_ERROR_BYTES)
    text, signin_url = data.decode(errors="replace").strip(), ""
    with suppress(ValueError, KeyError, TypeError):
        reply = json.loads(data)
        text, signin_url = str(reply["error"]), str(reply.get("signin_url") or "")
    if response.status == 401 and not signin_url:
        challenge = response.headers.get("WWW-Authenticate", "")
        text = LOGIN_NEEDED if challenge.lower().startswith("basic") else KEY_NEEDED
    elif response.status in (502, 504) and not text:  # no server of ours says that without a word
        text = f"{response.status} {response.reason}: {NOBODY_BEHIND}"
    elif streaming:
        text = f"{response.status} {response.reason}: {text}".removesuffix(": ")
    text = text or "; ".join(_header_warnings(response)) or SILENT_ERROR  # a HEAD has no body
    return ServerAnswered(text, status=response.status, signin_url=signin_url)


def _basic(user_info: str) -> str:
    return "Basic " + base64.b64encode(unquote(user_info).encode()).decode()


def _split_proxy(text: str) -> HostUrl:
    host, warnings = parse_host(text)
    if host.scheme != "http" or not host.host or warnings:
        raise ClientError(f"unusable proxy for requests to OLLAMA_HOST: {host.url}; set an http:// proxy or NO_PROXY")
    return host


def _proxy_headers(proxy: HostUrl) -> dict[str, str]:
    return {"Proxy-Authorization": _basic(proxy.user_info)} if proxy.user_info else {}
