"""Reads a Dockerfile: its instructions, stage by stage, as far as ours goes (no heredocs, no escape directive)."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instruction:
    word: str
    """In upper case."""
    text: str
    """Its arguments on one line."""

    @property
    def words(self) -> list[str]:
        """Its arguments: those of the JSON form, or as a shell would split them."""
        return [str(word) for word in json.loads(self.text)] if self.text.startswith("[") else shlex.split(self.text)


@dataclass
class Stage:
    base: str
    name: str = ""
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        return [each for each in self.instructions if each.word == word]

    def last(self, word: str) -> Instruction:
        return self.all(word)[-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for each in self.all("ENV") for pair in each.words)
        return {name: value for name, _, value in pairs}


@dataclass
class Dockerfile:
    arguments: dict[str, str]
    """Those before the first FROM."""
    stages: list[Stage]


def read(path: Path) -> Dockerfile:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    found = Dockerfile({}, [])
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, _, text = line.strip().partition(" ")
        instruction = Instruction(word.upper(), text.strip())
        if instruction.word == "FROM":
            base, *name = re.split(r"\s+AS\s+", instruction.text, flags=re.IGNORECASE)
            found.stages.append(Stage(base, *name))
        elif found.stages:
            found.stages[-1].instructions.append(instruction)
        else:
            name_, _, value = instruction.text.partition("=")
            found.arguments[name_] = value
    return found
