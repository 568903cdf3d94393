"""Our server against others, run by run: three real programs, and others that fail in every way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.against import (
    FAILURES_ENOUGH,
    Discipline,
    SameVectors,
    attempt,
    compare,
    compete,
    cosine,
    disciplines,
    introduce,
    sides_of,
)
from bench.contest import Contest
from bench.effort import Effort
from bench.servers import EMBEDDER, MODEL, bare_engine, our_server, side_of
from bench.sides import Answer, Message, Side, Vectors
from bench.wire import Failed
from tests.fake_llama_server import install
from tests.running import Server, free_port, linked_copy, running

QUICK = Effort(quick=True)


class Scripted:
    """A side whose every chat takes so long, or fails with such an error."""

    def __init__(self, name: str, *outcomes: float | Exception, vector: Sequence[float] = (1.0, 0.0)) -> None:
        self.name = name
        self.asked = 0
        self._outcomes = outcomes
        self._vector = vector

    def about(self) -> str:
        return f"scripted {self.name}"

    def chat(self, messages: Sequence[Message], predict: int) -> Answer:
        outcome = self._outcomes[self.asked % len(self._outcomes)]
        self.asked += 1
        if isinstance(outcome, Exception):
            raise outcome
        return Answer(outcome, 2 * outcome, predict, 10, "text")

    def embed(self, model: str, texts: Sequence[str]) -> Vectors:
        return Vectors(0.5, [self._vector for _ in texts])

    def unload(self) -> None: ...


def everything(sides: Sequence[Side]) -> list[Contest]:
    return [contest for contests in compare(sides, disciplines(QUICK, EMBEDDER), QUICK) for contest in contests]


FIRST = Discipline("first", "s", "less", lambda side, i: side.chat([], 4).first_s)


def test_a_side_that_keeps_failing_is_not_asked_again() -> None:
    ours, theirs = Scripted("ours", 1.0), Scripted("theirs", Failed("no"))
    runs = compete([ours, theirs], FIRST, 5)
    assert [run.value for run in runs[0]] == [1.0] * 5
    assert [run.error for run in runs[1]] == ["no"] * FAILURES_ENOUGH
    assert theirs.asked == FAILURES_ENOUGH


@pytest.mark.parametrize("error", [KeyError("done"), TypeError("not a list"), AttributeError("get"), ValueError("x")])
def test_a_reply_of_another_shape_is_a_failure_and_not_a_crash(error: Exception) -> None:
    run = attempt(lambda: Scripted("theirs", error).chat([], 1).first_s)
    assert run.value is None
    assert run.error.startswith(f"a reply of another shape: {type(error).__name__}")


def test_every_other_side_is_compared_with_the_first() -> None:
    sides = [Scripted("ours", 1.0), Scripted("slow", 4.0), Scripted("mixed", 2.0, Failed("once"), 2.0)]
    (contests,) = compare(sides, [FIRST], Effort(3))
    assert [(contest.rival, contest.ratio.median) for contest in contests] == [("slow", 0.25), ("mixed", 0.5)]


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [([1, 0], [2, 0], 1), ([1, 0], [0, 1], 0), ([1, 1], [1, -1], 0), ([1], [1, 0], 0), ([0, 0], [1, 0], 0)],
)
def test_cosine(one: list[float], other: list[float], value: float) -> None:
    assert cosine(one, other) == value


def test_vectors_of_another_model_are_not_compared() -> None:
    vectors = SameVectors("e")
    assert vectors.seconds(Scripted("ours", 1.0), ["a"]) == 0.5
    assert vectors.seconds(Scripted("alike", 1.0, vector=(2.0, 0.01)), ["a"]) == 0.5
    with pytest.raises(Failed, match="vectors are another model's"):
        vectors.seconds(Scripted("other", 1.0, vector=(0.0, 1.0)), ["a"])


def test_what_each_says_about_itself_or_why_not() -> None:
    class Silent(Scripted):
        def about(self) -> str:
            raise KeyError("version")

    told = introduce([Scripted("ours", 1.0), Silent("theirs", 1.0)])
    assert told["ours"] == "scripted ours"
    assert told["theirs"].startswith("says nothing about itself: a reply of another shape: KeyError")


@pytest.fixture
def scripted_engines(tmp_path: Path, starter_models: Path) -> Iterator[list[Side]]:
    """Ours, a second Llamero and a llama-server, all real programs; the engines answer at once, two tokens each."""
    program = install(tmp_path)
    port = free_port()
    with ExitStack() as stack:
        servers: list[Server] = []
        for name in ("ours", "theirs"):
            models = linked_copy(starter_models, tmp_path / name / "models")
            servers.append(
                stack.enter_context(running(tmp_path / name, models, port=0, LLAMERO_LLAMA_SERVER=str(program)))
            )
        engine = subprocess.Popen([program, "--host", "127.0.0.1", "--port", str(port)], stderr=subprocess.DEVNULL)
        stack.callback(engine.wait)
        stack.callback(engine.kill)
        yield stack.enter_context(sides_of(servers[0].url, [servers[1].url], [f"http://127.0.0.1:{port}"], MODEL))


@pytest.mark.heavy
def test_everything_is_compared_with_a_second_server_and_with_a_llama_server(scripted_engines: list[Side]) -> None:
    rows = everything(scripted_engines)
    second = {row.name: row for row in rows if row.rival == scripted_engines[1].name}
    engine = {row.name: row for row in rows if row.rival == scripted_engines[2].name}
    assert len(second) == len(engine) == len(rows) / 2 == 7
    assert [name for name, row in second.items() if not row.ratio.values] == ["inputs embedded"], "it knows one vector"
    assert engine["first token, model not loaded"].theirs.measured == "it keeps its model for as long as it runs"
    assert engine["first token of a follow-up in a long chat, after unload"].theirs.error
    assert engine["decode, one client"].ratio.median > 0
    assert engine["8 clients together"].ratio.median > 0


def test_a_password_in_an_address_is_not_printed() -> None:
    address = "http://ann:secret@127.0.0.1:1"
    with sides_of(address, [address], [address], MODEL) as sides:
        assert [side.name for side in sides] == ["ours", "http://127.0.0.1:1", "http://127.0.0.1:1"]
        assert "secret" not in str(introduce(sides))


def test_nobody_there_is_a_row() -> None:
    with sides_of("http://127.0.0.1:1", ["http://127.0.0.1:1"], ["http://127.0.0.1:1"], MODEL) as sides:
        rows = everything(sides)
        told = introduce(sides)
    assert all("refused" in row.ours.measured for row in rows)
    assert all("refused" in words for words in told.values())


@pytest.mark.heavy
def test_a_comparison_with_real_engines() -> None:
    with our_server() as ours, our_server() as theirs, bare_engine() as bare:
        sides: list[Side] = [side_of(ours), side_of(theirs), bare]
        rows = everything(sides)
    assert [row.name for row in rows if row.ours.error] == []
    assert [row.name for row in rows if row.rival == "ours" and row.theirs.error] == []
    by_name: dict[str, Contest] = {row.name: row for row in rows if row.rival == "bare"}
    assert "does not support embeddings" in by_name["inputs embedded"].theirs.error
    assert by_name["decode, one client"].ratio.values


@pytest.mark.heavy
def test_the_command_starts_ours_and_compares(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    with our_server() as theirs:
        words = [
            "--quick",
            "--json",
            str(file),
            "--against",
            theirs.url,
            "--against-llama-server",
            "http://127.0.0.1:1",
        ]
        done = subprocess.run([sys.executable, "-m", "bench", *words], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    content = json.loads(file.read_text())
    assert len(content["contests"]) == 14
    assert all(bool(row["ratio"]["values"]) == (row["rival"] == theirs.url) for row in content["contests"])
    assert "135" in content["sides"]["ours"]
    assert f"{theirs.url}: " in done.stdout
