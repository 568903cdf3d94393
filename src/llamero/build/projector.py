"""Older projectors do not say what kind they are; the engine wants to know (store-registry §6.4, Appendix B)."""

from __future__ import annotations

from collections.abc import Iterator

from ..gguf import Gguf
from .rewrite import Source, rewrite

_TYPE = "projector_type"
_ASSUMED = "mlp"
"""The only kind there was while nobody said it."""


def lacks_type(header: Gguf) -> bool:
    return (
        header.architecture == "clip"
        and header.get_bool("has_vision_encoder")
        and not header.has(_TYPE)
        and not header.has(f"vision.{_TYPE}")
    )


def with_type(source: Source) -> Iterator[bytes]:
    """The same projector, naming its kind."""
    return rewrite(source, source.parts, {source.header.key(_TYPE): _ASSUMED})
