"""A tiny projector that hears, for the text model of `tests/data/vision-tiny`; and sounds to play to it.

    write_ears(tmp_path / "mmproj.gguf")          random weights: what it hears means nothing, but it matters
    wav(tone(440))                                a second of a tone, as a WAV file
    MP3[440]                                      a third of a second of it, as an MP3 file

No published model that hears is small. This is Ultravox's kind: Whisper's encoder, here of one block, and a projector
that puts frames together.
"""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import gguf
import numpy as np

WIDTH = 32
"""Of the encoder."""
TEXT_WIDTH = 64
"""Of the embeddings of that text model."""
MEL_BANDS = 80
FRAMES = 1500
"""Positions of Whisper's encoder for its 30 seconds, of which every sound fills as many as it needs."""
STACKED = 20
"""Frames for one token: 75 tokens for 30 seconds. The engine counts wrongly where this does not divide the frames."""
LOUDNESS = np.float32(8)
"""Of a sound beside the words around it."""
SAMPLES_PER_S = 16_000


def write_ears(path: Path, text_width: int = TEXT_WIDTH) -> Path:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_audio_encoder", True)
    writer.add_string("clip.projector_type", "ultravox")
    writer.add_uint32("clip.audio.embedding_length", WIDTH)
    writer.add_uint32("clip.audio.feed_forward_length", WIDTH)
    writer.add_uint32("clip.audio.block_count", 1)
    writer.add_uint32("clip.audio.projection_dim", text_width)
    writer.add_uint32("clip.audio.attention.head_count", 1)
    writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-5)
    writer.add_uint32("clip.audio.num_mel_bins", MEL_BANDS)
    writer.add_uint32("clip.audio.projector.stack_factor", STACKED)
    for name, tensor in _tensors(text_width).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(text_width: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    stack = STACKED * WIDTH

    def some(*shape: int) -> np.ndarray:
        return random.normal(0, shape[-1] ** -0.5, shape).astype("f4")

    norms = {"a.blk.0.ln1": WIDTH, "a.blk.0.ln2": WIDTH, "a.post_ln": WIDTH}
    layers = {
        "a.blk.0.attn_q": some(WIDTH, WIDTH),
        "a.blk.0.attn_v": some(WIDTH, WIDTH),
        "a.blk.0.attn_out": some(WIDTH, WIDTH),
        "a.blk.0.ffn_up": some(WIDTH, WIDTH),
        "a.blk.0.ffn_down": some(WIDTH, WIDTH),
    }
    return {
        "a.conv1d.1.weight": some(WIDTH, MEL_BANDS, 3).astype("f2"),
        "a.conv1d.1.bias": np.zeros((WIDTH, 1), "f4"),
        "a.conv1d.2.weight": some(WIDTH, WIDTH, 3).astype("f2"),
        "a.conv1d.2.bias": np.zeros((WIDTH, 1), "f4"),
        "a.position_embd.weight": some(FRAMES, WIDTH),
        **{f"{name}.weight": np.ones(width, "f4") for name, width in norms.items()},
        **{f"{name}.bias": np.zeros(width, "f4") for name, width in norms.items()},
        **{f"{name}.weight": matrix for name, matrix in layers.items()},
        **{f"{name}.bias": np.zeros(len(matrix), "f4") for name, matrix in layers.items()},
        "a.blk.0.attn_k.weight": some(WIDTH, WIDTH),
        "mm.a.norm_pre.weight": np.ones(stack, "f4"),
        "mm.a.mlp.1.weight": some(2 * text_width, stack),
        "mm.a.norm_mid.weight": np.ones(text_width, "f4"),
        "mm.a.mlp.2.weight": LOUDNESS * some(text_width, text_width),
    }


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    """Samples between -1 and 1."""
    at_s = np.arange(int(seconds * SAMPLES_PER_S)) / SAMPLES_PER_S
    return np.sin(2 * np.pi * hertz * at_s) / 2


def wav(samples: np.ndarray) -> bytes:
    """A file of 16 bits and one channel."""
    data = (samples * 32_767).astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLES_PER_S, 2 * SAMPLES_PER_S, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


MP3 = {
    hertz: base64.b64decode(text)
    for hertz, text in {
        440: (
            "/+MYxAAM4JbEeUgAAA9tvwHd3d7/0REr+Xd3+UkXBWAOADADgvP4IOxOH+CG7p93T7unlwQdKAmH8mCDsBn+7pUmiLDLEz/j/+MYxAcO"
            "cPK0AZRQAJorUcoVt/hZ4UiB3DAGPBScA7pIRpIeBzoYn8JIDIFEVhFCK//IR6PTjiIS/4SBoSnQaf///////////+MYxAgO2KZYAd4A"
            "AP////hoRgAGAWAIX6BoBxgZg3GEiD0YTYuhiW3OGPwK8Ye4NBgkglAIDsLgDgICEuCyS+qIcAAJiV/v/+MYxAcNcJ6PGAv4Yvk1z8v+"
            "doL5DjREKMDB03/gTQQRDgE6tHdrYnvOUS5f+JP9f06fs0//0fbt/r+mCgDjklo//+gX06DL/+MYxAwQIQq1uVQYAk1GBPm4xgX8A4Ts"
            "DPhRAMg+mmn6ZcQ031gAAVc/cAEFwQ4kOcEOUOcMco7hjlHcMco7hjlKJElxwEsl/+MYxAYOGOa4AZRYAFJePYzA8CxrOJL8MUBb4Bq2"
            "wDCspGSaPjMNARzcmE9Gpn//3nDcHAuc/lxIFxUWb/1itUxBTUU0LjBV/+MYxAgAAANIAcAAAFVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV"
            "VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV"
        ),
        2000: (
            "/+MYxAALIAL6WUEQAtttt/rCWAfB8Hw/EAIAhLg+D5+UBAMZcP6gQOfL+c1ekMf0hjEH/y4Ph//+hYBAIBhhhKAAQhH/hCQv/+MYxA4Q"
            "Mrb6MYFoAvEYQ/9JJaKP/6kklooqS//9JaKKkkloo///6kklooqSMjEdoE0/+ER/8IgWqP/4vf/xef///////////+MYxAgO8m5kAcCw"
            "AP/9E4bFIiYhULAhbADAaBIDBSF4DDWCcDIEZYD3wREDKUNsDCcAcMAAYDwFB9ibFkmpkXn//////////+MYxAcOcmpoAUCwAf///l9M"
            "wFaE6J7AwCgJDLQAALgMShAAMlSpgO8QUAMUAlgMLQIgMBwCAuiFsxQZNFQwVQAAgIAAABf//+MYxAgOy4K4eYCgAf///333///7uzn2"
            "TPsn/8IwP/hGA+93pn2CF8DIH/8GQP/4MgOgaWazf/////+aHkjhGCoAYDgcDgcA/+MYxAcOyn7+WYE4AFAw4H/7V/4Ewf7OYx5n/88x"
            "DzEP//8xDzEPMQ8c////9EUDv+ij3/4PUX/48O//WCwlPAtVTEFNRTQu/+MYxAYAAANIAcAAADBVVVVVVVVVVVVVVVVVVVVVVVVVVVVV"
            "VVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV"
        ),
    }.items()
}
"""Made by an encoder at 8 kbit/s, once: there is none among what tests need."""
