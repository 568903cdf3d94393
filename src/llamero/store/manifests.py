"""Manifests: which blobs make up a model, and the folder tree that gives them names.

They know digests and names but open no blob. Source: store-registry §1.4, §2, §2.1, §2.2; security §10.2. Two programs
share the tree, so reading is lenient and ignores what is not a manifest; what comes from outside is parsed strictly
before it is written, and it is written whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ..errors import BadRequest, InvalidDigest, InvalidName, ModelNotFound, StorageError
from ..names import Digest, ModelName
from . import canonical, files
from .staging import Staging

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"

_IMAGE = "application/vnd.ollama.image."
MODEL = _IMAGE + "model"
PROJECTOR = _IMAGE + "projector"
ADAPTER = _IMAGE + "adapter"
DRAFT = _IMAGE + "draft"
TEMPLATE = _IMAGE + "template"
PROMPT = _IMAGE + "prompt"
"""The older name of TEMPLATE."""
SYSTEM = _IMAGE + "system"
LICENSE = _IMAGE + "license"
PARAMS = _IMAGE + "params"
MESSAGES = _IMAGE + "messages"
TENSOR = _IMAGE + "tensor"
JSON = _IMAGE + "json"

TEXT_TYPES = frozenset({TEMPLATE, PROMPT, SYSTEM, LICENSE, PARAMS, MESSAGES})

# security §10.2
MAX_MANIFEST_BYTES = 4 << 20
MAX_LAYERS = 4096
MAX_LAYER_BYTES = 8 << 40
MAX_CONFIG_BYTES = 1 << 20
MAX_TEXT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    media_type: str
    digest: Digest
    size_bytes: int
    from_name: str = ""
    """Shortest name of the model that this layer came from."""
    name: str = ""
    """Logical name of a tensor or JSON layer; never a path."""

    def as_json(self) -> dict[str, Any]:
        fields = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size_bytes}
        optional = {"from": self.from_name, "name": self.name}
        return fields | {key: value for key, value in optional.items() if value}


@dataclass(frozen=True, slots=True)
class Manifest:
    raw: bytes
    """The file's own bytes: they make the digest, and a copy or push hands them on with all they carry."""
    config: Layer | None
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """64 hex digits, without the `sha256:` (native-api §1.6)."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """Every layer, and the config last: the order of a pull."""
        return self.layers if self.config is None else (*self.layers, self.config)

    @property
    def digests(self) -> frozenset[Digest]:
        return frozenset(blob.digest for blob in self.blobs)

    @property
    def size_bytes(self) -> int:
        """As the manifest states it; a blob that other models use too counts fully."""
        return sum(blob.size_bytes for blob in self.blobs)

    @property
    def made_here(self) -> bool:
        """Whether `create` wrote it: registries send none with a newline at the end (store-registry §2.1)."""
        return self.raw.endswith(b"\n")

    def of_type(self, *media_types: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.media_type in media_types)


def encode_manifest(config: Layer, layers: tuple[Layer, ...]) -> bytes:
    """The bytes of a manifest made here: compact, in the reference's key order, with one newline."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
    }
    return canonical.encode(document) + b"\n"


def parse_manifest(raw: bytes, *, strict: bool = True) -> Manifest:
    """Read a manifest. BadRequest names what is wrong with it.

    `strict` is for what comes from outside. Without it, absent sizes and an absent list of layers pass, as other
    programs may have written them; a malformed digest never passes, because file names are made of digests.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise _invalid(f"larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _invalid("not JSON") from None
    if not isinstance(document, dict):
        raise _invalid("not an object")
    if strict and document.get("schemaVersion") != 2:
        raise _invalid("schemaVersion is not 2")
    layers = document.get("layers")
    if layers is None and not strict:
        layers = []
    if not isinstance(layers, list) or (strict and not layers):
        raise _invalid("no list of layers")
    if len(layers) > MAX_LAYERS:
        raise _invalid(f"more than {MAX_LAYERS} layers")
    return Manifest(raw, _config(document.get("config"), strict), tuple(_layer(layer, strict) for layer in layers))


def _config(document: Any, strict: bool) -> Layer | None:
    if document is None or (isinstance(document, dict) and not document.get("digest")):
        return None
    config = _layer(document, strict)
    if strict and config.size_bytes > MAX_CONFIG_BYTES:
        raise _invalid(f"a config larger than {MAX_CONFIG_BYTES} bytes")
    return config


def _layer(document: Any, strict: bool) -> Layer:
    if not isinstance(document, dict):
        raise _invalid("a layer is not an object")
    size_bytes = document.get("size", None if strict else 0)
    if isinstance(size_bytes, bool) or not isinstance(size_bytes, int) or not 0 <= size_bytes <= MAX_LAYER_BYTES:
        raise _invalid("a layer's size is not a number of bytes")
    layer = Layer(
        media_type=_string(document, "mediaType"),
        digest=_digest(_string(document, "digest")),
        size_bytes=size_bytes,
        from_name=_string(document, "from"),
        name=_string(document, "name"),
    )
    if strict and layer.media_type in TEXT_TYPES and size_bytes > MAX_TEXT_BYTES:
        raise _invalid(f"a text larger than {MAX_TEXT_BYTES} bytes")
    return layer


def _string(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _invalid(f"a layer's {key} is not a string")
    return value


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        raise _invalid("a layer's digest is malformed") from None


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"invalid manifest: {reason}")


# --- the tree ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """A manifest file as a walk over the tree sees it, not yet read."""

    name: ModelName
    path: Path
    modified_ns: int
    size_bytes: int
    inode: int
    changed_ns: int
    """Unlike the time of modification, nobody can set it back. On Windows it is the time of creation."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest that has been read from the tree."""

    name: ModelName
    manifest: Manifest
    modified_ns: int


