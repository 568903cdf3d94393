"""Who may read while keys are set: the challenge, the token request that answers it, and links that open one blob.

Whether an API key is good, the guard has judged. Without one and without `share_keys` everybody may whom it lets
through. Source: store-registry §3.7, GAP-12; security §6.2.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request

from ...errors import LlameroError
from ...names import Digest
from ..attempts import Attempts
from ..caller import caller
from .errors import NotAdmitted
from .keys import ShareKeys, is_signed, key_line, read_key
from .tokens import TOKEN_LIFE_S, Nonces, Tokens

log = logging.getLogger(__name__)

SERVICE = "llamero"
TOKEN_PATH = "/v2/token"
CATALOG_SCOPE = "registry:catalog:*"
CLOCK_SKEW_S = 300
"""How far the clock of a client may be off."""
MAX_NONCE_CHARS = 128
MAX_SCOPES = 16
"""A token carries them, and a header has to hold the token."""
MAX_QUERY_FIELDS = 32

_EMPTY_BODY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
"""What a signature says of the body of a GET (store-registry §3.7 no. 4)."""

_SCOPE = re.compile(r"repository:(?P<name>[A-Za-z0-9_./-]{1,200}):(?P<actions>[a-z*,]{1,40})")


class ShareToken(msgspec.Struct):
    token: str
    expires_in: int


class Access:
    """The rules of one server.

    `needs_key` tells whether there are API keys; `is_ours` whether a Host certainly means this machine; `attempts`
    counts wrong keys, which a token may turn out to be; `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        *,
        needs_key: Callable[[], bool],
        keys: ShareKeys,
        is_ours: Callable[[str], bool],
        attempts: Attempts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._needs_key = needs_key
        self._keys = keys
        self._is_ours = is_ours
        self._attempts = attempts
        self._clock = clock
        self._tokens = Tokens(clock)
        self._nonces = Nonces(clock, kept_s=2 * CLOCK_SKEW_S)

    @property
    def is_limited(self) -> bool:
        """Whether a key is needed."""
        return self._needs_key() or self._keys.listed() is not None

    def check(self, request: Request, scope: str) -> None:
        """NotAdmitted unless the caller has an API key, or a token for this scope; an empty scope is in any token.

        RateLimited for an address that has shown too much that is neither.
        """
        if not self.is_limited or self._is_known(request):
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        shown = token if kind.lower() == "bearer" else request.headers.get("x-api-key", "")
        if shown and self._tokens.opens(shown, scope):
            return
        refusal: LlameroError = self._not_admitted("authentication required", request, scope)
        if shown and not self._tokens.is_ours(shown):  # one that has ended, or is for something else, is no guess
            refusal = self._attempts.failed(caller.get().address, refusal)
        raise refusal

    def check_blob(self, request: Request, scope: str, digest: Digest) -> str:
        """The same for a blob, which a link opens too. Returns the query of a link to it, empty where none is needed.

        Who came by a link gets that same link again: it must not live longer than its hour.
        """
        if not self.is_limited:
            return ""
        links = request.query_params.getlist("token")
        if len(links) == 1 and self._tokens.links_to(links[0], digest):
            return f"?token={links[0]}"
        self.check(request, scope)
        return f"?token={self._tokens.link(digest)}"

    def token(self, request: Request) -> ShareToken:
        """Answer the token request of a stock client (store-registry §3.7). NotAdmitted says what was wrong.

        1. A well-formed key and signature. 2. A time near ours. 3. Sent to us, not passed on by a server that the
        client took for another. 4. Signed with that key. 5. A listed key. 6. Never seen before.
        """
        query = request.scope["query_string"].decode("latin-1")
        fields = _fields(query)
        asked = " ".join(fields.get("scope", [])).split()[:MAX_SCOPES]

        def refuse(why: str) -> NotAdmitted:
            return self._not_admitted(why, request, " ".join(_grant(asked)))

        encoded, _, signature = request.headers.get("authorization", "").partition(":")
        key = read_key(encoded)
        if key is None:  # 1
            raise refuse("the request is not signed with an ed25519 key")
        nonce, ts = (fields.get(name, [""]) for name in ("nonce", "ts"))
        if len(nonce) != 1 or not 0 < len(nonce[0]) <= MAX_NONCE_CHARS or len(ts) != 1:
            raise refuse("the request needs one nonce and one ts")
        if not self._is_near(ts[0]):  # 2
            raise refuse("ts is too far from this server's time: check the clocks")
        host = request.headers.get("host", "")
        if not self._is_ours(host):  # 3
            raise refuse(f"this server does not know itself as {host}: list it in its LLAMERO_ALLOWED_HOSTS")
        if not is_signed(f"GET,{base_url(request)}{TOKEN_PATH}?{query},{_EMPTY_BODY}", key, signature):  # 4
            raise refuse("the signature is wrong")
        if key not in (self._keys.listed() or ()):  # 5
            log.warning("no token for a key that is not in share_keys: %s", key_line(key))
            raise refuse(f"this key is not in the server's share_keys: {key_line(key)}")
        if not self._nonces.use(key, nonce[0]):  # 6
            raise refuse("this nonce has been used")
        return ShareToken(self._tokens.grant(_grant(asked)), TOKEN_LIFE_S)

    def _is_near(self, ts: str) -> bool:
        return ts.isascii() and ts.isdigit() and len(ts) <= 12 and abs(int(ts) - self._clock()) <= CLOCK_SKEW_S

    def _is_known(self, request: Request) -> bool:
        """Whether the guard has found an API key, or that none is needed of this caller where others need one."""
        return request.state.key is not None or (self._needs_key() and request.state.rights == "admin")

    def _not_admitted(self, why: str, request: Request, scope: str) -> NotAdmitted:
        challenge = f'Bearer realm="{base_url(request)}{TOKEN_PATH}",service="{SERVICE}"'
        return NotAdmitted(why, challenge=f'{challenge},scope="{scope}"' if scope else challenge)


def base_url(request: Request) -> str:
    """`<scheme>://<Host>` as the client wrote it; empty for the rare client without a Host: it gets relative URLs."""
    host = request.headers.get("host")
    return f"{request.scope['scheme']}://{host}" if host else ""


def repository_scope(name: str) -> str:
    """What reading `<namespace>/<model>` takes."""
    return f"repository:{name}:pull"


def _fields(query: str) -> dict[str, list[str]]:
    try:
        return parse_qs(query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        return {}  # more fields than any client sends: nothing that is needed will be found


def _grant(asked: list[str]) -> list[str]:
    """Those of the scopes that can be had, less the actions that cannot."""
    granted = []
    for scope in asked:
        match = _SCOPE.fullmatch(scope)
        if match is not None and "pull" in match["actions"].split(","):
            granted.append(repository_scope(match["name"]))
        elif scope == CATALOG_SCOPE:
            granted.append(scope)
    return granted
