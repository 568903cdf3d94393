"""Pictures and sounds: known by content, bounded, decoded before the engine sees them. native-api §2.6, security §5."""

from __future__ import annotations

import io
import itertools
import math
import os
import struct
import time
import zlib
from typing import Any

import pytest
from PIL import Image

from llamero.chat.media import Media, check_media
from llamero.errors import BadRequest

MIB = 2**20
DAMAGED = "the picture is damaged or cut short"
NO_SOUND = "the sound is damaged or cut short"
UNKNOWN_SOUND = "the sound is encoded in another way than PCM, float, A-law or µ-law"


def picture(form: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(file, form, **options)
    return file.getvalue()


def animation(form: str) -> bytes:
    """Three frames: red, green, blue."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:], duration=10, lossless=True)
    return file.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A black PNG with extra chunks before its pixels, which are there up to a million."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = bytes((width // 8 + 2) * height) if width * height < 10**8 else b""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(pixels, 1)), chunk(b"IEND")]
    )


def webp_canvas(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x64\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + canvas + bytes(60)


def run_lengths() -> bytes:
    """The header of a BMP with 8 bits a pixel and compression 1."""
    data = bytearray(picture("BMP", mode="P"))
    struct.pack_into("<I", data, 30, 1)
    return bytes(data)


def wav(
    *,
    encoding: int = 1,
    channels: int = 1,
    samples_per_s: int = 16_000,
    bits: int = 16,
    samples: bytes = bytes(200),
    form: bytes = b"",
    extra: bytes = b"",
) -> bytes:
    frame_bytes = channels * bits // 8
    form = struct.pack("<HHIIHH", encoding, channels, samples_per_s, 0, frame_bytes, bits) + form
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + extra
    body += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def floats(*values: float, bits: int = 32, **more: Any) -> bytes:
    samples = struct.pack(f"<{len(values)}{'f' if bits == 32 else 'd'}", *values)
    return wav(encoding=3, bits=bits, samples=samples * 20, **more)


MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(417 - 4)
"""MPEG 1 layer III, 128 kbit/s, 44.1 kHz."""
MP3_FRAME_V2 = b"\xff\xf3\x48\xc0" + bytes(144 - 4)
"""MPEG 2 layer III, 32 kbit/s, 16 kHz."""


def refusal(data: bytes) -> str:
    with pytest.raises(BadRequest) as caught:
        check_media(data)
    prefix, reason = str(caught.value).split(": ", 1)
    assert (prefix, caught.value.status) == ("invalid image input", 400)
    return reason


# --- what passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind", "mime"),
    [
        pytest.param(picture("JPEG"), "image", "image/jpeg", id="JPEG"),
        pytest.param(picture("JPEG", progressive=True), "image", "image/jpeg", id="progressive JPEG"),
        pytest.param(picture("JPEG", mode="CMYK"), "image", "image/jpeg", id="CMYK"),
        pytest.param(picture("JPEG", comment=b"\xff\xd9" * 50), "image", "image/jpeg", id="markers in a comment"),
        pytest.param(picture("JPEG") + os.urandom(200_000), "image", "image/jpeg", id="a film behind the photo"),
        pytest.param(picture("PNG"), "image", "image/png", id="PNG"),
        pytest.param(picture("PNG", mode="P"), "image", "image/png", id="palette"),
        pytest.param(picture("PNG", (1, 1)), "image", "image/png", id="partly X-61: 1x1"),
        pytest.param(png(12_288, 5_208), "image", "image/png", id="the largest"),
        pytest.param(wav(), "audio", "audio/wav", id="WAV"),
        pytest.param(wav(extra=b"LIST\x03\0\0\0abc\0"), "audio", "audio/wav", id="WAV with more chunks"),
        pytest.param(wav(bits=24, channels=2, samples=bytes(600)), "audio", "audio/wav", id="WAV of 24 bits"),
        pytest.param(wav(encoding=7, bits=8), "audio", "audio/wav", id="WAV in µ-law"),
        pytest.param(floats(0.5, -1.0, 0.0), "audio", "audio/wav", id="WAV of floats"),
        pytest.param(floats(32_768.0, -131_071.0, bits=64), "audio", "audio/wav", id="WAV of long, loud floats"),
        pytest.param(
            wav(encoding=0xFFFE, form=b"\x16\0\x10\0\4\0\0\0\1\0" + bytes(14)), "audio", "audio/wav", id="WAV extended"
        ),
        pytest.param(MP3_FRAME * 3, "audio", "audio/mpeg", id="MP3"),
        pytest.param(MP3_FRAME_V2 * 3, "audio", "audio/mpeg", id="MP3 of version 2"),
        pytest.param((MP3_FRAME * 3)[:-100], "audio", "audio/mpeg", id="MP3 whose last frame is cut"),
    ],
)
def test_files_that_pass_as_they_are(data: bytes, kind: Any, mime: Any) -> None:
    assert check_media(data) == Media(kind, mime, data)


@pytest.mark.parametrize(
    ("data", "pixel"),
    [
        pytest.param(animation("GIF"), (255, 0, 0, 255), id="GIF"),
        pytest.param(animation("WEBP"), (255, 0, 0, 255), id="animated WebP"),
        pytest.param(picture("WEBP"), None, id="lossy WebP"),
        pytest.param(picture("WEBP", lossless=True), None, id="lossless WebP"),
        pytest.param(picture("WEBP", mode="RGBA"), None, id="WebP with alpha"),
        pytest.param(picture("BMP"), None, id="BMP"),
        pytest.param(picture("BMP", mode="1"), None, id="BMP in black and white"),
        pytest.param(picture("BMP", mode="P"), None, id="BMP with a palette"),
    ],
)
def test_webp_gif_and_bmp_become_a_png_of_their_first_frame(data: bytes, pixel: tuple[int, ...] | None) -> None:
    media = check_media(data)
    assert (media.kind, media.mime) == ("image", "image/png")
    with Image.open(io.BytesIO(media.data), formats=["PNG"]) as image, Image.open(io.BytesIO(data)) as original:
        assert image.size == original.size
        expected = original.convert("RGBA")
        assert image.convert("RGBA").tobytes() == expected.tobytes()
        assert pixel is None or expected.getpixel((3, 3)) == pixel


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        pytest.param(b"ID3\4\0\0\0\0\1\0" + bytes(128), b"", id="a tag"),
        pytest.param(b"ID3\4\0\0\0\0\1\0" + bytes(128 + 1000), b"", id="a tag and padding"),
        pytest.param(b"", b"TAG" + bytes(125), id="a tag at the end"),
        pytest.param(b"", b"APETAGEX" + bytes(100_000), id="a picture in a tag at the end"),
        pytest.param(b"", bytes(1000), id="padding at the end"),
    ],
)
def test_an_mp3_is_its_frames(before: bytes, behind: bytes) -> None:
    media = check_media(before + MP3_FRAME * 3 + behind)
    assert media == Media("audio", "audio/mpeg", MP3_FRAME * 3)


def test_transparency_survives() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (4, 4), (9, 8, 7, 0)).save(file, "GIF")
    with Image.open(io.BytesIO(check_media(file.getvalue()).data)) as image:
        assert image.convert("RGBA").getpixel((0, 0))[3] == 0  # type: ignore[index]


def test_damaged_exif_data_is_no_damaged_picture() -> None:
    # many cameras write it; Pillow warns of it, and the engine does not look
    exif = Image.Exif()
    exif[0x0132] = "x" * 30
    assert check_media(picture("JPEG", exif=exif.tobytes()[:-20])).mime == "image/jpeg"


# --- what does not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"\0\0\0", "neither a picture", id="partly X-61: AAAA"),
        pytest.param(b"hello", "neither a picture", id="text"),
        pytest.param(b"BM" + bytes(100), DAMAGED, id="no BMP"),
        pytest.param(run_lengths(), "compressed BMP pictures are not supported", id="BMP of run lengths"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither a picture", id="SVG"),
        pytest.param(b"II*\0" + bytes(100), "neither a picture", id="TIFF"),
        pytest.param(b"%!PS\n" + picture("JPEG"), "neither a picture", id="a picture within PostScript"),
        pytest.param(b"RIFF\x04\0\0\0AVI ", "neither a picture", id="AVI"),
        pytest.param(b"\xff\xd8\xff" + bytes(50), DAMAGED, id="no JPEG"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(50), DAMAGED, id="no PNG"),
        pytest.param(b"GIF89a", DAMAGED, id="no GIF"),
        pytest.param(b"RIFF\x04\0\0\0WEBP", DAMAGED, id="no WebP"),
        pytest.param(picture("PNG").replace(b"IDAT", b"IDAt"), DAMAGED, id="damaged PNG"),
        pytest.param(picture("WEBP")[:12] + b"VP8?" + picture("WEBP")[16:], DAMAGED, id="damaged WebP"),
        pytest.param(b"\xff\xd8\xff" + bytes(20 * MIB), "larger than 20 MiB", id="20 MiB of picture"),
        pytest.param(b"ID3" + bytes(25 * MIB), "larger than 25 MiB", id="25 MiB of sound"),
        pytest.param(wav()[:-1], NO_SOUND, id="cut WAV"),
        pytest.param(wav(samples=b""), NO_SOUND, id="silent WAV"),
        pytest.param(wav(channels=0), NO_SOUND, id="WAV without channels"),
        pytest.param(wav(encoding=0x55), UNKNOWN_SOUND, id="WAV of an unknown encoding"),
        pytest.param(wav(encoding=2, bits=4), UNKNOWN_SOUND, id="WAV in ADPCM"),
        pytest.param(wav(bits=12), UNKNOWN_SOUND, id="WAV of 12 bits"),
        pytest.param(wav(encoding=0xFFFE), UNKNOWN_SOUND, id="WAV that does not say how it goes on"),
        pytest.param(wav(samples_per_s=0), NO_SOUND, id="WAV without time"),
        pytest.param(wav(samples=bytes(2)), "the sound is shorter than 1 ms", id="one sample"),
        pytest.param(wav(samples_per_s=384_000), "the sound is shorter than 1 ms", id="a quarter of a millisecond"),
        pytest.param(wav(samples_per_s=1, samples=bytes(8000)), "the sound is longer than 3600 s", id="hours of WAV"),
        pytest.param(MP3_FRAME_V2 * 100_001, "the sound is longer than 3600 s", id="an hour of MP3"),
        pytest.param(floats(0.0, math.nan), NO_SOUND, id="no number"),
        pytest.param(floats(0.0, math.inf), NO_SOUND, id="infinity"),
        pytest.param(floats(0.0, -131_072.0), NO_SOUND, id="far too loud"),
        pytest.param(floats(0.0, 1e300, bits=64), NO_SOUND, id="far too loud, in 64 bits"),
        pytest.param(MP3_FRAME * 2 + bytes(70_000) + MP3_FRAME * 2, NO_SOUND, id="MP3 damaged in its middle"),
        pytest.param(b"RIFF\x04\0\0\0WAVE", NO_SOUND, id="empty WAV"),
        pytest.param("text".encode("utf-16"), NO_SOUND, id="text that looks like MP3"),
        pytest.param(MP3_FRAME[:100], NO_SOUND, id="cut MP3"),
        pytest.param(b"\xff\xf1\x50\x80" + bytes(500), NO_SOUND, id="AAC"),
        pytest.param(b"ID3\4\0\0\x7f\x7f\x7f\x7f" + MP3_FRAME * 2, NO_SOUND, id="a tag beyond the end"),
    ],
)
def test_files_that_are_refused(data: bytes, reason: str) -> None:
    assert refusal(data).startswith(reason)


@pytest.mark.parametrize(
    "data",
    [picture("JPEG"), picture("PNG"), picture("GIF"), picture("WEBP"), picture("WEBP", lossless=True)],
    ids=["JPEG", "PNG", "GIF", "WebP", "lossless WebP"],
)
def test_cut_pictures_are_refused_wherever_they_are_cut(data: bytes) -> None:
    """Partly X-61: truncated."""
    for length in itertools.chain(range(16, 60, 7), range(60, len(data) - 30, len(data) // 7), (len(data) - 3,)):
        assert refusal(data[:length]) == DAMAGED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(
            png(50_000, 50_000), "the picture is 50000 x 50000 pixels, more than 12288 on a side", id="50,000²"
        ),
        pytest.param(png(12_289, 1), "the picture is 12289 x 1 pixels, more than 12288 on a side", id="wide"),
        pytest.param(png(8_001, 8_000), "the picture is 8001 x 8000 pixels, more than 64 million", id="64 million"),
        pytest.param(png(0, 5), DAMAGED, id="no pixels"),
        pytest.param(
            webp_canvas(2**24, 2**24),
            "the picture is 16777216 x 16777216 pixels, more than 12288 on a side",
            id="WebP canvas",
        ),
        pytest.param(
            b"GIF89a\x0a\0\x0a\0\0\0\0"
            + b","
            + struct.pack("<HHHHB", 60_000, 60_000, 5_000, 5_000, 0)
            + b"\2\2\x44\1\0;",
            DAMAGED,
            id="GIF frame far off its canvas",
        ),
        pytest.param(png(2, 2, *[chunk(b"abCd")] * 20_000), "the picture has more than 20000 parts", id="PNG chunks"),
        pytest.param(
            png(2, 2, *[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000)))] * 200), DAMAGED, id="compressed text"
        ),
        pytest.param(
            b"\xff\xd8" + b"\xff\xfe\0\2" * 20_000 + picture("JPEG")[2:],
            "the picture has more than 20000 parts",
            id="JPEG segments",
        ),
        pytest.param(b"\xff\xd8" + b"\xff" * MIB + picture("JPEG")[2:], DAMAGED, id="JPEG padding"),
        pytest.param(b"\xff\xd8\xff\xff" + b"\xff\0" * MIB + picture("JPEG")[2:], DAMAGED, id="JPEG junk"),
        pytest.param(
            b"GIF89a\x0a\0\x0a\0\0\0\0" + b"!\xfe\1x\0" * 20_000,
            "the picture has more than 20000 parts",
            id="GIF comments",
        ),
        pytest.param(b"ID3\4\0\0\0\0\0\0" + b"\xff" * (24 * MIB), NO_SOUND, id="MP3 junk"),
        pytest.param(b"ID3\4\0\0\0\0\0\0" * 2_000_000, NO_SOUND, id="MP3 tags"),
        pytest.param(MP3_FRAME_V2 * 170_000, "the sound is longer than 3600 s", id="MP3 for hours"),
        pytest.param((MP3_FRAME_V2 + b"\xff\xff") * 170_000, NO_SOUND, id="MP3 frames apart"),
    ],
)
def test_bombs_cost_nothing(data: bytes, reason: str) -> None:
    """Partly X-61."""
    started = time.process_time()
    assert refusal(data) == reason
    assert time.process_time() - started < 0.5


def test_a_progressive_jpeg_with_endless_scans_is_refused() -> None:
    data = picture("JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    assert refusal(data[:-2] + scan * 64 + data[-2:]) == "the picture has more than 64 scans"


@pytest.mark.parametrize("tail", [picture("PNG"), b"<script>alert(1)</script>", b"PK\3\4" + bytes(40)])
def test_polyglots_are_what_their_first_bytes_say(tail: bytes) -> None:
    """Partly X-61: polyglot."""
    data = picture("JPEG") + tail
    assert check_media(data) == Media("image", "image/jpeg", data)


def test_the_error_holds_nothing_of_the_library_or_the_file() -> None:
    assert refusal(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"secret text!!")) == DAMAGED
