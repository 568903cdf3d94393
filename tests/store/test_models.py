"""A name resolved to everything known about the model (store-registry §2.2, §7.5; native-api §2.11, §2.12)."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llamero.errors import BlobNotFound, InvalidModelFile, LlameroError, ModelNotFound, StorageError, TemplateError
from llamero.messages import Message
from llamero.names import ModelName
from llamero.store import Model, Store
from llamero.store.layers import Config
from llamero.store.models import Details
from llamero.template.builtin import TEMPLATES
from llamero.template.render import render
from tests import model_folders
from tests.gguf_files import gguf_file, tiny_llama

WEIGHTS = tiny_llama({"general.file_type": 15})
CONFIG = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": "8B"}


def resolve(store: Store, name: str = "m") -> Model:
    return store.resolve(ModelName.parse(name))


def test_everything_a_manifest_leads_to(store: Store, root: Path) -> None:
    clip = gguf_file({"general.architecture": "clip"})
    path = model_folders.add(
        root,
        "m:tag",
        WEIGHTS,
        config=CONFIG | {"file_type": "Q4_K_M", "parser": "qwen3"},
        from_name="base:latest",
        more=[("projector", clip), ("adapter", b"a1"), ("adapter", b"a2"), ("license", b"MIT"), ("license", b"Other")],
        template="{{ .System }} {{ .Prompt }}",
        system="Be kind.",
        params='{"stop":["x"],"temperature":0.5}\n',
        messages='[{"role":"user","content":"hi"}]\n',
        embed="obsolete",
    )
    os.utime(path, ns=(1, 1_700_000_000_000_000_001))
    model = resolve(store, "M:TAG")
    blob = {layer.media_type.rpartition(".")[2]: store.blobs.path(layer.digest) for layer in model.manifest.layers}
    assert model.name.display == "m:tag"
    assert model.modified_ns == 1_700_000_000_000_000_001
    assert model.size_bytes == sum(len(path.read_bytes()) for path in (root / "blobs").iterdir())
    assert len(model.digest) == 64
    assert model.weights == blob["model"]
    assert model.projectors == (blob["projector"],)
    assert [path.read_bytes() for path in model.adapters] == [b"a1", b"a2"]
    assert model.draft is None
    assert model.template == "{{ .System }} {{ .Prompt }}"
    assert model.system == "Be kind."
    assert model.parameters == {"stop": ["x"], "temperature": 0.5}
    assert model.messages == (Message("user", "hi"),)
    assert model.licenses == ("MIT", "Other")
    assert model.jinja.startswith("{% for m in messages %}")
    assert model.gguf is not None
    assert model.gguf.architecture == "llama"
    assert model.context_length == 128
    assert model.embedding_length == 32
    assert model.capabilities == ("completion", "vision", "tools")
    assert model.details() == Details("base:latest", "gguf", "llama", ("llama",), "8B", "Q4_K_M")


def test_a_bare_manifest(store: Store, root: Path) -> None:
    model_folders.write(root, "m", b'{"config":{"digest":""}}')
    model = resolve(store)
    assert (model.config, model.weights, model.template, model.parameters) == (Config(), None, None, {})
    assert model.details() == Details("", "", "", None, "", "")
    assert (model.capabilities, model.prompt_path, model.model_info(), model.projector_info()) == (
        (),
        "chatml",
        {},
        None,
    )


def test_of_what_there_should_be_one_the_last_wins(store: Store, root: Path) -> None:
    more = [("model", b"first"), ("model", WEIGHTS), ("system", b"a"), ("system", b"b"), ("prompt", b"{{ .Old }}")]
    model_folders.add(root, "m", more=more)
    model = resolve(store)
    assert model.weights is not None
    assert model.weights.read_bytes() == WEIGHTS
    assert (model.system, model.template) == ("b", "{{ .Old }}")


def test_an_unknown_name(store: Store) -> None:
    """Partly S-63: the endpoints say it in their own words."""
    with pytest.raises(ModelNotFound, match=r"^model 'nope:latest' not found$"):
        resolve(store, "nope")


@pytest.mark.parametrize(
    ("stored", "file_type", "shown"),
    [
        ("unknown", 15, "Q4_K_M"),
        ("", 15, "Q4_K_M"),
        ("unknown", 0, "F32"),
        ("unknown", None, "unknown"),
        ("Q8_0", 15, "Q8_0"),
    ],
)
def test_s95_an_unknown_level_is_taken_from_the_file(
    store: Store, root: Path, stored: str, file_type: int | None, shown: str
) -> None:
    weights = tiny_llama({"general.file_type": file_type})
    model_folders.add(root, "m", weights, config=CONFIG | {"file_type": stored})
    assert resolve(store).details().quantization_level == shown
    assert store.list()[0].details.quantization_level == shown


def test_metadata_for_show(store: Store, root: Path) -> None:
    """Partly S-93, partly S-101: the rest of show is the server's."""
    model_folders.add(
        root, "m", WEIGHTS, more=[("projector", gguf_file({"general.architecture": "clip", "clip.n": [1]}))]
    )
    model = resolve(store)
    info = model.model_info()
    assert info["general.architecture"] == "llama"
    assert info["general.parameter_count"] == model.gguf.parameter_count  # type: ignore[union-attr]
    assert info["tokenizer.ggml.tokens"] is None
    assert not {"general.name", "tokenizer.chat_template"} & set(info)
    assert model.model_info(verbose=True)["tokenizer.ggml.tokens"][:2] == ["<unk>", "<s>"]
    assert model.projector_info() == {"general.architecture": "clip", "clip.n": None, "general.parameter_count": 0}
    assert model.projector_info(verbose=True)["clip.n"] == [1]  # type: ignore[index]


