"""How bytes divide into requests, and which are refused before a parser sees them (security §5, §9.4)."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamero.errors import LlameroError
from llamero.server.framing import MAX_CHUNKS_PER_MIB, MAX_FIELDS, MAX_HEAD_BYTES, Framing
from tests.server.raw_requests import CHUNKED, HEAD, REFUSED, SOUND

TOO_MUCH = {
    "a long target": b"GET /" + b"a" * MAX_HEAD_BYTES,
    "a long field": HEAD + b"X: " + b"a" * MAX_HEAD_BYTES,
    "a long head that is whole": HEAD + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "many fields": HEAD + b"X: a\r\n" * MAX_FIELDS + b"\r\n",
    "long trailers": CHUNKED + b"0\r\nX: " + b"a" * MAX_HEAD_BYTES,
    "many trailers": CHUNKED + b"0\r\n" + b"X: a\r\n" * (MAX_FIELDS + 2) + b"\r\n",
}


def passed(*pieces: bytes) -> list[bytes]:
    """What a parser sees of each request; the last may be unfinished."""
    framing = Framing()
    requests = [b""]
    for piece in pieces:
        rest = piece
        while rest:
            sound, rest = framing.take(rest)
            requests[-1] += sound
            if sound and not framing.in_body:
                requests.append(b"")
    return requests


def refusal(*pieces: bytes) -> int:
    with pytest.raises(LlameroError) as caught:
        passed(*pieces)
    return caught.value.status


@pytest.mark.parametrize("request_", SOUND.values(), ids=SOUND)
def test_what_is_sound_passes_as_it_is(request_: bytes) -> None:
    """However it is cut, and with another request behind it."""
    assert passed(request_) == [request_, b""]
    assert passed(*(bytes([byte]) for byte in request_)) == [request_, b""]
    for at in range(1, len(request_)):
        assert passed(request_[:at], request_[at:]) == [request_, b""]
    assert passed(request_ + SOUND["chunks"] + b"GET") == [request_, SOUND["chunks"], b""]


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
def test_what_is_not_beyond_doubt_is_refused(request_: bytes) -> None:
    """Partly X-79: at once, however it is cut, and behind a request that is sound."""
    assert refusal(request_) == 400
    assert refusal(*(bytes([byte]) for byte in request_)) == 400
    assert refusal(SOUND["a length"] + request_) == 400


@pytest.mark.parametrize("request_", TOO_MUCH.values(), ids=TOO_MUCH)
def test_heads_and_trailers_are_bounded(request_: bytes) -> None:
    """Partly X-78: whether their end ever comes or not."""
    assert refusal(request_) == 431
    assert refusal(*(request_[at : at + 1000] for at in range(0, len(request_), 1000))) == 431


def test_as_much_as_is_allowed_is_allowed() -> None:
    fields = b"".join(b"X-%d: a\r\n" % number for number in range(MAX_FIELDS - 1))
    many = b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"
    assert passed(many) == [many, b""]
    room = MAX_HEAD_BYTES - len(HEAD + b"X: \r\n\r\n")
    long = HEAD + b"X: " + b"a" * room + b"\r\n\r\n"
    assert passed(long) == [long, b""]


def test_tiny_chunks_are_refused_and_small_ones_are_not() -> None:
    """Partly X-78 (CVE-2025-69229): sixty-four bytes in the mean are enough."""
    tiny = b"1\r\na\r\n"
    assert passed(CHUNKED + tiny * MAX_CHUNKS_PER_MIB)[0] == CHUNKED + tiny * MAX_CHUNKS_PER_MIB
    assert refusal(CHUNKED + tiny * (MAX_CHUNKS_PER_MIB + 1)) == 400
    small = b"40\r\n" + b"a" * 64 + b"\r\n"
    whole = CHUNKED + small * (3 * MAX_CHUNKS_PER_MIB) + b"0\r\n\r\n"
    assert passed(whole) == [whole, b""]


def test_each_request_counts_its_own_chunks() -> None:
    half = CHUNKED + b"1\r\na\r\n" * (MAX_CHUNKS_PER_MIB // 2) + b"0\r\n\r\n"
    assert passed(half * 3) == [half, half, half, b""]


def test_an_offer_of_another_protocol_is_not_seen() -> None:
    """Java's client offers HTTP/2 with every request. httptools would forget the body for it."""
    head = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nX: upgrade: a\r\nContent-Length: 4\r\n\r\n"
    (request_, _) = passed(head + b"abcd")
    assert request_ == head.replace(b"UPGRADE", b"ignored") + b"abcd"
    assert parsed(request_) == [("/api/chat", b"abcd")]


@given(st.lists(st.sampled_from(sorted(SOUND.values())), min_size=1, max_size=4), st.data())
def test_a_parser_divides_them_alike(requests: list[bytes], data: st.DataObject) -> None:
    """One after the other in pieces of any size: httptools sees as many requests, with the same bodies."""
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    seen = passed(*pieces)
    assert b"".join(seen) == stream
    assert [request for each in seen[:-1] for request in parsed(each)] == [r for each in requests for r in parsed(each)]
    assert len(seen) == len(requests) + 1


def parsed(data: bytes) -> list[tuple[str, bytes]]:
    """Target and body of each request, as httptools reads them."""
    reader = _Reader()
    httptools.HttpRequestParser(reader).feed_data(data)
    return reader.requests


class _Reader:
    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self._url = self._body = b""

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.requests.append((self._url.decode(), self._body))
