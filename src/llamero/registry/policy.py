"""Which models may come in: LLAMERO_MODEL_POLICY (security §10.4).

`any` (default), `pinned` (manifests whose digest stands in the pins file), or `registries:<host>,<host>`.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import Forbidden
from ..names import ModelName
from ..store.manifests import Manifest

MAX_PINS_BYTES = 1 << 20
"""Ten thousand pins with a comment each."""


class Policy:
    """Anything but the three forms refuses everything: a policy with a typing error must not let models in."""

    def __init__(self, text: str, pins: Path) -> None:
        self._text = text.strip()
        self._pins = pins
        kind, _, hosts = self._text.partition(":")
        self._kind = kind.strip().lower()
        self._hosts = {host.strip().lower() for host in hosts.split(",") if host.strip()}

    def check_host(self, name: ModelName) -> None:
        """Forbidden when models of this host may not come in."""
        if self._kind in ("any", "pinned") and not self._hosts:
            return
        if self._kind != "registries" or name.host.lower() not in self._hosts:
            raise Forbidden(f"models from {name.host} are not allowed by LLAMERO_MODEL_POLICY={self._text}")

    def check_digest(self, name: ModelName, manifest: Manifest) -> None:
        """Forbidden when only pinned models may come in and this one is not."""
        if self._kind == "pinned" and manifest.digest not in self._pinned():
            raise Forbidden(f"model '{name}' with digest sha256:{manifest.digest} is not pinned (LLAMERO_MODEL_POLICY)")

    def _pinned(self) -> set[str]:
        """64 hex digits at the start of a line, with or without `sha256:`; the rest of a line is a comment."""
        try:
            with self._pins.open("r", encoding="utf-8", errors="replace") as file:
                lines = file.read(MAX_PINS_BYTES).splitlines()
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise Forbidden(f"the list of pinned models cannot be read: {error.strerror}") from error
        return {words[0].removeprefix("sha256:").lower() for line in lines if (words := line.split())}
