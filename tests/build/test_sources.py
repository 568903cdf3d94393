"""What files mean to a create: converted, merged, mended or quantized into layers (store-registry §6.4, §6.6)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llamero.build.create import CreateRequest, create
from llamero.build.sources import level_implied
from llamero.build.workshop import NO_DIGEST, Workshop
from llamero.errors import BadRequest, Cancelled, DiskFull, InvalidModelFile, LlameroError, NotSupported
from llamero.gguf import read_header
from llamero.messages import Progress
from llamero.names import Digest, ModelName
from llamero.store import Model, Store
from tests import model_folders
from tests.build.convert import test_vision
from tests.build.quantizable import llama
from tests.build.test_shards import WHOLE, split_model
from tests.gguf_files import TensorSpec, gguf_file, llama_metadata, tiny_llama

DATA = Path(__file__).parents[1] / "data"
HF_LLAMA = {path.name: path.read_bytes() for path in (DATA / "hf-tiny" / "llama").iterdir()}
HF_LORA = {path.name: path.read_bytes() for path in (DATA / "hf-tiny-lora").iterdir()}
CLIP = {"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True}
SPLIT = {f"m-0000{n}-of-00002.gguf": content for n, content in enumerate(split_model(), start=1)}

vision_checkpoint = test_vision.checkpoint

Contents = Mapping[str, bytes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def uploaded(store: Store, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request, their contents uploaded."""
    return {
        name: {path: str(store.blobs.put(content)) for path, content in value.items()}
        if name in ("files", "adapters", "draft_files")
        else value
        for name, value in fields.items()
    }


def make(store: Store, model: str = "m", **fields: Any) -> list[Progress]:
    reports: list[Progress] = []
    create(store, CreateRequest(model=model, **uploaded(store, fields)), reports.append)
    return reports


def statuses(reports: list[Progress]) -> list[str]:
    """Without repetitions, and without those of the layers."""
    told = dict.fromkeys(report.status for report in reports)
    return [status for status in told if " layer sha256:" not in status]


def made(store: Store, name: str = "m") -> Model:
    return store.resolve(ModelName.parse(name))


def kinds(model: Model) -> list[str]:
    return [layer.media_type.rpartition(".")[2] for layer in model.manifest.layers]


def content(store: Store, model: Model, index: int = 0) -> bytes:
    return store.blobs.read(model.manifest.layers[index].digest, 1 << 30)


def state(root: Path) -> dict[str, bytes | str]:
    """All that is stored, without the records of checked files."""
    return {name: value for name, value in model_folders.tree(root).items() if "checked" not in name}


def refuse(store: Store, root: Path, error: type[LlameroError] = BadRequest, **fields: Any) -> LlameroError:
    """The refusal; nothing may be left of the attempt."""
    request = CreateRequest(model="m", **uploaded(store, fields))
    (root / ".llamero").mkdir(0o700, exist_ok=True)
    (root / ".llamero" / "changes").touch()
    before = state(root)
    with pytest.raises(error) as caught:
        create(store, request, lambda progress: None)
    assert state(root) == before
    return caught.value


# --- split GGUF and projectors ---


def test_s76_shards_become_one_model(store: Store, root: Path) -> None:
    reports = make(store, files=SPLIT)
    assert statuses(reports) == ["parsing GGUF", "merging split GGUF", "writing manifest", "success"]
    assert kinds(made(store)) == ["model"]
    assert content(store, made(store)) == gguf_file(llama_metadata(), WHOLE)
    assert f"creating new layer {made(store).weights_digest}" in [report.status for report in reports]


def test_whole_files_come_before_merged_ones(store: Store) -> None:
    clip = gguf_file({**CLIP, "clip.projector_type": "mlp"})
    make(store, files={**SPLIT, "z.gguf": clip})
    assert kinds(made(store)) == ["projector", "model"]


BROKEN_SPLITS: list[tuple[dict[str, bytes], str]] = [
    ({"m.gguf": SPLIT["m-00001-of-00002.gguf"]}, 'split GGUF "m.gguf" must use llama.cpp split filename pattern'),
    ({"m-00001-of-00002.gguf": SPLIT["m-00001-of-00002.gguf"]}, 'split GGUF "m" has 1 shards, expected 2'),
    (
        {
            "m-00001-of-00002.gguf": SPLIT["m-00001-of-00002.gguf"],
            "m-00002-of-00002.gguf": tiny_llama({"split.no": 1, "split.count": 2}),
        },
        "invalid model file: split GGUF has 15 tensors, expected 11",
    ),
]


