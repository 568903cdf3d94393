"""What the kernel knows about a process: CPU time taken, memory held. And processes that are only busy."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, all its threads, also those that ended; not its children.

    `/proc/<pid>/stat` counts in hundredths of a second, which is more than a short answer costs: this clock, which any
    process may read of any other (clock_getcpuclockid, POSIX), has nanoseconds. Raises OSError when it is gone.
    """
    clock = ctypes.c_int()
    error = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise OSError(error, f"{os.strerror(error)}: no process {pid}")
    return time.clock_gettime(clock.value)


def resident_mib(pid: int) -> float:
    """Memory that a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but take a core each."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
