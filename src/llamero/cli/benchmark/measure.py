"""Asks the models of one server and takes the time. What is asked is in `tasks`; nothing is shown or written here.

A model is unloaded, loaded (which is timed), warmed up, asked, and unloaded again to make room for the next. A server
may refuse the unloading, as one behind a proxy does: then there is no load time, a note says why, and all else goes on.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec.structs import replace

from ...client import Ask, Client, ListedModel, Part, ShownModel
from ...durations import SECOND
from ...errors import ClientError, ServerAnswered, ServerRefused
from ..format import printable
from ..target import Target, explained
from .records import Conditions, ModelResult, Report, Round, TaskResult
from .tasks import Answer, Task, long_tokens, marked

UNLOAD_LIMIT_S = 10.0
"""A server lets go of a model in milliseconds, and of one on a slow GPU in a few seconds."""
UNLOAD_POLL_S = 0.05
MAX_FAILURE_CHARS = 300
"""Of a server's words about what failed; they end in tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked of every model, and how."""

    tasks: tuple[Task, ...]
    conditions: Conditions
    timeout_s: float
    thinks: bool = False
    """Models that can think may; the others are told nothing of it."""
    keep_alive_ns: int | None = None
    """How long models stay loaded; None unloads each when its questions are over."""

    def options(self) -> dict[str, Any]:
        wanted = self.conditions
        options: dict[str, Any] = {"num_predict": wanted.max_tokens, "temperature": wanted.temperature}
        if wanted.seed > 0:
            options["seed"] = wanted.seed
        if wanted.num_ctx > 0:
            options["num_ctx"] = wanted.num_ctx
        return options


class Watcher(Protocol):
    """Is told what happens, while it happens."""

    def live(self) -> AbstractContextManager[object]:
        """Inside it things are shown, if they are."""

    def doing(self, server: str, model: str, what: str) -> None:
        """Something that takes its time begins."""

    def result(self, server: str, model: ModelResult) -> None:
        """There is more of a model's result than before; the first one names its tasks."""

    def note(self, text: str) -> None:
        """Something that the report will mention."""


