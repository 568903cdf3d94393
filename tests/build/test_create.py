"""Creating a model from files or from another model (store-registry §6, native-api §3.11)."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamero.build.create import CreateRequest, create
from llamero.errors import (
    BadRequest,
    Forbidden,
    InvalidModelFile,
    LlameroError,
    ModelNotFound,
)
from llamero.messages import Message, Progress
from llamero.names import Digest, ModelName
from llamero.store import Model, Store
from llamero.store.layers import Config
from llamero.template.builtin import TEMPLATES
from tests import model_folders
from tests.gguf_files import TensorSpec, gguf_file, tiny_llama

WEIGHTS = tiny_llama()
OTHER_WEIGHTS = tiny_llama({"llama.context_length": 256})
MINIMAL = gguf_file({"general.architecture": "test"})
CLIP = {"general.architecture": "clip", "general.type": "mmproj"}
HEX = "0" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def make(store: Store, model: str = "m", *, gguf: bytes | None = None, **fields: Any) -> list[str]:
    """Create a model, from `gguf` when it is given, and return the statuses."""
    if gguf is not None:
        fields["files"] = {"model.gguf": str(store.blobs.put(gguf))}
    reports: list[Progress] = []
    create(store, CreateRequest(model=model, **fields), reports.append)
    return [report.status for report in reports]


def made(store: Store, name: str = "m") -> Model:
    return store.resolve(ModelName.parse(name))


def kinds(model: Model) -> list[str]:
    return [layer.media_type.rpartition(".")[2] for layer in model.manifest.layers]


def contents(store: Store, model: Model, kind: str) -> list[bytes]:
    layers = [layer for layer in model.manifest.layers if layer.media_type.endswith(kind)]
    return [store.blobs.read(layer.digest, 1 << 20) for layer in layers]


def refuse(store: Store, expected: type[LlameroError] = BadRequest, model: str = "m", **fields: Any) -> str:
    """The text of the refusal; nothing at all may have been written for it."""
    before = model_folders.tree(store.root) if store.root.exists() else {}
    with pytest.raises(expected) as caught:
        create(store, CreateRequest(model=model, **fields), lambda progress: None)
    after = model_folders.tree(store.root) if store.root.exists() else {}
    ours = {name: content for name, content in after.items() if not name.startswith(".llamero")}
    assert ours == {name: content for name, content in before.items() if not name.startswith(".llamero")}
    return str(caught.value)


# --- from files ---


def test_s65_an_uploaded_file_is_kept_as_it_is(store: Store) -> None:
    level = tiny_llama({"general.file_type": 15})
    statuses = make(store, gguf=level)
    model = made(store)
    digest = Digest.of(level)
    assert statuses == ["parsing GGUF", f"using existing layer {digest}", "writing manifest", "success"]
    (weights,) = model.manifest.layers
    assert (weights.digest, weights.size_bytes, weights.from_name, weights.name) == (digest, len(level), "", "")
    assert model.config == Config(
        model_format="gguf",
        model_family="llama",
        model_families=("llama",),
        model_type="18K",
        file_type="Q4_K_M",
    )
    assert model.manifest.made_here


def test_s21_the_minimal_file_gives_the_config_of_the_vector(store: Store) -> None:
    make(store, gguf=MINIMAL)
    config = made(store).manifest.config
    assert config is not None
    assert config.digest.short == "99759ad5b91e"  # Appendix A has this one and the file's own swapped


def test_texts_become_layers_in_their_order(store: Store) -> None:
    statuses = make(
        store,
        gguf=WEIGHTS,
        template="{{ .Prompt }}",
        system="Say hi!",
        licenses=("MIT", "Apache-2.0"),
        parameters={"top_k": 10, "temperature": 1.0, "stop": ["USER:", "ASSISTANT:"], "seed": None},
        messages=(Message("user", "hi"),),
    )
    model = made(store)
    assert kinds(model) == ["model", "template", "system", "license", "license", "params", "messages"]
    assert [layer.digest.short for layer in model.manifest.layers][1:6] == [
        "b507b9c2f6ca",
        "f29e82a8284d",
        "e5dcffe836b6",
        "2af71558e438",
        "1d0ad71299d4",
    ]  # Appendix A
    layers = [layer.digest for layer in model.manifest.layers]
    new = [f"creating new layer {digest}" for digest in layers[1:]]
    assert statuses == ["parsing GGUF", f"using existing layer {layers[0]}", *new, "writing manifest", "success"]
    assert model.template == "{{ .Prompt }}"
    assert model.is_user_template
    assert model.messages == (Message("user", "hi"),)
    assert make(store, "again", gguf=WEIGHTS, system="Say hi!")[2] == f"using existing layer {layers[2]}"


def test_what_a_client_sends_along_from_the_models_folder_is_passed_over(store: Store) -> None:
    along = str(store.blobs.put(b"{}"))
    files = {"config.json": along, "chat_template.jinja": along, "tokenizer.model": along}
    make(store, files=files | {"model.gguf": str(store.blobs.put(WEIGHTS))})
    assert kinds(made(store)) == ["model"]


def projector(**keys: Any) -> bytes:
    return gguf_file({"general.architecture": "clip"} | keys)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (projector(**{"general.type": "projector"}), "projector"),
        (projector(**{"general.type": "mmproj"}), "projector"),
        (projector(**{"clip.block_count": 0, "clip.vision.block_count": 2}), "projector"),
        (projector(**{"clip.vision.block_count": 2}), "projector"),
        (projector(**{"clip.has_vision_encoder": True}), "projector"),
        (projector(**{"clip.has_audio_encoder": True}), "projector"),
        (projector(**{"clip.has_vision_encoder": False}), "model"),
        (projector(**{"general.type": "adapter"}), "adapter"),
        (tiny_llama({"general.type": "adapter"}), "adapter"),
        (tiny_llama({"llama.vision.block_count": 2}), "model"),
        (WEIGHTS, "model"),
    ],
)
def test_s74_files_are_told_apart_by_their_metadata(store: Store, content: bytes, kind: str) -> None:
    make(store, gguf=content)
    assert kinds(made(store)) == [kind]


def test_files_are_taken_by_path_and_described_by_the_model_among_them(store: Store) -> None:
    clip, weights = store.blobs.put(gguf_file(CLIP)), store.blobs.put(WEIGHTS)
    statuses = make(store, files={"model.gguf": str(weights), "a/mmproj.gguf": str(clip)})
    model = made(store)
    assert statuses[:2] == ["parsing GGUF", "parsing GGUF"]
    assert [layer.digest for layer in model.manifest.layers] == [clip, weights]
    assert (model.config.model_family, model.config.model_families) == ("llama", ("llama", "clip"))
    assert model.capabilities == ("completion", "vision")


def test_an_adapter_joins_the_weights(store: Store) -> None:
    lora = str(store.blobs.put(tiny_llama({"general.type": "adapter"}, [TensorSpec("x.lora_a", (32, 2))])))
    make(store, gguf=WEIGHTS, adapters={"lora.gguf": lora}, system="s")
    assert kinds(made(store)) == ["model", "adapter", "system"]
    assert made(store).adapters == (store.blobs.path(Digest.parse(lora)),)
    assert refuse(store, from_="m", adapters={"w.gguf": str(store.blobs.put(WEIGHTS))}) == (
        "the file given as an adapter is none"
    )


def test_s74_two_adapters_are_too_many(store: Store) -> None:
    make(store, gguf=WEIGHTS)
    lora = str(store.blobs.put(tiny_llama({"general.type": "adapter"})))
    assert refuse(store, from_="m", adapters={"a.gguf": lora, "b.gguf": lora}) == (
        "only one adapter is currently supported"
    )


@pytest.mark.parametrize("path", ["../x", "/abs", "a//b", "a/./b", "", ".", "..", "a/..", "a/", "\ud800"])
@pytest.mark.parametrize("field", ["files", "draft_files"])
def test_s72_paths_are_relative_and_plain(store: Store, field: str, path: str) -> None:
    assert refuse(store, **{field: {path: f"sha256:{HEX}"}}) == "file path must be relative"


BAD_DIGESTS = ["", "sha256:", "/etc/passwd", f"sha256:../{HEX}", f"sha256:{HEX[1:]}", f"sha256:{HEX}0", f"sha512:{HEX}"]


@pytest.mark.parametrize("digest", BAD_DIGESTS)
@pytest.mark.parametrize("field", ["files", "draft_files", "adapters"])
def test_s72_x13_digests_are_checked_before_anything_else(store: Store, field: str, digest: str) -> None:
    """Partly X-11: the HTTP side is the server's."""
    assert refuse(store, from_="m" * (field == "adapters"), **{field: {"x": digest}}) == "invalid digest format"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": ""}, "invalid model name"),
        ({"model": "a/b/c/d"}, "invalid model name"),
        ({"draft_quantize": "q8_0"}, "--draft-quantize requires a DRAFT model"),
        ({}, "neither 'from' or 'files' was specified"),
        ({"files": {}}, "unknown type"),
        ({"from_": "not a name"}, "invalid model name"),
        ({"from_": "/etc/passwd"}, "invalid model name"),
        ({"from_": "  "}, "invalid model name"),
        ({"from_": "x:cloud:local"}, 'use either :local or :cloud, not both: "x:cloud:local"'),
        ({"files": {f"{n}.gguf": f"sha256:{HEX}" for n in range(1001)}}, "at most 1000 files are accepted"),
        (
            {"from_": "m", "remote_host": "h", "draft_files": {"d.gguf": f"sha256:{HEX}"}},
            "DRAFT cannot be used with remote models",
        ),
        ({"files": {"m.gguf": f"sha256:{HEX}"}}, f'blob "sha256:{HEX}" not found'),
        ({"files": {"m": f"sha256-{HEX}"}}, f'blob "sha256:{HEX}" not found'),
    ],
)
def test_what_is_wrong_with_a_request(store: Store, fields: dict[str, Any], text: str) -> None:
    assert refuse(store, LlameroError, **fields) == text
    with pytest.raises(LlameroError) as caught:
        make(store, **fields)
    assert caught.value.status == 400


