"""A checkpoint folder in, one GGUF file out, or two when the model sees.

Runs in a child process: see `__main__.py` and the package's docstring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from gguf import GGMLQuantizationType as Type

from ...errors import BadRequest
from . import (
    bert,
    gemma,
    gemma2,
    gemma3,
    llama,
    mistral,
    mixtral,
    nomic_bert,
    phi3,
    projector_path,
    qwen2,
    qwen3,
    qwen3moe,
)
from .checkpoint import Checkpoint, Config
from .family import Content, Family, Tensor
from .writer import write_gguf

FAMILIES: tuple[Family, ...] = (
    bert.FAMILY,
    gemma.FAMILY,
    gemma2.FAMILY,
    gemma3.FAMILY,
    llama.FAMILY,
    mistral.FAMILY,
    mixtral.FAMILY,
    nomic_bert.FAMILY,
    nomic_bert.MOE_FAMILY,
    phi3.FAMILY,
    qwen2.FAMILY,
    qwen3.FAMILY,
    qwen3moe.FAMILY,
)

Report = Callable[[int, int], None]

_FILE_TYPES = {Type.F32: 0, Type.F16: 1, Type.BF16: 32}
"""`general.file_type`, store-registry §7.4."""
_QUANTIZATION_VERSION = 2


def convert(folder: Path, output: Path, report: Report = lambda completed, total: None) -> list[str]:
    """Convert `folder` into `output`, and what sees in it into `projector_path(output)`; returns warnings.

    `report(completed, total)` counts bytes of tensor data of both files. Raises BadRequest or InvalidModelFile for
    whatever is wrong with the folder, OSError when the disk refuses; neither file exists then.
    """
    checkpoint = Checkpoint(folder)
    family = _family(checkpoint.config)
    checkpoint.config = checkpoint.config.over(family.defaults)
    metadata = {**family.metadata(checkpoint), **family.vocabulary(checkpoint)}
    files = {output: Content(family.architecture, metadata, list(family.tensors(checkpoint)))}
    if (projector := family.projector(checkpoint)) is not None:
        files[projector_path(output)] = projector
    write(files, report)
    return checkpoint.warnings


def write(files: dict[Path, Content], report: Report) -> None:
    """Write all of `files` or, when that fails, none."""
    total = sum(tensor.size_bytes for content in files.values() for tensor in content.tensors)
    written = 0
    try:
        for path, content in files.items():
            metadata = {
                "general.file_type": _file_type(content.tensors),
                "general.quantization_version": _QUANTIZATION_VERSION,
                **content.metadata,
            }
            before = written

            def report_all(completed: int, _: int, before: int = before) -> None:
                report(before + completed, total)

            write_gguf(path, content.architecture, metadata, content.tensors, report_all)
            written += sum(tensor.size_bytes for tensor in content.tensors)
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise


def _file_type(tensors: Iterable[Tensor]) -> int:
    """By the type of most bytes, where vectors and the like, which are always F32, do not count."""
    size_bytes = Counter({Type.F32: 0})
    for tensor in tensors:
        size_bytes[tensor.type] += tensor.size_bytes if tensor.type is not Type.F32 else 0
    return _FILE_TYPES[max(size_bytes, key=lambda kind: size_bytes[kind])]


def _family(config: Config) -> Family:
    name = config.architecture
    for family in FAMILIES:
        if name in family.serves and family.applies(config):
            return family
    raise BadRequest(f'unsupported architecture "{name[:80]}"')
