"""Markdown on a terminal while it arrives: blocks, spans within them, tables, code, and lines of words (cli §6.7)."""

from .blocks import Markdown

__all__ = ["Markdown"]
