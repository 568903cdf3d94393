"""`bench`: from flags to measurements to reports. What is measured, shown and written is decided in its neighbours.

The work survives what ends it: after Ctrl+C, or when the server goes away, the answers so far are shown and written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ...client import ListedModel
from ...errors import BadRequest, ClientError, NotFound
from ..app import App
from ..choose import ALL, choose
from ..format import printable
from ..target import Target, find_target, models_of, named_models
from .benchstat import benchstat, short_csv
from .compare import comparison_json, comparison_page
from .flags import BenchFlags, read_file
from .measure import Bench
from .pages import Page, report_page
from .records import MAX_REPORT_BYTES, Report, decode, encode
from .tasks import BY_NAME, TASKS, Task
from .view import show_table, view
from .writers import html, markdown, png, rounds_csv, table_csv, write_file, write_reports


def bench(app: App, words: Sequence[str], flags: BenchFlags) -> None:
    """Measure the models that `words` name, or compare the two sides that they name. Raises when answers failed."""
    flags.check()  # whatever is wrong with them is said before anything is asked
    if flags.compare:
        Comparison(app, words, flags).run()
        return
    target = find_target(app.own_env, Path(), app.file)
    listed = models_of(target, target.client(warn=app.warn, answer_limit_s=flags.timeout))
    names = [*flags.names(), *words]
    models = named_models(names or _choose_models(app, listed, target, auto=flags.auto), listed, target)
    tasks = flags.tasks() or (list(TASKS) if names or flags.auto else _choose_tasks(app))
    (only,) = benches = _benches(app, {target.url: target}, tasks, flags)
    _measure(benches, [(model,) for model in models], lambda: _publish(app, only.report(), flags))


def _choose_models(app: App, listed: Sequence[ListedModel], target: Target, *, auto: bool) -> list[str]:
    names = [model.name for model in listed]
    if auto:
        return names
    if not app.terminal.is_interactive:
        raise BadRequest("which models? name them, or take --auto for all")
    return _choose(app, f"Models at {target.url}", names)


def _choose_tasks(app: App) -> list[Task]:
    return [BY_NAME[name] for name in _choose(app, "Tasks", list(BY_NAME))]


def _choose(app: App, title: str, names: Sequence[str]) -> list[str]:
    app.terminal.out(f"{title}:\n")
    try:
        return choose(app.terminal, "Which ones", names, default=ALL)
    except EOFError:
        raise KeyboardInterrupt from None  # whoever leaves here wants no benchmark


# --- the work ------------------------------------------------------------------------------------------------------


def _benches(app: App, targets: Mapping[str, Target], tasks: Sequence[Task], flags: BenchFlags) -> list[Bench]:
    """One for each server; `targets` has them by what the user calls them."""
    plan = flags.plan(tasks)
    watcher = view(app.terminal, several_servers=len(targets) > 1, is_plain=flags.verbose)
    return [Bench(target, plan, watcher, name) for name, target in targets.items()]


def _measure(benches: Sequence[Bench], models: Iterable[Sequence[ListedModel]], publish: Callable[[], None]) -> None:
    """Measure model by model, each of them at all servers, so that both sides of a comparison see the same hour.

    `models` has each as every server lists it. However it ends, what was found by then is published.
    """
    try:
        with benches[0].watcher.live():
            for alike in models:
                for bench, model in zip(benches, alike, strict=True):
                    bench.measure(model)
    finally:
        publish()
    results = [result for bench in benches for result in bench.results]
    broken = dict.fromkeys(result.name for result in results if result.failure)
    if broken:
        raise ClientError(f"{', '.join(map(printable, broken))} could not be measured; the notes say why")
    rounds = [each for result in results for task in result.tasks for each in task.rounds]
    if failed := sum(bool(each.failure) for each in rounds):
        raise ClientError(f"{failed} of {len(rounds)} answers failed; the notes say why")


def _publish(app: App, report: Report, flags: BenchFlags) -> None:
    page = report_page(report)
    if flags.format:
        text = {"benchstat": benchstat, "csv": short_csv}[flags.format](report)
        if flags.output:
            write_file(Path(flags.output).expanduser(), text.encode())
        else:
            app.terminal.out(text)
    else:
        _show(app, page)
    bodies = _page_bodies(page) | {"csv": lambda: rounds_csv(report).encode(), "json": lambda: encode(report)}
    write_reports(flags.report, bodies)


def _page_bodies(page: Page) -> dict[str, Callable[[], bytes]]:
    return {"md": lambda: markdown(page).encode(), "html": lambda: html(page).encode(), "png": lambda: png(page)}


def _show(app: App, page: Page) -> None:
    for table in page.tables:
        show_table(app.terminal, table)
    for note in page.notes:
        app.terminal.out(f"Note: {printable(note)}\n")


# --- two sides -----------------------------------------------------------------------------------------------------


class Comparison:
    """`--compare`: two sides, each a server or an earlier report. With one, the other is this environment's server."""

    def __init__(self, app: App, words: Sequence[str], flags: BenchFlags) -> None:
        if not 1 <= len(words) <= 2:
            raise BadRequest(
                "--compare takes two sides, each the address of a server or a JSON report; with one of them it takes "
                "your own server for the other"
            )
        self._app = app
        self._flags = flags
        sides = [self._side(word) for word in words]
        if len(sides) == 1:
            own = find_target(app.own_env, Path(), app.file)
            # a report is older than what is measured now, and one's own server is the one that one knows
            sides.insert(1 if isinstance(sides[0], Report) else 0, own)
        self._sides = sides
        first, second = _called(sides[0], words[0]), _called(sides[1], words[-1])
        self._names = (first, second if second != first else f"{second} again")

    def _side(self, word: str) -> Report | Target:
        path = Path(word).expanduser()
        if path.suffix.lower() == ".json" or path.is_file():
            return decode(read_file(path, MAX_REPORT_BYTES), str(path))
        return find_target(self._app.own_env, Path(), self._app.file).at(word)

    def run(self) -> None:
        sides = zip(self._names, self._sides, strict=True)
        targets = {name: side for name, side in sides if isinstance(side, Target)}
        if not targets:
            self._publish([])
            return
        models = self._common_models(list(targets.values()))
        benches = _benches(self._app, targets, self._flags.tasks() or self._common_tasks(), self._flags)
        _measure(benches, models, lambda: self._publish(benches))

    def _publish(self, benches: Sequence[Bench]) -> None:
        measured = iter(benches)
        before, after = (side if isinstance(side, Report) else next(measured).report() for side in self._sides)
        page = comparison_page(before, after, self._names)
        _show(self._app, page)
        bodies = _page_bodies(page) | {
            "csv": lambda: table_csv(page.tables[0]).encode(),
            "json": lambda: comparison_json(before, after, self._names),
        }
        write_reports(self._flags.report, bodies)

    def _common_models(self, targets: Sequence[Target]) -> list[tuple[ListedModel, ...]]:
        """What both sides have, or what the flags name of it, as each server lists it."""
        flags, warn = self._flags, self._app.warn
        listed = [models_of(target, target.client(warn=warn, answer_limit_s=flags.timeout)) for target in targets]
        held = [{model.name for model in models} for models in listed]
        held += [{model.name for model in side.models} for side in self._sides if isinstance(side, Report)]
        names = flags.names() or [model.name for model in listed[0] if all(model.name in one for one in held)]
        if not names:
            raise NotFound("there is no model that both sides have")
        found = [named_models(names, models, target) for models, target in zip(listed, targets, strict=True)]
        return list(zip(*found, strict=True))

    def _common_tasks(self) -> list[Task]:
        """Those of an earlier report, or all."""
        reports = [side for side in self._sides if isinstance(side, Report)]
        asked = {task.task for report in reports for model in report.models for task in model.tasks}
        return [task for task in TASKS if task.name in asked] or list(TASKS)


def _called(side: Report | Target, word: str) -> str:
    """What the user calls a side; of a server's address the part without a password."""
    return word if isinstance(side, Report) else side.url