@pytest.mark.parametrize(("files", "text"), BROKEN_SPLITS)
def test_s76_a_set_that_is_not_whole_is_refused(store: Store, root: Path, files: Contents, text: str) -> None:
    assert str(refuse(store, root, files=files)) == text


def test_x24_each_shard_is_checked_by_itself(store: Store, root: Path) -> None:
    """Partly X-24: a tensor of the second shard reaches beyond its end, into which the merge would have read."""
    second = gguf_file({"split.no": 1, "split.count": 2}, [TensorSpec("x.weight", (1 << 20,), data=bytes(64))])
    error = refuse(store, root, InvalidModelFile, files={**SPLIT, "m-00002-of-00002.gguf": second})
    assert "exceeds file size" in str(error)
    assert error.status == 400


def test_s75_a_projector_without_a_type_is_mended(store: Store) -> None:
    tensors = [TensorSpec("v.a", (8,))]
    reports = make(store, files={"m.gguf": tiny_llama(), "p.gguf": gguf_file(CLIP, tensors)})
    assert statuses(reports)[:2] == ["parsing GGUF", "updating GGUF projector metadata"]
    assert kinds(made(store)) == ["model", "projector"]
    assert content(store, made(store), 1) == gguf_file({**CLIP, "clip.projector_type": "mlp"}, tensors)


def test_a_projector_may_be_added_to_a_base_model(store: Store) -> None:
    make(store, "base", files={"m.gguf": tiny_llama()})
    clip = gguf_file({**CLIP, "clip.projector_type": "mlp"})
    assert "warning" not in str(make(store, from_="base", files={"p.gguf": clip}))
    assert kinds(made(store)) == ["model", "projector"]
    assert made(store).config.model_families == ("llama", "clip")
    make(store, from_="m", files={"p.gguf": clip})
    assert kinds(made(store)) == ["model", "projector"], "the same one is not added twice"


# --- safetensors ---


def test_a_checkpoint_is_converted(store: Store, root: Path) -> None:
    reports = make(store, files=HF_LLAMA)
    template = "using autodetected template chatml"
    assert statuses(reports) == ["converting model", template, "writing manifest", "success"]
    config = made(store).config
    assert (config.model_format, config.model_family, config.file_type) == ("gguf", "llama", "F16")
    sized = [report for report in reports if report.total_bytes]
    assert sized[-1].completed_bytes == sized[-1].total_bytes
    assert {report.digest for report in sized} == {""}, "stock clients would take it for the bar of a quantization"
    uploads = {Digest.of(data).file_name for data in HF_LLAMA.values()}
    assert {path.name for path in (root / "blobs").iterdir()} - uploads == {
        layer.digest.file_name for layer in made(store).manifest.blobs
    }
    assert list((root / ".llamero" / "tmp").iterdir()) == []


def test_a_checkpoint_may_be_quantized_at_once(store: Store, root: Path) -> None:
    reports = make(store, files=HF_LLAMA, quantize="q8_0")
    assert statuses(reports) == [
        "converting model",
        "quantizing F16 model to Q8_0",
        "verifying conversion",
        "using autodetected template chatml",
        "writing manifest",
        "success",
    ]
    assert made(store).config.file_type == "Q8_0"
    ours = {path.name for path in (root / "blobs").iterdir()} - {
        Digest.of(data).file_name for data in HF_LLAMA.values()
    }
    assert ours == {layer.digest.file_name for layer in made(store).manifest.blobs}, "the half-floats are gone"


def test_a_checkpoint_that_sees_becomes_a_model_and_a_projector(store: Store, vision_checkpoint: Path) -> None:
    files = {path.name: path.read_bytes() for path in vision_checkpoint.iterdir()}
    make(store, files=files, quantize="q8_0")
    model = made(store)
    assert kinds(model)[:2] == ["model", "projector"]
    assert (model.config.model_families, model.config.file_type) == (("gemma3", "clip"), "Q8_0")
    assert "vision" in model.capabilities
    assert {tensor.type for tensor in read_header(content(store, model, 1)).tensors} == {"F16", "F32"}


