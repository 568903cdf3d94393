"""Where other quantizations of a model are looked for; the rest of a peek is shown in tests/server/test_fit.py."""

from __future__ import annotations

import pytest

from llamero.names import ModelName
from llamero.registry.peek import HUB_TAGS, LIBRARY_TAGS, MAX_SIBLINGS, sibling_tags

LISTED = ["latest", "1b", "1b-q4_K_M", "1b-q8_0", "3b-q8_0", "1b-fp16"]


@pytest.mark.parametrize(
    ("name", "listed", "tags"),
    [
        pytest.param("hf.co/u/m-GGUF:Q8_0", [], [tag for tag in HUB_TAGS if tag != "Q8_0"], id="hub"),
        pytest.param("hf.co/u/m-GGUF", [], list(HUB_TAGS), id="hub, its choice"),
        pytest.param("m:3b-instruct-q8_0", [], [f"3b-instruct-{tag}" for tag in LIBRARY_TAGS if tag != "q8_0"], id="q"),
        pytest.param("m:3b-FP16", [], [f"3b-{tag}" for tag in LIBRARY_TAGS if tag != "fp16"], id="letter case"),
        pytest.param("m:3b", [], [], id="a tag without a quantization"),
        pytest.param("m", [], [], id="no tag"),
        pytest.param("r.example/u/m:1b-q8_0", LISTED, ["1b-q4_K_M", "1b-fp16"], id="listed: of its variant"),
        pytest.param("r.example/u/m", LISTED, ["1b-q4_K_M", "1b-q8_0", "3b-q8_0", "1b-fp16"], id="listed: all"),
        pytest.param("m:q8_0", [f"q{n}_0" for n in range(99)], [f"q{n}_0" for n in range(8)] + [
            f"q{n}_0" for n in range(9, MAX_SIBLINGS + 1)], id="bounded"),
    ],
)  # fmt: skip
def test_tags_that_promise_another_quantization(name: str, listed: list[str], tags: list[str]) -> None:
    assert sibling_tags(ModelName.parse(name), listed) == tags
