"""What an engine says about its memory (scheduler §8.5)."""

from __future__ import annotations

import pytest

from llamero.engines import MemoryUse
from llamero.engines.memory import MemoryReport, says_out_of_memory

MIB = 2**20
FILE_MIB = 100


def use(*lines: str) -> tuple[int, int]:
    """Total and GPU MiB after these lines."""
    report = MemoryReport(FILE_MIB * MIB)
    for line in lines:
        report.feed(line)
    assert report.use.total_bytes % MIB == report.use.vram_bytes % MIB == 0
    return report.use.total_bytes // MIB, report.use.vram_bytes // MIB


def buffer(name: str, mib: float, kind: str = "model", function: str = "load_tensors") -> str:
    return f"{function}: {name:>12} {kind} buffer size = {mib:8.2f} MiB"


FIT = "llama_params_fit_impl:   - {}: {:2} layers ({:2} overflowing),  15000 MiB used,   1024 MiB free"
WHOLE = "llama_kv_cache_iswa: creating non-SWA KV cache, size = 2048 cells"
WINDOW = "llama_kv_cache_iswa: creating     SWA KV cache, size = 768 cells"
ALL_ON_GPU = "load_tensors: offloaded 33/33 layers to GPU"


@pytest.mark.parametrize(
    ("lines", "total_mib", "vram_mib"),
    [
        pytest.param([], FILE_MIB, FILE_MIB, id="nothing said: the whole file, on the GPU"),
        pytest.param(["load_tensors: nothing of the kind", "buffer size = 5.00 MiB"], FILE_MIB, FILE_MIB, id="chatter"),
        pytest.param(
            [
                buffer("CPU", 1),
                buffer("CPU", 2, "KV", "llama_kv_cache"),
                buffer("CPU", 4, "compute", "sched_reserve"),
                buffer("CPU", 8, "output", "llama_context"),
                buffer("CPU", 16, "RS", "llama_memory_recurrent"),
            ],
            31,
            0,
            id="R-68 every kind counts",
        ),
        pytest.param([buffer("CPU", 1, "scratch")], FILE_MIB, FILE_MIB, id="a kind that is not known does not"),
        pytest.param(
            ["0.00.147.873 I " + buffer("CPU", 3), "0.00.150.452 I " + buffer("CPU", 4, "KV")], 7, 0, id="log prefix"
        ),
        pytest.param(
            [buffer("CUDA0", 10), buffer("CPU", 40), buffer("CUDA0", 30), buffer("CPU", 20)],
            50,
            30,
            id="R-68 the probe's lines are replaced by the load's",
        ),
        pytest.param(
            [
                buffer("CUDA0", 1, "compute", "a"),
                buffer("CUDA0", 2, "compute", "b"),
                buffer("CUDA1", 4, "compute", "b"),
            ],
            7,
            7,
            id="R-68 function, buffer and kind are the key",
        ),
        pytest.param(
            [
                buffer("CPU", 1),
                buffer("BLAS", 2),
                buffer("CPU_REPACK", 4),
                buffer("CUDA_Host", 8),
                buffer("CPU_Mapped", 16),
                buffer("CUDA0", 32),
            ],
            63,
            32,
            id="R-68 the processor's and host buffers are not GPU memory",
        ),
        pytest.param(
            [buffer("CPU_Mapped", 90), buffer("CUDA0", 40), buffer("CUDA0", 5, "KV")],
            100 + 5,
            45,
            id="R-68 weights that are mapped and on the GPU count once",
        ),
        pytest.param(
            [buffer("CPU_Mapped", 60), buffer("CUDA0", 40)], 100, 40, id="R-68 nothing is trimmed that fits the file"
        ),
        pytest.param(
            [buffer("CPU_Mapped", 10), buffer("CUDA0", 150)], 150, 150, id="R-68 trimmed by what is mapped at most"
        ),
        pytest.param(
            [buffer("CPU_Mapped", 80), buffer("CPU_REPACK", 70)],
            150,
            0,
            id="R-68 repacked copies take memory of their own",
        ),
        pytest.param(
            [buffer("MTL0_Mapped", 90), buffer("CPU_Mapped", 40)],
            100,
            90,
            id="R-68 what Metal maps is GPU memory, and no overlap with itself",
        ),
        pytest.param(
            [buffer("CPU_Mapped", 20), buffer("CUDA0", 80), buffer("CUDA_Host", 6, "compute"), ALL_ON_GPU],
            80,
            80,
            id="R-68 all layers offloaded: size is size_vram",
        ),
        pytest.param(
            [buffer("CPU_Mapped", 20), buffer("CUDA0", 80), "load_tensors: offloaded 32/33 layers to GPU"],
            100,
            80,
            id="a part of the layers offloaded",
        ),
        pytest.param(
            [ALL_ON_GPU, buffer("CPU_Mapped", 20), buffer("CUDA0", 80), "load_tensors: offloaded 20/33 layers to GPU"],
            100,
            80,
            id="the latest offload line wins",
        ),
        pytest.param(
            [FIT.format("CUDA0", 33, 2), buffer("CPU_Mapped", 20), buffer("CUDA0", 80), ALL_ON_GPU],
            100,
            80,
            id="R-68 layers that overflow stay in main memory, though all are called offloaded",
        ),
        pytest.param(
            [
                FIT.format("CUDA0", 33, 2),
                FIT.format("CUDA0", 33, 0),
                buffer("CPU", 20),
                buffer("CUDA0", 80),
                ALL_ON_GPU,
            ],
            80,
            80,
            id="R-68 none overflow after the last fit",
        ),
        pytest.param([buffer("CPU", 20), ALL_ON_GPU], 20, 0, id="offloaded to nothing"),
        pytest.param(
            2 * [WHOLE, buffer("CPU", 8, "KV", "llama_kv_cache"), WINDOW, buffer("CPU", 2, "KV", "llama_kv_cache")],
            10,
            0,
            id="sliding windows have a cache of their own, and a probe prints both once more",
        ),
        pytest.param(
            ["llama_context:        CPU  output buffer size =     4.00 MiB"], 4, 0, id="as the engine aligns it"
        ),
    ],
)
def test_r68_memory_in_use(lines: list[str], total_mib: int, vram_mib: int) -> None:
    assert use(*lines) == (total_mib, vram_mib)


