"""Words on the command line become flags and positional words as Go's pflag reads them (cli §2.3)."""

from __future__ import annotations

import pytest

from llamero.cli.grammar import Flag, canonical, edit_distance
from llamero.errors import BadRequest

FLAGS = {
    name: flag
    for flag in (
        Flag(["-v", "--verbose"], kind="bool"),
        Flag(["-f", "--file"]),
        Flag(["--keepalive"]),
        Flag(["--think"], bare="true"),
        Flag(["--dimensions"], kind="int"),
    )
    for name in flag.opts
}


@pytest.mark.parametrize(
    ("words", "flags", "positional"),
    [
        pytest.param("m hi", [], ["m", "hi"], id="no flags"),
        pytest.param("m --verbose hi", ["--verbose=true"], ["m", "hi"], id="between words"),
        pytest.param("--verbose=false m", ["--verbose=false"], ["m"], id="a boolean with a value"),
        pytest.param("--verbose false", ["--verbose=true"], ["false"], id="a boolean takes no next word"),
        pytest.param("m --think high hi", ["--think=true"], ["m", "high", "hi"], id="a flag that may stand bare"),
        pytest.param("m --think=high hi", ["--think=high"], ["m", "hi"], id="the same with a value"),
        pytest.param("--keepalive -1 m", ["--keepalive=-1"], ["m"], id="a value that looks like a flag"),
        pytest.param("--keepalive --verbose", ["--keepalive=--verbose"], [], id="even like a known one"),
        pytest.param("--file= m", ["--file="], ["m"], id="an empty value"),
        pytest.param("-f x -v", ["--file=x", "--verbose=true"], [], id="shorthands"),
        pytest.param("-vfx", ["--verbose=true", "--file=x"], [], id="a cluster"),
        pytest.param("-f=x=y", ["--file=x=y"], [], id="a shorthand with an equals sign"),
        pytest.param("m -- --foo -v", [], ["m", "--foo", "-v"], id="nothing is a flag after --"),
        pytest.param("-f - m", ["--file=-"], ["m"], id="a lone dash is a value"),
        pytest.param("- m", [], ["-", "m"], id="a lone dash is a word"),
    ],
)
def test_words_are_read_as_pflag_does(words: str, flags: list[str], positional: list[str]) -> None:
    assert canonical(FLAGS, words.split()) == (flags, positional)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--foo m", "unknown flag: --foo"),
        ("--foo=1", "unknown flag: --foo"),
        ("-x", "unknown shorthand flag: 'x' in -x"),
        ("-vxf", "unknown shorthand flag: 'x' in -xf"),
        ("m --keepalive", "flag needs an argument: --keepalive"),
        ("-vf", "flag needs an argument: 'f' in -f"),
        ("---x", "bad flag syntax: ---x"),
        ("--=x", "bad flag syntax: --=x"),
    ],
)
def test_errors_have_pflags_words(words: str, message: str) -> None:
    with pytest.raises(BadRequest) as error:
        canonical(FLAGS, words.split())
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), ("-7", -7), ("+7", 7), ("0x10", 16), ("1_000", 1000), (str(2**63 - 1), 2**63 - 1)]
)
def test_a_number_is_written_as_in_source_code(text: str, number: int) -> None:
    assert FLAGS["--dimensions"].type.convert(text, FLAGS["--dimensions"], None) == number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "invalid syntax"),
        ("1.5", "invalid syntax"),
        (" 1", "invalid syntax"),
        ("\u0663", "invalid syntax"),
        (str(2**63), "value out of range"),
        (str(-(2**63) - 1), "value out of range"),
    ],
)
def test_what_is_no_number_of_64_bits_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BadRequest) as error:
        FLAGS["--dimensions"].type.convert(text, FLAGS["--dimensions"], None)
    assert str(error.value).endswith(f'strconv.ParseInt: parsing "{text}": {reason}')


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("rnu", "run", 2), ("list", "list", 0), ("", "rm", 2), ("sohw", "show", 2)]
)
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == distance
