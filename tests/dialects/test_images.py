"""Pictures in requests: which URLs are read, which are not (compat-api §5.2)."""

from __future__ import annotations

import base64

import pytest

from llamero.dialects import images
from llamero.errors import InvalidField

PNG = b"\x89PNG\r\n\x1a\n" + b"\xfb\xff" * 10
GIF = b"GIF89a" + bytes(10)
BASE64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{BASE64}",
        f"data:image/jpg;base64,{BASE64}",
        f"data:;base64,{BASE64}",
        f"DATA:Image/PNG;name=a.png;Base64,{BASE64}",
        f"data:image/webp;base64,{BASE64.rstrip('=')}",
        f"data:image/png;base64,{BASE64[:9]}\r\n {BASE64[9:]}",
    ],
    ids=["plain", "jpg", "no type", "case and parameters", "no padding", "white space"],
)
def test_data_uris(url: str) -> None:
    """partly C-33"""
    assert images.read(url, "p") == PNG


def test_gif_and_bmp() -> None:
    assert images.read(f"data:image/gif;base64,{base64.b64encode(GIF).decode()}", "p") == GIF
    assert images.read(f"data:image/bmp;base64,{base64.b64encode(b'BM12').decode()}", "p") == b"BM12"


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/tiff;base64,{BASE64}",
        f"data:image/png,{BASE64}",
        "data:image/png;base64",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,A",
        "data:image/png;base64,-_-_",
        "data:image/png;base64,é",
        "data:image/png;base64,",
        f"data:image/png;base64,{base64.b64encode(b'<svg/>').decode()}",
        "ftp://example.com/a.png",
        "file:///etc/passwd",
        "a.png",
        "",
    ],
)
def test_anything_else_is_no_picture(url: str) -> None:
    """partly C-33"""
    with pytest.raises(InvalidField) as caught:
        images.read(url, "messages[0].content[1].image_url")
    assert (str(caught.value), caught.value.param) == ("invalid image input", "messages[0].content[1].image_url")


def test_an_http_url_must_have_been_fetched_by_somebody_else() -> None:
    """partly C-34"""
    url = "https://example.com/a.png"
    with pytest.raises(InvalidField, match="image URLs are not currently supported, please use base64 encoded data"):
        images.read(url, "p")
    assert images.read(url, "p", {url: PNG}) == PNG
    with pytest.raises(InvalidField, match="invalid image input"):
        images.read(url, "p", {url: b"<html>"})


def test_the_urls_of_every_dialect_are_found_once_and_in_order() -> None:
    body = {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/1"}}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": "HTTP://a/2"}, {"type": "text"}]},
            {
                "content": [
                    {
                        "type": "tool_result",
                        "content": [{"type": "image", "source": {"type": "url", "url": "http://a/3"}}],
                    }
                ]
            },
            {
                "content": [
                    {"type": "image_url", "image_url": "https://a/1"},
                    {"type": "image_url", "image_url": "data:,"},
                ]
            },
        ],
        "input": [
            {"content": [{"type": "input_image", "image_url": "https://a/4"}]},
            {"type": "function_call_output", "output": [{"type": "input_image", "image_url": "https://a/5"}]},
        ],
    }
    assert list(images.remote_urls(body).items()) == [
        ("https://a/1", "messages[0].content[0].image_url"),
        ("HTTP://a/2", "messages[1].content[0].image_url"),
        ("http://a/3", "messages[2].content[0].content[0].source.url"),
        ("https://a/4", "input[0].content[0].image_url"),
        ("https://a/5", "input[1].output[0].image_url"),
    ]


def test_other_urls_are_no_pictures() -> None:
    picture = {"type": "image_url", "image_url": "https://a/1"}
    body = {
        "tools": [{"type": "function", "content": [picture]}],
        "messages": [{"content": "https://a/2"}, {"content": [{"type": "tool_use", "input": {"x": [picture]}}]}, 3],
    }
    assert images.remote_urls(body) == {}
    assert images.remote_urls(["https://a/1"]) == {}
