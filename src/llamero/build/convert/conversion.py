"""A checkpoint folder in, one GGUF file out. Runs in a child process: see `__main__.py` and the package's docstring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import BadRequest
from . import bert
from .checkpoint import Checkpoint
from .family import Family
from .writer import write_gguf

FAMILIES: tuple[Family, ...] = (bert.FAMILY,)

_FILE_TYPE_MOSTLY_F16 = 1
_QUANTIZATION_VERSION = 2


def convert(folder: Path, output: Path, report: Callable[[int, int], None] = lambda completed, total: None) -> None:
    """Convert `folder` into `output`; `report(completed, total)` counts bytes of tensor data.

    Raises BadRequest or InvalidModelFile for whatever is wrong with the folder, OSError when the disk refuses; `output`
    does not exist then.
    """
    checkpoint = Checkpoint(folder)
    family = _family(checkpoint.config.architecture)
    metadata = {
        "general.file_type": _FILE_TYPE_MOSTLY_F16,
        "general.quantization_version": _QUANTIZATION_VERSION,
        **family.metadata(checkpoint),
        **family.vocabulary(checkpoint),
    }
    try:
        write_gguf(output, family.architecture, metadata, family.tensors(checkpoint), report)
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def _family(name: str) -> Family:
    for family in FAMILIES:
        if name in family.serves:
            return family
    raise BadRequest(f'unsupported architecture "{name[:80]}"')
