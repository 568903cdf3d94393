"""Which bytes a GET asks for (RFC 9110 §14)."""

from __future__ import annotations

import pytest

from llamero.server.ranges import OutOfRange, asked_span

SIZE = 1000
ETAG = '"e"'


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-", 0, 1000),
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=999-", 999, 1000),
        ("bytes=500-9999999999", 500, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        (" bytes=1-2 ", 1, 3),
    ],
)
def test_a_part(asked: str, start: int, stop: int) -> None:
    span = asked_span({"range": asked}, SIZE, ETAG)
    assert (span.start, span.stop, span.status) == (start, stop, 206)
    assert span.headers(ETAG) == {
        "Accept-Ranges": "bytes",
        "ETag": ETAG,
        "Content-Length": str(stop - start),
        "Content-Range": f"bytes {start}-{stop - 1}/1000",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"range": ""},
        {"range": "bytes=-"},
        {"range": "bytes=5-4"},
        {"range": "bytes=0-1,5-6"},
        {"range": "bytes=a-b"},
        {"range": "bytes=+1-2"},
        {"range": "bytes=0-" + "9" * 40},
        {"range": "lines=0-1"},
        {"range": "bytes=0-1", "if-range": '"other"'},
        {"range": "bytes=0-1", "if-range": 'W/"e"'},
        {"range": "bytes=0-1", "if-range": "Sat, 01 Jan 2000 00:00:00 GMT"},
        {"range": "bytes=5000-", "if-range": '"other"'},
    ],
)
def test_the_whole(headers: dict[str, str]) -> None:
    span = asked_span(headers, SIZE, ETAG)
    assert (span.start, span.stop, span.status) == (0, SIZE, 200)
    assert "Content-Range" not in span.headers(ETAG)


def test_the_same_state_gives_its_part() -> None:
    assert asked_span({"range": "bytes=5-", "if-range": ETAG}, SIZE, ETAG).start == 5


@pytest.mark.parametrize("asked", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_nothing_is_there(asked: str) -> None:
    with pytest.raises(OutOfRange) as caught:
        asked_span({"range": asked}, SIZE, ETAG)
    assert (caught.value.status, caught.value.headers) == (416, {"Content-Range": "bytes */1000"})
