"""The flags of `bench` as they were written, and what they mean (cli §3.15, §13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...durations import SECOND
from ...errors import BadRequest
from ..choose import chosen
from .measure import Plan
from .records import Conditions
from .tasks import BY_NAME, DEFAULT_PROMPT_TOKENS, Task, prompt_task
from .writers import check_file, report_files

FORMATS = ("benchstat", "csv")
MAX_IMAGE_BYTES = 64 * 2**20
"""What a server takes at most, too."""
MAX_TEMPERATURE = 10.0
"""Far beyond what anybody uses; a slip of the decimal point is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchFlags:
    auto: bool = False
    compare: bool = False
    model: str = ""
    task: str = ""
    epochs: int = 6
    warmup: int = 1
    max_tokens: int = 200
    temperature: str = "0"
    seed: int = 0
    num_ctx: int = 0
    prompt_tokens: int = 0
    timeout: int = 300
    prompt: str = ""
    image: str = ""
    keep_alive: int = 0
    think: bool = False
    format: str = ""
    output: str = ""
    report: tuple[str, ...] = ()
    verbose: bool = False

    def check(self) -> None:
        """Raises BadRequest for whatever could not be done at the end of an hour's work."""
        if self.format and self.format not in FORMATS:
            raise BadRequest(f'invalid value for --format: "{self.format}" (must be benchstat or csv)')
        if self.format and self.compare:
            raise BadRequest("--format prints one server's figures; --compare has its own")
        if self.output and not self.format:
            raise BadRequest("--output is for what --format prints; --report NAME.html writes a report")
        self.plan(self.tasks())
        report_files(self.report)
        if self.output:
            check_file(Path(self.output).expanduser())

    def names(self) -> list[str]:
        return [name.strip() for name in self.model.split(",") if name.strip()]

    def tasks(self) -> list[Task]:
        """What the flags name; empty when they name nothing."""
        brings_prompt = bool(self.prompt or self.image)
        if self.task:
            if brings_prompt:
                raise BadRequest("--task has questions of its own; leave out --prompt and --image, or --task")
            return [BY_NAME[name] for name in chosen(self.task, list(BY_NAME))]
        if brings_prompt or self.format:
            images = [read_file(Path(self.image).expanduser(), MAX_IMAGE_BYTES)] if self.image else []
            return [prompt_task(self.prompt, is_long=self.prompt_tokens > 0, images=images)]
        return []

    def plan(self, tasks: Sequence[Task]) -> Plan:
        conditions = Conditions(
            rounds=_at_least(1, "--epochs", self.epochs),
            warmup=_at_least(0, "--warmup", self.warmup),
            max_tokens=_at_least(1, "--max-tokens", self.max_tokens),
            temperature=_temperature(self.temperature),
            seed=_at_least(0, "--seed", self.seed),
            num_ctx=_at_least(0, "--num-ctx", self.num_ctx),
            prompt_tokens=_at_least(0, "--prompt-tokens", self.prompt_tokens) or DEFAULT_PROMPT_TOKENS,
        )
        return Plan(
            tasks=tuple(tasks),
            conditions=conditions,
            timeout_s=_at_least(1, "--timeout", self.timeout),
            thinks=self.think,
            keep_alive_ns=self.keep_alive * SECOND if self.keep_alive else None,
        )


def _at_least(least: int, flag: str, value: int) -> int:
    if value < least:
        raise BadRequest(f"{flag} must be {least} or more")
    return value


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_TEMPERATURE:
        raise BadRequest(f"--temperature must be a number from 0 to {MAX_TEMPERATURE:g}")
    return value


def read_file(path: Path, limit_bytes: int) -> bytes:
    """A whole file that a flag names. BadRequest when it cannot be read or is too large to be meant."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > limit_bytes:
        raise BadRequest(f"{path} is larger than {limit_bytes} bytes")
    return data
