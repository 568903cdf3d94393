"""The sections in which `show` and the REPL's `/show info` describe a model (cli §3.3). Pure: a reply in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..client import ShownModel
from ..errors import BadRequest
from ..gguf import human_count
from .format import columns, table

Row = Sequence[str]

TEXT_LINES = 2
"""Lines of a system text or a licence that are shown; three dots stand for the rest."""
TEXT_COLUMNS = 100
LIST_COLUMNS = 10
"""Room for the items of a metadata list; the first is always shown."""


def refuse_image_model(model: ShownModel) -> None:
    if "image" in model.capabilities:
        raise BadRequest("image generation models are not currently supported")


def sections(model: ShownModel, *, verbose: bool = False) -> str:
    """All sections that have something to say; `verbose` adds metadata and tensors."""
    text = _section("Model", _model_rows(model))
    text += _section("Capabilities", [[word] for word in model.capabilities])
    text += _section("Projector", list(_projector_rows(model.projector_info)))
    text += _section("Parameters", [line.split(None, 1) for line in model.parameters.split("\n") if line.strip()])
    if verbose:
        info = model.model_info or {}
        text += _section("Metadata", [[key, _value(info[key])] for key in sorted(info)])
        text += _section("Tensors", [_tensor_row(tensor) for tensor in model.tensors])
    text += _section("System", _head(model.system), TEXT_COLUMNS)
    text += _section("License", _head(model.license), TEXT_COLUMNS)
    return text


def _section(title: str, rows: Sequence[Row], cell_columns: int = 30) -> str:
    if not rows:
        return ""
    lines = table([["", *row] for row in rows], cell_columns=cell_columns)
    return f"  {title}\n" + "".join(f"{line}\n" for line in lines) + "\n"


def _model_rows(model: ShownModel) -> list[Row]:
    details, info = model.details, model.model_info
    rows: list[Row] = []
    if model.remote_host:
        rows += [("Remote model", model.remote_model), ("Remote URL", model.remote_host)]
    size = str(details.get("parameter_size") or "")
    if info is None:
        rows += [("architecture", str(details.get("family") or "")), ("parameters", size)]
    else:
        architecture = info.get("general.architecture") or ""
        found = {
            "architecture": architecture,
            "parameters": size or _counted(info.get("general.parameter_count")),
            "context length": _whole(info.get(f"{architecture}.context_length")),
            "embedding length": _whole(info.get(f"{architecture}.embedding_length")),
        }
        rows += [(name, str(value)) for name, value in found.items() if value]
    rows.append(("quantization", str(details.get("quantization_level") or "")))
    if model.requires:
        rows.append(("requires", model.requires))
    return rows


def _projector_rows(info: Mapping[str, Any]) -> Iterator[Row]:
    if not info:
        return
    architecture = info.get("general.architecture") or ""
    yield "architecture", str(architecture)
    if count := _counted(info.get("general.parameter_count")):
        yield "parameters", count
    kind = "vision" if f"{architecture}.vision.embedding_length" in info else "audio"
    if length := _whole(info.get(f"{architecture}.{kind}.embedding_length")):
        yield "embedding length", length
    if dimensions := _whole(info.get(f"{architecture}.{kind}.projection_dim")):
        yield "dimensions", dimensions


def _tensor_row(tensor: Mapping[str, Any]) -> Row:
    shape = " ".join(str(size) for size in tensor.get("shape") or ())
    return str(tensor.get("name", "")), str(tensor.get("type", "")), f"[{shape}]"


def _head(text: str) -> list[Row]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]  # a form feed ends no line
    return [[line] for line in (*lines[:TEXT_LINES], *["..."] * (len(lines) > TEXT_LINES))]


def _counted(value: Any) -> str:
    return human_count(int(value)) if isinstance(value, int | float) else ""


def _whole(value: Any) -> str:
    return str(int(value)) if isinstance(value, int | float) else ""


def _value(value: Any) -> str:
    """One metadata value, as Go prints it."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return go_float(float(value))
        case str():
            return value
        case list():
            return _list(value)
        case None:
            return "<nil>"
        case _:
            return json.dumps(value)


def _list(items: Sequence[Any]) -> str:
    texts = [_value(item) for item in items]
    shown = used = 0
    for text in texts:
        width = columns(text) + (2 if shown else 1)
        if shown and used + width > LIST_COLUMNS:
            break
        used += width
        shown += 1
    rest = f" ...+{len(texts) - shown} more" if shown < len(texts) else ""
    return f"[{' '.join(texts[:shown])}{rest}]"


def go_float(value: float) -> str:
    """Go's `%g`: the shortest digits that mean the same number, with an exponent from a million up: `8e+09`, `0.5`."""
    from decimal import Decimal

    if value == 0 or value != value or value in (float("inf"), float("-inf")):
        return f"{value:g}"
    sign, digits, _ = (number := Decimal(repr(value)).normalize()).as_tuple()
    exponent = number.adjusted()
    if -4 <= exponent < 6:
        return f"{number:f}"
    mantissa = "".join(map(str, digits))
    mantissa = f"{mantissa[0]}.{mantissa[1:]}" if len(digits) > 1 else mantissa
    return f"{'-' if sign else ''}{mantissa}e{exponent:+03d}"
