"""`/api/generate` on the real engine and SmolLM2 (native-api §3.7)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.running import Reply, Server

M = "smollm2:135m"
FULL = "registry.ollama.ai/library/smollm2:135m"
FIGURES = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


def generate(server: Server, prompt: str = "Why is the sky blue?", **body: Any) -> Reply:
    options = {"temperature": 0, "num_predict": 8, **body.pop("options", {})}
    return server.post("/api/generate", {"model": M, "prompt": prompt, "options": options, **body})


def text_of(reply: Reply) -> str:
    return "".join(line["response"] for line in reply.lines())


def test_n53_without_a_prompt_the_model_is_loaded(server: Server) -> None:
    server.unload_all()  # one that is on its way out would go all the same
    reply = server.post("/api/generate", {"model": M})
    assert reply.content_type == "application/json; charset=utf-8"
    assert set(reply.json()) == {"model", "created_at", "response", "done", "done_reason"}
    assert (reply.json()["done"], reply.json()["done_reason"], reply.json()["response"]) == (True, "load", "")
    assert M in server.loaded()


def test_n54_and_r15_keep_alive_zero_without_a_prompt_unloads(server: Server) -> None:
    """N-54, R-15: also for a model that is not loaded."""
    server.post("/api/generate", {"model": M})
    for _ in range(2):
        reply = server.post("/api/generate", {"model": M, "keep_alive": 0})
        assert (reply.status, reply.json()["done_reason"]) == (200, "unload")
        server.wait_until(lambda: M not in server.loaded())


def test_n55_embedding_models_do_not_generate(server: Server) -> None:
    assert server.post("/api/generate", {"model": "all-minilm:22m", "keep_alive": 0}).json()["done_reason"] == "unload"
    reply = server.post("/api/generate", {"model": "all-minilm:22m"})
    assert (reply.status, reply.error) == (400, '"all-minilm:22m" does not support generate')


def test_n56_n57_n58_n60_a_stream_of_lines(server: Server) -> None:
    """N-56 framing, N-57 keys of intermediate lines, N-58 figures of the last, N-60 timestamps."""
    reply = generate(server)
    assert reply.content_type == "application/x-ndjson"
    assert reply.body.endswith(b"\n")
    assert b"\n\n" not in reply.body
    *lines, last = reply.lines()
    assert len(lines) == 8
    assert all(list(line) == ["model", "created_at", "response", "done"] and line["done"] is False for line in lines)
    assert last["done"] is True
    assert last["done_reason"] in ("stop", "length")
    assert all(isinstance(last[name], int) and last[name] > 0 for name in FIGURES)
    assert last["load_duration"] <= last["total_duration"]  # partly R-61: warm
    assert all(isinstance(token, int) for token in last["context"])
    pattern = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$")
    assert all(pattern.match(line["created_at"]) for line in reply.lines())


def test_n59_one_object_says_the_same_as_the_stream(server: Server) -> None:
    whole = generate(server, stream=False, options={"seed": 1})
    assert whole.content_type == "application/json; charset=utf-8"
    assert whole.json()["response"] == text_of(generate(server, options={"seed": 1}))


def test_n61_raw(server: Server) -> None:
    reply = generate(server, "The sky is", raw=True, stream=False)
    assert "context" not in reply.json()
    assert reply.json()["prompt_eval_count"] < 6, "raw means no template around the prompt"
    for extra in ({"system": "s"}, {"template": "t"}, {"context": [1]}):
        refused = generate(server, raw=True, **extra)
        assert (refused.status, refused.error) == (400, "raw mode does not support template, system, or context")


def test_partly_n62_suffix_needs_a_model_that_can_insert(server: Server) -> None:
    reply = generate(server, suffix="x")
    assert (reply.status, reply.error) == (400, f"{FULL} does not support insert")


@pytest.mark.parametrize("stream", [True, False])
def test_n63_n64_the_rendered_prompt(server: Server, stream: bool) -> None:
    """N-63 through the template, N-64 raw."""
    reply = generate(server, "Hello", _debug_render_only=True, stream=stream)
    assert reply.content_type == "application/json; charset=utf-8"
    assert (reply.json()["done"], reply.json()["response"]) == (False, "")
    assert "<|im_start|>user\nHello<|im_end|>" in reply.json()["_debug_info"]["rendered_template"]
    raw = generate(server, "Hello", _debug_render_only=True, raw=True)
    assert raw.json()["_debug_info"] == {"rendered_template": "Hello"}


def test_n65_images_on_a_text_model(server: Server, png_base64: str) -> None:
    reply = generate(server, "Hello", images=[png_base64], _debug_render_only=True)
    assert reply.json()["_debug_info"]["image_count"] == 1
    refused = generate(server, "Hello", images=[png_base64])
    assert (refused.status, refused.error) == (400, f'image input is not supported by "{M}"')


def test_n66_a_request_may_bring_its_template(server: Server) -> None:
    shown = generate(server, template="PROMPT: {{ .Prompt }}", prompt="Hello", _debug_render_only=True).json()
    assert shown["_debug_info"]["rendered_template"] == "PROMPT: Hello"
    short = {"num_predict": 8, "temperature": 0}
    one = generate(server, template="{{ .Prompt }}", prompt="One two three four", options=short)
    raw = generate(server, raw=True, prompt="One two three four", options=short)
    assert text_of(one) == text_of(raw)


def test_n73_a_template_that_is_none(server: Server) -> None:
    reply = generate(server, template="{{ .Prompt")
    assert (reply.status, reply.error) == (500, "template: :1: unclosed action")
    assert reply.content_type == "application/json; charset=utf-8", "no stream has begun"


def test_n67_num_predict_ends_with_length(server: Server) -> None:
    last = generate(server, options={"num_predict": 3}).lines()[-1]
    assert (last["eval_count"], last["done_reason"]) == (3, "length")


def test_n68_stop_strings_end_the_answer_and_are_not_in_it(server: Server) -> None:
    free = text_of(generate(server, options={"num_predict": 30}))
    stop = free.split()[5]
    reply = generate(server, options={"num_predict": 30, "stop": [stop]})
    assert stop not in text_of(reply)
    assert free.startswith(text_of(reply))
    assert reply.lines()[-1]["done_reason"] == "stop"


def test_n69_greedy_answers_repeat(server: Server) -> None:
    first, second = (text_of(generate(server, options={"seed": 7, "num_predict": 20})) for _ in range(2))
    assert first == second


def test_r76_seeded_sampling_repeats(server: Server) -> None:
    """R-76: same seed, same text, on the first and every repeated request."""
    answers = {text_of(generate(server, options={"seed": 42, "temperature": 0.8, "num_predict": 24})) for _ in range(4)}
    assert len(answers) == 1


def test_r60_a_repeated_prompt_is_counted_in_full_and_costs_less(server: Server) -> None:
    prompt = "Tell me about the sea. " * 20
    first, second = (generate(server, prompt, stream=False).json() for _ in range(2))
    assert first["prompt_eval_count"] == second["prompt_eval_count"]
    assert second["prompt_eval_duration"] <= first["prompt_eval_duration"]


def test_n70_context_continues_a_conversation(server: Server) -> None:
    first = generate(server, "My name is Zed.", stream=False).json()
    reply = generate(server, "What is my name?", stream=False, context=first["context"])
    assert reply.status == 200
    assert reply.json()["context"][: len(first["context"])] == first["context"]
    assert generate(server, context=["a"]).status == 400


def test_n71_json_and_schemas(server: Server) -> None:
    question = "Give me a JSON object with name and age"
    reply = generate(server, question, format="json", stream=False, options={"num_predict": 99})
    assert isinstance(json.loads(reply.json()["response"]), dict)
    schema = {
        "type": "object",
        "properties": {"legs": {"type": "integer", "minimum": 0, "maximum": 9}, "kind": {"enum": ["cat", "dog"]}},
        "required": ["legs", "kind"],
        "additionalProperties": False,
    }
    answer = json.loads(
        generate(server, "A cat", format=schema, stream=False, options={"num_predict": 99}).json()["response"]
    )
    assert set(answer) == {"legs", "kind"}
    assert isinstance(answer["legs"], int)
    assert answer["kind"] in ("cat", "dog")
    nowhere = {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}
    refused = generate(server, format=nowhere)
    assert refused.status == 400
    assert "/properties/a" in refused.error


@pytest.mark.parametrize("format", ["", None])
def test_n72_formats_that_mean_nothing(server: Server, format: str | None) -> None:
    assert generate(server, format=format).status == 200
    wrong = generate(server, format="xml")
    assert wrong.status == 500
    assert wrong.error.startswith('invalid format: "\\"xml\\""; expected')


def test_multi_byte_characters_arrive_whole(server: Server) -> None:
    reply = generate(server, "Repeat exactly: 你好👋 你好👋", options={"num_predict": 40})
    assert "\ufffd" not in text_of(reply)


def test_system_replaces_the_models_own(server: Server) -> None:
    rendered = generate(server, "Hi", system="You are Zed.", _debug_render_only=True).json()["_debug_info"]
    assert "<|im_start|>system\nYou are Zed.<|im_end|>" in rendered["rendered_template"]


def test_html_characters_are_escaped_as_go_does(server: Server) -> None:
    reply = generate(server, "Hi", _debug_render_only=True)
    assert b"\\u003c|im_start|\\u003e" in reply.body