def test_files_keep_their_folders(store: Store, root: Path) -> None:
    """A checkpoint's `1_Pooling/config.json` is found where the converter looks for it."""
    nested = {"model.safetensors": HF_LLAMA["model.safetensors"], "a/b/c.json": b"{}"}
    assert str(refuse(store, root, files=nested)) == "unknown architecture"
    assert str(refuse(store, root, files={"model.safetensors": b"x", "config.json": b"{", "x/y": b""})) == (
        "config.json is not valid JSON"
    )


@pytest.mark.parametrize("files", [["a.safetensors", "a.safetensors/b.json"], ["c/d", "c", "x.safetensors"]])
def test_a_path_cannot_be_a_file_and_a_folder(store: Store, root: Path, files: list[str]) -> None:
    assert "file path is taken" in str(refuse(store, root, files=dict.fromkeys(files, b"{}")))


@pytest.mark.parametrize("path", ["..\\x.safetensors", "a\0.safetensors", "/x.safetensors", "x/../../y.safetensors"])
def test_no_path_leads_out_of_the_scratch_folder(store: Store, root: Path, path: str) -> None:
    assert str(refuse(store, root, files={path: b"x"})).startswith("file path must be relative")
    make(store, "base", files={"m.gguf": tiny_llama()})
    error = refuse(store, root, from_="base", adapters={path: b"x", "adapter_config.json": b"{}"})
    assert str(error).startswith("file path must be relative")


def test_a_linked_blob_is_converted_too(store: Store, root: Path, tmp_path: Path) -> None:
    """Blobs may be links to another disk (store-registry §2)."""
    files = {path: str(store.blobs.put(data)) for path, data in HF_LLAMA.items()}
    blob = store.blobs.path(Digest.parse(files["model.safetensors"]))
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    create(store, CreateRequest(model="m", files=files), lambda progress: None)
    assert made(store).config.model_family == "llama"
    assert blob.is_symlink()


def test_where_no_hard_link_can_be_made_a_symbolic_one_serves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    make(store, files=HF_LLAMA)
    assert made(store).config.model_family == "llama"


def test_s84_eight_bit_floats_become_q8_0_unless_told_otherwise(store: Store) -> None:
    """Partly S-84: the rule of create, shown with a file that says where it comes from."""
    with Workshop(store, lambda progress: None, lambda: False) as shop:
        for origin, level in (("hf_fp8", "Q8_0"), ("hf_bf16", ""), (None, "")):
            layer = shop.layer(store.blobs.put(tiny_llama({"llama.source_quantization": origin})))
            assert level_implied(shop, [layer]) == level


@pytest.mark.parametrize(
    "path", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "a/consolidated.pth"]
)
def test_pickled_weights_are_refused_unread(store: Store, root: Path, path: str) -> None:
    assert str(refuse(store, root, files={"config.json": b"{}", path: b"PK\3\4"})) == (
        "PyTorch files are not read, because opening one may run code: save the model as safetensors first"
    )


# --- adapters and drafts ---


def test_an_adapter_is_converted_for_its_base(store: Store) -> None:
    make(store, "base", files=HF_LLAMA)
    reports = make(store, from_="base", adapters=HF_LORA)
    assert statuses(reports)[0] == "converting adapter"
    assert (kinds(made(store, "base")), kinds(made(store))) == (
        ["model", "template", "params"],
        ["model", "template", "adapter", "params"],
    )
    adapter = read_header(content(store, made(store), -2))
    assert (adapter.kind, adapter.architecture) == ("adapter", "llama")
    make(store, "both", files=HF_LLAMA, adapters=HF_LORA)
    assert made(store, "both").adapters == made(store).adapters


def test_an_adapter_needs_a_base(store: Store, root: Path) -> None:
    model_folders.add(root, "empty", system="no weights")
    assert str(refuse(store, root, from_="empty", adapters=HF_LORA)) == "no base model was found"


def test_a_draft_model_joins_the_weights(store: Store) -> None:
    make(store, files={"m.gguf": tiny_llama()}, draft_files={"d.gguf": llama()}, system="s")
    model = made(store)
    assert kinds(model) == ["model", "draft", "system"]
    assert model.draft == store.blobs.path(Digest.of(llama()))
    assert model.config.draft == {"model_format": "gguf", "architecture": "llama"}
    make(store, "child", from_="m")
    assert made(store, "child").config.draft == model.config.draft
    reports = make(store, "other", from_="m", draft_files={"d.gguf": llama("F32")}, draft_quantize="q4_0")
    assert "quantizing F32 model to Q4_0" in statuses(reports)
    assert kinds(made(store, "other")) == ["model", "system", "draft"]
    assert read_header(content(store, made(store, "other"), 2)).file_type == "Q4_0"


