"""Go's `printf` (modelfile-templates §2.3). Rows marked "Go" stand in go_templates.json too, with Go's own answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.template.meter import Meter
from llamero.template.printf import sprintf
from llamero.template.values import Value
from tests.template.conversations import in_message_mode


@pytest.mark.parametrize(
    ("form", "values", "text"),
    [
        ("%s|%v|%d|%t|%%", ["a", "b", 3, True], "a|b|3|true|%"),
        ("%5d|%-5d|%05d|%+d|% d", [42] * 5, "   42|42   |00042|+42| 42"),
        ("%x|%X|%o|%b|%#x|%O", [255, 255, 8, 5, 255, 8], "ff|FF|10|101|0xff|0o10"),
        ("%c|%q|%U|%#U", [0x4E16, 120, 0x4E16, 0x4E16], "世|'x'|U+4E16|U+4E16 '世'"),
        ("%f|%.2f|%8.3f|%-8.1f|%08.2f|%+.1f", [3.14159] * 6, "3.141590|3.14|   3.142|3.1     |00003.14|+3.1"),
        ("%e|%.1e|%g|%.3g|%G", [1234.5678, 1234.5678, 1e21, 1234.5678, 1e-10],
         "1.234568e+03|1.2e+03|1e+21|1.23e+03|1E-10"),
        ("%10s|%-10s|%.2s|%5.1s", ["héllo"] * 4, "     héllo|héllo     |hé|    h"),
        ("%q|%+q|%#q|%x|% x", ["a\"b\n", "é", "raw", "hé", "hé"], '"a\\"b\\n"|"\\u00e9"|`raw`|68c3a9|68 c3 a9'),
        ("%T %T %T %T", [1, 1.5, "a", None], "int float64 string <nil>"),
        ("%T %T", [[], {}], "[]interface {} map[string]interface {}"),
        ("%v %s %d", [None, None, None], "<nil> %!s(<nil>) %!d(<nil>)"),
        ("%v|%s|%d", [["a", 1]] * 3, "[a 1]|[a %!s(int=1)]|[%!d(string=a) 1]"),
        ("%v|%05d", [{"b": 1, "a": 2}, {"b": 1}], "map[a:2 b:1]|map[%!d(string=0000b):00001]"),
        ("%*d|%-*d|%.*f", [5, 42, 5, 42, 2, 3.14159], "   42|42   |3.14"),
        ("%[2]d %[1]d", [1, 2], "2 1"),
    ],
    ids=lambda value: value if isinstance(value, str) and "%" in value else "",
)  # fmt: skip
def test_verbs(form: str, values: list[Value], text: str) -> None:
    assert sprintf(form, values, Meter()) == text


@pytest.mark.parametrize(
    ("form", "values", "text"),
    [
        ("%d", ["a"], "%!d(string=a)"),
        ("%5d", ["a"], "%!d(string=    a)"),
        ("%s", [3], "%!s(int=3)"),
        ("%t", [1.5], "%!t(float64=1.5)"),
        ("%z", [True], "%!z(bool=true)"),
        ("%d %d", [1], "1 %!d(MISSING)"),
        ("%d", [1, "x", None], "1%!(EXTRA string=x, <nil>)"),
        ("%", [], "%!(NOVERB)"),
        ("a%5", [1], "a%!(NOVERB)%!(EXTRA int=1)"),
        ("%[3]d %[x]d", [1], "%!d(BADINDEX) %!d(BADINDEX)"),
        ("%*d", ["a", 1], "%!(BADWIDTH)1"),
        ("%.*f", [-1, 1.5], "%!(BADPREC)1.500000"),
        ("%9999999d", [1], "%!(NOVERB)%!(EXTRA int=1)"),
    ],
)
def test_what_does_not_fit_is_marked(form: str, values: list[Value], text: str) -> None:
    assert sprintf(form, values, Meter()) == text


def test_t44_printf_and_print() -> None:
    assert in_message_mode('{{ print 1 2 "a" "b" 3 }}') == "1 2ab3"
    text = '{{ printf "%05.2f|%-4s|%4d|%x|%t|%%" 3.14159 "ab" 7 255 true }}'
    assert in_message_mode(text) == "03.14|ab  |   7|ff|true|%"


VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(-1e300, 1e300)


@given(st.text("%sdvqxTfgc+-# 0123456789.*[]é", max_size=20), st.lists(VALUES, max_size=4))
def test_no_form_is_too_odd(form: str, values: list[Value]) -> None:
    assert isinstance(sprintf(form, values, Meter()), str)
