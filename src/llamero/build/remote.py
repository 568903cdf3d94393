"""The address of a host that runs a model for us: brought to one form, and compared with those that are allowed.

Pure. Source: store-registry §6.3, last paragraph; security §10.1.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from urllib.parse import urlsplit

from ..errors import BadRequest

DEFAULT_PORT = 11434
_OLLAMA = "ollama.com"
"""It is reached by https only, however it is written."""


def parse_remote(text: str) -> str:
    """The address as a model's config holds it: `scheme://host:port` and a path, if any. BadRequest for a bad one."""
    if text.startswith("/"):
        text = f"http://localhost:{DEFAULT_PORT}{text}"
    elif "://" not in text:
        text = f"http://{text}"
    # no two programs agree on who is meant by an address with such characters (security §10.1)
    if not text.isascii() or not text.isprintable() or set(text) & set("\\ @"):
        raise BadRequest("bad remote")
    try:
        url = urlsplit(text)
        host, port = url.hostname or "localhost", url.port
    except ValueError:
        raise BadRequest("bad remote") from None
    scheme = url.scheme
    if scheme not in ("http", "https") or url.query or url.fragment:
        raise BadRequest("bad remote")
    if host == _OLLAMA and port in (None, 80, 443):
        scheme, port = "https", 443
    path = posixpath.normpath(url.path).removeprefix("/") if url.path else ""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{DEFAULT_PORT if port is None else port}" + (f"/{path.lstrip('/')}" if path else "")


def is_allowed(remote: str, hosts: Iterable[str]) -> bool:
    """Whether the host of an address is one of `hosts`, exactly. A bad address never is."""
    try:
        host = urlsplit(parse_remote(remote)).hostname
    except BadRequest:
        return False
    return host in {each.lower().strip("[]") for each in hosts}
