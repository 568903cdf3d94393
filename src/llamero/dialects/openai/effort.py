"""How hard a model shall think, in OpenAI's words. Source: compat-api §5.5."""

from __future__ import annotations

from collections.abc import Mapping

from ...messages import Think
from ..fields import Fields

_EFFORTS: Mapping[str, Think] = {
    "": None,
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}


def read_effort(body: Fields) -> Think:
    """From `reasoning.effort` when there is a `reasoning` object, else from `reasoning_effort`; None: not said."""
    holder, name = body.object("reasoning"), "effort"
    if holder is None:
        holder, name = body, "reasoning_effort"
    effort = holder.text(name) or ""
    if effort not in _EFFORTS:
        raise holder.invalid(
            name,
            f'invalid reasoning value: "{effort}" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", '
            '"max", or "none")',
        )
    return _EFFORTS[effort]
