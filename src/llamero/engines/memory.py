"""How much memory an engine says it took, read from its log lines. It estimates nothing.

Source: scheduler §8.5.
"""

from __future__ import annotations

import re

from . import MemoryUse

_BUFFER = re.compile(r"(\w+):\s+(\S+) (model|KV|compute|output|RS) buffer size =\s*([0-9.]+) MiB")
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")

_CPU_BUFFERS = ("CPU", "BLAS")


class MemoryReport:
    """Feed it every line; ask for `use` once the engine is ready."""

    def __init__(self, file_bytes: int) -> None:
        self._file_bytes = file_bytes
        self._buffers: dict[tuple[str, str, str], float] = {}
        self._all_offloaded = False

    def feed(self, line: str) -> None:
        if match := _BUFFER.search(line):
            function, buffer, kind, mib = match.groups()
            # fit probes print every buffer once more before the real load: the later line counts
            self._buffers[function, buffer, kind] = float(mib) * 2**20
        elif match := _OFFLOADED.search(line):
            self._all_offloaded = match[1] == match[2]
        elif "overflowing" in line:
            self._all_offloaded = False

    @property
    def use(self) -> MemoryUse:
        if not self._buffers:
            return MemoryUse(self._file_bytes, 0)
        total = sum(self._buffers.values())
        vram = sum(size for (_, buffer, _), size in self._buffers.items() if not _on_cpu(buffer))
        # mapped weights that were also copied to a GPU are counted in both buffers
        model = [(buffer, size) for (_, buffer, kind), size in self._buffers.items() if kind == "model"]
        gpu_weights = sum(size for buffer, size in model if not _on_cpu(buffer))
        mapped = sum(size for buffer, size in model if "Mapped" in buffer)
        total -= min(mapped, max(0.0, mapped + gpu_weights - self._file_bytes))
        if self._all_offloaded and vram:
            total = vram
        return MemoryUse(int(total), int(min(vram, total)))


def _on_cpu(buffer: str) -> bool:
    return buffer in _CPU_BUFFERS or buffer.startswith("CPU_") or buffer.endswith("_Host")
