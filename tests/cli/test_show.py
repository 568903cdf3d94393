"""The sections of `show`, byte for byte (cli §3.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamero.cli.show import go_float
from tests.cli.conftest import Ollama
from tests.cli.scripted_server import Reply, ScriptedServer, shown

LLAMA = {
    "general.architecture": "llama",
    "general.parameter_count": 8_000_000_000,
    "llama.context_length": 131072,
    "llama.embedding_length": 3072.0,
}


@pytest.fixture
def show(ollama: Ollama, server: ScriptedServer) -> Any:
    """The output of `show m` for a reply with these fields."""

    def run(*flags: str, **fields: Any) -> str:
        server.replies["POST /api/show"] = shown(**{"capabilities": [], "model_info": None} | fields)
        outcome = ollama("show", "m", *flags)
        assert (outcome.status, outcome.err) == (0, "")
        return outcome.out

    return run


def section(title: str, text: str) -> str:
    return text.partition(f"  {title}\n")[2].partition("\n\n")[0] + "\n"


def test_minimal_details(show: Any) -> None:
    """L-33"""
    assert show(details={"family": "test", "parameter_size": "7B", "quantization_level": "FP16"}) == (
        "  Model\n    architecture    test    \n    parameters      7B      \n    quantization    FP16    \n\n"
    )


def test_the_model_section_from_metadata(show: Any) -> None:
    """L-34, L-43"""
    details = {"family": "llama", "parameter_size": "3.2B", "quantization_level": "Q4_K_M"}
    assert section("Model", show(model_info=LLAMA, details=details, requires="0.14.0")) == (
        "    architecture        llama     \n"
        "    parameters          3.2B      \n"
        "    context length      131072    \n"
        "    embedding length    3072      \n"
        "    quantization        Q4_K_M    \n"
        "    requires            0.14.0    \n"
    )


def test_missing_metadata_leaves_rows_out_but_quantization(show: Any) -> None:
    assert section("Model", show(model_info={}, details={})) == "    quantization        \n"
    counted = show(model_info=LLAMA, details={"quantization_level": "F16"})
    assert "    parameters          8B        \n" in counted


def test_remote_models_say_where_they_are(show: Any) -> None:
    text = show(remote_model="big:1t", remote_host="https://ollama.com:443", details={})
    assert text.startswith(
        "  Model\n    Remote model    big:1t                    \n    Remote URL      https://ollama.com:443    \n"
    )


def test_capabilities_in_the_servers_order(show: Any) -> None:
    """L-35"""
    text = show(capabilities=["vision", "completion", "tools"])
    assert section("Capabilities", text) == "    vision        \n    completion    \n    tools         \n"


def test_projector(show: Any) -> None:
    """L-36"""
    info = {
        "general.architecture": "clip",
        "general.parameter_count": 133_700_000,
        "clip.vision.embedding_length": 768,
        "clip.vision.projection_dim": 2048,
    }
    assert section("Projector", show(projector_info=info)) == (
        "    architecture        clip       \n"
        "    parameters          133.70M    \n"
        "    embedding length    768        \n"
        "    dimensions          2048       \n"
    )


def test_a_projector_for_sound(show: Any) -> None:
    info = {"general.architecture": "clip", "clip.audio.embedding_length": 512, "clip.audio.projection_dim": 99}
    text = section("Projector", show(projector_info=info))
    assert "embedding length    512 " in text
    assert "dimensions          99 " in text


def test_parameters_keep_one_value_column(show: Any) -> None:
    parameters = 'num_ctx                        4096\nstop                           "User: x"'
    assert section("Parameters", show(parameters=parameters)) == (
        '    num_ctx    4096         \n    stop       "User: x"    \n'
    )


def test_a_long_system_text_is_shown_by_its_beginning(show: Any) -> None:
    """L-37"""
    assert section("System", show(system="  You are\n\n\t a pirate!\nAhoy")) == (
        "    You are      \n    a pirate!    \n    ...          \n"
    )


def test_a_licence_of_two_lines_is_whole(show: Any) -> None:
    """L-38"""
    assert section("License", show(license="Some\nlicense\n")) == "    Some       \n    license    \n"
    assert section("License", show(license="So\x0cme\r\nlicense")) == "    Some       \n    license    \n"


def test_long_lines_break_at_100_columns(show: Any) -> None:
    lines = section("System", show(system="word " * 25)).splitlines()
    assert [line.rstrip() for line in lines] == ["    " + "word " * 19 + "word", "      " + "word " * 4 + "word"]


def test_verbose_adds_metadata_and_tensors(show: Any, server: ScriptedServer) -> None:
    """L-39"""
    info = {
        "b.flag": True,
        "a.count": 8_000_000_000,
        "a.small": 0.5,
        "c.list": ["1", "22", "333", "4"],
        "d.word": "text",
        "e.short": [1, 2],
        "f.long": ["a-long-item-16", "b"],
        "g.null": None,
    }
    tensors = [{"name": "blk.0.attn", "type": "Q4_K", "shape": [42, 3117]}, {"name": "n", "type": "F32", "shape": [1]}]
    text = show("-v", model_info=info, tensors=tensors)
    assert server.body("POST /api/show") == {"model": "m", "verbose": True}
    rows = [line.split(None, 1) for line in section("Metadata", text).splitlines()]
    assert [(name, value.rstrip()) for name, value in rows] == [
        ("a.count", "8e+09"),
        ("a.small", "0.5"),
        ("b.flag", "true"),
        ("c.list", "[1 22 ...+2 more]"),
        ("d.word", "text"),
        ("e.short", "[1 2]"),
        ("f.long", "[a-long-item-16 ...+1 more]"),
        ("g.null", "<nil>"),
    ]
    assert f"    a.count    {'8e+09':<27}    \n" in text
    assert section("Tensors", text) == (
        "    blk.0.attn    Q4_K    [42 3117]    \n    n             F32     [1]          \n"
    )


def test_without_verbose_there_is_neither(show: Any) -> None:
    text = show(model_info=LLAMA, tensors=[{"name": "t", "type": "F32", "shape": [1]}])
    assert "Metadata" not in text
    assert "Tensors" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(8030261248, "8.030261248e+09"), (1e6, "1e+06"), (999999, "999999"), (0.5, "0.5"), (1e-5, "1e-05"), (0, "0")],
)
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    assert go_float(float(value)) == text


@pytest.mark.parametrize(
    ("flag", "field", "end"),
    [
        ("--license", "license", "\n"),
        ("--modelfile", "modelfile", "\n"),
        ("--parameters", "parameters", "\n"),
        ("--system", "system", ""),
        ("--template", "template", ""),
    ],
)
def test_one_text_alone(show: Any, flag: str, field: str, end: str) -> None:
    """L-40"""
    assert show(flag, **{field: "the text"}) == f"the text{end}"


def test_two_texts_are_refused_before_anything_is_asked(ollama: Ollama, server: ScriptedServer) -> None:
    """L-41"""
    outcome = ollama("show", "m", "--license", "--system")
    assert outcome.err == (
        "Error: only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified\n"
    )
    assert (outcome.status, server.routes) == (1, [])


def test_a_missing_model(ollama: Ollama, server: ScriptedServer) -> None:
    """L-42"""
    server.replies["POST /api/show"] = Reply(404, json={"error": "model 'missing' not found"})
    outcome = ollama("show", "missing")
    assert (outcome.status, outcome.out, outcome.err) == (1, "", "Error: model 'missing' not found\n")


def test_models_that_make_pictures_are_refused(ollama: Ollama, server: ScriptedServer) -> None:
    server.replies["POST /api/show"] = shown(capabilities=["image"])
    assert ollama("show", "m").err == "Error: image generation models are not currently supported\n"


def test_json_is_the_servers_body(show: Any, server: ScriptedServer) -> None:
    assert json.loads(show("--json", "-v", license="L"))["license"] == "L"
    assert server.body("POST /api/show") == {"model": "m", "verbose": True}
