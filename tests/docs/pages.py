"""The guides as what they consist of: headings, tables, code, links. It judges nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN_BY_PROGRAMS = {"spec-status.md"}
"""Pages that nobody reads as a guide."""
CHINESE = ".zh-CN.md"

_FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^|\n)((?:(?: {4}|\t).*(?:\n|$)|\n(?= {4}))+)")
_SPAN = re.compile(r"`+([^`\n]+)`+")
_COMMENT = re.compile(r"(?:^|\s+)# .*$")


@dataclass(frozen=True)
class Page:
    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def is_chinese(self) -> bool:
        return self.path.name.endswith(CHINESE)

    @property
    def other_language(self) -> Page:
        name = self.path.name
        twin = name.replace(CHINESE, ".md") if self.is_chinese else name.replace(".md", CHINESE)
        return Page(self.path.with_name(twin))

    @property
    def headings(self) -> list[int]:
        """Their levels."""
        return [len(marks) for marks in re.findall(r"^(#+) ", _FENCE.sub("", self.text), re.MULTILINE)]

    @property
    def table_rows(self) -> list[int]:
        """The columns of each row, of all tables."""
        return [line.replace(r"\|", "").count("|") - 1 for line in self.text.splitlines() if line.startswith("|")]

    @property
    def links(self) -> list[str]:
        """The targets of relative links, without their anchors."""
        targets = re.findall(r"\]\(([^)\s]+)\)", self.text)
        return [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]

    @property
    def code(self) -> list[str]:
        """The lines of its blocks, without the comments, which are in the page's language."""
        fenced = _FENCE.findall(self.text)
        indented = _INDENTED.findall(_FENCE.sub("", self.text))
        lines = (line for block in (*fenced, *indented) for line in block.splitlines())
        return [" ".join(line.split()) for line in (_COMMENT.sub("", line) for line in lines) if line.strip()]

    @property
    def spans(self) -> list[str]:
        return _SPAN.findall(_FENCE.sub("", self.text))

    @property
    def commands(self) -> Iterator[list[str]]:
        """The words of every call of `ollama` in blocks and spans, from the one behind `ollama` on."""
        for line in (*self.code, *self.spans):
            for called in re.split(r"&&|\|(?!\|)|;|^\$|\bor:|或：", line):
                if match := re.fullmatch(
                    r"(?:[A-Z_]+=\S* |sudo (?:-\S+ (?:llamero )?)*|uv run |nohup )*"
                    r"(?:\S*/)?(?:ollama|llamero) ([a-z].*)",
                    called.strip(),
                ):
                    yield _words(match[1])


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # half of a command that goes on in the next line
        return text.split()


GUIDES = [Page(path) for path in sorted(DOCS.glob("*.md")) if path.name not in WRITTEN_BY_PROGRAMS]
FRONT = [Page(ROOT / "README.md"), Page(ROOT / "README.zh-CN.md")]
