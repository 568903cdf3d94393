"""What an engine says about memory, read from its log lines: how much it took, and that there was not enough.

It estimates nothing. Source: scheduler §8.5, §10.2.
"""

from __future__ import annotations

import re

from . import MemoryUse, speculation

_BUFFER = re.compile(r"(\w+):\s+(\S+)\s+(model|KV|compute|output|RS) buffer size =\s*(\d{1,9}(?:\.\d{1,9})?) MiB")
_OFFLOADED = re.compile(r"offloaded (\d{1,9})/(\d{1,9}) layers to GPU")
_OVERFLOWING = re.compile(r"- (\S+):\s+\d{1,9} layers \(\s*(\d{1,9}) overflowing\)")
"""One line per device when layers are fitted to it, also for none."""

_CACHE = re.compile(r"creating\s+(\S+) KV cache")
"""Models with sliding windows have two caches, which are reported in the same words: what differs is said before."""
_DRAFTER = re.compile(r"loading draft model|creating MTP draft context")
"""What follows is in the same words as well, and comes on top."""
_VARIANT = re.compile(r"_(?:Mapped|REPACK|Private)$")
"""A card's buffers of several kinds have its name in front."""
_CPU_BUFFERS = ("CPU", "BLAS")

OOM_PHRASES = (
    "out of memory",
    "out of device memory",
    "cudamalloc failed",
    "hipmalloc failed",
    "failed to allocate",
    "allocation failed",
    "not enough memory",
    "insufficient memory",
    "vk_error_out_of_device_memory",
    "erroroutofmemory",
)


def says_out_of_memory(text: str) -> bool:
    lowered = text.lower()
    return any(phrase in lowered for phrase in OOM_PHRASES)


class MemoryReport:
    """Feed it every line; ask for `use` once the engine is ready."""

    def __init__(self, file_bytes: int) -> None:
        self._file_bytes = file_bytes
        self._buffers: dict[tuple[str, str, str, str], float] = {}
        self._drafter = self._cache = ""
        self._all_offloaded = False
        self._overflowing: dict[str, bool] = {}

    def feed(self, line: str) -> None:
        if match := _BUFFER.search(line):
            function, buffer, kind, mib = match.groups()
            # fit probes print every buffer once more before the real load: the later line counts
            part = self._drafter + (self._cache if kind == "KV" else "")
            self._buffers[function, buffer, kind, part] = float(mib) * 2**20
        elif match := _CACHE.search(line):
            self._cache = match[1]
        elif _DRAFTER.search(line):
            self._drafter, self._cache = "draft ", ""
        elif speculation.REFUSED in line:
            self._buffers = {key: size for key, size in self._buffers.items() if not key[3].startswith("draft ")}
        elif match := _OFFLOADED.search(line):
            self._all_offloaded = match[1] == match[2]
        elif match := _OVERFLOWING.search(line):
            self._overflowing[match[1]] = int(match[2]) > 0

    @property
    def use(self) -> MemoryUse:
        """Without a single line to go by, all of the file counts, and as GPU memory, which is what runs out first."""
        if not self._buffers:
            return MemoryUse(self._file_bytes, self._file_bytes)
        total = sum(self._buffers.values())
        vram = sum(size for (_, buffer, _, _), size in self._buffers.items() if not _on_cpu(buffer))
        # mapped weights that were also copied to a GPU are counted in both buffers
        weights = [(buffer, size) for (_, buffer, kind, _), size in self._buffers.items() if kind == "model"]
        on_gpu = sum(size for buffer, size in weights if not _on_cpu(buffer))
        mapped = sum(size for buffer, size in weights if _on_cpu(buffer) and "_Mapped" in buffer)
        total -= min(mapped, max(0.0, mapped + on_gpu - self._file_bytes))
        if self._all_offloaded and not any(self._overflowing.values()) and vram:
            total = vram
        return MemoryUse(int(total), int(min(vram, total)), int(mapped), self._by_card)

    @property
    def _by_card(self) -> tuple[tuple[str, int], ...]:
        cards: dict[str, float] = {}
        for (_, buffer, _, _), size in self._buffers.items():
            if not _on_cpu(buffer):
                name = _VARIANT.sub("", buffer)
                cards[name] = cards.get(name, 0.0) + size
        return tuple((name, int(size)) for name, size in cards.items())


def _on_cpu(buffer: str) -> bool:
    return buffer in _CPU_BUFFERS or buffer.startswith("CPU_") or buffer.endswith("_Host")
