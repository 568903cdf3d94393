"""Whatever comes from outside is read, or refused with one of our own errors. security §4, §5, §9.4.

Nothing else may be raised: what is not a LlameroError is a reply of 500 with a traceback in the log.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from llamero import gguf, modelfile
from llamero.chat.families import FAMILIES, family_parser
from llamero.chat.grammar import check_grammar
from llamero.chat.pipeline import Parser
from llamero.chat.schema import check_schema, for_completion, for_engine, parse_format
from llamero.chat.thinking import ThinkingSplitter
from llamero.chat.tools import ToolParser
from llamero.dialects import native, rerank
from llamero.dialects.anthropic import count, reading
from llamero.dialects.fields import read_body
from llamero.dialects.gojson import decode_value
from llamero.dialects.images import remote_urls
from llamero.dialects.openai import chat, completions, embeddings
from llamero.dialects.responses import reading as responses
from llamero.errors import LlameroError
from llamero.messages import Message, ToolCall
from llamero.names import Digest, ModelName, split_source
from llamero.options import merge_options, read_options
from llamero.store.layers import Config, decode_messages, decode_parameters
from llamero.store.manifests import parse_manifest
from llamero.template import scan
from llamero.template.render import Template, render
from tests.fuzz.fuzzing import BUDGET_S, bodies, damaged, fuzz, like, words
from tests.gguf_files import gguf_file, llama_metadata, llama_tensors, tiny_llama
from tests.template.conversations import TODAY

Check = Callable[[Any], None]

refused = contextlib.suppress(LlameroError)

FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
SCHEMA = {
    "type": "object",
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"n": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/n"}, {"$ref": "#"}]}},
    "properties": {
        "a": {"type": "string", "pattern": "^(a|b){1,3}$", "minLength": 1, "enum": ["a", 1, None]},
        "b": {"type": ["integer", "null"], "minimum": 0, "exclusiveMaximum": 9, "multipleOf": 2},
        "c": {"type": "array", "items": {"$ref": "#/$defs/n"}, "maxItems": 3, "prefixItems": [{"const": 1}]},
        "d": {"allOf": [{"oneOf": [{"type": "number"}, True]}], "not": {"format": "date"}},
    },
}
OPTIONS = {"temperature": 0.5, "stop": ["x"], "num_ctx": 512, "grammar": 'root ::= "a"', "num_predict": 9, "x": 1}
PICTURE = "iVBORw0KGgo="
SHARED = {"model": "m", "stream": True, "options": OPTIONS, "keep_alive": "5m", "think": "high"}
OPENAI = {
    **SHARED,
    "n": 2,
    "stop": ["x"],
    "seed": 1,
    "logit_bias": {"5": 1.0},
    "stream_options": {"include_usage": True},
    "max_tokens": 5,
    "adapters": [{"model": "a", "scale": 1}],
}
PART = {"type": "text", "text": "hi"}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
REMOTE = {"type": "image_url", "image_url": "https://host/x.png"}
BLOCKS = [
    {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}},
    {"type": "image", "source": {"type": "url", "url": "https://host/x.png"}},
    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}], "is_error": False},
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}},
]
MESSAGES = {
    "model": "m",
    "max_tokens": 5,
    "system": [PART],
    "messages": [{"role": "user", "content": BLOCKS}, {"role": "assistant", "content": "x"}],
    "tools": [{"name": "f", "description": "d", "input_schema": FUNCTION["parameters"]}, {"type": "bash_20250124"}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "low"},
    "stop_sequences": ["x"],
}
CHAT = {
    **OPENAI,
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [PART, IMAGE, REMOTE, {"type": "input_audio", "input_audio": {"data": "UklG"}}]},
        {"role": "assistant", "tool_calls": [CALL], "reasoning": "r", "function_call": CALL["function"]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "functions": [FUNCTION],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
    "reasoning_effort": "low",
    "reasoning": {"effort": "none"},
    "logprobs": True,
    "top_logprobs": 5,
    "modalities": ["text"],
}
RESPONSE = {
    "model": "m",
    "instructions": "i",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "x"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x"}]},
        {"type": "item_reference", "id": "x"},
    ],
    "tools": [{"type": "function", **FUNCTION}, {"type": "web_search"}],
    "tool_choice": "required",
    "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "truncation": "auto",
    "background": False,
    "store": True,
    "previous_response_id": "resp_1",
    "max_output_tokens": 5,
    "top_logprobs": 2,
}
NATIVE = {
    **SHARED,
    "format": SCHEMA,
    "logprobs": True,
    "top_logprobs": 3,
    "truncate": True,
    "adapters": [{"model": "a", "scale": 0.5}],
}
NATIVE_CHAT = {
    **NATIVE,
    "messages": [
        {"role": "user", "content": "hi", "images": [PICTURE]},
        {"role": "assistant", "thinking": "t", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "tool_name": "f", "content": "x"},
    ],
    "tools": [TOOL],
    "tool_choice": "auto",
}
GENERATE = {**NATIVE, "prompt": "p", "system": "s", "template": "t", "suffix": "x", "context": [1], "images": [PICTURE]}
DIGEST = "sha256:" + "0" * 64
LAYER = {"mediaType": "application/vnd.ollama.image.model", "digest": DIGEST, "size": 5, "from": "x", "urls": []}
MANIFEST = {"schemaVersion": 2, "mediaType": "x", "config": LAYER, "layers": [LAYER, LAYER], "annotations": {"a": "b"}}
CONFIG = {
    "model_format": "gguf",
    "model_family": "llama",
    "model_families": ["llama"],
    "capabilities": ["tools"],
    "context_length": 5,
    "draft": {"a": 1},
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}


# --- JSON bodies -----------------------------------------------------------------------------------------------------


def reads(*readers: Callable[[bytes], object]) -> Check:
    def check(body: bytes) -> None:
        for read in readers:
            with refused:
                read(body)

    return check


def looks_for_pictures(body: bytes) -> object:
    return list(remote_urls(decode_value(body)))


def read_response(body: bytes) -> object:
    fields = read_body(body)
    responses.previous_id(fields)
    return responses.read(fields)


def read_schema(value: Any) -> None:
    with refused:
        schema = parse_format(value)
        if isinstance(schema, dict):
            check_schema(schema)
            enforced, _ = for_engine(schema)
            json.dumps(for_completion(enforced))


def read_option_map(value: Any) -> None:
    if isinstance(value, dict):
        with refused:
            known, _ = read_options(value)
            merge_options(known)


BODIES: dict[str, tuple[st.SearchStrategy[Any], Check]] = {
    "/api/chat": (bodies(NATIVE_CHAT), reads(native.read_chat)),
    "/api/generate": (bodies(GENERATE), reads(native.read_generate)),
    "/api/embed": (bodies({**SHARED, "input": ["a"], "dimensions": 5}), reads(native.read_embed)),
    "/api/embeddings": (bodies({**SHARED, "prompt": "a"}), reads(native.read_embeddings)),
    "/api/rerank": (
        bodies({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "keep_alive": 5}),
        reads(rerank.read_rerank, rerank.read_v1_rerank),
    ),
    "/v1/chat/completions": (bodies(CHAT), reads(chat.read_chat, looks_for_pictures)),
    "/v1/completions": (
        bodies({**OPENAI, "prompt": ["a", [1, 2]], "best_of": 3, "echo": True, "logprobs": 2, "suffix": "s"}),
        reads(completions.read_completion),
    ),
    "/v1/embeddings": (
        bodies({"model": "m", "input": ["a", [1]], "dimensions": 4, "encoding_format": "base64"}),
        reads(embeddings.read_embeddings),
    ),
    "/v1/responses": (bodies(RESPONSE), reads(read_response, looks_for_pictures)),
    "/v1/messages": (bodies(MESSAGES), reads(reading.read_messages, count.read_count, looks_for_pictures)),
    "schemas": (like(SCHEMA), read_schema),
    "options": (like(OPTIONS), read_option_map),
}


# --- files and texts -------------------------------------------------------------------------------------------------

MODELS = [
    tiny_llama(),
    *(
        gguf_file(llama_metadata(), llama_tensors(), version=v, big_endian=b)
        for v, b in ((1, False), (2, True), (3, True))
    ),
]


def read_gguf(data: bytes) -> None:
    with refused:
        header = gguf.read_header(data)
        gguf.show_metadata(header, data, verbose=True)
        for value in header.metadata.values():
            if isinstance(value, gguf.Array):
                gguf.read_array(data, header, value)
        gguf.check_model(header, data)
    with refused:
        gguf.read_records(data)


def read_name(text: str) -> None:
    with refused:
        name = ModelName.parse(text)
        assert ModelName.parse(name.full).parts == name.parts  # the scheme is no part of it
        for part in name.parts:
            assert part not in ("", ".", "..")
            assert not set(part) & set("/\\\0\n ")
    with refused:
        split_source(text)
    with refused:
        assert len(Digest.parse(text).file_name) == len("sha256-") + 64


def read_modelfile(data: bytes) -> None:
    with refused:
        parsed = modelfile.parse(data)
        with refused:
            parsed.parameters()
        again = modelfile.parse(modelfile.format(parsed).encode())
        assert again.commands == parsed.commands


CONVERSATION = (
    Message("system", "s"),
    Message("user", "hi", images=(b"x",)),
    Message("assistant", "", "t", tool_calls=(ToolCall("f", {"a": [1, None, "x"]}, "c"),)),
    Message("tool", "x", tool_name="f"),
)


def read_template(text: str) -> None:
    with refused:
        template = Template.parse(text)
        scan.tool_call_tag(template.tree)
        scan.thinking_tags(template.tree)
        render(template, CONVERSATION, today=TODAY, tools=[TOOL])


def read_manifest(data: bytes) -> None:
    for strict in (True, False):
        with refused:
            for layer in parse_manifest(data, strict=strict).blobs:
                assert layer.size_bytes >= 0
    for decode in (Config.decode, decode_parameters, decode_messages):
        with refused:
            decode(data)


def read_grammar(text: str) -> None:
    with refused:
        check_grammar(text)


FILES: dict[str, tuple[st.SearchStrategy[Any], Check]] = {
    "GGUF": (st.sampled_from(MODELS).flatmap(damaged), read_gguf),
    "names": (
        words("a", ":", "/", "..", "@", "sha256:", "0" * 64, "hf.co/", ":cloud", "https://", "%2e", "\0"),
        read_name,
    ),
    "Modelfile": (
        words(
            *("FROM ", "PARAMETER ", "stop ", "num_ctx ", "5", "MESSAGE ", "user ", "SYSTEM ", "TEMPLATE ", "LICENSE "),
            *('"""', '"', "\n", "\r\n", "#", "ADAPTER ", "llama3", "\ufeff", "REQUIRES 0.1", "\\", "DRAFT "),
        ).map(lambda text: text.encode("utf-8", "surrogatepass"))
        | st.binary(max_size=40),
        read_modelfile,
    ),
    "Go templates": (
        words(
            *(
                "{{ ",
                "{{- ",
                " }}",
                " -}}",
                ".Messages ",
                ".Content ",
                "range ",
                "end ",
                "if ",
                "else ",
                "$x := ",
                "$x ",
            ),
            *("with ", "define ", "template ", '"a" ', "(", ")", "| ", "printf ", '"%d %v %*s" ', "index ", "slice "),
            *(
                "len ",
                "json ",
                "eq ",
                "1 ",
                "-1 ",
                ".ToolCalls ",
                "$.Tools ",
                "{{ range .Messages }}",
                "{{ end }}",
                ", ",
            ),
            *("break ", "continue ", "nil ", "`", "'", "/*", "*/", "1e999 ", "0x7 ", "call ", ".Function.Arguments "),
        ),
        read_template,
    ),
    "manifests": (bodies(MANIFEST) | bodies(CONFIG) | bodies(NATIVE_CHAT["messages"]) | bodies(OPTIONS), read_manifest),
    "grammars": (
        words(
            "root", " ::= ", '"a"', "[a-z]", "(", ")", "*", "+", "?", "{1,2}", "{", "|", "\n", "#", "\\x", "^", ".", "a"
        ),
        read_grammar,
    ),
}