def test_s73_nothing_to_make_a_model_of(store: Store) -> None:
    short = {"model.bin": str(store.blobs.put(b"GGU"))}
    assert refuse(store) == "neither 'from' or 'files' was specified"
    assert refuse(store, files={}) == "unknown type"
    assert refuse(store, files=short) == "unknown type"
    make(store, files={"model.bin": str(store.blobs.put(WEIGHTS))})  # told by its first bytes
    assert kinds(made(store)) == ["model"]


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("../../../../etc/ld.so.preload", "x")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["model.zip", "model.bin", "model.gguf"])
def test_x17_an_archive_is_no_model_and_never_unpacked(store: Store, name: str) -> None:
    text = refuse(store, files={name: str(store.blobs.put(archive()))})
    assert text == ("supplied file was not in GGUF format" if name.endswith(".gguf") else "unknown type")


@pytest.mark.parametrize("path", ["/etc/shadow", "/no/such/file", "/dev/zero", "etc/shadow", "../../etc/shadow"])
def test_no_path_of_a_client_is_opened(store: Store, path: str) -> None:
    """Partly X-15: existing and missing paths get the same answers, at once. No field `modelfile` comes here."""
    begin = time.monotonic()
    assert refuse(store, files={"model.gguf": path}) == "invalid digest format"
    in_place_of_name = refuse(store, LlameroError, from_=path)
    assert in_place_of_name in ("invalid model name", f"model '{path}:latest' not found")
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(4), b"GGUF\3\0\0\0" + bytes(15)], ids=len)
def test_x21_a_file_cut_short(store: Store, root: Path, content: bytes) -> None:
    """As a stored model's blob the same text comes with status 500 (test_models asks every use of it)."""
    text = refuse(store, files={"model.gguf": str(store.blobs.put(content))})
    model_folders.add(root, "stored", content)
    with pytest.raises(InvalidModelFile, match=r"^invalid model file: ") as caught:
        _ = made(store, "stored").gguf
    assert caught.value.status == 500
    assert text == (str(caught.value) if content else "supplied file was not in GGUF format")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiny_llama({"llama.block_count": 0}), "llama.block_count 0 is outside"),
        (gguf_file({"general.architecture": "test"}, version=1), "unsupported GGUF version: 1"),
    ],
)
def test_a_file_beyond_the_limits(store: Store, content: bytes, reason: str) -> None:
    text = refuse(store, files={"model.gguf": str(store.blobs.put(content))})
    assert text.startswith(f"invalid model file: {reason}")


