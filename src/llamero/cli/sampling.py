"""The flags of `run` that set options of the model: `--temperature 0.2`, `--param top_k=10` (cli G-02). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadRequest
from ..options import OPTIONS, parse_parameter

FLAGS: Mapping[str, str] = {
    name: f"--{name.replace('_', '-')}"
    for name in "temperature top_k top_p min_p repeat_penalty seed num_ctx num_predict".split()
}
"""Options that have a flag of their own."""


def read_sampling(given: Mapping[str, str], params: Sequence[str]) -> dict[str, Any]:
    """The options of a request. `given` has those flags that were set, by the option's name.

    Raises BadRequest, naming the flag, for an option that there is not or a value that it cannot have.
    """
    options: dict[str, Any] = {}
    for param in params:
        name, equals, text = param.partition("=")
        if not equals:
            raise BadRequest(f'invalid argument "{param}" for "--param" flag: it must be NAME=VALUE')
        value = _parse(f"--param {name}", name, text)
        if isinstance(value, list):
            value = [*options.get(name, ()), *value]
        options[name] = value
    return options | {name: _parse(FLAGS[name], name, text) for name, text in given.items()}


def _parse(flag: str, name: str, text: str) -> Any:
    try:
        return parse_parameter(name, [text])
    except BadRequest as error:
        if name not in OPTIONS:
            raise BadRequest(f"{flag}: {error}; there are {', '.join(sorted(OPTIONS))}") from None
        raise BadRequest(f"{flag}: {error}") from None