DRAFT = "common_speculative_init_result: loading draft model '/models/d.gguf'"
OWN_LAYERS = "common_speculative_init_result: creating MTP draft context against the target model '/models/m.gguf'"
REFUSED = "srv load_model: failed to initialize speculative decoding context: other vocabulary"


@pytest.mark.parametrize(
    ("lines", "total_mib"),
    [
        pytest.param([buffer("CPU", 30), DRAFT, buffer("CPU", 10)], 40, id="a draft model's come on top"),
        pytest.param([buffer("CPU", 30), OWN_LAYERS, buffer("CPU", 4, "KV")], 34, id="those of layers that look ahead"),
        pytest.param([buffer("CPU", 30), DRAFT, buffer("CPU", 10), REFUSED], 30, id="freed when it cannot be used"),
        pytest.param(
            [WHOLE, buffer("CPU", 8, "KV"), WINDOW, buffer("CPU", 4, "KV"), DRAFT, buffer("CPU", 2, "KV")],
            14,
            id="beside two caches",
        ),
    ],
)
def test_what_guesses_takes_memory_too(lines: list[str], total_mib: int) -> None:
    assert use(*lines) == (total_mib, 0)


@pytest.mark.parametrize("number", ["1.2.3", ".", "1" * 400, "-5", "nan", "1e999"])
def test_a_forged_line_breaks_nothing(number: str) -> None:
    """A model's name is printed as it is, line breaks included."""
    report = MemoryReport(FILE_MIB * MIB)
    report.feed(f"x: CPU model buffer size = {number} MiB")
    report.feed(f"offloaded {number}/{number} layers to GPU")
    assert report.use == MemoryUse(FILE_MIB * MIB, FILE_MIB * MIB)


@pytest.mark.parametrize(
    "line",
    [
        "CUDA error: out of memory",
        "ggml_vulkan: ErrorOutOfDeviceMemory: Out of device memory",
        "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed",
        "hipMalloc failed",
        "failed to allocate buffer for kv cache",
        "compute buffer allocation failed",
        "Not Enough Memory",
        "ggml_aligned_malloc: insufficient memory (attempted to allocate 439453.12 MB)",
        "VK_ERROR_OUT_OF_DEVICE_MEMORY",
        "vk::Device::allocateMemory: ErrorOutOfMemory",
    ],
)
def test_words_for_out_of_memory(line: str) -> None:
    assert says_out_of_memory(line)


@pytest.mark.parametrize("line", ["", "memory: 5 GiB free", "error loading model: tensor data is not within bounds"])
def test_other_words(line: str) -> None:
    assert not says_out_of_memory(line)
