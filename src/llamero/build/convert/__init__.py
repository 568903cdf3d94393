"""Converts checkpoint folders (safetensors, config, tokenizer) and adapter folders into GGUF files, in a child process.

This module is the parent's side and imports nothing that parses a model: files from outside are read by the child alone
(security §1, §9.3), which gets no environment of ours. `__main__.py` is the child's side, `conversion.py` and
`adapter.py` are the work.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import worker

__all__ = ["convert_adapter_in_child", "convert_in_child", "projector_path"]

TIMEOUT_S = 4 * 3600.0
"""A 70B checkpoint (140 GB) at the 20 MB/s of a slow disk takes two hours."""

Warn = Callable[[str], None]


def projector_path(output: Path) -> Path:
    """Where the second file of a model that sees goes."""
    return output.with_suffix(".mmproj.gguf")


def convert_in_child(
    folder: Path,
    output: Path,
    report: worker.Count,
    *,
    warn: Warn = lambda text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Convert the checkpoint in `folder` into the file `output`, and its eyes into `projector_path(output)`.

    `report(completed, total)` counts bytes of tensor data, `warn` hears of what the engine cannot honour. Blocks: call
    it on a thread. `cancelled` is asked on another one. When it raises, neither file exists: BadRequest for whatever is
    wrong with the folder, DiskFull, Cancelled, LlameroError when the child broke.
    """
    try:
        _run([folder, output], output, report, warn, cancelled, "the conversion of the model failed")
    except BaseException:
        projector_path(output).unlink(missing_ok=True)  # a child that was killed cannot do it
        raise


def convert_adapter_in_child(
    folder: Path,
    base: Path,
    output: Path,
    report: worker.Count,
    *,
    warn: Warn = lambda text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Convert the LoRA adapter in `folder` into the file `output`, for the model in the GGUF file `base`.

    As `convert_in_child` in all else.
    """
    _run([folder, output, base], output, report, warn, cancelled, "the conversion of the adapter failed")


def _run(
    paths: list[Path], output: Path, report: worker.Count, warn: Warn, cancelled: Callable[[], bool], broke: str
) -> None:
    worker.run(
        __name__,
        [str(path.absolute()) for path in paths],
        output=output,
        report=report,
        cancelled=cancelled,
        timeout_s=TIMEOUT_S,
        broke=broke,
        warn=warn,
    )