# --- stubs of remote models ---


def test_s88_a_stub_of_a_remote_model(store: Store) -> None:
    """Partly S-88: what show says of it is the server's."""
    info = {"context_length": 131072, "model_family": "gptoss", "base_name": "gpt-oss", "capabilities": ["tools"]}
    statuses = make(store, from_="gpt-oss:120b", remote_host="ollama.com", info=info, system="s")
    model = made(store)
    assert kinds(model) == ["system"]
    assert statuses[-2:] == ["writing manifest", "success"]
    assert model.config == Config(
        remote_host="https://ollama.com:443",
        remote_model="gpt-oss:120b",
        model_family="gptoss",
        model_families=("gptoss",),
        base_name="gpt-oss",
        context_length=131072,
        capabilities=("tools",),
    )
    assert model.model_info() == {
        "general.architecture": "gptoss",
        "general.basename": "gpt-oss",
        "gptoss.context_length": 131072,
    }
    assert model.gguf is None


def test_a_stub_may_have_no_layer_at_all(store: Store) -> None:
    make(store, from_="x", remote_host="https://ollama.com")
    assert kinds(made(store)) == []
    assert store.list()[0].remote_model == "x"
    make(store, "child", from_="m", parameters={"top_k": 1})
    assert made(store, "child").config == made(store).config


