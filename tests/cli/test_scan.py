"""`import --scan`: models of other programs, found by the habits of their folders (store-registry GAP-02)."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from llamero.cli.scan import File, folders, model_name, scan
from llamero.names import ModelName
from tests.cli.conftest import Ollama
from tests.model_folders import tree

LM_STUDIO = ".lmstudio/models"
LLAMA_CPP = ".cache/llama.cpp"
HUB = ".cache/huggingface/hub"


def put(home: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content or name.encode())


def put_in_hub(home: Path, repository: str, file: str, *commits: str) -> Path:
    """A file as the Hugging Face cache has it: links in each commit's folder, to one blob. Returns the blob."""
    root = home / HUB / f"models--{repository.replace('/', '--')}"
    blob = root / "blobs" / hashlib.sha256(file.encode()).hexdigest()
    put(home, str(blob.relative_to(home)))
    for commit in commits or ("c0ffee",):
        link = root / "snapshots" / commit / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return blob


def found(home: Path, env: dict[str, str] | None = None) -> dict[str, list[str]]:
    """Names, and the file names of each."""
    return {each.name: [path.name for path in each.paths] for each in scan(env or {}, home)}


# --- where ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({}, LM_STUDIO),
        ({}, ".cache/lm-studio/models"),
        ({}, HUB),
        ({}, LLAMA_CPP),
        ({}, "Library/Caches/llama.cpp"),
        ({"XDG_CACHE_HOME": "{home}/c"}, "c/huggingface/hub"),
        ({"HF_HOME": "{home}/hf"}, "hf/hub"),
        ({"HF_HUB_CACHE": "{home}/hub", "HF_HOME": "{home}/other"}, "hub"),
        ({"LLAMA_CACHE": "{home}/llama"}, "llama"),
        ({"LOCALAPPDATA": "{home}/AppData/Local"}, "AppData/Local/llama.cpp"),
    ],
)
def test_each_program_has_its_folder(tmp_path: Path, env: dict[str, str], folder: str) -> None:
    put(tmp_path, f"{folder}/m.gguf")
    assert found(tmp_path, {name: value.format(home=tmp_path) for name, value in env.items()}) == {"m": ["m.gguf"]}


def test_it_looks_and_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, f"{LM_STUDIO}/publisher/repo/m.gguf")
    put_in_hub(tmp_path, "org/repo", "n.gguf")
    before = tree(tmp_path)
    assert set(found(tmp_path)) == {"m", "n"}
    assert tree(tmp_path) == before


def test_no_folder_and_no_file_is_no_error(tmp_path: Path) -> None:
    put(tmp_path, ".lmstudio/models")  # a file where a folder should be
    assert found(tmp_path) == {}


def test_only_gguf_files_and_not_too_deep(tmp_path: Path) -> None:
    put(tmp_path, f"{LM_STUDIO}/a/b/M.GGUF", f"{LM_STUDIO}/a/b/readme.md", f"{LM_STUDIO}/1/2/3/4/5/6/7/deep.gguf")
    (tmp_path / LM_STUDIO / "folder.gguf").mkdir()
    os.mkfifo(tmp_path / LM_STUDIO / "pipe.gguf")
    assert found(tmp_path) == {"m": ["M.GGUF"]}


# --- what belongs together -----------------------------------------------------------------------------------------


def test_the_hubs_links_are_followed_and_one_file_is_one_model(tmp_path: Path) -> None:
    put_in_hub(tmp_path, "org/repo-GGUF", "Model-Q4_K_M.gguf", "old", "new")
    put_in_hub(tmp_path, "org/repo-GGUF", "deep/Model-Q8_0.gguf", "new")
    models = scan({}, tmp_path)
    assert [(each.name, each.program) for each in models] == [
        ("model:q4_k_m", "Hugging Face"),
        ("model:q8_0", "Hugging Face"),
    ]
    assert all(path.is_symlink() for each in models for path in each.paths)


def test_broken_links_are_passed_over(tmp_path: Path) -> None:
    put_in_hub(tmp_path, "org/repo", "gone.gguf").unlink()
    put_in_hub(tmp_path, "org/repo", "here.gguf")
    loop = tmp_path / HUB / "models--org--repo" / "snapshots" / "c0ffee" / "loop.gguf"
    loop.symlink_to(loop.name)
    (loop.parent / "up").symlink_to("..")
    assert set(found(tmp_path)) == {"here"}


