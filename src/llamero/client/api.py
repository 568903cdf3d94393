"""The typed client: one method for each route of our own HTTP API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..config import HostUrl
from ..errors import ClientError, ServerAnswered
from .bodies import Download, Readable
from .fields import array, count, json_object, objects
from .proxies import Proxies
from .refusals import answered, header_warnings
from .replies import read_api_key, read_part, read_prompts, read_ps, read_show, read_step, read_tags, read_usage
from .tls import Certificates
from .transport import Patience, Transport
from .values import ApiKey, Ask, DiskUsage, ListedModel, Part, Running, SavedPrompt, ShownModel, keep_alive

if TYPE_CHECKING:
    import http.client

    from ..messages import Progress

MAX_REPLY_BYTES = 256 * 2**20
"""One plain reply. `/api/show` with a whole vocabulary is the largest, some tens of megabytes."""


class Client:
    """Talks to one server. `warn` is told each `Llamero-Warning`, once per request.

    `timeout_s` bounds each wait for the server's next bytes, `answer_limit_s` a whole streamed reply, loading included;
    without them there is no bound, since a model may load for minutes before it says a word. `certificates` are for
    servers that speak TLS.
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
        certificates: Certificates | None = None,
    ) -> None:
        self._transport = Transport(
            host,
            api_key,
            proxies=proxies or Proxies(),
            timeout_s=timeout_s,
            certificates=certificates or Certificates(),
        )
        self.host = self._transport.host
        self._warn = warn
        self._timeout_s = timeout_s
        self._answer_limit_s = answer_limit_s

    # Each method is one route of native-api §3. All raise ServerRefused, ServerAnswered or ClientError.

    def heartbeat(self) -> None:
        self.call("HEAD", "/")

    def version(self) -> str:
        return str(self._json("GET", "/api/version").get("version", ""))

    def tags(self) -> list[ListedModel]:
        return read_tags(self._json("GET", "/api/tags"))

    def ps(self) -> Running:
        return read_ps(self._json("GET", "/api/ps"))

    def show(
        self, model: str, *, verbose: bool = False, system: str = "", options: Mapping[str, Any] | None = None
    ) -> ShownModel:
        """`system` and `options` only change the Modelfile text of the reply: what the user has set so far."""
        body = {"model": model, "verbose": verbose, "system": system, "options": dict(options or {})}
        return read_show(self._json("POST", "/api/show", {key: value for key, value in body.items() if value}))

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
        body: dict[str, Any] = {"model": model, "input": text} | keep_alive(keep_alive_ns)
        if truncate is not None:
            body["truncate"] = truncate
        if dimensions > 0:
            body["dimensions"] = dimensions
        with self._transport.exchange("POST", "/api/embed", _encode(body)) as response:
            reply = json_object(self._read(response))
            self._warn_of(reply, header_warnings(response))
        return array(reply.get("embeddings"))

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
        return read_usage(self._json("POST", "/api/llamero/usage", {"without": list(without)}))

    def models_folder(self) -> str:
        """Where the server keeps its models; only a server on this machine tells."""
        return str(self._json("GET", "/api/llamero/store").get("models", ""))

    def prune(self, *, dry_run: bool, downloads: bool = False) -> tuple[list[str], int]:
        """The files removed (or with `dry_run` to be removed), and their bytes."""
        body = {"dry_run": dry_run} | ({"downloads": True} if downloads else {})
        reply = self._json("POST", "/api/llamero/prune", body)
        return [str(name) for name in array(reply.get("files"))], count(reply, "freed")

    def saved_prompts(self) -> list[SavedPrompt]:
        """What the prompt cache on disk holds, the prompt used last first."""
        return read_prompts(self._json("GET", "/api/llamero/cache"))

    def clear_prompts(self, model: str) -> int:
        """Remove those of a model, or with an empty name all. Returns bytes freed."""
        return count(self._json("DELETE", "/api/llamero/cache", {"model": model} if model else {}), "freed")

    def api_keys(self) -> list[ApiKey]:
        """Those that the server knows, without their secrets."""
        return [read_api_key(each) for each in objects(self._json("GET", "/api/llamero/keys").get("keys"))]

    def new_api_key(self, wanted: Mapping[str, Any]) -> ApiKey:
        """`wanted` has `name`, and may have `role`, `models`, `expires` and `rate`. The secret is told this once."""
        return read_api_key(self._json("POST", "/api/llamero/keys", wanted))

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
        with self._transport.exchange("POST", "/api/signout", None) as response:
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
        length = {"Content-Length": str(size_bytes)}
        with self._transport.exchange("POST", f"/api/blobs/{digest}", file, length) as response:
            self._read(response)

    @contextmanager
    def export(self, model: str, *, held_bytes: int = 0, etag: str = "") -> Iterator[Download]:
        """A model's archive, to be read inside the block: what follows `held_bytes` of the one with that etag.

        When the server has another by now, or nothing is held, it is the whole. The block's own errors stay its own.
        """
        asked = {"Range": f"bytes={held_bytes}-", "If-Range": etag} if held_bytes else {}
        exchange = self._transport.exchange("GET", f"/api/llamero/export?model={quote(model, safe='')}", None, asked)
        response = exchange.__enter__()
        try:
            if response.status >= 300:
                raise answered(response)
            if response.length is None:
                raise ClientError("the server does not say how long the archive is; is there a proxy in between?")
            yield Download(response, response.length, held_bytes if response.status == 206 else 0)
        finally:
            exchange.__exit__(None, None, None)

    def import_manifest(self, model: str, manifest: bytes) -> str:
        """Make a model of a manifest's own bytes; its blobs are uploaded before. Returns the name as it is stored."""
        path = f"/api/llamero/import?model={quote(model, safe='')}"
        with self._transport.exchange("POST", path, manifest) as response:
            return str(json_object(self._read(response)).get("model", ""))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """One plain request; the reply's body as the server sent it."""
        with self._transport.exchange(method, path, _encode(body)) as response:
            return self._read(response)

    # --- one request -----------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return json_object(self.call(method, path, body))

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        if response.status >= 300:
            raise answered(response)
        for text in header_warnings(response):
            self._warn(text)
        data = response.read(MAX_REPLY_BYTES + 1)
        if len(data) > MAX_REPLY_BYTES:
            raise ClientError(f"the server's reply is larger than {MAX_REPLY_BYTES} bytes")
        # what was announced and did not come: the library takes the end of the connection for the end of the reply
        if response.length:
            raise ClientError(f"the connection to the server ended {response.length} bytes before its reply did")
        return data

    def _stream(self, path: str, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        patience = Patience(self._timeout_s, self._answer_limit_s)
        accepted = {"Accept": "application/x-ndjson"}
        with self._transport.exchange("POST", path, _encode(body), accepted, patience) as response:
            if response.status >= 300:
                raise answered(response, streaming=True)
            said = header_warnings(response)
            for text in said:
                self._warn(text)
            while line := patience.line(response):
                entry = json_object(line)
                if entry.get("error"):
                    raise ServerAnswered(str(entry["error"]))
                self._warn_of(entry, said)
                yield entry

    def _warn_of(self, entry: Mapping[str, Any], said: Sequence[str]) -> None:
        """The warnings of a final object; those that a header already carried are not said twice."""
        for text in array(entry.get("warnings")):
            if text not in said:
                self._warn(str(text))

    def _answer(self, path: str, body: Mapping[str, Any]) -> Generator[Part]:
        done = False
        for entry in self._stream(path, body):
            done = bool(entry.get("done"))
            yield read_part(entry)
        if not done:
            raise ClientError("the server closed the connection before the answer was complete")

    def _progress(self, path: str, body: Mapping[str, Any]) -> Generator[Progress]:
        status = ""
        for entry in self._stream(path, body):
            status = str(entry.get("status", ""))
            yield read_step(status, entry)
        if status != "success":
            raise ClientError(f"the server closed the connection before it was done (last: {status or 'nothing'})")


def _encode(body: Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else json.dumps(body, separators=(",", ":")).encode()


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in fields.items() if value}
