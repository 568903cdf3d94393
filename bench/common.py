"""What the measurements share: the real model, our server, the bare engine, and medians."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from llamero.build.convert import convert_in_child
from llamero.engines import LoadPlan
from llamero.engines.llamacpp import SPIN_COUNT, LlamaCpp, LlamaCppSettings
from llamero.names import ModelName
from llamero.registry import starters
from llamero.store import Store
from tests.running import Server, linked_copy, running

MODEL = "smollm2:135m"
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "test-models"


def models_folder(model: str = MODEL) -> Path:
    """A store with a starter model, fetched on the first use."""
    store = Store(CACHE)
    name = ModelName.parse(model)
    if name not in {summary.name for summary in store.list()}:
        starter = starters.find(name)
        assert starter is not None
        starters.fetch(starter, store, lambda progress: None, convert=_convert, cancelled=lambda: False)
    return CACHE


def _convert(checkpoint: Path, target: Path) -> None:
    convert_in_child(checkpoint, target, lambda completed, total: None)


@contextmanager
def our_server(**env: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with running(path, linked_copy(models_folder(), path / "models"), **env) as server:
            yield server


@asynccontextmanager
async def bare_engine(*, spin: str = SPIN_COUNT) -> AsyncIterator[LlamaCpp]:
    """The engine with the settings that our server gives it, spoken to directly."""
    weights = Store(models_folder()).resolve(ModelName.parse(MODEL)).weights
    assert weights is not None
    plan = LoadPlan(
        key="bare",
        model=weights,
        ctx_tokens=4096,
        use_mmap=False,
        keep_tokens=4,
        cache_ram_mib=512,
    )
    engine = await LlamaCpp.start(plan, LlamaCppSettings(env={"PATH": os.environ["PATH"], "GOMP_SPINCOUNT": spin}))
    try:
        yield engine
    finally:
        await engine.stop()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def connect(target: Server | LlamaCpp) -> http.client.HTTPConnection:
    if isinstance(target, Server):
        return http.client.HTTPConnection("127.0.0.1", target.port, timeout=120)
    return _UnixConnection(target.endpoint.socket)


def stream(target: Server | LlamaCpp, path: str, body: Mapping[str, Any]) -> tuple[float, float, int]:
    """Send one streaming request: seconds to the first line with content, to the last byte, and lines with content."""
    headers = {"Content-Type": "application/json"}
    if isinstance(target, LlamaCpp):
        headers["Authorization"] = f"Bearer {target.endpoint.secret}"
    connection = connect(target)
    started = time.perf_counter()
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    first, lines = 0.0, 0
    for line in response:
        if b'"content":"' in line and b'"content":""' not in line:
            lines += 1
            first = first or time.perf_counter() - started
    total = time.perf_counter() - started
    connection.close()
    return first, total, lines


def chat_bodies(prompt: str, predict: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same greedy question for our API and for the bare engine, with the sampling fields that we send."""
    messages = [{"role": "user", "content": prompt}]
    ours = {"model": MODEL, "messages": messages, "options": {"num_predict": predict, "temperature": 0}}
    bare = {
        "messages": messages,
        "stream": True,
        "cache_prompt": True,
        "n_predict": predict,
        "temperature": 0,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "repeat_last_n": 64,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "seed": -1,
        "typical_p": 1.0,
        "n_keep": 4,
    }
    return ours, bare


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float], unit: str = "", digits: int = 3) -> str:
    """Median with the smallest and the largest value."""
    return f"{median(values):.{digits}f}{unit} ({min(values):.{digits}f} to {max(values):.{digits}f}, n={len(values)})"


def run(main: Any) -> None:
    asyncio.run(main())