def test_a_new_manifest_shows_at_once(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, system="old")
    before = resolve(store)
    model_folders.add(root, "m", tiny_llama({"llama.context_length": 7}), system="new")
    after = resolve(store)
    assert (before.system, before.context_length, after.system, after.context_length) == ("old", 128, "new", 7)
    assert before.digest != after.digest


def test_a_remote_stub_knows_what_its_config_says(store: Store, root: Path) -> None:
    """Partly S-88."""
    config = {
        "model_family": "big",
        "remote_host": "https://ollama.com:443",
        "remote_model": "big:480b",
        "capabilities": ["completion", "tools"],
        "context_length": 131072,
        "base_name": "Big",
    }
    model_folders.add(root, "m", config=config)
    model = resolve(store)
    assert model.model_info() == {
        "general.architecture": "big",
        "general.basename": "Big",
        "big.context_length": 131072,
    }
    assert (model.capabilities, model.context_length) == (("completion", "tools"), 131072)
    assert store.list()[0].remote_model == "big:480b"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(4), b"GGUF\3\0\0\0" + bytes(15)], ids=len)
def test_a_broken_stored_file_is_an_error_of_ours_with_the_short_text(store: Store, root: Path, content: bytes) -> None:
    """Partly X-21: what create says of the same files stands in test_create."""
    model_folders.add(root, "m", content, config=CONFIG)
    model = resolve(store)
    for use in (lambda: model.gguf, model.model_info, lambda: model.prompt_path):
        with pytest.raises(InvalidModelFile, match=r"^invalid model file: ") as caught:
            use()
        assert caught.value.status == 500
        assert str(root) not in str(caught.value)
    assert model.capabilities == ()
    assert store.list()[0].details.family == "llama"


def test_a_model_with_a_missing_file_counts_as_not_found(store: Store, root: Path) -> None:
    """Not as broken: clients pull what is not found, and so mend it."""
    model_folders.add(root, "m", WEIGHTS, system="s")
    model = resolve(store)
    assert model.weights is not None
    model.weights.unlink()
    with pytest.raises(BlobNotFound) as caught:
        _ = model.gguf
    assert caught.value.status == 404
    shutil.rmtree(root / "blobs")
    with pytest.raises(BlobNotFound) as caught:
        resolve(store)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("kind", "content"),
    [("params", b"[]"), ("messages", b"{"), ("system", b"x" * ((16 << 20) + 1))],
    ids=["params", "messages", "system too large"],
)
def test_a_broken_small_layer_is_a_storage_error(store: Store, root: Path, kind: str, content: bytes) -> None:
    model_folders.add(root, "m", WEIGHTS, **{kind: content})
    with pytest.raises(StorageError):
        resolve(store)


def test_a_linked_blob_works_and_deleting_takes_only_the_link(store: Store, root: Path, tmp_path: Path) -> None:
    """Partly S-23: an engine opens the same path."""
    model_folders.add(root, "m", WEIGHTS)
    weights = resolve(store).weights
    assert weights is not None
    target = weights.rename(tmp_path / "big.gguf")
    weights.symlink_to(target)
    model = resolve(store)
    assert model.weights == weights
    assert model.model_info()["llama.block_count"] == 1
    store.delete(model.name)
    assert target.read_bytes() == WEIGHTS
    assert not os.path.lexists(weights)