@pytest.mark.parametrize(
    "host",
    ["ollama.com.evil.test", "https://ollama.com.evil.test", "http://127.0.0.1:11434", "/", "gpu-box"],
)
def test_x94_hosts_that_are_not_allowed(store: Store, host: str) -> None:
    """Partly X-94: refused at create."""
    assert refuse(store, from_="m", remote_host=host) == "this server cannot run this remote model"


@pytest.mark.parametrize("host", ["ollama.com@evil.test", "ftp://ollama.com", "http://[", "https://ollama.com:x"])
def test_x94_addresses_that_are_none(store: Store, host: str) -> None:
    """Partly X-94."""
    assert refuse(store, from_="m", remote_host=host) == "bad remote"


def test_which_hosts_are_allowed_is_a_setting(store: Store) -> None:
    request = CreateRequest(model="m", from_="x", remote_host="gpu-box")
    create(store, request, lambda progress: None, remotes=["other", "GPU-box"])
    assert made(store).config.remote_host == "http://gpu-box:11434"
    with pytest.raises(Forbidden, match=r"^ollama cloud is disabled: remote model is unavailable$"):
        create(store, request, lambda progress: None, remotes=None)


@pytest.mark.parametrize(
    "fields",
    [
        {"from_": "x", "quantize": "q8_0"},
        {"from_": "x", "adapters": {"a.gguf": f"sha256:{HEX}"}},
        {"from_": "x", "files": {"a.gguf": f"sha256:{HEX}"}},
        {"files": {"a.gguf": f"sha256:{HEX}"}},
    ],
)
def test_a_stub_is_made_of_no_files(store: Store, fields: dict[str, Any]) -> None:
    error = refuse(store, remote_host="ollama.com", **fields)
    assert error in ("invalid model name", "a remote model takes neither files, adapters nor quantization")


# --- what a file implies ---


