"""native-api §1.5: which bodies Go's JSON decoder reads, and what it says about the others.

Every text of the tables was printed by Go's `json.NewDecoder(body).Decode`.
"""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.dialects import gosyntax
from llamero.errors import BadRequest

KEY = "looking for beginning of object key string"
VALUE = "looking for beginning of value"


@pytest.mark.parametrize("body", [b"", b"  ", b"\r\n\t"])
def test_a_blank_body_is_missing(body: bytes) -> None:
    """partly N-16"""
    with pytest.raises(BadRequest, match=r"^missing request body$"):
        gosyntax.end_of_value(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"hello", f"'h' {VALUE}", id="partly N-17"),
        pytest.param(b'{"a":NaN}', f"'N' {VALUE}", id="partly N-24"),
        (b'{"a":Infinity}', f"'I' {VALUE}"),
        (b'{"a":-Infinity}', "'I' in numeric literal"),
        (b'{"model":"x",}', f"'}}' {KEY}"),
        (b'{model:"x"}', f"'m' {KEY}"),
        (b"{'a':1}", rf"'\'' {KEY}"),
        (b"{,", f"',' {KEY}"),
        (b'{"a" 1}', "'1' after object key"),
        (b'{"a":}', f"'}}' {VALUE}"),
        (b'{"a":1 2}', "'2' after object key:value pair"),
        (b'{"a":1]', "']' after object key:value pair"),
        (b"[1 2]", "'2' after array element"),
        (b"[1,2}", "'}' after array element"),
        (b"[1,]", f"']' {VALUE}"),
        (b"[,", f"',' {VALUE}"),
        (b'"a\tb"', r"'\t' in string literal"),
        (b'["\x00"]', r"'\x00' in string literal"),
        (b'["a\n', r"'\n' in string literal"),
        (rb'["\x"]', "'x' in string escape code"),
        (rb'{"\'":1}', r"'\'' in string escape code"),
        (rb'["\u12g4"]', r"'g' in \u hexadecimal character escape"),
        (rb'["\u"]', r"""'"' in \u hexadecimal character escape"""),
        (b'{"a":tru,', "',' in literal true (expecting 'e')"),
        (b"fake", "'k' in literal false (expecting 'l')"),
        (b"nil", "'i' in literal null (expecting 'u')"),
        (b'{"a":01}', "'1' after object key:value pair"),
        (b"[1.]", "']' after decimal point in numeric literal"),
        (b"1.x", "'x' after decimal point in numeric literal"),
        (b"[.5]", f"'.' {VALUE}"),
        (b"[+1]", f"'+' {VALUE}"),
        (b"[-]", "']' in numeric literal"),
        (b"[1e]", "']' in exponent of numeric literal"),
        (b"[1E+x]", "'x' in exponent of numeric literal"),
        (b"[1.5.5]", "'.' after array element"),
        (b"\xef\xbb\xbf{}", f"'ï' {VALUE}"),
        (b"\x7f", rf"'\x7f' {VALUE}"),
        (b"\x80", rf"'\u0080' {VALUE}"),
        (b"\xa0", rf"'\u00a0' {VALUE}"),
        (b"\xad", rf"'\u00ad' {VALUE}"),
        (b"\\", rf"'\\' {VALUE}"),
        (b"\v", rf"'\v' {VALUE}"),
        (b"/* */", f"'/' {VALUE}"),
    ],
)
def test_a_syntax_error_names_the_character(body: bytes, text: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(f"invalid character {text}") + "$"):
        gosyntax.end_of_value(body)


DOCUMENT = rb' {"a" : [1, -2.5e+3, true , false,null,{}, [ ] ],"b":{"c":"\u00e9\ud83d\ude00\\\"","d":""}}'


@pytest.mark.parametrize("length", range(1, len(DOCUMENT)))
def test_a_document_cut_anywhere_ends_unexpectedly(length: int) -> None:
    with pytest.raises(BadRequest, match=r"^(unexpected EOF|missing request body)$"):
        gosyntax.end_of_value(DOCUMENT[:length])