def test_a_split_draft_is_merged(store: Store) -> None:
    make(store, files={"m.gguf": tiny_llama()}, draft_files=SPLIT)
    assert kinds(made(store)) == ["model", "draft"]


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        (
            {"draft_files": {"d.gguf": tiny_llama({"general.file_type": 15})}, "draft_quantize": "q8_0"},
            BadRequest,
            "draft quantization requires an unquantized draft model, got Q4_K_M",
        ),
        (
            {"draft_files": {"d.safetensors": b"x"}},
            NotSupported,
            "a draft model has to be a GGUF file: safetensors drafts are not supported by this version",
        ),
        ({"draft_files": {"d.gguf": gguf_file(CLIP)}}, BadRequest, "the file given as a draft model is none"),
        (
            {"draft_files": {"d.gguf": llama(), "e.gguf": tiny_llama()}},
            BadRequest,
            "a draft model has to be one file or one split GGUF, got 2",
        ),
        ({"draft_files": {"d": b"GGU"}}, BadRequest, "unknown type"),
        (
            {"draft_files": {"d.gguf": llama()}, "draft_quantize": "x"},
            LlameroError,
            "unsupported quantization type X - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0",
        ),
    ],
)
def test_drafts_that_are_refused(
    store: Store, root: Path, fields: dict[str, Any], error: type[LlameroError], text: str
) -> None:
    assert str(refuse(store, root, error, files={"m.gguf": tiny_llama()}, **fields)) == text


# --- quantizing ---


def test_s80_quantizing_tells_its_progress_and_the_result_its_level(store: Store) -> None:
    file = llama(n_layers=2)
    reports = make(store, files={"m.gguf": file}, quantize="q4_k_m")
    steps = [report for report in reports if report.status == "quantizing F16 model to Q4_K_M"]
    assert {report.digest for report in steps} == {NO_DIGEST} == {"0000000000000000000"}
    assert {report.total_bytes for report in steps} == {len(file)}
    done = [report.completed_bytes for report in steps]
    assert done == sorted(done)
    assert (done[0], done[-1], len(set(done)) > 5) == (0, len(file), True)
    after = reports[reports.index(steps[-1]) + 1].status
    assert after == "verifying conversion"
    assert made(store).config.file_type == "Q4_K_M"
    assert read_header(content(store, made(store))).file_type == "Q4_K_M"


@pytest.mark.parametrize(("level", "stored"), [("q4_k", "Q4_K_M"), ("q6_k", "Q6_K")])
def test_s79_types_by_any_of_their_names(store: Store, level: str, stored: str) -> None:
    make(store, files={"m.gguf": llama()}, quantize=level)
    assert made(store).config.file_type == stored


@pytest.mark.parametrize(
    ("file", "level", "text"),
    [
        (llama(), "q9_z", "unsupported quantization type Q9_Z - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"),
        (
            tiny_llama({"general.file_type": 15}),
            "q8_0",
            "quantization is only supported for F16, BF16 and F32 models",
        ),
    ],
)
def test_s79_what_cannot_be_quantized(store: Store, root: Path, file: bytes, level: str, text: str) -> None:
    error = refuse(store, root, LlameroError, files={"m.gguf": file}, quantize=level)
    assert (str(error), error.status) == (text, 500)


def test_the_same_type_is_no_work(store: Store) -> None:
    reports = make(store, files={"m.gguf": llama()}, quantize="f16")
    assert statuses(reports) == ["parsing GGUF", "writing manifest", "success"]
    assert made(store).weights_digest == Digest.of(llama())


def test_a_stored_model_is_quantized_anew(store: Store, root: Path) -> None:
    make(store, "base", files={"m.gguf": llama()}, system="s", parameters={"top_k": 1})
    make(store, from_="base", quantize="q8_0")
    model = made(store)
    assert kinds(model) == ["model", "system", "params"]
    assert [layer.from_name for layer in model.manifest.layers] == ["", "base:latest", ""]
    assert (model.config.file_type, made(store, "base").config.file_type) == ("Q8_0", "F16")


