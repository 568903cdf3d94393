"""A whole conversion as its callers see it: a child process, its progress, its errors."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from llamero.build.convert import convert_in_child
from llamero.build.convert.conversion import convert
from llamero.errors import BadRequest, Cancelled, DiskFull, LlameroError
from tests.build.convert.tiny_bert import TinyBert, pack


def ignore(completed: int, total: int) -> None:
    pass


def test_the_parent_is_told_the_progress_in_bytes_and_gets_the_file(bert: TinyBert, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    folder, output = bert.write(tmp_path / "in"), tmp_path / "out.gguf"
    convert_in_child(folder, output, lambda completed, total: reported.append((completed, total)))
    tensors = GGUFReader(output).tensors
    assert [completed for completed, _ in reported] == [
        sum(int(tensor.n_bytes) for tensor in tensors[: n + 1]) for n in range(len(tensors))
    ]
    assert {total for _, total in reported} == {reported[-1][0]}


@pytest.mark.parametrize(
    ("config", "files", "message"),
    [
        ({"architectures": ["LlavaFooModel"]}, {}, 'unsupported architecture "LlavaFooModel"'),
        ({"architectures": []}, {}, "unknown architecture"),
        ({"architectures": "BertModel"}, {}, "unknown architecture"),
        ({}, {"config.json": ""}, "config.json is not valid JSON"),
        ({}, {"config.json": "[]"}, "config.json is not a JSON object"),
        ({}, {"config.json": "{}"}, "unknown architecture"),
        ({}, {"model.safetensors": b"GGUF"}, "invalid model file: safetensors header is cut short"),
        ({}, {"vocab.txt": ""}, "unknown tokenizer format"),
        ({}, {"extra.safetensors": pack({"pooler.dense.bias": np.ones(8, "f4")})}, "duplicate tensor name"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(
    bert: TinyBert, tmp_path: Path, config: dict[str, Any], files: dict[str, Any], message: str
) -> None:
    bert.config |= config
    bert.files |= files
    with pytest.raises(BadRequest, match=message):
        convert(bert.write(tmp_path / "in"), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


def test_the_childs_errors_are_the_clients_fault_and_name_no_path(bert: TinyBert, tmp_path: Path) -> None:
    bert.config["architectures"] = ["FooModel"]
    with pytest.raises(BadRequest) as caught:
        convert_in_child(bert.write(tmp_path / "in"), tmp_path / "out.gguf", ignore)
    assert (caught.value.status, str(caught.value)) == (400, 'unsupported architecture "FooModel"')


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.zip"])
def test_torch_files_are_neither_unpacked_nor_converted(bert: TinyBert, tmp_path: Path, name: str) -> None:
    """partly X-17"""
    folder = bert.write(tmp_path / "in")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(BadRequest, match="unknown tensor format"):
        convert(folder, tmp_path / "out.gguf")


def test_the_childs_environment_holds_nothing_of_ours(
    bert: TinyBert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """partly X-28: Python's own start-up hook writes down what the child was given."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        f"import json, os, sys\njson.dump([dict(os.environ), sys.path], open({str(hook / 'seen.json')!r}, 'w'))"
    )
    monkeypatch.setattr(sys, "path", [str(hook), *sys.path])
    monkeypatch.setenv("OLLAMA_API_KEY", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://canary")
    convert_in_child(bert.write(tmp_path / "in"), tmp_path / "out.gguf", ignore)
    environment, path = json.loads((hook / "seen.json").read_text())
    assert environment.keys() - {"LC_CTYPE"} == {"PYTHONPATH"}, "Python itself may add LC_CTYPE"
    assert str(tmp_path) not in path, "the folder with the output is no place to import from"


def test_a_cancelled_conversion_leaves_no_file(bert: TinyBert, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        convert_in_child(bert.write(tmp_path / "in"), tmp_path / "out.gguf", ignore, cancelled=cancelled.is_set)
    assert not (tmp_path / "out.gguf").exists()


def test_a_listener_that_goes_away_ends_the_conversion(bert: TinyBert, tmp_path: Path) -> None:
    def gone(completed: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        convert_in_child(bert.write(tmp_path / "in"), tmp_path / "out.gguf", gone)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_as_such(bert: TinyBert, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    output.symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="no space left on device"):
        convert_in_child(bert.write(tmp_path / "in"), output, ignore)
    assert not output.is_symlink()


def test_a_child_that_breaks_is_our_fault_and_shows_no_traceback(
    bert: TinyBert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "numpy.py").write_text("raise RuntimeError('broken installation')")
    monkeypatch.setattr(sys, "path", [str(hook), *sys.path])
    with pytest.raises(LlameroError, match=r"^the conversion of the model failed$") as caught:
        convert_in_child(bert.write(tmp_path / "in"), tmp_path / "out.gguf", ignore)
    assert caught.value.status == 500
    assert "broken installation" in caplog.text
