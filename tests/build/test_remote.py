"""Addresses of hosts that run models for us (store-registry §6.3, security §10.1)."""

from __future__ import annotations

import pytest

from llamero.build.remote import is_allowed, parse_remote
from llamero.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://ollama.com:443", "https://ollama.com:443"),
        ("https://ollama.com", "https://ollama.com:443"),
        ("http://ollama.com", "https://ollama.com:443"),
        ("ollama.com", "https://ollama.com:443"),
        ("OLLAMA.com/", "https://ollama.com:443"),
        ("ollama.com:8080", "http://ollama.com:8080"),
        ("gpu-box", "http://gpu-box:11434"),
        ("https://gpu-box", "https://gpu-box:11434"),
        ("gpu-box:80", "http://gpu-box:80"),
        ("gpu-box/", "http://gpu-box:11434"),
        ("gpu-box/a//b/../c/", "http://gpu-box:11434/a/c"),
        ("gpu-box/../..", "http://gpu-box:11434"),
        ("[::1]:9", "http://[::1]:9"),
        ("http://", "http://localhost:11434"),
        ("/", "http://localhost:11434"),
        ("/proxy/./x", "http://localhost:11434/proxy/x"),
    ],
)
def test_an_address_has_one_form(text: str, address: str) -> None:
    assert parse_remote(text) == address
    assert parse_remote(address) == address


@pytest.mark.parametrize(
    "text",
    [
        "ftp://h",
        "http://h:x",
        "http://h:70000",
        "http://[::1",
        "ollama.com@evil.test",
        "https://user:secret@ollama.com",
        "https://evil.test\\@ollama.com",
        "https://ollama.com evil.test",
        "https://ollama.com\n.evil.test",
        "https://ollamа.com",  # the third letter from the end of the name is Cyrillic
        "http://h?q",
        "http://h#f",
    ],
)
def test_an_address_that_two_programs_may_read_differently_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^bad remote$"):
        parse_remote(text)
    assert not is_allowed(text, ["ollama.com", "evil.test", "h"])


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("https://ollama.com:443", True),
        ("ollama.com", True),
        ("http://Gpu-Box:9/x", True),
        ("http://[::1]", True),
        ("https://ollama.com.evil.test", False),
        ("https://evil.test/ollama.com", False),
        ("https://www.ollama.com", False),
        ("https://ollama.comm", False),
        ("", False),
    ],
)
def test_only_exactly_those_hosts_are_allowed(text: str, allowed: bool) -> None:
    assert is_allowed(text, ["ollama.com", "GPU-box", "[::1]"]) is allowed
