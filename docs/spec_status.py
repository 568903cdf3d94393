"""Which behaviours of the specification the tests show. `python docs/spec_status.py` writes spec-status.md from

- behaviours.tsv: the numbers, and what each one says in short;
- the tests: a number in a string or comment (`S-04`), or in a test's name (`test_s04_...`), says that this file shows
  the behaviour completely; `partly S-04` says that something is still missing;
- differences.toml: what is otherwise on purpose, and why.

With `--check` it writes nothing, and exits with 1 if spec-status.md is not what it would write.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FAMILIES = {
    "N": "Native HTTP API",
    "C": "OpenAI and Anthropic APIs",
    "L": "Command line",
    "T": "Modelfiles, templates, tools and thinking",
    "S": "Store and registry",
    "R": "Scheduler",
    "X": "Security",
}
STATUSES = ("done", "partly", "differs", "open")

_LETTERS = "".join(FAMILIES)
_NUMBER = re.compile(rf"(?P<partly>\b[Pp]artly\s+)?\b(?P<id>[{_LETTERS}]-\d{{2,3}})\b")
_TEST_NAME = re.compile(r"\bdef (test_\w+)")
_NAME_PART = re.compile(rf"[{_LETTERS.lower()}]\d{{2,3}}")


class Mistake(Exception):
    """One of the input files says something that cannot be."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    id: str
    tags: str
    text: str

    @property
    def family(self) -> str:
        return self.id[0]


@dataclass(frozen=True, slots=True)
class Claims:
    """What the tests say: behaviour number -> files."""

    complete: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    partial: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def files(self, id_: str) -> list[str]:
        return sorted(self.complete.get(id_, set()) | self.partial.get(id_, set()))


def read_behaviours(text: str) -> list[Behaviour]:
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    behaviours = [Behaviour(*row) for row in rows]
    twice = [id_ for id_, count in Counter(each.id for each in behaviours).items() if count > 1]
    if twice:
        raise Mistake(f"behaviours.tsv: more than once: {', '.join(twice)}")
    return behaviours


def read_claims(sources: Iterable[tuple[str, str]], known: set[str]) -> Claims:
    """Collect from (file name, source) pairs. A number that does not exist is a Mistake; a part of a name is not."""
    claims = Claims()
    for file, source in sources:
        for id_, partly in _claims_of(source, known):
            if id_ not in known:
                raise Mistake(f"{file}: there is no behaviour {id_}")
            (claims.partial if partly else claims.complete)[id_].add(file)
    return claims


def _claims_of(source: str, known: set[str]) -> Iterator[tuple[str, bool]]:
    for match in _NUMBER.finditer(source):
        yield match["id"], match["partly"] is not None
    for name in _TEST_NAME.findall(source):
        parts = name.split("_")
        for before, part in itertools.pairwise(parts):
            id_ = f"{part[:1].upper()}-{part[1:]}"
            if _NAME_PART.fullmatch(part) and id_ in known:
                yield id_, before == "partly"


def read_differences(text: str, known: set[str]) -> dict[str, str]:
    differences = tomllib.loads(text)
    for id_, reason in differences.items():
        if id_ not in known:
            raise Mistake(f"differences.toml: there is no behaviour {id_}")
        if not isinstance(reason, str) or not reason.strip():
            raise Mistake(f"differences.toml: {id_} needs a reason")
    return differences


def status(id_: str, claims: Claims, differences: Mapping[str, str]) -> str:
    if id_ in differences:
        return "differs"
    if id_ in claims.complete:
        return "done"
    return "partly" if id_ in claims.partial else "open"


def render(behaviours: list[Behaviour], claims: Claims, differences: Mapping[str, str]) -> str:
    """The whole page."""
    statuses = {each.id: status(each.id, claims, differences) for each in behaviours}
    lines = [
        "# What of the specification is there",
        "",
        "Written by `python docs/spec_status.py`; do not edit. *done*: a test shows it completely; *partly*: something "
        "is missing; *differs*: otherwise on purpose; *open*: no test shows it yet.",
        "",
        *_table(("", "", "all", *STATUSES), _summary(statuses)),
    ]
    for letter, title in FAMILIES.items():
        rows = [
            (each.id, each.text, _said(each.id, statuses, differences), ", ".join(map(_link, claims.files(each.id))))
            for each in behaviours
            if each.family == letter
        ]
        lines += ["", f"## {letter}: {title}", "", *_table(("id", "behaviour", "status", "tests"), rows)]
    return "\n".join(lines) + "\n"


def _summary(statuses: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for letter, title in [*FAMILIES.items(), ("", "Together")]:
        counts = Counter(said for id_, said in statuses.items() if id_.startswith(letter))
        yield (letter, title, str(counts.total()), *(str(counts[each]) for each in STATUSES))


def _said(id_: str, statuses: Mapping[str, str], differences: Mapping[str, str]) -> str:
    return f"differs: {differences[id_]}" if id_ in differences else statuses[id_]


def _link(file: str) -> str:
    return f"[{file.removeprefix('tests/')}](../{file})"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (heads, ("---",) * len(heads), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def page(root: Path) -> str:
    """What spec-status.md of the project at `root` has to say."""
    behaviours = read_behaviours((root / "docs/behaviours.tsv").read_text("utf-8"))
    known = {each.id for each in behaviours}
    files = sorted((root / "tests").rglob("*.py"))
    claims = read_claims(((file.relative_to(root).as_posix(), file.read_text("utf-8")) for file in files), known)
    differences = read_differences((root / "docs/differences.toml").read_text("utf-8"), known)
    return render(behaviours, claims, differences)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="write docs/spec-status.md")
    parser.add_argument("--check", action="store_true", help="only tell whether it is up to date")
    check = parser.parse_args(arguments).check
    target = root / "docs/spec-status.md"
    try:
        text = page(root)
    except Mistake as mistake:
        print(mistake, file=sys.stderr)
        return 1
    if not check:
        target.write_text(text, "utf-8")
        return 0
    if target.exists() and target.read_text("utf-8") == text:
        return 0
    print("docs/spec-status.md is out of date: run `python docs/spec_status.py`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
