"""The table of all settings in docs/configuration.md and its Chinese twin, written from the table of the program.

`python docs/environment.py` writes what stands between the two marks; environment.zh-CN.toml has the Chinese meanings.
With `--check` it writes nothing, and exits with 1 if a page is not what it would write.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from llamero.config import TABLE, Variable, Where

FOLDER = Path(__file__).resolve().parent

BEGIN = "<!-- settings: written by docs/environment.py -->\n"
END = "<!-- end of settings -->\n"


class Mistake(Exception):
    """One of the files cannot be what it is."""


@dataclass(frozen=True, slots=True)
class Language:
    page: str
    heads: tuple[str, ...]
    groups: Mapping[Where, str]
    no_effect: str
    meanings: str = ""
    """The file with meanings in this language; empty: those of the program."""


LANGUAGES = (
    Language(
        "configuration.md",
        ("Variable", "Key in config.toml", "Default", "Meaning"),
        {
            "server": "The server",
            "both": "The server and the command line",
            "engine": "The engine",
            "vendor": "Libraries and drivers",
            "client": "The command line",
        },
        " (no effect in this version)",
    ),
    Language(
        "configuration.zh-CN.md",
        ("变量", "config.toml 中的键", "默认值", "含义"),
        {
            "server": "服务器",
            "both": "服务器和命令行",
            "engine": "引擎",
            "vendor": "库和驱动程序",
            "client": "命令行",
        },
        "（本版本中无效）",
        "environment.zh-CN.toml",
    ),
)


def table(language: Language, meanings: Mapping[str, str]) -> str:
    """Everything between the marks."""
    lines = []
    for where, title in language.groups.items():
        rows = [_row(each, meanings[each.name], language) for each in TABLE if each.where == where]
        lines += ["", f"### {title}", "", *_markdown(language.heads, rows)]
    return "\n".join(lines) + "\n\n"


def _row(variable: Variable, meaning: str, language: Language) -> tuple[str, ...]:
    note = "" if variable.honoured_by else language.no_effect
    return (f"`{variable.name}`", _code(variable.key), _code(variable.default), meaning + note)


def _code(text: str) -> str:
    return f"`{text}`" if text else "–"


def _markdown(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    for row in (heads, ("---",) * len(heads), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def meanings_in(language: Language, folder: Path) -> dict[str, str]:
    """Of every variable. Mistake when one is missing or superfluous."""
    own = {variable.name: variable.meaning for variable in TABLE}
    if not language.meanings:
        return own
    found = tomllib.loads((folder / language.meanings).read_text("utf-8"))
    wrong = sorted(own.keys() ^ found.keys())
    if wrong:
        raise Mistake(f"{language.meanings}: missing, or not a setting: {', '.join(wrong)}")
    return found


def page(language: Language, folder: Path) -> tuple[Path, str, str]:
    """A page: where it is, what it says, and what it has to say."""
    path = folder / language.page
    text = path.read_text("utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise Mistake(f"{language.page} needs the marks {BEGIN.strip()} and {END.strip()}, once each")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return path, text, f"{before}{BEGIN}{table(language, meanings_in(language, folder))}{END}{after}"


def main(arguments: list[str] | None = None, folder: Path = FOLDER) -> int:
    parser = argparse.ArgumentParser(description="write the table of settings into the guides")
    parser.add_argument("--check", action="store_true", help="only tell whether it is up to date")
    check = parser.parse_args(arguments).check
    try:
        pages = [page(language, folder) for language in LANGUAGES]
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return 1
    outdated = [(path, wanted) for path, text, wanted in pages if text != wanted]
    for path, wanted in outdated:
        if check:
            print(f"{path.name} is out of date: run `python docs/environment.py`", file=sys.stderr)
        else:
            path.write_text(wanted, "utf-8")
    return int(check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
