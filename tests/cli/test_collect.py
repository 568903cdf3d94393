"""Which files a Modelfile's path means (modelfile-templates §1.6, store-registry §6.2)."""

from __future__ import annotations

import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from llamero.cli.collect import collect, resolve_path, wire_names
from llamero.errors import BadRequest

BINARY = b"\x00\x01\x02"
ZIP = b"PK\x03\x04\x00"
ME = pwd.getpwuid(0).pw_name

Folder = Callable[[str], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """`folder("a.gguf=bin b/config.json=text")` lays out files of these kinds."""

    def make(files: str) -> Path:
        root = tmp_path / "model"
        root.mkdir()
        for entry in files.split():
            name, _, kind = entry.partition("=")
            path = root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes({"bin": BINARY, "zip": ZIP, "": BINARY, "text": b"{}\n"}[kind])
        return root

    return make


def collected(root: Path, **how: bool) -> list[str]:
    return [path.relative_to(root).as_posix() for path in collect(root, **how)]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~", "/home/me"),
        ("~/x", "/home/me/x"),
        (f"~{ME}/x", f"{pwd.getpwnam(ME).pw_dir}/x"),
        ("x", "/recipes/m/x"),
        ("./x/../y", "/recipes/m/y"),
        ("../x", "/recipes/x"),
        ("/x", "/x"),
        (".", "/recipes/m"),
    ],
)
def test_paths(text: str, path: str) -> None:
    """T-24"""
    assert resolve_path(text, Path("/recipes/m"), Path("/home/me")) == Path(path)


def test_an_unknown_user() -> None:
    """T-24"""
    with pytest.raises(BadRequest, match=r"^failed to find user 'no-such-user': "):
        resolve_path("~no-such-user/x", Path("/"), Path("/"))


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        pytest.param(
            "model-1.safetensors consolidated.safetensors config.json=text",
            "model-1.safetensors config.json",
            id="T-25",
        ),
        pytest.param(
            "model.safetensors config.json=text 2_Dense/model.safetensors 2_Dense/config.json=text README.md=text",
            "model.safetensors 2_Dense/model.safetensors 2_Dense/config.json config.json",
            id="T-26",
        ),
        pytest.param("consolidated.00.safetensors pytorch_model.bin=zip", "consolidated.00.safetensors", id="row 2"),
        pytest.param(
            "pytorch_model-1.bin=zip pytorch_model-2.bin=zip", "pytorch_model-1.bin pytorch_model-2.bin", id="row 3"
        ),
        pytest.param("pytorch_model-1.bin=zip pytorch_model-2.bin=text a.gguf", "a.gguf", id="one spoils its row"),
        pytest.param("consolidated.00.pth=zip x.gguf", "consolidated.00.pth", id="row 4"),
        pytest.param("b.gguf a.gguf x.bin", "a.gguf b.gguf", id="row 5"),
        pytest.param("x.bin y.txt=text", "x.bin", id="row 6"),
        pytest.param(
            "a.gguf chat_template.jinja=text tokenizer.model=bin t/tokenizer.model=text",
            "a.gguf chat_template.jinja tokenizer.model",
            id="companions",
        ),
        pytest.param("a.gguf x.json=text hf/model.safetensors", "a.gguf x.json", id="nested only beside others"),
        pytest.param("a.gguf t/tokenizer.model=text", "a.gguf t/tokenizer.model", id="a pointer one level down"),
        pytest.param("a.gguf tokenizer.model=text", "a.gguf", id="a pointer beside the weights"),
    ],
)
def test_the_first_kind_of_weights_and_its_companions(folder: Folder, files: str, taken: str) -> None:
    assert collected(folder(files)) == taken.split()


@pytest.mark.parametrize(
    "files",
    ["", "README.md=text", "pytorch_model.bin=text", "sub/deeper.gguf=bin"],
    ids=["empty", "text", "T-27", "too deep"],
)
def test_nothing_usable(folder: Folder, files: str) -> None:
    with pytest.raises(BadRequest, match=r"^no Modelfile or safetensors files found$"):
        collect(folder(files))


def test_a_companion_of_the_wrong_type(folder: Folder) -> None:
    root = folder("a.gguf config.json=bin")
    with pytest.raises(BadRequest) as error:
        collect(root)
    assert str(error.value) == f"invalid content type: expected application/octet-stream for {root}/config.json"


def test_adapters_have_names_of_their_own(folder: Folder) -> None:
    root = folder("adapter_model.safetensors adapter_config.json=text")
    with pytest.raises(BadRequest):
        collect(root)
    assert collected(root, is_adapter=True) == ["adapter_model.safetensors", "adapter_config.json"]


def test_a_file_is_itself(folder: Folder) -> None:
    root = folder("anything.xyz=text")
    assert collect(root / "anything.xyz") == [root / "anything.xyz"]


def test_devices_are_no_weights() -> None:
    with pytest.raises(BadRequest, match=r"^/dev/zero is neither a file nor a directory$"):
        collect(Path("/dev/zero"))


def test_a_link_within_the_folder_is_followed(folder: Folder) -> None:
    root = folder("real.data")
    (root / "model.safetensors").symlink_to("real.data")
    assert collected(root) == ["model.safetensors"]


@pytest.mark.parametrize(("store", "hint"), [("blobs", ""), (".cache", "\n\nUse --local-dir <dir> when downloading")])
def test_a_link_out_of_the_folder_is_refused(folder: Folder, store: str, hint: str) -> None:
    """E13"""
    root = folder("config.json=text")
    (root.parent / store).mkdir()
    (root.parent / store / "weights").write_bytes(BINARY)
    (root / "model.safetensors").symlink_to(f"../{store}/weights")
    with pytest.raises(BadRequest) as error:
        collect(root)
    assert str(error.value).startswith(f"insecure path: ../{store}/weights{hint}")


def test_names_on_the_wire() -> None:
    assert wire_names([Path("/a/b/c.gguf")]) == {"c.gguf": Path("/a/b/c.gguf")}
    files = [Path("/a/m/x.safetensors"), Path("/a/m/2_Dense/config.json")]
    assert list(wire_names(files)) == ["x.safetensors", "2_Dense/config.json"]
    assert list(wire_names([Path("/a/b/x"), Path("/a/c/y")])) == ["b/x", "c/y"]
    assert wire_names([]) == {}
