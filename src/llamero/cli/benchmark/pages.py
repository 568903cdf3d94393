"""What a report shows: tables, charts and notes, whatever file they go to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...sizes import human_bytes
from .figures import NOTHING, Figures, figures, model_figures, rate, seconds, share
from .records import Conditions, ModelResult, Report, TaskResult


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    text_columns: int = 2
    """So many columns from the left hold words; the others hold figures."""


@dataclass(frozen=True, slots=True)
class Bars:
    """One group of a chart: a bar for each series, None where there is nothing to draw."""

    label: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    bars: list[Bars]
    write: Callable[[float | None], str]
    series: tuple[str, ...] = ()
    """What the bars of a group stand for, when there are several."""


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    intro: list[str]
    tables: list[Table]
    charts: list[Chart]
    notes: list[str]


class Measure(NamedTuple):
    """One thing to compare by."""

    short: str
    title: str
    of: Callable[[Figures], float | None]
    write: Callable[[float | None], str]
    more_is_better: bool


PREFILL = Measure("PREFILL", "Prefill, tokens per second", lambda each: each.prefill_per_s, rate, True)
DECODE = Measure("DECODE", "Decode, tokens per second", lambda each: each.decode_per_s, rate, True)
TTFT = Measure("TTFT", "Time to the first token", lambda each: each.ttft_s, seconds, False)
MEASURES = (DECODE, PREFILL, TTFT)

TASK_HEADER = ("MODEL", "TASK", "TTFT", "PREFILL", "DECODE", "TIME", "TOKENS", "RIGHT", "FAILED")


def task_cells(task: TaskResult) -> tuple[str, ...]:
    """The cells behind MODEL and TASK."""
    if task.skipped or not task.rounds:
        return (NOTHING,) * (len(TASK_HEADER) - 2)
    found = figures(task.rounds)
    return (
        seconds(found.ttft_s),
        rate(found.prefill_per_s),
        rate(found.decode_per_s),
        seconds(found.total_s),
        str(found.predicted_tokens),
        share(found.right, found.checked),
        share(found.failures, found.rounds),
    )


def task_table(report: Report) -> Table:
    rows = [
        (model.name, task.task, *task_cells(task))
        for model in report.models
        for task in model.tasks
        if task.rounds and not task.skipped
    ]
    return Table("Tasks (medians of the rounds; PREFILL and DECODE in tokens per second)", TASK_HEADER, rows)


def model_table(report: Report) -> Table:
    rows: list[tuple[str, ...]] = []
    for model in report.models:
        if model.skipped or model.failure:
            continue
        found = model_figures(model)
        rows.append(
            (
                model.name,
                " ".join(filter(None, (model.parameters, model.quantization))) or NOTHING,
                seconds(model.load_s),
                NOTHING if model.memory_bytes is None else human_bytes(model.memory_bytes),
                NOTHING if model.vram_bytes is None else human_bytes(model.vram_bytes),
                rate(found.prefill_per_s),
                rate(found.decode_per_s),
                str(found.predicted_tokens),
                share(found.right, found.checked),
                share(found.failures, found.rounds),
            )
        )
    header = ("MODEL", "SIZE", "LOAD", "MEMORY", "ON GPU", "PREFILL", "DECODE", "TOKENS", "RIGHT", "FAILED")
    return Table("Models (all tasks together)", header, rows)


def report_page(report: Report) -> Page:
    return Page(
        title="Benchmark of " + report.server,
        intro=[measured_at(report), conditions(report.conditions)],
        tables=[model_table(report), task_table(report)],
        charts=[each for each in (*_speed_charts(report), *_model_charts(report)) if has_values(each)],
        notes=notes(report),
    )


def measured_at(report: Report) -> str:
    return f"server {report.server}, version {report.version}, {report.started_at:%Y-%m-%d %H:%M} UTC"


def conditions(each: Conditions) -> str:
    window = f"num_ctx {each.num_ctx}" if each.num_ctx else "the server's own num_ctx"
    rounds = f"{each.rounds} round{'s' if each.rounds > 1 else ''}"
    return (
        f"{rounds} after {each.warmup} to warm up, at most {each.max_tokens} tokens, temperature {each.temperature:g}, "
        f"seed {each.seed}, {window}, long prompts of about {each.prompt_tokens} tokens"
    )


def notes(report: Report) -> list[str]:
    """What was left out or failed, and why; each reason once."""
    found = list(report.notes)
    for model in report.models:
        if model.skipped:
            found.append(f"{model.name} was left out: it {model.skipped}")
        if model.failure:
            found.append(f"{model.name} failed: {model.failure}")
        for task in model.tasks:
            if task.skipped:
                found.append(f"{model.name}, {task.task} was left out: {task.skipped}")
            failures = [each.failure for each in task.rounds if each.failure]
            for reason in dict.fromkeys(failures):
                found.append(f"{model.name}, {task.task} failed {failures.count(reason)}x: {reason}")
    return found


# --- charts --------------------------------------------------------------------------------------------------------


def measured(report: Report) -> list[ModelResult]:
    return [model for model in report.models if any(task.rounds for task in model.tasks)]


def _speed_charts(report: Report) -> list[Chart]:
    """By model; when there is only one, by task."""
    models = measured(report)
    if len(models) == 1:
        groups = [(task.task, figures(task.rounds)) for task in models[0].tasks if task.rounds]
    else:
        groups = [(model.name, model_figures(model)) for model in models]
    return [
        Chart(each.title, [Bars(label, (each.of(found),)) for label, found in groups], each.write) for each in MEASURES
    ]


def _model_charts(report: Report) -> list[Chart]:
    models = measured(report)
    return [
        Chart("Load time", [Bars(model.name, (model.load_s,)) for model in models], seconds),
        Chart("Memory", [Bars(model.name, (model.memory_bytes,)) for model in models], _bytes),
    ]


def has_values(chart: Chart) -> bool:
    return any(value is not None for bars in chart.bars for value in bars.values)


def _bytes(value: float | None) -> str:
    return NOTHING if value is None else human_bytes(int(value))


def plain_lines(table: Table) -> Sequence[str]:
    """The table for a stream that draws nothing."""
    from ..format import table as layout

    return [line.rstrip() for line in layout(table.rows, table.header, cell_columns=60)]