@pytest.mark.parametrize("body", [b"{", b'{"model":', b'"', b"nul", b"-", b"1.", b"1e", b"[1", b'["\\', b'["\\u12'])
def test_truncated_json_ends_unexpectedly(body: bytes) -> None:
    """partly N-17"""
    with pytest.raises(BadRequest, match=r"^unexpected EOF$"):
        gosyntax.end_of_value(body)


@pytest.mark.parametrize(
    ("value", "rest"),
    [(b"{}", b" trailing"), (b'{"a":[]}', b"}"), (b"null", b"x"), (b"1", b"x"), (b'"a"', b'"'), (DOCUMENT, b"{")],
)
def test_what_follows_the_first_value_is_not_looked_at(value: bytes, rest: bytes) -> None:
    """partly N-22"""
    assert gosyntax.end_of_value(value + rest) == len(value)


def test_nesting_is_counted_and_never_recursed_into() -> None:
    """partly X-62"""
    deepest = b"[" * gosyntax.MAX_DEPTH + b"]" * gosyntax.MAX_DEPTH
    assert gosyntax.end_of_value(deepest) == len(deepest)
    for deeper in (b"[" + deepest + b"]", b"[" * 100_000, b'{"a":' * 3000):
        with pytest.raises(BadRequest, match=r"exceeded max depth$"):
            gosyntax.end_of_value(deeper)


@pytest.mark.parametrize(
    ("value", "mended"),
    [
        (b'"\xff"', '"�"'),
        (b'"\xf0\x9f\x98"', '"���"'),  # one for each byte, as Go counts
        (b'"\xed\xa0\x80\xc0\x80"', '"�����"'),
        (rb'"\ud800"', r'"\ufffd"'),
        (rb'"\uDC00\ud83d\ude00"', r'"\ufffd\ud83d\ude00"'),
        (rb'"\ud800\ud83d\ude00\udfff"', r'"\ufffd\ud83d\ude00\ufffd"'),
        (rb'"\ud83d\\ude00"', r'"\ufffd\u005cude00"'),
        (rb'"\\ud800"', r'"\u005cud800"'),
        (b'{"\xff":1}', '{"�":1}'),
        (rb'"\u0041\n"', r'"\u0041\n"'),
    ],
)
def test_broken_characters_become_replacement_characters(value: bytes, mended: str) -> None:
    assert json.loads(gosyntax.mend(value)) == json.loads(mended)


@pytest.mark.parametrize("place", [b"\xffa", rb"\ud800a"], ids=["bytes", "escapes"])
def test_what_is_hardly_text_is_not_mended(monkeypatch: pytest.MonkeyPatch, place: bytes) -> None:
    """Each place takes time, and others wait meanwhile: fifteen million of them would take seconds."""
    monkeypatch.setattr(gosyntax, "MAX_MENDED", 100)
    assert (
        gosyntax.mend(b'"' + 100 * place + b'"').lower().count(rb"\ufffd" if place[:1] == b"\\" else b"\xef\xbf\xbd")
        == 100
    )
    with pytest.raises(BadRequest, match="no text in more than 100 places"):
        gosyntax.mend(b'"' + 101 * place + b'"')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from([None, 1]), st.booleans())
def test_whatever_python_writes_is_read_to_its_end(value: object, indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert gosyntax.end_of_value(body + b" {") == len(body)


@given(st.binary(max_size=30) | st.text(alphabet='{}[]:,"\\u0e1.-+ntrfalse \t\x01é', max_size=30).map(str.encode))
def test_any_bytes_are_either_json_or_a_bad_request(body: bytes) -> None:
    try:
        end = gosyntax.end_of_value(body)
    except BadRequest:
        return
    json.loads(gosyntax.mend(body[:end]))
