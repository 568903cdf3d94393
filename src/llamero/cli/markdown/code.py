"""The colours of code in a fenced block, line by line. Pure: a line of code in, the same with control codes out."""

from __future__ import annotations

MAX_CHARS = 4096
"""Of a block this much is read again for each of its lines, so that a string of several lines is one."""


class Code:
    """One block in a language that may be unknown; then its lines have no colours."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._text = ""

    def colour(self, line: str) -> str:
        """The next line of the block, without its end."""
        if not self._language:
            return line
        from rich.color import ColorSystem
        from rich.syntax import Syntax

        if len(self._text) > MAX_CHARS:
            self._text = ""
        self._text += f"{line}\n"
        *_, text, _ = Syntax("", self._language, theme="ansi_dark").highlight(self._text).split("\n", allow_blank=True)
        if text.plain != line:
            return line  # whoever reads languages may tidy them up; what is copied from a screen should be the answer
        pieces = []
        position = 0
        for span in sorted(text.spans):
            start = max(span.start, position)
            if span.end <= start or isinstance(span.style, str):
                continue
            style = span.style.without_color if span.style.color and span.style.color.is_default else span.style
            pieces.append(line[position:start])
            pieces.append(style.render(line[start : span.end], color_system=ColorSystem.STANDARD))
            position = span.end
        return "".join((*pieces, line[position:]))
