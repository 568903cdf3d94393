"""Where requests may go: security §10.1."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import pytest
from yarl import URL

from llamero.errors import Forbidden, RegistryError
from llamero.registry.egress import (
    CheckedResolver,
    Egress,
    Exemption,
    Reach,
    authority,
    join_url,
    parse_url,
    reach_of_address,
    reach_of_name,
    same_origin,
    shown,
)

# --- URLs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("https://registry.ollama.ai", "https://registry.ollama.ai/"),
        ("HTTP://Box:5000/v2/", "http://box:5000/v2/"),
        ("https://h?x=1", "https://h/?x=1"),
        ("https://h/a#fragment", "https://h/a"),
        ("http://[::1]:5000/", "http://[::1]:5000/"),
        pytest.param(
            "https://cdn.example/b%3Ac/%7E+d?X-Amz-Signature=a%2Fb%3D&e=1+2%20",
            "https://cdn.example/b%3Ac/%7E+d?X-Amz-Signature=a%2Fb%3D&e=1+2%20",
            id="a signed URL stays word for word",
        ),
    ],
)
def test_reads_urls(text: str, read: str) -> None:
    assert str(parse_url(text)) == read


@pytest.mark.parametrize(
    "text",
    [
        "",
        "registry.ollama.ai/v2/",
        "ftp://h/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user@h/",
        "https://user:secret@h/",
        "https://good.example\\@evil.example/",
        "https://good.example\\.evil.example/",
        "https://h\t.example/",
        "https://h/a\nb",
        "https://h/a b",
        "https://bücher.example/",
        "https://1。1。1。1/",
        "https://ex%61mple.com/",
        "https://a..b/",
        "https://.a/",
        "https://h:/",
        "https://h:99999/",
        "https://h:5000x/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://fe80::1/",
    ],
)
def test_refuses_urls_that_two_readers_could_read_differently(text: str) -> None:
    with pytest.raises(RegistryError) as refused:
        parse_url(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "1.2.3.4.5"]
)
def test_addresses_in_odd_digits_are_refused(host: str) -> None:
    """Partly X-37: decimal, octal, hexadecimal and shortened forms."""
    with pytest.raises(RegistryError, match="malformed"):
        parse_url(f"http://{host}/")


BASE = "https://h:5000/v2/a/m/blobs/sha256:00?ns=x"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("https://cdn.example/x%3Ay?s=a%2Fb", "https://cdn.example/x%3Ay?s=a%2Fb"),
        ("//cdn.example:1/p", "https://cdn.example:1/p"),
        ("/x%3Ay?s=a%2Fb%3D&z=1+2", "https://h:5000/x%3Ay?s=a%2Fb%3D&z=1+2"),
        ("rel/x%2F", "https://h:5000/v2/a/m/blobs/rel/x%2F"),
        ("../up", "https://h:5000/v2/a/m/up"),
        ("?q=1", "https://h:5000/v2/a/m/blobs/sha256:00?q=1"),
    ],
)
def test_a_location_is_absolute_or_relative(location: str, url: str) -> None:
    assert str(join_url(parse_url(BASE), location)) == url


@pytest.mark.parametrize(
    "location", ["//user@evil.example/", "javascript:alert(1)", "https:/x", "//\\evil.example/", "/ü"]
)
def test_a_strange_location_is_refused(location: str) -> None:
    with pytest.raises(RegistryError):
        join_url(parse_url(BASE), location)


def test_what_a_person_sees_of_a_url() -> None:
    """Partly X-36: neither a query nor the scheme's own port."""
    url = parse_url("https://h:443/a?token=secret")
    assert shown(url) == "https://h/a"
    assert authority(url) == "h"
    assert authority(parse_url("http://h:443/")) == "h:443"


def test_an_origin_is_scheme_host_and_port() -> None:
    url = parse_url("https://h/a")
    assert same_origin(url, parse_url("https://h:443/b"))
    for other in ("http://h/a", "https://h:444/a", "https://www.h/a"):
        assert not same_origin(url, parse_url(other))


