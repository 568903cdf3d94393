"""Paths of pictures and sounds inside a prompt (cli §3.4.7)."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from llamero.cli import attachments
from llamero.cli.attachments import paths_in, take_attachments
from llamero.cli.terminal import Terminal
from llamero.errors import BadRequest

PNG = b"\x89PNG\r\n\x1a\n rest"
JPEG = b"\xff\xd8\xff rest"
WEBP = b"RIFF\x00\x00\x00\x00WEBPVP8 rest"
WAVE = b"RIFF\x00\x00\x00\x00WAVE rest"


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("look at /tmp/a.jpg now", ["/tmp/a.jpg"]),
        ("./a.png and ./b.WEBP", ["./a.png", "./b.WEBP"]),
        (r"C:\pic\a b.jpeg", [r"C:\pic\a b.jpeg"]),
        (r"/tmp/a\ b.jpg", [r"/tmp/a\ b.jpg"]),
        ("../x.png", ["../x.png"]),
        ("~/x.png", ["~/x.png"]),
        ("/tmp/a.jpgx /tmp/b.wav.", ["/tmp/a.jpgx /tmp/b.wav"]),
        ("cat.png", []),
        ("/tmp/a.gif or /b.BMP", ["/tmp/a.gif", "/b.BMP"]),
        ("/tmp/a.svg", []),
        ("@cat.png and @a/b\\ c.jpg", ["@cat.png", "@a/b\\ c.jpg"]),
        ("me@home.png", []),
        ("file:///tmp/a%20b.png", ["file:///tmp/a%20b.png"]),
        ("/tmp/a\n.png", []),
        ("http://h/x.png", ["p://h/x.png"]),
    ],
)
def test_what_looks_like_a_path(text: str, paths: list[str]) -> None:
    assert paths_in(text) == paths


def taken(prompt: str) -> tuple[str, list[bytes], str]:
    err = io.StringIO()
    text, files = take_attachments(prompt, Terminal(io.StringIO(), io.StringIO(), err))
    return text, files, err.getvalue()


def test_a_file_leaves_the_prompt(tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(JPEG)
    assert taken(f"look at {picture} now") == ("look at  now", [JPEG], f"Added image '{picture}'\n")


def test_quotes_escapes_and_capitals(tmp_path: Path) -> None:
    """L-59"""
    (tmp_path / "q d.png").write_bytes(PNG)
    (tmp_path / "B.JPG").write_bytes(JPEG)
    quoted, escaped = f"'{tmp_path}/q d.png'", f"{tmp_path}/q\\ d.png"
    assert taken(f"see {quoted} ok")[:2] == ("see  ok", [PNG])
    assert taken(f"see {escaped} ok") == ("see  ok", [PNG], f"Added image '{tmp_path}/q d.png'\n")
    assert taken(f"{tmp_path}/B.JPG")[:2] == ("", [JPEG])


def test_sounds_are_said_to_be_sounds(tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    sound.write_bytes(WAVE)
    assert taken(str(sound)) == ("", [WAVE], f"Added audio '{sound}'\n")


def test_several_files_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(WEBP)
    (tmp_path / "b.png").write_bytes(PNG)
    assert taken(f"{tmp_path}/b.png {tmp_path}/a.webp")[1] == [PNG, WEBP]


def test_a_path_to_nothing_is_text() -> None:
    """partly L-60"""
    warning = "Warning: there is no file '/no/such.png', so it is sent as text\n"
    assert taken("  is /no/such.png a name? ") == ("  is /no/such.png a name? ", [], warning)
    assert taken("see http://h/x.png") == ("see http://h/x.png", [], "")


@pytest.mark.parametrize(
    ("content", "kind"), [(b"hello\n", "text/plain; charset=utf-8"), (b"\x00\x01", "application/octet-stream")]
)
def test_a_file_of_another_type_is_refused(tmp_path: Path, content: bytes, kind: str) -> None:
    """L-60, together with the path to nothing above"""
    (tmp_path / "x.png").write_bytes(content)
    err = io.StringIO()
    with pytest.raises(BadRequest) as error:
        take_attachments(f"{tmp_path}/x.png", Terminal(io.StringIO(), io.StringIO(), err))
    assert str(error.value) == f"invalid file type: {kind}"
    assert err.getvalue() == f'Couldn\'t process file: "invalid file type: {kind}"\n'


def test_a_huge_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_FILE_BYTES", 20)
    (tmp_path / "x.png").write_bytes(PNG + bytes(20))
    with pytest.raises(BadRequest, match=r"file size exceeds maximum limit \(100MB\)"):
        taken(f"{tmp_path}/x.png")


@pytest.mark.parametrize(("format", "ending"), [("GIF", "gif"), ("BMP", "bmp")])
def test_other_pictures_are_converted(tmp_path: Path, format: str, ending: str) -> None:
    Image.new("RGB", (3, 2), "red").save(tmp_path / f"a.{ending}", format)
    (data,) = taken(f"{tmp_path}/a.{ending}")[1]
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("PNG", (3, 2))


def test_a_picture_that_cannot_be_converted_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(BadRequest, match=r"a\.gif cannot be read; save it as PNG or JPEG"):
        taken(f"{tmp_path}/a.gif")


def test_other_ways_to_name_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    (home / "a.png").write_bytes(PNG)
    (here / "b.png").write_bytes(PNG)
    (tmp_path / "c d.png").write_bytes(PNG)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    for spelling in ("~/a.png", "@b.png", "@./b.png", "../home/a.png", f"file://{tmp_path}/c%20d.png"):
        assert taken(f"see {spelling} ok")[:2] == ("see  ok", [PNG]), spelling
