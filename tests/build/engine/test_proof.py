"""A new engine beside the old one: it must run, compute the same, and be faster to be of use."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from llamero.build.engine import proof, trial
from llamero.build.engine.proof import HELD, SCHEMA, Measured, Unfit, judge
from llamero.engines.llamacpp import LlamaCppSettings
from llamero.errors import LoadFailed
from llamero.names import ModelName
from llamero.store import Store
from tests.engines.starting import ENV, eventually
from tests.fake_llama_server import install, read_record
from tests.running import children, linked_copy

LIKELY = {7: -0.1, 8: -2.5, 9: -4.0, 10: -5.0, 11: -6.0, 12: -7.0}


def engine(
    folder: Path,
    *,
    likely: dict[int, float] = LIKELY,
    held: str = "111",
    prompt_ms: float = 100.0,
    predicted_ms: float = 64.0,
    streams: Any = None,
    **script: Any,
) -> str:
    """A program that answers every question of the trial in one way. `script` is the fake's own."""
    top = [{"id": token, "token": f"<{token}>", "logprob": logprob} for token, logprob in likely.items()]
    whole = {"content": "a", "completion_probabilities": [{"id": 7, "token": "a", "logprob": 0, "top_logprobs": top}]}
    timings = {"prompt_n": 512, "prompt_ms": prompt_ms, "predicted_n": 64, "predicted_ms": predicted_ms}
    done = [{"send": {"content": held}}, {"send": {"stop": True, "stop_type": "limit", "timings": timings}}]
    replies = {"/completion whole": {"body": whole}, "/completion": streams or done}
    folder.mkdir()
    return str(install(folder, {"replies": replies} | script))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


async def verdict(model: Path, new: str, old: str) -> Measured:
    return await judge(Path(new), model, ENV, lambda step, done, total: None, rival=old)


async def test_two_that_are_alike_are_no_gain(tmp_path: Path, model: Path) -> None:
    measured = await verdict(model, engine(tmp_path / "new"), engine(tmp_path / "old"))
    assert measured == Measured(1.0, 1.0, proof.ROUNDS)
    assert not measured.is_faster
    assert not children(os.getpid())


async def test_speeds_are_told_through_the_old_ones(tmp_path: Path, model: Path) -> None:
    new = engine(tmp_path / "new", prompt_ms=50, predicted_ms=128)
    measured = await verdict(model, new, engine(tmp_path / "old"))
    assert (measured.prefill_ratio, measured.decode_ratio) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("decode", "prefill", "is_faster"),
    [(1.3, 1.0, True), (1.3, 0.94, True), (1.0, 1.0, False), (1.02, 1.02, False), (2.0, 0.85, False), (0.8, 3, False)],
)
def test_a_gain_is_what_nobody_pays_for(decode: float, prefill: float, is_faster: bool) -> None:
    assert Measured(decode, prefill, 9).is_faster is is_faster


async def test_both_answer_the_same_questions(tmp_path: Path, model: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    new, old = engine(tmp_path / "new"), engine(tmp_path / "old")
    await judge(Path(new), model, ENV, lambda *step: steps.append(step), rival=old)
    asked = [
        [request["body"] for request in read_record(tmp_path / name, "request") if "ignore_eos" in request["body"]]
        for name in ("new", "old")
    ]
    assert asked[0] == asked[1]
    assert len(asked[0]) == proof.ROUNDS + 1
    assert not any(body["cache_prompt"] for body in asked[0])
    assert steps[0][0] == "proving it on a real generation"
    assert [done for _, done, _ in steps[1:]] == list(range(proof.ROUNDS + 1))


@pytest.mark.parametrize(
    ("new", "message"),
    [
        pytest.param({"dies": -4}, "does not run here: .*illegal instruction", id="it does not start"),
        pytest.param({"streams": [{"die": -11}]}, "does not run here: ", id="it dies in its first answer"),
        pytest.param({"streams": [{"cut": True}]}, "does not run here: ", id="it cuts its answer off"),
        pytest.param({"likely": LIKELY | {7: -0.5}}, "a log-probability is 0.40 off", id="another likelihood"),
        pytest.param({"likely": {1: -0.1}}, "a log-probability is inf off", id="another token"),
        pytest.param({"held": "112"}, "does not hold its answers to schemas", id="no schema"),
    ],
)
async def test_what_is_not_as_it_should_be_is_refused(
    tmp_path: Path, model: Path, new: dict[str, Any], message: str
) -> None:
    with pytest.raises(Unfit, match=message):
        await verdict(model, engine(tmp_path / "new", **new), engine(tmp_path / "old"))
    assert not children(os.getpid())


async def test_the_end_of_the_list_may_differ_and_rounding_too(tmp_path: Path, model: Path) -> None:
    likely = {token: logprob - 0.1 for token, logprob in LIKELY.items() if token != 12} | {13: -7.5}
    assert await verdict(model, engine(tmp_path / "new", likely=likely), engine(tmp_path / "old"))


async def test_what_the_old_one_cannot_either_says_nothing_about_the_new_one(tmp_path: Path, model: Path) -> None:
    old = engine(tmp_path / "old", held="no number")
    assert await verdict(model, engine(tmp_path / "new", held="no number, too"), old)
    with pytest.raises(LoadFailed):
        await verdict(model, engine(tmp_path / "another"), engine(tmp_path / "dead", dies=1))


async def test_a_cancelled_trial_leaves_nothing(tmp_path: Path, model: Path) -> None:
    endless = engine(tmp_path / "new", streams=[{"hold": True}])
    task = asyncio.create_task(verdict(model, endless, engine(tmp_path / "old")))
    await eventually(lambda: len(read_record(tmp_path / "new", "request")) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children(os.getpid())


def test_only_numbers_that_fit_the_schema_are_held() -> None:
    assert sorted(map(int, HELD)) == [
        number for number in range(SCHEMA["minimum"], SCHEMA["maximum"] + 1) if not number % SCHEMA["multipleOf"]
    ]


# --- what it is tried on ---------------------------------------------------------------------------------------------


def test_the_smallest_model_that_writes_is_taken(starter_models: Path, tmp_path: Path) -> None:
    store = Store(linked_copy(starter_models, tmp_path / "models"))
    with trial.model(store, tmp_path) as (name, weights):
        assert name == "smollm2:135m"
        assert weights == store.resolve(ModelName.parse(name)).weights


def test_without_one_a_model_is_made_up(tmp_path: Path) -> None:
    with trial.model(Store(tmp_path / "models"), tmp_path) as (name, weights):
        assert name == "a made-up model"
        assert 20 << 20 < weights.stat().st_size < 40 << 20


@pytest.mark.engine
async def test_the_wheel_runs_what_is_made_up(tmp_path: Path) -> None:
    async with proof._running(trial.write(tmp_path / "trial.gguf"), LlamaCppSettings(env=ENV)) as wheel:
        tokens = (await wheel.wire.tokenize(proof.TEXT * 8))[: proof.PROMPT_TOKENS]
        assert len(tokens) == proof.PROMPT_TOKENS
        assert len(await proof._likeliest(wheel, tokens)) >= proof.LIKELIEST
        assert (await proof._answer(wheel, tokens)).predicted_tokens == proof.ANSWER_TOKENS
