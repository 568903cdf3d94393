"""Pictures and sounds of a request: told by their content, bounded, and decoded once, before the engine's C decoders.

Source: native-api §2.6, scheduler §12.2, security §5 (media bombs). The errors are in our own words: what a library
says of hostile bytes stays here. The work is the CPU's, up to some seconds for the largest pictures.
"""

from __future__ import annotations

import io
import itertools
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..errors import BadRequest

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_IMAGE_BYTES = 20 * 2**20
"""Each (security §5)."""
MAX_AUDIO_BYTES = 25 * 2**20
"""Each (security §5)."""
MAX_FILES = 32
"""In one request (security §5)."""
MAX_SIDE = 12_288
"""Pixels of width or height (security §5)."""
MAX_PIXELS = 64_000_000
"""Width times height (security §5: phones make 48 million); decoded they take 256 MB at most."""
MAX_PARTS = 20_000
"""Chunks of a PNG, segments of a JPEG, blocks before a GIF's first frame: Pillow takes microseconds for each."""
MAX_SCANS = 64
"""Of a progressive JPEG; ten are usual."""

_PLAIN_BMP = (0, 3)
"""Compressions of a BMP that are none: plain colours, and plain ones with their own bit masks."""

_JPEG_MARKER = re.compile(rb"\xff{1,8}[^\x00\x01\xd0-\xd8\xff]")
"""One that begins a segment or ends the picture. The others stand within scans, as does 0xFF 0x00 for the byte 0xFF."""


@dataclass(frozen=True, slots=True)
class Media:
    """One checked picture or sound, as the engine takes it."""

    kind: Literal["image", "audio"]
    mime: Literal["image/png", "image/jpeg", "audio/wav", "audio/mpeg"]
    data: bytes


def check_media(data: bytes) -> Media:
    """Check the bytes of a file. What the engine does not read comes out in another form, all else as it came in:
    WebP, GIF and BMP as a PNG of their first frame, MP3 without what stands around its sound.

    The first bytes alone tell the type. Raises BadRequest `invalid image input: <reason>`, also for sounds.
    """
    match _form(data):
        case "jpeg":
            return Media("image", "image/jpeg", _decoded("jpeg", data))
        case "png" | "gif" | "webp" | "bmp" as picture:
            return Media("image", "image/png", _decoded(picture, data))
        case "wav":
            return Media("audio", "audio/wav", _parsed_wav(data))
        case "mp3":
            return Media("audio", "audio/mpeg", _parsed_mp3(data))
    raise _invalid("neither a picture (JPEG, PNG, WebP, GIF, BMP) nor a sound (WAV, MP3)" if data else "empty")


def kind_of(data: bytes) -> Literal["image", "audio"]:
    """Which sense a file is for, by its first bytes. What is neither counts as a picture, as in every error text."""
    return "audio" if _form(data) in ("wav", "mp3") else "image"


def _form(data: bytes) -> Literal["jpeg", "png", "gif", "webp", "bmp", "wav", "mp3", ""]:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"BM"):
        return "bmp"
    if data.startswith(b"RIFF"):
        return {b"WEBP": "webp", b"WAVE": "wav"}.get(data[8:12], "")  # type: ignore[return-value]
    if data.startswith(b"ID3") or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        return "mp3"
    return ""


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"invalid image input: {reason}")


def _check_bytes(data: bytes, limit_bytes: int) -> None:
    if len(data) > limit_bytes:
        raise _invalid(f"larger than {limit_bytes // 2**20} MiB")


# --- pictures -------------------------------------------------------------------------------------------------------


def _decoded(picture: Literal["jpeg", "png", "gif", "webp", "bmp"], data: bytes) -> bytes:
    """The file to send. Its structure and its size in pixels are looked at before its pixels are."""
    _check_bytes(data, MAX_IMAGE_BYTES)
    with _in_our_words():
        match picture:
            case "jpeg":
                _walk_jpeg(data)
            case "png":
                _walk_png(data)
            case "gif":
                _walk_gif(data)
            case "bmp":
                _check_bmp(data)
            case "webp":  # its decoder takes memory for the whole canvas when it is opened
                _check_pixels(*_webp_size(data))
        with _open(picture, data) as image:
            _check_pixels(*image.size)
            image.load()
            return data if picture in ("jpeg", "png") else _as_png(image)


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Whatever a decoder raises, and it may raise anything, is a damaged picture."""
    try:
        yield
    except BadRequest:
        raise
    except Exception as error:
        raise _invalid("the picture is damaged or cut short") from error


def _open(picture: str, data: bytes) -> ImageFile:
    """Pillow's reader of one format: unlike `Image.open` it tries no other, nor formats that build upon this one."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    # Not `catch_warnings`, which is no good among threads; a filter that is there already is not added again.
    # Damaged EXIF data is common, harmless and not decoded by the engine.
    warnings.filterwarnings("error", module=r"PIL\.")
    warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
    readers: dict[str, Callable[[io.BytesIO], ImageFile]] = {
        "bmp": BmpImageFile,
        "gif": GifImageFile,
        "jpeg": JpegImageFile,
        "png": PngImageFile,
        "webp": WebPImageFile,
    }
    return readers[picture](io.BytesIO(data))


