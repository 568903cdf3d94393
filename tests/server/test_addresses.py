"""Which addresses are this machine's own, and which peers are near."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from llamero.server import addresses
from llamero.server.addresses import MAX_AGE_S, Address, OwnAddresses, is_near, is_private, list_addresses, parse

OWN = frozenset(ip_address(text) for text in ("::1", "198.51.100.7", "2001:db8:1:2::5"))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),  # an IPv4 peer of a dual-stack socket
        ("fe80::1%eth0", "fe80::1"),
        ("FE80::A", "fe80::a"),
    ],
)
def test_an_address_is_read_in_its_plainest_form(text: str, address: str) -> None:
    assert parse(text) == ip_address(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "010.0.0.1", "[::1]", "::1:0:0%"]
)
def test_what_only_some_programs_read_as_an_address_is_none(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "party"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::1%eth0", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_an_ipv6_address_counts_for_its_network_and_an_ipv4_one_for_itself(text: str, party: str) -> None:
    assert addresses.party(text) == party


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("10.1.2.3", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.0.1", True),
        ("fd12::1", True),
        ("100.64.0.1", False),
        ("169.254.1.1", False),
        ("192.0.2.1", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
    ],
)
def test_private_means_rfc_1918_and_unique_local(text: str, private: bool) -> None:
    assert is_private(ip_address(text)) is private


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "10.0.0.9",
        "172.17.0.1",
        "192.168.1.20",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.7.7",
        "fd00::1",
        "fe80::1",
        "198.51.100.7",  # our own
        "2001:db8:1:2:ffff::1",  # in the /64 of our own
    ],
)
def test_this_machine_and_private_networks_are_near(text: str) -> None:
    assert is_near(ip_address(text), lambda: OWN)


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "100.128.0.0",
        "172.32.0.1",
        "198.51.100.8",  # beside our own: IPv4 has no such rule
        "2001:db8:1:3::5",  # the next /64
        "::2",  # in the /64 of ::1, which is no network
        "0.0.0.0",
        "224.0.0.1",
    ],
)
def test_everything_else_is_far(text: str) -> None:
    assert not is_near(ip_address(text), lambda: OWN)


def test_interfaces_are_listed_with_loopback_and_the_way_out() -> None:
    found = list_addresses()
    assert ip_address("127.0.0.1") in found
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.18.0.1", 9))  # sends nothing: only asks which of our addresses would be used
        except OSError:
            pytest.skip("no route out of this machine")
        assert ip_address(probe.getsockname()[0]) in found


def test_whatever_is_listed_is_an_address_we_can_bind() -> None:
    # a misread C structure would give addresses that are not ours
    for address in list_addresses():
        if address.is_link_local:
            continue  # needs its interface's number besides
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))


class Interfaces:
    """A machine whose addresses change."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.addresses = OWN
        self.listed = 0
        self.broken = False

    def list(self) -> frozenset[Address]:
        self.listed += 1
        if self.broken:
            raise OSError("no netlink here")
        return self.addresses

    def own(self) -> OwnAddresses:
        return OwnAddresses(self.list, lambda: self.now_s)


def test_a_listing_is_kept_for_a_while_and_then_made_anew() -> None:
    machine = Interfaces()
    own = machine.own()
    assert own() == own() == OWN
    machine.addresses = frozenset()
    machine.now_s += MAX_AGE_S / 2
    assert own() == OWN
    assert machine.listed == 1
    machine.now_s += MAX_AGE_S / 2
    assert own() == frozenset()


def test_a_failed_listing_leaves_the_last_one_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    machine = Interfaces()
    own = machine.own()
    own()
    machine.broken = True
    machine.now_s += MAX_AGE_S
    assert own() == OWN
    assert "no netlink here" in caplog.text


def test_without_any_listing_nothing_is_our_own() -> None:
    machine = Interfaces()
    machine.broken = True
    assert machine.own()() == frozenset()