# --- what a model says -----------------------------------------------------------------------------------------------


def parsers(name: str) -> Parser:
    if name.startswith("tag "):
        return ToolParser(["f"], name.removeprefix("tag "), new_id=lambda: "c", max_calls=3)
    if name == "thinking":
        return ThinkingSplitter("<think>", "</think>", limit=50)
    family = family_parser(name, [TOOL], new_id=lambda: "c", think=True)
    assert family is not None
    return family


PARSERS = ("tag {", "tag [", "tag <tool_call>", "thinking", "harmony", *FAMILIES)
ANSWER = words(
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<function=f>", "<parameter=a>", "</parameter>"),
    *(
        "</function>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
    ),
    *("<function_calls>", "<|tool_call_start|>", "<|tool_call_end|>", "[TOOL_CALLS]", "[ARGS]", "call:f{", '<|"|>'),
    *("<|START_ACTION|>", "<|channel|>", "analysis", "<|message|>", "<|call|>", " to=functions.f", "<|start|>", "f"),
    *(
        "(",
        ")",
        "a=",
        "a",
        ":",
        ",",
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        "\\",
        "\\ud83d",
        '{"name":"f","arguments":{}}',
        "1e9",
    ),
)


def read_answer(given: tuple[str, str, list[int]]) -> None:
    """In pieces of any length, nothing is raised, and each piece is what it says it is."""
    name, text, lengths = given
    parser = parsers(name)
    pieces = []
    for length in lengths:
        pieces += parser.feed(text[:length])
        text = text[length:]
    pieces += [*parser.feed(text), *parser.finish()]
    for piece in pieces:
        if isinstance(piece, ToolCall):
            json.dumps(piece.arguments)
        else:
            piece.text.encode()


ANSWERS = {
    "answers": (st.tuples(st.sampled_from(PARSERS), ANSWER, st.lists(st.integers(0, 9), max_size=9)), read_answer)
}

FUZZERS = BODIES | FILES | ANSWERS


@pytest.mark.parametrize(("inputs", "check"), FUZZERS.values(), ids=FUZZERS.keys())
def test_hostile_input_is_read_or_refused(inputs: st.SearchStrategy[Any], check: Check) -> None:
    fuzz(inputs, check)


@pytest.mark.heavy
@pytest.mark.parametrize(("inputs", "check"), FUZZERS.values(), ids=FUZZERS.keys())
def test_hostile_input_is_read_or_refused_for_longer(inputs: st.SearchStrategy[Any], check: Check) -> None:
    fuzz(inputs, check, BUDGET_S)
