"""The two formats of the reference's benchmark program, which other programs read (cli §3.15). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ...sizes import human_bytes
from .records import ModelResult, Report, Round, TaskResult

CSV_HEADER = "NAME,STEP,COUNT,NS_PER_COUNT,TOKEN_PER_SEC"
OWN_PROMPT = "prompt"
"""The task of a prompt of one's own, which is all that the reference knows: its lines do not name it."""

NS = 1_000_000_000


def benchstat(report: Report) -> str:
    """Lines that Go's `benchstat` reads."""
    lines = []
    for model in report.models:
        if model.tasks:
            lines.append(_comment(model))
        for task, one in _answered(model):
            name = f"BenchmarkModel/name={model.name}{'' if task.task == OWN_PROMPT else f'/task={task.task}'}"
            for step, tokens, seconds in _token_steps(one):
                per_token = seconds * NS / tokens if tokens else 0
                per_s = tokens / seconds if seconds else 0
                lines.append(f"{name}/step={step} 1 {per_token:.2f} ns/token {per_s:.2f} token/sec")
            lines += [f"{name}/step={step} 1 {round(seconds * NS)} ns/op" for step, seconds in _steps(one)]
    return "".join(f"{line}\n" for line in lines)


def short_csv(report: Report) -> str:
    lines = [CSV_HEADER]
    for model in report.models:
        if model.tasks:
            lines.append(_comment(model))
        for task, one in _answered(model):
            name = model.name if task.task == OWN_PROMPT else f"{model.name}/{task.task}"
            for step, tokens, seconds in _token_steps(one):
                per_token = seconds * NS / tokens if tokens else 0
                lines.append(f"{name},{step},{tokens},{per_token:.2f},{tokens / seconds if seconds else 0:.2f}")
            lines += [f"{name},{step},1,{round(seconds * NS)},0" for step, seconds in _steps(one)]
    return "".join(f"{line}\n" for line in lines)


def _answered(model: ModelResult) -> Iterator[tuple[TaskResult, Round]]:
    return ((task, one) for task in model.tasks for one in task.rounds if not one.failure)


def _token_steps(one: Round) -> Iterator[tuple[str, int, float]]:
    yield "prefill", one.prompt_tokens, one.prompt_s
    yield "generate", one.predicted_tokens, one.predicted_s


def _steps(one: Round) -> Iterator[tuple[str, float]]:
    if one.ttft_s is not None:
        yield "ttft", one.ttft_s
    yield "load", one.load_s
    yield "total", one.total_s


def _comment(model: ModelResult) -> str:
    known = {
        "Params": model.parameters,
        "Quant": model.quantization,
        "Family": model.family,
        "Size": human_bytes(model.memory_bytes or 0),
        "VRAM": human_bytes(model.vram_bytes or 0),
    }
    return f"# Model: {model.name} | " + " | ".join(f"{key}: {value or 'unknown'}" for key, value in known.items())
