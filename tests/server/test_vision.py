"""Pictures on every path of the real engine, seen by a tiny model with random eyes. native-api §2.6, templates §4.3."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import pytest

from tests.running import Reply, Server
from tests.server.tiny_models import make, picture

CHATML = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
"""What the engine itself writes for a model without a template."""
SEEN = 40
"""Tokens at least that a picture takes."""


RED, BLUE = picture("red"), picture("blue")


def encoded(*images: bytes) -> list[str]:
    return [base64.b64encode(image).decode() for image in images]


def user(content: str, *images: bytes) -> dict[str, Any]:
    return {"role": "user", "content": content, "images": encoded(*images)}


def chat(server: Server, model: str, *messages: dict[str, Any], **more: Any) -> Reply:
    options = {"temperature": 0, "num_predict": 2, "num_ctx": 2048}
    body = {"model": model, "messages": messages, "stream": False, "logprobs": True, "options": options}
    return server.post("/api/chat", body | more)


def generate(server: Server, model: str, prompt: str, *images: bytes, **more: Any) -> Reply:
    options = {"temperature": 0, "num_predict": 2, "num_ctx": 2048}
    body = {"model": model, "prompt": prompt, "images": encoded(*images), "stream": False, "options": options}
    return server.post("/api/generate", body | {"logprobs": True} | more)


def shown(server: Server, model: str, *messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    reply = chat(server, model, *messages, _debug_render_only=True, **more)
    assert reply.status == 200, reply.body
    info: dict[str, Any] = reply.json()["_debug_info"]
    return info


def surely(reply: Reply) -> list[float]:
    assert reply.status == 200, reply.body
    return [entry["logprob"] for entry in reply.json()["logprobs"]]


def same(reply: Reply, other: Reply) -> bool:
    """Whether the engine was asked the same. The last bits of an answer depend on what was in the cache."""
    return surely(reply) == pytest.approx(surely(other), rel=1e-2)


@pytest.fixture(scope="module")
def tiny_go(server: Server, tiny_eyes: str) -> str:
    """The same model with a TEMPLATE of its user's, which says the same as the engine's own."""
    return make(server, "tiny-eyes-go", from_=tiny_eyes, template=CHATML)


@pytest.fixture(params=["engine's template", "TEMPLATE"])
def eyes(request: pytest.FixtureRequest, tiny_eyes: str, tiny_go: str) -> str:
    return tiny_go if request.param == "TEMPLATE" else tiny_eyes


# --- seeing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(picture("red", "PNG"), id="PNG"),
        pytest.param(picture("red", "JPEG", quality=100, subsampling=0), id="JPEG"),
        pytest.param(picture("red", "WEBP", lossless=True), id="WebP"),
        pytest.param(
            picture("red", "PNG") and picture("red", "WEBP", lossless=True, save_all=True, append_images=[]),
            id="WebP film",
        ),
    ],
)
def test_r58_a_picture_looks_the_same_in_every_format(server: Server, eyes: str, data: bytes) -> None:
    """Partly R-58: WebP is converted."""
    seen = chat(server, eyes, user("What is this?", data))
    assert surely(seen) == pytest.approx(surely(chat(server, eyes, user("What is this?", RED))), rel=0.05)
    assert not same(seen, chat(server, eyes, user("What is this?", BLUE)))


def test_one_picture_is_seen_the_same_on_both_paths(server: Server, tiny_eyes: str, tiny_go: str) -> None:
    # the engine's own template puts pictures behind the text, so the TEMPLATE's reader is told to
    own, ours = chat(server, tiny_eyes, user("look", RED)), chat(server, tiny_go, user("look[img]", RED))
    assert same(own, ours)
    assert own.json()["prompt_eval_count"] == ours.json()["prompt_eval_count"] > SEEN


def test_pictures_of_several_messages_are_seen_in_their_order(server: Server, eyes: str) -> None:
    """Partly R-58: two images."""

    def talk(first: bytes, second: bytes, third: bytes) -> Sequence[dict[str, Any]]:
        return (
            user("One [img] and [img]?", first, second),
            {"role": "assistant", "content": "Yes."},
            user("And?", third),
        )

    asked = chat(server, eyes, *talk(RED, BLUE, BLUE))
    assert asked.json()["prompt_eval_count"] > 3 * SEEN
    assert same(asked, chat(server, eyes, *talk(RED, BLUE, BLUE)))
    for other in (talk(BLUE, RED, BLUE), talk(BLUE, BLUE, RED)):
        assert not same(asked, chat(server, eyes, *other))


def test_generate_sees_what_chat_sees(server: Server, eyes: str) -> None:
    assert same(generate(server, eyes, "look", RED), chat(server, eyes, user("look", RED)))


def test_a_template_of_the_request_shows_pictures_too(server: Server, tiny_eyes: str) -> None:
    asked = generate(server, tiny_eyes, "[img] and [img].", RED, BLUE, template="{{ .Prompt }}")
    assert asked.json()["prompt_eval_count"] > 2 * SEEN
    assert not same(asked, generate(server, tiny_eyes, "[img] and [img].", BLUE, RED, template="{{ .Prompt }}"))


def test_raw_prompts_place_their_pictures_themselves(server: Server, tiny_eyes: str) -> None:
    raw = generate(server, tiny_eyes, "[img-1] then [img-0].", RED, BLUE, raw=True)
    assert raw.json()["prompt_eval_count"] > 2 * SEEN
    assert same(raw, generate(server, tiny_eyes, "[img] then [img].", BLUE, RED, raw=True))
    assert same(
        generate(server, tiny_eyes, " then.", RED, BLUE, raw=True),
        generate(server, tiny_eyes, "[img][img] then.", RED, BLUE, raw=True),
    )


def test_a_context_goes_before_a_message_with_pictures(server: Server, eyes: str) -> None:
    first = generate(server, eyes, "Say [img-0].", logprobs=False).json()
    context = first["context"]
    after = generate(server, eyes, "[img] look", RED, context=context)
    assert after.json()["prompt_eval_count"] > len(context) + SEEN
    assert not same(after, generate(server, eyes, "[img] look", BLUE, context=context))


def test_the_reply_to_a_picture_can_be_continued_by_its_context(server: Server, eyes: str) -> None:
    context = generate(server, eyes, "What is [img]?", RED).json()["context"]
    assert generate(server, eyes, "And [img]?", BLUE, context=context).status == 200


# --- marks ----------------------------------------------------------------------------------------------------------


def test_n65_the_rendered_prompt_shows_numbered_marks(server: Server, eyes: str) -> None:
    """Partly N-65: the count."""
    info = shown(server, eyes, user("compare [img] and [img]", RED, BLUE), user("hi", RED, BLUE), truncate=False)
    assert info["image_count"] == 4
    for words in ("compare [img-0] and [img-1]", "[img-2][img-3]hi"):
        assert words in info["rendered_template"]
    assert "image_count" not in shown(server, eyes, user("hi"))


def test_t70_a_model_with_a_renderer_shows_marks_as_that_does(server: Server, tiny_eyes: str) -> None:
    named = make(server, "tiny-renderer", from_=tiny_eyes, renderer="qwen3-vl-instruct")
    info = shown(server, named, user("hi", RED), user("compare [img]", BLUE))
    assert "[img-0] hi" in info["rendered_template"]
    assert "compare [img-1]" in info["rendered_template"]


@pytest.mark.parametrize("words", ["[img-7]", "[img-0]", "[img-1][img1-0]", "<__media__>", "[img"])
def test_x68_a_mark_that_somebody_typed_is_text(server: Server, eyes: str, words: str) -> None:
    """X-68: as many tokens more as the words have, and every picture where it was."""
    info = shown(server, eyes, user(f"{words} [img]", RED), user("now", BLUE))
    assert f"{words} [img-0]" in info["rendered_template"]
    plain = words.replace("img", "gim").replace("media", "medja")  # as many tokens
    asked = chat(server, eyes, user(f"{words} [img]", RED), user("now", BLUE))
    alike = chat(server, eyes, user(f"{plain} [img]", RED), user("now", BLUE))
    assert asked.json()["prompt_eval_count"] == alike.json()["prompt_eval_count"] > 2 * SEEN


def test_pictures_that_the_template_has_no_place_for_are_named(server: Server, tiny_eyes: str) -> None:
    blind = make(server, "tiny-blind", from_=tiny_eyes, template="{{ range .Messages }}{{ .Role }}{{ end }}:")
    reply = chat(server, blind, user("look", RED, BLUE))
    said = "the model's template has no place for 2 of the images, which were left out"
    assert said in reply.json()["warnings"]
    assert any(said in header for header in reply.headers.get_all("Llamero-Warning"))
    assert reply.json()["prompt_eval_count"] < SEEN


# --- fitting the context --------------------------------------------------------------------------------------------


def test_t67_pictures_count_768_tokens_and_what_stays_is_numbered_anew(server: Server, eyes: str) -> None:
    """Partly T-67: the older message goes, because of its picture alone."""
    talk = [user("old " * 60, RED), {"role": "assistant", "content": "x" * 500}, user("new " * 60, BLUE)]
    info = shown(server, eyes, *talk)
    assert info["image_count"] == 1
    assert "old" not in info["rendered_template"]
    assert "[img-0]new" in info["rendered_template"]
    assert "old" in shown(server, eyes, *talk[:2], user("new " * 60))["rendered_template"]
    assert shown(server, eyes, *talk, truncate=False)["image_count"] == 2


def test_t67_without_a_projector_pictures_cost_nothing(server: Server) -> None:
    """Partly T-67."""
    info = shown(server, "smollm2:135m", user("old", RED), user("new", BLUE), options={"num_ctx": 96})
    assert info["image_count"] == 2
    assert "old" in info["rendered_template"]


def test_pictures_alone_that_outgrow_the_window_are_an_error_of_the_engine(server: Server, eyes: str) -> None:
    reply = chat(server, eyes, user("x", *[RED] * 32, *[]), user("y" * 1500), truncate=False)
    assert reply.status == 400
    assert "exceeds the available context size" in reply.error


# --- what is refused ------------------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


HUGE = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (50_000).to_bytes(4, "big") * 2 + b"\1\0\0\0\0" + bytes(4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\0\0\0", "neither a picture (JPEG, PNG, WebP, GIF, BMP) nor a sound (WAV, MP3)", id="AAAA"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"%PDF-1.7", "neither a picture (JPEG, PNG, WebP, GIF, BMP) nor a sound (WAV, MP3)", id="PDF"),
        pytest.param(cut(RED), "the picture is damaged or cut short", id="cut PNG"),
        pytest.param(cut(picture(form="JPEG")), "the picture is damaged or cut short", id="cut JPEG"),
        pytest.param(cut(picture(form="WEBP")), "the picture is damaged or cut short", id="cut WebP"),
        pytest.param(HUGE, "the picture is damaged or cut short", id="50,000²"),
        pytest.param(b"\xff\xd8\xff" + bytes(21 * 2**20), "larger than 20 MiB", id="21 MiB"),
    ],
)
def test_x61_pictures_that_are_refused(server: Server, eyes: str, data: bytes, reason: str) -> None:
    """Partly X-61: the engine lives on, and not one word of a library is said."""
    assert chat(server, eyes, user("hi")).status == 200
    engines = server.engines()
    for reply in (
        chat(server, eyes, user("fine", RED), user("look", data)),
        generate(server, eyes, "look", data),
        generate(server, eyes, "look", data, raw=True),
    ):
        assert (reply.status, reply.error) == (400, f"invalid image input: {reason}")
    assert set(engines) <= set(server.engines())
    assert chat(server, eyes, user("hi", RED)).status == 200


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(picture(size=(1, 1)), id="1x1"),
        pytest.param(picture(size=(12_000, 1)), id="a line"),
        pytest.param(picture("red", "GIF"), id="GIF"),
        pytest.param(picture(form="JPEG") + b"PK\3\4<script>", id="polyglot"),
    ],
)
def test_x61_pictures_that_are_only_odd(server: Server, eyes: str, data: bytes) -> None:
    """Partly X-61: 1x1, animated, polyglot."""
    assert chat(server, eyes, user("look", data)).json()["prompt_eval_count"] > SEEN


@pytest.mark.parametrize("messages", [[33], [40], [20, 13]])
def test_x61_more_pictures_than_a_request_may_bring(server: Server, tiny_eyes: str, messages: list[int]) -> None:
    """Partly X-61: 40 images."""
    reply = chat(server, tiny_eyes, *(user("look", *[RED] * count) for count in messages))
    assert reply.status == 400
    assert "32" in reply.error


@pytest.mark.parametrize("path", ["chat", "generate"])
def test_a_model_without_eyes_says_so_before_it_is_loaded(server: Server, path: str) -> None:
    """Partly N-65."""
    server.unload_all()
    model = "smollm2:135m"
    reply = chat(server, model, user("hi", RED)) if path == "chat" else generate(server, model, "hi", RED)
    assert (reply.status, reply.error) == (400, f'image input is not supported by "{model}"')
    assert server.loaded() == []


def test_a_projector_is_what_a_model_sees_with(server: Server) -> None:
    """`vision` in a model's config opens no eyes: the engine would answer with a 500 of its own."""
    claims = make(server, "claims-eyes", from_="smollm2:135m", info={"capabilities": ["vision"]})
    reply = chat(server, claims, user("hi", RED))
    assert (reply.status, reply.error) == (400, f'image input is not supported by "{claims}"')


def test_mllama_takes_one_picture_in_a_message(server: Server, tiny_eyes: str) -> None:
    mllama = make(server, "tiny-mllama", from_=tiny_eyes, info={"model_family": "mllama"})
    said = "this model only supports one image while more than one image requested"
    for reply, status in (
        (chat(server, mllama, user("fine", RED), user("two", RED, BLUE)), 500),
        (generate(server, mllama, "two", RED, BLUE), 400),
        (chat(server, mllama, user("two", RED, BLUE), _debug_render_only=True), 500),
    ):
        assert (reply.status, reply.error) == (status, said)
    assert chat(server, mllama, user("one", RED), user("one more", BLUE)).status == 200
