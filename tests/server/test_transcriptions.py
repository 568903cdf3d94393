"""Recordings written down on the real engine (compat-api §11.1).

The model that writes says the same of every recording; that it hears at all is told by `test_audio.py`.
"""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from gguf import GGUFReader

from tests.audio_models import MP3, tone, wav, write_ears
from tests.parrot import write_parrot
from tests.running import Reply, Server
from tests.server.tiny_models import make

SAID = "This is what was said."
RECORDING = wav(tone(440))
TEMPLATE = "{{ range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}> "


@pytest.fixture(scope="module")
def scribe(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that hears, and writes the same of whatever it hears."""
    folder = tmp_path_factory.mktemp("scribe")
    parrot = write_parrot(folder / "parrot.gguf", f"  {SAID} \n")
    width = GGUFReader(parrot).fields["llama.embedding_length"].contents()
    return make(server, "scribe", [parrot, write_ears(folder / "ears.gguf", width)], template=TEMPLATE)


def transcribe(server: Server, model: str, file: bytes | None = RECORDING, **fields: str) -> Reply:
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in ({"model": model} | fields).items()]
    if file is not None:
        parts.append(b'name="file"; filename="a.wav"\r\n\r\n' + file)
    body = b"".join(b"--xx\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--xx--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=xx"}
    return server.post("/v1/audio/transcriptions", body, headers=headers)


def error(reply: Reply) -> tuple[int, str, str]:
    told = reply.json()["error"]
    assert told["type"] == "invalid_request_error"
    return reply.status, told["message"], told["param"]


@pytest.mark.parametrize("recording", [RECORDING, MP3[440]], ids=["WAV", "MP3"])
def test_c103_the_text_of_a_recording(server: Server, scribe: str, recording: bytes) -> None:
    """C-103, together with the two tests below."""
    reply = transcribe(server, scribe, recording)
    assert reply.status == 200, reply.body
    usage = reply.json()["usage"]
    assert reply.json() == {"text": SAID, "usage": usage}
    assert usage["type"] == "tokens"
    assert usage["input_tokens"] > 75, "the sound takes its own tokens"
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    plain = transcribe(server, scribe, recording, response_format="text")
    assert (plain.body.decode(), plain.content_type) == (SAID, "text/plain; charset=utf-8")


def test_c103_c104_openais_own_client(server: Server, scribe: str) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        file = ("a.wav", RECORDING)
        options = {"options": {"num_ctx": 1024}}
        assert client.audio.transcriptions.create(file=file, model=scribe, extra_body=options).text == SAID
        assert client.audio.transcriptions.create(file=file, model=scribe, response_format="text") == SAID
        *_, done = client.audio.transcriptions.create(file=file, model=scribe, stream=True)
        assert (done.type, done.text) == ("transcript.text.done", SAID)
        with pytest.raises(openai.BadRequestError, match="needs timestamps"):
            client.audio.transcriptions.create(file=file, model=scribe, response_format="verbose_json")


def test_c103_what_is_missing_is_named(server: Server, scribe: str) -> None:
    status, message, param = error(transcribe(server, scribe, None))
    assert (status, message.startswith("file is required"), param) == (400, True, "file")
    assert error(transcribe(server, scribe, b"")) == (400, "audio file is empty", "file")
    assert error(transcribe(server, "")) == (400, "model is required", "model")
    not_a_form = server.post("/v1/audio/transcriptions", {"model": scribe})
    assert (not_a_form.status, not_a_form.json()["error"]["message"][:30]) == (400, "failed to parse multipart form")


@pytest.mark.parametrize("wanted", ["srt", "vtt", "verbose_json"])
def test_c104_formats_with_times_are_refused(server: Server, scribe: str, wanted: str) -> None:
    status, message, param = error(transcribe(server, scribe, response_format=wanted))
    assert (status, param) == (400, "response_format")
    assert "timestamps" in message


def test_c104_a_model_that_cannot_hear(server: Server, tiny_eyes: str) -> None:
    for model in ("smollm2:135m", tiny_eyes):
        assert error(transcribe(server, model)) == (400, f'"{model}" does not support audio input', "file")


def test_c104_a_stream_ends_with_the_whole_text(server: Server, scribe: str) -> None:
    reply = transcribe(server, scribe, stream="true")
    assert reply.content_type == "text/event-stream"
    *deltas, done = (json.loads(line[6:]) for line in reply.body.decode().split("\n\n")[:-1])
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert len(deltas) > 1
    assert "".join(delta["delta"] for delta in deltas) == SAID
    assert (done["type"], done["text"], done["usage"]["type"]) == ("transcript.text.done", SAID, "tokens")


def test_a_transcript_that_is_cut_off_says_so(server: Server, scribe: str) -> None:
    reply = transcribe(server, scribe, **{"options[num_predict]": "2"})
    assert SAID.startswith(reply.json()["text"])
    assert reply.json()["text"] != SAID
    assert "the transcript is not complete" in reply.headers["Llamero-Warning"]


def test_fields_without_effect_are_named(server: Server, scribe: str) -> None:
    reply = transcribe(server, scribe, **{"timestamp_granularities[]": "word"})
    assert reply.headers["Llamero-Warning"] == "field 'timestamp_granularities[]' has no effect"


def test_a_damaged_recording_is_refused(server: Server, scribe: str) -> None:
    status, message, _ = error(transcribe(server, scribe, RECORDING[:-1]))
    assert (status, message) == (400, "invalid image input: the sound is damaged or cut short")


def test_a_recording_that_is_too_large(server: Server, scribe: str) -> None:
    reply = transcribe(server, scribe, RECORDING.ljust(25 * 2**20 + 1, b"\0"))
    assert reply.status == 413
    assert reply.json()["error"]["message"] == "request body too large (limit 26214400 bytes)"


def test_an_unknown_model(server: Server) -> None:
    assert error(transcribe(server, "nope")) == (404, "model 'nope' not found", "model")


def test_speech_has_no_route(server: Server) -> None:
    reply: Any = server.post("/v1/audio/speech", {"model": "x", "input": "hi"})
    assert (reply.status, reply.json()["error"]["code"]) == (404, "unknown_url")
