"""Forms with files, taken apart (RFC 7578)."""

from __future__ import annotations

import pytest

from llamero.dialects.multipart import MAX_HEADER_BYTES, MAX_PARTS, Part, read_form
from llamero.errors import BadRequest

TYPE = "multipart/form-data; boundary=xx"


def form(*parts: bytes, end: bytes = b"--xx--\r\n") -> bytes:
    return b"".join(b"--xx\r\n" + part + b"\r\n" for part in parts) + end


def part(disposition: bytes, data: bytes = b"v") -> bytes:
    return b"Content-Disposition: form-data; " + disposition + b"\r\n\r\n" + data


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(form(part(b'name="model"', b"m")), [Part("model", b"m")], id="a field"),
        pytest.param(form(part(b'name="f"; filename="a.wav"')), [Part("f", b"v", True)], id="a file"),
        pytest.param(form(part(b"name=f; filename*=UTF-8''a")), [Part("f", b"v", True)], id="tokens without quotes"),
        pytest.param(form(part(rb'name="a\"b\\"')), [Part('a"b\\', b"v")], id="escaped quotes"),
        pytest.param(form(part(b'name="a; filename=b"')), [Part("a; filename=b", b"v")], id="a name like a parameter"),
        pytest.param(form(part('name="sprâche"'.encode())), [Part("sprâche", b"v")], id="a name of UTF-8"),
        pytest.param(form(part(b'name="a"', b"")), [Part("a", b"")], id="nothing in it"),
        pytest.param(
            form(part(b'name="a"', b"\r\n\r\n--x\r\n")), [Part("a", b"\r\n\r\n--x\r\n")], id="line ends in it"
        ),
        pytest.param(
            form(b'X-Y: z\r\ncontent-disposition:form-data;name="a"\r\nContent-Type: text/plain\r\n\r\nv'),
            [Part("a", b"v")],
            id="more headers",
        ),
        pytest.param(b"preamble\r\n" + form(part(b'name="a"')) + b"epilogue", [Part("a", b"v")], id="text around it"),
        pytest.param(
            form(part(b'name="a"')).replace(b"--xx\r\n", b"--xx \t\r\n"), [Part("a", b"v")], id="padded lines"
        ),
        pytest.param(form(part(b'name="a"'), part(b'name="a"', b"w")), [Part("a", b"v"), Part("a", b"w")], id="twice"),
        pytest.param(form(), [], id="no parts"),
    ],
)
def test_forms(body: bytes, expected: list[Part]) -> None:
    assert read_form(body, TYPE) == expected


@pytest.mark.parametrize(
    "content_type",
    ['multipart/form-data; boundary="xx"', "Multipart/Form-Data;charset=utf-8;BOUNDARY=xx", TYPE + "; boundary=yy"],
)
def test_ways_to_name_the_boundary(content_type: str) -> None:
    assert read_form(form(part(b'name="a"')), content_type) == [Part("a", b"v")]


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (form(), "", "the content type is not multipart/form-data"),
        (form(), "application/json", "the content type is not multipart/form-data"),
        (form(), "multipart/form-data", "the content type has no boundary"),
        (form(), "multipart/form-data; boundary=", "the content type has no boundary"),
        (form(), "multipart/form-data; boundary=" + "x" * 71, "the content type has no boundary"),
        (form(), "multipart/form-data; boundary=ü", "the content type has no boundary"),
        (b"", TYPE, "no part"),
        (b"{}", TYPE, "no part"),
        (b"--xx", TYPE, "a boundary does not end its line"),
        (b"--xxy\r\n\r\n--xx--", TYPE, "a boundary does not end its line"),
        (form(part(b'name="a"'), end=b""), TYPE, "it ends in the middle of a part"),
        (form(b"Content-Disposition: form-data"), TYPE, "a part has no end of headers"),
        (form(b"X: " + b"y" * MAX_HEADER_BYTES + b"\r\n\r\nv"), TYPE, "a part has no end of headers"),
        (form(b"\r\nv"), TYPE, "a part has no name"),
        (form(part(b"filename=a")), TYPE, "a part has no name"),
        (form(b'Content-Disposition: attachment; name="a"\r\n\r\nv'), TYPE, "a part has no name"),
        (form(*[part(b"name=a")] * (MAX_PARTS + 1)), TYPE, f"more than {MAX_PARTS} parts"),
    ],
)
def test_partly_c103_forms_that_are_none(body: bytes, content_type: str, why: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_form(body, content_type)
    assert str(caught.value) == f"failed to parse multipart form: {why}"


def test_a_field_that_is_no_text_is_refused_when_it_is_read_as_such() -> None:
    (field,) = read_form(form(part(b'name="model"', b"\xff")), TYPE)
    with pytest.raises(BadRequest, match="field 'model' is not UTF-8"):
        _ = field.text


def test_every_byte_of_a_file_arrives() -> None:
    data = bytes(range(256)) * 4096 + b"\r\n--x"
    (file,) = read_form(form(part(b'name="file"; filename="a"', data)), TYPE)
    assert file.data == data
