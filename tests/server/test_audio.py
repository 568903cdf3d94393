"""Sounds on the real engine, heard by a tiny model with random ears (native-api §2.6, templates §5.4)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.audio_models import MP3, SAMPLES_PER_S, tone, wav, write_ears
from tests.running import Reply, Server
from tests.server.tiny_models import TEXT, make

CHATML = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def ears(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that hears and does not see."""
    projector = write_ears(tmp_path_factory.mktemp("ears") / "mmproj.gguf")
    return make(server, "tiny-ears", [TEXT, projector])


@pytest.fixture(scope="module")
def ears_go(server: Server, ears: str) -> str:
    """The same with a TEMPLATE of its user's, which says the same as the engine's own."""
    return make(server, "tiny-ears-go", from_=ears, template=CHATML)


def listen(server: Server, model: str, *sounds: bytes, content: str = "What is it?", **more: Any) -> Reply:
    message = {"role": "user", "content": content, "images": [base64.b64encode(sound).decode() for sound in sounds]}
    options = {"temperature": 0, "num_predict": 2, "num_ctx": 1024}
    body = {"model": model, "messages": [message], "stream": False, "logprobs": True, "options": options}
    return server.post("/api/chat", body | more)


def surely(reply: Reply) -> list[float]:
    assert reply.status == 200, reply.body
    return [entry["logprob"] for entry in reply.json()["logprobs"]]


def same(answer: list[float], other: list[float]) -> bool:
    """The last bits of an answer depend on what was in the cache; another sound changes a hundredth."""
    return answer == pytest.approx(other, rel=5e-3)


def test_partly_t71_a_model_with_an_audio_encoder_says_so(server: Server, ears: str) -> None:
    assert {"vision", "audio"} <= set(server.post("/api/show", {"model": ears}).json()["capabilities"])


@pytest.mark.parametrize("kind", ["WAV", "MP3"])
def test_what_is_heard_matters(server: Server, ears: str, kind: str) -> None:
    low, high = (wav(tone(440)), wav(tone(2000))) if kind == "WAV" else (MP3[440], MP3[2000])
    answers = [listen(server, ears, sound) for sound in (low, high, low)]
    first, other, again = map(surely, answers)
    assert same(first, again)
    assert not same(first, other)
    assert answers[0].json()["prompt_eval_count"] > 75, "the sound takes its own tokens"


def test_a_sound_is_heard_the_same_through_a_go_template(server: Server, ears: str, ears_go: str) -> None:
    # the engine's template puts a sound behind the text, so the TEMPLATE's reader is told to
    sound = wav(tone(660))
    heard = listen(server, ears_go, sound, content="What is it?[img]")
    assert same(surely(heard), surely(listen(server, ears, sound)))


def test_two_sounds_are_heard_in_their_order(server: Server, ears_go: str) -> None:
    low, high = wav(tone(440)), wav(tone(2000))
    asked = {"content": "First [img], then [img]."}
    in_order, swapped = listen(server, ears_go, low, high, **asked), listen(server, ears_go, high, low, **asked)
    assert not same(surely(in_order), surely(swapped))


def test_a_prompt_that_ends_with_a_sound_does_not_end_the_engine(server: Server, ears: str) -> None:
    engines = server.engines()
    body = {"model": ears, "prompt": "[img]", "raw": True, "images": [base64.b64encode(wav(tone(440))).decode()]}
    reply = server.post("/api/generate", body | {"stream": False, "options": {"num_predict": 1, "num_ctx": 1024}})
    assert reply.status == 200, reply.body
    assert set(engines) <= set(server.engines())


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        pytest.param(wav(tone(440))[:-1], "the sound is damaged or cut short", id="cut"),
        pytest.param(wav(tone(440, 1 / SAMPLES_PER_S)), "the sound is shorter than 1 ms", id="one sample"),
        pytest.param(
            b"fLaC" + bytes(100), "neither a picture (JPEG, PNG, WebP, GIF, BMP) nor a sound (WAV, MP3)", id="FLAC"
        ),
    ],
)
def test_sounds_that_are_refused(server: Server, ears: str, sound: bytes, reason: str) -> None:
    reply = listen(server, ears, sound)
    said = f"invalid image input: {reason}"
    if sound.startswith(b"fLaC"):  # no sound that we know, hence refused as a picture
        said = f'image input is not supported by "{ears}"'
    assert (reply.status, reply.error) == (400, said)


def test_pictures_are_not_for_ears(server: Server, ears: str, png_base64: str) -> None:
    reply = listen(server, ears, base64.b64decode(png_base64))
    assert (reply.status, reply.error) == (400, f'image input is not supported by "{ears}"')


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_sounds_are_not_for_eyes_nor_for_readers(server: Server, tiny_eyes: str, path: str) -> None:
    sound = base64.b64encode(wav(tone(440))).decode()
    for model in (tiny_eyes, "smollm2:135m"):
        asked = {"messages": [{"role": "user", "content": "hi", "images": [sound]}], "prompt": "hi", "images": [sound]}
        fields = ("messages",) if path == "/api/chat" else ("prompt", "images")
        reply = server.post(path, {"model": model} | {name: asked[name] for name in fields})
        assert (reply.status, reply.error) == (400, f'audio input is not supported by "{model}"')


def test_a_refused_sound_loads_nothing(server: Server, tiny_eyes: str, tmp_path: Path) -> None:
    server.unload_all()
    assert listen(server, tiny_eyes, wav(tone(440))).status == 400
    assert server.loaded() == []