_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""How the system says that nothing can have been stored under a path."""


class Manifests:
    """The folder `manifests/<host>/<namespace>/<model>/<tag>`.

    Reads follow links, so that a linked folder works; changes refuse to pass through one below `manifests/`, so that
    nothing outside is ever written or removed. Callers serialise changes (`Store` does).
    """

    def __init__(self, folder: Path, staging: Staging) -> None:
        self._folder = folder
        self._staging = staging

    def path(self, name: ModelName) -> Path:
        if sys.platform == "win32":
            refuse_windows_names(name.parts)
        return self._folder.joinpath(*name.parts)

    def entries(self) -> Iterator[Entry]:
        """Every file that has a model's name, in no particular order. Strays and dangling links are passed over."""
        for parts in self._walk((), 4):
            try:
                host, namespace, model, tag = parts
                name = ModelName(host, namespace, model, tag)
                path = self.path(name)
                status = os.stat(path)
            except (InvalidName, OSError):
                continue
            if stat.S_ISREG(status.st_mode):
                yield Entry(name, path, status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)

    def adopt(self, name: ModelName) -> ModelName:
        """The spelling under which this name is stored, or would be (store-registry §1.4).

        1. A manifest spelled exactly so. 2. One that is equal ignoring case, the first by byte order. 3. A new name, in
        which each part takes the spelling of the folder that is already there, from left to right.
        """
        alike = list(self._alike((), name.parts))
        if name.parts in alike:
            return name
        if alike:
            return _spelled(name, alike[0])
        spelled: tuple[str, ...] = ()
        for part in name.parts:
            there = self._names(spelled, part)
            spelled += (part if part in there or not there else there[0],)
        return _spelled(name, spelled)

    def read(self, name: ModelName) -> Stored:
        """The manifest stored under exactly this name. ModelNotFound, or StorageError when it is unreadable."""
        with files.translated("read manifest"):
            try:
                file = files.open_regular(self.path(name))
            except OSError as error:
                if error.errno in _NOT_THERE:
                    raise ModelNotFound(f"model '{name}' not found") from None
                raise
            with file:
                raw = file.read(MAX_MANIFEST_BYTES + 1)
                modified_ns = os.fstat(file.fileno()).st_mtime_ns
        try:
            return Stored(name, parse_manifest(raw, strict=False), modified_ns)
        except BadRequest as error:
            raise StorageError(f"model '{name}': {error}") from None

    def all(self) -> Iterator[Stored | StorageError]:
        """Every manifest, or why it cannot be read. One that vanishes meanwhile is left out."""
        for entry in self.entries():
            try:
                yield self.read(entry.name)
            except ModelNotFound:
                continue
            except StorageError as error:
                yield error

    def write(self, name: ModelName, raw: bytes) -> None:
        with files.translated("write manifest"):
            folder = self._own_folder(name)
            files.make_folder(folder)
            with self._staging.file(folder) as staged:
                staged.write(raw)
                staged.place(self.path(name))

    def same(self, one: ModelName, other: ModelName) -> bool:
        """Whether two spellings lead to one file, as they do on disks that ignore case."""
        try:
            return os.path.samefile(self.path(one), self.path(other))
        except OSError:
            return False

    def remove(self, name: ModelName) -> None:
        with files.translated("remove manifest"):
            (self._own_folder(name) / name.tag).unlink()
            self.remove_empty_folders()

    def remove_empty_folders(self) -> None:
        for folder, _, _ in os.walk(self._folder, topdown=False, followlinks=False):
            if folder != str(self._folder):
                _remove_if_empty(folder)

    def _own_folder(self, name: ModelName) -> Path:
        """The folder of a name, checked to be ours all the way down."""
        folder = self._folder
        for part in self.path(name).parent.relative_to(self._folder).parts:
            folder /= part
            if folder.is_symlink():
                raise StorageError(f"model '{name}': its manifest folder is a link, through which nothing is changed")
        return folder

    def _names(self, parts: tuple[str, ...], like: str) -> list[str]:
        """What stands in one folder, spelled like `like` ignoring case, in byte order."""
        # only ASCII can be a name; without this check the Kelvin sign would lower to a `k`
        return [each for each in self._listing(parts) if each.isascii() and each.lower() == like.lower()]

    def _alike(self, found: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if not wanted:
            if files.is_regular(self._folder.joinpath(*found)):
                yield found
            return
        for each in self._names(found, wanted[0]):
            yield from self._alike((*found, each), wanted[1:])

    def _walk(self, found: tuple[str, ...], levels: int) -> Iterator[tuple[str, ...]]:
        if not levels:
            yield found
            return
        for each in self._listing(found):
            yield from self._walk((*found, each), levels - 1)

    def _listing(self, parts: tuple[str, ...]) -> list[str]:
        """Names in one folder by byte order; none where there is no folder, such as in a stray `.DS_Store`."""
        with files.translated("list manifests"):
            try:
                return sorted(os.listdir(self._folder.joinpath(*parts)))
            except OSError as error:
                if error.errno == errno.ENOENT or (parts and error.errno in _NOT_THERE):
                    return []
                raise


def _spelled(name: ModelName, parts: tuple[str, ...]) -> ModelName:
    host, namespace, model, tag = parts
    return ModelName(host, namespace, model, tag, name.scheme)


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        return  # not empty, or somebody was faster


_WINDOWS_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def refuse_windows_names(parts: tuple[str, ...]) -> None:
    """InvalidName for what Windows would not store as it stands: devices, streams, trailing dots (security §10.3)."""
    for part in parts:
        if _WINDOWS_DEVICE.fullmatch(part) or ":" in part or part.endswith("."):
            raise InvalidName("invalid model name")
