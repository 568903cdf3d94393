"""Regular expressions: those that the engine reads as the client means them, and the rest. security §3."""

from __future__ import annotations

import pytest

from llamero.chat.schema.pattern import find_fault


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "abc",
        "^abc$",
        "^$",
        "^a|b$",
        "(^$|^[a-z]+$)",
        "^(?:a|b)*?$",
        "(?<year>[0-9]{4})-(?P<month>[0-9]{2})",
        r"^\d{3}-\d{2}-\d{4}$",
        r"^(\d{1,3}\.){3}\d{1,3}$",
        r"^[\w-\.]+@([\w-]+\.)+[\w-]{2,4}$",
        r"^[^\s@]+@[^\s@]+\.[^\s@]+$",
        r"^\s*(\d*\.?\d+)\s*(\w+)?",
        "^#?([a-fA-F0-9]{6}|[a-fA-F0-9]{3})$",
        r"^https?:\/\/[^\s]+$",
        r"[.*+?^${}()|\[\]\\]",
        r"[-a]|[a-]|[\d-x]|[a\-z]",
        r"^\p{Lu}\p{L}*$",
        r"\x41[\u0041-\u005a]\n",
        "]}",
        "a{0,1000}",
        "(a{10}){100}",
        "日本語[あ-ん]+",
        "(" * 16 + "a" + ")" * 16,
        "a" * 512,
    ],
)
def test_patterns_that_pass(pattern: str) -> None:
    """Partly X-64: valid patterns work."""
    assert find_fault(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("a" * 513, "is longer than 512 characters"),
        ("(" * 17 + ")" * 17, "nests groups deeper than 16"),
        ("(a", "has a group that is not closed"),
        ("a)", "closes a group that is not open"),
        ("(?=a)b", "uses lookaround or flags; of (? only (?:...) and (?<name>...) are supported"),
        ("(?<!a)b", "uses lookaround or flags; of (? only (?:...) and (?<name>...) are supported"),
        ("(?i)a", "uses lookaround or flags; of (? only (?:...) and (?<name>...) are supported"),
        ("(?<n>a)(?<n>b)", "names two groups n"),
        (r"(a)\1", "back-references are not supported"),
        (r"\k<a>", "back-references are not supported"),
        (r"\bword\b", "word boundaries are not supported"),
        (r"\Z", r"has the unsupported escape \Z"),
        (r"\x4", r"has the unsupported escape \x"),
        (r"\uD83D\uDE00", r"has the unsupported escape \u"),
        (r"\p{Foo}", r"has the unsupported escape \p"),
        ("a\\", "has the unsupported escape \\"),
        ("*a", "has a quantifier with nothing to repeat before it"),
        ("a|+", "has a quantifier with nothing to repeat before it"),
        ("a**", "has a quantifier with nothing to repeat before it"),
        ("^*", "has a quantifier with nothing to repeat before it"),
        ("(a$)?", "has a quantifier with nothing to repeat before it"),
        ("a{2", "has a { that opens no repetition; write \\{"),
        ("a{,3}", "has a { that opens no repetition; write \\{"),
        ("a{3,2}", "has a repetition {3,2} that ends before it starts"),
        ("a{1001}", "repeats more than 1000 times"),
        ("a{99999999999}", "has a { that opens no repetition; write \\{"),
        ("((a{100}){100}){100}", "repeats more than 1000 times"),
        ("a^b", "has a ^ that is not at the start"),
        ("^(a|^b)$", "has a ^ that is not at the start"),
        ("a$b", "has something after a $"),
        ("(a$)b", "has something after a $"),
        ("[a", "has a character class that is not closed"),
        ("[]a]", "has an empty character class"),
        ("[^]", "has an empty character class"),
        ("[z-a]", "has the character range z-a, which ends before it starts"),
        (r"[\x62-a]", r"has the character range \x62-a, which ends before it starts"),
        ("[a[b]]", "has a [ or - out of place in a character class; write \\[ or \\-"),
        (r"[a-\d]", "has a [ or - out of place in a character class; write \\[ or \\-"),
        ("[a&&b]", "has &&, -- or ~~ within a character class; write \\&, \\- or \\~"),
        (r"[\b]", "word boundaries are not supported"),
    ],
)
def test_patterns_that_are_refused(pattern: str, fault: str) -> None:
    """Partly X-64: bombs and what the engine does not read."""
    assert find_fault(pattern) == fault
