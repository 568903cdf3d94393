"""`config.toml`: settings for when the environment says nothing (cli §10.3, G-15).

It becomes what an environment would hold, name by name, so everything behind it reads one mapping and knows one set of
rules. Unlike an environment, which other programs fill as well, it is written for us: a value of the wrong type is an
error with its line, and nothing of the file is used then.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from .. import durations
from ..errors import BadRequest
from .hosts import parse_hosts
from .secrets import holds_secret, without_logins
from .table import BY_KEY, BY_NAME, Kind
from .words import clean, parse_size

Origin = Literal["default", "config.toml", "environment"]

MAX_FILE_BYTES = 2**20
"""A hundred settings are a few kilobytes; whatever is larger is another file."""
OTHERS = stat.S_IRWXG | stat.S_IRWXO
ALIKE = 0.7
"""How like a key another word must be to be taken for a slip of the fingers; 1 is equal."""
_MAX_DEPTH_PROBLEM = "it is nested too deeply"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What one file says. Without a path there is none, as in most tests."""

    path: Path | None = None
    texts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variable to its value, as the environment would have it."""
    warnings: tuple[str, ...] = ()
    problem: str = ""
    """Why nothing of it is used. A server does not start then; everything else says so and goes on."""

    def under(self, env: Mapping[str, str]) -> dict[str, str]:
        """Both together. The environment wins with everything that it does not leave empty."""
        return {**env, **{name: text for name, text in self.texts.items() if not _says(env, name)}}

    def origin(self, name: str, env: Mapping[str, str]) -> Origin:
        """Who decides about a variable, when this lies under `env`."""
        if _says(env, name):
            return "environment"
        return "config.toml" if clean(self.texts.get(name, "")) else "default"

    def only(self, names: Collection[str]) -> ConfigFile:
        """What it says about these, and no criticism of the rest."""
        return replace(self, texts={name: self.texts[name] for name in self.texts if name in names}, warnings=())


NO_FILE = ConfigFile()


def _says(env: Mapping[str, str], name: str) -> bool:
    """The lower-case spelling is how proxies are often written."""
    return bool(clean(env.get(name, "")) or clean(env.get(name.lower(), "")))


# --- reading -------------------------------------------------------------------------------------------------------


def read_config(path: Path) -> ConfigFile:
    """The file at `path`; one that does not exist says nothing. Never raises: see `problem`."""
    try:
        text, mode = _content(path)
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile(path)
    except OSError as error:
        return ConfigFile(path, problem=f"{path}: {(error.strerror or str(error)).lower()}")
    except UnicodeError:
        return ConfigFile(path, problem=f"{path}: it is not UTF-8")
    file = parse_config(text, path)
    secrets = sorted(BY_NAME[name].key for name, value in file.texts.items() if holds_secret(BY_NAME[name], value))
    if secrets and os.name == "posix" and mode & OTHERS:
        problem = f"{path} holds a secret ({', '.join(secrets)}) that others can read: chmod 600 {path}"
        return ConfigFile(path, problem=problem)
    return file


def _content(path: Path) -> tuple[str, int]:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "it is no file")  # a pipe would be waited for
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise OSError(0, f"it is larger than {MAX_FILE_BYTES} bytes")
        return data.decode("utf-8-sig"), os.fstat(file.fileno()).st_mode


def parse_config(text: str, path: Path) -> ConfigFile:
    """What a file with this text says; `path` is for the messages."""
    import tomllib  # late: most users have no such file, and every command would pay for it

    try:
        document = tomllib.loads(text)
    except RecursionError:
        return ConfigFile(path, problem=f"{path}: {_MAX_DEPTH_PROBLEM}")
    except tomllib.TOMLDecodeError as error:
        return ConfigFile(path, problem=f"{path}: {error}")
    except ValueError:  # of the interpreter, which limits the digits that it reads
        return ConfigFile(path, problem=f"{path}: a number in it is too long")
    texts: dict[str, str] = {}
    warnings: list[str] = []
    for key, value in document.items():
        place = f"{path}{_line_of(key, text)}"
        variable = BY_KEY.get(key)
        if variable is None:
            warnings.append(f"{place}: {_shown(key)} is no setting and has no effect{_meant(key)}")
            continue
        try:
            texts[variable.name] = as_text(variable.kind, value)
        except ValueError as error:
            return ConfigFile(path, problem=f"{place}: {key} {error}")
    return ConfigFile(path, texts, tuple(warnings))


def _line_of(key: str, text: str) -> str:
    """`:3`, where the key seems to stand: TOML's readers do not tell."""
    found = re.search(rf"""^[ \t\[]*["']?{re.escape(key)}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return f":{text.count(chr(10), 0, found.start()) + 1}" if found else ""


def _shown(key: str) -> str:
    return key if re.fullmatch(r"[\w-]{1,60}", key, re.ASCII) else json.dumps(key[:60])


def _meant(key: str) -> str:
    alike = nearest_key(key)
    return f"; {alike} was meant?" if alike else ""


def nearest_key(word: str) -> str:
    """The key that somebody who wrote `word` had in mind, which may be a variable's name; empty when there is none."""
    import difflib  # late: no command needs it before somebody makes a slip

    if variable := BY_NAME.get(word.upper()):
        return variable.key
    plain = word.lower().replace("-", "_").removeprefix("ollama_").removeprefix("llamero_")
    return next(iter(difflib.get_close_matches(plain, BY_KEY, 1, ALIKE)), "")


# --- values --------------------------------------------------------------------------------------------------------


def as_text(kind: Kind, value: object) -> str:
    """What the environment would hold for a value of TOML. An empty text is as good as no line.

    ValueError says what the value must be; its words follow the key's name, and never repeat a secret.
    """
    match value:
        case "":
            return ""
        case str() if not value.isprintable():
            raise ValueError("must not hold control characters or line breaks")
        case bool() if kind in ("bool", "switch", "debug"):
            return "1" if value else "0"
        case bool():
            pass
        case int() if _is_number_for(kind, value):
            return str(value)
        case str() if kind in ("text", "path", "switch", "list"):
            return "" if (kind, value) == ("switch", "auto") else value
        case str() if kind in _CHECKS:
            return _checked(kind, value)
        case list() if kind in ("list", "host") and all(isinstance(each, str) for each in value):
            return ",".join(as_text(kind, each) for each in value)
    raise ValueError(f"must be {NEEDS[kind]}, not {_type_of(value)}")


def _is_number_for(kind: Kind, value: int) -> bool:
    if kind in ("uint", "size"):
        return 0 <= value < 2**63
    return kind in ("duration", "debug", "text") and -(2**63) < value < 2**63


NEEDS: Mapping[Kind, str] = {
    "bool": "true or false",
    "switch": "true, false or a word in quotes",
    "uint": "a whole number from 0 on",
    "duration": 'seconds, or a time like "5m" or "1h30m"',
    "size": 'bytes, or a size like "512MB" or "64MiB"',
    "text": "a text in quotes",
    "path": "a path in quotes",
    "list": 'a list of texts, like ["a", "b"]',
    "host": 'an address like "127.0.0.1:11434", or a list of them',
    "debug": "true, false or a whole number",
}


def _type_of(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**18 else "that large a number"
        case str():
            return "a text"
        case list():
            return "such a list"
        case dict():
            return "a table"
    return "a number with a point" if isinstance(value, float) else "a date"


def _checked(kind: Kind, text: str) -> str:
    try:
        _CHECKS[kind](text)
    except BadRequest:
        raise ValueError(f'must be {NEEDS[kind]}, not "{without_logins(text)}"') from None
    return text


def _check_duration(text: str) -> None:
    if not re.fullmatch("[+-]?[0-9]{1,18}", clean(text)):
        durations.parse_duration(clean(text))


def _check_host(text: str) -> None:
    if parse_hosts(text)[1]:
        raise BadRequest(text)


_CHECKS: Mapping[Kind, Callable[[str], object]] = {
    "duration": _check_duration,
    "size": parse_size,
    "host": _check_host,
}
