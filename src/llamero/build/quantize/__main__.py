"""The child's side of a quantization: `python -m llamero.build.quantize SOURCE OUTPUT LEVEL`. See `build/worker.py`.

The only importer of the quantizer, which is llama.cpp's own: it reads files with C code, hence never in the server.
"""

from __future__ import annotations

import mmap
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ... import gguf
from ...errors import DiskFull, LlameroError, NotSupported
from ...gguf import Gguf
from .. import worker
from . import NOT_INSTALLED
from .levels import FILE_TYPE_IDS

_TENSOR = re.compile(r"\[ *\d+/ *\d+\] (\S+) ")
"""How the quantizer's log names the tensor that it begins with."""
_FAILED = re.compile(r"failed to quantize: (.*)")

_FULL_BYTES = 16 << 20
"""With less than this free, a failed write means a full disk; the quantizer itself does not say."""


def main(arguments: list[str]) -> int:
    source, output, level = arguments
    return worker.main(partial(quantize, Path(source), Path(output), level))


def quantize(source: Path, output: Path, level: str, report: worker.Count) -> None:
    header = _checked_header(source)
    llama_cpp = _quantizer()
    parameters = llama_cpp.LlamaModelQuantizeParams()
    parameters.ftype = FILE_TYPE_IDS[level]
    parameters.allow_requantize = True
    log = _Log(header, report)
    llama_cpp.set_log_callback(log)
    try:
        llama_cpp.model_quantize(str(source), str(output), parameters)
    except RuntimeError as exc:
        output.unlink(missing_ok=True)
        if shutil.disk_usage(output.parent).free < _FULL_BYTES:
            raise DiskFull("no space left on device") from exc
        reason = log.reason.replace(str(source), "the model").replace(str(output), "the result")
        raise LlameroError(f"quantizing failed: {reason or 'the quantizer gives no reason'}") from exc


def _checked_header(source: Path) -> Gguf:
    """Checked here again, right before C code reads the file (CVE-2026-7482)."""
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = gguf.read_header(content)
        gguf.check_model(header, content)
        return header


def _quantizer() -> Any:
    try:
        from cyllama.llama import llama_cpp
    except ImportError as exc:
        raise NotSupported(NOT_INSTALLED) from exc
    return llama_cpp


class _Log:
    """Takes the quantizer's log, piece by piece: which tensor it has come to, and why it failed."""

    def __init__(self, header: Gguf, report: worker.Count) -> None:
        self._size_bytes = {tensor.name: tensor.size_bytes for tensor in header.tensors}
        self._total_bytes = sum(self._size_bytes.values())
        self._report = report
        self._begun_bytes = 0
        self.reason = ""

    def __call__(self, level: int, text: str) -> None:
        if tensor := _TENSOR.match(text):
            self._report(self._begun_bytes, self._total_bytes)
            self._begun_bytes += self._size_bytes.get(tensor[1], 0)
        if failed := _FAILED.search(text):
            self.reason = failed[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
