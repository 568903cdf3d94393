"""The head of a GGUF file: its metadata and its tensor index, read from a buffer that may be hostile.

It reads no weights and opens no file. Arrays are stepped over, not decoded, so that a vocabulary of 150,000 entries
costs milliseconds; `read_array` decodes one later, from the same buffer. `read_header` checks whatever costs no more
than the reading, `check_model` the rest, once per file. Every refusal is an InvalidModelFile.

Source: store-registry §7 (format and error texts), security §4 (limits).
"""

from .arrays import read_array, show_metadata
from .check import check_model
from .header import UNKNOWN, Array, Gguf, Tensor, human_count
from .kinds import FILE_TYPES, TENSOR_TYPES
from .reading import CUT_SHORT, MAGIC, Span, is_gguf, read_header, read_records

__all__ = [
    "CUT_SHORT",
    "FILE_TYPES",
    "MAGIC",
    "TENSOR_TYPES",
    "UNKNOWN",
    "Array",
    "Gguf",
    "Span",
    "Tensor",
    "check_model",
    "human_count",
    "is_gguf",
    "read_array",
    "read_header",
    "read_records",
    "show_metadata",
]