# --- whose template is it ---

GO = "{{ .System }} {{ .Prompt }}"


def given_by_user(store: Store, name: str = "m") -> bool:
    return resolve(store, name).is_user_template


def test_a_template_from_a_registry_is_not_the_users(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, template=GO)
    assert not given_by_user(store)
    assert resolve(store).prompt_path == "jinja"
    assert resolve(Store(root, go_template=True)).prompt_path == "go"


def test_a_template_made_here_is_the_users(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, template=GO, newline=True)
    assert given_by_user(store)
    assert resolve(store).prompt_path == "go"
    assert resolve(Store(root, go_template=False)).prompt_path == "jinja"


def test_a_template_is_followed_through_its_ancestors(store: Store, root: Path) -> None:
    made: dict[str, Any] = {"template": GO, "newline": True}
    model_folders.add(root, "pulled", WEIGHTS, template=GO)
    model_folders.add(root, "mine", WEIGHTS, **made)
    for origin in ("pulled", "mine"):
        model_folders.add(root, f"{origin}-child", WEIGHTS, **made, from_name=f"{origin}:latest")
        model_folders.add(root, f"{origin}-grandchild", WEIGHTS, **made, from_name=f"{origin}-child:latest")
    assert not given_by_user(store, "pulled-child")
    assert not given_by_user(store, "pulled-grandchild")
    assert given_by_user(store, "mine-child")
    assert given_by_user(store, "mine-grandchild")


@pytest.mark.parametrize("from_name", ["gone:latest", "m:latest", "a/b/c/d", "changed"])
def test_where_the_origin_is_unknown_the_template_counts_as_the_users(store: Store, root: Path, from_name: str) -> None:
    model_folders.add(root, "changed", WEIGHTS, template="{{ .Other }}")
    model_folders.add(root, "m", WEIGHTS, template=GO, newline=True, from_name=from_name)
    assert given_by_user(store)


@pytest.mark.parametrize("name", ["chatml", "command-r"])
def test_a_template_that_a_program_chose_is_nobodys(store: Store, root: Path, name: str) -> None:
    """As create writes it, in a manifest that looks as if the user had given the text."""
    model_folders.add(root, "m", WEIGHTS, template=TEMPLATES[name], newline=True)
    assert not given_by_user(store)


def test_no_template_is_nobodys(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, newline=True)
    assert not given_by_user(store)
    with pytest.raises(LlameroError):
        resolve(store, "other")


# --- its Go template ---


def test_the_go_template_ready_to_render(store: Store, root: Path) -> None:
    model_folders.add(root, "m", WEIGHTS, template="<{{ .Prompt }}>{{ .Suffix }}")
    model = resolve(store)
    assert model.template_text == "<{{ .Prompt }}>{{ .Suffix }}"
    assert render(model.go_template, today=date(2025, 1, 1), prompt="a", suffix="b") == "<a>b"
    assert resolve(store).go_template is model.go_template


@pytest.mark.parametrize("layers", [{}, {"template": ""}], ids=["none", "empty"])
def test_a_model_without_a_go_template_has_the_bare_one(store: Store, root: Path, layers: dict[str, str]) -> None:
    model_folders.add(root, "m", WEIGHTS, newline=True, **layers)
    model = resolve(store)
    assert (model.template, model.is_user_template, model.prompt_path) == (None, False, "jinja")
    assert model.template_text == "{{ .Prompt }}"
    assert render(model.go_template, [Message("user", "hi")], today=date(2025, 1, 1)) == "hi"


def test_a_broken_go_template_harms_only_its_own_rendering(store: Store, root: Path) -> None:
    """As another program may have stored it."""
    model_folders.add(root, "m", tiny_llama({"tokenizer.chat_template": None}), template="{{ .Tools }}{{ if")
    model = resolve(store)
    assert (model.capabilities, store.list()[0].capabilities) == (("completion",), ("completion",))
    assert (model.prompt_path, model.template_in_force) == ("go", "{{ .Tools }}{{ if")
    with pytest.raises(TemplateError):
        _ = model.go_template


