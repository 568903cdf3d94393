"""Who may reach a handler where there are keys, proxies or lists of addresses: verdicts for heads of requests."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import BadRequest, Unauthorized
from llamero.server.attempts import Attempts
from llamero.server.guard import Guard, Role, Verdict
from llamero.server.keys import Keys, read_lines

SECRETS = {name: f"the-secret-of-{name}" for name in ("admin", "infer", "expired")}
KEYS = Keys(
    read_lines(
        f"""
        boss   admin  {SECRETS["admin"]}
        guest  infer  {SECRETS["infer"]}
        gone   admin  {SECRETS["expired"]} expires=2020-01-01T00:00:00Z
        """
    )
)
NOW_S = 1_800_000_000.0
LOCALHOST = "localhost:11434"
OWN = frozenset([ip_address("127.0.0.1")])
ROLES: list[Role | None] = ["none", "infer", "share", "admin", None]
FIREFOX = ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")


def guard(
    *,
    keys: Keys = KEYS,
    wide: bool = False,
    public: bool = False,
    admin_loopback: bool = False,
    allow: str = "",
    proxies: str = "",
    attempts: Attempts | None = None,
) -> Guard:
    return Guard(
        origins=(),
        allowed_hosts=(),
        loopback_bind=not wide,
        insecure_public=public,
        host_names=["MyBox"],
        own_addresses=lambda: OWN,
        allow_ips=allow.split(),
        trusted_proxies=proxies.split(),
        admin_loopback=admin_loopback,
        keys=lambda: keys,
        attempts=attempts,
        clock=lambda: NOW_S,
    )


def bearer(secret: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {secret}")


def ask(
    to: Guard,
    *more: tuple[str, str],
    method: str = "POST",
    host: str = LOCALHOST,
    peer: str | None = "127.0.0.1",
    role: Role | None = "infer",
) -> Verdict:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in (("host", host), *more)]
    return to.check(method=method, headers=headers, peer=peer, role=role)


def statuses(to: Guard, *more: tuple[str, str], **asked: str | None) -> dict[Role | None, int]:
    return {role: ask(to, *more, role=role, **asked).status for role in ROLES}  # type: ignore[arg-type]


# --- keys ----------------------------------------------------------------------------------------------------------

EVERYTHING = dict.fromkeys(ROLES, 200)
FOR_INFER: dict[Role | None, int] = {"none": 200, "infer": 200, "share": 200, "admin": 403, None: 403}
FOR_NOBODY: dict[Role | None, int] = {"none": 200, "infer": 401, "share": 200, "admin": 401, None: 401}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ([], FOR_NOBODY),
        ([bearer(SECRETS["admin"])], EVERYTHING),
        ([bearer(SECRETS["infer"])], FOR_INFER),
        ([bearer(SECRETS["expired"])], FOR_NOBODY),
        ([bearer("some-other-secret")], FOR_NOBODY),
        ([("authorization", f"bEARER {SECRETS['admin']}")], EVERYTHING),
        ([("authorization", f"Bearer  {SECRETS['admin']}")], FOR_NOBODY),
        ([("authorization", f"Basic {SECRETS['admin']}")], FOR_NOBODY),
        ([("authorization", SECRETS["admin"])], FOR_NOBODY),
        ([("authorization", "Bearer")], FOR_NOBODY),
        ([bearer("")], FOR_NOBODY),
        ([("x-api-key", SECRETS["admin"])], EVERYTHING),
        ([("x-api-key", SECRETS["infer"])], FOR_INFER),
        ([("x-api-key", SECRETS["infer"].upper())], FOR_NOBODY),
        ([("x-api-key", "")], FOR_NOBODY),
        ([bearer(SECRETS["infer"]), ("x-api-key", SECRETS["infer"])], FOR_INFER),
        ([bearer(SECRETS["admin"]), ("x-api-key", "")], EVERYTHING),
        ([("authorization", "Basic dTpw"), ("x-api-key", SECRETS["admin"])], EVERYTHING),  # a proxy's own login
        ([("cookie", f"api_key={SECRETS['admin']}")], FOR_NOBODY),
    ],
)
def test_what_a_key_opens(shown: list[tuple[str, str]], expected: dict[Role | None, int]) -> None:
    """partly X-43: both forms are equal, and nothing else is a key."""
    assert statuses(guard(), *shown) == expected
    for verdict in (ask(guard(), *shown, role=role) for role in ("infer", "admin")):
        assert verdict.allowed is (verdict.status == 200)
        assert isinstance(verdict.error, Unauthorized) is (verdict.status == 401)


def test_the_rights_are_those_of_the_key() -> None:
    for name, secret in (("boss", SECRETS["admin"]), ("guest", SECRETS["infer"])):
        verdict = ask(guard(), bearer(secret))
        assert verdict.key is not None
        assert (verdict.key.name, verdict.rights) == (name, verdict.key.role)
    assert ask(guard(), role="none").rights == "infer"


@pytest.mark.parametrize(
    "shown",
    [
        [bearer(SECRETS["infer"]), ("x-api-key", SECRETS["admin"])],
        [bearer("wrong"), ("x-api-key", SECRETS["admin"])],
        [bearer(SECRETS["admin"]), bearer(SECRETS["admin"])],
        [bearer("wrong"), bearer(SECRETS["admin"])],
        [("authorization", "Basic dTpw"), bearer(SECRETS["admin"])],
        [("x-api-key", SECRETS["admin"]), ("x-api-key", SECRETS["admin"])],
    ],
)
def test_more_than_one_key_is_a_bad_request_where_there_are_keys(shown: list[tuple[str, str]]) -> None:
    """partly X-43."""
    assert set(statuses(guard(), *shown).values()) == {400}
    assert isinstance(ask(guard(), *shown).error, BadRequest)
    assert ask(guard(keys=Keys()), *shown, role="admin") == Verdict(True)


def test_without_keys_nobody_looks_at_them() -> None:
    for shown in (bearer("anything"), ("x-api-key", "anything")):
        assert ask(guard(keys=Keys()), shown, role="admin") == Verdict(True)


@pytest.mark.parametrize("peer", ["8.8.8.8", "2001:db8::9", "192.168.1.5", "not an address", None])
def test_a_good_key_is_served_from_anywhere(peer: str | None) -> None:
    """The gate is for servers without keys (security §6.5)."""
    for more in ([], [("x-forwarded-for", "1.2.3.4")]):
        assert statuses(guard(wide=True), bearer(SECRETS["admin"]), *more, peer=peer) == EVERYTHING
        assert statuses(guard(wide=True), *more, peer=peer) == FOR_NOBODY


def test_a_key_file_without_keys_opens_nothing() -> None:
    assert statuses(guard(keys=Keys(required=True))) == FOR_NOBODY


def test_keys_switch_the_check_of_the_host_off_where_others_can_connect() -> None:
    """X-04, with `test_guard`: no page of a foreign name has a key."""
    name = "llm.example.com"
    for more in ([FIREFOX], [("origin", "http://localhost:3000")]):
        assert ask(guard(wide=True), *more, bearer(SECRETS["admin"]), host=name).allowed
        assert ask(guard(wide=True), *more, host=name).status == 401
        assert ask(guard(wide=True, keys=Keys()), *more, host=name).status == 403
        assert ask(guard(), *more, bearer(SECRETS["admin"]), host=name).status == 403
    assert ask(guard(wide=True), bearer(SECRETS["admin"]), host="a b").status == 400


def test_keys_leave_the_check_of_the_origin_on() -> None:
    verdict = ask(guard(wide=True), bearer(SECRETS["admin"]), ("origin", "https://evil.test"))
    assert verdict == Verdict(False, 403)
    refused = ask(guard(), ("origin", "http://localhost:3000"))
    assert refused.status == 401
    assert ("Access-Control-Allow-Origin", "http://localhost:3000") in refused.headers


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ([("origin", "http://localhost:3000"), ("access-control-request-method", "POST")], 204),
        ([("origin", "http://localhost:3000")], 401),
        ([], 401),
        ([("access-control-request-method", "POST")], 401),
        ([("origin", "https://evil.test"), ("access-control-request-method", "POST")], 403),
    ],
)
def test_only_a_true_preflight_needs_no_key(more: list[tuple[str, str]], status: int) -> None:
    for role in ("infer", "admin", None):
        assert ask(guard(), *more, method="OPTIONS", role=role).status == status


# --- wrong keys ----------------------------------------------------------------------------------------------------

MINUTE_NS = 60 * 10**9


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_x46_an_address_that_guesses_has_to_wait_and_a_good_key_never_has() -> None:
    """X-46."""
    clock = Clock()
    to = guard(wide=True, attempts=Attempts(clock))
    wrong = bearer("a-wrong-guess")
    assert [ask(to, wrong, peer="10.0.0.1").status for _ in range(12)] == [401] * 10 + [429] * 2
    held = ask(to, wrong, peer="10.0.0.1")
    assert held.error is not None
    assert held.error.headers == {"Retry-After": "6"}
    assert ask(to, bearer(SECRETS["infer"]), peer="10.0.0.1").allowed
    assert ask(to, bearer(SECRETS["infer"]), peer="10.0.0.2").allowed
    assert ask(to, wrong, peer="10.0.0.2").status == 401
    assert ask(to, peer="10.0.0.1").status == 401  # no key at all is no guess
    clock.now_ns += 6 * 10**9
    assert [ask(to, wrong, peer="10.0.0.1").status for _ in range(2)] == [401, 429]
    clock.now_ns += 2 * MINUTE_NS
    assert [ask(to, wrong, peer="10.0.0.1").status for _ in range(11)] == [401] * 10 + [429]


def test_the_addresses_of_one_ipv6_customer_count_as_one() -> None:
    to = guard(wide=True, attempts=Attempts(Clock()))
    answers = [ask(to, bearer("a-wrong-guess"), peer=f"2001:db8:0:1::{number:x}").status for number in range(11)]
    assert answers == [401] * 10 + [429]
    assert ask(to, bearer("a-wrong-guess"), peer="2001:db8:0:2::1").status == 401


def test_guesses_count_for_the_client_behind_a_trusted_proxy() -> None:
    to = guard(wide=True, proxies="10.0.0.1", attempts=Attempts(Clock()))
    wrong = bearer("a-wrong-guess")
    for number in range(11):
        ask(to, wrong, ("x-forwarded-for", f"7.7.7.{number}, 1.2.3.4"), peer="10.0.0.1")
    assert ask(to, wrong, ("x-forwarded-for", "1.2.3.4"), peer="10.0.0.1").status == 429
    assert ask(to, wrong, ("x-forwarded-for", "1.2.3.5"), peer="10.0.0.1").status == 401
    # whoever is no trusted proxy cannot put his guesses on somebody else's account
    assert [ask(to, wrong, ("x-forwarded-for", f"1.2.3.{n}"), peer="10.0.0.9").status for n in range(11)][-1] == 429


# --- LLAMERO_ADMIN_LOOPBACK ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "more", "host", "is_admin"),
    [
        ("127.0.0.1", [], LOCALHOST, True),
        ("::1", [], LOCALHOST, True),
        (None, [], LOCALHOST, True),
        ("127.0.0.1", [bearer(SECRETS["infer"])], LOCALHOST, True),
        ("127.0.0.1", [bearer("a-wrong-one")], LOCALHOST, True),
        ("127.0.0.1", [FIREFOX], LOCALHOST, True),
        ("192.168.1.5", [], LOCALHOST, False),
        ("127.0.0.1", [("x-forwarded-for", "127.0.0.1")], LOCALHOST, False),
        ("127.0.0.1", [("forwarded", "for=1.2.3.4")], LOCALHOST, False),
        # a page whose name was rebound to this machine comes from loopback too
        ("127.0.0.1", [FIREFOX], "evil.test:11434", False),
        ("127.0.0.1", [("origin", "http://evil.test:11434")], "evil.test:11434", False),
    ],
)
def test_loopback_is_admin_where_the_operator_says_so(
    peer: str | None, more: list[tuple[str, str]], host: str, is_admin: bool
) -> None:
    to = guard(wide=True, admin_loopback=True)
    assert ask(to, *more, peer=peer, host=host, role="admin").allowed is is_admin
    assert not ask(guard(wide=True), *more, peer=peer, host=host, role="admin").allowed


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "served"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("203.0.113.9", True),
        ("203.0.113.10", False),
        ("127.0.0.1", False),
        ("192.168.1.5", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("not an address", False),
        (None, True),  # a unix socket has no address
    ],
)
def test_x54_only_listed_addresses_may_connect(peer: str | None, served: bool) -> None:
    """X-54: nor does it help to say that one speaks for a listed address."""
    allow = "10.0.0.0/8 203.0.113.9 2001:db8::/32"
    for keys in (Keys(), KEYS):
        to = guard(wide=True, allow=allow, keys=keys)
        for spoofed in ([], [("x-forwarded-for", "10.1.2.3")], [("x-real-ip", "10.1.2.3")]):
            verdict = ask(to, bearer(SECRETS["admin"]), *spoofed, peer=peer)
            assert verdict.allowed is served
            if not served:
                assert verdict.status == 403
                assert "LLAMERO_ALLOW_IPS" in str(verdict.error)
    # before anything else of the request is looked at
    assert ask(guard(allow=allow), host="evil.test", peer="8.8.8.8").error is not None


@pytest.mark.parametrize(
    ("peer", "named"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")]
)
def test_this_machine_is_told_what_to_add_to_a_list_that_leaves_it_out(peer: str, named: str) -> None:
    to = guard(wide=True, allow="10.0.0.0/8")
    verdict = ask(to, method="HEAD", peer=peer, role="none")
    said = f"LLAMERO_ALLOW_IPS does not list {named}; add it and start the server again"
    assert said in str(verdict.error)
    assert verdict.headers == (("Llamero-Warning", str(verdict.error)),), "the reply to a HEAD has no body"
    assert to.shuts_out(peer)
    assert not guard(wide=True, allow=f"10.0.0.0/8 {named}").shuts_out(peer)
    assert not guard(wide=True).shuts_out(peer)


def test_no_other_address_is_named_for_it_may_be_a_proxys() -> None:
    verdict = ask(guard(wide=True, allow="10.0.0.0/8"), peer="192.168.1.5")
    assert str(verdict.error) == "forbidden: this address may not connect: LLAMERO_ALLOW_IPS does not list it"


@pytest.mark.parametrize(("setting", "entry"), [("allow", "10.0.0.0/33"), ("proxies", "my.proxy.test")])
def test_a_list_of_addresses_with_anything_else_stops_the_start(setting: str, entry: str) -> None:
    with pytest.raises(BadRequest, match=f"LLAMERO_.*{entry}"):
        guard(**{setting: f"127.0.0.1 {entry}"})  # type: ignore[arg-type]


def test_a_listed_public_address_is_served_without_keys() -> None:
    to = guard(wide=True, allow="8.8.8.8", keys=Keys())
    assert ask(to, peer="8.8.8.8", role="admin") == Verdict(True)
    assert "LLAMERO_ALLOW_IPS" in str(to.start_warning("0.0.0.0:11434"))
    # but not those for whom it speaks: they may come from anywhere
    assert ask(to, ("x-forwarded-for", "1.2.3.4"), peer="8.8.8.8", role="admin").status == 403
    assert ask(to, ("x-forwarded-for", "1.2.3.4"), peer="8.8.8.8", role="infer").rights == "infer"


@pytest.mark.parametrize("peer", ["127.0.0.1", "172.17.0.3", "8.8.8.8"])
def test_a_trusted_proxy_answers_for_what_it_forwards(peer: str) -> None:
    """partly X-52: everything, from a proxy that is listed."""
    forwarded = ("x-forwarded-for", "1.2.3.4")
    to = guard(wide=True, proxies="127.0.0.1 172.17.0.0/16 8.8.8.8", keys=Keys())
    assert statuses(to, forwarded, peer=peer) == EVERYTHING
    assert ask(to, forwarded, peer=peer, role="admin") == Verdict(True)
    assert ask(to, forwarded, FIREFOX, peer=peer, host="evil.test").status == 403
    assert ask(to, forwarded, ("origin", "https://evil.test"), peer=peer).status == 403
    assert ask(to, forwarded, peer="172.18.0.1", role="admin").status == 403


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4 , 10.0.0.7,10.0.0.8"], "1.2.3.4"),
        ("10.0.0.1", ["10.0.0.6, 10.0.0.7"], "10.0.0.6"),
        ("10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["2001:DB8::1"], "2001:db8::1"),
        ("10.0.0.1", ["1.2.3.4, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["nonsense, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4,"], "10.0.0.1"),
        ("11.0.0.1", ["1.2.3.4"], "11.0.0.1"),
        ("127.0.0.1", ["1.2.3.4"], "127.0.0.1"),
        (None, ["1.2.3.4"], ""),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_trusted_proxy(peer: str | None, lines: list[str], client: str) -> None:
    headers = [(b"x-forwarded-for", line.encode()) for line in lines]
    assert guard(proxies="10.0.0.0/8").client(peer, headers) == client


# --- any bytes at all ----------------------------------------------------------------------------------------------

NAMES = [b"authorization", b"x-api-key", b"x-forwarded-for", b"cookie", b"origin"]
PIECES = [b"Bearer", b" ", b"bearer ", b"the-secret-of-admi", b"N", b",", b"127.0.0.1", b"\xff", b"\0", b"[::1]"]
VALUES = st.binary(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=6), st.sampled_from(ROLES))
def test_no_head_without_a_key_reaches_a_handler(headers: list[tuple[bytes, bytes]], role: Role | None) -> None:
    to = guard(proxies="127.0.0.1")
    verdict = to.check(method="POST", headers=[(b"host", b"localhost"), *headers], peer="127.0.0.1", role=role)
    assert not verdict.allowed or role in ("none", "share")
    assert verdict.key is None
    to.client("127.0.0.1", headers)