def _check_pixels(width: int, height: int) -> None:
    if min(width, height) < 1:
        raise _invalid("the picture has no pixels")
    if max(width, height) > MAX_SIDE:
        raise _invalid(f"the picture is {width} x {height} pixels, more than {MAX_SIDE} on a side")
    if width * height > MAX_PIXELS:
        raise _invalid(f"the picture is {width} x {height} pixels, more than {MAX_PIXELS // 10**6} million")


def _parts() -> Iterator[None]:
    """As many steps as a walk through a picture may take."""
    yield from itertools.repeat(None, MAX_PARTS)
    raise _invalid(f"the picture has more than {MAX_PARTS} parts")


def _walk_png(data: bytes) -> None:
    """Chunks up to the last, which Pillow does not miss and the engine's decoder does."""
    at = 8
    for _ in _parts():
        size_bytes, name = struct.unpack_from(">I4s", data, at)
        at += 12 + size_bytes
        if at > len(data):
            raise EOFError
        if name == b"IEND":
            return


def _walk_jpeg(data: bytes) -> None:
    """Segments up to the end of the picture. A progressive one can go over all its pixels again in each short scan."""
    at, scans = 2, 0
    for _ in _parts():
        # before the pixels one segment follows another at once; Pillow would look for the next byte by byte
        marker = (_JPEG_MARKER.search if scans else _JPEG_MARKER.match)(data, at)
        if marker is None:
            raise EOFError
        at = marker.end()
        match data[at - 1]:
            case 0xD9:  # end of the picture
                return
            case 0xDA:  # start of a scan
                scans += 1
                if scans > MAX_SCANS:
                    raise _invalid(f"the picture has more than {MAX_SCANS} scans")
        (size_bytes,) = struct.unpack_from(">H", data, at)
        at += size_bytes


def _walk_gif(data: bytes) -> None:
    """Blocks up to the first frame."""
    flags = data[10]
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    in_extension = False
    for _ in _parts():
        if in_extension:
            in_extension = data[at] != 0
            at += 1 + data[at]
        elif data[at] == ord("!"):
            in_extension = True
            at += 2
        else:
            return


def _check_bmp(data: bytes) -> None:
    """Pillow unpacks run lengths in Python, which takes seconds for a picture full of short ones; few write them."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes >= 40 and struct.unpack_from("<I", data, 30)[0] not in _PLAIN_BMP:
        raise _invalid("compressed BMP pictures are not supported")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height as the first chunk gives them: lossy, lossless, or the canvas of the extended format."""
    chunk = data[12:16]
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    raise ValueError("no WebP header")


def _as_png(image: ImageFile) -> bytes:
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=1)  # the engine unpacks it at once, so speed counts and not size
    return png.getvalue()


# --- sounds ---------------------------------------------------------------------------------------------------------

_MIN_SOUND_S = 0.001
"""The engine ends itself when a sound is down to one sample at its 16 kHz."""
_MAX_SOUND_S = 3600
"""It unpacks a whole sound, 230 MB for an hour; a file may promise years of it."""
_DAMAGED_SOUND = "the sound is damaged or cut short"

_WAV_BITS = {1: (8, 16, 24, 32), 3: (32, 64), 6: (8,), 7: (8,)}
"""Bits of a sample by encoding: PCM, float, A-law, µ-law."""
_WAV_EXTENDED = 0xFFFE
"""The form that names its encoding further on."""
_MAX_CHANNELS = 64
_MAX_SAMPLES_PER_S = 384_000
_WITHOUT_SIGN = bytes(byte & 0x7F for byte in range(256))
_LOUD = {32: 0x48, 64: 0x41}
"""The first byte of a float, without its sign, from 2^17 on: players expect 1, some files have 2^15."""