def test_a_split_model_is_one_when_all_its_parts_are_there(tmp_path: Path) -> None:
    parts = [f"big-Q4_K_M-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    put(tmp_path, *(f"{LM_STUDIO}/a/{part}" for part in parts))
    put(tmp_path, f"{LM_STUDIO}/b/half-00002-of-00002.gguf")
    (model,) = scan({}, tmp_path)
    assert (model.name, [path.name for path in model.paths]) == ("big:q4_k_m", parts)
    assert model.size_bytes == sum(path.stat().st_size for path in model.paths)


def test_a_projector_goes_with_each_model_beside_it(tmp_path: Path) -> None:
    put(tmp_path, *(f"{LM_STUDIO}/p/see/{name}.gguf" for name in ("see-Q4_0", "see-Q8_0")))
    put(tmp_path, *(f"{LM_STUDIO}/p/see/mmproj-see-{level}.gguf" for level in ("BF16", "F16", "F32")))
    put(tmp_path, f"{LM_STUDIO}/p/blind/blind.gguf")
    assert found(tmp_path) == {
        "blind": ["blind.gguf"],
        "see:q4_0": ["see-Q4_0.gguf", "mmproj-see-F16.gguf"],
        "see:q8_0": ["see-Q8_0.gguf", "mmproj-see-F16.gguf"],
    }


def test_in_a_folder_of_many_models_a_projector_goes_with_its_own(tmp_path: Path) -> None:
    names = ["o_see_see-Q4_0", "o_see_mmproj-see-f16", "o_other_other-Q4_0"]
    put(tmp_path, *(f"{LLAMA_CPP}/{name}.gguf" for name in names))
    assert found(tmp_path) == {
        "o_see_see:q4_0": ["o_see_see-Q4_0.gguf", "o_see_mmproj-see-f16.gguf"],
        "o_other_other:q4_0": ["o_other_other-Q4_0.gguf"],
    }


def test_a_projector_alone_is_no_model(tmp_path: Path) -> None:
    put(tmp_path, f"{LM_STUDIO}/p/mmproj.gguf")
    assert found(tmp_path) == {}


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("Qwen3-8B-Q4_K_M", "qwen3-8b:q4_k_m"),
        ("SmolLM2-135M-Instruct.Q4_1", "smollm2-135m-instruct:q4_1"),
        ("gemma-3-4b-it-qat-IQ4_XS", "gemma-3-4b-it-qat:iq4_xs"),
        ("Qwen3-8B-UD-Q4_K_XL", "qwen3-8b-ud:q4_k_xl"),
        ("gpt-oss-20b-mxfp4", "gpt-oss-20b:mxfp4"),
        ("m-BF16", "m:bf16"),
        ("m.fp16", "m:fp16"),
        ("Q4_0", "q4_0"),
        ("plain", "plain"),
        ("Ein Modell (neu)!", "ein-modell-neu"),
        ("模型", "model"),
        ("..", "model"),
        ("-Q8_0", "q8_0"),
        ("a" * 300 + "-Q8_0", "a" * 72 + ":q8_0"),
        ("m-Q4" + "x" * 300, "m:q4" + "x" * 70),
    ],
)
def test_a_files_name_makes_a_models(stem: str, name: str) -> None:
    assert model_name(stem) == name
    ModelName.parse(name)


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, f"{LM_STUDIO}/one/m-Q4_0.gguf", f"{LM_STUDIO}/two/m-Q4_0.gguf", f"{LM_STUDIO}/x/two/m-Q4_0.gguf")
    put_in_hub(tmp_path, "org/repo", "m-Q4_0.gguf")
    names = set(found(tmp_path))
    assert names == {"one-m:q4_0", "two-m:q4_0", "two-m:q4_0-2", "org-repo-m:q4_0"}
    assert all(ModelName.parse(name) for name in names)


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_table(ollama: Ollama, tmp_path: Path) -> None:
    put(tmp_path, f"{LM_STUDIO}/p/m-Q4_0.gguf", content=b"x" * 1500)
    ran = ollama("import", "--scan")
    path = tmp_path / LM_STUDIO / "p" / "m-Q4_0.gguf"
    header, row = ran.out.splitlines()
    assert header.split() == ["NAME", "SIZE", "FROM", "FILE"]
    assert row == f"m:q4_0    1.5 KB    LM Studio    {path}    "
    assert (ran.status, ran.err) == (0, "Take one in place with: ollama import --scan NAME\n")


def test_nothing_found_tells_where_it_looked(ollama: Ollama, tmp_path: Path) -> None:
    ran = ollama("import", "--scan")
    assert (ran.status, ran.out) == (0, "")
    assert all(f"\n  {folder}\n" in ran.err for _, folder in folders({}, tmp_path))


def test_an_unknown_name(ollama: Ollama) -> None:
    ran = ollama("import", "--scan", "m")
    assert (ran.status, ran.err) == (
        1,
        "Error: no model 'm' among those of other programs: ollama import --scan lists them\n",
    )


def test_names_that_are_no_text_and_names_that_command_a_terminal(ollama: Ollama, tmp_path: Path) -> None:
    folder = tmp_path / LM_STUDIO
    folder.mkdir(parents=True)
    for name in (b"\xff\xfe.gguf", b"\x1b[2Jm.gguf"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).touch()
    ran = ollama("import", "--scan")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["NAME", "2jm", "model"]
    assert "\x1b" not in ran.out
    assert ran.out.encode()  # no halves of characters are left


def test_ten_thousand_files_take_no_time(tmp_path: Path) -> None:
    for number in range(100):
        folder = tmp_path / LM_STUDIO / f"publisher{number}"
        folder.mkdir(parents=True)
        for other in range(100):
            (folder / f"m{other}-Q4_0.gguf").touch()
    began_s = time.perf_counter()
    models = scan({}, tmp_path)
    assert time.perf_counter() - began_s < 3  # some 0.3 s by itself
    assert len({each.name for each in models}) == 10_000
    assert all(isinstance(file, File) for file in models[0].files)