def test_s78_an_architecture_may_imply_renderer_and_parser(store: Store) -> None:
    for family, dialect in {
        "gemma4": "gemma4",
        "laguna": "laguna",
        "nemotron_h": "nemotron-3-nano",
        "nemotron_h_moe": "nemotron-3-nano",
        "nemotron_h_omni": "nemotron-3-nano",
    }.items():
        weights = gguf_file({"general.architecture": family})
        make(store, gguf=weights)
        config = made(store).config
        assert (config.renderer, config.parser) == (dialect, dialect)
        assert made(store).parameters == ({"stop": ["<turn|>"]} if family == "gemma4" else {})
        make(store, "own", gguf=weights, parser="mine", parameters={"stop": ["x"]})
        config = made(store, "own").config
        assert (config.renderer, config.parser, made(store, "own").parameters) == ("", "mine", {"stop": ["x"]})


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
PHI_3 = "{% for m in messages %}<|user|>\n{{ m.content }}<|end|>\n{% endfor %}"
CHATML_STOPS = {"stop": ["<|im_start|>", "<|im_end|>"]}


def with_jinja(jinja: str) -> bytes:
    return tiny_llama({"tokenizer.chat_template": jinja})


def test_s77_t61_a_known_chat_template_is_written_in_gos_language(store: Store) -> None:
    """S-77, T-61: template and parameters layers, and a status instead of the template's."""
    for jinja, name in ((PHI_3, "phi-3"), (CHATML, "chatml")):
        statuses = make(store, gguf=with_jinja(jinja))
        model = made(store)
        assert kinds(model) == ["model", "template", "params"]
        params = model.manifest.layers[-1].digest
        assert statuses[2:] == [
            f"using autodetected template {name}",
            f"creating new layer {params}",
            "writing manifest",
            "success",
        ]
        assert model.template == TEMPLATES[name]
        assert "<|" in model.parameters["stop"][0]


def test_s77_t61_an_unknown_chat_template_brings_nothing(store: Store) -> None:
    """S-77, T-61."""
    statuses = make(store, gguf=with_jinja("{% for m in messages %}{{ m.content }}{% endfor %}"))
    assert kinds(made(store)) == ["model"]
    assert not [status for status in statuses if "autodetected" in status]


def test_a_recognised_template_is_nobodys_choice(store: Store) -> None:
    """The Jinja it was recognised by still renders, here and in every model made of this one."""
    make(store, gguf=with_jinja(CHATML))
    make(store, "child", from_="m", system="s")
    make(store, "own", from_="m", template="{{ .Prompt }}!")
    for name in ("m", "child"):
        model = made(store, name)
        assert (model.template, model.is_user_template) == (TEMPLATES["chatml"], False)
        assert (model.prompt_path, model.template_in_force) == ("jinja", CHATML)
    assert made(store, "own").prompt_path == "go"


def test_beside_a_jinja_with_tools_only_the_stops_are_written(store: Store) -> None:
    statuses = make(store, gguf=with_jinja(CHATML + "{{ tools }}"))
    assert kinds(made(store)) == ["model", "params"]
    assert made(store).parameters == CHATML_STOPS
    assert statuses[2:] == ["using stops of autodetected template chatml", "writing manifest", "success"]


@pytest.mark.parametrize("jinja", [CHATML, CHATML + "{{ tools }}"], ids=["template", "stops only"])
def test_what_the_request_says_replaces_what_was_recognised(store: Store, jinja: str) -> None:
    given = {"stop": ["mine"], "top_k": 3}
    statuses = make(store, gguf=with_jinja(jinja), template="{{ .Prompt }}", parameters=given)
    model = made(store)
    assert kinds(model) == ["model", "template", "params"]
    assert (model.template, model.parameters) == ("{{ .Prompt }}", given)
    assert not [status for status in statuses if "autodetected" in status]
    make(store, gguf=with_jinja(jinja), parameters={"top_k": 3})
    assert made(store).parameters == CHATML_STOPS | {"top_k": 3}


def test_a_template_is_recognised_in_converted_weights_too(store: Store) -> None:
    folder = Path(__file__).parents[1] / "data" / "hf-tiny" / "llama"
    statuses = make(store, files={path.name: str(store.blobs.put(path.read_bytes())) for path in folder.iterdir()})
    assert "using autodetected template chatml" in statuses
    assert made(store).template == TEMPLATES["chatml"]


def test_the_weights_of_a_base_model_are_not_looked_at_again(store: Store, root: Path) -> None:
    model_folders.add(root, "base", with_jinja(CHATML))
    make(store, from_="base", system="s")
    assert kinds(made(store)) == ["model", "system"]


