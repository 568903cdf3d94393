"""How quickly this machine's processor cores read main memory: what bounds the speed of an answer on a CPU.

A fraction of a second of work. It says nothing about GPUs.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable

BLOCK_BYTES = 64 * 2**20
"""Of each core. Together they should not fit a cache of the processor."""

MAX_THREADS = 16
"""So many cores fill any memory bus; more would only take more memory for the measurement."""

ROUNDS = 3
"""The best of them counts: in the others somebody else was in the way."""

MAX_SHARE = 8
"""No more than one in so many of the bytes that are free."""


def measure_bandwidth(cores: int, available_bytes: int) -> float:
    """Bytes per second that `cores` threads read together. 0 where it cannot be measured, or memory is too scarce."""
    threads = max(1, min(cores, MAX_THREADS))
    scan = _scanner()
    if scan is None or threads * BLOCK_BYTES > available_bytes // MAX_SHARE:
        return 0.0
    # written, because memory that nobody wrote to is one page of zeros, many times
    blocks = [bytearray(b"\1") * BLOCK_BYTES for _ in range(threads)]
    return max(_round(blocks, scan) for _ in range(ROUNDS))


def _round(blocks: list[bytearray], scan: Callable[[bytearray], None]) -> float:
    start = threading.Barrier(len(blocks) + 1)

    def read(block: bytearray) -> None:
        start.wait()
        scan(block)

    threads = [threading.Thread(target=read, args=(block,)) for block in blocks]
    for thread in threads:
        thread.start()
    start.wait()
    began_s = time.perf_counter()
    for thread in threads:
        thread.join()
    return len(blocks) * BLOCK_BYTES / (time.perf_counter() - began_s)


def _scanner() -> Callable[[bytearray], None] | None:
    """Reads a block once, as quickly as C can and without Python's lock: the search for a byte that is not there."""
    try:
        library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
        memchr = library.memchr
    except (OSError, AttributeError):
        return None
    memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    memchr.restype = ctypes.c_void_p

    def scan(block: bytearray) -> None:
        memchr(ctypes.addressof(ctypes.c_char.from_buffer(block)), 0, len(block))

    return scan
