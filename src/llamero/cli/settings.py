"""`config`: every setting, its value and who decided it; and the file that decides most of them (cli §3.16, G-15)."""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..config import BY_KEY, BY_NAME, TABLE, Settings, Variable, as_text, config_path, nearest_key, parse_config, shown
from ..errors import BadRequest, LlameroError, NotFound
from ..options import parse_bool
from ..store.files import PRIVATE_MODE, RECORD_MODE, create, place
from .app import App
from .format import table

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

USAGE = "say `ollama config`, or `ollama config get NAME | set NAME VALUE... | unset NAME | path | example`"
WIDEST_CELL = 1000
"""No value is broken into lines: scripts cut them out."""

_WHOLE_NUMBER = re.compile("-?[0-9]{1,19}")

Value = bool | int | str | list[str]


def config(app: App, words: Sequence[str], *, as_json: bool) -> None:
    match words:
        case []:
            show(app, as_json=as_json)
        case ["get", name]:
            get(app, name, as_json=as_json)
        case ["set", name, *values] if values:
            change(app, name, values)
        case ["unset", name]:
            unset(app, name)
        case ["path"]:
            app.terminal.out(f"{config_path(app.own_env)}\n")
        case ["example"]:
            from ..config.example import example

            app.terminal.out(example())
        case _:
            raise BadRequest(USAGE)


# --- looking ---------------------------------------------------------------------------------------------------------


Row = TypedDict("Row", {"name": str, "key": str, "value": str, "from": str, "meaning": str})
"""In JSON."""


def show(app: App, *, as_json: bool) -> None:
    _insist_usable(app)
    for warning in Settings.from_env(app.own_env, app.file).warnings:
        app.warn(warning)
    rows = [_row(app, variable) for variable in TABLE]
    if as_json:
        app.terminal.out(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
        return
    cells = [(row["name"], row["value"], row["from"]) for row in rows]
    for line in table(cells, ("NAME", "VALUE", "FROM"), cell_columns=WIDEST_CELL):
        app.terminal.out(f"{line}\n")


def get(app: App, name: str, *, as_json: bool) -> None:
    _insist_usable(app)
    row = _row(app, _find(name))
    app.terminal.out((json.dumps(row, indent=2, ensure_ascii=False) if as_json else row["value"]) + "\n")


def _row(app: App, variable: Variable) -> Row:
    origin = app.file.origin(variable.name, app.own_env)
    value = variable.default
    if origin != "default":
        # proxies are mostly spelt small
        value = shown(variable, app.env.get(variable.name) or app.env.get(variable.name.lower(), ""))
    return {
        "name": variable.name,
        "key": variable.key,
        "value": value,
        "from": origin,
        "meaning": variable.meaning,
    }


def _find(name: str) -> Variable:
    """A setting by its key or by its variable's name. NotFound with what was probably meant."""
    found = BY_KEY.get(name) or BY_NAME.get(name)
    if found:
        return found
    alike = nearest_key(name)
    raise NotFound(f"{name} is no setting; " + (f"{alike} was meant?" if alike else "`ollama config` lists all"))


def _insist_usable(app: App) -> None:
    if app.file.problem:
        raise LlameroError(app.file.problem)


# --- changing --------------------------------------------------------------------------------------------------------


def change(app: App, name: str, words: Sequence[str]) -> None:
    """Write one setting; `-` in place of a value reads it from standard input, which no history of a shell keeps."""
    import tomlkit

    _insist_usable(app)
    variable = _settable(name)
    value = to_toml(variable, [_typed(app, variable)] if list(words) == ["-"] else words)
    path, document = _document(app)
    document[variable.key] = item = tomlkit.item(value)
    _write(path, document, {variable.name: as_text(variable.kind, value)})
    is_secret = shown(variable, str(value)) != str(value)
    line = variable.key if is_secret else f"{variable.key} = {item.as_string()}"
    app.terminal.out(f"{line} is in {path} now; a server reads it when it starts\n")
    if app.file.origin(variable.name, app.own_env) == "environment":
        app.warn(f"{variable.name} is set in the environment here, which wins")


def _typed(app: App, variable: Variable) -> str:
    if app.terminal.stdin.isatty():
        return getpass.getpass(f"{variable.key}: ")
    return app.terminal.read_stdin().strip()


def unset(app: App, name: str) -> None:
    _insist_usable(app)
    variable = _settable(name)
    path, document = _document(app)
    if variable.key not in document:
        raise NotFound(f"{path} does not set {variable.key}")
    del document[variable.key]
    _write(path, document, {variable.name: ""})
    app.terminal.out(f"{variable.key} is no longer in {path}; a server takes its default when it starts\n")


def _settable(name: str) -> Variable:
    variable = _find(name)
    if not variable.key:
        raise BadRequest(f"{variable.name} can only be set in the environment")
    return variable


def to_toml(variable: Variable, words: Sequence[str]) -> Value:
    """What the words of a command line are in TOML. BadRequest says what the setting needs."""
    value = _value(variable, words)
    try:
        as_text(variable.kind, value)
    except ValueError as error:
        raise BadRequest(f"{variable.key} {error}") from None
    return value


def _value(variable: Variable, words: Sequence[str]) -> Value:
    if variable.kind in ("list", "host"):
        parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
        return parts[0] if variable.kind == "host" and len(parts) == 1 else parts
    if len(words) != 1:
        raise BadRequest(f"{variable.key} takes one value, not {len(words)}")
    word = words[0]
    if variable.kind in ("uint", "size", "duration", "debug") and _WHOLE_NUMBER.fullmatch(word):
        return int(word)
    if variable.kind in ("bool", "switch", "debug"):
        with contextlib.suppress(ValueError):
            return parse_bool(word)
    return word


def _document(app: App) -> tuple[Path, TOMLDocument]:
    """The file as it is written, comments and all, and where it is, at the end of links."""
    import tomlkit

    path = config_path(app.own_env).resolve()
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        text = ""
    except OSError as error:
        raise LlameroError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    return path, tomlkit.parse(text)


def _write(path: Path, document: TOMLDocument, expected: dict[str, str]) -> None:
    """In one step, for its owner alone. What would not say `expected` when it is read again is never written."""
    text = document.as_string()
    read = parse_config(text, path)
    if read.problem or any(read.texts.get(name, "") != value for name, value in expected.items()):
        raise LlameroError(f"{path} cannot be changed by a program as it is written: edit it")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(PRIVATE_MODE, parents=True, exist_ok=True)
        try:
            with open(create(draft, RECORD_MODE), "wb") as file:
                file.write(text.encode())
            place(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise LlameroError(f"{path}: {(error.strerror or str(error)).lower()}") from error
