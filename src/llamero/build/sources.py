"""What the files of a request mean: uploaded blobs in, layers out, converted, merged or quantized on the way.

Files come as paths, which name and order them, and digests; no path of a client is opened. Which layers a base model
gives is `create`'s business. Source: store-registry §6.4, §6.6.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from ..errors import BadRequest, BlobNotFound, NotSupported
from ..messages import Progress
from ..names import Digest
from ..store import manifests as media
from ..store.manifests import Layer
from . import convert, projector, shards
from .quantize import check_source, level_of, quantize
from .quantize.levels import UNQUANTIZED
from .shards import GgufFile
from .workshop import NO_DIGEST, Workshop

Files = Mapping[str, Digest]
"""Path, as the client names it, to content."""

COMPANIONS = (".json", ".jinja", "tokenizer.model")
"""What a client sends along from a model's folder (store-registry §6.2); a GGUF carries all of it inside."""

_TORCH = re.compile(r"pytorch_model.*\.bin|consolidated.*\.pth")
_TORCH_REFUSED = "PyTorch files are not read, because opening one may run code: save the model as safetensors first"

_FROM_FP8, _FP8_LEVEL = "hf_fp8", "Q8_0"


def is_clean(path: str) -> bool:
    """Whether it is a relative path below some folder, on any system."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return not set(path) & set("\\\0") and not any(part in ("", ".", "..") for part in path.split("/"))


def model_layers(shop: Workshop, files: Files, level: str) -> list[Layer]:
    """The layers that the files of a model give; `level` is the type to quantize it to, or empty."""
    if _kind(shop, files) == "gguf":
        layers = _gguf_layers(shop, {path: digest for path, digest in files.items() if not path.endswith(COMPANIONS)})
    else:
        layers = _converted(shop, files)
        level = level or level_implied(shop, layers)
    return quantized(shop, layers, level) if level else layers


def adapter_layer(shop: Workshop, files: Files, base: Layer | None) -> Layer:
    if _kind(shop, files) == "safetensors":
        return _converted_adapter(shop, files, base)
    if len(files) > 1:
        raise BadRequest("only one adapter is currently supported")
    return _only(media.ADAPTER, "an adapter", _gguf_layers(shop, files))


def draft_layer(shop: Workshop, files: Files, level: str) -> Layer:
    if _kind(shop, files) == "safetensors":
        raise NotSupported("a draft model has to be a GGUF file: safetensors drafts are not supported by this version")
    layer = _only(media.MODEL, "a draft model", _gguf_layers(shop, files))
    if level:
        header = shop.store.headers.read(layer.digest)
        if level_of(header) not in UNQUANTIZED:
            raise BadRequest(f"draft quantization requires an unquantized draft model, got {level_of(header)}")
        (layer,) = quantized(shop, [layer], level)
    return replace(layer, media_type=media.DRAFT)


def projector_layers(shop: Workshop, files: Files) -> list[Layer]:
    """Those of the files that are projectors: all that may be given beside a base model."""
    found = {
        path: digest
        for path, digest in files.items()
        if shop.store.blobs.exists(digest)
        and shop.claims_gguf(digest)
        and shop.store.headers.read(digest).kind == "projector"
    }
    return _gguf_layers(shop, found)


def quantized(shop: Workshop, layers: Sequence[Layer], level: str) -> list[Layer]:
    """The layers, of which each model is quantized. LlameroError when one is quantized already."""
    if not any(layer.media_type == media.MODEL for layer in layers):
        raise BadRequest("there is no model to quantize")
    return [_quantized(shop, layer, level) if layer.media_type == media.MODEL else layer for layer in layers]


def _only(media_type: str, what: str, layers: Sequence[Layer]) -> Layer:
    if len(layers) != 1:
        raise BadRequest(f"{what} has to be one file or one split GGUF, got {len(layers)}")
    if layers[0].media_type != media_type:
        raise BadRequest(f"the file given as {what} is none")
    return layers[0]


# --- which kind ----------------------------------------------------------------------------------------------------


def _kind(shop: Workshop, files: Files) -> Literal["gguf", "safetensors"]:
    """What the files are: the first path that tells it decides."""
    for digest in files.values():
        if not shop.store.blobs.exists(digest):
            raise BlobNotFound(str(digest), status=400)
    for path, digest in files.items():
        if path.endswith(".safetensors"):
            return "safetensors"
        if path.endswith(".gguf") or shop.claims_gguf(digest):
            return "gguf"
    if any(_TORCH.fullmatch(PurePosixPath(path).name) for path in files):
        raise BadRequest(_TORCH_REFUSED)
    raise BadRequest("unknown type")


# --- GGUF ----------------------------------------------------------------------------------------------------------


def _gguf_layers(shop: Workshop, files: Files) -> list[Layer]:
    """A layer for each file by its path, and then one for each set of shards."""
    parsed = [_parsed(shop, path, digest) for path, digest in files.items()]
    whole = [file for file in parsed if not shards.is_shard(file.header)]
    sets = shards.grouped(parsed)
    return [*(_whole(shop, file) for file in whole), *(_merged(shop, group) for group in sets)]


def _parsed(shop: Workshop, path: str, digest: Digest) -> GgufFile:
    if not shop.claims_gguf(digest):
        raise BadRequest("supplied file was not in GGUF format")
    shop.say("parsing GGUF")
    return GgufFile(path, digest, shop.store.headers.check(digest))


def _whole(shop: Workshop, file: GgufFile) -> Layer:
    if not projector.lacks_type(file.header):
        return shop.layer(file.digest)
    shop.say("updating GGUF projector metadata")
    with shop.sources([file.digest]) as (source,):
        return shop.layer(shop.make(projector.with_type(source), about_bytes=file.header.size_bytes))


def _merged(shop: Workshop, group: Sequence[GgufFile]) -> Layer:
    shop.say("merging split GGUF")
    with shop.sources([file.digest for file in group]) as sources:
        about_bytes = sum(file.header.size_bytes for file in group)
        return shop.layer(shop.make(shards.merge(sources), about_bytes=about_bytes))


# --- safetensors ---------------------------------------------------------------------------------------------------


def _converted(shop: Workshop, files: Files) -> list[Layer]:
    """The model, and the projector where the family has one apart."""
    status = "converting model"
    shop.say(status)
    shop.store.blobs.require_space(_weights_bytes(shop, files))
    with shop.store.scratch() as folder:
        checkpoint, output = _linked(shop, files, folder / "checkpoint"), folder / "model.gguf"
        convert.convert_in_child(
            checkpoint, output, partial(_count, shop, status), warn=shop.warn, cancelled=shop.cancelled
        )
        made = [output, convert.projector_path(output)]
        return [shop.layer(shop.adopt(path)) for path in made if path.exists()]


def _converted_adapter(shop: Workshop, files: Files, base: Layer | None) -> Layer:
    if base is None:
        raise BadRequest("no base model was found")
    status = "converting adapter"
    shop.say(status)
    with shop.store.scratch() as folder:
        checkpoint, output = _linked(shop, files, folder / "adapter"), folder / "adapter.gguf"
        convert.convert_adapter_in_child(
            checkpoint,
            shop.store.blobs.path(base.digest),
            output,
            partial(_count, shop, status),
            warn=shop.warn,
            cancelled=shop.cancelled,
        )
        return shop.layer(shop.adopt(output))


def _weights_bytes(shop: Workshop, files: Files) -> int:
    return sum(shop.store.blobs.size(digest) for path, digest in files.items() if path.endswith(".safetensors"))


def _count(shop: Workshop, status: str, completed_bytes: int, total_bytes: int) -> None:
    """Without a digest: stock clients keep one bar for each, and the one of nineteen zeros belongs to quantizing."""
    shop.report(Progress(status, total_bytes=total_bytes, completed_bytes=completed_bytes))


def _linked(shop: Workshop, files: Files, folder: Path) -> Path:
    """A folder in which each file stands under its path; the content is linked, not copied."""
    folder.mkdir()
    for path, digest in files.items():
        target = folder.joinpath(*path.split("/"))
        if not is_clean(path) or not target.resolve().is_relative_to(folder.resolve()):
            raise BadRequest(f"file path must be relative: {json.dumps(path)}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(shop.store.blobs.path(digest).resolve(), target)
        except (FileExistsError, NotADirectoryError):  # one path names a file where another names a folder
            raise BadRequest(f"file path is taken: {json.dumps(path)}") from None
    return folder


def _link(content: Path, target: Path) -> None:
    try:
        target.hardlink_to(content)
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
        target.symlink_to(content)  # another file system, or one without hard links


def level_implied(shop: Workshop, layers: Sequence[Layer]) -> str:
    """A checkpoint of eight-bit floats gets a type of about that size, where none is asked for."""
    headers = [shop.store.headers.read(layer.digest) for layer in layers if layer.media_type == media.MODEL]
    return _FP8_LEVEL if any(each.get_str("source_quantization") == _FROM_FP8 for each in headers) else ""


# --- quantizing ----------------------------------------------------------------------------------------------------


def _quantized(shop: Workshop, layer: Layer, level: str) -> Layer:
    header = shop.store.headers.read(layer.digest)
    source_level = check_source(header)
    if source_level == level:
        return layer
    status = f"quantizing {source_level} model to {level}"

    def count(completed_bytes: int, total_bytes: int) -> None:
        done_bytes = layer.size_bytes if completed_bytes >= total_bytes else completed_bytes
        shop.report(Progress(status, NO_DIGEST, layer.size_bytes, done_bytes))

    count(0, layer.size_bytes)
    with shop.store.scratch() as folder:
        # for a moment the result lies there twice, which is about as much as the source
        blocks = quantize(shop.store.blobs.path(layer.digest), level, folder, count, cancelled=shop.cancelled)
        digest = shop.make(blocks, about_bytes=header.size_bytes)
    shop.say("verifying conversion")
    return shop.layer(digest)