_MP3_KBIT_PER_S = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""By version of MPEG; the index counts from one."""
_MP3_SAMPLES_PER_S = (44_100, 48_000, 32_000)
_MAX_TAGS = 8
"""ID3 tags, of which one is usual."""
_TAGS_BEHIND = (b"TAG", b"APETAGEX", b"ID3", b"LYRICSBEGIN")
_MAX_JUNK_BYTES = 64 * 1024
"""Between the tags of an MP3 file and its first frame, and behind its last: padding."""


def _check_length(seconds: float) -> None:
    if seconds < _MIN_SOUND_S:
        raise _invalid(f"the sound is shorter than {_MIN_SOUND_S * 1000:.0f} ms")
    if seconds > _MAX_SOUND_S:
        raise _invalid(f"the sound is longer than {_MAX_SOUND_S} s")


def _parsed_wav(data: bytes) -> bytes:
    """The file, after a look at its chunks: a format that makes sense, then samples that are all there."""
    _check_bytes(data, MAX_AUDIO_BYTES)
    at, form = 12, b""
    while at + 8 <= len(data):
        name, size_bytes = struct.unpack_from("<4sI", data, at)
        at += 8
        if at + size_bytes > len(data):
            break
        if name == b"fmt ":
            form = data[at : at + size_bytes]
        elif name == b"data" and len(form) >= 16 and size_bytes:
            _check_samples(form, data[at : at + size_bytes])
            return data
        at += size_bytes + size_bytes % 2
    raise _invalid(_DAMAGED_SOUND)


def _check_samples(form: bytes, samples: bytes) -> None:
    encoding, channels, samples_per_s, _, frame_bytes, sample_bits = struct.unpack_from("<HHIIHH", form)
    if encoding == _WAV_EXTENDED:
        encoding = int.from_bytes(form[24:26], "little")
    if sample_bits not in _WAV_BITS.get(encoding, ()):
        raise _invalid("the sound is encoded in another way than PCM, float, A-law or µ-law")
    if not (
        1 <= channels <= _MAX_CHANNELS
        and 1 <= samples_per_s <= _MAX_SAMPLES_PER_S
        and frame_bytes == channels * sample_bits // 8
    ):
        raise _invalid(_DAMAGED_SOUND)
    _check_length(len(samples) / frame_bytes / samples_per_s)
    # what is no number, or close to the largest, makes the engine's every probability none, for its neighbours as well
    if (
        encoding == 3
        and max(samples[sample_bits // 8 - 1 :: sample_bits // 8].translate(_WITHOUT_SIGN)) >= _LOUD[sample_bits]
    ):
        raise _invalid(_DAMAGED_SOUND)


def _parsed_mp3(data: bytes) -> bytes:
    """The frames that follow one another behind the tags. Players take a last one that is cut, and so do we."""
    _check_bytes(data, MAX_AUDIO_BYTES)
    start = 0
    for _ in range(_MAX_TAGS):
        if data.startswith(b"ID3", start) and len(data) >= start + 10:
            high, mid, low, lowest = data[start + 6 : start + 10]
            start += 10 + (high << 21 | mid << 14 | low << 7 | lowest)
    at = data.find(b"\xff", start, start + _MAX_JUNK_BYTES)
    while at >= 0:
        n_frames, end, seconds = _mp3_frames(data, at)
        if n_frames > 1 or (n_frames == 1 and end == len(data)):
            _check_length(seconds)
            if len(data) - end > _MAX_JUNK_BYTES and not data.startswith(_TAGS_BEHIND, end):
                break
            return data[at:end]
        at = data.find(b"\xff", at + 1, start + _MAX_JUNK_BYTES)
    raise _invalid(_DAMAGED_SOUND)


def _mp3_frames(data: bytes, at: int) -> tuple[int, int, float]:
    """How many frames follow one another from here, where the last one should end, and the seconds they last."""
    n_frames, seconds = 0, 0.0
    while at < len(data) and seconds <= _MAX_SOUND_S:
        size_bytes, frame_s = _mp3_frame(data, at)
        if not size_bytes:
            break
        n_frames, at, seconds = n_frames + 1, at + size_bytes, seconds + frame_s
    return n_frames, at, seconds


def _mp3_frame(data: bytes, at: int) -> tuple[int, float]:
    """Bytes and seconds of the layer III frame that starts here; 0 bytes where none does."""
    header = int.from_bytes(data[at : at + 4], "big")
    version, layer = header >> 19 & 3, header >> 17 & 3
    rate, frequency, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    if len(data) < at + 4 or header >> 21 != 0x7FF or version == 1 or layer != 1 or rate in (0, 15) or frequency == 3:
        return 0, 0.0
    is_first_version = version == 3
    bits_per_s = 1000 * _MP3_KBIT_PER_S[1 if is_first_version else 2][rate - 1]
    samples_per_s = _MP3_SAMPLES_PER_S[frequency] >> (0, 1, 2)[(3, 2, 0).index(version)]
    n_samples = 1152 if is_first_version else 576
    return n_samples // 8 * bits_per_s // samples_per_s + padding, n_samples / samples_per_s
