"""How long the engine's threads spin while they wait for one another, changed while it works. It runs in their process.

libgomp spins for milliseconds, which is the quickest way on cores of one's own. Beside somebody busy it is the slowest
(bench/README.md): a thread that spins takes the core from the one that it waits for. libgomp gives up after a moment
when it manages more threads than there are processors, so we let it manage some more, which sleep.
Source: the GNU libgomp manual on GOMP_SPINCOUNT, and on OMP_WAIT_POLICY.
"""

from __future__ import annotations

import ctypes
import os
import threading

SEMAPHORE_BYTES = 64
"""At least what a `sem_t` takes, on any system that has libgomp."""


class Spinning:
    """Raises OSError where there is no libgomp in this process."""

    def __init__(self) -> None:
        with open("/proc/self/maps") as maps:
            path = next((line.split(maxsplit=5)[5].strip() for line in maps if "libgomp" in line), None)
        if path is None:
            raise OSError("this engine does not wait by libgomp")
        self._c = ctypes.CDLL(None)
        self._in_parallel = ctypes.CDLL(path).GOMP_parallel
        self._in_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._in_parallel.restype = None
        self._semaphore = ctypes.create_string_buffer(SEMAPHORE_BYTES)
        self._c.sem_init(self._semaphore, 0, 0)
        self._threads = len(os.sched_getaffinity(0)) + 1
        self._is_short = False

    def be(self, *, short: bool) -> None:
        """Spin for a moment only, or as long as libgomp likes to."""
        if short and not self._is_short:
            # a thread of its own for each time: those that it brings end with it
            threading.Thread(target=self._hold, daemon=True).start()
        elif not short and self._is_short:
            for _ in range(self._threads):
                self._c.sem_post(self._semaphore)
        self._is_short = short

    def _hold(self) -> None:
        """Keep threads asleep, each in a wait of the C library's, which needs none of our code."""
        sleep = ctypes.cast(self._c.sem_wait, ctypes.c_void_p)
        self._in_parallel(sleep, ctypes.addressof(self._semaphore), self._threads, 0)
