"""Reports for tests, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime

from llamero.cli.benchmark.records import Conditions, ModelResult, Report, Round, TaskResult, Verdict

CONDITIONS = Conditions(rounds=2, warmup=1, max_tokens=200, temperature=0.0, seed=0, num_ctx=0, prompt_tokens=2000)


def one(
    decode_per_s: float = 40, *, prefill_per_s: float = 400, ttft_s: float = 0.1, verdict: Verdict = "right"
) -> Round:
    """An answer of 20 tokens to 40."""
    return Round(
        total_s=0.7,
        ttft_s=ttft_s,
        load_s=0.001,
        prompt_tokens=40,
        prompt_s=40 / prefill_per_s,
        predicted_tokens=20,
        predicted_s=20 / decode_per_s,
        verdict=verdict,
    )


FAILED = Round(total_s=3.0, failure="out of memory")


def model(name: str, **tasks: list[Round]) -> ModelResult:
    return ModelResult(
        name=name,
        digest="ab" * 32,
        parameters="1B",
        quantization="Q4_0",
        family="llama",
        load_s=1.5,
        memory_bytes=2 * 10**9,
        vram_bytes=10**9,
        context_tokens=4096,
        tasks=[TaskResult(task=task, rounds=rounds) for task, rounds in tasks.items()],
    )


def report(*models: ModelResult, server: str = "http://box:11434", notes: list[str] | None = None) -> Report:
    return Report(
        server=server,
        version="1.2.3",
        started_at=datetime(2026, 11, 21, 12, 30, tzinfo=UTC),
        conditions=CONDITIONS,
        models=list(models),
        notes=notes or [],
    )
