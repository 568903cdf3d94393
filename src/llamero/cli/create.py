"""`create`: a Modelfile and its files become one request (cli §3.2, store-registry §6.2)."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import modelfile
from ..client import Client
from ..errors import BadRequest, InvalidName
from ..gguf import is_gguf, read_header
from ..modelfile import Modelfile
from ..names import ModelName
from .app import App
from .collect import collect, resolve_path, wire_names
from .place import Placer, placer
from .progress import Display, steps
from .upload import Uploader

DEFAULT_FILE = "Modelfile"
DEFAULT_TEXT = b"FROM ."
"""What stands for a missing Modelfile: the model is this folder."""
MAX_MODELFILE_BYTES = 16 * 2**20
"""A Modelfile with licences and templates has some kilobytes; weights given by mistake have gigabytes."""


def create_model(
    app: App, name: str, file: str, *, quantize: str, draft_quantize: str, in_place: bool, quiet: bool
) -> None:
    client = app.connect()
    try:
        ModelName.parse(name)
    except InvalidName:
        raise BadRequest(f"invalid model name: {name}") from None
    data, folder = _read(app, file)
    recipe = modelfile.parse(data)
    with steps(app.terminal, quiet=quiet) as display:
        display.status("gathering model components")
        sources = Sources.of(recipe, folder, home_of(app))
        request, warnings = build_request(name, recipe, sources, quantize=quantize, draft_quantize=draft_quantize)
        for warning in warnings:
            display.status(f"warning: {warning}")
        _send(app, client, display, request, sources, in_place=in_place)


def create_from_files(app: App, name: str, files: Sequence[Path], *, in_place: bool, quiet: bool) -> None:
    """A model of GGUF files alone, without a Modelfile (store-registry GAP-02)."""
    client = app.connect()
    ModelName.parse(name)
    with steps(app.terminal, quiet=quiet) as display:
        display.status("gathering model components")
        _send(app, client, display, {"model": name}, Sources(weights=wire_names(files)), in_place=in_place)


def _send(
    app: App, client: Client, display: Display, request: dict[str, Any], sources: Sources, *, in_place: bool
) -> None:
    """The files first, then the request that names them."""
    groups = sources.files()
    how = placer(app, client, in_place=in_place) if groups else Placer()
    with Uploader(client, display, how) as uploader:
        for key, files in groups:
            request[key] = uploader.digests(files)
        uploader.upload()
    display.follow_create(client.create(request))


def home_of(app: App) -> Path:
    return Path(app.env.get("HOME") or Path.home())


def _read(app: App, file: str) -> tuple[bytes, Path]:
    """The Modelfile's bytes, and the folder to which its relative paths belong."""
    path = Path(file or DEFAULT_FILE).absolute()
    try:
        if file == "-":
            data = app.terminal.stdin.buffer.read(MAX_MODELFILE_BYTES + 1)
        else:
            with path.open("rb") as opened:
                data = opened.read(MAX_MODELFILE_BYTES + 1)
    except FileNotFoundError:
        if file:
            raise BadRequest("specified Modelfile wasn't found") from None
        return DEFAULT_TEXT, path.parent
    except OSError as error:
        raise BadRequest(f"open {path}: {error.strerror}") from error
    if len(data) > MAX_MODELFILE_BYTES:
        raise BadRequest(f"{path} is larger than {MAX_MODELFILE_BYTES} bytes: not a Modelfile")
    return data, path.parent


# --- what the Modelfile points to ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a model comes from: another model by name, or files, each group under the names that are sent."""

    from_: str = ""
    weights: Mapping[str, Path] = field(default_factory=dict)
    adapters: Mapping[str, Path] = field(default_factory=dict)
    drafts: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: Modelfile, folder: Path, home: Path) -> Sources:
        """What is there is a file, whatever is not is a model's name. Raises BadRequest (E9 to E13)."""
        name = ""
        weights: list[Path] = []
        for text in recipe.froms:
            path = resolve_path(text, folder, home)
            if path.exists():
                weights += collect(path)
            else:
                name = text
        if name and any(not _is_projector(file) for file in weights):
            raise BadRequest(f"FROM names the model {name} and files besides; only a projector may be added to a model")
        adapters = [_existing(resolve_path(text, folder, home)) for text in recipe.adapters[-1:]]
        drafts = [_existing(resolve_path(text, folder, home)) for text in recipe.drafts]
        for draft in drafts:
            if any(draft.resolve() == resolve_path(text, folder, home).resolve() for text in recipe.froms):
                raise BadRequest(f"DRAFT must not reference the same local path as FROM: {draft}")
        return cls(
            name,
            wire_names(weights),
            wire_names([file for path in adapters for file in collect(path, is_adapter=True)]),
            wire_names([file for path in drafts for file in collect(path)]),
        )

    def files(self) -> Sequence[tuple[str, Mapping[str, Path]]]:
        """The groups that are not empty, by their field of the request."""
        groups = {"files": self.weights, "adapters": self.adapters, "draft_files": self.drafts}
        return [(key, files) for key, files in groups.items() if files]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise BadRequest(f"stat {path}: no such file or directory")
    return path


def _is_projector(file: Path) -> bool:
    with file.open("rb") as opened:
        if not is_gguf(opened.read(4)):
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return read_header(content).kind == "projector"


def build_request(
    name: str, recipe: Modelfile, sources: Sources, *, quantize: str = "", draft_quantize: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The body of `/api/create` without its files, and warnings. Empty fields are left out: they would mean nothing."""
    if draft_quantize and not sources.drafts:
        raise BadRequest("--draft-quantize requires a DRAFT model")
    parameters, warnings = recipe.parameters()
    request = {
        "model": name,
        "from": sources.from_,
        "template": recipe.template,
        "system": recipe.system,
        "license": list(recipe.licenses),
        "parameters": parameters,
        "messages": [{"role": message.role, "content": message.content} for message in recipe.messages],
        "renderer": recipe.renderer,
        "parser": recipe.parser,
        "requires": recipe.requires,
        "quantize": quantize,
        "draft_quantize": draft_quantize,
    }
    return {key: value for key, value in request.items() if value}, warnings
