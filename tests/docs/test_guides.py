"""The guides are true where a program can tell: links lead somewhere, names are names, both languages say the same.

What a command does is shown by the tests of that command; here it has to exist, with the flags that it is given.
"""

from __future__ import annotations

import re

import click
import pytest

from llamero.cli.commands import root
from llamero.cli.completion import SUBCOMMANDS
from llamero.cli.grammar import Command, flags_of
from llamero.config import BY_NAME
from tests.docs.pages import DOCS, FRONT, GUIDES, Page

OTHERS = {
    *(f"LLAMERO_{name}" for name in ("SITE", "USER", "PASSWORD_HASH", "KEY", "UPSTREAM")),  # of deploy/
    "LLAMERO_TEST_DIFY",
}
"""Variables that are not the program's."""
KEYS = {variable.key for variable in BY_NAME.values()} - {""}


def named(page: Page) -> str:
    return page.path.name


every_guide = pytest.mark.parametrize("page", GUIDES, ids=named)
every_page = pytest.mark.parametrize("page", [*GUIDES, *FRONT], ids=named)
every_english_guide = pytest.mark.parametrize("page", [page for page in GUIDES if not page.is_chinese], ids=named)


@every_page
def test_every_relative_link_leads_to_a_file(page: Page) -> None:
    assert [link for link in page.links if not (page.path.parent / link).exists()] == []


@every_english_guide
def test_both_languages_have_the_same_parts(page: Page) -> None:
    """Headings, tables and commands: a change in one language that the other lacks is seen here."""
    chinese = page.other_language
    assert chinese.path.exists()
    assert chinese.headings == page.headings
    assert chinese.table_rows == page.table_rows
    assert chinese.code == page.code


@every_guide
def test_a_chinese_page_stays_in_its_language(page: Page) -> None:
    """Its links go to the Chinese pages, but for the one to its twin, and the other way round."""
    twins = [link for link in page.links if (DOCS / link) == page.other_language.path]
    translated = [link for link in page.links if link.endswith(".md") and "/" not in link]
    other = [link for link in translated if link.endswith(".zh-CN.md") != page.is_chinese]
    assert other == twins
    assert len(twins) == 1


@every_page
def test_every_file_of_this_repository_is_there(page: Page) -> None:
    told = re.findall(r"`((?:deploy|docs|tests|bench)/[\w./-]*\w/?)`", page.text)
    assert [path for path in told if not (DOCS.parent / path).exists()] == []


@every_page
def test_every_variable_is_a_setting(page: Page) -> None:
    told = set(re.findall(r"\b(?:OLLAMA|LLAMERO)_[A-Z][A-Z_]*[A-Z]\b(?!_)", page.text))
    assert told - set(BY_NAME) - OTHERS == set()


@every_page
def test_every_command_exists_with_its_flags(page: Page) -> None:
    context = click.Context(root)
    for first, *words in page.commands:
        command = root.get_command(context, first)
        assert isinstance(command, Command), f"ollama {first}"
        if first in SUBCOMMANDS and words and words[0].isalpha() and words[0].islower():
            assert words[0] in SUBCOMMANDS[first], f"ollama {first} {words[0]}"
        if first == "config" and words[1:] and words[0] in ("get", "set", "unset"):
            assert {words[1]} <= KEYS, f"ollama config {words[0]} {words[1]}"
        own = words[: words.index("--")] if "--" in words else words
        given = {word.partition("=")[0] for word in own if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
        assert given - flags_of(command).keys() == set(), f"ollama {first}"


@every_guide
def test_whoever_has_made_the_first_key_shows_it(page: Page) -> None:
    """From then on the server wants one, and the next command of the guide would fail."""
    has_made, shows = False, False
    for line in page.code:
        shows |= "OLLAMA_API_KEY=" in line
        if re.search(r"\bollama key ", line):
            assert shows or not has_made, line
            has_made |= "--role admin" in line


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_index_names_every_guide_of_its_language(name: str) -> None:
    index = Page(DOCS / name)
    guides = {page.path.name for page in GUIDES if page.is_chinese == index.is_chinese}
    assert set(index.links) - {index.other_language.path.name} == guides - {name}


@pytest.mark.parametrize("page", FRONT, ids=named)
def test_the_first_page_leads_to_the_index(page: Page) -> None:
    assert f"docs/{page.path.name}" in page.links


@pytest.mark.parametrize("name", ["troubleshooting.md", "troubleshooting.zh-CN.md"])
def test_what_the_program_says_is_found_by_its_words(name: str) -> None:
    """A symptom in code is what somebody sees, with `…` for what differs: its longest part stands in the source."""
    page = Page(DOCS / name)
    rows = [line.split("|")[1] for line in page.text.splitlines() if line.startswith("| ") and line.count("|") == 5]
    assert len(rows) > 40
    source = "".join(path.read_text("utf-8") for path in (DOCS.parent / "src").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source).replace('\\"', '"')
    source += re.sub(r"\{[^{}\n]*\}", "", source)
    said = [piece for row in rows for symptom in re.findall(r"`([^`]+)`", row) for piece in _pieces(symptom)]
    assert [piece for piece in said if piece not in source and piece not in NOT_OURS] == []
    assert len(said) > 30


def _pieces(symptom: str) -> list[str]:
    """The longest part between what differs."""
    for part in DIFFERS:
        symptom = re.sub(part, "…", symptom)
    return [max((part.strip(" :;,()\"'") for part in symptom.split("…")), key=len)]


DIFFERS = (
    *("^Llamero-Warning: ", r"^config\.toml:4: \w+", '^Head "http://…": '),  # in front of it
    *("0644, 0640", "67108864", "tools$", "^image", "(?=; try http)"),
)
"""What the program puts in, and where it joins two texts."""
NOT_OURS = {
    *("ollama: command not found", "no such host", "Name or service not known", "timed out", "truncate: false"),
    *("bind: address already in use", "bind: cannot assign requested address"),
}
"""What shells, systems and requests say."""
