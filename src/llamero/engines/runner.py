"""The child program: one model in llama.cpp's own server. The only module that imports `xllamacpp`.

`COMMAND` reads one JSON line, `{"parent": pid, "settings": {...}}`, and serves until it is killed or its standard input
ends. With `"exec": [...]` it becomes that program instead, so that a foreign `llama-server` dies with us too; with the
flags `--devices` and `--features` it prints what hardware the wheel sees and which instructions it uses. It imports
nothing of ours before it has to: every millisecond here is a millisecond before the first token.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

COMMAND = (sys.executable, "-P", "-m", "llamero.engines.runner")
"""How to start it. `-P`: a `json.py` in the folder that somebody started the server in must not run."""

CROWDED, ALONE = b"crowded", b"alone"
"""The parent's words, a line each."""

LAST_WORDS_S = 0.1
"""For the wheel's log thread to print what it has, before we end: it wakes within milliseconds."""

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill us when the parent ends; leave at once when it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold prompts
        if os.getppid() != parent:
            os._exit(1)


def watch_stdin(end: Callable[[], object], hear: Callable[[bytes], object] = bytes.strip) -> None:
    """Call `end` when standard input ends: the parent's sign of life on systems without a parent-death signal. What it
    says before goes to `hear`."""

    def wait() -> None:
        while words := os.read(0, 4096):
            hear(words)
        end()

    threading.Thread(target=wait, daemon=True).start()


def mind_others() -> Callable[[bytes], None]:
    """What to do when the parent says who else is busy on our cores: the last of its words counts."""
    spinning: Any = None

    def hear(words: bytes) -> None:
        nonlocal spinning
        if spinning is None:
            from .spinning import Spinning

            spinning = Spinning()
        spinning.be(short=words.split()[-1] == CROWDED)

    def hear_if_we_can(words: bytes) -> None:
        with contextlib.suppress(OSError, AttributeError, IndexError):  # without libgomp there is nothing to do
            hear(words)

    return hear_if_we_can


def become(argv: list[str]) -> NoReturn:
    """Turn into another program. The death signal outlives that; without one, stay beside it and watch."""
    try:
        if sys.platform == "linux":
            os.execv(argv[0], argv)
        accompany(argv)
    except OSError as error:
        print(f"error: {os.path.basename(argv[0])} cannot be run: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(1)


def accompany(argv: list[str]) -> NoReturn:
    """Run another program, end it when our own parent is gone, and end as it ends."""
    import subprocess

    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    watch_stdin(child.kill)
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)  # as a shell reports a signal


def configure(settings: Mapping[str, Any]) -> Any:
    """The wheel's parameters with `settings` applied.

    Keys are attribute paths (`model.path`); enum values are given by name, adapters as `{"path", "scale"}`. An
    attribute that this wheel lacks raises AttributeError: names move between releases, and a setting that is silently
    dropped would be worse than a model that does not load.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    for path, value in settings.items():
        target, _, name = f"params.{path}".rpartition(".")
        owner = params
        for part in target.split(".")[1:]:
            owner = getattr(owner, part)
        present = getattr(owner, name)
        if name == "lora_adapters":
            value = [_adapter(xllamacpp, item) for item in value]
        elif hasattr(type(present), "__members__"):
            value = type(present)[value]
        elif isinstance(present, list) and present and hasattr(type(present[0]), "__members__"):
            value = [type(present[0])[item] for item in value]
        elif name == "fit_params_target":  # one for each device that there may be: the last one is for all others
            value = [*value, *[value[-1]] * len(present)][: len(present)]
        setattr(owner, name, value)
    return params


def _adapter(xllamacpp: Any, item: Mapping[str, Any]) -> Any:
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path = item["path"]
    adapter.scale = item["scale"]
    return adapter


def devices() -> list[dict[str, Any]]:
    """What the wheel can compute on, in plain values."""
    import xllamacpp

    return [
        {
            "name": device["name"],
            "description": device["description"],
            "type": device["type"].name.rpartition("_")[2],
            "total_bytes": device["memory_total"],
            "free_bytes": device["memory_free"],
            "pci": device["device_id"],
            "cuda_level": cuda_level() if device["name"].startswith("CUDA") else 0,
        }
        for device in xllamacpp.get_device_info()
    ]


def cuda_level() -> int:
    """What the NVIDIA driver is good for: 12 for CUDA 12.4; 0 when it does not say."""
    version = ctypes.c_int()
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return version.value // 1000 if driver.cuDriverGetVersion(ctypes.byref(version)) == 0 else 0
    except (OSError, AttributeError):
        return 0


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline())
    die_with_parent(order["parent"])
    if "exec" in order:
        become(order["exec"])
    watch_stdin(lambda: os._exit(1), mind_others())
    if "--devices" in sys.argv:
        print(json.dumps(devices()), flush=True)
        return
    import xllamacpp

    if "--features" in sys.argv:
        print(json.dumps({"features": xllamacpp.get_system_info()}), flush=True)
        return

    try:
        server = xllamacpp.Server(configure(order["settings"]))
    except Exception as error:
        # The wheel says why on the lines before, from a thread of its own that leaving at once would cut off.
        time.sleep(LAST_WORDS_S)
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    while server is not None:
        time.sleep(3600)


if __name__ == "__main__":
    main()