# --- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "reach"),
    [
        ("1.1.1.1 104.21.75.227 172.32.0.1 100.128.0.1 2606:4700::1 2001:4860::8888 64:ff9b::808:808", Reach.PUBLIC),
        ("127.0.0.1 127.9.9.9 ::1 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 fd12::1 100.64.0.1", Reach.PRIVATE),
        ("169.254.169.254 169.254.1.1 fe80::1 fec0::1 fd00:ec2::254 100.100.100.200 168.63.129.16", Reach.NEVER),
        ("0.0.0.0 0.1.2.3 :: 224.0.0.1 239.255.255.250 255.255.255.255 240.0.0.1 ff02::1", Reach.NEVER),
        ("::ffff:127.0.0.1 ::ffff:1.1.1.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1", Reach.NEVER),
        ("2002:7f00:1:: 2001:0:1::1", Reach.NEVER),
    ],
)
def test_how_far_an_address_reaches(addresses: str, reach: Reach) -> None:
    for address in addresses.split():
        assert reach_of_address(ip_address(address)) is reach, address


@pytest.mark.parametrize(
    ("names", "reach"),
    [
        ("registry.ollama.ai hf.co notlocal.example internal.example", Reach.PUBLIC),
        (
            "localhost a.localhost box my-box printer.local nas.lan db.internal nexus.corp x.home.arpa localhost.",
            Reach.PRIVATE,
        ),
        ("metadata metadata.google.internal instance-data", Reach.NEVER),
    ],
)
def test_how_far_a_name_reaches_when_a_proxy_resolves_it(names: str, reach: Reach) -> None:
    for name in names.split():
        assert reach_of_name(name) is reach, name


def allowed(egress: Egress, url: str, *, proxied: bool = False) -> bool:
    try:
        egress.check_url(parse_url(url), proxied=proxied)
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://0.0.0.0:11434/",
        "http://[::]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://224.0.0.1/",
    ],
)
def test_some_addresses_are_nobodys_registry(url: str) -> None:
    """Partly X-37: not even for those who may have private hosts; an operator's list alone lifts it."""
    origin = parse_url(url)
    assert not allowed(Egress(origin), url)
    assert not allowed(Egress(origin, may_be_private=True), url)
    assert allowed(Egress(origin, exemptions=(Exemption.parse(f"{origin.host}"),)), url)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.5", "192.168.1.9", "100.64.0.1", "[::1]", "[fd12::1]"])
def test_private_hosts_are_for_trusted_askers_and_only_the_origin(host: str) -> None:
    """Partly X-37."""
    origin = f"http://{host}:5000/"
    assert not allowed(Egress(parse_url(origin)), origin)
    trusted = Egress(parse_url(origin), may_be_private=True)
    assert allowed(trusted, origin)
    assert allowed(trusted, origin + "v2/elsewhere")
    for other in (f"https://{host}:5000/", f"http://{host}:5001/", f"http://{host}/", "http://192.168.77.1:5000/"):
        assert not allowed(trusted, other)


@pytest.mark.parametrize(
    ("entry", "lets", "not_others"),
    [
        ("10.0.0.0/8", "http://10.9.9.9:1/", "http://11.0.0.1.nip.local/"),
        ("10.1.2.3", "http://10.1.2.3:77/", "http://10.1.2.4/"),
        ("10.1.2.3:5000", "http://10.1.2.3:5000/", "http://10.1.2.3/"),
        ("[::1]:5000", "http://[::1]:5000/", "http://[::1]:5001/"),
        ("fd00::/8", "http://[fd12::1]/", "http://[::1]/"),
        ("Box", "http://box:1/", "http://box2/"),
        ("nexus.corp:8081", "http://nexus.corp:8081/", "http://nexus.corp/"),
    ],
)
def test_the_operators_list(entry: str, lets: str, not_others: str) -> None:
    egress = Egress(parse_url("https://registry.ollama.ai"), exemptions=(Exemption.parse(entry),))
    assert allowed(egress, lets, proxied=True)
    assert not allowed(egress, not_others, proxied=True)


