"""Challenges and their answers: store-registry §3.7."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from yarl import URL

from llamero.errors import RegistryError
from llamero.registry.auth import (
    Authenticator,
    Challenge,
    Token,
    new_nonce,
    parse_challenge,
    payload,
    read_token,
    signed_token_url,
)
from llamero.registry.credentials import Entry, Login
from llamero.registry.egress import parse_url
from llamero.registry.identity import Identity, ensure_key_pair

# --- the header ----------------------------------------------------------------------------------------------------

REALM = "https://h/token"


@pytest.mark.parametrize(
    ("values", "challenge"),
    [
        ([f'Bearer realm="{REALM}",service="s",scope="a b"'], Challenge("bearer", REALM, "s", "a b")),
        ([f'bearer  REALM = "{REALM}" ,  Service=s'], Challenge("bearer", REALM, "s")),
        ([f'Bearer scope="x\\"y",realm="{REALM}"'], Challenge("bearer", REALM, "", 'x"y')),
        ([f'Bearer realm="{REALM}",error="invalid_token"'], Challenge("bearer", REALM)),
        (['Basic realm="the, registry"'], Challenge("basic", "the, registry")),
        ([f'Basic realm="r", Bearer realm="{REALM}"'], Challenge("bearer", REALM)),
        (['Basic realm="r"', f'Bearer realm="{REALM}"'], Challenge("bearer", REALM)),
        (["Negotiate, Basic"], Challenge("basic")),
        (["Bearer"], Challenge("bearer")),
        (['Digest realm="r", nonce="n"'], None),
        (['Bearer realm="ü"'], None),
        ([""], None),
        ([], None),
    ],
)
def test_reads_challenges(values: list[str], challenge: Challenge | None) -> None:
    assert parse_challenge(values) == challenge


@pytest.mark.parametrize(
    "value", [" " * 8000 + "!", "Bearer" + " " * 8000, "Bearer a" + "=" * 8000, 'B r="' + "\\" * 8000]
)
def test_a_hostile_header_costs_nothing(value: str) -> None:
    parse_challenge([value] * 100)


# --- token URLs and tokens -----------------------------------------------------------------------------------------


def test_the_token_url_of_the_vector() -> None:
    """Partly S-46: Appendix A."""
    challenge = Challenge("bearer", "https://registry.example.com/v2/token", "registry", "repository:library/m:pull")
    url = signed_token_url(challenge, nonce="A" * 22, unix_s=1700000000)
    assert url == (
        "https://registry.example.com/v2/token?nonce=AAAAAAAAAAAAAAAAAAAAAA"
        "&scope=repository%3Alibrary%2Fm%3Apull&service=registry&ts=1700000000"
    )
    assert (
        payload(url)
        == (
            f"GET,{url},ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="
        ).encode()
    )


@pytest.mark.parametrize(
    ("realm", "service", "scope", "query"),
    [
        ("https://h/t", "", "", "nonce=N&scope=&service=&ts=1"),
        ("https://h/t?z=1&account=a%20b", "s p", "x", "account=a+b&nonce=N&scope=x&service=s+p&ts=1&z=1"),
        ("https://h/t?scope=own&empty=#f", "s", "b a", "empty=&nonce=N&scope=own&scope=b&scope=a&service=s&ts=1"),
    ],
)
def test_the_query_is_merged_and_sorted(realm: str, service: str, scope: str, query: str) -> None:
    assert signed_token_url(Challenge("bearer", realm, service, scope), nonce="N", unix_s=1) == f"https://h/t?{query}"


def test_nonces_are_22_characters_and_never_the_same() -> None:
    nonces = {new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert {len(nonce) for nonce in nonces} == {22}


@pytest.mark.parametrize(
    ("body", "token"),
    [
        (b'{"token":"t"}', Token("t")),
        (b'{"access_token":"a","expires_in":300,"issued_at":"2026"}', Token("a", 300)),
        (b'{"token":"t","access_token":"a","expires_in":"60"}', Token("t", 60)),
        (b'{"token":"t","expires_in":-1}', Token("t")),
    ],
)
def test_reads_tokens(body: bytes, token: Token) -> None:
    assert read_token(body) == token


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{}", b'{"token":""}', b'{"token":7}', b'{"token":"a\\r\\nX: y"}', b'{"token":"\xc3\xbc"}'],
)
def test_an_answer_without_a_token_is_an_error(body: bytes) -> None:
    with pytest.raises(RegistryError, match="token server's answer"):
        read_token(body)


# --- answers to challenges -----------------------------------------------------------------------------------------


class TokenServer:
    """Notes what it is asked; gives `t1`, `t2`, ... with a lifetime."""

    def __init__(self, lifetime_s: int) -> None:
        self.asked: list[tuple[URL, Mapping[str, str]]] = []
        self._lifetime_s = lifetime_s

    async def fetch(self, url: URL, headers: Mapping[str, str]) -> bytes:
        self.asked.append((url, headers))
        return f'{{"token":"t{len(self.asked)}","expires_in":{self._lifetime_s}}}'.encode()


NO_ENTRY = Entry()


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def tokens() -> TokenServer:
    return TokenServer(lifetime_s=300)


def authenticator(
    home: Path, tokens: TokenServer, origin: str, entry: Entry = NO_ENTRY, clock: Clock | None = None
) -> Authenticator:
    ensure_key_pair(home)
    return Authenticator(
        parse_url(origin),
        entry=lambda: entry,
        identity=lambda: Identity.load(home),
        fetch=tokens.fetch,
        clock=clock or Clock(),
    )


ANNA = Login("anna", "sesame")


@pytest.mark.parametrize(
    ("origin", "realm", "x", "y"),
    [
        ("https://h", "https://evil.example/token", "evil.example", "h"),
        ("https://h", "https://h:5000/token", "h:5000", "h"),
        ("https://h:5000", "https://h/token", "h", "h:5000"),
        ("https://hf.co", "https://hf.co.evil.example/t", "hf.co.evil.example", "hf.co"),
        ("https://huggingface.co", "https://hf.co/token", "hf.co", "huggingface.co"),
        ("https://hf.co", "https://huggingface.co:8443/token", "huggingface.co:8443", "hf.co"),
    ],
)
async def test_a_realm_elsewhere_gets_nothing(
    tmp_path: Path, tokens: TokenServer, origin: str, realm: str, x: str, y: str
) -> None:
    """Partly S-47, partly X-34: with a key as with a login."""
    for entry in (Entry(), Entry(ANNA), Entry(ANNA, realm="https://auth.corp/token")):
        with pytest.raises(RegistryError, match=f'^realm host "{x}" does not match original host "{y}"$'):
            await authenticator(tmp_path, tokens, origin, entry).answer(Challenge("bearer", realm))
    assert tokens.asked == []


@pytest.mark.parametrize(
    "realm", ["http://h/token", "https://user@h/token", "https://h\\@evil.example/", "/token", "", "ftp://h/t"]
)
async def test_a_realm_of_another_kind_gets_nothing(tmp_path: Path, tokens: TokenServer, realm: str) -> None:
    """Partly X-34."""
    with pytest.raises(RegistryError):
        await authenticator(tmp_path, tokens, "https://h", Entry(ANNA)).answer(Challenge("bearer", realm))
    assert tokens.asked == []


@pytest.mark.parametrize(
    ("origin", "realm"),
    [
        ("https://h", "https://h/token"),
        ("https://H", "https://h:443/token"),
        ("http://h:5000", "http://h:5000/token"),
        ("http://h", "https://h/token"),
        ("https://hf.co", "https://huggingface.co/token"),
    ],
)
async def test_the_signature_goes_to_the_registrys_own_realm_and_its_alias(
    tmp_path: Path, tokens: TokenServer, origin: str, realm: str
) -> None:
    """Partly S-48."""
    auth = authenticator(tmp_path, tokens, origin)
    await auth.answer(Challenge("bearer", realm))
    assert auth.header == "Bearer t1"
    assert len(tokens.asked) == 1


async def test_a_login_goes_to_the_token_server_that_the_file_names(tmp_path: Path, tokens: TokenServer) -> None:
    entry = Entry(ANNA, realm="https://auth.corp/token")
    auth = authenticator(tmp_path, tokens, "https://nexus.corp", entry)
    await auth.answer(Challenge("bearer", "https://auth.corp/token?x=1", "s", "repository:a/b:pull"))
    url, headers = tokens.asked[0]
    assert dict(parse_qsl(url.raw_query_string)) == {
        "account": "anna",
        "scope": "repository:a/b:pull",
        "service": "s",
        "x": "1",
    }
    assert headers == {"Authorization": "Basic " + base64.b64encode(b"anna:sesame").decode()}
    for other in ("https://auth.corp/other", "http://auth.corp/token", "https://auth.corp:444/token"):
        with pytest.raises(RegistryError):
            await auth.answer(Challenge("bearer", other))
    assert len(tokens.asked) == 1


async def test_basic_is_answered_by_a_login_alone(tmp_path: Path, tokens: TokenServer) -> None:
    auth = authenticator(tmp_path, tokens, "https://h", Entry(ANNA))
    await auth.answer(Challenge("basic", "registry"))
    assert auth.header == ANNA.basic
    with pytest.raises(RegistryError, match="unauthorized: access denied: h wants a user name and a password"):
        await authenticator(tmp_path, tokens, "https://h").answer(Challenge("basic", "registry"))
    assert tokens.asked == []


async def test_a_token_that_runs_out_is_replaced_before_it_is_sent(tmp_path: Path, tokens: TokenServer) -> None:
    clock = Clock()
    auth = authenticator(tmp_path, tokens, "https://h", clock=clock)
    await auth.refresh()
    assert auth.header == "", "nobody has asked yet"
    await auth.answer(Challenge("bearer", "https://h/token"))
    clock.now_s += 285
    await auth.refresh()
    assert auth.header == "Bearer t1"
    clock.now_s += 10
    await auth.refresh()
    assert auth.header == "Bearer t2"


async def test_secrets_are_taken_out_of_foreign_texts(tmp_path: Path, tokens: TokenServer) -> None:
    """Partly X-36."""
    auth = authenticator(tmp_path, tokens, "https://h", Entry(ANNA))
    await auth.answer(Challenge("bearer", "https://h/token"))
    echo = f"got {auth.header}, {ANNA.basic} and sesame"
    assert auth.redact(echo) == "got Bearer [redacted], Basic [redacted] and [redacted]"
