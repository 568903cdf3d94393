"""Config, parameters and messages as bytes (store-registry §2.2, §2.3, Appendix A)."""

from __future__ import annotations

from typing import Any

import pytest

from llamero.errors import StorageError
from llamero.messages import Message, ToolCall
from llamero.names import Digest
from llamero.store.layers import (
    Config,
    decode_messages,
    decode_parameters,
    encode_messages,
    encode_parameters,
)

# S-21: Appendix A
PARAMETERS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"top_k": 10, "temperature": 1.0, "stop": ["USER:", "ASSISTANT:"]},
        '{"stop":["USER:","ASSISTANT:"],"temperature":1,"top_k":10}\n',
        "1d0ad71299d4",
    ),
    (
        {"stop": ["USER:", "ASSISTANT:"], "temperature": 0.6, "top_p": 0.7, "top_k": 10},
        '{"stop":["USER:","ASSISTANT:"],"temperature":0.6,"top_k":10,"top_p":0.7}\n',
        "e29a7b3c4728",
    ),
    (
        {"stop": ["<|endoftext|>"], "temperature": 0.6, "top_p": 0.7, "top_k": 10},
        '{"stop":["\\u003c|endoftext|\\u003e"],"temperature":0.6,"top_k":10,"top_p":0.7}\n',
        "12f58bb75cb3",
    ),
]


@pytest.mark.parametrize(("parameters", "text", "prefix"), PARAMETERS, ids=["first", "child", "stop replaced"])
def test_s21_parameters_match_the_vectors(parameters: dict[str, Any], text: str, prefix: str) -> None:
    raw = encode_parameters(parameters)
    assert raw.decode() == text
    assert Digest.of(raw).short == prefix
    assert decode_parameters(raw) == parameters


def test_s21_messages_match_the_vector() -> None:
    messages = (
        Message("assistant", "What is my purpose?"),
        Message("user", "You run tests."),
        Message("assistant", "Oh, my god."),
    )
    raw = encode_messages(messages)
    assert raw.decode() == (
        '[{"role":"assistant","content":"What is my purpose?"},{"role":"user","content":"You run tests."},'
        '{"role":"assistant","content":"Oh, my god."}]\n'
    )
    assert Digest.of(raw).short == "298baeaf6928"
    assert decode_messages(raw) == messages


MINIMAL = (
    '{"model_format":"gguf","model_family":"test","model_families":["test"],"model_type":"0","file_type":"unknown",'
    '"architecture":"amd64","os":"linux"}\n'
)


def test_s21_config_matches_the_vector() -> None:
    config = Config(
        model_format="gguf", model_family="test", model_families=("test",), model_type="0", file_type="unknown"
    )
    raw = config.encode()
    assert raw.decode() == MINIMAL
    assert (
        Digest.of(raw).short == "99759ad5b91e"
    )  # Appendix A lists this one and the minimal GGUF's the wrong way round
    assert Config.decode(raw) == config


def test_config_writes_every_key_in_order_and_leaves_out_the_empty_ones() -> None:
    config = Config(
        model_format="gguf",
        model_family="f",
        model_families=("f", "clip"),
        model_type="8B",
        file_type="Q4_K_M",
        renderer="r",
        parser="p",
        requires="0.14.0",
        remote_host="https://h",
        remote_model="m",
        capabilities=("tools",),
        context_length=8,
        embedding_length=9,
        base_name="b",
        draft={"model_format": "gguf", "architecture": "d"},
    )
    assert config.encode().decode() == (
        '{"model_format":"gguf","model_family":"f","model_families":["f","clip"],"model_type":"8B","file_type":"Q4_K_M",'
        '"renderer":"r","parser":"p","requires":"0.14.0","remote_host":"https://h","remote_model":"m",'
        '"capabilities":["tools"],"context_length":8,"embedding_length":9,"base_name":"b",'
        '"draft":{"model_format":"gguf","architecture":"d"},"architecture":"amd64","os":"linux"}\n'
    )
    assert Config.decode(config.encode()) == config
    assert Config().encode().startswith(b'{"model_format":"","model_family":"","model_families":null,"model_type":"",')


def test_config_takes_what_other_programs_wrote() -> None:
    raw = (
        b'{"model_family": "llama", "model_families": null, "rootfs": {"type": "layers"}, "os": "darwin", "parser": 7}'
    )
    assert Config.decode(raw) == Config(model_family="llama", os="darwin")
    assert Config.decode(b"") == Config()


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"{", b"\xff", b"[" * 100_000])
def test_broken_small_layers_are_storage_errors(raw: bytes) -> None:
    for decode in (Config.decode, decode_parameters):
        with pytest.raises(StorageError, match=r"^bad (config|parameters) layer: not"):
            decode(raw)


@pytest.mark.parametrize(
    "raw", [b"{}", b"[1]", b"[", b'[{"role":"user","images":["?"]}]', b'[{"images":["\xc2\x80"]}]']
)
def test_broken_messages_are_storage_errors(raw: bytes) -> None:
    with pytest.raises(StorageError, match=r"^bad messages layer"):
        decode_messages(raw)


def test_messages_keep_all_they_carry() -> None:
    messages = (
        Message("user", "look", images=(b"\x89PNG", b"")),
        Message("assistant", "", thinking="hm", tool_calls=(ToolCall("f", {"b": 1, "a": [2]}, id="call_1", index=1),)),
        Message("tool", "42", tool_name="f", tool_call_id="call_1"),
    )
    assert decode_messages(encode_messages(messages)) == messages
    assert b'"tool_calls":[{"id":"call_1","function":{"index":1,"name":"f","arguments":{"b":1,"a":[2]}}}]' in (
        encode_messages(messages)
    )


def test_null_reads_as_nothing() -> None:
    assert decode_messages(b"null") == ()
    assert decode_parameters(b"null") == {}