def test_the_setting_decides_for_every_reader_alike(root: Path) -> None:
    jinja = "{% for m in messages %}{{ m.content }}{% endfor %}<think></think>"
    weights = tiny_llama({"tokenizer.chat_template": jinja})
    model_folders.add(root, "m", weights, template="{{ range .Messages }}{{ .Content }}{{ end }}{{ .Tools }}")
    for setting, path, able in ((None, "jinja", "thinking"), (False, "jinja", "thinking"), (True, "go", "tools")):
        store = Store(root, go_template=setting)
        assert resolve(store).prompt_path == path
        assert set(resolve(store).capabilities) == set(store.list()[0].capabilities) == {"completion", able}


# --- families that our own Jinja serves ---

NO_JINJA = tiny_llama({"tokenizer.chat_template": None})
HARMONY = "<|start|>user<|message|>{{ .Prompt }}<|end|>"


@pytest.mark.parametrize(
    ("weights", "config", "layers", "path", "is_bundled"),
    [
        pytest.param(NO_JINJA, {"renderer": "qwen3-coder"}, {}, "jinja", True, id="a renderer"),
        pytest.param(NO_JINJA, {"renderer": "who knows"}, {}, "chatml", False, id="an unknown renderer"),
        pytest.param(NO_JINJA, {"renderer": "qwen3-coder"}, {"template": GO}, "jinja", True, id="over a publisher's"),
        pytest.param(
            NO_JINJA, {"renderer": "qwen3-coder"}, {"template": GO, "newline": True}, "go", False, id="the user's first"
        ),
        pytest.param(WEIGHTS, {"renderer": "qwen3-coder"}, {}, "jinja", False, id="the file's first"),
        pytest.param(NO_JINJA, {"parser": "qwen3"}, {}, "jinja", True, id="a parser"),
        pytest.param(NO_JINJA, {"parser": "qwen3"}, {"template": GO}, "go", False, id="a parser's Go template"),
        pytest.param(NO_JINJA, {"model_family": "gptoss"}, {"template": HARMONY}, "jinja", True, id="harmony, T-64"),
        pytest.param(NO_JINJA, {"model_family": "qwen3"}, {}, "chatml", False, id="another family"),
        pytest.param(None, {"renderer": "qwen3-coder", "remote_host": "https://h"}, {}, "chatml", False, id="a stub"),
    ],
)
def test_a_jinja_of_ours_serves_where_the_weights_have_none(
    store: Store,
    root: Path,
    weights: bytes | None,
    config: dict[str, str],
    layers: dict[str, Any],
    path: str,
    is_bundled: bool,
) -> None:
    model_folders.add(root, "m", weights, config=config, **layers)
    model = resolve(store)
    assert model.prompt_path == path
    assert bool(model.bundled_jinja) == is_bundled
    assert is_bundled == (model.template_in_force == model.bundled_jinja)
    if is_bundled:
        assert not model.jinja
        assert "{%" in model.bundled_jinja


def test_what_a_family_can_do_is_said_by_its_parser(store: Store, root: Path) -> None:
    for parser, able in (("gemma4", {"tools", "thinking"}), ("gemma4-no-thinking", {"tools"})):
        model_folders.add(root, parser, NO_JINJA, config={"renderer": "gemma4", "parser": parser})
        assert set(resolve(store, parser).capabilities) == able | {"completion"}


def test_t64_harmony_is_known_by_family_and_template(store: Store, root: Path) -> None:
    """T-64: where its template renders, the harmony parser reads; a PARSER beside a Jinja does not choose the way."""
    family: dict[str, Any] = {"config": {"model_family": "gptoss"}, "template": HARMONY, "newline": True}
    model_folders.add(root, "m", NO_JINJA, **family)
    model = resolve(store)
    assert (model.parser, model.prompt_path) == ("harmony", "go")
    assert set(model.capabilities) == {"completion", "tools", "thinking"}
    for parser in ("qwen3", "who knows"):
        model_folders.add(root, "named", WEIGHTS, config={"model_family": "gptoss", "parser": parser})
        assert (resolve(store, "named").parser, resolve(store, "named").prompt_path) == (parser, "jinja")


def test_the_size_of_a_gemma4_is_in_its_name_or_its_weights(store: Store, root: Path) -> None:
    """Modelfile-templates §8.3: the large ones are told in the prompt that they need not think."""
    for name, is_large in (("gemma4:31b", True), ("gemma4:e4b", False), ("mine", False)):
        model_folders.add(root, name, NO_JINJA, config={"renderer": "gemma4"})
        assert ("is_large = true" in resolve(store, name).bundled_jinja) == is_large
