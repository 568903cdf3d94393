"""`import`: whatever a file is, told by its content, and what other programs have on this disk (cli §3.16)."""

from __future__ import annotations

from pathlib import Path

from ..errors import BadRequest
from ..gguf import is_gguf
from .app import App
from .archive import import_file
from .create import create_from_files, home_of
from .scan import model_name, show_scan, take
from .sniff import SNIFFED_BYTES


def import_any(app: App, file: str, name: str, *, in_place: bool, quiet: bool) -> None:
    """An exported model under its own names, or a GGUF file under its file's; `name` is instead of them."""
    if file != "-" and _is_gguf(Path(file)):
        path = Path(file).absolute()
        _create(app, name or model_name(path.stem), (path,), in_place=in_place, quiet=quiet)
        return
    if in_place:
        raise BadRequest(f"--in-place is for GGUF files, and {file} is none")
    import_file(app, file, name, quiet=quiet)


def import_scanned(app: App, wanted: str, name: str, *, quiet: bool) -> None:
    """Without a name list what is there; with one take that model, in place."""
    home = home_of(app)
    if not wanted:
        show_scan(app, home)
        return
    found = take(app, home, wanted)
    _create(app, name or found.name, found.paths, in_place=True, quiet=quiet)


def _create(app: App, name: str, files: tuple[Path, ...], *, in_place: bool, quiet: bool) -> None:
    create_from_files(app, name, files, in_place=in_place, quiet=quiet)
    app.terminal.out(f"imported '{name}'\n")


def _is_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_gguf(file.read(SNIFFED_BYTES))
    except OSError as error:
        raise BadRequest(f"open {path}: {error.strerror}") from error