class Bench:
    """One server under measurement. `results` grows with every answer: what is there when it breaks off is true."""

    def __init__(self, target: Target, plan: Plan, watcher: Watcher, name: str) -> None:
        self.target = target
        self.name = name
        """What the watcher and the user call this server."""
        self.watcher = watcher
        self.results: list[ModelResult] = []
        self.notes: list[str] = []
        self._plan = plan
        self._client = target.client(warn=self._warn, answer_limit_s=plan.timeout_s)
        self._started_at = datetime.now(UTC)
        self._may_unload = True
        self._version = _version(self._client)

    def report(self) -> Report:
        return Report(
            server=self.target.url,
            version=self._version,
            started_at=self._started_at,
            conditions=self._plan.conditions,
            models=list(self.results),
            notes=list(self.notes),
        )

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.watcher.note(text)

    def _warn(self, text: str) -> None:
        """A server's warnings come with every answer; one says as much as all."""
        note = f"the server warns: {printable(text)}"
        if note not in self.notes:
            self._note(note)

    def measure(self, model: ListedModel) -> None:
        """Add one model to the results. ServerRefused when the server is gone."""
        name = model.name
        self.results.append(ModelResult(name=name, digest=model.digest, size_bytes=model.size_bytes))
        self._doing("looking at it")
        try:
            shown = self._client.show(name)
        except ServerRefused as error:
            raise explained(error, self.target) from error
        except ClientError as error:
            self._put(failure=self._words(error))
            return
        self._put(**_facts(shown))
        if shown.capabilities and "completion" not in shown.capabilities:
            self._put(skipped="turns texts into vectors and answers no question")
            return
        self._put(tasks=[TaskResult(task=task.name, skipped=_lacks(shown, task)) for task in self._plan.tasks])
        try:
            self._measure(shown)
        except ServerRefused as error:
            raise explained(error, self.target) from error

    def _measure(self, shown: ShownModel) -> None:
        ask = Ask(
            model=self.results[-1].name,
            options=self._plan.options(),
            think=self._plan.thinks if "thinking" in shown.capabilities else None,
            keep_alive_ns=self._plan.keep_alive_ns,
        )
        was_unloaded = self._unload(ask.model)
        self._doing("loading")
        started_s = time.perf_counter()
        try:
            self._client.load(ask)
        except ServerRefused:
            raise
        except ClientError as error:
            self._put(failure=self._words(error))
            return
        if was_unloaded:
            self._put(load_s=time.perf_counter() - started_s)
        tokens = long_tokens(self._plan.conditions.prompt_tokens, _window(shown))
        self._warm_up(ask, tokens)
        self._put(**self._memory(ask.model))
        for index, task in enumerate(self._plan.tasks):
            if not self.results[-1].tasks[index].skipped:
                self._ask_all(ask, index, task, tokens)
        if self._plan.keep_alive_ns is None:
            self._unload(ask.model)

    def _warm_up(self, ask: Ask, tokens: int) -> None:
        open_tasks = zip(self._plan.tasks, self.results[-1].tasks, strict=True)
        first = next((task for task, result in open_tasks if not result.skipped), None)
        for number in range(self._plan.conditions.warmup if first else 0):
            self._doing(f"warming up, {number + 1} of {self._plan.conditions.warmup}")
            assert first is not None
            self._ask(ask, first, tokens)

    def _ask_all(self, ask: Ask, index: int, task: Task, tokens: int) -> None:
        count = self._plan.conditions.rounds
        for number in range(1, count + 1):
            self._doing(f"{task.name}, {number} of {count}")
            answered = self._ask(ask, task, tokens)
            tasks = list(self.results[-1].tasks)
            tasks[index] = replace(tasks[index], rounds=[*tasks[index].rounds, answered])
            self._put(tasks=tasks)

    # --- one answer ------------------------------------------------------------------------------------------------

    def _ask(self, ask: Ask, task: Task, tokens: int) -> Round:
        message: dict[str, Any] = {"role": "user", "content": marked(task.question(tokens), secrets.token_hex(4))}
        if task.images:
            message["images"] = [base64.b64encode(image).decode() for image in task.images]
        asked = Ask(
            model=ask.model, options=ask.options, format=task.format, think=ask.think, keep_alive_ns=ask.keep_alive_ns
        )
        started_s = time.perf_counter()
        ttft_s, parts = None, list[Part]()
        try:
            with closing(self._client.chat(asked, [message], tools=task.tools)) as stream:
                for part in stream:
                    if ttft_s is None and (part.text or part.thinking or part.tool_calls):
                        ttft_s = time.perf_counter() - started_s
                    parts.append(part)
        except ServerRefused:
            raise
        except ClientError as error:
            return Round(total_s=time.perf_counter() - started_s, failure=self._words(error))
        return _round(task, parts, ttft_s, time.perf_counter() - started_s)

    def _words(self, error: ClientError) -> str:
        if isinstance(error.__cause__, TimeoutError):
            return f"timed out: no whole answer within {self._plan.timeout_s:g} s"
        return printable(str(explained(error, self.target))).replace("\n", " ")[:MAX_FAILURE_CHARS]

    # --- what is loaded --------------------------------------------------------------------------------------------

    def _unload(self, name: str) -> bool:
        """Whether the model is certainly out of memory now."""
        if not self._may_unload:
            return False
        self._doing("unloading")
        try:
            self._client.unload(name)
            return self._is_gone(name)
        except ServerRefused:
            raise
        except ServerAnswered as error:
            self._may_unload = False
            self._note(f"models cannot be unloaded here ({self._words(error)}): no load times")
        except ClientError as error:
            self._note(f"{name} could not be unloaded: {self._words(error)}")
        return False

    def _is_gone(self, name: str) -> bool:
        """Wait until the model is no longer among those loaded. A server that has no such list leaves us in doubt."""
        end_s = time.monotonic() + UNLOAD_LIMIT_S
        with suppress(ServerAnswered):
            while any(model.name == name for model in self._client.ps().models):
                if time.monotonic() > end_s:
                    self._note(f"{name} stays in memory: its load time is not known")
                    return False
                time.sleep(UNLOAD_POLL_S)
            return True
        return False

    def _memory(self, name: str) -> Mapping[str, int]:
        """A server that does not tell what is loaded is no reason to stop."""
        with suppress(ServerAnswered):
            for model in self._client.ps().models:
                if model.name == name:
                    return {
                        "memory_bytes": model.size_bytes,
                        "vram_bytes": model.size_vram_bytes,
                        "context_tokens": model.context_tokens,
                    }
        return {}

    def _doing(self, what: str) -> None:
        self.watcher.doing(self.name, self.results[-1].name, what)

    def _put(self, **fields: Any) -> None:
        self.results[-1] = replace(self.results[-1], **fields)
        self.watcher.result(self.name, self.results[-1])


def _round(task: Task, parts: list[Part], ttft_s: float | None, total_s: float) -> Round:
    metrics = parts[-1].metrics
    calls = tuple(call for part in parts for call in part.tool_calls)
    return Round(
        total_s=total_s,
        ttft_s=ttft_s,
        load_s=metrics.load_ns / SECOND if metrics else 0.0,
        prompt_tokens=metrics.prompt_tokens if metrics else 0,
        prompt_s=metrics.prompt_ns / SECOND if metrics else 0.0,
        predicted_tokens=metrics.predicted_tokens if metrics else 0,
        predicted_s=metrics.predicted_ns / SECOND if metrics else 0.0,
        verdict=task.judge(Answer("".join(part.text for part in parts), calls)),
        failure="" if ttft_s is not None else "answered without a word",
    )


def _version(client: Client) -> str:
    with suppress(ClientError):
        return printable(client.version())
    return "unknown"


def _facts(shown: ShownModel) -> dict[str, Any]:
    details = {key: printable(str(value)) for key, value in shown.details.items() if value}
    return {
        "parameters": details.get("parameter_size", ""),
        "quantization": details.get("quantization_level", ""),
        "family": details.get("family", ""),
    }


def _window(shown: ShownModel) -> int:
    """Tokens that the model was made for; 0 when it is not told."""
    info = shown.model_info or {}
    window = info.get(f"{info.get('general.architecture')}.context_length")
    return window if isinstance(window, int) and window > 0 else 0


def _lacks(shown: ShownModel, task: Task) -> str:
    """Why the model cannot be asked this; older servers do not tell, and then it is tried."""
    if task.needs and shown.capabilities and task.needs not in shown.capabilities:
        return f"the model has no {task.needs}"
    return ""
