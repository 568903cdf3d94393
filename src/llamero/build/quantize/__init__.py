"""Quantizes a GGUF file, in a child process: fewer bits for each weight, a smaller and faster model.

Of what the child made only the tensors' bytes are taken; the header is the source's own. So nothing can reach the new
file that is no tensor (CVE-2026-7482), and its metadata and order stay. This is the parent's side; `__main__.py` is the
child's, `levels.py` says which tensor becomes what. Source: store-registry §6.6; security §2.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from ...errors import Cancelled, LlameroError, NotSupported
from ...gguf import Gguf, Tensor
from .. import worker
from ..rewrite import Part, Source, rewrite
from .levels import FILE_TYPE_IDS, UNQUANTIZED, level_of, parse_level, shared_out

__all__ = ["check_source", "level_of", "parse_level", "quantize", "quantize_in_child"]

TIMEOUT_S = 8 * 3600.0
"""A 70B model to an IQ type on two slow cores; the plain types take minutes."""

NOT_INSTALLED = "quantizing needs the extra \"build\": pip install '.[build]' in the folder of Llamero's source"
_QUANTIZATION_VERSION = 2
"""Of the layout of quantized blocks, as the engine reads them."""


def check_source(header: Gguf) -> str:
    """The level of a file that can be quantized; LlameroError for one that is quantized already."""
    level = level_of(header)
    if level not in UNQUANTIZED:
        raise LlameroError("quantization is only supported for F16, BF16 and F32 models")
    return level


def quantize(
    path: Path, level: str, folder: Path, report: worker.Count, *, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[bytes]:
    """The new file, block by block. `report(completed, total)` counts bytes of the source's tensors.

    In `folder` lies the child's result meanwhile; where some tensors are not quantized as the rest, the others once
    more before that. Blocks: run it on a thread. Raises InvalidModelFile, OSError, and what `quantize_in_child` does.
    """
    with ExitStack() as opened:
        source = Source(opened.enter_context(path.open("rb")))
        parts = {part.tensor.name: part for part in source.parts}
        total_bytes, done_bytes = _size(source.header.tensors), 0
        for goal, tensors in shared_out(source.header, level).items():
            if goal is not None:
                output = folder / f"{goal}.gguf"
                with _holding_only(tensors, source, path, folder, cancelled) as chosen:
                    count = partial(_count_on, report, done_bytes, total_bytes)
                    quantize_in_child(chosen, output, goal, count, cancelled=cancelled)
                made = Source(opened.enter_context(output.open("rb"))).parts
                parts |= _checked(tensors, made)
            done_bytes += _size(tensors)
            report(done_bytes, total_bytes)
        changes = {"general.file_type": FILE_TYPE_IDS[level], "general.quantization_version": _QUANTIZATION_VERSION}
        yield from rewrite(source, list(parts.values()), changes)


def quantize_in_child(
    source: Path, output: Path, level: str, report: worker.Count, *, cancelled: Callable[[], bool] = lambda: False
) -> None:
    """Quantize a whole file with the bundled quantizer, which reads it in a process of its own.

    Raises NotSupported when the quantizer is not installed, InvalidModelFile's 400 for a file that fails our checks,
    DiskFull, Cancelled, and LlameroError with the quantizer's own words.
    """
    if importlib.util.find_spec("cyllama") is None:
        raise NotSupported(NOT_INSTALLED)
    worker.run(
        __name__,
        [str(source.absolute()), str(output.absolute()), level],
        output=output,
        report=report,
        cancelled=cancelled,
        timeout_s=TIMEOUT_S,
        broke="the quantization of the model failed",
    )


@contextmanager
def _holding_only(
    tensors: Sequence[Tensor], source: Source, path: Path, folder: Path, cancelled: Callable[[], bool]
) -> Iterator[Path]:
    """A file with these tensors and no others: the source itself, or one made for the purpose."""
    if len(tensors) == len(source.header.tensors):
        yield path
        return
    chosen = folder / "chosen.gguf"
    with chosen.open("wb") as file:
        for block in rewrite(source, [Part(source, tensor) for tensor in tensors], {}):
            if cancelled():
                raise Cancelled
            file.write(block)
    yield chosen
    chosen.unlink()


def _checked(asked: Sequence[Tensor], made: Sequence[Part]) -> dict[str, Part]:
    """What the child made, by name. It runs foreign code on foreign data, so its word is not taken for it."""
    if {each.name: each.shape for each in asked} != {part.tensor.name: part.tensor.shape for part in made}:
        raise LlameroError("the quantizer changed the tensors of the model")
    return {part.tensor.name: part for part in made}


def _count_on(report: worker.Count, before: int, total: int, completed: int, _: int) -> None:
    report(before + completed, total)


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.size_bytes for tensor in tensors)