@pytest.mark.parametrize("entry", ["10.0.0.0/99", "http://box", "box:port", "a b", "", "[::1", "1.2.3"])
def test_an_entry_that_means_nothing_is_an_error(entry: str) -> None:
    with pytest.raises(RegistryError, match="LLAMERO_ALLOW_PRIVATE_REGISTRIES"):
        Exemption.parse(entry)


def test_a_name_is_judged_as_written_only_behind_a_proxy() -> None:
    egress = Egress(parse_url("https://registry.ollama.ai"))
    assert allowed(egress, "https://cdn.example/", proxied=True)
    assert not allowed(egress, "https://box.lan/", proxied=True)
    assert allowed(egress, "https://box.lan/"), "it is judged when it is resolved"
    assert allowed(Egress(parse_url("https://box.lan"), may_be_private=True), "https://box.lan/", proxied=True)


def test_nobody_asks_himself() -> None:
    egress = Egress(
        parse_url("http://127.0.0.1:11434"),
        may_be_private=True,
        is_own_listener=lambda address, port: address.is_loopback and port == 11434,
        exemptions=(Exemption.parse("127.0.0.0/8"),),
    )
    assert not allowed(egress, "http://127.0.0.1:11434/v2/")
    assert allowed(egress, "http://127.0.0.1:11435/v2/")
    named = replace(egress, exemptions=(Exemption.parse("127.0.0.1:11434"),))
    assert allowed(named, "http://127.0.0.1:11434/v2/"), "somebody else may have our port at another address"


def test_what_was_encrypted_stays_encrypted() -> None:
    """Partly X-38."""
    egress = Egress(parse_url("https://h"))
    egress.check_hop(parse_url("http://h/"), parse_url("https://h/"))
    egress.check_hop(parse_url("http://h/"), parse_url("http://g/"))
    with pytest.raises(Forbidden, match="from https to http"):
        egress.check_hop(parse_url("https://h/"), parse_url("http://h/"))


# --- names to addresses --------------------------------------------------------------------------------------------


def resolver(answers: list[list[str]], **egress: bool) -> CheckedResolver:
    async def lookup(host: str, port: int) -> list[str]:
        return answers.pop(0)

    return CheckedResolver(Egress(URL("https://registry.example/"), **egress), lookup)


async def test_the_connection_gets_the_addresses_that_were_judged() -> None:
    found = await resolver([["1.1.1.1", "2606:4700::1"]]).resolve("registry.example", 443)
    assert [(each["host"], each["port"]) for each in found] == [("1.1.1.1", 443), ("2606:4700::1", 443)]


@pytest.mark.parametrize("bad", ["10.0.0.1", "::1", "169.254.169.254", "::ffff:1.1.1.1"])
async def test_one_bad_address_refuses_them_all(bad: str) -> None:
    with pytest.raises(Forbidden, match=r"^registry\.example:443 is a ") as refused:
        await resolver([["1.1.1.1", bad]]).resolve("registry.example", 443)
    assert bad not in str(refused.value), "the answer of a private DNS is nobody's business"


async def test_the_exception_is_for_the_origins_host_and_port() -> None:
    answers = [["10.0.0.1"], ["10.0.0.1"], ["10.0.0.1"], ["169.254.169.254"]]
    trusted = resolver(answers, may_be_private=True)
    assert await trusted.resolve("registry.example", 443)
    for host, port in (("registry.example", 5000), ("other.example", 443), ("registry.example", 443)):
        with pytest.raises(Forbidden):
            await trusted.resolve(host, port)


async def test_a_name_without_addresses_is_the_systems_error() -> None:
    with pytest.raises(OSError, match="no address"):
        await asyncio.wait_for(resolver([[]]).resolve("registry.example", 443), 1)
