"""Go's `printf`: verbs, flags, width and precision, and the marks it leaves where they do not fit the value.

Left out: `%b` of floats, `%#v`, and `*` combined with argument indexes. Source: modelfile-templates §2.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .meter import Meter
from .numerals import shortest
from .printing import default, whole_or_shortest
from .quoting import quote, quote_character, to_bytes
from .values import NOTHING, List, Map, Record, Value, type_name

MAX_WIDTH = 1_000_000
"""Go's own: a larger width or precision is refused."""

_DIRECTIVE = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<width>\*|[0-9]+)?(?:\.(?P<precision>\*|[0-9]*))?(?:\[(?P<index>[^\]]*)\])?(?P<verb>.)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Spec:
    verb: str
    flags: str = ""
    width: int = 0
    precision: int | None = None

    @property
    def left(self) -> bool:
        return "-" in self.flags

    @property
    def zeros(self) -> bool:
        return "0" in self.flags and not self.left

    def sign(self, *, negative: bool) -> str:
        return "-" if negative else "+" if "+" in self.flags else " " if " " in self.flags else ""

    def pad(self, text: str, *, zeros: bool = False) -> str:
        if self.left:
            return text.ljust(self.width)
        return text.rjust(self.width, "0" if zeros else " ")


def sprintf(format_: str, values: Sequence[Value], meter: Meter) -> str:
    return _Printer(values, meter).run(format_)


class _Printer:
    def __init__(self, values: Sequence[Value], meter: Meter) -> None:
        self._values = values
        self._meter = meter
        self._used = 0
        self._reordered = False

    def run(self, format_: str) -> str:
        parts: list[str] = []
        at = 0
        while (start := format_.find("%", at)) >= 0:
            parts.append(format_[at:start])
            found = _DIRECTIVE.match(format_, start)
            assert found is not None
            at = found.end()
            parts.append(self._directive(found, parts))
            self._meter.write_values(1)
            if parts[-1] == "%!(NOVERB)":
                at = len(format_)
        parts.append(format_[at:])
        if not self._reordered and self._used < len(self._values):
            extra = ", ".join(self._described(value) for value in self._values[self._used :])
            parts.append(f"%!(EXTRA {extra})")
        return "".join(parts)

    def _directive(self, found: re.Match[str], parts: list[str]) -> str:
        flags, verb = found["flags"], found["verb"]
        width = self._number(found["width"], "WIDTH", parts)
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        precision = self._number(found["precision"], "PREC", parts)
        if verb is None or (width or 0) > MAX_WIDTH or (precision or 0) > MAX_WIDTH:
            return "%!(NOVERB)"
        if verb == "%":
            return "%"
        if found["index"] is not None:
            index = found["index"]
            self._reordered = True
            if not index.isdecimal() or not 1 <= int(index[:10]) <= len(self._values):
                return f"%!{verb}(BADINDEX)"
            self._used = int(index) - 1
        if self._used >= len(self._values):
            return f"%!{verb}(MISSING)"
        value = self._values[self._used]
        self._used += 1
        if verb == "v":
            flags = flags.replace("+", "").replace("#", "")
        return self._format(value, _Spec(verb, flags, width or 0, precision))

    def _number(self, text: str | None, name: str, parts: list[str]) -> int | None:
        """A width or precision; `*` takes it from the values."""
        if text is None:
            return None
        if text != "*":
            return int(text[:10] or "0")
        value = self._values[self._used] if self._used < len(self._values) else None
        self._used = min(self._used + 1, len(self._values))
        if type(value) is not int or abs(value) > MAX_WIDTH or (name == "PREC" and value < 0):
            parts.append(f"%!(BAD{name})")
            return None
        return value

    def _described(self, value: Value) -> str:
        if value is None or value is NOTHING:
            return "<nil>"
        return f"{type_name(value)}={default(value, self._meter)}"

    # --- one value

    def _format(self, value: Value, spec: _Spec) -> str:
        if spec.verb == "T":
            return spec.pad(type_name(value), zeros=spec.zeros)
        if value is None or value is NOTHING:
            return spec.pad("<nil>", zeros=spec.zeros) if spec.verb == "v" else f"%!{spec.verb}(<nil>)"
        if isinstance(value, (Record, List, Map)) and value.shape.text and spec.verb in "vsqxX":
            return self._text(value.shape.text(value, self._meter), spec) or ""
        formatted = self._plain(value, spec)
        return self._misfit(value, spec) if formatted is None else formatted

    def _misfit(self, value: Value, spec: _Spec) -> str:
        shown = self._format(value, replace(spec, verb="v"))
        return f"%!{spec.verb}({type_name(value)}={shown})"

    def _plain(self, value: Value, spec: _Spec) -> str | None:
        """None: the verb does not fit the value."""
        if isinstance(value, str):
            return self._text(value, spec)
        if isinstance(value, bool):
            return spec.pad(default(value, self._meter), zeros=spec.zeros) if spec.verb in "tv" else None
        if isinstance(value, float):
            return _float(value, spec)
        if isinstance(value, int):
            return _integer(value, spec)
        if isinstance(value, bytes) and spec.verb in "sqxX":
            return self._text(value.decode("utf-8", "surrogateescape"), spec)
        return self._container(value, spec)

    def _container(self, value: Value, spec: _Spec) -> str:
        """Lists, maps and records: the directive is applied to everything in them."""
        self._meter.write_values(len(value.fields) if isinstance(value, Record) else len(value))
        if isinstance(value, Record):
            return f"{{{' '.join(self._element(item, spec) for item in value.fields.values())}}}"
        if isinstance(value, dict):
            pairs = (f"{self._element(name, spec)}:{self._element(value[name], spec)}" for name in sorted(value))
            return f"map[{' '.join(pairs)}]"
        return f"[{' '.join(self._element(item, spec) for item in value)}]"

    def _element(self, value: Value, spec: _Spec) -> str:
        return "<nil>" if value is None else self._format(value, spec)

    def _text(self, text: str, spec: _Spec) -> str | None:
        self._meter.spend(0, len(text))
        if spec.verb in "xX":
            return spec.pad(_hex(to_bytes(text)[: spec.precision], spec), zeros=spec.zeros)
        text = text[: spec.precision]
        if spec.verb == "q":
            self._meter.read_closely(text)
            raw = "#" in spec.flags and "`" not in text and (text.replace("\t", "").isprintable())
            text = f"`{text}`" if raw else quote(text, ascii_only="+" in spec.flags)
        elif spec.verb not in "sv":
            return None
        return spec.pad(text, zeros=spec.zeros)


