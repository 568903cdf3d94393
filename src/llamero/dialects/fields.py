"""The fields of a JSON object in a request body, each asked for by name and type. Pure.

For the dialects of `/v1`: a wrong type is refused with the full path of the field, null means absent. The native
dialect, which refuses in Go's words, has `gofields`. Source: compat-api §1.3.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from ..errors import BadRequest, InvalidField
from ..messages import Adapter
from . import native
from .gojson import decode_value

T = TypeVar("T")

_INTEGER_LIMIT = 1 << 63
"""The engine's integers have 64 bits."""

LABELS = frozenset(
    "user metadata safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options cache_control "
    "service_tier".split()
)
"""Fields that only label a request: that they have no effect is no news to anybody."""

EXTENSIONS = frozenset({"options", "keep_alive", "think", "adapters"})
"""What every inference route of every dialect takes besides its own fields."""


class Fields:
    """An object of a request and where it stands: `path` is empty for the whole body, else such as `messages[2]`.

    The getters return None for what is absent or null, and raise InvalidField for another type.
    """

    def __init__(self, value: Any, path: str = "") -> None:
        if type(value) is not dict:
            raise InvalidField(_expected("an object", path, value), path)
        self._values: dict[str, Any] = value
        self.path = path

    @property
    def value(self) -> dict[str, Any]:
        """The object as the client wrote it."""
        return self._values

    def raw(self, name: str) -> Any:
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        return self._typed(name, str, "a string")

    def boolean(self, name: str) -> bool | None:
        return self._typed(name, bool, "true or false")

    def integer(self, name: str) -> int | None:
        value = self._typed(name, int, "an integer")
        if value is not None and not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
            raise self.invalid(name, f"'{self.at(name)}' must be an integer of 64 bits")
        return value

    def number(self, name: str) -> float | None:
        value = self.raw(name)
        if type(value) is int:
            return float(value)
        return self._typed(name, float, "a number")

    def items(self, name: str) -> list[Any] | None:
        return self._typed(name, list, "an array")

    def object(self, name: str) -> Fields | None:
        value = self._typed(name, dict, "an object")
        return None if value is None else Fields(value, self.at(name))

    def objects(self, name: str) -> list[Fields]:
        """The items of an array of objects; none when it is absent."""
        return [Fields(item, f"{self.at(name)}[{index}]") for index, item in enumerate(self.items(name) or ())]

    def unknown(self, known: Collection[str]) -> list[str]:
        """The names that are given and not among `known`, in their order."""
        return [name for name, value in self._values.items() if value is not None and name not in known]

    def at(self, name: str) -> str:
        """The full path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def invalid(self, name: str, message: str, code: str = "") -> InvalidField:
        return InvalidField(message, self.at(name), code)

    def _typed(self, name: str, type_: type[T], words: str) -> T | None:
        value = self.raw(name)
        if value is None or type(value) is type_:
            return value
        raise InvalidField(_expected(words, self.at(name), value), self.at(name))


_KINDS = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "an array", dict: "an object"}


def _expected(words: str, path: str, value: Any) -> str:
    where = f"'{path}'" if path else "the request body"
    return f"{where} must be {words}, not {_KINDS.get(type(value), 'null')}"


def read_body(body: bytes) -> Fields:
    """The object that a request body holds. Raises BadRequest for anything else; `gojson` has the bounds."""
    return Fields(decode_value(body))


def read_extensions(body: Fields) -> dict[str, Any]:
    """`options`, `keep_alive`, `think` and `adapters` as arguments of a GenerationRequest; the first two of any.

    OpenAI's `service_tier` tells who can wait.
    """
    options = body.object("options")
    read: dict[str, Any] = {"options": {} if options is None else dict(body.raw("options"))}
    if body.raw("service_tier") in ("flex", "batch"):
        read["is_batch"] = True
    for name, target, reader in (
        ("keep_alive", "keep_alive_ns", native.read_keep_alive),
        ("think", "think", native.read_think),
    ):
        value = body.raw(name)
        if value is None:
            continue
        try:
            read[target] = reader(value)
        except BadRequest as error:
            raise body.invalid(name, str(error)) from error
    if body.items("adapters") is not None:
        read["adapters"] = tuple(_adapter(item) for item in body.objects("adapters"))
    return read


def _adapter(item: Fields) -> Adapter:
    scale = item.number("scale")
    return Adapter(item.text("model") or "", 1.0 if scale is None else scale)


def warnings_of(body: Fields, known: Collection[str], idle: Collection[str] = ()) -> tuple[str, ...]:
    """What a reply warns of: fields that mean nothing to us, and those of `idle`, which we know and do not honour.

    Labels and extensions are known everywhere.
    """
    unknown = body.unknown({*known, *idle, *LABELS, *EXTENSIONS})
    unused = [name for name in idle if body.raw(name) is not None]
    return (*native.unknown_fields(unknown), *(f"field {name!r} has no effect" for name in unused))