# --- from a model ---


def test_s66_all_layers_of_the_base_are_reused_in_order(store: Store, root: Path) -> None:
    model_folders.add(root, "base", WEIGHTS, more=[("tensor", b"t")], from_name="older:1", template="T", license="L")
    path = model_folders.manifest_path(root, "base")
    path.write_bytes(path.read_bytes().replace(b'.tensor",', b'.tensor","name":"model.norm.weight",'))
    for blob in (root / "blobs").iterdir():
        model_folders.make_older(blob, 5000)
    statuses = make(store, "child", from_="BASE")
    base, child = made(store, "base"), made(store, "child")
    assert [layer.digest for layer in child.manifest.layers] == [layer.digest for layer in base.manifest.layers]
    assert [layer.media_type for layer in child.manifest.layers] == [layer.media_type for layer in base.manifest.layers]
    assert {layer.from_name for layer in child.manifest.layers} == {"base:latest"}
    assert child.manifest.layers[1].name == "model.norm.weight"
    assert child.parent_name == "base:latest"
    assert statuses == [
        *(f"using existing layer {layer.digest}" for layer in base.manifest.layers),
        "writing manifest",
        "success",
    ]
    for layer in child.manifest.layers:
        assert time.time() - store.blobs.path(layer.digest).stat().st_mtime < 1000, "touched, so that no prune takes it"


BASE = {
    "model_format": "gguf",
    "model_family": "wrong",
    "model_type": "1B",
    "file_type": "Q2_K",
    "renderer": "r",
    "parser": "p",
    "requires": "0.14.0",
    "capabilities": ["tools"],
    "context_length": 5,
    "embedding_length": 6,
    "base_name": "b",
    "draft": {"model_format": "gguf"},
}


def test_s67_a_child_inherits_and_explicit_values_win(store: Store, root: Path) -> None:
    model_folders.add(root, "base", WEIGHTS, config=BASE)
    make(store, "child", from_="base")
    assert made(store, "child").config == Config(
        model_format="gguf",
        model_family="llama",
        model_families=("llama",),
        model_type="18K",
        file_type="F32",
        renderer="r",
        parser="p",
        requires="0.14.0",
        capabilities=("tools",),
        context_length=5,
        embedding_length=6,
        draft={"model_format": "gguf"},
    )
    info = {"capabilities": ["vision", "tools"], "model_family": "f", "base_name": "n", "context_length": 7.0}
    more = {"quantization_level": "Q9", "parameter_size": "2B", "embedding_length": 0}
    make(store, "child", from_="base", renderer="R", parser="P", requires="1.0.0", info=info | more)
    config = made(store, "child").config
    assert config.model_families == ("f", "llama")
    assert (config.renderer, config.parser, config.requires) == ("R", "P", "1.0.0")
    assert config.capabilities == ("tools", "vision")
    assert (config.model_family, config.base_name, config.file_type, config.model_type) == ("f", "n", "Q9", "2B")
    assert (config.context_length, config.embedding_length) == (7, 0)
    assert (made(store, "child").context_length, made(store, "child").embedding_length) == (7, 32)  # what is told wins


def test_a_stub_of_a_remote_model_can_be_a_base(store: Store, root: Path) -> None:
    config = {"remote_host": "https://ollama.com:443", "remote_model": "big:1", "model_family": "big"}
    model_folders.add(root, "stub", config=config, system="s")
    make(store, "child", from_="stub", parameters={"top_k": 1})
    child = made(store, "child").config
    assert (child.remote_host, child.remote_model, child.model_family) == ("https://ollama.com:443", "big:1", "big")
    assert refuse(store, ModelNotFound, "x", from_="stub:local") == "model 'stub:latest' not found"


def test_s68_parameters_merge_by_key(store: Store) -> None:
    first = {"stop": ["USER:", "ASSISTANT:"], "temperature": 1.0, "top_k": 10}
    make(store, "a", gguf=WEIGHTS, parameters=first)
    make(store, "b", from_="a", parameters={"top_p": 0.7, "temperature": 0.6})
    make(store, "c", from_="b", parameters={"stop": ["<|endoftext|>"]})
    shorts = []
    for name in "abc":
        (raw,) = contents(store, made(store, name), "params")
        shorts.append(Digest.of(raw).short)
    assert shorts == ["1d0ad71299d4", "e29a7b3c4728", "12f58bb75cb3"]  # Appendix A: keys sorted, lists replaced