def _hex(data: bytes, spec: _Spec) -> str:
    prefix = "0x" if "#" in spec.flags and data else ""
    text = prefix + (data.hex(" ").replace(" ", f" {prefix}") if " " in spec.flags else data.hex())
    return text.upper() if spec.verb == "X" else text


def _integer(value: int, spec: _Spec) -> str | None:
    match spec.verb:
        case "c":
            return spec.pad(chr(value) if 0 <= value < 0x110000 else "\ufffd", zeros=spec.zeros)
        case "q":
            return spec.pad(quote_character(value, ascii_only="+" in spec.flags), zeros=spec.zeros)
        case "U":
            shown = (
                f" '{chr(value)}'" if "#" in spec.flags and 0 <= value < 0x110000 and chr(value).isprintable() else ""
            )
            return spec.pad(f"U+{value & (1 << 64) - 1:04X}{shown}")
    form, prefix = _BASES.get(spec.verb, ("", ""))
    if not form:
        return None
    digits = format(abs(value), form)
    sign = spec.sign(negative=value < 0)
    if spec.precision is not None:
        digits = digits.zfill(spec.precision) if spec.precision or value else ""
        if not digits:
            return " " * spec.width
    elif spec.zeros:
        digits = digits.zfill(spec.width - len(sign))
    if form == "o" and "#" in spec.flags and not digits.startswith("0"):
        digits = f"0{digits}"
    if "#" not in spec.flags and spec.verb != "O":
        prefix = ""
    return spec.pad(sign + prefix + digits)


_BASES = {
    "v": ("d", ""),
    "d": ("d", ""),
    "b": ("b", "0b"),
    "o": ("o", ""),
    "O": ("o", "0o"),
    "x": ("x", "0x"),
    "X": ("X", "0X"),
}


def _float(value: float, spec: _Spec) -> str | None:
    number = _float_digits(value, spec)
    if number is None:
        return None
    sign = spec.sign(negative=number.startswith("-"))
    number = number.removeprefix("-")
    if spec.zeros:
        return sign + number.zfill(spec.width - len(sign))
    return spec.pad(sign + number)


def _float_digits(value: float, spec: _Spec) -> str | None:
    match spec.verb:
        case "v" if spec.precision is None:
            return whole_or_shortest(value)
        case "g" | "G" if spec.precision is None:
            return shortest(value).upper() if spec.verb == "G" else shortest(value)
        case "v":
            return format(float(value), f".{spec.precision}g")
        case "e" | "E" | "f" | "F" | "g" | "G":
            return format(float(value), f".{6 if spec.precision is None else spec.precision}{spec.verb}")
        case "x" | "X" if spec.precision is None:
            mantissa, _, exponent = value.hex().partition("p")
            if "." in mantissa:
                mantissa = mantissa.rstrip("0").rstrip(".")
            text = f"{mantissa}p{int(exponent):+03d}"
            return text.upper() if spec.verb == "X" else text
        case _:
            return None
