"""Model names and digests: values that cannot be wrong once they exist. No disk, no registry.

Source: store-registry §1 and §2, native-api §2.1. A `ModelName` has four checked parts, none of which can be `.` or
`..`, so a path built from it cannot leave its folder.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Literal

from .errors import BadRequest, InvalidDigest, InvalidName

DEFAULT_SCHEME = "https"
DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_PATTERNS = {
    "host": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    "namespace": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    "model": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
}


@dataclass(frozen=True, slots=True)
class ModelName:
    """A fully qualified model name. Construction checks every part; comparison is by exact spelling."""

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = DEFAULT_SCHEME

    def __post_init__(self) -> None:
        for part, pattern in _PATTERNS.items():
            if not pattern.fullmatch(getattr(self, part)):
                raise InvalidName("invalid model name")

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read `[scheme://][host/][namespace/]model[:tag]`; absent parts take the defaults.

        A separator with nothing beside it promises a part and does not keep the promise: InvalidName.
        """
        scheme, host, namespace, tag = DEFAULT_SCHEME, DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG
        rest = text
        if rest.rfind(":") > rest.rfind("/"):
            rest, _, tag = rest.rpartition(":")
        rest, slash, model = rest.rpartition("/")
        if slash:
            # `http://h/ns/m` must not be cut inside its `://`, hence host and scheme last
            rest, slash, namespace = rest.rpartition("/")
            if slash:
                host = rest
                if "://" in rest:
                    scheme, _, host = rest.partition("://")
                    if not scheme:
                        raise InvalidName("invalid model name")
        return cls(host=host, namespace=namespace, model=model, tag=tag, scheme=scheme)

    @property
    def full(self) -> str:
        """`host/namespace/model:tag`, the scheme left out."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def display(self) -> str:
        """The shortest form that means the same: default host dropped, then default namespace; the tag stays."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{short}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{short}"
        return short

    @property
    def parts(self) -> tuple[str, str, str, str]:
        """The four levels below `manifests/`."""
        return (self.host, self.namespace, self.model, self.tag)

    def with_tag(self, tag: str) -> ModelName:
        return replace(self, tag=tag)

    def __str__(self) -> str:
        return self.display


Source = Literal["", "local", "cloud"]


def split_source(text: str) -> tuple[str, Source]:
    """Cut a source suffix (`:cloud`, `:<tag>-cloud`, `:local`) off a requested model string.

    Returns the base and the source asked for. Raises BadRequest when both are named at once.
    """
    base, source = _cut_source(text.strip())
    if source:
        again, second = _cut_source(base)
        if second and second != source:
            raise BadRequest(f'use either :local or :cloud, not both: "{text.strip()}"')
        base = again if second else base
    return base, source


def _cut_source(text: str) -> tuple[str, Source]:
    base, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        return text, ""
    lowered = tag.lower()
    if lowered == "cloud":
        return base, "cloud"
    if lowered == "local":
        return base, "local"
    if lowered.endswith("-cloud") and len(tag) > len("-cloud"):
        return f"{base}:{tag[: -len('-cloud')]}", "cloud"
    return text, ""


_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The sha256 of some bytes; `hex` is always 64 lower-case digits."""

    hex: str

    def __post_init__(self) -> None:
        if len(self.hex) != 64 or any(c not in "0123456789abcdef" for c in self.hex):
            raise InvalidDigest

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:` or `sha256-` and 64 hex digits of either case; anything else is InvalidDigest."""
        match = _DIGEST.fullmatch(text)
        if match is None:
            raise InvalidDigest
        return cls(match[1].lower())

    @classmethod
    def of(cls, data: bytes) -> Digest:
        return cls(hashlib.sha256(data).hexdigest())

    @property
    def file_name(self) -> str:
        """The blob's name on disk."""
        return f"sha256-{self.hex}"

    @property
    def short(self) -> str:
        """The 12 digits that lists and progress lines show."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"
