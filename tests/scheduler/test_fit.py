"""Whether and how fast a model would run, in each quantization (cli §3.16): the judgement, on machines made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llamero.build.quantize.mixture import LEVELS
from llamero.engines.devices import Gpu
from llamero.gguf import read_header
from llamero.messages import Usage
from llamero.options import merge_options
from llamero.scheduler import fit
from llamero.scheduler.facts import facts_of_header
from llamero.scheduler.fit import Offer, Verdict
from llamero.scheduler.plan import Defaults, Machine
from llamero.scheduler.shape import shape_of
from llamero.scheduler.speeds import Speeds
from tests.build.quantizable import llama

GB = 10**9
HEADER = read_header(llama("F16", n_layers=4))
OWN = Offer(level="F16", header=HEADER, size_bytes=HEADER.size_bytes + 1000, name="m:latest", digest="sha256:a")
FACTS = facts_of_header(HEADER, shape_of(HEADER))
CARD = Gpu("CUDA0", "a card", 9 * GB, 8 * GB)
CPU = Machine(ram_available_bytes=8 * GB, ram_total_bytes=16 * GB, cores=2)


def judged(machine: Machine, *, speeds: Speeds | None = None, bandwidth: float = 1e9) -> list[Verdict]:
    offered = fit.offers(OWN)
    return fit.judge(offered, FACTS, merge_options(), machine, Defaults(), speeds or Speeds(), bandwidth)


def test_every_level_is_offered_once_the_smallest_first() -> None:
    offered = fit.offers(OWN)
    assert sorted(offer.level for offer in offered) == sorted(LEVELS)
    assert [offer.size_bytes for offer in offered] == sorted(offer.size_bytes for offer in offered)
    assert [offer.name for offer in offered if offer.name] == ["m:latest"]


def test_what_the_registry_has_stands_for_what_would_be_computed() -> None:
    known = fit.sibling(OWN, "Q4_K_M", 5 * GB, 5 * GB + 3, "m:q4_K_M")
    odd = fit.sibling(OWN, "IQ2_XS", 4 * GB, 4 * GB + 3, "m:iq2_xs")
    offered = {offer.level: offer for offer in fit.offers(OWN, [known, odd])}
    assert offered["Q4_K_M"] is known
    assert offered["IQ2_XS"].size_bytes == 4 * GB + 3
    verdicts = fit.judge(list(offered.values()), FACTS, merge_options(), CPU, Defaults(), Speeds(), 1e9)
    memory = {verdict.offer.level: verdict.memory_bytes for verdict in verdicts}
    assert 5 * GB < memory["Q4_K_M"] < 6 * GB
    assert 4 * GB < memory["IQ2_XS"] < 5 * GB


def test_larger_levels_take_more_memory_and_are_slower() -> None:
    verdicts = judged(CPU)
    memory = [verdict.memory_bytes for verdict in verdicts]
    speeds = [verdict.speed.tokens_per_s for verdict in verdicts if verdict.speed]
    assert memory == sorted(memory)
    assert len(speeds) == len(verdicts)
    assert speeds == sorted(speeds, reverse=True)


def test_on_a_cpu_it_fits_or_it_does_not() -> None:
    need = judged(CPU)[0].memory_bytes
    # the plan itself adapts to the memory that there is, and old prompts are most of what a tiny model takes
    for available, fits in ((need * 2, "yes"), (need // 16, "no")):
        first = judged(replace(CPU, ram_available_bytes=available))[0]
        assert first.fits == fits
        assert (first.speed is None) == (fits == "no")


@pytest.mark.parametrize(
    ("gpu", "ram", "fits"), [(2.0, 0.1, "yes"), (0.5, 2.0, "partly"), (0.2, 0.2, "no")], ids=["yes", "partly", "no"]
)
def test_on_a_gpu_a_part_may_stay_in_main_memory(gpu: float, ram: float, fits: str) -> None:
    large = Machine(ram_available_bytes=8 * GB, ram_total_bytes=16 * GB, gpus=(CARD,))
    need = judged(large)[0].memory_bytes
    card = replace(CARD, free_bytes=int(need * gpu))
    small = replace(large, gpus=(card,), ram_available_bytes=int(need * ram))
    assert judged(small)[0].fits == fits


def test_of_a_gpu_only_answers_tell_the_speed() -> None:
    machine = Machine(ram_available_bytes=GB, ram_total_bytes=GB, gpus=(CARD,))
    assert {verdict.speed for verdict in judged(machine)} == {None}
    speeds = Speeds()
    speeds.learn("sha256:a", HEADER, Usage(predicted_tokens=100, predicted_ns=10**9))
    bases = {verdict.offer.level: verdict.speed.basis for verdict in judged(machine, speeds=speeds) if verdict.speed}
    assert bases.pop("F16") == "measured"
    assert set(bases.values()) == {"scaled"}


def test_models_that_write_nothing_have_no_speed() -> None:
    embedder = replace(FACTS, is_embedder=True)
    verdicts = fit.judge([OWN], embedder, merge_options(), CPU, Defaults(), Speeds(), 1e9)
    assert verdicts[0].speed is None


def test_the_report() -> None:
    report = fit.report("m", "local", judged(CPU), CPU, 1e9)
    own = next(row for row in report.rows if row.quant == "F16")
    assert (report.source, report.has_gpu, report.free, report.bandwidth) == ("local", False, 8 * GB, 10**9)
    assert (own.name, own.is_computed, own.basis) == ("m:latest", False, "bandwidth")
    assert all(row.is_computed for row in report.rows if row is not own)
    assert 0 < report.context <= HEADER.get_int("context_length")
