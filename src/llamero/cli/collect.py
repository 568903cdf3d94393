"""The files that a Modelfile's FROM, ADAPTER or DRAFT means, and the names under which they are sent.

Source: modelfile-templates §1.6, store-registry §6.2. It looks at paths and first bytes only; hashing and sending are
`create`'s. A link that leads out of the named directory is refused: whoever sends a folder sends that folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadRequest
from .sniff import BINARY, SNIFFED_BYTES, TEXT, ZIP, content_type

NOTHING_USABLE = "no Modelfile or safetensors files found"


@dataclass(frozen=True, slots=True)
class _Row:
    """One way in which weights lie in a folder. With a required type one file of another type spoils the row."""

    patterns: tuple[str, ...]
    required: str = ""
    besides: tuple[str, ...] = ()
    """What is taken too, where the patterns find anything."""


_WEIGHTS = (
    _Row(("model*.safetensors",), besides=("*/model*.safetensors",)),
    _Row(("consolidated*.safetensors",)),
    _Row(("pytorch_model*.bin",), ZIP),
    _Row(("consolidated*.pth",), ZIP),
    _Row(("*.gguf",), BINARY),
    _Row(("*.bin",), BINARY),
)
_ADAPTER_WEIGHTS = (_Row(("adapter_model*.safetensors", "adapters.safetensors")), *_WEIGHTS)


def resolve_path(text: str, folder: Path, home: Path) -> Path:
    """The absolute path that a Modelfile in `folder` means by `text`. Raises BadRequest (E12): an unknown `~name`."""
    if text == "~" or text.startswith("~/"):
        path = home / text[2:]
    elif text.startswith("~"):
        name, _, rest = text[1:].partition("/")
        path = _home_of(name) / rest
    else:
        path = folder / text  # an absolute text replaces the folder
    return Path(os.path.abspath(path))


def _home_of(name: str) -> Path:
    try:
        import pwd

        return Path(pwd.getpwnam(name).pw_dir)
    except (ImportError, KeyError, ValueError):
        raise BadRequest(f"failed to find user '{name}': user: unknown user {name}") from None


def collect(path: Path, *, is_adapter: bool = False) -> list[Path]:
    """The file itself, or the model's files in the directory: the first kind of weights there, and what goes with it.

    Raises BadRequest: nothing usable (E10), a link out of the directory (E13), a companion of the wrong type.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadRequest(f"{path} is neither a file nor a directory")
    for row in _ADAPTER_WEIGHTS if is_adapter else _WEIGHTS:
        if weights := _matching(path, row):
            return [*weights, *_companions(path)]
    raise BadRequest(NOTHING_USABLE)


def _matching(folder: Path, row: _Row) -> list[Path]:
    files = _glob(folder, row.patterns)
    if not files or (row.required and any(_type(file) != row.required for file in files)):
        return []
    return [*files, *_glob(folder, row.besides)]


def _companions(folder: Path) -> list[Path]:
    texts = _glob(folder, ("*.json", "*/*.json", "chat_template.jinja"))
    for file in texts:
        if (actual := _type(file)) != TEXT:
            raise BadRequest(f"invalid content type: expected {actual} for {file}")
    # one level down only a pointer of large-file storage is let through, as the reference has it
    tokenizer = _matching(folder, _Row(("tokenizer.model",), BINARY)) or _matching(
        folder, _Row(("*/tokenizer.model",), TEXT)
    )
    return [*texts, *tokenizer]


def _glob(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Regular files, sorted, none of which lies outside the folder."""
    root = folder.resolve()
    files = sorted(file for pattern in patterns for file in folder.glob(pattern) if file.is_file())
    for file in files:
        if not (real := file.resolve()).is_relative_to(root):
            where = os.path.relpath(real, root)
            hint = (
                "\n\nUse --local-dir <dir> when downloading model to disable caching" if ".cache" in str(real) else ""
            )
            raise BadRequest(f"insecure path: {where}{hint}")
    return files


def _type(file: Path) -> str:
    with file.open("rb") as opened:
        return content_type(opened.read(SNIFFED_BYTES))


def wire_names(files: Sequence[Path]) -> Mapping[str, Path]:
    """The names that the server sees: relative to the deepest common directory, one file by its base name alone."""
    if len(files) == 1:
        return {files[0].name: files[0]}
    common = os.path.commonpath([file.parent for file in files]) if files else ""
    return {file.relative_to(common).as_posix(): file for file in files}
