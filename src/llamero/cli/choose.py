"""Asking somebody at a terminal to choose from a list by numbers or names."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import BadRequest
from .terminal import Terminal

ALL = "all"


def choose(terminal: Terminal, what: str, names: Sequence[str], *, default: str, most: int | None = None) -> list[str]:
    """Show the numbered names and ask until the answer fits; nothing typed means `default`, `most` is how many it may
    be. EOFError when whoever is asked ends the input.
    """
    terminal.out("".join(f"{number:>4}  {terminal.safe(name)}\n" for number, name in enumerate(names, 1)))
    while True:
        terminal.out(f"{what} [{terminal.safe(default)}]: ")
        line = terminal.stdin.readline()
        if not line:
            terminal.out("\n")
            raise EOFError
        try:
            found = chosen(line.strip() or default, names)
            if most is None or len(found) <= most:
                return found
            terminal.err(f"at most {most}, please\n")
        except BadRequest as error:
            terminal.err(f"{error}\n")


def chosen(text: str, names: Sequence[str]) -> list[str]:
    """The names that `text` means: `all`, or numbers, ranges and names with commas or blanks between them.

    In the order of `text`, none of them twice. BadRequest for a word that means none.
    """
    found: dict[str, None] = {}
    for word in text.replace(",", " ").split():
        first, dash, last = word.partition("-")
        if word == ALL:
            found |= dict.fromkeys(names)
        elif word in names:
            found[word] = None
        elif first.isdecimal() and (last if dash else first).isdecimal():
            low, high = int(first), int(last or first)
            if not 1 <= low <= high <= len(names):
                raise BadRequest(f"there is no number {word}; they go from 1 to {len(names)}")
            found |= dict.fromkeys(names[low - 1 : high])
        else:
            raise BadRequest(f'"{word}" is neither a number nor one of the names')
    return list(found)
