"""Transcriptions: the form read, the text written (compat-api §11.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.chat.media import MAX_AUDIO_BYTES
from llamero.dialects.openai.transcription import (
    INSTRUCTION,
    TranscriptionStream,
    read_transcription,
    write_transcription,
)
from llamero.errors import BadRequest, EngineDied, InvalidField, TooLarge
from llamero.messages import Adapter, Finished, Message, Started, Text, Thinking, Usage

TYPE = "multipart/form-data; boundary=xx"
WAV = b"RIFF\0\0\0\0WAVE"
FINISHED = Finished("stop", Usage(prompt_tokens=7, predicted_tokens=2), 0, 0)
USAGE = {"type": "tokens", "input_tokens": 7, "output_tokens": 2, "total_tokens": 9}


def form(file: bytes | None = WAV, **fields: str) -> bytes:
    """Names of fields with brackets are given through `**{...}`."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in ({"model": "m"} | fields).items()]
    if file is not None:
        parts.append(b'name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n' + file)
    return b"".join(b"--xx\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--xx--\r\n"


def read(body: bytes) -> Any:
    return read_transcription(body, TYPE)


def test_it_is_a_conversation_about_the_recording() -> None:
    asked = read(form())
    assert asked.request.messages == (Message("system", INSTRUCTION), Message("user", images=(WAV,)))
    assert asked.request.options == {"temperature": 0.0}
    assert (asked.request.stream, asked.request.think, asked.format) == (False, False, "json")


def test_language_and_prompt_stand_in_the_instruction() -> None:
    told = read(form(language="sv", prompt="Llamero, Ollama")).request.messages[0].content
    assert told.startswith(INSTRUCTION)
    assert "recording is sv." in told
    assert told.endswith("Llamero, Ollama")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"temperature": "0.4"}, {"options": {"temperature": 0.4}}, id="temperature"),
        pytest.param({"stream": "true"}, {"stream": True}, id="stream"),
        pytest.param({"stream": "False"}, {"stream": False}, id="as Python writes it"),
        pytest.param({"keep_alive": "5m"}, {"keep_alive_ns": 300 * 10**9}, id="an extension as text"),
        pytest.param({"keep_alive": "-1"}, {"keep_alive_ns": (1 << 63) - 1}, id="an extension as a number"),
        pytest.param({"think": "true"}, {"think": True}, id="think"),
        pytest.param({"options": '{"num_ctx": 9}'}, {"options": {"temperature": 0.0, "num_ctx": 9}}, id="JSON"),
        pytest.param({"options[num_ctx]": "9"}, {"options": {"temperature": 0.0, "num_ctx": 9}}, id="in brackets"),
        pytest.param({"adapters": '[{"model": "x"}]'}, {"adapters": (Adapter("x"),)}, id="adapters"),
        pytest.param(
            {"options[temperature]": "0.9", "temperature": "0.1"}, {"options": {"temperature": 0.1}}, id="ours wins"
        ),
        pytest.param(
            {"timestamp_granularities[]": "word", "voice": "x", "user": "me"},
            {
                "warnings": (
                    "field 'voice' is unknown and has no effect",
                    "field 'timestamp_granularities[]' has no effect",
                )
            },
            id="what has no effect is named",
        ),
    ],
)
def test_fields(fields: dict[str, str], expected: dict[str, Any]) -> None:
    request = read(form(**fields)).request
    assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (form(file=None), "file", "file is required: one, with a file name"),
        (form(file=None, file_="x"), "file", "file is required: one, with a file name"),
        (form(b""), "file", "audio file is empty"),
        (form(b"\x89PNG\r\n\x1a\n"), "file", "audio file has a format that cannot be read: WAV and MP3 can"),
        (form(model=""), "model", "model is required"),
        (
            form(model='m\r\n--xx\r\nContent-Disposition: form-data; name="model"\r\n\r\nn'),
            "model",
            "model is given more",
        ),
        (
            form(model='\r\n--xx\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nn'),
            "model",
            "model ",
        ),
        (form(temperature="hot"), "temperature", "temperature must be a number between 0 and 1"),
        (form(temperature="nan"), "temperature", "temperature must be a number between 0 and 1"),
        (form(temperature="1.1"), "temperature", "temperature must be a number between 0 and 1"),
        (form(stream="maybe"), "stream", "stream must be true or false"),
        (form(options="[1]"), "options", "'options' must be an object, not an array"),
        (form(response_format="xml"), "response_format", "response_format must be one of json, text, srt, "),
        *[
            (form(response_format=timed), "response_format", f"response_format '{timed}' needs timestamps")
            for timed in ("srt", "verbose_json", "vtt")
        ],
    ],
)
def test_partly_c103_c104_what_is_refused(body: bytes, param: str, message: str) -> None:
    """partly C-103, partly C-104: on the wire of a real server elsewhere."""
    with pytest.raises(InvalidField) as caught:
        read(body)
    assert caught.value.param == param
    assert str(caught.value).startswith(message)


def test_a_file_that_nobody_asked_for_is_named() -> None:
    body = form(x='\r\n--xx\r\nContent-Disposition: form-data; name="cover"; filename="a.png"\r\n\r\nPNG')
    assert read(body).request.warnings == tuple(
        f"field '{name}' is unknown and has no effect" for name in ("x", "cover")
    )


def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^failed to parse multipart form"):
        read_transcription(b"{}", "application/json")


def test_the_largest_file_and_one_byte_more() -> None:
    largest = WAV.ljust(MAX_AUDIO_BYTES, b"\0")
    assert read(form(largest)).request.messages[1].images == (largest,)
    with pytest.raises(TooLarge):
        read(form(largest + b"\0"))


# --- replies ---

PARTS = [Thinking("hm"), Text(" \n Hello"), Text(" "), Text("there.\n"), Text("\n")]


def test_the_text_is_trimmed() -> None:
    assert json.loads(write_transcription(read(form()), PARTS, FINISHED)) == {"text": "Hello there.", "usage": USAGE}
    assert write_transcription(read(form(response_format="text")), PARTS, FINISHED) == b"Hello there."


def events(parts: list[Any]) -> list[Any]:
    stream = TranscriptionStream()
    data = (
        stream.begin(Started()) + b"".join(map(stream.part, parts)) + stream.finish(FINISHED) + stream.end([FINISHED])
    )
    return [json.loads(frame.removeprefix("data: ")) for frame in data.decode().split("\n\n")[:-1]]


def test_partly_c104_a_stream_ends_with_the_whole_text() -> None:
    assert events(PARTS) == [
        {"type": "transcript.text.delta", "delta": "Hello"},
        {"type": "transcript.text.delta", "delta": " there."},
        {"type": "transcript.text.done", "text": "Hello there.", "usage": USAGE},
    ]
    assert events([]) == [{"type": "transcript.text.done", "text": "", "usage": USAGE}]


def test_an_error_in_a_stream_is_one_that_clients_know() -> None:
    failed = TranscriptionStream().failed(EngineDied("gone")).decode()
    assert json.loads(failed.removeprefix("data: "))["error"]["message"] == "gone"