def test_inherited_parameters_are_written_again_and_so_stand_behind_what_the_request_adds(store: Store) -> None:
    """As in the reference: without a `from`, or equal Modelfiles give models with different IDs."""
    make(store, "a", gguf=WEIGHTS, parameters={"num_ctx": 4096, "stop": ["<b>"]}, messages=(Message("user", "hi"),))
    make(store, "b", from_="a", system="s", info={"model_family": "", "parameter_size": ""})
    model = made(store, "b")
    assert kinds(model) == ["model", "messages", "system", "params"]
    assert [layer.from_name for layer in model.manifest.layers] == ["a:latest", "a:latest", "", ""]
    assert contents(store, model, "params") == contents(store, made(store, "a"), "params")
    assert (model.config.model_family, model.config.model_type) == ("llama", "18K")


def test_true_is_not_one(store: Store) -> None:
    make(store, "a", gguf=WEIGHTS, parameters={"use_mmap": True})
    make(store, "b", from_="a", parameters={"use_mmap": 1})
    assert contents(store, made(store, "b"), "params") == [b'{"use_mmap":1}\n']


def test_s69_what_is_not_given_again_is_gone_or_inherited(store: Store, root: Path) -> None:
    make(store, gguf=WEIGHTS, system="Old words.")
    old = Digest.of(b"Old words.").file_name
    assert old in model_folders.blobs(root)
    make(store, gguf=WEIGHTS)
    assert kinds(made(store)) == ["model"]
    assert old not in model_folders.blobs(root)
    make(store, "parent", gguf=WEIGHTS, system="Old words.")
    make(store, "child", from_="parent")
    make(store, "child", from_="parent", system="")
    assert made(store, "child").system == "Old words."


def test_s70_licences_add_up(store: Store) -> None:
    make(store, "parent", gguf=WEIGHTS, licenses=("one", "two"))
    make(store, "child", from_="parent", licenses=("three",))
    assert made(store, "child").licenses == ("one", "two", "three")
    assert kinds(made(store, "parent")) == ["model", "license", "license"]


def test_a_replaced_text_takes_its_place_at_the_end(store: Store) -> None:
    make(store, "base", gguf=WEIGHTS, template="A", system="B", messages=(Message("user", "C"),))
    make(store, "child", from_="base", template="D")
    child = made(store, "child")
    assert kinds(child) == ["model", "system", "messages", "template"]
    assert child.manifest.layers[-1].from_name == ""
    assert (child.template, child.system, child.messages) == ("D", "B", (Message("user", "C"),))


def test_the_older_name_of_a_template_is_replaced_too(store: Store, root: Path) -> None:
    model_folders.add(root, "base", WEIGHTS, prompt="old")
    make(store, "child", from_="base", template="new")
    assert kinds(made(store, "child")) == ["model", "template"]


def test_a_model_can_be_remade_over_itself(store: Store) -> None:
    make(store, gguf=WEIGHTS, system="one")
    make(store, from_="m", system="two")
    assert (made(store).system, len(store.list())) == ("two", 1)


def test_an_unknown_base(store: Store) -> None:
    assert refuse(store, ModelNotFound, from_="nope") == "model 'nope:latest' not found"
    assert refuse(store, Forbidden, from_="nope:20b-cloud") == "ollama cloud is disabled: remote model is unavailable"


def test_a_missing_base_is_fetched(store: Store, root: Path) -> None:
    """Partly S-86: the pull itself is not here."""
    fetched: list[str] = []

    def fetch(name: ModelName) -> None:
        fetched.append(name.display)
        model_folders.add(root, "ns/base", WEIGHTS)

    request = CreateRequest(model="m", from_=" ns/base ")
    create(store, request, lambda progress: None, fetch=fetch)
    create(store, request, lambda progress: None, fetch=fetch)
    assert fetched == ["ns/base:latest"]
    assert made(store).parent_name == "ns/base:latest"
    with pytest.raises(ModelNotFound):
        create(store, CreateRequest(model="m", from_="other:local"), lambda progress: None, fetch=fetch)

    def fail(name: ModelName) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        create(store, CreateRequest(model="n", from_="other"), lambda progress: None, fetch=fail)
    assert [summary.name.display for summary in store.list()] == ["m:latest", "ns/base:latest"]


