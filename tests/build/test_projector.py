"""Projectors that do not say what kind they are (store-registry §6.4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamero import gguf
from llamero.build.projector import lacks_type, with_type
from llamero.build.rewrite import Source
from tests.gguf_files import TensorSpec, gguf_file

CLIP = {"general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True}


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        ({}, True),
        ({"general.type": None}, True),
        ({"clip.projector_type": "ldp"}, False),
        ({"clip.vision.projector_type": "gemma3"}, False),
        ({"clip.has_vision_encoder": False}, False),
        ({"clip.has_vision_encoder": None, "clip.has_audio_encoder": True}, False),
        ({"general.architecture": "llama", "llama.has_vision_encoder": True}, False),
    ],
)
def test_s75_which_projectors_lack_their_type(changes: dict[str, object], lacks: bool) -> None:
    """Partly S-75."""
    metadata = {key: value for key, value in {**CLIP, **changes}.items() if value is not None}
    assert lacks_type(gguf.read_header(gguf_file(metadata))) is lacks


def test_s75_a_projector_gets_the_type_and_keeps_all_else(tmp_path: Path) -> None:
    """Partly S-75: byte for byte the file that says so itself."""
    tensors = [TensorSpec("v.a", (8,), data=bytes(range(32))), TensorSpec("mm.0", (32, 2), "F16")]
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(gguf_file(CLIP, tensors))
    with path.open("rb") as file:
        fixed = b"".join(with_type(Source(file)))
    assert fixed == gguf_file({**CLIP, "clip.projector_type": "mlp"}, tensors)