def test_a_broken_base_is_our_fault_whatever_is_done_with_it(store: Store, root: Path) -> None:
    model_folders.add(root, "base", tiny_llama({"llama.block_count": 0, "general.file_type": 1}))
    error = refuse(store, root, InvalidModelFile, from_="base", quantize="q8_0")
    assert error.status == 500


def test_there_must_be_something_to_quantize(store: Store, root: Path) -> None:
    error = refuse(store, root, files={"p.gguf": gguf_file(CLIP)}, quantize="q8_0")
    assert str(error) == "there is no model to quantize"


# --- broken off ---

LONG: dict[str, dict[str, Any]] = {
    "converting model": {"files": HF_LLAMA},
    "quantizing F16 model to IQ3_S": {"files": HF_LLAMA, "quantize": "iq3_s"},
    "verifying conversion": {"files": HF_LLAMA, "quantize": "q8_0"},
    "merging split GGUF": {"files": SPLIT},
    "updating GGUF projector metadata": {"files": {"p.gguf": gguf_file(CLIP)}},
    "converting adapter": {"files": HF_LLAMA, "adapters": HF_LORA},
    "writing manifest": {"files": SPLIT, "system": "new"},
}


@pytest.mark.parametrize("status", LONG)
def test_x86_a_create_that_nobody_wants_any_more_leaves_nothing(store: Store, root: Path, status: str) -> None:
    """Partly X-86: whichever step it is in when its client goes."""
    make(store, files={"m.gguf": tiny_llama()}, system="before")
    request = CreateRequest(model="m", **uploaded(store, LONG[status]))
    before = state(root)
    seen: list[str] = []
    with pytest.raises(Cancelled):
        create(store, request, lambda progress: seen.append(progress.status), cancelled=lambda: status in seen)
    assert seen[-1] == status
    assert state(root) == before
    assert made(store).system == "before"


BIG = [TensorSpec(f"{n}.weight", (16 << 10,)) for n in range(2)]
BIG_SPLIT = {
    "m-00001-of-00002.gguf": gguf_file({**llama_metadata(), "split.no": 0, "split.count": 2}, BIG[:1]),
    "m-00002-of-00002.gguf": gguf_file({"split.no": 1, "split.count": 2}, BIG[1:]),
}

FULL = """
import resource, sys, json
from pathlib import Path
from llamero.build.create import CreateRequest, create
from llamero.errors import LlameroError
from llamero.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
try:
    create(Store(Path(sys.argv[1])), CreateRequest(model="m", **json.loads(sys.argv[2])), lambda progress: None)
except LlameroError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"files": HF_LLAMA}, "file too large"),
        ({"files": BIG_SPLIT}, "write blob: file too large"),
        ({"files": {"m.gguf": llama()}, "quantize": "q8_0"}, "quantizing failed: "),
    ],
    ids=["converting", "merging", "quantizing"],
)
def test_a_disk_that_takes_no_more_leaves_nothing(store: Store, root: Path, fields: dict[str, Any], text: str) -> None:
    """Files may grow to 64 kB here, which is how a disk fills up that nobody can fill in a test."""
    request = uploaded(store, fields)
    before = state(root)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(root), json.dumps(request)], check=False, capture_output=True, text=True
    )
    assert f"refused: {text}" in done.stderr
    assert {name: value for name, value in state(root).items() if name != ".llamero/changes"} == before


def test_what_does_not_fit_the_disk_is_refused_before_the_work(store: Store, root: Path) -> None:
    """Sparse files claim eight TiB and take nothing."""
    files = dict.fromkeys(("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"), "")
    for index, path in enumerate(files):
        metadata = dict(llama_metadata()) if index == 0 else {}
        head = gguf_file(
            {**metadata, "split.no": index, "split.count": 2},
            [TensorSpec(f"{index}.weight", (1 << 40,), data=b"")],
        )
        digest = store.blobs.put(head)
        os.truncate(store.blobs.path(digest), len(head) + (4 << 40))
        files[path] = str(digest)
    before = sorted(path.name for path in (root / "blobs").iterdir())
    with pytest.raises(DiskFull, match="bytes are needed") as caught:
        create(store, CreateRequest(model="m", files=files), lambda progress: None)
    assert caught.value.status == 507
    assert sorted(path.name for path in (root / "blobs").iterdir()) == before
