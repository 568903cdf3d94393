"""Who may reach a handler: verdicts for heads of requests."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import BadRequest
from llamero.server.guard import Guard, Role, Verdict
from llamero.server.origins import DEFAULT_ORIGINS

OWN = frozenset(ip_address(text) for text in ("127.0.0.1", "::1", "203.0.113.7", "2001:db8:1:2::5"))
LOCALHOST = "localhost:11434"
PUBLIC_PEERS = ["8.8.8.8", "2001:db8:9::1", "::ffff:8.8.8.8", "not an address", ""]
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
ROLES: list[Role | None] = ["none", "infer", "admin", None]
HOST_WARNING = ("Llamero-Warning", "host not allowed, see LLAMERO_ALLOWED_HOSTS")
EXPOSED = ("Access-Control-Expose-Headers", "X-Request-Id,Request-Id,Llamero-Warning")


def guard(*, wide: bool = False, public: bool = False, origins: str = "", hosts: str = "") -> Guard:
    return Guard(
        origins=origins.split(),
        allowed_hosts=hosts.split(),
        loopback_bind=not wide,
        insecure_public=public,
        host_names=["MyBox"],
        own_addresses=lambda: OWN,
    )


def ask(
    to: Guard,
    *more: tuple[str, str],
    method: str = "GET",
    host: str | None = LOCALHOST,
    origin: str | None = None,
    peer: str | None = "127.0.0.1",
    role: Role | None = "admin",
    http_version: str = "1.1",
) -> Verdict:
    lines = [("accept", "*/*"), *more]
    if host is not None:
        lines.append(("host", host))
    if origin is not None:
        lines.append(("origin", origin))
    headers = [(name.encode(), value.encode("latin-1")) for name, value in lines]
    return to.check(method=method, headers=headers, peer=peer, role=role, http_version=http_version)


def error_of(verdict: Verdict) -> str:
    assert verdict.error is not None
    assert verdict.error.status == verdict.status
    return str(verdict.error)


def test_a_plain_local_request_passes_without_any_header() -> None:
    assert ask(guard()) == Verdict(True)


# --- Host ----------------------------------------------------------------------------------------------------------

GOOD_HOSTS = [
    "localhost",
    "LOCALHOST:1",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:11434",
    "127.9.9.9",
    "[::1]:11434",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "[::]:80",
    "mybox",
    "MYBOX:11434",
    "a.local",
    "foo.local:8080",
    "b.internal",
    "B.Internal.",
    "c.localhost",
    "192.168.1.9",
    "192.168.1.5",
    "10.0.0.1",
    "172.16.0.1",
    "[fd00::1]",
    "203.0.113.7",  # our own
    "[2001:DB8:1:2:0::5]:11434",  # our own, in another spelling
    "",
    ":11434",
]

BAD_HOSTS = [
    "evil.test",
    "evil.test:11434",
    "evil.example",
    "evil.test.",
    "localhost.evil.test",
    "127.0.0.1.nip.io",
    "8.8.8.8",
    "evil.local.test",
    "xlocalhost",
    "notlocal",
    "127.1",
    "0x7f.0.0.1",
    "172.32.0.1",
    "100.64.0.1",
    "203.0.113.8",
    "[2001:db8::1]",
    "[::ffff:8.8.8.8]",
    "mybox.evil.test",
]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_a_loopback_bind_serves_local_hosts(host: str) -> None:
    """X-02; partly N-13."""
    assert ask(guard(), host=host) == Verdict(True)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_loopback_bind_refuses_every_other_host(host: str) -> None:
    """X-03: 403, empty; the warning names the setting and not the value; partly N-13."""
    assert ask(guard(), host=host) == Verdict(False, 403, (HOST_WARNING,))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", METHODS)
def test_a_foreign_host_is_refused_whatever_is_asked(method: str, role: Role | None) -> None:
    """partly X-01: no role, no method, no origin helps; the real routes are tried in `test_strangers`."""
    for origin in (None, "http://localhost:3000", "http://evil.test"):
        for origins in ("", "*"):
            verdict = ask(guard(origins=origins), method=method, role=role, host="evil.test", origin=origin)
            assert verdict == Verdict(False, 403, (HOST_WARNING,))


def test_a_foreign_host_does_not_make_its_page_same_origin() -> None:
    """X-10: the Host is judged before it is compared with the Origin, on every bind."""
    rebound = {"host": "evil.test:11434", "origin": "http://evil.test:11434"}
    assert ask(guard(), **rebound).status == 403
    assert ask(guard(wide=True), **rebound).status == 403


@pytest.mark.parametrize(
    ("hosts", "host", "served"),
    [
        ("llm.example.com", "llm.example.com", True),
        ("llm.example.com", "LLM.Example.com.:443", True),
        ("LLM.example.com:8080", "llm.example.com", True),  # a port is ignored on both sides
        ("llm.example.com", "a.llm.example.com", False),
        ("llm.example.com", "llm.example.com.evil.test", False),
        (".example.com", "a.example.com", True),
        (".example.com", "a.b.example.com", True),
        (".example.com", "example.com", False),
        (".example.com", "badexample.com", False),
        ("8.8.8.8 [2001:db8::1]", "[2001:DB8:0::1]:80", True),
        ("8.8.8.8 [2001:db8::1]", "8.8.8.8", True),
        ("*", "evil.test", True),
        ("other.test *", "8.8.8.8", True),
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_hosts_can_be_added(hosts: str, host: str, served: bool, wide: bool) -> None:
    verdict = ask(guard(hosts=hosts, wide=wide), ("user-agent", "Mozilla/5.0"), host=host)
    assert verdict.allowed is served


@pytest.mark.parametrize(
    "entry", ["http://llm.example.com", "*.example.com", ".", "a b", "user@host", "a/b", "[1.2.3.4]"]
)
def test_an_allowed_host_that_is_none_stops_the_start(entry: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Guard(
            origins=(),
            allowed_hosts=[entry],
            loopback_bind=True,
            insecure_public=False,
            host_names=(),
            own_addresses=frozenset,
        )
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize("browser", [("origin", "http://localhost:3000"), ("user-agent", "Mozilla/5.0 (X11)")])
@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("llm.example.com", False),
        ("a.llm.example.com:11434", False),
        ("8.8.8.8", True),
        ("[2001:db8::1]:11434", True),
        ("ollama", True),  # a container's name
        ("my_service:11434", True),
        ("box.local", True),
        ("", True),
        ("listed.example.com", True),
    ],
)
def test_a_wide_bind_checks_the_host_of_browsers(browser: tuple[str, str], host: str, served: bool) -> None:
    """X-04, with the next one and `test_guard_with_keys`: names that a browser may not use."""
    verdict = ask(guard(wide=True, hosts="listed.example.com"), browser, host=host)
    assert verdict.allowed is served
    if not served:
        assert verdict.status == 403
        assert verdict.headers == (HOST_WARNING,)
        assert error_of(verdict) == HOST_WARNING[1]


@pytest.mark.parametrize("agent", ["curl/8.5.0", "ollama-python/0.6.0 (x86_64 linux) Python/3.12", "NotMozilla/5.0"])
def test_a_wide_bind_serves_other_programs_under_any_name(agent: str) -> None:
    """X-04, with the one before."""
    assert ask(guard(wide=True), ("user-agent", agent), host="llm.example.com") == Verdict(True)


@pytest.mark.parametrize(
    "host",
    [
        "user@localhost",
        "user:pw@localhost",
        "local\x00host",
        "local\nhost",
        "localhost\x7f",
        "local host",
        "localhost/x",
        "localhost?x",
        "localhost#x",
        "localhost\\x",
        "localhost,localhost",
        "localhost:1a",
        "localhost:123456",
        "local%68ost",
        "löcalhost",
        "::1",
        "[::1",
        "[127.0.0.1]",
        "[localhost]",
        "[::1]x",
        "a" * 261,
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_a_malformed_host_is_a_bad_request(host: str, wide: bool) -> None:
    """On every bind, also where any name would do, and where the check is switched off."""
    for hosts in ("", "*"):
        verdict = ask(guard(wide=wide, hosts=hosts), host=host)
        assert (verdict.allowed, verdict.status) == (False, 400)
        assert error_of(verdict) == "malformed Host header"


@pytest.mark.parametrize("second", ["localhost", LOCALHOST, "evil.test", ""])
def test_two_hosts_are_a_bad_request(second: str) -> None:
    """X-09, with `test_two_origins_are_refused`."""
    verdict = ask(guard(), ("host", second))
    assert (verdict.allowed, verdict.status) == (False, 400)
    assert error_of(verdict) == "more than one Host header"


def test_only_http_1_0_may_leave_the_host_out() -> None:
    verdict = ask(guard(), host=None)
    assert (verdict.status, error_of(verdict)) == (400, "missing Host header")
    assert ask(guard(), host=None, http_version="1.0").allowed


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost:11434", True),
        ("127.0.0.1:11434", True),
        ("203.0.113.7", True),
        ("[2001:db8:1:2::5]:80", True),
        ("MyBox:11434", True),
        ("mybox.local.", True),
        ("llm.example.com", True),
        ("a.corp.example", True),
        ("192.168.1.9:11434", False),
        ("evil.local", False),
        ("mybox.evil.test", False),
        ("xmybox.local", False),
        ("0.0.0.0:11434", False),
        ("evil.internal", False),
        (":11434", False),
        ("", False),
        ("mybox@evil.test", False),
    ],
)
def test_what_is_signed_for_one_of_our_names_was_meant_for_us(host: str, ours: bool) -> None:
    for wide in (False, True):
        assert guard(wide=wide, hosts="llm.example.com .corp.example").is_ours(host) is ours
    assert guard(hosts="*").is_ours("evil.local")


# --- Origin --------------------------------------------------------------------------------------------------------


def cors(origin: str) -> tuple[tuple[str, str], ...]:
    return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"), EXPOSED)


@pytest.mark.parametrize(
    "origin",
    [
        *(
            f"{scheme}://{host}{port}"
            for scheme in ("http", "https")
            for host in ("localhost", "127.0.0.1", "0.0.0.0")
            for port in ("", ":1", ":3000", ":65535")
        ),
        "HTTP://LocalHost:3000",
        "app://obsidian.md",
        "app://-",
        "file://",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://vscode-app",
    ],
)
def test_local_origins_are_allowed_and_echoed(origin: str) -> None:
    """X-05, with the next one; partly N-10, partly N-14."""
    assert ask(guard(), origin=origin) == Verdict(True, headers=cors(origin))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://evil.test",
        "null",
        "http://localhost:1a",
        "http://localhost:",
        "http://localhost:3000/",
        "http://localhost:3000.evil.test",
        "http://localhost.evil.test",
        "http://evil.test#http://localhost",
        "http://localhost@evil.test",
        "http://user@localhost",
        "http://127.0.0.1.nip.io",
        "http://[::1]:3000",
        "ws://localhost",
        "chrome-extension://abc",
        "moz-extension://abc",
        "localhost",
        "http://",
        "://localhost",
        "app://a\r\nX: y",
        "app://" + "a" * 600,
    ],
)
def test_other_origins_are_refused_in_silence(origin: str, method: str) -> None:
    """X-05, with the one before. 403, empty, no headers, on every method; partly N-10, partly N-14."""
    for role in ROLES:
        assert ask(guard(), origin=origin, method=method, role=role) == Verdict(False, 403)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_no_content_type_helps_a_foreign_page(content_type: str) -> None:
    """partly X-08: a request that browsers send without a preflight."""
    for method in ("POST", "DELETE"):
        verdict = ask(guard(), ("content-type", content_type), method=method, origin="https://evil.test")
        assert verdict == Verdict(False, 403)


@pytest.mark.parametrize("first", ["http://localhost:3000", "null", "http://evil.test"])
def test_two_origins_are_refused(first: str) -> None:
    """X-09, with `test_two_hosts_are_a_bad_request`."""
    for origins in ("", "*"):
        verdict = ask(guard(origins=origins), ("origin", first), origin="http://localhost:3000")
        assert verdict == Verdict(False, 403)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("192.168.1.9:11434", "http://192.168.1.9:11434"),
        ("box.local", "https://box.local"),
        ("Box.local:80", "http://box.LOCAL:80"),
        ("[fd00::1]:11434", "http://[fd00::1]:11434"),
    ],
)
def test_our_own_pages_need_no_cors(host: str, origin: str) -> None:
    assert ask(guard(), host=host, origin=origin) == Verdict(True)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("192.168.1.9:11434", "http://192.168.1.9"),
        ("192.168.1.9:11434", "http://192.168.1.9:80"),
        ("box.local", "ws://box.local"),
        ("box.local", "http://box.local."),
    ],
)
def test_another_port_or_scheme_is_another_origin(host: str, origin: str) -> None:
    assert ask(guard(), host=host, origin=origin) == Verdict(False, 403)


def test_an_empty_origin_counts_as_none() -> None:
    assert ask(guard(), origin="") == Verdict(True)


@pytest.mark.parametrize(
    ("method", "site", "allowed"),
    [
        ("GET", "cross-site", True),
        ("HEAD", "cross-site", True),
        ("POST", "cross-site", False),
        ("DELETE", "cross-site", False),
        ("OPTIONS", "cross-site", False),
        ("POST", "same-site", True),
        ("POST", "same-origin", True),
        ("POST", "none", True),
    ],
)
def test_a_cross_site_write_without_an_origin_is_refused(method: str, site: str, allowed: bool) -> None:
    verdict = ask(guard(), ("sec-fetch-site", site), method=method)
    assert verdict == (Verdict(True) if allowed else Verdict(False, 403))


def test_an_allowed_origin_may_be_cross_site() -> None:
    verdict = ask(guard(), ("sec-fetch-site", "cross-site"), method="POST", origin="app://obsidian.md")
    assert verdict.allowed


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ("https://chat.example.com", "https://chat.example.com", True),
        ("HTTPS://Chat.Example.com", "https://chat.example.com", True),
        ("https://chat.example.com", "http://chat.example.com", False),
        ("https://chat.example.com", "https://chat.example.com:8443", False),
        ("https://chat.example.com", "https://chat.example.com.evil.test", False),
        ("https://chat.example.com", "https://chatxexample.com", False),
        ("https://chat.example.com", "http://localhost:3000", True),  # the built-in ones stay
        ("http://a.test http://b.test:81", "http://b.test:81", True),
        ("http://[fd00::1]:3000", "http://[fd00::1]:3000", True),
        ("http://192.168.1.5:*", "http://192.168.1.5:8080", True),
        ("http://192.168.1.5:*", "http://192.168.1.5", False),
        ("http://192.168.1.5:*", "http://192.168.1.5:", False),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evil.test/.example.com", False),
        ("https://*.example.com", "https://evil.test#.example.com", False),
        ("https://*.example.com", "https://a.example.com:81", False),
        ("http://*:3000", "http://anything.test:3000", True),
        ("*.example.com", "http://a.example.com", True),
        ("http*", "https://anything.test", True),
        ("http:*", "http://anything.test", True),
        ("http:*", "https://anything.test", False),
        ("chrome-extension://*", "chrome-extension://abcdef", True),
        ("chrome-extension://abc", "chrome-extension://abc", True),
        ("chrome-extension://abc", "chrome-extension://abd", False),
        ("moz-extension://* safari-web-extension://*", "moz-extension://1-2-3", True),
        ("moz-extension://* safari-web-extension://*", "safari-web-extension://1-2-3", True),
        ("https://*", "null", False),
    ],
)
def test_origins_can_be_added(origins: str, origin: str, allowed: bool) -> None:
    """partly X-07: exact ones and wildcards; the refused start is in `test_start`."""
    verdict = ask(guard(origins=origins), origin=origin)
    assert verdict == (Verdict(True, headers=cors(origin)) if allowed else Verdict(False, 403))


@pytest.mark.parametrize("origin", ["https://anything.test", "null", "chrome-extension://abc", "http://localhost"])
def test_a_star_opens_for_every_page(origin: str) -> None:
    """partly X-07. `null` too: a page opened from a file sends it."""
    verdict = ask(guard(origins="https://a.test *"), origin=origin)
    assert verdict == Verdict(True, headers=(("Access-Control-Allow-Origin", "*"), EXPOSED))


@pytest.mark.parametrize(
    "entry",
    [
        "chat.example.com",
        "localhost:3000",
        "null",
        "ftp://example.com",
        "app://exact",
        "https://a.test/path",
        "https://a.test/",
        "https://user@a.test",
        "https://a.test:port",
        "https://*.example.*",
        "**",
    ],
)
def test_an_origin_that_is_none_stops_the_start(entry: str) -> None:
    """partly X-07: the guard cannot be built, and says which entry is wrong."""
    with pytest.raises(BadRequest) as caught:
        guard(origins=f"http://fine.test {entry}")
    assert repr(entry) in str(caught.value)


def test_the_built_in_origins_are_those_of_the_reference() -> None:
    assert set(DEFAULT_ORIGINS) == {
        *(f"{scheme}://localhost" for scheme in ("http", "https")),
        *(f"{scheme}://localhost:*" for scheme in ("http", "https")),
        *(f"{scheme}://127.0.0.1" for scheme in ("http", "https")),
        *(f"{scheme}://127.0.0.1:*" for scheme in ("http", "https")),
        *(f"{scheme}://0.0.0.0" for scheme in ("http", "https")),
        *(f"{scheme}://0.0.0.0:*" for scheme in ("http", "https")),
        *("app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"),
    }


# --- OPTIONS -------------------------------------------------------------------------------------------------------

ALLOWED_HEADERS = (
    "Authorization Content-Type User-Agent Accept X-Requested-With OpenAI-Beta x-stainless-arch x-stainless-async "
    "x-stainless-custom-poll-interval x-stainless-helper-method x-stainless-lang x-stainless-os "
    "x-stainless-package-version x-stainless-poll-helper x-stainless-retry-count x-stainless-runtime "
    "x-stainless-runtime-version x-stainless-timeout x-api-key anthropic-version anthropic-beta "
    "anthropic-dangerous-direct-browser-access OpenAI-Organization OpenAI-Project x-stainless-helper "
    "x-stainless-read-timeout Llamero-Priority"
).lower()


def joined(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """As a client sees them: lines of one name are one list."""
    lines: dict[str, str] = {}
    for name, value in headers:
        lines[name] = f"{lines[name]}, {value}" if name in lines else value
    return lines


@pytest.mark.parametrize("role", ROLES)
def test_a_preflight_of_an_allowed_origin_is_answered(role: Role | None) -> None:
    """X-06 and N-11; refusals are `test_other_origins_are_refused_in_silence`."""
    preflight = ("access-control-request-method", "POST")
    verdict = ask(guard(), preflight, method="OPTIONS", origin="http://localhost:3000", role=role)
    assert (verdict.allowed, verdict.status, verdict.error) == (False, 204, None)
    headers = joined(verdict.headers)
    assert headers.pop("Access-Control-Allow-Headers").lower().split(",") == ALLOWED_HEADERS.split()
    assert headers == {
        "Access-Control-Allow-Origin": "http://localhost:3000",
        "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
        "Access-Control-Max-Age": "43200",
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def test_a_preflight_with_every_origin_allowed_varies_with_nothing() -> None:
    headers = joined(ask(guard(origins="*"), method="OPTIONS", origin="https://a.test").headers)
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert "Vary" not in headers


def test_only_an_allowed_origin_may_come_from_a_public_into_a_private_network() -> None:
    asked = ("access-control-request-private-network", "true")
    allowed = joined(ask(guard(), asked, method="OPTIONS", origin="http://localhost").headers)
    assert allowed["Access-Control-Allow-Private-Network"] == "true"
    assert ask(guard(), asked, method="OPTIONS", origin="http://evil.test") == Verdict(False, 403)


@pytest.mark.parametrize(
    ("host", "wide", "origin", "answered"),
    [
        ("localhost", False, None, True),
        ("a.local:11434", False, None, True),
        ("", False, None, True),
        ("listed.test", False, None, True),
        ("localhost", False, "http://localhost", True),  # the same host: no preflight
        ("127.0.0.1", False, None, False),
        ("127.0.0.1", False, "http://127.0.0.1", False),
        ("[::1]:11434", False, None, False),
        ("localhost", True, None, False),
    ],
)
def test_options_of_a_local_name_is_answered_and_else_routed(
    host: str, wide: bool, origin: str | None, answered: bool
) -> None:
    """partly N-12: what is allowed goes on to the router, which says 405 or 404."""
    verdict = ask(guard(wide=wide, hosts="listed.test"), method="OPTIONS", host=host, origin=origin)
    assert verdict == (Verdict(False, 204) if answered else Verdict(True))


# --- peers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "peer",
    [
        None,  # a unix socket
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "203.0.113.7",  # our own
        "10.0.0.9",
        "192.168.1.20",
        "::ffff:192.168.1.20",
        "100.100.1.1",
        "fe80::1%eth0",
        "2001:db8:1:2::99",  # in the /64 of our own
    ],
)
@pytest.mark.parametrize("role", ROLES)
def test_near_peers_may_do_everything(peer: str | None, role: Role | None) -> None:
    """X-51, with the next one and `test_a_wide_bind_is_named_at_start`."""
    assert ask(guard(wide=True), peer=peer, role=role) == Verdict(True, rights="admin")


@pytest.mark.parametrize("peer", PUBLIC_PEERS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("method", METHODS)
def test_public_peers_are_refused_on_every_route(peer: str, role: Role | None, method: str) -> None:
    """X-51, with the one before. Also preflights, and whoever says to speak for somebody near."""
    spoofed = ("x-forwarded-for", "127.0.0.1")
    for more in ((), (spoofed,)):
        verdict = ask(guard(wide=True), *more, peer=peer, role=role, method=method)
        assert (verdict.allowed, verdict.status) == (False, 403)
        assert error_of(verdict).startswith("forbidden: ")
        assert "LLAMERO_INSECURE_PUBLIC" in error_of(verdict)


@pytest.mark.parametrize("peer", PUBLIC_PEERS)
def test_public_peers_are_served_where_the_operator_says_so(peer: str) -> None:
    assert ask(guard(wide=True, public=True), peer=peer) == Verdict(True)


def test_a_page_of_an_allowed_origin_can_read_why_it_is_refused() -> None:
    verdict = ask(guard(wide=True), peer="8.8.8.8", origin="http://localhost:3000")
    assert verdict.headers == (*cors("http://localhost:3000"), ("Llamero-Warning", error_of(verdict)))


@pytest.mark.parametrize(
    "line",
    [
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-for", ""),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-anything", "1"),
        ("x-real-ip", "127.0.0.1"),
        ("cf-connecting-ip", "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "172.17.0.1", "2001:db8:1:2::99", None])
def test_a_forwarded_request_may_use_models_but_not_manage_them(line: tuple[str, str], peer: str | None) -> None:
    """partly X-52: the proxies that are not listed."""
    for public in (False, True):
        to = guard(wide=True, public=public)
        assert ask(to, line, peer=peer, role="infer") == Verdict(True, rights="infer")
        assert ask(to, line, peer=peer, role="none") == Verdict(True, rights="infer")
        for role in ("admin", None):
            verdict = ask(to, line, peer=peer, role=role, method="POST", origin="http://localhost:3000")
            assert (verdict.allowed, verdict.status) == (False, 403)
            assert verdict.headers == (*cors("http://localhost:3000"), ("Llamero-Warning", error_of(verdict)))
            assert "LLAMERO_TRUSTED_PROXIES" in error_of(verdict)
            assert "OLLAMA_API_KEY" in error_of(verdict)


def test_a_forwarded_preflight_is_answered() -> None:
    forwarded = ("x-forwarded-for", "1.2.3.4")
    assert ask(guard(), forwarded, method="OPTIONS", origin="http://localhost").status == 204


def test_a_forwarded_request_is_judged_by_its_own_host_and_origin() -> None:
    """partly X-52: X-Forwarded-Host says nothing."""
    forwarded = ("x-forwarded-host", "localhost")
    assert ask(guard(), forwarded, host="evil.test", role="infer") == Verdict(False, 403, (HOST_WARNING,))
    assert ask(guard(), forwarded, origin="http://evil.test", role="infer") == Verdict(False, 403)


def test_a_wide_bind_is_named_at_start() -> None:
    """X-51, with `test_near_peers_may_do_everything`."""
    assert guard().start_warning("127.0.0.1:11434") is None
    private = guard(wide=True).start_warning("0.0.0.0:11434")
    assert private is not None
    assert "0.0.0.0:11434" in private
    assert "private network" in private
    public = guard(wide=True, public=True).start_warning("0.0.0.0:11434")
    assert public is not None
    assert "anyone" in public


# --- a browser -----------------------------------------------------------------------------------------------------

FIREFOX = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("method", "role"), [("GET", "infer"), ("POST", "infer"), ("POST", "admin"), ("DELETE", "admin")]
)
def test_a_malicious_page_reaches_no_handler(method: str, role: Role, wide: bool) -> None:
    """partly X-100: the heads that a browser sends for a foreign page, and for a page whose name was rebound to us."""
    foreign = [FIREFOX, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("content-type", "text/plain")]
    rebound = [FIREFOX, ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")]
    attacks = [
        ask(guard(wide=wide), *foreign, method=method, role=role, origin="https://evil.test"),
        ask(guard(wide=wide), *foreign, method=method, role=role, origin="null"),
        # a GET of one's own origin has no Origin header
        ask(guard(wide=wide), *rebound, method=method, role=role, host="evil.test:11434"),
        ask(
            guard(wide=wide),
            *rebound,
            method=method,
            role=role,
            host="evil.test:11434",
            origin="http://evil.test:11434",
        ),
    ]
    assert [verdict.status for verdict in attacks] == [403] * 4
    assert not any(verdict.allowed for verdict in attacks)


# --- any bytes at all ----------------------------------------------------------------------------------------------

NAMES = [b"host", b"origin", b"user-agent", b"sec-fetch-site", b"forwarded", b"x-real-ip", b"accept"]
PIECES = [
    b"localhost",
    b"http://",
    b":",
    b"11434",
    b"[::1]",
    b"[",
    b"]",
    b".",
    b"*",
    b"@",
    b"\r\n",
    b"\0",
    b"\xff",
    b"%",
]
VALUES = st.binary(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6), st.sampled_from(METHODS), st.booleans())
def test_any_head_gets_a_verdict_and_nothing_unclean_is_echoed(
    headers: list[tuple[bytes, bytes]], method: str, wide: bool
) -> None:
    verdict = guard(wide=wide).check(method=method, headers=headers, peer="127.0.0.1", role="infer")
    for name, value in verdict.headers:
        assert f"{name}{value}".isascii()
        assert f"{name}{value}".isprintable()