def test_a_broken_base_is_our_trouble(store: Store, root: Path) -> None:
    model_folders.add(root, "base", b"GGUF")
    with pytest.raises(InvalidModelFile) as caught:
        make(store, from_="base")
    assert caught.value.status == 500


# --- info ---


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("model_family", 5, "a string"),
        ("base_name", ["x"], "a string"),
        ("quantization_level", 4, "a string"),
        ("parameter_size", 8e9, "a string"),
        ("context_length", "8", "a number"),
        ("context_length", True, "a number"),
        ("context_length", 1.5, "a non-negative integer"),
        ("embedding_length", -1, "a non-negative integer"),
        ("embedding_length", float("inf"), "a non-negative integer"),
        ("context_length", 2**63, "a non-negative integer"),
        ("capabilities", "tools", "a list of strings"),
        ("capabilities", [1], "a list of strings"),
    ],
)
def test_s87_wrong_info_names_its_field(store: Store, name: str, value: Any, text: str) -> None:
    message = refuse(store, files={"m.gguf": str(store.blobs.put(WEIGHTS))}, info={name: value})
    assert message == f'info field "{name}" must be {text}'


def test_nothing_is_ignored_in_silence(store: Store) -> None:
    make(store, "base", gguf=WEIGHTS)
    files = {"m.gguf": str(store.blobs.put(OTHER_WEIGHTS))}
    statuses = make(store, from_="base", files=files, info={"colour": "red", "base_name": None})
    assert [status for status in statuses if status.startswith("warning")] == [
        "warning: files have no effect beside a base model",
        'warning: info field "colour" is unknown and has no effect',
    ]
    assert made(store).context_length == 128


# --- failure ---


def raise_at(status: str) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.status.startswith(status):
            raise ConnectionResetError

    return report


@pytest.mark.parametrize("status", ["parsing GGUF", "using existing layer", "creating new layer", "writing manifest"])
def test_a_client_that_leaves_takes_everything_with_it(store: Store, root: Path, status: str) -> None:
    """Partly X-86: cancelled at any step, a create leaves the name and the blobs as they were."""
    make(store, gguf=WEIGHTS, system="before")
    before = model_folders.tree(root)
    files = {"m.gguf": str(Digest.of(WEIGHTS))}
    request = CreateRequest(model="m", files=files, system="after", licenses=("new", "newer"))
    with pytest.raises(ConnectionResetError):
        create(store, request, raise_at(status))
    assert model_folders.tree(root) == before


CRASH = """
import os, sys
from pathlib import Path
from llamero.build.create import CreateRequest, create
from llamero.store import Store
def report(progress):
    if progress.status == "writing manifest":
        store.blobs.stage().write(b"half a blob")
        os._exit(1)
store = Store(Path(sys.argv[1]))
create(store, CreateRequest(model="m", from_="m", system="after"), report)
"""


def test_s89_a_crash_leaves_the_model_as_it_was(store: Store, root: Path) -> None:
    make(store, gguf=WEIGHTS, system="before")
    before = model_folders.manifest_path(root, "m").read_bytes()
    assert subprocess.run([sys.executable, "-c", CRASH, str(root)], check=False).returncode == 1
    assert model_folders.manifest_path(root, "m").read_bytes() == before
    assert made(store).system == "before"
    scratch = root / ".llamero" / "tmp"
    assert len(list(scratch.iterdir())) == 1
    for blob in (root / "blobs").iterdir():
        model_folders.make_older(blob, 5000)
    store.start()
    assert list(scratch.iterdir()) == []
    assert Digest.of(b"after").file_name not in model_folders.blobs(root)
    assert made(store).gguf is not None
