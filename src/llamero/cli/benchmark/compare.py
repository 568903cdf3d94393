"""Two reports side by side: how many times as fast the second one is. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .figures import NOTHING, Figures, figures, mean_ratio, model_figures
from .pages import MEASURES, Bars, Chart, Measure, Page, Table, conditions, has_values, measured, measured_at, notes
from .records import Report, TaskResult


def ratio(measure: Measure, before: Figures, after: Figures) -> float | None:
    """How many times as good `after` is: 2 is twice the speed, or half the time. None when one of them is unknown."""
    old, new = measure.of(before), measure.of(after)
    if not old or not new:
        return None
    return new / old if measure.more_is_better else old / new


def common(before: Report, after: Report) -> Iterator[tuple[str, TaskResult, TaskResult]]:
    """What was asked of the same model in both: the model's name, and both results."""
    later = {(model.name, task.task): task for model in after.models for task in model.tasks if task.rounds}
    for model in before.models:
        for task in model.tasks:
            if task.rounds and (match := later.get((model.name, task.task))):
                yield model.name, task, match


def comparison_table(before: Report, after: Report) -> Table:
    header = ["MODEL", "TASK"]
    for measure in MEASURES:
        header += [measure.short, "THEN", "RATIO"]
    rows = []
    ratios: dict[str, list[float | None]] = {measure.title: [] for measure in MEASURES}
    for name, old_task, new_task in common(before, after):
        old, new = figures(old_task.rounds), figures(new_task.rounds)
        row = [name, old_task.task]
        for measure in MEASURES:
            times = ratio(measure, old, new)
            ratios[measure.title].append(times)
            row += [measure.write(measure.of(old)), measure.write(measure.of(new)), _times(times)]
        rows.append(tuple(row))
    if rows:
        means = [("", "", _times(mean_ratio(ratios[measure.title]))) for measure in MEASURES]
        rows.append(("all", "(geometric mean)", *(cell for cells in means for cell in cells)))
    return Table("RATIO is how many times as fast the second one is", tuple(header), rows)


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}x"


def comparison_page(before: Report, after: Report, names: tuple[str, str]) -> Page:
    """`names` are what the user called the two."""
    return Page(
        title=f"{names[0]} and {names[1]} compared",
        intro=_intro(before, after, names),
        tables=[comparison_table(before, after)],
        charts=[chart for measure in MEASURES if has_values(chart := _chart(measure, before, after, names))],
        notes=[*_cautions(before, after), *_told(names[0], before), *_told(names[1], after)],
    )


def _intro(before: Report, after: Report, names: tuple[str, str]) -> list[str]:
    if before.conditions == after.conditions:
        return [f"{names[0]}: {measured_at(before)}", f"{names[1]}: {measured_at(after)}", conditions(after.conditions)]
    sides = zip(names, (before, after), strict=True)
    return [line for name, each in sides for line in (f"{name}: {measured_at(each)}", conditions(each.conditions))]


def _chart(measure: Measure, before: Report, after: Report, names: tuple[str, str]) -> Chart:
    later = {model.name: model for model in measured(after)}
    pairs = [(model, later[model.name]) for model in measured(before) if model.name in later]
    if len(pairs) == 1:
        groups = [(old.task, figures(old.rounds), figures(new.rounds)) for _, old, new in common(before, after)]
    else:
        groups = [(old.name, model_figures(old), model_figures(new)) for old, new in pairs]
    bars = [Bars(label, (measure.of(old), measure.of(new))) for label, old, new in groups]
    return Chart(measure.title, bars, measure.write, series=names)


def comparison_json(before: Report, after: Report, names: tuple[str, str]) -> bytes:
    """Both reports whole, and the ratios of what they share."""
    rows = []
    for name, old_task, new_task in common(before, after):
        old, new = figures(old_task.rounds), figures(new_task.rounds)
        ratios = {measure.short.lower(): ratio(measure, old, new) for measure in MEASURES}
        rows.append({"model": name, "task": old_task.task} | ratios)
    reports = [{"name": name, "report": report} for name, report in zip(names, (before, after), strict=True)]
    return msgspec.json.format(msgspec.json.encode({"sides": reports, "ratios": rows}), indent=2) + b"\n"


def _told(name: str, report: Report) -> list[str]:
    return [f"{name}: {text}" for text in notes(report)]


def _cautions(before: Report, after: Report) -> list[str]:
    """Why the two may not be comparable."""
    found = []
    if before.conditions != after.conditions:
        found.append("the two were measured under different conditions")
    digests = {model.name: model.digest for model in before.models if model.digest}
    for model in after.models:
        if model.digest and digests.get(model.name, model.digest) != model.digest:
            found.append(f"{model.name} is not the same model in both")
    found += [f"{name} was measured in one of the two only" for name in sorted(_names(before) ^ _names(after))]
    return found


def _names(report: Report) -> set[str]:
    return {model.name for model in measured(report)}
